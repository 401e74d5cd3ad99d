"""How many numbers of a model each process of a layout holds, to the last one.

The rules are those of `parallel`: pipeline.py deals out layers, tensor.py heads and
widths, experts.py experts, and parallelize.py then cuts what is left of each weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from minicoder.config import ModelConfig
from minicoder.model.transformer import MiniCoder
from minicoder.parallel.layout import Layout
from minicoder.parallel.pipeline import layers_of, stages_at

CUT_BY_TENSOR = {"q_proj": 0, "q_b_proj": 0, "kv_b_proj": 0, "o_proj": 1,
                 "gate_proj": 0, "up_proj": 0, "down_proj": 1}  # name: dimension


@dataclass(frozen=True)
class Weight:
    """A parameter, and which unit of FSDP gathers it."""

    name: str
    shape: tuple[int, ...]

    @cached_property
    def unit(self) -> str:
        """experts, gate (the router), block, lm_head or model (embedding and norm)."""
        parts = self.name.split(".")
        if "layers" not in parts:
            return parts[0]
        return next((part for part in ("experts", "gate") if part in parts), "block")

    @cached_property
    def cut(self) -> int | None:
        """The dimension that tensor parallelism cuts; None for what stays whole."""
        return None if self.unit == "experts" else CUT_BY_TENSOR.get(
            self.name.split(".")[-2])

    @property
    def wide(self) -> bool:
        """Whether it is gathered as it is, however low the precision."""
        return self.unit in ("gate", "model")


@dataclass(frozen=True)
class Place:
    """Where a process stands on each axis."""

    stage: int
    shard: int
    tensor: int
    expert_shard: int
    expert: int

    @classmethod
    def of(cls, layout: Layout, rank: int) -> Place:
        """The place of process `rank`, as `Team`'s meshes number them."""
        inner = rank % (layout.shard * layout.tensor)
        stage = rank // (layout.readers * layout.tensor)
        return cls(stage, *divmod(inner, layout.tensor), *divmod(inner, layout.expert))


FIRST = Place(0, 0, 0, 0, 0)    # holds no less than others of its stage


@lru_cache(maxsize=8)
def kinds(config: ModelConfig) -> dict[str, tuple[Weight, ...]]:
    """The weights of a dense layer, of one with experts, and at either end."""
    first = replace(config, num_hidden_layers=2, first_k_dense_replace=1)
    found: dict[str, list[Weight]] = {"dense": [], "moe": [], "first": [], "last": []}
    for name, p in MiniCoder.outline(first).named_parameters():
        kind = ("dense" if ".layers.0." in name else "moe" if ".layers.1." in name
                else "first" if "embed" in name else "last")
        found[kind].append(Weight(name, tuple(p.shape)))
    return {kind: tuple(weights) for kind, weights in found.items()}


@dataclass(frozen=True)
class Seat:
    """What a process of the pipeline has of the model, all its stages together."""

    dense: int      # layers
    moe: int
    first: bool     # whether the embedding is here,
    last: bool      # or the output matrix

    @property
    def weights(self) -> dict[str, int]:
        """How often it has the weights of each of `kinds`."""
        return {"dense": self.dense, "moe": self.moe, "first": int(self.first),
                "last": int(self.last)}


@lru_cache(maxsize=1024)
def seat(config: ModelConfig, layout: Layout, process: int) -> Seat:
    """The seat of a process of the pipeline."""
    numbers = stages_at(layout, process)
    dealt = layers_of(config.num_hidden_layers, layout.pipeline * len(numbers))
    layers = [layer for number in numbers for layer in dealt[number]]
    moe = sum(map(config.is_moe, layers))
    return Seat(len(layers) - moe, moe, 0 in layers,
                config.num_hidden_layers - 1 in layers)


def weights_of(config: ModelConfig, here: Seat) -> list[tuple[int, Weight]]:
    """How often a process has each weight."""
    return [(count, weight) for kind, count in here.weights.items() if count
            for weight in kinds(config)[kind]]


def _chunk(size: int, parts: int, index: int) -> int:
    """The size of part `index`, as torch.chunk cuts."""
    each = -(-size // parts)
    return max(0, min(each, size - each * index))


def gathered(weight: Weight, layout: Layout, place: Place) -> list[int]:
    """The shape that a process computes with: its heads, widths or experts."""
    sizes = list(weight.shape)
    if weight.unit == "experts":
        sizes[0] = _chunk(sizes[0], layout.expert, place.expert)
    elif weight.cut is not None:
        sizes[weight.cut] = _chunk(sizes[weight.cut], layout.tensor, place.tensor)
    return sizes


def held(weight: Weight, layout: Layout, place: Place) -> int:
    """The numbers of a weight that a process stores."""
    sizes, taken = gathered(weight, layout, place), None
    if weight.unit == "experts":
        parts, index = layout.expert_shard, place.expert_shard
        taken = 0 if layout.expert > 1 else None
    else:
        parts, index = layout.shard, place.shard
        taken = weight.cut if layout.tensor > 1 else None
    even = (dim for dim, size in enumerate(weight.shape)
            if dim != taken and size % parts == 0)
    dim = next(even, 0)     # what nobody can cut evenly is cut unevenly, by its rows
    sizes[dim] = _chunk(sizes[dim], parts, index)
    return math.prod(sizes)


def holdings(config: ModelConfig, layout: Layout, rank: int) -> tuple[int, int]:
    """The numbers that process `rank` stores, and in how many tensors."""
    place = Place.of(layout, rank)
    weights = weights_of(config, seat(config, layout, place.stage))
    return (sum(count * held(weight, layout, place) for count, weight in weights),
            sum(count for count, _ in weights))
