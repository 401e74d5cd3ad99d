"""Training on a cluster by torchtitan 0.3.0: its deepseek_v3, made a DeepSeek-V2.

    torchrun --nproc-per-node 8 -m torchtitan.train --module minicoder.scale.titan
        --config lite_16b --hf-assets-path runs/model --dataloader.dataset-path
        runs/corpus --parallelism.expert-parallel-degree 8

`--config` is a preset, or a folder with a config.json. --hf-assets-path holds the
tokenizer, and the weights to start from with --checkpoint.initial-load-in-hf;
--checkpoint.last-save-in-hf writes such weights, to be put beside a config.json.
Not done: dropping tokens, FIM, balance under tensor or context parallelism.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from minicoder.config import ModelConfig, RopeScaling, preset
from minicoder.errors import UserError
from minicoder.model import moe as ours
from minicoder.model.balance import Balance
from minicoder.model.rope import rope_table

try:
    from torchtitan.hf_datasets import text_datasets as texts
    from torchtitan.models import deepseek_v3 as v3
    from torchtitan.models.common import ComplexRoPE, RMSNorm, moe
    from torchtitan.models.deepseek_v3.config_registry import Trainer, deepseek_v3_16b
    from torchtitan.protocols.module import Module
except ImportError as error:
    raise UserError(
        f"torchtitan 0.3.0 is missing ({error}): pip install 'minicoder[titan]', and, "
        "where torch has no CUDA, pip install --no-deps triton.") from None

if not hasattr(dist, "set_timeout"):    # torchtitan follows torch's nightly builds
    dist.set_timeout = dist.distributed_c10d._set_pg_timeout
texts.DATASETS["minicoder"] = texts.DatasetConfig(  # what the stage `data` made
    "runs/corpus", lambda folder: texts.load_dataset(
        "parquet", data_files=str(Path(folder, "documents.parquet")), split="train",
        filters=[("split", "==", "train")], streaming=True), lambda row: row["text"])


class _Pull(torch.autograd.Function):
    """`weights` as they are; going back, `loss` gets the gradient 1."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, loss: Tensor) -> Tensor:
        return weights.view_as(weights)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, gradient.new_ones(())


