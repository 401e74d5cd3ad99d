"""Packed rows on disk: written as a stream, read memory-mapped in any order."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from jaxtyping import Int64

from minicoder.errors import UserError
from minicoder.stages import MADE_BY, read_json, sha256

ROWS = "train.bin"          # further files: train-00001.bin, ...
SOURCES = "sources.bin"     # (rows, sources): tokens of a row by source
REPORT = "pack.json"
FILE_BYTES = 1 << 28        # of one file of rows, at most
COUNT = np.dtype("<u4")
MASK = (1 << 64) - 1


def mix(value: int) -> int:
    """Stir 64 bits so that neighbours have nothing in common (SplitMix64's end)."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


def shuffled(place: int, size: int, *key: int) -> int:
    """Where `place` goes in a random order of [0, size): no list, no state.

    A Feistel network: halves of the bits swap, each time one is changed by a hash of
    the other, which can be undone, so that no two places meet. Its range is the next
    power of 4; who lands beyond `size` walks on until within (Black, Rogaway 2002).
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low, stirred = (1 << half) - 1, 0
    for part in key:
        stirred = mix(stirred + part + 0x9E3779B97F4A7C15 & MASK)
    while True:
        left, right = place >> half, place & low
        for turn in range(1, 7):
            left, right = right, left ^ mix(stirred + (turn << 32) + right & MASK) & low
        place = left << half | right
        if place < size:
            return place


def endless(place: int, size: int, *key: int) -> int:
    """What stands at a place of an endless order whose epochs are shuffled anew."""
    epoch, within = divmod(place, size)
    return shuffled(within, size, *key, epoch)


def file_name(number: int) -> str:
    """The name of a file of rows; the first is `train.bin`."""
    return f"train-{number:05}.bin" if number else ROWS


class RowWriter:
    """Write rows of ids and their counts by source, in files of limited size."""

    def __init__(self, folder: Path, length: int, dtype: np.dtype,
                 file_bytes: int = FILE_BYTES) -> None:
        self.folder, self.dtype, self.files = folder, dtype, dict[str, int]()
        self.most = max(1, file_bytes // (length * dtype.itemsize))     # rows of a file
        self.sources = (folder / SOURCES).open("wb")
        self.file: IO[bytes] = self.begin()

    def begin(self) -> IO[bytes]:
        """Open the next file of rows."""
        self.name = file_name(len(self.files))
        self.files[self.name] = 0
        return (self.folder / self.name).open("wb")

    def write(self, row: Sequence[int], counts: Sequence[int]) -> None:
        """Append a row and the number of its tokens from each source."""
        if self.files[self.name] == self.most:
            self.file.close()
            self.file = self.begin()
        self.file.write(np.array(row, self.dtype).tobytes())
        self.sources.write(np.array(counts, COUNT).tobytes())
        self.files[self.name] += 1

    def close(self) -> dict[str, int]:
        """End the files, and give the number of rows of each for pack.json."""
        self.file.close()
        self.sources.close()
        return self.files


class Rows:
    """The rows of several files as one array of ids, (rows, T + 1), not in memory.

    An index gives a row; a slice, a list or an array gives a copy of those rows.
    """

    def __init__(self, maps: Sequence[np.memmap]) -> None:
        self.maps, self.dtype = list(maps), maps[0].dtype
        self.ends = np.cumsum([len(one) for one in maps])
        self.shape = (int(self.ends[-1]), maps[0].shape[1])
        self.size = self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        for one in self.maps:
            yield from one

    def __getitem__(
        self, chosen: int | np.integer | slice | Sequence[int] | np.ndarray
    ) -> np.ndarray:
        if isinstance(chosen, slice):
            chosen = range(*chosen.indices(len(self)))
        elif not isinstance(chosen, Sequence | np.ndarray):
            return self.row(operator.index(chosen))
        if not len(chosen):
            return np.empty((0, self.shape[1]), self.dtype)
        return np.stack([self.row(int(index)) for index in chosen])

    def row(self, index: int) -> np.ndarray:
        """One row, a view of its file."""
        index = range(len(self))[index]     # from the end below 0; else IndexError
        file = int(np.searchsorted(self.ends, index, side="right"))
        return self.maps[file][index - int(self.ends[file])]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None
                  ) -> np.ndarray:
        return np.concatenate(self.maps).astype(dtype or self.dtype, copy=False)


class Shards:
    """The rows of a packed corpus, memory-mapped.

    `rows` has all (rows, T + 1); every text in them begins with `bos`; `sources` names
    what they were mixed from. Raises `UserError` when a file is missing or has not the
    size that pack.json promises; `verify` also reads what is in them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.about = read_json(self.folder / REPORT)
        try:
            total, length = (int(self.about[key]) for key in
                             ("sequences", "sequence_length"))
            dtype = np.dtype(self.about["dtype"])
            files = {str(name): int(rows) for name, rows in
                     self.about.get("files", {ROWS: total}).items()}
            if sum(files.values()) != total or total < 1 or min(files.values()) < 1:
                raise ValueError(f"files hold {sum(files.values())} of {total} rows")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{self.folder / REPORT} is broken: {error!r}.") from None
        self.sequence_length = length
        maps = [self.map(name, dtype, (rows, length + 1))
                for name, rows in files.items()]
        self.rows = maps[0] if len(maps) == 1 else Rows(maps)
        self.sources: tuple[str, ...] = tuple(self.about.get("sources", ()))
        self.by_source = self.map(SOURCES, COUNT, (total, len(self.sources))
                                  ) if self.sources else None

    def map(self, name: str, dtype: np.dtype, shape: tuple[int, int]) -> np.memmap:
        """A file of the folder, whose size must be right."""
        file, size = self.folder / name, shape[0] * shape[1] * dtype.itemsize
        found = file.stat().st_size if file.exists() else 0
        if found != size:
            raise UserError(f"{file} has {found} bytes, and {REPORT} speaks of "
                            f"{size}: pack again.")
        return np.memmap(file, dtype, "r", shape=shape)

    @property
    def bos(self) -> int:
        """The id with which every text in a row begins: documents' borders."""
        return int(self.said("bos"))

    def said(self, key: str) -> object:
        """A value of pack.json that older ones lack; `UserError` where it is not."""
        if self.about.get(key) in (None, []):
            raise UserError(f"{self.folder / REPORT} has no {key!r}: pack again.")
        return self.about[key]

    def verify(self) -> None:
        """Raise `UserError` unless all files are, byte for byte, as they were made."""
        made = read_json(self.folder / MADE_BY).get("outputs", {})
        for name, promised in made.items():
            file = self.folder / name
            if not file.exists() or sha256(file) != promised["sha256"]:
                raise UserError(f"{file} is not the one that the pack stage wrote "
                                f"(its sha256 differs): pack again.")

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, place: int, seed: int) -> int:
        """Which row comes at a place of the endless order; each epoch has its own."""
        return endless(place, len(self), seed)

    def chosen(self, step: int, batch_size: int, seed: int) -> list[int]:
        """The numbers of the rows of a step."""
        return [self.row(place, seed) for place in
                range(step * batch_size, (step + 1) * batch_size)]

    def batch(
        self, step: int, batch_size: int, seed: int = 0
    ) -> Int64[torch.Tensor, "B row"]:
        """The rows of a step: a pure function of its arguments, so that a resumed run
        needs of the loader no more than the step, which its checkpoint has. Inputs are
        `[:, :-1]`, targets `[:, 1:]`."""
        rows = self.rows[self.chosen(step, batch_size, seed)]
        return torch.from_numpy(rows.astype(np.int64))

    def counts(self, step: int, batch_size: int, seed: int = 0) -> dict[str, int]:
        """How many tokens of that batch come from each source, `bos` and all."""
        self.said("sources")
        found = self.by_source[self.chosen(step, batch_size, seed)].sum(0)
        return dict(zip(self.sources, found.tolist(), strict=True))
