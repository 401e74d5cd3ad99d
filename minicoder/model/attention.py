"""The road to MLA: attention whose keys and values are shared by groups of heads.

Source: arXiv 1706.03762 (MHA; DeepSeek-V2 eq. 1-8), 1911.02150 (MQA), 2305.13245 (GQA);
DeepSeek-V2 table 1 counts their caches. Letters: B batch, T query position, S key
position, D hidden, H query head, G group, V width of a head's values, QK of its queries
and keys, W numbers cached per token.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from minicoder.errors import UserError
from minicoder.model.rope import Rope, rotate


class GQA(nn.Module):
    """Grouped-query attention: `groups` key-value heads for `heads` query heads.

    As many groups as heads is multi-head attention (MHA), one group is multi-query
    attention (MQA). Projections are named as in Llama checkpoints; whole heads are
    rotated, in neighbouring pairs.
    """

    def __init__(self, hidden: int, heads: int, groups: int, width: int) -> None:
        super().__init__()
        if heads % groups:
            raise UserError(f"groups = {groups} must divide the {heads} heads.")
        self.groups, self.width = groups, width
        self.q_proj = nn.Linear(hidden, heads * width, bias=False)
        self.k_proj = nn.Linear(hidden, groups * width, bias=False)
        self.v_proj = nn.Linear(hidden, groups * width, bias=False)
        self.o_proj = nn.Linear(heads * width, hidden, bias=False)
        self.scale = width ** -0.5

    @property
    def cache_width(self) -> int:
        """Numbers cached per token: a key and a value for every group."""
        return 2 * self.groups * self.width

    def to_cache(self, x: Float[Tensor, "B T D"], rope: Rope) -> Float[Tensor, "B T W"]:
        """Rotated keys and values of all groups: what is cached of each token."""
        k = rearrange(self.k_proj(x), "b t (g v) -> b g t v", g=self.groups)
        k = rearrange(rotate(k, rope), "b g t v -> b t (g v)")
        return torch.cat((k, self.v_proj(x)), dim=-1)

    def forward(self, x: Float[Tensor, "B T D"], rope: Rope,
                mask: Bool[Tensor, "B T T"] | None = None) -> Float[Tensor, "B T D"]:
        """Causal attention; `mask` (true = may look) replaces the causal one."""
        return self.expanded(x, self.to_cache(x, rope), rope, mask)

    def expanded(self, x: Float[Tensor, "B T D"], cached: Float[Tensor, "B S W"],
                 rope: Rope, mask: Bool[Tensor, "B T S"] | None = None
                 ) -> Float[Tensor, "B T D"]:
        """Attend to `cached`, which already holds these T tokens at its end."""
        q = rotate(rearrange(self.q_proj(x), "b t (h v) -> b h t v", v=self.width),
                   rope)
        k, v = rearrange(cached, "b s (two g v) -> two b g s v", two=2, g=self.groups)
        out = attend(q, k, v, self.scale, mask)
        return self.o_proj(rearrange(out, "b h t v -> b t (h v)"))


def attend(q: Float[Tensor, "B H T QK"], k: Float[Tensor, "B G S QK"],
           v: Float[Tensor, "B G S V"], scale: float,
           mask: Bool[Tensor, "B T S"] | None = None) -> Float[Tensor, "B H T V"]:
    """softmax(q k^T * scale) v; without a mask, query t sees keys 0 .. S - T + t."""
    queries, keys = q.shape[2], k.shape[2]
    if mask is None and 1 < queries < keys:
        mask = causal(queries, keys, q.device)
    if mask is not None:
        mask = mask.unsqueeze(-3)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None and queries == keys,
        scale=scale, enable_gqa=q.shape[1] != k.shape[1])


def causal(queries: int, keys: int, device: torch.device) -> Bool[Tensor, "T S"]:
    """Who sees whom when the queries are the last of the keys: true = may look."""
    square = torch.ones(queries, keys, dtype=torch.bool, device=device)
    return square.tril(keys - queries)


class KVCache:
    """What attention remembers of the past: (layers, B, capacity, width) numbers.

    One allocation; it grows by doubling when more tokens come than `capacity`.
    """

    def __init__(self, like: Tensor, layers: int, batch: int, width: int,
                 capacity: int = 64) -> None:
        self.length = 0
        self.buffer = like.new_zeros((layers, batch, capacity, width))

    def append(self, layer: int, new: Float[Tensor, "B T W"]
               ) -> Float[Tensor, "B S W"]:
        """Write T tokens behind the first `length`; return all of the layer's.

        `length` is moved by the caller, when every layer has written.
        """
        stop = self.length + new.shape[1]
        if stop > self.buffer.shape[2]:
            layers, batch, capacity, width = self.buffer.shape
            grown = self.buffer.new_zeros(
                (layers, batch, max(stop, 2 * capacity), width))
            grown[:, :, :self.length] = self.buffer[:, :, :self.length]
            self.buffer = grown
        self.buffer[layer, :, self.length:stop] = new
        return self.buffer[layer, :, :stop]

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order; a row may be taken twice."""
        self.buffer = self.buffer[:, rows]
