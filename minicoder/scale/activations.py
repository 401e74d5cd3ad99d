"""Bytes that a token leaves in memory until the backward pass has used them.

What autograd keeps of each module, tensor by tensor, as the model is written: residuals
and quotients in float32, matrices' inputs in the precision that multiplies them. Loads
are taken as even: an expert that many choose needs more.
"""

from __future__ import annotations

from dataclasses import dataclass

from minicoder.config import ModelConfig, Real
from minicoder.parallel.layout import Layout

WIDE, INDEX = 4, 8      # bytes of a float32 and of an index


@dataclass(frozen=True)
class Keeping:
    """Counts for a model of `config` that multiplies numbers of `low` bytes.

    `copies` is how many processes a token is sent to on average, 0 without expert
    parallelism.
    """

    config: ModelConfig
    layout: Layout
    low: int
    copies: Real

    @property
    def norm(self) -> Real:
        """x, 1 / rms, and their product."""
        return 2 * WIDE * self.config.hidden_size + WIDE

    def inputs(self, matrices: int) -> Real:
        """A norm's output, read by `matrices`; each casts it for itself."""
        copies = matrices if self.low < WIDE else 1
        return copies * self.low * self.config.hidden_size

    @property
    def attention(self) -> Real:
        """Latents, queries, keys and values of this process's heads, outputs."""
        c, low = self.config, self.low
        heads = c.num_attention_heads / self.layout.tensor
        kept = self.inputs(2)
        kept += WIDE * (c.kv_lora_rank + 1) + low * c.kv_lora_rank + low * c.cache_width
        if low == WIDE:     # the quotient's numerator is a view of both
            kept += WIDE * c.qk_rope_head_dim
        if c.q_lora_rank is not None:
            kept += WIDE * (c.q_lora_rank + 1) + 2 * low * c.q_lora_rank
        kept += heads * (4 * low * c.qk_head_dim + WIDE)    # q, k, padded v, out
        return kept + heads * low * c.v_head_dim            # what o_proj reads

    def mlp(self, width: int) -> Real:
        """gate, silu(gate), up and their product."""
        return self.inputs(2) + 4 * self.low * width / self.layout.tensor

    @property
    def moe(self) -> Real:
        """Router, visits of the routed experts, and the shared ones."""
        c, low, k = self.config, self.low, self.config.num_experts_per_tok
        kept: Real = WIDE * c.n_routed_experts + INDEX * k
        if low < WIDE:      # else the shared experts read it too
            kept += WIDE * c.hidden_size
        if c.topk_method == "group_limited_greedy":
            kept += 2 * WIDE * c.n_group + INDEX * c.topk_group
        width = c.moe_intermediate_size
        # order and token; row in and out; gate, up, silu, two products; weight
        visit = 2 * INDEX + low * (2 * c.hidden_size + 5 * width + 1)
        sent = self.copies * (low * c.hidden_size + INDEX * (1 + k))
        kept += (k * visit + sent) / self.layout.tensor
        if c.n_shared_experts:
            return kept + self.mlp(c.n_shared_experts * width)
        return kept + (self.inputs(1) if low == WIDE else 0)

    def feed(self, moe: bool) -> Real:
        """The feed-forward of a layer."""
        return self.moe if moe else self.mlp(self.config.intermediate_size)

    def layer(self, moe: bool, recompute: bool) -> Real:
        """All of a layer; when it is computed again, the inputs of its two parts."""
        if recompute:
            return 2 * (self.norm + WIDE * self.config.hidden_size)
        return 2 * self.norm + self.attention + self.feed(moe)

    def part(self, moe: bool) -> Real:
        """The larger part of a layer."""
        return max(self.attention, self.feed(moe))

    @property
    def head(self) -> Real:
        """Last norm, input of the output matrix, logarithms of all probabilities."""
        c = self.config
        return (self.norm + self.low * c.hidden_size + WIDE * c.vocab_size
                + 2 * INDEX + 1)

    @property
    def logits(self) -> Real:
        """What the loss needs beside that for a moment: logits, or their gradients."""
        low = self.low if self.low < WIDE else 0
        return (WIDE + low) * self.config.vocab_size
