"""The whole model: equal to transformers' DeepseekV2, causal, and the same in pieces.

The independent implementation computes its norms, its router and its rotation in
float32 whatever the weights are. To compare in float64 as well, `peer` lets its two
modules see `torch.float32` as `torch.float64` and lets `Tensor.float()` be `double()`:
every formula stays the peer's own, only wider. The grouped product of the experts has
no float64, so that the peer's own loop over experts takes its place there.
"""

import json
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from miniatures import (
    LITE,
    SHAPES,
    YARN,
    closest_call,
    random_model,
    random_tokens,
    wider,
)
from transformers import AutoConfig, AutoModelForCausalLM, modeling_rope_utils
from transformers.models.deepseek_v2 import modeling_deepseek_v2

from minicoder.config import PRESETS, parameter_count, preset
from minicoder.model import mla as mla_module
from minicoder.model.checkpoint import released
from minicoder.model.generate import generate, visible
from minicoder.model.mla import LatentCache
from minicoder.model.moe import Routing
from minicoder.model.transformer import MiniCoder

# largest difference over largest logit; seen: 6e-6 and 9e-15
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
DTYPES = list(TOLERANCE)
YARNS = {"plain": None, "yarn": YARN, "yarn1": replace(YARN, mscale_all_dim=1.0)}


class Float64:
    """The name `torch` as the peer's modules see it in a float64 comparison."""

    float32 = float = torch.float64

    def __getattr__(self, name: str) -> object:
        return getattr(torch, name)


@contextmanager
def peer(folder, dtype: torch.dtype):
    """transformers' model of a checkpoint folder, computing in `dtype`."""
    with pytest.MonkeyPatch.context() as patch:
        if dtype == torch.float64:
            for module in (modeling_deepseek_v2, modeling_rope_utils):
                patch.setattr(module, "torch", Float64())
            patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True,
            experts_implementation="eager" if dtype == torch.float64 else None)
        yield model.eval()


@torch.no_grad()
def difference(model: MiniCoder, other: torch.nn.Module, length: int) -> torch.Tensor:
    """Relative error at each position, on tokens whose routing hangs by no hair."""
    for seed in range(20):
        tokens, seen = random_tokens(model.config, 2, length, seed), list[Routing]()
        found = model(tokens, seen)
        if not seen or closest_call(model.config, seen) > 1e-5:
            break
    else:
        pytest.fail("every text has a token that two experts claim alike")
    if seen:
        used = torch.cat([routing.experts.flatten() for routing in seen])
        assert len(used.unique()) == model.config.n_routed_experts
    expected = other(tokens, use_cache=False).logits
    assert found.dtype == expected.dtype == model.lm_head.weight.dtype
    return (found - expected).abs().amax((0, 2)) / expected.abs().max()


def test_the_peer_is_one_that_scales_rightly():
    """Before 5.15.1 transformers forgot YaRN's factor in the softmax scale."""
    assert tuple(map(int, transformers.__version__.split(".")[:2])) >= (5, 16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", ["small", "wide"])
@pytest.mark.parametrize("yarn", YARNS)
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_equal_transformers(tmp_path, shape, yarn, size, dtype):
    """Through a folder that we write and transformers opens."""
    config = replace(SHAPES[shape], rope_scaling=YARNS[yarn])
    config = wider(config) if size == "wide" else config
    model = random_model(config, dtype)
    model.save_pretrained(tmp_path)
    with peer(tmp_path, dtype) as other:
        for length in (17, 80):
            assert difference(model, other, length).max() < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape, yarn", [("lite", None), ("full", YARN)])
def test_logits_equal_on_the_way_back(tmp_path, shape, yarn, dtype):
    """Through a folder that transformers writes and we open, with its own weights."""
    config = replace(SHAPES[shape], rope_scaling=yarn, initializer_range=0.2)
    values = config.to_json()
    torch.manual_seed(0)
    with torch.random.fork_rng():
        made = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(values.pop("model_type"), **values))
    made.to(dtype).save_pretrained(tmp_path)
    model = MiniCoder.from_pretrained(tmp_path)
    assert model.config == config
    assert model.lm_head.weight.dtype == dtype
    with peer(tmp_path, dtype) as other:
        assert difference(model, other, 40).max() < TOLERANCE[dtype]


