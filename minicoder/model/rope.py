"""Rotary positions, and the ways of stretching them.

A pair of neighbouring numbers (2m, 2m+1) is turned by the angle position * theta_m.
NTK scaling is a larger `rope_theta` and needs nothing here. Sources: arXiv 2104.09864
(RoPE), arXiv 2306.15595 (position interpolation), arXiv 2309.00071 (YaRN), DeepSeek-V2
§3.1.4.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from minicoder.config import ModelConfig, Real, RopeScaling
from minicoder.errors import UserError

Way = Literal["yarn", "linear", "ntk", "none"]
Rope = tuple[Tensor, Tensor]  # cosines and sines, each (T, R/2)


def frequencies(config: ModelConfig) -> Float[Tensor, " half"]:
    """theta_m in radians per position, m = 0 .. R/2-1, stretched as configured."""
    width, scaling = config.qk_rope_head_dim, config.rope_scaling
    m = torch.arange(width // 2, dtype=torch.float64)
    theta = config.rope_theta ** (-2 * m / width)
    if scaling is None:
        return theta
    if scaling.type == "linear":
        return theta / scaling.factor
    low, high = ramp_bounds(config, scaling)
    ramp = ((m - low) / max(high - low, 0.001)).clamp(0, 1)
    return theta / scaling.factor * ramp + theta * (1 - ramp)


def ramp_bounds(config: ModelConfig, scaling: RopeScaling) -> tuple[int, int]:
    """First and last pair of YaRN's blend: below `low` kept, above `high` stretched."""
    width, window = config.qk_rope_head_dim, scaling.original_max_position_embeddings

    def pair_with(rotations: Real) -> float:
        """The pair that makes so many rotations over the original window."""
        return width * math.log(window / (2 * math.pi * rotations)) / (
            2 * math.log(config.rope_theta))

    low = math.floor(pair_with(scaling.beta_fast))
    high = math.ceil(pair_with(scaling.beta_slow))
    return max(low, 0), min(high, width - 1)


def magnitude(factor: Real, mscale: Real) -> float:
    """YaRN's g(s, m) = 0.1 m ln s + 1."""
    return 0.1 * mscale * math.log(factor) + 1 if factor > 1 else 1.0


def softmax_scale(config: ModelConfig) -> float:
    """1 / sqrt(query width), times YaRN's g^2: it acts on the whole logit."""
    scale = config.qk_head_dim ** -0.5
    if (scaling := config.rope_scaling) is not None:
        scale *= magnitude(scaling.factor, scaling.mscale_all_dim) ** 2
    return scale


@lru_cache(maxsize=16)
def _table(config: ModelConfig, length: int, device: torch.device, dtype: torch.dtype
           ) -> Rope:
    with torch.device("cpu"):
        angles = torch.outer(torch.arange(length, dtype=torch.float64),
                             frequencies(config))
        gain = 1.0
        if (s := config.rope_scaling) is not None:
            gain = magnitude(s.factor, s.mscale) / magnitude(s.factor, s.mscale_all_dim)
        cos, sin = angles.cos() * gain, angles.sin() * gain
    return cos.to(device, dtype), sin.to(device, dtype)


def rope_table(config: ModelConfig, start: int, stop: int, like: Tensor) -> Rope:
    """Cosines and sines for positions start .. stop-1, in float32 or wider."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    length = max(256, 1 << (stop - 1).bit_length())  # few sizes, so that they are kept
    cos, sin = _table(config, length, like.device, dtype)
    return cos[start:stop], sin[start:stop]


def rotate(x: Float[Tensor, "*batch T R"], rope: Rope) -> Float[Tensor, "*batch T R"]:
    """Turn each pair (2m, 2m+1) of the last axis by its position's angle."""
    cos, sin = rope
    even, odd = x[..., 0::2].to(cos.dtype), x[..., 1::2].to(cos.dtype)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).type_as(x)


def extended(c: ModelConfig, factor: Real, mscale: Real = 0.707, way: Way = "yarn"
             ) -> ModelConfig:
    """The same model over `factor` times its window (DeepSeek-V2 §3.1.4).

    "linear" interpolates positions (arXiv 2306.15595), "ntk" takes a larger base,
    theta * s^(d/(d-2)) (arXiv 2309.00071 §3.1), "none" lets the rotations go on. On a
    model that was stretched before, factors multiply and YaRN keeps the first window.
    Raises `UserError` for a factor below 1, and for another way than the model's.
    """
    if not 1 <= factor < math.inf:
        raise UserError(f"--factor {factor} must be 1 or more.")
    old, width = c.rope_scaling, c.qk_rope_head_dim
    if old is not None and way != old.type:
        raise UserError(f"This model was stretched by {old.type!r}: --way {way!r} "
                        "does not go on from there.")
    if way == "ntk" and width == 2:
        raise UserError("--way ntk needs a qk_rope_head_dim above 2.")
    longer = replace(
        c, max_position_embeddings=math.ceil(c.max_position_embeddings * factor))
    if way == "none" or factor == 1:
        return longer
    if way == "ntk":
        base = c.rope_theta * factor ** (width / (width - 2))
        return replace(longer, rope_theta=base)
    if old is None:
        m = mscale if way == "yarn" else 0.0
        first = c.max_position_embeddings if way == "yarn" else None
        old = RopeScaling(1, first, mscale=m, mscale_all_dim=m, type=way)
    return replace(longer, rope_scaling=replace(old, factor=old.factor * factor))
