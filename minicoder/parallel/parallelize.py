"""A model made to run on a team, in place and from outside: all axes but the pipeline.

In the one order that works: heads dealt out (tensor), experts dealt out (expert),
recomputation and compiling, and last each weight (shard, replicate). Parameters keep
their names and become DTensors, which know what of them lies here.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, Shard

from minicoder.model.moe import MoE
from minicoder.parallel.economy import Precision, prepare
from minicoder.parallel.experts import spread_experts
from minicoder.parallel.layout import Team
from minicoder.parallel.tensor import cut_heads


def parallelize(model: nn.Module, team: Team, precision: Precision = "float32",
                recomputed: bool = False, compiled: bool = False) -> None:
    """Deal a MiniCoder, or a stage of one, out to the team; an outline too.

    Gradients become those of the mean over all readers' losses.
    Raises `UserError` when the model cannot be dealt out like this.
    """
    if team.dense is None:
        prepare(model, precision, recomputed, compiled)
        return
    team.layout.check(model.config)
    if team.layout.tensor > 1:
        cut_heads(model, team.dense["tensor"])
    spread_experts(model, team)
    prepare(model, precision, recomputed, compiled, team.device)
    shard(model, team, torch.bfloat16 if precision == "bfloat16" else None)


def shard(model: nn.Module, team: Team, low: torch.dtype | None) -> None:
    """FSDP2: each weight lies in parts, and is gathered in `low` when it is needed.

    Embedding, last norm and routers are gathered as they are: so is the residual, and
    with scores in bfloat16 experts would tie.
    """
    copies = ("replicate",) if team.layout.replicate > 1 else ()
    dense, sparse = team.dense[*copies, "shard"], team.sparse[*copies, "expert_shard"]
    for block in model.model.layers:
        if isinstance(block.mlp, MoE):
            _shard(block.mlp.experts, sparse, team, low)
            if low:
                _shard(block.mlp.gate, dense, team, None)
        _shard(block, dense, team, low)
    if any(True for _ in model.lm_head.parameters()):
        _shard(model.lm_head, dense, team, low)
    _shard(model.model, dense, team, None)
    for method in ("packed", "prefill", "decode"):
        register_fsdp_forward_method(model.model, method)


def _shard(module: nn.Module, mesh: DeviceMesh, team: Team, low: torch.dtype | None
           ) -> None:
    """One unit of FSDP2, whose gradients are the means over the readers."""
    policy = MixedPrecisionPolicy(low, low and torch.float32,
                                  cast_forward_inputs=False)
    fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=policy,
                shard_placement_fn=partial(_even, parts=mesh.size(-1)))
    if mesh.size() != team.layout.readers:  # experts see other processes' tokens too
        # torch 2.13 divides twice where there is one process to scatter to
        twice = 1 if mesh.size(-1) > 1 else 0.5
        module.set_gradient_divide_factor(team.layout.readers ** twice)
        module.set_force_sum_reduction_for_comms(True)  # all that gloo knows


def _even(p: nn.Parameter, parts: int) -> Shard | None:
    """The first dimension that is free and can be cut evenly.

    160 experts over 2,048 processes would be padded to 2,048 experts.
    """
    taken = {place.dim for place in p.placements if place.is_shard()} if isinstance(
        p, DTensor) else set()
    for dim, size in enumerate(p.shape):
        if dim not in taken and size % parts == 0:
            return Shard(dim)
    return None


def clip(model: nn.Module, limit: float, team: Team) -> Float[Tensor, ""]:
    """Shorten the whole gradient to the norm `limit`; give the norm that it had.

    As `nn.utils.clip_grad_norm_` of one process, over all stages and processes.
    """
    if team.dense is None:
        return nn.utils.clip_grad_norm_(model.parameters(), limit)
    meshes: dict[DeviceMesh, list[nn.Parameter]] = defaultdict(list)
    for p in model.parameters():
        if p.grad is not None:
            meshes[p.device_mesh].append(p)
    squares = torch.zeros((), device=team.device)
    for mesh, group in meshes.items():
        square = nn.utils.get_total_norm([p.grad.to_local() for p in group]) ** 2
        for axis, place in enumerate(group[0].placements):
            if not place.is_replicate():
                dist.all_reduce(square, group=mesh.get_group(axis))
        squares = squares + square
    if team.layout.pipeline > 1:
        dist.all_reduce(squares, group=team.dense.get_group("pipeline"))
    norm = squares.sqrt()
    for group in meshes.values():   # torch scales gradients of one mesh at a time
        nn.utils.clip_grads_with_norm_(group, limit, norm)
    return norm
