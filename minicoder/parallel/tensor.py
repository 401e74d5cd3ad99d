"""Tensor parallelism: the heads of attention and the widths of MLPs are dealt out.

All processes of the axis hold the same tokens. A matrix that makes heads or widths is
cut by its rows, the one that reads them by its columns, and the partial results are
summed. What is no head's alone stays whole: the projections to the latents, which
cannot be cut by head, norms, routers, embedding and output matrix. Source: arXiv
1909.08053 §3, DeepSeek-V2 §2.1.
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Replicate,
    Shard,
    distribute_tensor,
)

from minicoder.model.mla import MLA
from minicoder.model.moe import MLP, MoE
from minicoder.model.rope import Rope


def entering(x: Tensor, mesh: DeviceMesh) -> Tensor:
    """x as it is. What each process's heads say of its gradient is summed."""
    whole = DTensor.from_local(x, mesh, [Replicate()], run_check=False)
    return whole.to_local(grad_placements=[Partial()])


def leaving(x: Tensor, mesh: DeviceMesh) -> Tensor:
    """The sum of all processes' parts. Its gradient is that of each part."""
    part = DTensor.from_local(x, mesh, [Partial()], run_check=False)
    return part.redistribute(placements=[Replicate()]).to_local()


def _multiply(linear: nn.Linear, x: Float[Tensor, "*batch fan_in"]
              ) -> Float[Tensor, "*batch out"]:
    return F.linear(x, linear.weight.to_local())


def _cut(linear: nn.Linear, mesh: DeviceMesh, dim: int) -> None:
    """Keep this process's rows (dim 0) or columns (dim 1)."""
    part = distribute_tensor(linear.weight.detach(), mesh, [Shard(dim)],
                             src_data_rank=None)
    linear.weight = nn.Parameter(part)
    linear.forward = partial(_multiply, linear)


def _enter_first(module: nn.Module, mesh: DeviceMesh) -> None:
    module.register_forward_pre_hook(
        lambda _, args: (entering(args[0], mesh), *args[1:]))


def _sum_after(module: nn.Module, mesh: DeviceMesh) -> None:
    module.register_forward_hook(lambda _, args, out: leaving(out, mesh))


def cut_attention(attention: MLA, mesh: DeviceMesh) -> None:
    """Each process computes its share of the heads.

    The latent and the rotary key are computed by all alike, and then read by the
    process's own heads alone: their gradient is summed where they leave the cache.
    """
    lora = attention.config.q_lora_rank is not None
    queries = attention.q_b_proj if lora else attention.q_proj
    whole = attention.to_cache

    def to_cache(x: Tensor, rope: Rope) -> Tensor:
        return entering(whole(x, rope), mesh)

    attention.to_cache = to_cache
    _enter_first(queries, mesh)
    for linear in (queries, attention.kv_b_proj):
        _cut(linear, mesh, 0)
    _cut(attention.o_proj, mesh, 1)
    _sum_after(attention.o_proj, mesh)


def cut_mlp(mlp: MLP, mesh: DeviceMesh) -> None:
    """Each process computes its share of the width."""
    _enter_first(mlp, mesh)
    _cut(mlp.gate_proj, mesh, 0)
    _cut(mlp.up_proj, mesh, 0)
    _cut(mlp.down_proj, mesh, 1)
    _sum_after(mlp.down_proj, mesh)


def cut_heads(model: nn.Module, mesh: DeviceMesh) -> None:
    """Deal out the heads and widths of all layers; works on an outline too."""
    for block in model.model.layers:
        cut_attention(block.self_attn, mesh)
        mlp = block.mlp.shared_experts if isinstance(block.mlp, MoE) else block.mlp
        if mlp is not None:
            cut_mlp(mlp, mesh)
