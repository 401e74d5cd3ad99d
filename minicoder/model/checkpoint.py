"""Checkpoints in the released layout, both ways: what transformers opens and writes.

A folder with config.json, generation_config.json and weights in safetensors, in one
file or in shards with an index. The experts that `moe.py` stacks are stored one by one.
A model is filled only after every name and shape has been compared. `Pretrained` gives
`MiniCoder` these methods, so that `transformer.py` holds the model and nothing else.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.overrides import TorchFunctionMode

from minicoder.config import ModelConfig, parameter_count
from minicoder.errors import UserError
from minicoder.model.weights import INDEX, WEIGHTS, Stored, read_weights, write_weights
from minicoder.stages import read_json, sync
from minicoder.tokenizer import Tokenizer

UNFINISHED = "unfinished"
SHARD_BYTES = 2**33  # as the released shards: 8.59 GB


class _Unfilled(TorchFunctionMode):
    """Skip torch.nn.init: on the meta device it fills nothing and takes seconds."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return (kwargs or {}).get("tensor")
        return func(*args, **(kwargs or {}))


Block = tuple[int | slice, ...]  # an index into a parameter


def blocks(name: str, shape: torch.Size) -> Iterator[tuple[str, Block]]:
    """The names in the checkpoint, and which block of a parameter each one fills."""
    prefix, _, kind = name.rpartition(".")
    if not prefix.endswith(".experts"):
        yield name, ()
        return
    for expert in range(shape[0]):
        if kind == "down_proj":
            yield f"{prefix}.{expert}.down_proj.weight", (expert,)
        else:
            half = shape[1] // 2
            yield f"{prefix}.{expert}.gate_proj.weight", (expert, slice(0, half))
            yield f"{prefix}.{expert}.up_proj.weight", (expert, slice(half, 2 * half))