@pytest.mark.parametrize("shape, yarn", [("lite", None), ("full", YARN)])
def test_greedy_text_equals_transformers(tmp_path, shape, yarn):
    """Two prompts of different lengths, ours in one batch, theirs one by one."""
    model = random_model(replace(SHAPES[shape], rope_scaling=yarn))
    model.save_pretrained(tmp_path)
    prompts = [[5, 6, 7, 8, 9, 10, 11], [3, 1]]
    found = generate(model, prompts, 20, end=-1)
    with peer(tmp_path, torch.float64) as other:
        for prompt, answer in zip(prompts, found, strict=True):
            said = other.generate(torch.tensor([prompt]), max_new_tokens=20,
                                  do_sample=False, eos_token_id=None, pad_token_id=0)
            assert said[0, len(prompt):].tolist() == answer


def test_a_dense_model_equals_transformers(tmp_path):
    config = replace(LITE, n_routed_experts=None, n_shared_experts=None)
    model = random_model(config)
    model.save_pretrained(tmp_path)
    with peer(tmp_path, torch.float64) as other:
        assert difference(model, other, 20).max() < TOLERANCE[torch.float64]


def test_two_famous_mistakes_lie_far_outside_the_tolerance(tmp_path, monkeypatch):
    model = random_model(replace(LITE, rope_scaling=YARN))
    model.save_pretrained(tmp_path)
    with peer(tmp_path, torch.float64) as other:
        for layer in model.model.layers:  # transformers before 5.15.1
            layer.self_attn.scale = LITE.qk_head_dim ** -0.5
        error = difference(model, other, 20)
        assert error[0] < 1e-10  # a softmax over one key hides the scale
        assert error[1:].max() > 1e-2

        model = MiniCoder.from_pretrained(tmp_path)

        def rotate_half(x, rope):  # most first ports of this checkpoint
            cos, sin = (torch.cat((part, part), dim=-1) for part in rope)
            first, second = x.chunk(2, dim=-1)
            return x * cos + torch.cat((-second, first), dim=-1) * sin

        assert difference(model, other, 20).max() < 1e-10
        monkeypatch.setattr(mla_module, "rotate", rotate_half)
        assert difference(model, other, 20).max() > 1e-2


# --- sizes


@pytest.mark.parametrize("name", PRESETS)
def test_counts_are_those_of_the_formula_and_of_transformers(tmp_path, name):
    config = PRESETS[name]
    (tmp_path / "config.json").write_text(json.dumps(config.to_json()))
    with torch.device("meta"):
        other = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    for model in (MiniCoder.outline(config), other):
        assert sum(p.numel() for p in model.parameters()) == parameter_count(config)


@pytest.mark.parametrize("name, parameters, tensors, activated", [
    ("lite_16b", 15_706_484_224, 5_291, 2_661_150_208),
    ("full_236b", 235_741_434_880, 29_102, 21_375_800_320),
    ("nano", 10_010_240, None, 5_586_560), ("small", 97_399_104, None, 36_057_408)])
def test_counts_are_the_released_ones(name, parameters, tensors, activated):
    model = MiniCoder.outline(PRESETS[name])
    shapes = {name: tensor.numel() for name, tensor in released(model)}
    assert sum(shapes.values()) == parameters
    assert tensors in (None, len(shapes))
    idle = [size for name, size in shapes.items() if ".experts." in name
            and int(name.split(".experts.")[1].split(".")[0])
            >= model.config.num_experts_per_tok]  # as many experts as no token uses
    assert parameters - sum(idle) == activated


def test_weights_start_as_configured():
    torch.manual_seed(0)
    model = MiniCoder(preset("toy", initializer_range=0.006))
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            assert (weight == 1).all()
        else:
            assert weight.std().item() == pytest.approx(0.006, rel=0.1), name
            assert abs(weight.mean().item()) < 0.001, name


# --- the same in pieces

