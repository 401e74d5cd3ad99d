"""MHA, GQA and MQA: equal to transformers' Llama attention, and their caches."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from miniatures import LITE
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaRotaryEmbedding,
)

from minicoder.errors import UserError
from minicoder.model.attention import GQA, KVCache, attend, causal
from minicoder.model.rope import Rope, rope_table

HIDDEN, HEADS, WIDTH = 24, 4, 6
GROUPS = {"MHA": 4, "GQA": 2, "MQA": 1}
ROPE = replace(LITE, qk_rope_head_dim=WIDTH)


def layer_of(groups: int, seed: int = 0) -> GQA:
    torch.manual_seed(seed)
    return GQA(HIDDEN, HEADS, groups, WIDTH).double()


def inputs(batch: int, length: int, seed: int = 1) -> tuple[torch.Tensor, Rope]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, length, HIDDEN, generator=generator, dtype=torch.float64)
    return x, rope_table(ROPE, 0, length, x)


def part(rope: Rope, start: int, stop: int) -> Rope:
    return tuple(table[start:stop] for table in rope)


def halves(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of each head sorted even before odd: Llama rotates halves, we neighbours."""
    order = torch.cat((torch.arange(0, WIDTH, 2), torch.arange(1, WIDTH, 2)))
    return weight.view(heads, WIDTH, -1)[:, order].reshape_as(weight)


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("length", [1, 7, 40])
def test_equals_llama(name, length):
    layer, (x, rope) = layer_of(GROUPS[name]), inputs(2, length)
    config = LlamaConfig(
        hidden_size=HIDDEN, num_attention_heads=HEADS, head_dim=WIDTH,
        num_key_value_heads=GROUPS[name], attn_implementation="eager",
        max_position_embeddings=64, rope_parameters={
            "rope_type": "default", "rope_theta": ROPE.rope_theta})
    other = LlamaAttention(config, layer_idx=0).double().eval()
    weights = layer.state_dict()
    weights["q_proj.weight"] = halves(weights["q_proj.weight"], HEADS)
    weights["k_proj.weight"] = halves(weights["k_proj.weight"], GROUPS[name])
    other.load_state_dict(weights)
    angles = LlamaRotaryEmbedding(config)(x, torch.arange(length)[None])
    mask = torch.zeros(length, length, dtype=torch.float64).masked_fill(
        ~causal(length, length, x.device), float("-inf"))
    with torch.no_grad():
        expected, _ = other(x, angles, attention_mask=mask[None, None])
        # their angles and their softmax are float32
        torch.testing.assert_close(layer(x, rope), expected, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(sorted(GROUPS)), st.integers(1, 3),
       st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(1, 6))
def test_cached_in_pieces_equals_one_pass(name, batch, chunks, capacity):
    layer, (x, rope) = layer_of(GROUPS[name]), inputs(batch, sum(chunks))
    cache, found = KVCache(x, 1, batch, layer.cache_width, capacity), []
    with torch.no_grad():
        for size in chunks:
            start, stop = cache.length, cache.length + size
            now, angles = x[:, start:stop], part(rope, start, stop)
            cached = cache.append(0, layer.to_cache(now, angles))
            found.append(layer.expanded(now, cached, angles))
            cache.length = stop
        expected = layer(x, rope)
    torch.testing.assert_close(torch.cat(found, 1), expected, rtol=0, atol=1e-13)


def test_one_group_is_all_heads_with_the_same_keys():
    """MQA is MHA whose key and value matrices repeat; MHA's cache repeats them too."""
    one, every = layer_of(1), layer_of(4)
    weights = one.state_dict()
    every.load_state_dict(weights | {
        f"{name}.weight": weights[f"{name}.weight"].repeat(4, 1)
        for name in ("k_proj", "v_proj")})
    x, rope = inputs(2, 9)
    with torch.no_grad():
        torch.testing.assert_close(one(x, rope), every(x, rope), rtol=0, atol=1e-14)


@pytest.mark.parametrize("groups, per_token", [(128, 32_768), (8, 2_048), (1, 256)])
def test_cache_widths_are_those_of_the_papers_table(groups, per_token):
    """DeepSeek-V2 table 1: 2 n_h d_h, 2 n_g d_h and 2 d_h numbers a token and layer."""
    with torch.device("meta"):
        layer = GQA(5120, 128, groups, 128)
        cache = KVCache(torch.empty(0), 60, 1, layer.cache_width, capacity=10)
    assert layer.cache_width == per_token
    assert cache.buffer.numel() == 60 * 10 * per_token


def test_groups_must_divide_the_heads():
    with pytest.raises(UserError, match="groups = 3 must divide the 4 heads"):
        GQA(HIDDEN, HEADS, 3, WIDTH)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(0, 5), st.booleans())
def test_attend_is_softmax_over_what_may_be_seen(queries, past, masked):
    keys = queries + past
    q, k, v = (torch.randn(2, heads, n, 5, dtype=torch.float64)
               for heads, n in ((4, queries), (2, keys), (2, keys)))
    seen = causal(queries, keys, q.device).expand(2, -1, -1)
    k4, v4 = (t.repeat_interleave(2, dim=1) for t in (k, v))
    scores = (q @ k4.transpose(2, 3) * 0.3).masked_fill(~seen[:, None], float("-inf"))
    found = attend(q, k, v, 0.3, seen if masked else None)
    torch.testing.assert_close(found, scores.softmax(-1) @ v4, rtol=0, atol=1e-13)


# --- the cache


@settings(deadline=None, max_examples=30)
@given(capacity=st.integers(1, 6), chunks=st.lists(st.integers(1, 5), max_size=8))
def test_cache_returns_what_was_written(capacity, chunks):
    """Whatever the first allocation: growth copies every layer and every row."""
    cache = KVCache(torch.empty(0), layers=3, batch=2, width=4, capacity=capacity)
    written = [torch.empty(2, 0, 4)] * 3
    for chunk in chunks:
        for layer in range(3):
            new = torch.randn(2, chunk, 4)
            written[layer] = torch.cat((written[layer], new), dim=1)
            assert torch.equal(cache.append(layer, new), written[layer])
        cache.length += chunk


def test_cache_rows_can_be_dropped_and_repeated():
    cache = KVCache(torch.empty(0), layers=2, batch=3, width=4)
    new = torch.randn(3, 4, 4)
    cache.append(1, new)
    cache.select(torch.tensor([2, 0, 2]))
    assert torch.equal(cache.buffer[1, :, :4], new[[2, 0, 2]])
