"""Pre-training as a stage: it learns, resumes to the bit, refuses what does not fit."""

from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

from minicoder.__main__ import main
from minicoder.data.packing import Shards
from minicoder.errors import UserError
from minicoder.model.transformer import MiniCoder
from minicoder.stages import read_json, read_jsonl, stage
from minicoder.tokenizer import Tokenizer
from minicoder.training import loop
from minicoder.training.loop import Plan
from minicoder.training.pretrain import (
    Machine,
    Records,
    Routers,
    Updates,
    holes,
    needles,
    pretrain,
)

SMALL = dict(steps=5, batch=2, warmup=1, recall=2, middles=2)


def run(out, rows, **changes):
    return pretrain(out, rows / "pack", rows / "tokenizer", **(SMALL | changes))


@pytest.fixture(scope="session")
def whole(rows, tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole") / "pretrain", rows)


def test_the_folder_holds_a_coder_and_its_log(whole):
    tokenizer, coder = MiniCoder.with_tokenizer(whole)
    assert tokenizer.vocab_size == coder.known == 270
    assert coder.config.vocab_size == 320   # the next multiple of 64
    assert coder.config.max_position_embeddings == 64
    assert coder.config.n_routed_experts == 16      # the toy preset's
    made = read_json(whole / "made_by.json")
    assert "after 0.0 M tokens" in made["headline"] and made["stage"] == "pretrain"


def test_it_learns_with_needles_early_and_now_and_then(rows, tmp_path):
    run(tmp_path / "out", rows, steps=31, lr=3e-3, warmup=4, recall=4, middles=19)
    log = read_jsonl(tmp_path / "out" / "metrics.jsonl")
    assert [m["step"] for m in log] == [0, 10, 20, 30]
    assert log[0]["language_loss"] == pytest.approx(5.77, abs=0.3)  # ln 320
    assert log[-1]["language_loss"] < log[0]["language_loss"] - 1
    assert ["recall_loss" in m for m in log] == [False, True, True, False]
    assert ["middles_loss" in m for m in log] == [False, False, True, True]


@pytest.mark.parametrize("steps, warmup, recall, middles", [
    (1600, 50, 200, 650), (1600, 50, 200, 500), (1600, 50, 200, 1300), (160, 5, 20, 65),
    (1600, 50, 0, 7)])
def test_lines_to_fill_in_are_as_many_as_asked_for(rows, steps, warmup, recall,
                                                   middles):
    words, shards = Tokenizer.load(rows / "tokenizer"), Shards(rows / "pack")
    plan, start = Plan(steps, 1e-3, warmup), 2 * warmup + recall
    ((_, chosen),) = holes(words, shards, plan, recall, middles, seed=0)
    assert len(chosen) == middles and start <= min(chosen) and max(chosen) < steps
    gaps = [b - a for a, b in pairwise(sorted(chosen))]
    assert max(gaps) - min(gaps) <= 1
    if recall:
        ((_, early),) = needles(words, shards, 2, plan, recall, seed=0)
        assert set(range(2 * warmup, start)) <= early and max(early) < steps
    assert needles(words, shards, 2, plan, 0, seed=0) == []


def stopped(out, rows, monkeypatch, stop, **changes):
    """The stage is interrupted in step `stop`, with a checkpoint of every step."""
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    real = loop.one_step

    def stopping(*args):
        if args[4] == stop:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "one_step", stopping)
        run(out, rows, **changes)


@pytest.mark.parametrize("stop", [2, 4])
def test_interrupted_and_resumed_is_the_same_to_the_bit(
        rows, whole, tmp_path, monkeypatch, stop):
    stopped(tmp_path / "out", rows, monkeypatch, stop)
    assert (tmp_path / "out.partial" / "state" / f"step-{stop:07d}").exists()
    assert not (tmp_path / "out").exists()
    run(tmp_path / "out", rows)
    one, other = (folder / "model.safetensors" for folder in (whole, tmp_path / "out"))
    assert one.read_bytes() == other.read_bytes()
    assert read_jsonl(whole / "metrics.jsonl") == read_jsonl(
        tmp_path / "out" / "metrics.jsonl")
    assert read_json(tmp_path / "out" / "made_by.json")["resumed"] is True


