"""Multi-head Latent Attention: two ways, one result; a small cache; famous mistakes."""

from dataclasses import replace

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from miniatures import SHAPES, YARN, random_model

from minicoder.config import PRESETS
from minicoder.model import mla as library
from minicoder.model.mla import MLA, LatentCache
from minicoder.model.rope import rope_table

CASES = [(shape, yarn) for shape in SHAPES for yarn in (None, YARN)]


def attention_of(shape: str, yarn=None, seed: int = 0) -> MLA:
    config = replace(SHAPES[shape], rope_scaling=yarn)
    return random_model(config, seed=seed).model.layers[0].self_attn


def hidden(attention: MLA, batch: int, length: int, seed: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, attention.config.hidden_size,
                       generator=generator, dtype=torch.float64)


def rope_for(attention: MLA, x: torch.Tensor):
    return rope_table(attention.config, 0, x.shape[1], x)


@pytest.mark.parametrize("shape, yarn", CASES)
def test_attention_is_the_paper_head_by_head(shape, yarn):
    attention = attention_of(shape, yarn)
    x = hidden(attention, 2, 9)
    with torch.no_grad():
        found = attention(x, rope_for(attention, x))
        expected = oracles.mla(attention, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(case=st.sampled_from(CASES), batch=st.integers(1, 3), length=st.integers(1, 12),
       seed=st.integers(0, 99))
def test_absorbed_equals_expanded(case, batch, length, seed):
    attention = attention_of(*case, seed)
    x = hidden(attention, batch, length, seed)
    rope = rope_for(attention, x)
    causal = torch.ones(batch, length, length, dtype=torch.bool).tril()
    with torch.no_grad():
        latent = attention.to_cache(x, rope)
        torch.testing.assert_close(
            attention.absorbed(x, latent, rope, causal),
            attention.expanded(x, latent, rope), rtol=0, atol=1e-12)


# largest difference over largest output; seen: 7e-7 and 1.1e-2
@pytest.mark.parametrize("dtype, tolerance", [
    (torch.float32, 5e-6), (torch.bfloat16, 4e-2)], ids=str)
@pytest.mark.parametrize("shape, yarn", CASES)
def test_both_ways_agree_in_narrow_types(shape, yarn, dtype, tolerance):
    exact = attention_of(shape, yarn)
    narrow, x = attention_of(shape, yarn).to(dtype), hidden(exact, 2, 40).to(dtype)
    rope = rope_for(narrow, x)
    with torch.no_grad():
        right = exact(x.double(), rope_for(exact, x.double()))
        for found in (narrow(x, rope),
                      narrow.absorbed(x, narrow.to_cache(x, rope), rope)):
            assert found.dtype == dtype
            error = (found.double() - right).abs().max() / right.abs().max()
            assert error < tolerance


def test_the_last_token_needs_no_mask():
    attention = attention_of("full", YARN)
    x = hidden(attention, 2, 7)
    rope = rope_for(attention, x)
    last = tuple(part[-1:] for part in rope)
    with torch.no_grad():
        torch.testing.assert_close(
            attention.absorbed(x[:, -1:], attention.to_cache(x, rope), last),
            attention(x, rope)[:, -1:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_both_ways_agree(shape):
    attention = attention_of(shape, YARN)
    x = hidden(attention, 1, 6)
    rope, causal = rope_for(attention, x), torch.ones(1, 6, 6, dtype=torch.bool).tril()
    ways = (attention(x, rope),
            attention.absorbed(x, attention.to_cache(x, rope), rope, causal))
    first, second = (torch.autograd.grad(out.square().sum(), [*attention.parameters()])
                     for out in ways)
    torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-10)


# --- mistakes of others: each must differ by far more than the tests above allow


def error_with(attention: MLA, x: torch.Tensor) -> torch.Tensor:
    """Relative error at each position against the paper, unbroken."""
    with torch.no_grad():
        expected = oracles.mla(attention, x)
        found = attention(x, rope_for(attention, x))
    return (found - expected).abs().amax((0, 2)) / expected.abs().max()


def test_a_scale_without_the_square_of_mscale_would_be_noticed():
    attention = attention_of("lite", YARN)
    x = hidden(attention, 1, 8)
    assert attention.scale / attention.config.qk_head_dim ** -0.5 == pytest.approx(
        1.5896262)
    attention.scale = attention.config.qk_head_dim ** -0.5
    error = error_with(attention, x)
    assert error[0] < 1e-12  # one key: the softmax hides the scale
    assert error[1:].max() > 1e-2


def test_a_scale_on_the_rotary_part_alone_would_be_noticed(monkeypatch):
    """YaRN as first published scales cos and sin, which leaves the content behind."""
    attention = attention_of("lite", YARN)
    x = hidden(attention, 1, 8)
    gain = (attention.scale * attention.config.qk_head_dim ** 0.5) ** 0.5
    attention.scale = attention.config.qk_head_dim ** -0.5
    monkeypatch.setattr(library, "rotate", lambda v, rope, right=library.rotate:
                        right(v, rope) * gain)
    assert error_with(attention, x).max() > 1e-2


def test_rotate_half_on_interleaved_pairs_would_be_noticed(monkeypatch):
    def rotate_half(v, rope):
        cos, sin = (torch.cat((part, part), dim=-1) for part in rope)
        first, second = v.chunk(2, dim=-1)
        return v * cos + torch.cat((-second, first), dim=-1) * sin

    attention = attention_of("lite")
    x = hidden(attention, 1, 8)
    monkeypatch.setattr(library, "rotate", rotate_half)
    error = error_with(attention, x)
    assert error[0] < 1e-12  # at position 0 nothing is turned
    assert error[1:].max() > 1e-2


# --- the cache


def test_cache_holds_one_latent_and_one_rotary_key_for_all_heads():
    """576 numbers a layer in both released models, however many heads there are."""
    for name, per_token in (("lite_16b", 15_552), ("full_236b", 34_560)):
        config = PRESETS[name]
        with torch.device("meta"):
            cache = LatentCache(config, torch.empty(0), batch=1, capacity=10)
        assert cache.buffer.numel() == 10 * per_token
        assert config.cache_width == config.kv_lora_rank + config.qk_rope_head_dim
