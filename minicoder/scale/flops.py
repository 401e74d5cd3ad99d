"""Floating-point operations of a token: a multiplication and an addition are two.

Matrices alone are counted; norms, rotations and softmax are a few thousandths.
"""

from __future__ import annotations

from minicoder.config import ModelConfig, Real


def per_layer(c: ModelConfig, moe: bool, context: int, causal: bool = True
              ) -> dict[str, Real]:
    """FLOPs of a token's forward pass through a layer, averaged over a whole context.

    `causal` counts the keys that a query sees, (context + 1) / 2 of them; without it
    all, as others count who report utilisation (arXiv 2204.02311, appendix B).
    """
    heads, keys = c.num_attention_heads, (context + 1) / 2 if causal else context
    width = heads * c.qk_head_dim
    matrices = (c.hidden_size * width if c.q_lora_rank is None
                else c.q_lora_rank * (c.hidden_size + width))
    matrices += c.hidden_size * c.cache_width
    matrices += c.kv_lora_rank * heads * (c.qk_nope_head_dim + c.v_head_dim)
    matrices += heads * c.v_head_dim * c.hidden_size
    found = {"projections": 2.0 * matrices,
             "attention": 2.0 * heads * (c.qk_head_dim + c.v_head_dim) * keys}
    if not moe:
        return found | {"dense": 6.0 * c.hidden_size * c.intermediate_size}
    expert = 6.0 * c.hidden_size * c.moe_intermediate_size
    return found | {"routed experts": expert * c.num_experts_per_tok,
                    "shared experts": expert * (c.n_shared_experts or 0),
                    "router": 2.0 * c.hidden_size * c.n_routed_experts}


def layers(c: ModelConfig, dense: int, moe: int, context: int, causal: bool = True
           ) -> dict[str, Real]:
    """FLOPs of a token's forward pass through so many layers, by part."""
    total: dict[str, Real] = {}
    for kind, count in ((False, dense), (True, moe)):
        for part, each in per_layer(c, kind, context, causal).items() if count else ():
            total[part] = total.get(part, 0.0) + count * each
    return total


def forward(c: ModelConfig, context: int, causal: bool = True) -> dict[str, Real]:
    """FLOPs of a token's forward pass, by part."""
    moe = sum(map(c.is_moe, range(c.num_hidden_layers)))
    return layers(c, c.num_hidden_layers - moe, moe, context, causal) | {
        "output matrix": 2.0 * c.hidden_size * c.vocab_size}


def training(c: ModelConfig, context: int, causal: bool = True) -> Real:
    """FLOPs of a token's step: going back takes twice what going forward does."""
    return 3 * sum(forward(c, context, causal).values())


def executed(c: ModelConfig, dense: int, moe: int, last: bool, context: int,
             tensor: int = 1, recompute: bool = False, causal: bool = True) -> Real:
    """FLOPs of a token's step in a process that has so many layers.

    Of `tensor` processes each computes its heads and widths, and what is not cut:
    latents, routers and, in the `last` stage, logits. `economy.recompute` runs both
    parts of a layer again, up to their last product.
    """
    parts = layers(c, dense, moe, context, causal)
    latents = (c.q_lora_rank or 0) + c.cache_width
    whole = 2 * c.hidden_size * latents * (dense + moe) + parts.get("router", 0)
    ahead = (sum(parts.values()) - whole) / tensor + whole
    head = 2 * c.hidden_size * c.vocab_size * last
    if not recompute:
        return 3 * (ahead + head)
    ends = (dense + moe) * c.num_attention_heads * c.v_head_dim
    ends += dense * c.intermediate_size
    ends += moe * (c.n_shared_experts or 0) * c.moe_intermediate_size
    return 3 * (ahead + head) + ahead - 2 * c.hidden_size * ends / tensor
