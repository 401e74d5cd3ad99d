"""The whole demo, very small: killed in every stage, it ends with the same weights."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minicoder.__main__ import main
from minicoder.demo import demo
from minicoder.errors import UserError
from minicoder.show.report import FILES
from minicoder.stages import read_json, read_jsonl, sha256

STAGES = ("corpus", "tokenizer", "pack", "pack_long", "pretrain", "extend", "language",
          "sft", "feedback", "reward", "grpo", "evaluate")
# python -m minicoder, as often as wanted after one import of it: every line that comes
# in starts a process of its own, which runs a command and writes into a file
COMMANDS = """
import json, os, signal, sys, warnings
warnings.simplefilter("ignore")
signal.signal(signal.SIGINT, signal.default_int_handler)
from minicoder.__main__ import main
print("ready", flush=True)
for line in sys.stdin:
    words, log = json.loads(line)
    if not (child := os.fork()):
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        os.dup2(1, 2)
        sys.exit(main(words))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


class Shell:
    """Starts commands of minicoder, one at a time."""

    def __init__(self, log: Path) -> None:
        self.log = log
        log.touch()
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMANDS], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env=os.environ | {"TQDM_DISABLE": "1"})
        assert self.process.stdout.readline() == "ready\n"

    def start(self, *words: object) -> int:
        line = json.dumps([[str(word) for word in words], str(self.log)])
        print(line, file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def status(self) -> int:
        """Wait for the command to end."""
        return int(self.process.stdout.readline())

    def said(self) -> str:
        """What was written since the last call."""
        text = self.log.read_text(encoding="utf-8")
        self.log.write_text("")
        return text

    def stop(self, words: list[object], path: Path, number: int, delay: float) -> int:
        """Start, wait for `path` to be made anew, send a signal, return the status."""
        def inode() -> int:
            return path.stat().st_ino if path.exists() else 0

        before, child, waited = inode(), self.start(*words), 0
        while inode() in (0, before):
            assert waited < 100_000 and running(child), self.said()
            time.sleep(0.002)
            waited += 1
        time.sleep(delay)
        os.kill(child, number)
        return self.status()


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    shell = Shell(tmp_path_factory.mktemp("shell") / "log")
    yield shell
    shell.process.stdin.close()
    assert shell.process.wait(60) == 0


def tiny(out: Path) -> list[object]:
    return ["demo", "--out", out, "--effort", 0.001]


@pytest.fixture(scope="module")
def whole(shell, tmp_path_factory):
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "demo"
    shell.start(*tiny(out))
    assert shell.status() == 0, shell.said()
    assert "interrupted" not in shell.said()
    return out


def finished(out):
    return [stage for stage in STAGES if (out / stage).exists()]


def test_every_stage_leaves_its_files(whole):
    assert {path.name for path in whole.iterdir()} == {
        *STAGES, "benchmarks.jsonl", "report.html"}
    for stage, names in FILES.items():
        made = read_json(whole / stage / "made_by.json")
        assert set(names) <= set(made["outputs"]), stage
        for name, about in made["outputs"].items():
            path = whole / stage / name
            assert (path.stat().st_size, sha256(path)) == (
                about["bytes"], about["sha256"]), path
        assert made["headline"] and made["seconds"] > 0 and made["peak_mib"] > 50
        assert made["seed"] == 0 and made["device"]
    page = (whole / "report.html").read_text(encoding="utf-8")
    assert "has not run yet" not in page and "is under way" not in page
    assert "GRPO" in page


def test_the_inputs_of_a_stage_are_the_stages_before_it(whole):
    for stage in STAGES:
        for name, value in read_json(whole / stage / "made_by.json")["inputs"].items():
            assert STAGES.index(name) < STAGES.index(stage)
            assert sha256(whole / name / "made_by.json") == value


def test_steps_are_noted_once(whole):
    for stage, last in (("pretrain", 1), ("extend", 1), ("sft", 1), ("grpo", 1)):
        steps = [m["step"] for m in read_jsonl(whole / stage / "metrics.jsonl")]
        assert steps == sorted(set(steps)) and steps[-1] == last, stage


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_of_a_stage_asks_for_the_same(whole, stage, capsys):
    """Other settings would be refused, and none at all made anew."""
    before = (whole / stage / "made_by.json").read_bytes()
    words = shlex.split(read_json(whole / stage / "made_by.json")["command"])
    assert words[:3] == ["python", "-m", "minicoder"]
    handler = signal.getsignal(signal.SIGTERM)
    assert main(words[3:]) == 0
    signal.signal(signal.SIGTERM, handler)
    assert capsys.readouterr().out == ""
    assert (whole / stage / "made_by.json").read_bytes() == before


def test_a_second_call_does_nothing_but_the_report(whole, shell):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")
              if path.is_file() and path.name != "report.html"}
    shell.start(*tiny(whole))
    assert shell.status() == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    lines = shell.said().splitlines()
    assert len(lines) == 1 and lines[0].startswith("report ")