ALL = dict(
    steps=4, batch=2, documents=True, routers=Routers(0.05, 0.02, 4, 3, 0.8, 0.5),
    machine=Machine(accumulate=2, precision="bfloat16", recompute=True),
    updates=Updates("steps", 0.1, 0.05, 0.5, 10.0), records=Records(keep=3))


def test_with_every_option_it_is_the_same_to_the_bit(rows, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole" / "out", tmp_path / "out"
    run(whole, rows, **ALL)
    log = read_jsonl(whole / "metrics.jsonl")
    assert {"ntp_loss", "device_balance_loss", "communication_balance_loss",
            "router_dropped", "router_entropy", "max_over_mean"} <= log[-1].keys()
    assert max(log[-1]["router_dropped"]) > 0
    stopped(out, rows, monkeypatch, 3, **ALL)
    torch.manual_seed(99)       # dropping draws: what is drawn must go on
    assert len(list((tmp_path / "out.partial" / "state").iterdir())) == 3
    run(out, rows, **ALL)
    for name in ("model.safetensors", "metrics.jsonl", "ledger.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    command = read_json(out / "made_by.json")["command"]
    assert all(flag in command for flag in (
        "--documents", "--capacity 0.8", "--device-limit 3", "--precision bfloat16",
        "--accumulate 2", "--recompute", "--no-compile", "--schedule steps",
        "--spike 10.0", "--keep 3", "--no-tensorboard", "--communication-balance 0.02"))


@pytest.fixture(scope="session")
def further(rows, whole, tmp_path_factory):
    """Phase B, from the weights of `whole`."""
    return run(tmp_path_factory.mktemp("further") / "b", rows, start=whole, seed=5)


def test_phase_b_begins_with_the_weights_of_phase_a(rows, whole, further, tmp_path):
    a, b = (read_jsonl(folder / "metrics.jsonl") for folder in (whole, further))
    shards, coder = Shards(rows / "pack"), MiniCoder.from_pretrained(whole)
    first = shards.batch(0, 2, 5)
    loss = loop.token_losses(coder, first[:, :-1], first[:, 1:]).mean().item()
    assert b[0]["language_loss"] == pytest.approx(loss, rel=1e-6)
    assert b[0]["language_loss"] < a[0]["language_loss"]
    made = read_json(further / "made_by.json")
    assert "model" not in made["settings"] or made["settings"]["model"] is None
    assert set(made["inputs"]) == {"pack", "tokenizer", whole.name}
    assert f"--start {whole}" in made["command"] and "--model" not in made["command"]
    assert "on top of 0.0 M" in made["headline"]


def test_the_ledger_goes_from_phase_to_phase(rows, whole, further, tmp_path):
    a, b = (read_json(folder / "ledger.json") for folder in (whole, further))
    shards = Shards(rows / "pack")
    for ledger, seed in ((a, 0), (b, 5)):
        wanted = dict.fromkeys(shards.sources, 0)
        for step in range(5):
            for source, count in shards.counts(step, 2, seed).items():
                wanted[source] += count
        assert ledger["phases"][-1]["tokens"] == {k: v for k, v in wanted.items() if v}
        assert sum(wanted.values()) == 5 * 2 * 65   # rows have a token more than T
    assert b["phases"][0] == a["phases"][0] and b["total"] == 2 * a["total"]
    assert [phase["phase"] for phase in b["phases"]] == ["pretrain", "b"]
    log = read_jsonl(further / "metrics.jsonl")
    assert [m["tokens_seen"] for m in log] == [650 + 130, 1300]


def test_phase_b_interrupted_keeps_the_ledger(
        rows, whole, further, tmp_path, monkeypatch):
    stopped(tmp_path / "b", rows, monkeypatch, 3, start=whole, seed=5)
    state = tmp_path / "b.partial" / "state" / "step-0000003" / "kept-00000.json"
    assert read_json(state)["ledger"]["total"] == 650 + 3 * 130
    run(tmp_path / "b", rows, start=whole, seed=5)
    for name in ("model.safetensors", "metrics.jsonl", "ledger.json"):
        assert (tmp_path / "b" / name).read_bytes() == (further / name).read_bytes()


def test_a_start_that_does_not_fit_is_refused(rows, whole, tmp_path):
    def refused(said, **changes):
        with pytest.raises(UserError, match=said):
            run(tmp_path / "out", rows, start=whole, **changes)

    refused("--model toy: with --start", model="toy")
    with pytest.raises(UserError, match="rows have 128 tokens, and the window .* 64"):
        pretrain(tmp_path / "out", rows / "pack_long", rows / "tokenizer", start=whole,
                 **SMALL)
    with stage(tmp_path / "words", "tokenizer", {}) as made:
        Tokenizer.train(["def other(words): return"], 270).save(made.work)
    with pytest.raises(UserError, match="another tokenizer than the rows"):
        pretrain(tmp_path / "out", rows / "pack", tmp_path / "words", start=whole,
                 **SMALL)
    with pytest.raises(UserError, match="not the folder of a finished stage"):
        run(tmp_path / "out", rows, start=tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_command_line_reads_like_a_recipe(rows, tmp_path, capsys):
    assert main(["pretrain", "--out", str(tmp_path / "out"), "--shards",
                 str(rows / "pack"), "--tokenizer", str(rows / "tokenizer"), "--steps",
                 "2", "--schedule", "steps_lite", "--recompute", "--keep", "1"]) == 0
    made = read_json(tmp_path / "out" / "made_by.json")["settings"]
    wanted = {"schedule": "steps_lite", "recompute": True, "keep": 1, "model": "toy"}
    assert wanted.items() <= made.items()
    with pytest.raises(SystemExit):
        main(["pretrain", "--help"])
    said = capsys.readouterr().out
    places = [said.index(flag) for flag in (
        "--shards pack_b", "--start a", "--lr", "updates options", "--spike",
        "routers options", "--capacity", "machine options", "--precision",
        "records options", "--tensorboard")]
    assert places == sorted(places)


def test_the_seed_decides(rows, whole, tmp_path):
    run(tmp_path / "out", rows, seed=1)
    one, other = (load_file(folder / "model.safetensors")
                  for folder in (whole, tmp_path / "out"))
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])


@pytest.mark.parametrize("changes, said", [
    ({"model": "toyy"}, "no preset 'toyy'.*toy, nano, small.*Did you mean 'toy'"),
    ({"steps": 0}, "--steps 0"), ({"batch": 0}, "--batch 0"), ({"lr": 0.0}, "--lr 0.0"),
    ({"lr": 1e30, "warmup": 0}, "(loss|norm of the gradient) is (nan|inf) at step"),
    ({"machine": Machine(accumulate=0)}, "--accumulate 0"),
    ({"machine": Machine(accumulate=3)}, "--accumulate 3 must divide --batch 2"),
    ({"routers": Routers(devices=3)}, "--devices 3 must divide the 16 experts"),
    ({"routers": Routers(devices=2, device_limit=3)}, "limit = 3: allowed is 1 to"),
    ({"updates": Updates(spike=0.5)}, "--spike 0.5"),
    ({"records": Records(keep=0)}, "--keep 0")])
def test_what_cannot_be_trained_is_refused(rows, tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        run(tmp_path / "out", rows, **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_pack_that_was_cut_is_refused(rows, tmp_path):
    (tmp_path / "pack").mkdir()
    for file in (rows / "pack").iterdir():
        (tmp_path / "pack" / file.name).write_bytes(file.read_bytes()[:-2] if
            file.suffix == ".bin" else file.read_bytes())
    with pytest.raises(UserError, match=r"train.bin has \d+ bytes.*pack again"):
        pretrain(tmp_path / "out", tmp_path / "pack", rows / "tokenizer", **SMALL)
