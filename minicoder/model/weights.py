"""Weight files of strangers: measured before they are believed; and how ours are made.

A safetensors file is a length, a JSON header and the numbers. The header is read here,
with limits, and says where each tensor lies; the numbers are mapped when asked for.
Files are written one tensor at a time: nobody need hold what one of them holds.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minicoder.errors import UserError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_HEADER = 16 * 2**20     # bytes; the 29,102 tensors of the 236B need about 4 MB
MAX_TENSORS = 100_000       # in one file
DTYPES = {"F64": torch.float64, "F32": torch.float32,
          "F16": torch.float16, "BF16": torch.bfloat16}
KINDS = {dtype: kind for kind, dtype in DTYPES.items()}
FIELDS = ("dtype", "shape", "data_offsets")
BROKEN = (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class Stored:
    """Where one tensor lies in a safetensors file: bytes `start` to `stop`."""

    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int

    def tensor(self) -> Tensor:
        """The tensor, mapped from the file: only what is touched takes memory."""
        data = torch.from_file(str(self.path), size=self.stop, dtype=torch.uint8)
        data = data[self.start:]
        if self.start % self.dtype.itemsize:  # the format does not promise alignment
            data = data.clone()
        return data.view(self.dtype).view(self.shape)


def read_weights(folder: Path) -> dict[str, Stored]:
    """The headers of all weight files of a checkpoint, by name of the tensor."""
    if (folder / WEIGHTS).exists():
        return read_header(folder / WEIGHTS)
    if not (folder / INDEX).exists():
        raise UserError(f"{folder} is not a checkpoint: it has neither {WEIGHTS} "
                        f"nor {INDEX}.")
    places = _read_index(folder / INDEX)
    stored: dict[str, Stored] = {}
    for file in sorted(set(places.values())):
        for name, entry in read_header(folder / file).items():
            if places.get(name) != file:
                raise UserError(f"{entry.path} holds {name}, which {INDEX} places in "
                                f"{places.get(name, 'no file')}.")
            stored[name] = entry
    return stored  # what the index names and no file holds is missing, as in _compare


def _read_index(path: Path) -> dict[str, str]:
    try:
        if path.stat().st_size > MAX_HEADER:
            raise ValueError(f"it is larger than {MAX_HEADER} bytes")
        places = _strict_json(path.read_bytes())["weight_map"]
        for file in set(places.values()):
            if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*\.safetensors", file):
                raise ValueError(f"{file[:80]!r} is not a file beside it")
    except BROKEN as error:
        raise UserError(f"{path} is not an index of weights: {error}.") from None
    return places


def read_header(path: Path) -> dict[str, Stored]:
    """Where each tensor of a safetensors file lies; `UserError` when it is broken."""
    try:
        if not path.is_file():  # a pipe would block for ever
            raise ValueError("there is no such file")
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size - 8:
                raise ValueError("it is cut short, or something else")
            if length > MAX_HEADER:
                raise ValueError(f"its header has more than {MAX_HEADER} bytes")
            header = _strict_json(file.read(length))
        header.pop("__metadata__", None)
        if len(header) > MAX_TENSORS:
            raise ValueError(f"it holds more than {MAX_TENSORS} tensors")
        stored = {name: _entry(path, name, value, 8 + length)
                  for name, value in header.items()}
        _refuse_gaps(stored, 8 + length, size)
    except BROKEN as error:
        raise UserError(f"{path} is not a whole safetensors file: {error}.") from None
    return stored


def _strict_json(text: bytes) -> dict[str, Any]:
    """Parse a JSON object without duplicate keys; limited, because parsing inflates."""
    each = {b"{": 1, b"[": 2, b",": 8}  # more than a tensor's entry needs
    if any(text.count(mark) > n * MAX_TENSORS + 9 for mark, n in each.items()):
        raise ValueError(f"it holds more than {MAX_TENSORS} tensors")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) != len(pairs):
            raise ValueError("a name occurs twice")
        return values

    value = json.loads(text, object_pairs_hook=unique)
    if not isinstance(value, dict):
        raise ValueError("it holds no object")
    return value


def _entry(path: Path, name: str, value: Any, offset: int) -> Stored:
    if not isinstance(value, dict) or value.keys() != set(FIELDS):
        raise ValueError(f"{name[:80]!r} has fields other than {', '.join(FIELDS)}")
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", name):
        raise ValueError(f"{name[:80]!r} is not the name of a tensor")
    kind, shape, (start, stop) = (value[field] for field in FIELDS)
    if kind not in DTYPES:
        raise ValueError(f"{name} is of type {str(kind)[:20]}; "
                         f"known are {', '.join(DTYPES)}")
    if len(shape) > 4 or not all(
            type(n) is int and 0 <= n < 2**48 for n in (*shape, start, stop)):
        raise ValueError(f"{name} has shape {str(shape)[:80]} or offsets out of range")
    if stop - start != math.prod(shape) * DTYPES[kind].itemsize:
        raise ValueError(f"{name} takes {stop - start} bytes, which do not fit its "
                         f"shape {shape}")
    return Stored(path, DTYPES[kind], tuple(shape), offset + start, offset + stop)


def _refuse_gaps(stored: dict[str, Stored], start: int, size: int) -> None:
    """The tensors must fill the file: no hole, no overlap, nothing behind the last."""
    for entry in sorted(stored.values(), key=lambda entry: (entry.start, entry.stop)):
        if entry.start != start:
            raise ValueError("its tensors overlap or leave a hole")
        start = entry.stop
    if start != size:
        raise ValueError(f"it has {size} bytes and should have {start}")


def write_file(path: Path, outline: Mapping[str, Tensor],
               fetch: Callable[[str], Tensor], said: Mapping[str, str]) -> str:
    """Write a safetensors file, flushed; return its SHA-256.

    `outline` gives the shapes and types of the tensors, which `fetch` brings one by one
    and which are let go; `said` is text for the header.
    """
    header: dict[str, Any] = {"__metadata__": dict(said)}
    stop = 0
    kinds = {name: KINDS[like.dtype] for name, like in outline.items()}
    order = sorted(outline, key=lambda name: (  # that of safetensors itself
        -outline[name].itemsize, kinds[name], name))
    for name in order:
        like = outline[name]
        start, stop = stop, stop + like.nbytes
        header[name] = {"dtype": kinds[name], "shape": list(like.shape),
                        "data_offsets": [start, stop]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers are aligned

    def parts() -> Iterator[Any]:
        yield len(text).to_bytes(8, "little") + text
        for name in order:
            flat = fetch(name).detach().cpu().contiguous().view(-1)
            yield flat.view(torch.uint8).numpy()

    digest = hashlib.sha256()
    with path.open("wb") as file:
        for part in parts():
            digest.update(part)
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def write_weights(folder: Path, outline: Mapping[str, Tensor],
                  fetch: Callable[[str], Tensor], limit: int, rank: int = 0,
                  world: int = 1) -> None:
    """Write tensors in files of at most `limit` bytes, with an index when it is many.

    Of `world` processes, which see one folder, each writes every so many-th file.
    """
    files: list[dict[str, Tensor]] = [{}]
    room = limit
    for name, like in outline.items():
        if like.nbytes > room and files[-1]:
            files.append({})
            room = limit
        files[-1][name] = like
        room -= like.nbytes
    names = [WEIGHTS] if len(files) == 1 else [
        f"model-{number + 1:05}-of-{len(files):05}.safetensors"
        for number in range(len(files))]
    for number in range(rank, len(files), world):
        write_file(folder / names[number], files[number], fetch, {"format": "pt"})
    if len(files) > 1 and rank == 0:
        places = {name: file for file, part in zip(names, files, strict=True)
                  for name in part}
        size = sum(like.nbytes for like in outline.values())
        index = {"metadata": {"total_size": size}, "weight_map": places}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
