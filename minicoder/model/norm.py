"""RMSNorm as the released model computes it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / rms(x) * weight (arXiv 1910.07467); the quotient in float32 or wider."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = (wide * wide).sum(-1, keepdim=True) / x.shape[-1]
        return self.weight * (wide * (mean + self.eps).rsqrt()).type_as(x)