@pytest.mark.slow
def test_killed_in_every_stage_it_ends_with_the_same_weights(whole, shell, tmp_path):
    """kill -9 at once when a stage has begun, or, where it lasts, some moments later;
    Ctrl-C and SIGTERM in one stage each, where they end with 130 and a sentence."""
    out, draw = tmp_path / "demo", random.Random(0)
    gentle = {"corpus": signal.SIGINT, "pretrain": signal.SIGTERM}
    for number, stage in enumerate(STAGES):
        partial = out / f"{stage}.partial"
        for kind in filter(None, (gentle.get(stage), signal.SIGKILL)):
            long = stage in ("corpus", "tokenizer", "pretrain", "language", "evaluate")
            status = shell.stop(tiny(out), partial / "started.json", kind,
                                draw.random() / 5 if long else 0)
            assert finished(out) == list(STAGES[:number]) and partial.exists()
            said = shell.said()
            if kind == signal.SIGKILL:
                assert status == -signal.SIGKILL
            else:
                assert status == 130 and "Traceback" not in said
                assert said.rstrip().endswith(
                    "minicoder: interrupted; the same command goes on from here.")
    shell.start(*tiny(out))
    assert shell.status() == 0, shell.said()
    assert {path.name for path in out.iterdir()} == {
        *STAGES, "benchmarks.jsonl", "report.html"}
    for stage in ("pretrain", "extend", "sft", "reward", "grpo"):
        one, other = (folder / stage / "model.safetensors" for folder in (whole, out))
        assert one.read_bytes() == other.read_bytes(), stage
        assert read_jsonl(whole / stage / "metrics.jsonl") == read_jsonl(
            out / stage / "metrics.jsonl")
    for stage, name in (("corpus", "funnel.json"), ("pack", "pack.json"),
                        ("language", "scores.json"), ("evaluate", "scores.json")):
        assert read_json(whole / stage / name) == read_json(out / stage / name)


def test_other_settings_are_refused(whole, shell):
    shell.start("demo", "--out", whole, "--effort", 0.001, "--seed", 1)
    assert shell.status() == 2
    last = shell.said().rstrip().split("\n")[-1]
    assert last.startswith(f"minicoder: {whole / 'corpus'} was made with seed = 0, and "
                           "now 1 is asked. Choose another --out")


@pytest.mark.parametrize("effort", [0.0, -1.0, 0.0009, 1001.0, float("nan")])
def test_an_effort_out_of_range(tmp_path, effort):
    with pytest.raises(UserError, match="--effort .* must lie between 0.001 and 1000"):
        demo(tmp_path / "demo", effort=effort)
    assert not (tmp_path / "demo").exists()


def test_where_programs_cannot_be_locked_in_nothing_is_trained(tmp_path, monkeypatch):
    monkeypatch.delenv("MINICODER_SANDBOX", raising=False)
    monkeypatch.setattr("minicoder.execution.tiers.strongest", lambda: "weak")
    with pytest.raises(UserError, match="Only weak isolation"):
        demo(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
