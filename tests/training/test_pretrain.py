"""Pre-training as a stage: it learns, resumes to the bit, refuses what does not fit."""

from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

from minicoder.data.packing import Shards
from minicoder.errors import UserError
from minicoder.model.transformer import MiniCoder
from minicoder.stages import read_json, read_jsonl
from minicoder.tokenizer import Tokenizer
from minicoder.training import loop
from minicoder.training.loop import Plan
from minicoder.training.pretrain import holes, needles, pretrain

SMALL = dict(steps=5, batch=2, warmup=1, recall=2, middles=2)


def run(out, rows, **changes):
    return pretrain(out, rows / "pack", rows / "tokenizer", **(SMALL | changes))


@pytest.fixture(scope="session")
def whole(rows, tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole") / "pretrain", rows)


def test_the_folder_holds_a_coder_and_its_log(whole):
    tokenizer, coder = MiniCoder.with_tokenizer(whole)
    assert coder.config.vocab_size == tokenizer.vocab_size == 270
    assert coder.config.max_position_embeddings == 64
    assert coder.config.n_routed_experts == 16      # the toy preset's
    made = read_json(whole / "made_by.json")
    assert "after 0.0 M tokens" in made["headline"] and made["stage"] == "pretrain"


def test_it_learns_with_needles_early_and_now_and_then(rows, tmp_path):
    run(tmp_path / "out", rows, steps=31, lr=3e-3, warmup=4, recall=4, middles=19)
    log = read_jsonl(tmp_path / "out" / "metrics.jsonl")
    assert [m["step"] for m in log] == [0, 10, 20, 30]
    assert log[0]["language_loss"] == pytest.approx(5.6, abs=0.4)   # ln 270
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


@pytest.mark.parametrize("stop", [2, 4])
def test_interrupted_and_resumed_is_the_same_to_the_bit(
        rows, whole, tmp_path, monkeypatch, stop):
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    real = loop.one_step

    def stopping(model, optimizer, step_loss, plan, step):
        if step == stop:
            raise KeyboardInterrupt
        return real(model, optimizer, step_loss, plan, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "one_step", stopping)
        run(tmp_path / "out", rows)
    assert (tmp_path / "out.partial" / "state" / f"step-{stop:07d}").exists()
    assert not (tmp_path / "out").exists()
    run(tmp_path / "out", rows)
    one, other = (folder / "model.safetensors" for folder in (whole, tmp_path / "out"))
    assert one.read_bytes() == other.read_bytes()
    assert read_jsonl(whole / "metrics.jsonl") == read_jsonl(
        tmp_path / "out" / "metrics.jsonl")
    assert read_json(tmp_path / "out" / "made_by.json")["resumed"] is True


def test_the_seed_decides(rows, whole, tmp_path):
    run(tmp_path / "out", rows, seed=1)
    one, other = (load_file(folder / "model.safetensors")
                  for folder in (whole, tmp_path / "out"))
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])


@pytest.mark.parametrize("changes, said", [
    ({"model": "toyy"}, "no preset 'toyy'.*toy, nano, small.*Did you mean 'toy'"),
    ({"steps": 0}, "--steps 0"), ({"batch": 0}, "--batch 0"), ({"lr": 0.0}, "--lr 0.0"),
    ({"lr": 1e30, "warmup": 0}, "The loss is (nan|inf) at step")])
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
