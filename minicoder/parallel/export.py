"""The released layout, written by a team none of whom holds the whole model.

The team writes its shards aside, as for a checkpoint; then each process makes some of
the files, and puts their tensors together from the shards one by one. For that time the
disk holds the weights twice.
"""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import MetadataIndex

from minicoder.model.checkpoint import (
    SHARD_BYTES,
    UNFINISHED,
    blocks,
    check_tokenizer,
    overlap,
    released,
    replaced,
    write_configs,
)
from minicoder.model.transformer import MiniCoder
from minicoder.model.weights import read_header, write_weights
from minicoder.parallel.layout import Team
from minicoder.parallel.shards import together, weights, write_shards
from minicoder.tokenizer import Tokenizer


def export(folder: Path, model: MiniCoder, team: Team,
           tokenizer: Tokenizer | None = None, shard_bytes: int = SHARD_BYTES
           ) -> None:
    """Write what `save_pretrained` writes, of a model whose parts the processes hold.

    A full disk or a kill leaves what was in `folder`, which all processes must see.
    Raises `UserError` when the tokenizer has more tokens than the model.
    """
    check_tokenizer(tokenizer, model.config)
    held, aside = weights(model), folder / UNFINISHED
    outline = MiniCoder.outline(model.config).to(next(iter(held.values())).dtype)
    with replaced(folder) if team.main else nullcontext():
        team.wait()
        shards = aside / "shards"
        write_shards(shards, held, team)
        with together(team):
            tensors = dict(released(outline))
            write_weights(aside, tensors, _Joined(shards, outline, tensors),
                          shard_bytes, team.rank, team.layout.world)
        with together(team):
            if team.main:
                shutil.rmtree(shards)
                write_configs(outline, aside, tokenizer)
                if tokenizer:
                    tokenizer.save(aside)
    team.wait()


class _Joined:
    """Tensors of the released layout, joined from the shards in a folder."""

    def __init__(self, folder: Path, outline: MiniCoder, tensors: dict[str, Tensor]
                 ) -> None:
        stored = dcp.HuggingFaceStorageReader(str(folder)).read_metadata()
        self.chunks, self.files = stored.state_dict_metadata, stored.storage_data
        self.headers = {path: read_header(path) for path in folder.iterdir()}
        self.tensors = tensors
        self.places = {name: (key, block, whole.shape)
                       for key, whole in outline.state_dict().items()
                       for name, block in blocks(key, whole.shape)}

    def __call__(self, name: str) -> Tensor:
        """One tensor, read from the shards that hold a part of it."""
        parameter, block, shape = self.places[name]
        joined = torch.empty_like(self.tensors[name], device="cpu")
        key = f"model.{parameter}"
        for chunk in self.chunks[key].chunks:
            if both := overlap(chunk.sizes, chunk.offsets, block, shape):
                file = self.files[MetadataIndex(key, chunk.offsets)].relative_path
                joined[both[1]] = self.headers[Path(file)][key].tensor()[both[0]]
        return joined
