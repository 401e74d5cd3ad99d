"""Less time or memory for the same training, from outside of the model.

Each function changes how the parts of a model are called; parameters stay what and
where they are, so that checkpoints do not know of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from minicoder.errors import UserError
from minicoder.model.moe import Experts, Router, Routing
from minicoder.model.transformer import MiniCoder

Precision = Literal["float32", "bfloat16"]


def parts(model: MiniCoder) -> Iterator[nn.Module]:
    """The attention and the feed-forward of every block."""
    for block in model.model.layers:
        yield block.self_attn
        yield block.mlp


def lower(model: MiniCoder, device: torch.device | None = None) -> None:
    """Multiply matrices in bfloat16; weights, residuals and the router stay float32.

    `device` is where an outline will run. Raises `UserError` on a GPU that has no
    bfloat16.
    """
    device = device or next(model.parameters()).device
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        raise UserError("--precision bfloat16: this GPU has none; use float32.")
    for part in (*parts(model), model.lm_head):
        part.forward = torch.autocast(device.type, torch.bfloat16)(part.forward)
    for module in model.modules():
        if isinstance(module, Router):  # in bfloat16 scores tie, and ties go by index
            module.forward = torch.autocast(device.type, enabled=False)(module.forward)
        if isinstance(module, Experts):
            module.forward = partial(_low_experts, module.forward)


def _low_experts(run: Callable[[Tensor, Routing], Tensor], x: Float[Tensor, "M D"],
                 routing: Routing) -> Float[Tensor, "M D"]:
    """Grouped products are unknown to autocast; experts are cast as their input is."""
    return run(x.bfloat16(), routing)


def recompute(model: MiniCoder) -> None:
    """Forget what attention and feed-forward compute, and do it again going back.

    Of each only the input is kept, for about a third more time.
    """
    for part in parts(model):
        part.forward = partial(checkpoint, part.forward, use_reentrant=False)


def compile_parts(model: MiniCoder) -> None:
    """Compile attention and feed-forward; blocks of one kind share the code.

    Routed experts stay as they are: torch 2.13 refuses to trace a grouped product in
    float32, which it runs.
    """
    for module in model.modules():
        if isinstance(module, Experts):
            module.forward = torch.compiler.disable(module.forward)
    for part in parts(model):
        part.compile()


def prepare(model: MiniCoder, precision: Precision = "float32",
            recomputed: bool = False, compiled: bool = False,
            device: torch.device | None = None) -> None:
    """All that is asked for, in the one order that works."""
    if precision not in ("float32", "bfloat16"):
        raise UserError(f"--precision {precision}: choose float32 or bfloat16.")
    if precision == "bfloat16":
        lower(model, device)
    if recomputed:
        recompute(model)
    if compiled:
        compile_parts(model)
