"""Multi-head Latent Attention: cache one latent and one rotary key for all heads.

Source: DeepSeek-V2 §2.1 (eq. 9-19) and appendix C (eq. 37-47). Letters: B batch, T
query position, S key position, D hidden, H head, N content (nope) width, R rotary
width, QK both, L latent, LR the two that are cached, V value width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from minicoder.config import ModelConfig
from minicoder.model.attention import KVCache, attend, causal
from minicoder.model.norm import RMSNorm
from minicoder.model.rope import Rope, rotate, softmax_scale


class MLA(nn.Module):
    """Attention with a compressed key-value latent and a decoupled rotary key.

    `forward` expands the latent to keys and values of every head (training, prefill);
    `absorbed` never leaves the latent space (decoding). Both give the same result.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c, self.config = config, config
        eps, width = c.rms_norm_eps, c.num_attention_heads * c.qk_head_dim
        if c.q_lora_rank is None:
            self.q_proj = nn.Linear(c.hidden_size, width, bias=False)
        else:
            self.q_a_proj = nn.Linear(c.hidden_size, c.q_lora_rank, bias=False)
            self.q_a_layernorm = RMSNorm(c.q_lora_rank, eps)
            self.q_b_proj = nn.Linear(c.q_lora_rank, width, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(c.hidden_size, c.cache_width, bias=False)
        self.kv_a_layernorm = RMSNorm(c.kv_lora_rank, eps)
        self.kv_b_proj = nn.Linear(
            c.kv_lora_rank,
            c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim), bias=False)
        self.o_proj = nn.Linear(
            c.num_attention_heads * c.v_head_dim, c.hidden_size, bias=False)
        self.scale = softmax_scale(c)

    def queries(self, x: Float[Tensor, "B T D"], rope: Rope
                ) -> tuple[Float[Tensor, "B H T N"], Float[Tensor, "B H T R"]]:
        """q^C = W^UQ c^Q and q^R = RoPE(W^QR c^Q), with c^Q = h when uncompressed.

        Eq. 37-40.
        """
        if self.config.q_lora_rank is None:
            q = self.q_proj(x)
        else:
            q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        q = rearrange(q, "b t (h d) -> b h t d", d=self.config.qk_head_dim)
        content, rotary = q.split(
            [self.config.qk_nope_head_dim, self.config.qk_rope_head_dim], dim=-1)
        return content, rotate(rotary, rope)

    def to_cache(self, x: Float[Tensor, "B T D"], rope: Rope
                 ) -> Float[Tensor, "B T LR"]:
        """[c^KV = norm(W^DKV h) ; k^R = RoPE(W^KR h)]: all that is ever cached.

        Eq. 41 and 43.
        """
        content, rotary = self.kv_a_proj_with_mqa(x).split(
            [self.config.kv_lora_rank, self.config.qk_rope_head_dim], dim=-1)
        return torch.cat((self.kv_a_layernorm(content), rotate(rotary, rope)), dim=-1)

    def forward(self, x: Float[Tensor, "B T D"], rope: Rope,
                mask: Bool[Tensor, "B T T"] | None = None) -> Float[Tensor, "B T D"]:
        """Causal attention; `mask` (true = may look) replaces the causal one."""
        return self.expanded(x, self.to_cache(x, rope), rope, mask)

    def heads(self, x: Float[Tensor, "B T D"], cached: Float[Tensor, "B S LR"],
              rope: Rope) -> tuple[
                  Float[Tensor, "B H T QK"], Float[Tensor, "B H S QK"],
                  Float[Tensor, "B H S V"]]:
        """Queries of x, and each head's own keys and values of `cached` (eq. 42-45)."""
        c = self.config
        content, rotary = cached.split([c.kv_lora_rank, c.qk_rope_head_dim], dim=-1)
        kv = rearrange(self.kv_b_proj(content), "b s (h d) -> b h s d",
                       d=c.qk_nope_head_dim + c.v_head_dim)
        k, v = kv.split([c.qk_nope_head_dim, c.v_head_dim], dim=-1)
        rotary = rotary.unsqueeze(1).expand(-1, kv.shape[1], -1, -1)
        k = torch.cat((k, rotary), dim=-1)
        return torch.cat(self.queries(x, rope), dim=-1), k, v

    def expanded(self, x: Float[Tensor, "B T D"], cached: Float[Tensor, "B S LR"],
                 rope: Rope, mask: Bool[Tensor, "B T S"] | None = None
                 ) -> Float[Tensor, "B T D"]:
        """Attend after giving every head its own keys and values (eq. 42-47).

        `cached` already holds these T tokens at its end.
        """
        c = self.config
        q, k, v = self.heads(x, cached, rope)
        # fast kernels want values as wide as keys: pad with zeros, drop them after
        v = F.pad(v, (0, c.qk_head_dim - c.v_head_dim))
        out = attend(q, k, v, self.scale, mask)[..., :c.v_head_dim]
        return self.o_proj(rearrange(out, "b h t v -> b t (h v)"))

    def absorbed(self, x: Float[Tensor, "B T D"], cached: Float[Tensor, "B S LR"],
                 rope: Rope, mask: Bool[Tensor, "B T S"] | None = None
                 ) -> Float[Tensor, "B T D"]:
        """Attend to `cached` without ever expanding it; for one or a few tokens.

        W^UK moves to the query side and W^UV behind the softmax (§2.1.2), so all heads
        read the same S rows: heads become rows of one query matrix.
        """
        c = self.config
        up = rearrange(self.kv_b_proj.weight, "(h d) l -> h d l",
                       h=c.num_attention_heads)
        up_k, up_v = up.split([c.qk_nope_head_dim, c.v_head_dim], dim=1)
        content, rotary = self.queries(x, rope)
        content = torch.einsum("bhtn,hnl->bhtl", content, up_k)
        q = rearrange(torch.cat((content, rotary), dim=-1), "b h t l -> b 1 (t h) l")
        if mask is None and x.shape[1] > 1:
            mask = causal(x.shape[1], cached.shape[1], x.device).expand(len(x), -1, -1)
        if mask is not None:
            mask = mask.repeat_interleave(c.num_attention_heads, dim=1).unsqueeze(1)
        keys = cached.unsqueeze(1)
        out = F.scaled_dot_product_attention(q, keys, keys, mask, scale=self.scale)
        out = rearrange(out[..., :c.kv_lora_rank], "b 1 (t h) l -> b t h l",
                        h=c.num_attention_heads)
        out = torch.einsum("bthl,hvl->bthv", out, up_v)
        return self.o_proj(rearrange(out, "b t h v -> b t (h v)"))


class LatentCache(KVCache):
    """MLA's cache: one latent and one rotary key a token and layer, no heads in it."""

    def __init__(self, config: ModelConfig, like: Tensor, batch: int,
                 capacity: int = 64) -> None:
        super().__init__(like, config.num_hidden_layers, batch, config.cache_width,
                         capacity)
