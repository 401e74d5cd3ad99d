"""The whole model: the file to show on a slide. Source: DeepSeek-V2 §2 and §3.1.2."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minicoder.config import ModelConfig
from minicoder.model.checkpoint import Pretrained
from minicoder.model.documents import Documents
from minicoder.model.mla import MLA, LatentCache
from minicoder.model.moe import MLP, Experts, MoE, Router, Routing
from minicoder.model.norm import RMSNorm
from minicoder.model.rope import Rope, rope_table

Attend = Callable[[int, MLA, Tensor], Tensor]
Method = Callable[[MLA, Tensor, Tensor, Rope, Tensor | None], Tensor]


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = MLA(config)
        self.mlp = (MoE(config) if config.is_moe(layer)
                    else MLP(config.hidden_size, config.intermediate_size))
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Float[Tensor, "B T D"],
                attend: Callable[[MLA, Tensor], Tensor],
                feed: Callable[[nn.Module, Tensor], Tensor]) -> Float[Tensor, "B T D"]:
        """`attend` and `feed` are how to call the two parts."""
        x = x + attend(self.self_attn, self.input_layernorm(x))
        return x + feed(self.mlp, self.post_attention_layernorm(x))


class Transformer(nn.Module):
    """Embedding, blocks and final norm: tokens to hidden states."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def run(self, tokens: Int[Tensor, "B T"], attend: Attend,
            seen: list[Routing] | None = None) -> Float[Tensor, "B T D"]:
        """All blocks, with `attend(layer, attention, x)` as the way to attend."""
        def feed(mlp: nn.Module, x: Tensor) -> Tensor:
            return mlp(x, seen) if isinstance(mlp, MoE) else mlp(x)

        x = self.embed_tokens(tokens)
        for layer, block in enumerate(self.layers):
            x = block(x, partial(attend, layer), feed)
        return self.norm(x)

    def forward(self, tokens: Int[Tensor, "B T"], seen: list[Routing] | None = None
                ) -> Float[Tensor, "B T D"]:
        """Hidden states of whole sequences, causal; `seen` collects the routing."""
        rope = rope_table(self.config, 0, tokens.shape[1], self.norm.weight)
        return self.run(tokens, lambda layer, attention, x: attention(x, rope), seen)

    def packed(self, tokens: Int[Tensor, "B T"], documents: Documents,
               seen: list[Routing] | None = None) -> Float[Tensor, "B T D"]:
        """The same for rows of several documents, each of which sees itself alone.

        Every document counts its positions from 0, which changes nothing: RoPE makes
        attention depend on distances.
        """
        rope = rope_table(self.config, 0, tokens.shape[1], self.norm.weight)

        def attend(layer: int, attention: MLA, x: Tensor) -> Tensor:
            flat = x.flatten(0, 1)
            out = [attention(flat[part], tuple(t[:part.shape[1]] for t in rope))
                   for part in documents.parts]
            return torch.cat([o.flatten(0, 1) for o in out])[documents.back].view_as(x)

        return self.run(tokens, attend, seen)

    def prefill(self, tokens: Int[Tensor, "B T"], cache: LatentCache,
                mask: Bool[Tensor, "B T S"] | None = None) -> Float[Tensor, "B T D"]:
        """Hidden states of many next tokens, through keys and values of every head.

        Leaves their latents in `cache`; a long text may come in several calls.
        """
        return self._append(tokens, cache, MLA.expanded, mask)

    def decode(self, tokens: Int[Tensor, "B T"], cache: LatentCache,
               mask: Bool[Tensor, "B T S"] | None = None) -> Float[Tensor, "B T D"]:
        """The same for one or a few tokens, through the latents alone."""
        return self._append(tokens, cache, MLA.absorbed, mask)

    def _append(self, tokens: Int[Tensor, "B T"], cache: LatentCache,
                method: Method, mask: Bool[Tensor, "B T S"] | None
                ) -> Float[Tensor, "B T D"]:
        start, stop = cache.length, cache.length + tokens.shape[1]
        rope = rope_table(self.config, start, stop, self.norm.weight)

        def attend(layer: int, attention: MLA, x: Tensor) -> Tensor:
            cached = cache.append(layer, attention.to_cache(x, rope))
            return method(attention, x, cached, rope, mask)

        hidden = self.run(tokens, attend)
        cache.length = stop
        return hidden


class MiniCoder(Pretrained):
    """The language model: hidden states times the output matrix."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        # rows of the output matrix that stand for a token; the rest pad it to a round
        # number and are never generated
        self.known = config.vocab_size
        self.model = Transformer(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.apply(self._initialise)

    @staticmethod
    def is_drawn(module: nn.Module) -> bool:
        """Whether the parameters of a module begin as random numbers."""
        return isinstance(module, nn.Linear | nn.Embedding | Router | Experts)

    def _initialise(self, module: nn.Module) -> None:
        """Normal weights of standard deviation `initializer_range`; norms stay 1."""
        if self.is_drawn(module):
            for parameter in module.parameters(recurse=False):
                nn.init.normal_(parameter, std=self.config.initializer_range)

    def forward(self, tokens: Int[Tensor, "B T"], seen: list[Routing] | None = None
                ) -> Float[Tensor, "B T vocab"]:
        """Logits of the next token at every position."""
        return self.lm_head(self.model(tokens, seen))
