"""RoPE and ways to stretch it: released numbers, transformers, the famous mistakes."""

import json
from dataclasses import replace

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from miniatures import LITE, YARN, random_model, random_tokens
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from minicoder.config import PRESETS, ModelConfig, RopeScaling
from minicoder.errors import UserError
from minicoder.model.rope import (
    extended,
    frequencies,
    magnitude,
    ramp_bounds,
    rope_table,
    rotate,
    softmax_scale,
)

RELEASED = PRESETS["lite_16b"]
# pair: frequency, frequency under YaRN (width 64, base 10000, window 4096, factor 40)
VECTORS = {
    0: (1, 1), 9: (0.074989421, 0.074989421), 10: (0.056234133, 0.056234133),
    11: (0.04216965, 0.039006927), 16: (0.01, 0.0055),
    20: (0.0031622777, 0.00079056942), 22: (0.0017782794, 0.00017782794),
    23: (0.0013335214, 3.3338036e-05), 31: (0.00013335214, 3.3338036e-06)}


def test_frequencies_of_the_released_models():
    plain = frequencies(replace(RELEASED, rope_scaling=None))
    yarn = frequencies(RELEASED)
    for pair, (before, after) in VECTORS.items():
        assert plain[pair].item() == pytest.approx(before, rel=1e-7)
        assert yarn[pair].item() == pytest.approx(after, rel=1e-7)
    assert ramp_bounds(RELEASED, RELEASED.rope_scaling) == (10, 23)


def test_scales_of_the_released_models():
    assert magnitude(40, 0.707) == pytest.approx(1.2608038, rel=1e-7)
    assert magnitude(40, 1.0) == pytest.approx(1.3688879, rel=1e-7)
    assert magnitude(1, 0.707) == 1
    plain = replace(RELEASED, rope_scaling=None)
    assert softmax_scale(plain) == pytest.approx(0.0721687836, rel=1e-9)
    assert softmax_scale(RELEASED) == pytest.approx(0.1147213868, rel=1e-9)
    assert softmax_scale(PRESETS["full_236b"]) == pytest.approx(0.1352337789, rel=1e-9)


@settings(deadline=None, max_examples=50)
@given(width=st.integers(1, 40), factor=st.floats(1, 100), window=st.integers(8, 10**5),
       theta=st.floats(100, 1e7))
def test_frequencies_follow_the_formulas(width, factor, window, theta):
    config = replace(LITE, qk_rope_head_dim=2 * width, rope_theta=theta,
                     rope_scaling=RopeScaling(factor, window))
    low, high = ramp_bounds(config, config.rope_scaling)
    if low < high:  # otherwise the formula divides by zero and only a convention helps
        torch.testing.assert_close(
            frequencies(config),
            torch.tensor(oracles.yarn_theta(config), dtype=torch.float64),
            rtol=1e-9, atol=0)
    assert (frequencies(config).diff() < 0).all()  # each pair slower than the last


def config_of_width(width: int, yarn: RopeScaling | None = None) -> ModelConfig:
    return replace(LITE, qk_rope_head_dim=width, rope_scaling=yarn)


@pytest.mark.parametrize("yarn", [None, YARN, replace(YARN, mscale=1.0)])
def test_rotation_multiplies_complex_numbers(yarn):
    config = config_of_width(8, yarn)
    x = torch.randn(2, 20, 8, dtype=torch.float64)
    rope = rope_table(config, 5, 25, x)
    expected = torch.stack([torch.stack([
        oracles.turn(v, 5 + t, config) for t, v in enumerate(row)]) for row in x])
    torch.testing.assert_close(rotate(x, rope), expected, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 5000))
def test_only_distance_matters(first, second, shift):
    """q at position i and k at position j: the product knows i - j alone."""
    config = config_of_width(16)
    q, k = torch.randn(2, 1, 16, dtype=torch.float64)

    def product(i: int, j: int) -> float:
        return float(rotate(q, rope_table(config, i, i + 1, q))
                     @ rotate(k, rope_table(config, j, j + 1, k)).T)

    assert product(first, second) == pytest.approx(
        product(first + shift, second + shift), abs=1e-9)


def rotate_half(x: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor]
                ) -> torch.Tensor:
    """The other convention: pairs are (m, m + R/2)."""
    cos, sin = (torch.cat((part, part), dim=-1) for part in rope)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def test_rotate_half_needs_the_permutation():
    """The released code sorts even numbers before odd ones, then rotates halves."""
    config = config_of_width(64)
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 64, dtype=torch.float64)
    at_q, at_k = rope_table(config, 90, 91, q), rope_table(config, 7, 8, k)
    order = torch.cat((torch.arange(0, 64, 2), torch.arange(1, 64, 2)))
    right = float(rotate(q, at_q) @ rotate(k, at_k).T)
    sorted_first = float(rotate_half(q[:, order], at_q)
                         @ rotate_half(k[:, order], at_k).T)
    forgotten = float(rotate_half(q, at_q) @ rotate_half(k, at_k).T)
    assert sorted_first == pytest.approx(right, abs=1e-12)
    assert abs(forgotten - right) > 1


