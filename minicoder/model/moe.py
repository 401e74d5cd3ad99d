"""DeepSeekMoE: many fine experts, a few of them shared by every token.

Source: DeepSeek-V2 §2.2 (eq. 20-22), DeepSeekMoE §3. Letters: M tokens, D hidden,
E experts, K chosen experts per token, I width of an expert.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from minicoder.config import ModelConfig


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)) (arXiv 2002.05202)."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, width, bias=False)
        self.up_proj = nn.Linear(hidden, width, bias=False)
        self.down_proj = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


@dataclass(frozen=True)
class Routing:
    """What one layer's router decided for M tokens."""

    scores: Float[Tensor, "M E"]    # softmax over all experts, with gradient
    experts: Int[Tensor, "M K"]     # the chosen ones
    weights: Float[Tensor, "M K"]   # what their outputs are multiplied by


# what a layer may change of its routing while it trains, given the sequences
Drop = Callable[[Routing, int], Routing]


class Router(nn.Module):
    """Softmax over all experts, then the best K, not renormalised (eq. 21-22)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(
            torch.empty(config.n_routed_experts, config.hidden_size))

    def forward(self, x: Float[Tensor, "M D"]) -> Routing:
        c = self.config
        wide = torch.promote_types(x.dtype, torch.float32)  # bf16 ties route by index
        scores = F.linear(x.to(wide), self.weight.to(wide)).softmax(dim=-1)
        eligible = scores if c.topk_method == "greedy" else self.limited(scores)
        weights, experts = eligible.topk(c.num_experts_per_tok, dim=-1, sorted=False)
        if c.norm_topk_prob and c.num_experts_per_tok > 1:
            # as released: normalising replaces the scaling factor
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        else:
            weights = weights * c.routed_scaling_factor
        return Routing(scores, experts, weights)

    def limited(self, scores: Float[Tensor, "M E"]) -> Float[Tensor, "M E"]:
        """Zero all but the `topk_group` groups with the best single expert (§2.2.2)."""
        c = self.config
        grouped = rearrange(scores, "m (g e) -> m g e", g=c.n_group)
        best = grouped.amax(-1).topk(c.topk_group, dim=-1, sorted=False).indices
        keep = torch.zeros_like(grouped[..., 0]).scatter(1, best, 1.0)
        return rearrange(grouped * keep.unsqueeze(-1), "m g e -> m (g e)")


class Experts(nn.Module):
    """The routed experts of one layer, stacked so that one call runs them all.

    The checkpoint stores them one by one; `checkpoint.py` stacks and unstacks.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        count, width = config.n_routed_experts, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(
            torch.empty(count, 2 * width, config.hidden_size))
        self.down_proj = nn.Parameter(torch.empty(count, config.hidden_size, width))

    def forward(self, x: Float[Tensor, "M D"], routing: Routing
                ) -> Float[Tensor, "M D"]:
        """Sort token copies by expert, run each on its slice, add up by token.

        A copy's weight goes in before `down_proj`, where rows are narrow.
        """
        chosen, copies = routing.experts.flatten(), routing.experts.shape[1]
        order = chosen.argsort(stable=True)
        ends = chosen.bincount(minlength=len(self.down_proj)).cumsum(0)
        weight = routing.weights.flatten().index_select(0, order)
        return run_experts(x, order // copies, weight, ends, self.gate_up_proj,
                           self.down_proj)


def run_experts(
    x: Float[Tensor, "M D"], token: Int[Tensor, " V"], weight: Float[Tensor, " V"],
    ends: Int[Tensor, " E"], gate_up_proj: Float[Tensor, "E two_I D"],
    down_proj: Float[Tensor, "E D I"],
) -> Float[Tensor, "M D"]:
    """What V visits add to their tokens: those of expert e are ends[e-1] .. ends[e]."""
    gate, up = grouped_linear(
        x.index_select(0, token), gate_up_proj.type_as(x), ends).chunk(2, dim=-1)
    rows = grouped_linear(F.silu(gate) * up * weight.type_as(x).unsqueeze(1),
                          down_proj.type_as(x), ends)
    return torch.zeros_like(x).index_add(0, token, rows)


def _has_kernel(x: Tensor, weight: Tensor) -> bool:
    """torch groups these types when rows fill 16 bytes, but not on old GPUs or MPS."""
    if x.dtype not in (torch.float32, torch.bfloat16) or any(
            width * x.itemsize % 16 for width in weight.shape[1:]):
        return False
    if x.is_cuda:
        return torch.cuda.get_device_capability(x.device) >= (8, 0)
    return x.device.type == "cpu"


def grouped_linear(
    x: Float[Tensor, "rows fan_in"], weight: Float[Tensor, "E out fan_in"],
    ends: Int[Tensor, " E"],
) -> Float[Tensor, "rows out"]:
    """Rows ends[e-1] .. ends[e] times the transposed matrix of expert e."""
    if _has_kernel(x, weight) and len(x) > (0 if x.is_cuda else len(weight)):
        return F.grouped_mm(x, weight.transpose(1, 2), offs=ends.int())
    # few rows, or no kernel: the experts that were chosen, one by one. `unbind` when
    # there are gradients, because each index would make one of the size of all experts
    matrices = weight.unbind() if torch.is_grad_enabled() else weight
    stops = ends.tolist()
    parts = [F.linear(x[start:stop], matrices[expert]) for expert, (start, stop)
             in enumerate(pairwise([0, *stops])) if start < stop]
    # no rows at all still have a gradient, which other processes may wait for
    return torch.cat(parts) if parts else F.linear(x, matrices[0])


class MoE(nn.Module):
    """Shared experts for every token plus the routed ones (eq. 20)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate, self.experts = Router(config), Experts(config)
        self.drop: Drop | None = None  # `balance.Dropping`, set by whoever trains
        self.shared_experts = None
        if config.n_shared_experts:
            self.shared_experts = MLP(
                config.hidden_size,
                config.n_shared_experts * config.moe_intermediate_size)

    def forward(self, x: Float[Tensor, "B T D"], seen: list[Routing] | None = None
                ) -> Float[Tensor, "B T D"]:
        """Append this layer's `Routing` to `seen` when the caller wants it."""
        flat = rearrange(x, "b t d -> (b t) d")
        routing = self.gate(flat)
        if seen is not None:
            seen.append(routing)
        if self.training and self.drop is not None:
            routing = self.drop(routing, x.shape[0])
        out = self.experts(flat, routing).view_as(x)
        return out if self.shared_experts is None else out + self.shared_experts(x)
