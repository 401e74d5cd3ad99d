"""Pre-training by a team: the same losses, gradients and weights as one process."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from minicoder.__main__ import PATIENCE, main
from minicoder.parallel.layout import Layout
from minicoder.stages import read_json, read_jsonl
from minicoder.training import loop
from minicoder.training.options import Machine, Routers
from minicoder.training.pretrain import pretrain

PLAIN = dict(steps=4, batch=8, warmup=1, recall=1, middles=1, lr=1e-3)
BALANCED = PLAIN | dict(
    recall=0, middles=0, machine=Machine(accumulate=2),
    routers=Routers(device_balance=0.05, communication_balance=0.02, devices=4,
                    device_limit=3))
DROPPING = BALANCED | dict(
    routers=Routers(devices=4, device_limit=3, capacity=1.0, spared=0.1))
LONG = PLAIN | dict(steps=30)
KINDS = {"plain": PLAIN, "balanced": BALANCED, "dropping": DROPPING, "long": LONG}


def run(out, rows, kind, layout, every=None, stop=None):
    """Train in this process or with those of its gang, and maybe stop on the way."""
    real, between = loop.one_step, loop.SECONDS_BETWEEN_CHECKPOINTS

    def one_step(*args):
        if args[4] == stop:
            raise EOFError
        return real(*args)

    loop.one_step = one_step
    loop.SECONDS_BETWEEN_CHECKPOINTS = -1.0 if every else between
    try:
        pretrain(out, rows / "pack", rows / "tokenizer", layout=layout, **KINDS[kind])
    except EOFError:
        pass
    finally:
        loop.one_step, loop.SECONDS_BETWEEN_CHECKPOINTS = real, between
    return True


@pytest.fixture(scope="session")
def alone(rows, tmp_path_factory):
    """What one process makes, by kind."""
    out = tmp_path_factory.mktemp("alone")
    for kind in KINDS:
        run(out / kind / "out", rows, kind, Layout())
    return {kind: out / kind / "out" for kind in KINDS}


def close(found, expected, name, **tolerances):
    torch.testing.assert_close(found, expected, msg=lambda m: f"{name}: {m}",
                               **tolerances)


def same(out, expected):
    """Metrics, ledger and final weights agree; float32, and other orders of adding."""
    ours, theirs = (read_jsonl(path / "metrics.jsonl") for path in (out, expected))
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for key in b:
            close(torch.tensor(a[key]), torch.tensor(b[key]), key, atol=2e-4, rtol=1e-4)
    assert read_json(out / "ledger.json") == read_json(expected / "ledger.json")
    ours, theirs = (load_file(path / "model.safetensors") for path in (out, expected))
    assert ours.keys() == theirs.keys()
    for name in theirs:
        # AdamW makes much of the rounding of gradients that are almost zero
        change = (ours[name] - theirs[name]).abs()
        assert change.max() < 1e-3 and change.norm() < 1e-4 * theirs[name].norm(), name


V = "ZBVZeroBubble"


@pytest.mark.parametrize("kind, size, layout", [
    ("plain", 2, Layout()),
    ("plain", 2, Layout(tensor=2, expert=2)),
    ("plain", 2, Layout(pipeline=2, pipeline_schedule="GPipe")),
    ("plain", 4, Layout(tensor=2, expert=4)),
    ("balanced", 4, Layout(replicate=2, expert=2)),
    ("balanced", 4, Layout(pipeline=2, expert=2)),
    ("balanced", 2, Layout(pipeline=2, pipeline_schedule=V)),
    ("dropping", 2, Layout(expert=2))])    # with 4, rounding decides between near-ties
def test_a_team_trains_as_one_process_does(gang, rows, alone, tmp_path, kind, size,
                                           layout):
    gang(size).run(run, tmp_path / "out", rows, kind, layout)
    same(tmp_path / "out", alone[kind])
    assert read_json(tmp_path / "out" / "made_by.json")["device"] == f"cpu x {size}"


def test_a_run_goes_on_with_another_layout(gang, rows, alone, tmp_path):
    out = tmp_path / "out"
    gang(4).run(run, out, rows, "plain", Layout(expert=4), True, 2)
    assert [p.name for p in (tmp_path / "out.partial" / "state").iterdir()]
    gang(2).run(run, out, rows, "plain", Layout(tensor=2), True, 3)
    assert not out.exists()
    gang(2).run(run, out, rows, "plain",
                Layout(pipeline=2, pipeline_schedule="GPipe"))
    same(out, alone["plain"])


def torchrun(out, rows, *flags):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
         "--master-port", str(port), "-m", "minicoder", "pretrain", "--out", str(out),
         "--shards", str(rows / "pack"), "--tokenizer", str(rows / "tokenizer"),
         *(word for name, value in LONG.items() for word in (f"--{name}", str(value))),
         *flags],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_torchrun_starts_it_and_a_mistake_is_said_once(rows, tmp_path):
    starts = torchrun(tmp_path / "out", rows, "--steps", "2", "--expert", "2")
    wrong = torchrun(tmp_path / "none", rows, "--steps", "2", "--tensor", "3")
    said, refused = (one.communicate(timeout=240)[0] for one in (starts, wrong))
    assert starts.returncode == 0, said
    assert read_json(tmp_path / "out" / "made_by.json")["device"] == "cpu x 2"
    assert wrong.returncode == 1
    assert refused.count("= 3 processes, and there are 2") == 1


@pytest.mark.slow
def test_a_killed_process_loses_nothing(gang, rows, alone, tmp_path):
    """SIGKILL to one of two after a checkpoint; others go on with another layout."""
    out, work = tmp_path / "out", tmp_path / "out.partial"
    gang(2).run(run, out, rows, "long", Layout(expert=2), True, 9)
    saved = sorted(path.name for path in work.glob("state/step-*"))
    team = torchrun(out, rows, "--expert", "2")
    while len((work / "metrics.jsonl").read_text().splitlines()) < 2:   # step 10
        assert team.poll() is None, team.communicate()[0]
        time.sleep(0.02)
    found = subprocess.run(["pgrep", "-f", f"minicoder pretrain --out {out} "],
                           capture_output=True, text=True).stdout.split()
    os.kill(int(found[-1]), signal.SIGKILL)     # torchrun is the first
    said = team.communicate(timeout=240)[0]
    assert team.returncode and not out.exists() and "[rank" not in said, said
    assert saved and saved == sorted(p.name for p in work.glob("state/step-*"))
    gang(4).run(run, out, rows, "long", Layout(tensor=2, expert=4))
    same(out, alone["long"])


def test_other_commands_say_that_they_run_in_one_process(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["sft", "--out", "x"]) == 2
    assert "sft runs in one process, and torchrun started 2" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["nothing"], ["sft", "--out", "x"]])
def test_the_first_process_speaks_and_the_others_give_it_time(monkeypatch, capsys,
                                                              words):
    waited, said = [], []
    monkeypatch.setattr(time, "sleep", waited.append)
    for rank in "0", "1":
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", rank)
        try:
            assert main(words) == 2
        except SystemExit as error:
            assert error.code == 2
        said.append(capsys.readouterr())
    assert waited == [PATIENCE]
    assert words[0] in said[0].out + said[0].err
    assert said[1].out == "" and said[1].err in (
        "", said[0].err.replace("minicoder:", "minicoder: process 1:"))