def test_tables_stay_exact_at_the_end_of_the_window():
    """float32 angles would be off by 0.004 radians at position 163,839."""
    cos, sin = rope_table(RELEASED, 163_839, 163_840, torch.zeros(1))
    assert cos.dtype == torch.float32
    angle = torch.tensor(oracles.yarn_theta(RELEASED), dtype=torch.float64) * 163_839
    torch.testing.assert_close(cos[0].double(), angle.cos(), rtol=0, atol=1e-7)
    torch.testing.assert_close(sin[0].double(), angle.sin(), rtol=0, atol=1e-7)


def test_bfloat16_is_rotated_in_float32():
    x = torch.randn(6, 8, dtype=torch.bfloat16)
    rope = rope_table(config_of_width(8), 0, 6, x)
    assert rope[0].dtype == torch.float32
    turned = rotate(x, rope)
    assert turned.dtype == torch.bfloat16
    torch.testing.assert_close(turned, rotate(x.float(), rope).bfloat16())


def peer_config(tmp_path, config: ModelConfig):
    """The same configuration as transformers reads it from a file."""
    (tmp_path / "config.json").write_text(json.dumps(config.to_json()))
    return AutoConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize("width", [4, 8, 64])
@pytest.mark.parametrize("way", ["yarn", "linear", "ntk"])
@pytest.mark.parametrize("factor", [1, 2.5, 16])
def test_stretched_frequencies_equal_those_of_transformers(
        tmp_path, width, way, factor):
    plain = config_of_width(width)
    longer = extended(plain, factor, way=way)
    if way == "ntk":    # its dynamic formula with factor 1, at the stretched length
        other = peer_config(tmp_path, replace(plain, rope_scaling=RopeScaling(
            1, mscale=0.0, mscale_all_dim=0.0, type="linear")))
        make, length = ROPE_INIT_FUNCTIONS["dynamic"], int(256 * factor)
    elif factor == 1:   # nothing was stretched
        assert longer == plain
        return
    else:
        other, length = peer_config(tmp_path, longer), None
        make = ROPE_INIT_FUNCTIONS[way]
    expected, gain = make(other, seq_len=length)
    assert gain == 1    # the mscales are equal
    torch.testing.assert_close(frequencies(longer).float(), expected, rtol=1e-5, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("way", ["yarn", "linear", "ntk", "none"])
def test_logits_of_stretched_models_equal_transformers(tmp_path, way):
    """The file tells transformers all: the softmax scale too, and the larger base."""
    model = random_model(extended(LITE, 16, way=way), torch.float32)
    model.save_pretrained(tmp_path)
    other = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    tokens = random_tokens(LITE, 2, 90)
    expected = other(tokens).logits
    torch.testing.assert_close(model(tokens), expected, rtol=0,
                               atol=1e-5 * expected.abs().max().item())


def test_ways_differ_and_leave_the_plain_model_alone():
    longer = {way: extended(LITE, 16, way=way)
              for way in ("yarn", "linear", "ntk", "none")}
    assert {c.max_position_embeddings for c in longer.values()} == {16 * 256}
    slowest, fastest = ({way: frequencies(c)[m].item() for way, c in longer.items()}
                        for m in (-1, 0))
    plain = frequencies(LITE)
    assert slowest["none"] == plain[-1].item()
    for way in ("linear", "ntk"):   # NTK's base makes the slowest pair as slow
        assert slowest[way] == pytest.approx(plain[-1].item() / 16, rel=1e-12)
    assert fastest == {"yarn": 1, "linear": 1 / 16, "ntk": 1, "none": 1}
    assert softmax_scale(longer["yarn"]) == pytest.approx(
        LITE.qk_head_dim ** -0.5 * magnitude(16, 0.707) ** 2)
    for way in ("linear", "ntk", "none"):
        assert softmax_scale(longer[way]) == LITE.qk_head_dim ** -0.5


def test_extended_keeps_the_old_window_for_the_frequencies():
    longer = extended(PRESETS["toy"], 8)
    assert longer.max_position_embeddings == 8 * 256
    assert longer.rope_scaling == RopeScaling(
        8, 256, mscale=0.707, mscale_all_dim=0.707)


@pytest.mark.parametrize("way", ["yarn", "linear", "ntk", "none"])
def test_two_stages_are_one(way):
    """4 x 4 is 16, and YaRN's first window stays; a factor of 1 changes nothing."""
    once, twice = extended(LITE, 16, way=way), extended(
        extended(LITE, 4, way=way), 4, 1.0, way=way)
    torch.testing.assert_close(frequencies(twice), frequencies(once), rtol=1e-12,
                               atol=0)
    assert replace(twice, rope_theta=1) == replace(once, rope_theta=1)
    assert extended(once, 1, way=way) == once


@pytest.mark.parametrize("config, factor, way, message", [
    (LITE, 0.999, "yarn", "--factor 0.999 must be 1 or more"),
    (LITE, float("nan"), "none", "--factor nan"),
    (LITE, float("inf"), "none", "--factor inf"),
    (extended(LITE, 2), 2, "linear", "stretched by 'yarn': --way 'linear'"),
    (extended(LITE, 2), 1, "none", "stretched by 'yarn': --way 'none'"),
    (extended(LITE, 2, way="linear"), 2, "ntk", "stretched by 'linear'"),
    (replace(LITE, qk_rope_head_dim=2), 2, "ntk", "qk_rope_head_dim above 2"),
])
def test_what_cannot_be_stretched(config, factor, way, message):
    with pytest.raises(UserError, match=message):
        extended(config, factor, way=way)
