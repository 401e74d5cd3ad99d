"""The longer window: the same weights, YaRN's settings, and training that resumes."""

import json
import shutil

import pytest
import torch
from miniatures import LITE, random_model, random_tokens
from small import new_coder, save_stage

from minicoder.errors import UserError
from minicoder.model.rope import extended
from minicoder.model.transformer import MiniCoder
from minicoder.stages import read_json, read_jsonl
from minicoder.tokenizer import Tokenizer
from minicoder.training import loop
from minicoder.training.long_context import extend, stretch

SMALL = dict(factor=2.0, steps=4, tokens=128, warmup=2)


@pytest.fixture(scope="session")
def base(rows, tmp_path_factory):
    tokenizer = Tokenizer.load(rows / "tokenizer")
    return save_stage(tmp_path_factory.mktemp("base") / "pretrain",
                      new_coder(tokenizer, window=64), tokenizer)


@pytest.fixture(scope="session")
def whole(rows, base, tmp_path_factory):
    return extend(tmp_path_factory.mktemp("whole") / "extend", base, rows / "pack_long",
                  **SMALL)


def test_stretching_keeps_the_weights():
    model = random_model(LITE, torch.float32)
    longer = stretch(model, 4.0, 0.707)
    assert longer.config.max_position_embeddings == 4 * 256
    scaling = longer.config.rope_scaling
    assert (scaling.factor, scaling.original_max_position_embeddings) == (4, 256)
    assert scaling.mscale == scaling.mscale_all_dim == 0.707
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, longer.state_dict()[name])
    tokens = random_tokens(LITE, 1, 30)     # YaRN blends the angles
    assert not torch.allclose(model(tokens), longer(tokens))
    longer.lm_head.weight.data.zero_()      # a copy, not the same memory
    assert model.lm_head.weight.any()


def test_the_folder_holds_the_longer_coder(base, whole):
    _, short = MiniCoder.with_tokenizer(base)
    _, coder = MiniCoder.with_tokenizer(whole)
    assert coder.config.max_position_embeddings == 128
    assert not torch.equal(short.lm_head.weight, coder.lm_head.weight)
    log = read_jsonl(whole / "metrics.jsonl")
    assert log[-1]["step"] == 3 and "recall_loss" in log[0]
    assert "window 64 → 128 tokens" in read_json(whole / "made_by.json")["headline"]


def test_interrupted_and_resumed_is_the_same_to_the_bit(
        rows, base, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    real = loop.one_step

    def stopping(*args):
        if args[4] == 2:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "one_step", stopping)
        extend(tmp_path / "out", base, rows / "pack_long", **SMALL)
    assert (tmp_path / "out.partial" / "state" / "step-0000002").exists()
    extend(tmp_path / "out", base, rows / "pack_long", **SMALL)
    one, other = (folder / "model.safetensors" for folder in (whole, tmp_path / "out"))
    assert one.read_bytes() == other.read_bytes()


def test_rows_longer_than_the_new_window_are_refused(rows, base, tmp_path):
    with pytest.raises(UserError, match="pack_long has rows of 128 tokens, and 1.5 "
                       "times the model's window is 96"):
        extend(tmp_path / "out", base, rows / "pack_long", **SMALL | {"factor": 1.5})
    extend(tmp_path / "out", base, rows / "pack_long", **SMALL | {"steps": 1})


def test_a_tokenizer_of_another_model_is_refused(rows, base, tmp_path):
    folder = tmp_path / "pretrain"
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"bos_token_id": 7}))
    with pytest.raises(UserError, match="bos_token_id is 7 in config.json, 265 in tok"):
        extend(tmp_path / "out", folder, rows / "pack_long", **SMALL)


def test_stages_read_as_many_tokens_a_step(rows, base, whole, tmp_path):
    """Stretched at once, then trained on short rows and on long ones, as in the paper.
    """
    first = extend(tmp_path / "first", base, rows / "pack", **SMALL | {"factor": 4.0})
    second = extend(tmp_path / "second", first, rows / "pack_long",
                    **SMALL | {"factor": 1.0})
    for folder in (first, second):
        _, coder = MiniCoder.with_tokenizer(folder)
        assert coder.config.max_position_embeddings == 256
        assert (coder.config.rope_scaling.factor,
                coder.config.rope_scaling.original_max_position_embeddings) == (4, 64)
        assert {m["tokens"] for m in read_jsonl(folder / "metrics.jsonl")} == {128}
    assert "window 256 → 256" in read_json(second / "made_by.json")["headline"]
    ledger = read_json(second / "ledger.json")  # the base has none: two phases
    assert [phase["phase"] for phase in ledger["phases"]] == ["first", "second"]
    assert ledger["total"] == 4 * (2 * 65 + 129)  # a row has a last target, too


def test_a_step_holds_a_row(rows, base, tmp_path):
    with pytest.raises(UserError, match="--tokens 127 must be 128 or more"):
        extend(tmp_path / "out", base, rows / "pack_long", **SMALL | {"tokens": 127})


@pytest.mark.parametrize("way", ["linear", "ntk", "none"])
def test_other_ways_go_through_the_same_training(rows, base, tmp_path, way):
    out = extend(tmp_path / way, base, rows / "pack_long", way=way,
                 **SMALL | {"steps": 1})
    _, coder = MiniCoder.with_tokenizer(out)
    _, short = MiniCoder.with_tokenizer(base)
    assert coder.config == extended(short.config, 2.0, way=way)
