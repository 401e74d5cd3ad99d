"""Rotary positions, and YaRN's stretching of them.

A pair of neighbouring numbers (2m, 2m+1) is turned by the angle position * theta_m.
Sources: arXiv 2104.09864 (RoPE), arXiv 2309.00071 (YaRN), DeepSeek-V2 §3.1.4.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from minicoder.config import ModelConfig, Real, RopeScaling

Rope = tuple[Tensor, Tensor]  # cosines and sines, each (T, R/2)


def frequencies(config: ModelConfig) -> Float[Tensor, " half"]:
    """theta_m in radians per position, m = 0 .. R/2-1, blended when YaRN is on."""
    width, scaling = config.qk_rope_head_dim, config.rope_scaling
    m = torch.arange(width // 2, dtype=torch.float64)
    theta = config.rope_theta ** (-2 * m / width)
    if scaling is None:
        return theta
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
    """1 / sqrt(query width), times g^2 when YaRN is on: it acts on the whole logit."""
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
