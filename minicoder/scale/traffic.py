"""Bytes that a process sends in a step, along each axis.

Collectives as rings do them: of n bytes among p processes, a gathering or scattering
sends n (p - 1) / p from each, a sum over all twice that. Routing is taken as even.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import torch
import torch.nn.functional as F

from minicoder.config import ModelConfig, Real
from minicoder.model.moe import Router
from minicoder.parallel.layout import Layout
from minicoder.parallel.pipeline import stages_at
from minicoder.scale.activations import INDEX, WIDE
from minicoder.scale.placement import FIRST, gathered, seat, weights_of


@lru_cache(maxsize=64)
def devices_reached(c: ModelConfig, processes: int, limited: bool = True) -> Real:
    """How many of `processes` hold a chosen expert of a token, on average.

    The model's own choice, for 8,192 tokens of random scores that know no favourites;
    not `limited`, as if its experts were not grouped (DeepSeek-V2 §2.2.2).
    """
    if not limited:
        c = replace(c, topk_method="greedy")
    draws = torch.Generator().manual_seed(0)
    router = Router(replace(c, hidden_size=c.n_routed_experts))
    with torch.no_grad():
        router.weight.copy_(torch.eye(c.n_routed_experts))  # scores are what goes in
        chosen = router(torch.randn(8192, c.n_routed_experts, generator=draws)).experts
    home = chosen // (c.n_routed_experts // processes)
    return F.one_hot(home, processes).amax(1).sum(1).float().mean().item()


def _ring(parts: int) -> Real:
    return (parts - 1) / parts


def weights_sent(c: ModelConfig, layout: Layout, low: int, rounds: int
                 ) -> dict[str, Real]:
    """FSDP of the first stage: weights gathered, gradients scattered, copies summed.

    Of several `rounds` of a step each gathers twice, for the way there and back; a
    pipeline gathers once.
    """
    sent = {"gather weights": 0.0, "scatter gradients": 0.0, "sum replicas": 0.0}
    gathers, rounds = (1, 1) if layout.pipeline > 1 else (2 * rounds, rounds)
    for count, weight in weights_of(c, seat(c, layout, 0)):
        parts = layout.expert_shard if weight.unit == "experts" else layout.shard
        numbers = count * math.prod(gathered(weight, layout, FIRST))
        bytes_each = WIDE if weight.wide else low
        sent["gather weights"] += gathers * numbers * bytes_each * _ring(parts)
        sent["scatter gradients"] += rounds * numbers * WIDE * _ring(parts)
        sent["sum replicas"] += (rounds * numbers / parts * WIDE
                                 * 2 * _ring(layout.replicate))
    return sent


def tokens_sent(c: ModelConfig, layout: Layout, low: int, recompute: bool,
                copies: Real) -> Real:
    """The all-to-all of a token and layer, there and back; `copies` of it leave."""
    away = copies * _ring(layout.expert) / layout.tensor
    row, back = low * (c.hidden_size + c.num_experts_per_tok), low * c.hidden_size
    forward = row + INDEX * c.num_experts_per_tok + back
    return away * ((2 if recompute else 1) * forward + row + back)


def heads_sent(c: ModelConfig, layout: Layout, low: int, recompute: bool, moe: bool
               ) -> Real:
    """Tensor parallelism of a token and layer: sums of partial results."""
    hidden = low * c.hidden_size
    queries = WIDE * c.hidden_size if c.q_lora_rank is None else low * c.q_lora_rank
    mlp = not moe or c.n_shared_experts
    # what was summed at the end of a part is not summed again when it is recomputed
    forward = 2 * hidden * (2 if mlp else 1)
    backward = 2 * (queries + low * c.cache_width + (
        WIDE * c.hidden_size if mlp else 0))
    if moe:     # what each did for its own tokens
        forward += hidden * (2 if recompute else 1)
        backward += hidden + WIDE * c.num_experts_per_tok
    return _ring(layout.tensor) * (forward + backward)


def per_step(c: ModelConfig, layout: Layout, low: int, recompute: bool,
             tokens: Real, rounds: int) -> dict[str, Real]:
    """Bytes by axis that a process of the first stage sends.

    `tokens` are those that a reader reads in a step, in so many `rounds`.
    """
    sent, here = weights_sent(c, layout, low, rounds), seat(c, layout, 0)
    if layout.expert > 1:
        copies = devices_reached(c, layout.expert)
        sent["expert all-to-all"] = tokens * here.moe * tokens_sent(
            c, layout, low, recompute, copies)
    if layout.tensor > 1:
        sent["tensor sums"] = tokens * sum(
            count * heads_sent(c, layout, low, recompute, moe)
            for moe, count in ((False, here.dense), (True, here.moe)))
    if layout.pipeline > 1:     # residuals and their gradients, in the middle
        sent["pipeline"] = 2 * len(stages_at(layout, 0)) * (
            tokens * WIDE * c.hidden_size)
    return {axis: count for axis, count in sent.items() if count}
