"""Small models whose weights matter: attention is not flat and no two experts tie."""

from dataclasses import replace

import torch
from torch import Tensor

from minicoder.config import ModelConfig, RopeScaling
from minicoder.model.moe import Routing
from minicoder.model.transformer import MiniCoder

# every width differs from its neighbours, so that a swap cannot go unnoticed
LITE = ModelConfig(
    vocab_size=101, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
    kv_lora_rank=16, qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=10,
    intermediate_size=40, moe_intermediate_size=24, n_routed_experts=8,
    num_experts_per_tok=3, n_shared_experts=2, max_position_embeddings=256)
FULL = replace(
    LITE, q_lora_rank=28, topk_method="group_limited_greedy", n_group=4, topk_group=2,
    routed_scaling_factor=16.0)
SHAPES = {"lite": LITE, "full": FULL}
# a window so short that positions of a test reach every pair's blend
YARN = RopeScaling(factor=40, original_max_position_embeddings=64,
                   mscale=0.707, mscale_all_dim=0.707)


def wider(config: ModelConfig) -> ModelConfig:
    """The same architecture, about ten times as many parameters."""
    return replace(
        config, vocab_size=300, hidden_size=96, num_hidden_layers=4,
        num_attention_heads=6, kv_lora_rank=48, qk_nope_head_dim=24,
        qk_rope_head_dim=16, v_head_dim=20, intermediate_size=160,
        moe_intermediate_size=40, n_routed_experts=16, num_experts_per_tok=4,
        q_lora_rank=config.q_lora_rank and 56)


def random_model(config: ModelConfig, dtype: torch.dtype = torch.float64, seed: int = 0
                 ) -> MiniCoder:
    """Random weights that keep activations near 1 and make routers take sides.

    The usual standard deviation of 0.02 would hide most mistakes: near-uniform
    attention and routing hardly depend on what they are given.
    """
    generator = torch.Generator().manual_seed(seed)
    model = MiniCoder(config).to(torch.float64)
    for weight in model.parameters():
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        norm = weight.dim() == 1
        weight.data = 1 + 0.3 * noise if norm else noise / weight.shape[-1] ** 0.5
    return model.to(dtype).eval()


def random_tokens(config: ModelConfig, batch: int, length: int, seed: int = 1
                  ) -> Tensor:
    """Tokens to read, (batch, length)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (batch, length), generator=generator)


def closest_call(config: ModelConfig, seen: list[Routing]) -> float:
    """How near any routing decision was to going the other way."""
    gaps = []
    for routing in seen:
        scores, kept = routing.scores, config.n_group
        if config.topk_method == "group_limited_greedy":
            groups = scores.view(len(scores), kept, -1)
            best = groups.amax(-1).sort(descending=True).values
            gaps.append(best[:, config.topk_group - 1] - best[:, config.topk_group])
            keep = groups.amax(-1, keepdim=True) >= best[:, config.topk_group - 1,
                                                         None, None]
            scores = (groups * keep).flatten(1)
        ranked = scores.sort(descending=True).values
        gaps.append(ranked[:, config.num_experts_per_tok - 1]
                    - ranked[:, config.num_experts_per_tok])
    return min(gap.min().item() for gap in gaps)