def released(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The name in the checkpoint and a view into the model, for every tensor."""
    for name, tensor in model.state_dict().items():
        for stored, block in blocks(name, tensor.shape):
            yield stored, tensor[block]


def fill(model: nn.Module, stored: dict[str, Stored]) -> int:
    """Copy the stored numbers that this process holds, and return how many they are.

    The files are mapped, and of a DTensor this process copies its own shard alone.
    """
    count = 0
    for name, tensor in model.state_dict().items():
        local, start = own_part(tensor)
        for released_name, block in blocks(name, tensor.shape):
            if (both := overlap(local.shape, start, block, tensor.shape)) is None:
                continue
            entry = stored[released_name]
            target, source = local[both[0]], entry.tensor()[both[1]]
            if not all(edge.isfinite() for edge in source.aminmax()):
                raise UserError(
                    f"{entry.path}: {released_name} holds infinities or NaN.")
            target.copy_(source)
            count += target.numel()
    return count


def own_part(tensor: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """What this process holds of a parameter, and at which index it begins there."""
    if not isinstance(tensor, DTensor):
        return tensor, (0,) * tensor.ndim
    from torch.distributed.tensor._utils import (
        compute_local_shape_and_global_offset,  # private: only who shards needs it
    )

    _, start = compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements)
    return tensor.to_local(), tuple(start)


def overlap(shape: torch.Size, start: Sequence[int], block: Block, whole: torch.Size
            ) -> tuple[Block, Block] | None:
    """Where a shard and a block meet: as an index of the shard and one of the block.

    The shard of `shape` begins at `start` of the `whole` parameter.
    """
    local: list[int | slice] = []
    inner: list[int | slice] = []
    for dim, (size, low) in enumerate(zip(shape, start, strict=True)):
        part = block[dim] if dim < len(block) else slice(0, whole[dim])
        first, last = (part, part + 1) if isinstance(part, int) else (
            part.start, part.stop)
        begin, end = max(first, low), min(last, low + size)
        if begin >= end:
            return None
        if isinstance(part, int):
            local.append(begin - low)
        else:
            local.append(slice(begin - low, end - low))
            inner.append(slice(begin - first, end - first))
    return tuple(local), tuple(inner)


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A folder aside, whose files are flushed and then take the place of older ones."""
    aside = folder / UNFINISHED
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        for path in aside.iterdir():
            sync(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    written = {path.name for path in aside.iterdir()}
    for name in sorted(written):
        os.replace(aside / name, folder / name)
    shards = folder.glob("model-*.safetensors")
    for old in {folder / INDEX, folder / WEIGHTS, *shards}:
        if old.name not in written:
            old.unlink(missing_ok=True)
    aside.rmdir()
    sync(folder)


def check_tokenizer(tokenizer: Tokenizer | None, config: ModelConfig) -> None:
    """Raise `UserError` when the tokenizer has more tokens than the model."""
    if tokenizer and tokenizer.vocab_size > config.vocab_size:
        raise UserError(f"The tokenizer has {tokenizer.vocab_size} tokens, and the "
                        f"model's vocab_size is {config.vocab_size}.")


def write_configs(model: Pretrained, folder: Path, tokenizer: Tokenizer | None
                  ) -> None:
    """Write config.json and generation_config.json."""
    ids = {"bos_token_id": tokenizer and tokenizer.bos,
           "eos_token_id": tokenizer and tokenizer.eos}
    dtype = str(model.lm_head.weight.dtype).removeprefix("torch.")
    # the sampling of the V2 files; that of the Coder-V2 file is unverified
    sampling = {"do_sample": True, "temperature": 0.3, "top_p": 0.95}
    for name, values in {
        "config.json": model.config.to_json() | ids | {"torch_dtype": dtype},
        "generation_config.json": ids | sampling,
    }.items():
        (folder / name).write_text(json.dumps(values, indent=2) + "\n")


def _refuse_giants(config: ModelConfig, stored: dict[str, Stored], folder: Path
                   ) -> None:
    """Stop a configuration whose mere outline would fill the memory."""
    size = sum(math.prod(entry.shape) for entry in stored.values())
    if (max(config.num_hidden_layers, config.n_routed_experts or 0) > len(stored)
            or parameter_count(config) > 1000 * size):
        raise UserError(f"{folder / 'config.json'} describes a far larger model than "
                        f"the {len(stored)} tensors with {size} numbers beside it.")


def _compare(folder: Path, stored: dict[str, Stored],
             expected: dict[str, tuple[int, ...]]) -> None:
    """Raise one `UserError` that lists what is missing, extra and mis-shaped."""
    shapes = {name: entry.shape for name, entry in stored.items()}
    kinds = (
        [f"{name} is missing" for name in expected.keys() - shapes.keys()],
        [f"{name} is not in such a model" for name in shapes.keys() - expected.keys()],
        [f"{name} has shape {shapes[name]} and should have {shape}"
         for name, shape in expected.items() if shapes.get(name, shape) != shape])
    if not any(kinds):
        return
    lines = [line for kind in kinds for line in sorted(kind)[:3]
             + [f"... and {len(kind) - 3} more of these"] * (len(kind) > 3)]
    raise UserError(f"{folder} does not hold the model of its config.json, "
                    f"{sum(map(len, kinds))} tensors differ:\n  " + "\n  ".join(lines))


class Pretrained(nn.Module):
    """A model that a folder holds; `cls(config)` builds one."""

    config: ModelConfig

    @classmethod
    def outline(cls, config: ModelConfig) -> Pretrained:
        """A model of names and shapes only, on the meta device: any size fits."""
        with torch.device("meta"), _Unfilled():
            return cls(config)

    @classmethod
    def from_pretrained(cls, folder: Path, device: torch.device | str = "cpu",
                        dtype: torch.dtype | None = None,
                        parallelize: Callable[[nn.Module], nn.Module | None] | None
                        = None                        ) -> Pretrained:
        """Open a checkpoint: ours, transformers', or a released one.

        `dtype` converts; without it the widest stored type is kept. Needs the memory of
        the model and of one tensor. `parallelize` may shard the outline in place, over
        a device mesh (FSDP2, DTensor), or give a part of it, a stage of a pipeline:
        each rank then reads what it holds alone.

        Raises `UserError` when the configuration does not fit, a file is broken, or a
        tensor is missing, extra, mis-shaped or not finite.
        """
        folder = Path(folder)
        config = ModelConfig.load(folder)
        stored = {name: entry for name, entry in read_weights(folder).items()
                  if not name.endswith("rotary_emb.inv_freq")}  # made from the config
        _refuse_giants(config, stored, folder)
        model = cls.outline(config)
        _compare(folder, stored, {name: tuple(t.shape) for name, t in released(model)})
        dtype = dtype or reduce(torch.promote_types,
                                (entry.dtype for entry in stored.values()))
        model = model.to(dtype)
        if parallelize is not None:
            model = parallelize(model) or model
        fill(model.to_empty(device=device), stored)
        return model

    @classmethod
    def with_tokenizer(cls, folder: Path, device: torch.device | str = "cpu"
                       ) -> tuple[Tokenizer, Pretrained]:
        """The tokenizer of a folder and its model; `UserError` if they do not fit.

        The ids of the control tokens, in config.json, come right after the vocabulary:
        a tokenizer of another size has others.
        """
        folder, tokenizer = Path(folder), Tokenizer.load(folder)
        rows = ModelConfig.load(folder).vocab_size
        if tokenizer.vocab_size > rows:
            raise UserError(f"{folder}: tokenizer.json has {tokenizer.vocab_size} "
                            f"tokens, and vocab_size in config.json is {rows}.")
        config = read_json(folder / "config.json")
        for key, own in (("bos_token_id", tokenizer.bos),
                         ("eos_token_id", tokenizer.eos)):
            if config.get(key) not in (None, own):
                raise UserError(
                    f"{folder}: {key} is {config[key]} in config.json, {own} in "
                    "tokenizer.json, which belongs to another model.")
        model = cls.from_pretrained(folder, device)
        model.known = tokenizer.vocab_size
        return tokenizer, model

    def save_pretrained(self, folder: Path, tokenizer: Tokenizer | None = None,
                        chat_template: str | None = None, shard_bytes: int = SHARD_BYTES
                        ) -> None:
        """Write the model into `folder`, in shards when it exceeds `shard_bytes`.

        Everything is written aside and flushed before the first old file is replaced,
        so that a full disk (`OSError` or `SafetensorError`) leaves the folder as it
        was.
        Raises `UserError` when the tokenizer has more tokens than the model, and when
        the model is sharded: gather it first.
        """
        if any(isinstance(p, DTensor) for p in self.parameters()):
            raise UserError("The model is sharded: this process cannot save it alone.")
        check_tokenizer(tokenizer, self.config)
        with replaced(Path(folder)) as aside:
            write_configs(self, aside, tokenizer)
            tensors = dict(released(self))
            write_weights(aside, tensors, tensors.__getitem__, shard_bytes)
            if tokenizer:
                tokenizer.save(aside, chat_template)