CASES = [(shape, yarn) for shape in SHAPES for yarn in (None, YARN)]
MODELS = {case: random_model(replace(SHAPES[case[0]], rope_scaling=case[1]))
          for case in CASES}


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(CASES), st.integers(2, 14), st.integers(0, 99), st.data())
def test_a_later_token_never_changes_an_earlier_logit(case, length, seed, data):
    model = MODELS[case]
    changed = data.draw(st.integers(1, length - 1))
    tokens = random_tokens(model.config, 1, length, seed)
    other = tokens.clone()
    other[0, changed:] = random_tokens(model.config, 1, length - changed, seed + 1)
    other[0, changed] = (tokens[0, changed] + 1) % model.config.vocab_size
    with torch.no_grad():
        first, second = model(tokens), model(other)
    torch.testing.assert_close(first[:, :changed], second[:, :changed],
                               rtol=0, atol=1e-12)
    assert (first[:, changed] - second[:, changed]).abs().max() > 1e-6


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(CASES), st.integers(1, 3),
       st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(1, 9))
def test_prefill_and_decode_equal_one_pass(case, batch, chunks, capacity):
    """In any chunks, one or several tokens at a time, whatever the first allocation."""
    model = MODELS[case]
    tokens = random_tokens(model.config, batch, sum(chunks))
    cache = LatentCache(model.config, model.lm_head.weight, batch, capacity)
    with torch.no_grad():
        found = [model.model.prefill(tokens[:, :chunks[0]], cache)]
        for size in chunks[1:]:
            start, stop = cache.length, cache.length + size
            mask = torch.ones(size, stop, dtype=torch.bool).tril(start)
            found.append(model.model.decode(
                tokens[:, start:stop], cache, mask.expand(batch, -1, -1)))
        expected = model.model(tokens)
    torch.testing.assert_close(torch.cat(found, dim=1), expected, rtol=0, atol=1e-11)
    assert cache.length == sum(chunks)
    assert cache.buffer[:, 0, :cache.length].numel() == cache.length * (
        model.config.num_hidden_layers
        * (model.config.kv_lora_rank + model.config.qk_rope_head_dim))


@settings(deadline=None, max_examples=15)
@given(st.sampled_from(CASES), st.lists(st.integers(1, 8), min_size=2, max_size=4))
def test_left_padding_changes_nothing(case, lengths):
    """Each row of a padded batch, in prefill and in the step after, as if alone."""
    model, width = MODELS[case], max(lengths)
    rows = random_tokens(model.config, len(lengths), width)
    padding = torch.tensor([width - n for n in lengths])
    cache = LatentCache(model.config, model.lm_head.weight, len(lengths))
    step = random_tokens(model.config, len(lengths), 1, seed=5)
    seen = visible(padding, width + 1)
    mask = None
    if seen is not None:
        square = torch.ones(width, width, dtype=torch.bool).tril()
        own = torch.eye(width, dtype=torch.bool)
        mask = square & seen[:, None, :width] | own
    with torch.no_grad():
        first = model.model.prefill(rows, cache, mask)[:, -1]
        second = model.model.decode(
            step, cache, None if seen is None else seen[:, None])[:, -1]
        for row, length in enumerate(lengths):
            text = torch.cat((rows[row, width - length:], step[row]))
            alone = model.model(text[None])
            torch.testing.assert_close(first[row], alone[0, -2], rtol=0, atol=1e-11)
            torch.testing.assert_close(second[row], alone[0, -1], rtol=0, atol=1e-11)


def test_routing_is_seen_layer_by_layer():
    model, seen = MODELS["lite", None], list[Routing]()
    model(random_tokens(model.config, 2, 5), seen)
    assert len(seen) == model.config.num_hidden_layers - 1  # the first layer is dense
    assert all(routing.experts.shape == (10, 3) for routing in seen)


def test_every_weight_gets_a_gradient():
    model = MiniCoder(SHAPES["full"])
    tokens = random_tokens(model.config, 4, 32)
    logits = model(tokens[:, :-1])
    torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
    assert [name for name, weight in model.named_parameters()
            if weight.grad is None or not weight.grad.any()] == []
