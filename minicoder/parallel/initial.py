"""First weights that are those of one process, to the bit, where nobody holds them all.

Each process draws every number, in the order of `MiniCoder(config)`, and keeps its own
part: the memory of one block, and the time of drawing all of them, twice (torch's
layers draw a first time what is then drawn anew).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from minicoder.config import ModelConfig
from minicoder.model.checkpoint import own_part
from minicoder.model.transformer import Block, MiniCoder


def drawn(config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    """Names and first weights of all parameters, from torch's generator."""
    torch.nn.Embedding(config.vocab_size, config.hidden_size)
    for layer in range(config.num_hidden_layers):
        Block(config, layer)
    torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
    outline = MiniCoder.outline(config)
    ones = dict(outline.named_parameters())
    for name, tensor in _in_order(outline):
        ones.pop(name)
        yield name, nn.init.normal_(torch.empty(tensor.shape),
                                    std=config.initializer_range)
    for name, tensor in ones.items():   # the gains of norms
        yield name, torch.ones(tensor.shape)


def _in_order(outline: MiniCoder) -> Iterator[tuple[str, Tensor]]:
    """The parameters that are drawn, in the order of `nn.Module.apply`."""
    def visit(prefix: str, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
        for name, child in module.named_children():
            yield from visit(f"{prefix}{name}.", child)
        if outline.is_drawn(module):
            for name, tensor in module.named_parameters(recurse=False):
                yield prefix + name, tensor

    yield from visit("", outline)


def draw_into(parts: Iterable[nn.Module], config: ModelConfig) -> None:
    """Fill the shards that this process holds, of a model or of its stages."""
    own = {name: tensor for part in parts for name, tensor in part.state_dict().items()}
    for name, tensor in drawn(config):
        if name in own:
            local, start = own_part(own[name])
            index = tuple(slice(low, low + size) for low, size in zip(
                start, local.shape, strict=True))
            local.copy_(tensor[index])