class Router(moe.TokenChoiceTopKRouter):
    """Groups by their best expert, not their best two; balance losses, not a bias."""

    @dataclass(kw_only=True, slots=True)
    class Config(moe.TokenChoiceTopKRouter.Config):
        shape: ModelConfig
        balance: Balance | None

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config, self.balance = config.shape, config.balance
        self.rows = 1   # sequences of a whole step

    def _get_node_limited_routing_scores(self, scores: Tensor) -> Tensor:
        return ours.Router.limited(self, scores.flatten(0, 1)).view_as(scores)

    def forward(self, x: Tensor, bias: None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Weights and experts (B, T, K), and scores (B, T, E)."""
        weights, experts, scores = super().forward(x)
        if self.training and self.balance:
            flat = (each.flatten(0, 1) for each in (scores, experts, weights))
            loss = self.balance.loss(ours.Routing(*flat), len(x))
            # the gradients of a step's processes and parts are added up
            weights = _Pull.apply(weights, loss * len(x) / self.rows)
        return weights, experts, scores


class Experts(moe.GroupedExperts):
    """The routed experts in their input's type, not always bfloat16."""

    @dataclass(kw_only=True, slots=True)
    class Config(moe.GroupedExperts.Config):
        pass

    def forward(self, x: Float[Tensor, "R D"], counts: Int[Tensor, " E"]
                ) -> Float[Tensor, "R D"]:
        if x.dtype == torch.bfloat16:
            return super().forward(x, counts)
        gate, down, up = (w.to_local() if isinstance(w, DTensor) else w for w in (
            self.w1_EFD, self.w2_EDF, self.w3_EFD))
        linear = partial(ours.grouped_linear, ends=counts.cumsum(0))
        return linear(F.silu(linear(x, gate)) * linear(x, up), down)


class Rope(ComplexRoPE):
    """Our angles: torchtitan knows no gain of unequal mscales, and no "linear"."""

    @dataclass(kw_only=True, slots=True)
    class Config(ComplexRoPE.Config):
        shape: ModelConfig

    def _precompute_cache(self) -> Tensor:
        c = self.config
        return torch.complex(*rope_table(c.shape, 0, c.max_seq_len, torch.empty(0)))


def parallelize(model: nn.Module, *, parallel_dims: Any, training: Any, **more: Any
                ) -> nn.Module:
    """As torchtitan does, with `UserError` where a router sees parts of a sequence."""
    d, rows = parallel_dims, training.global_batch_size
    for router in model.modules():
        if isinstance(router, Router) and router.balance:
            if d.tp_enabled or d.cp_enabled:
                raise UserError("Balance losses are counted over whole sequences: "
                                "tensor and context parallelism must be 1 with them.")
            router.rows = rows if rows > 0 else (
                training.local_batch_size * d.dp_replicate * d.dp_shard)
    return v3.parallelize_deepseekv3(model, parallel_dims=d, training=training, **more)


def spec(c: ModelConfig, balance: Balance | None) -> v3.ModelSpec:
    """torchtitan's names for the released fields, and our parts in its places."""
    stretch = c.rope_scaling or RopeScaling(1)
    # as released: normalising replaces the scaling factor
    normed = c.norm_topk_prob and c.num_experts_per_tok > 1
    rows, width, depth = c.vocab_size, c.hidden_size, c.num_hidden_layers
    whole = v3.model_registry("16B")
    m = whole.model
    m.vocab_size, m.dim, m.norm.normalized_shape = rows, width, width
    m.tok_embeddings.num_embeddings = m.lm_head.out_features = rows
    m.tok_embeddings.embedding_dim = m.lm_head.in_features = width
    m.layers = v3._build_dsv3_layers(
        n_layers=depth, dim=width, n_heads=c.num_attention_heads,
        n_dense_layers=depth if c.n_routed_experts is None else c.first_k_dense_replace,
        q_lora_rank=c.q_lora_rank or 0, kv_lora_rank=c.kv_lora_rank,
        qk_nope_head_dim=c.qk_nope_head_dim, qk_rope_head_dim=c.qk_rope_head_dim,
        v_head_dim=c.v_head_dim, dense_hidden_dim=c.intermediate_size,
        moe_hidden_dim=c.moe_intermediate_size, num_experts=c.n_routed_experts,
        num_shared_experts=c.n_shared_experts or 0, router_score_func="softmax",
        router_top_k=c.num_experts_per_tok, router_route_norm=normed,
        router_route_scale=1.0 if normed else c.routed_scaling_factor,
        router_num_expert_groups=None if c.topk_method == "greedy" else c.n_group,
        router_num_limited_groups=c.topk_group, attn_backend="flex",
        moe_comm_backend="standard", non_blocking_capacity_factor=None,
        mscale=float(stretch.mscale_all_dim), rope=Rope.Config(
            dim=c.qk_rope_head_dim, max_seq_len=c.max_position_embeddings, shape=c,
            scaling="yarn", rope_factor=float(stretch.factor)))  # of the softmax
    for _, one, *_ in m.traverse(Module.Config, recurse=True):
        if isinstance(one, moe.MoE.Config):
            one.load_balance_coeff, inner = None, one.routed_experts  # no V3 bias
            one.router = Router.Config(**_values(one.router), shape=c, balance=balance)
            inner.inner_experts = Experts.Config(**_values(inner.inner_experts))
            one.shared_experts = one.shared_experts if c.n_shared_experts else None
        elif isinstance(one, RMSNorm.Config):
            one.eps = c.rms_norm_eps
        elif one.param_init:
            one.param_init = dict.fromkeys(
                one.param_init, partial(nn.init.normal_, std=c.initializer_range))
    return replace(whole, name="minicoder", parallelize_fn=parallelize)


def _values(config: Any) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in fields(config)}


def trainer(c: ModelConfig, balance: Balance | None, assets: str) -> Trainer.Config:
    """torchtitan's recipe of its 16B with our model; its flags change the rest."""
    recipe = deepseek_v3_16b()
    recipe.model_spec, recipe.hf_assets_path = spec(c, balance), assets
    recipe.loss.loss_fn.global_vocab_size = c.vocab_size
    recipe.training.seq_len = min(4096, c.max_position_embeddings)
    recipe.parallelism.expert_parallel_degree = 1
    recipe.dataloader.dataset = "minicoder"
    return recipe


def __getattr__(name: str) -> Callable[[], Trainer.Config]:
    """What `--config` names, with the paper's balance (V2 §3.1.2; Lite: appendix B)."""
    if name.startswith("_"):
        raise AttributeError(name)
    folder = Path(name, "config.json").exists()
    c = ModelConfig.load(Path(name)) if folder else preset(name)
    balance = Balance(0.001, 0.0, 0.0, 1, 1) if c.topk_method == "greedy" else (
        Balance(0.003, 0.05, 0.02, c.n_group, c.topk_group))
    return partial(trainer, c, balance, name if folder else "runs/model")
