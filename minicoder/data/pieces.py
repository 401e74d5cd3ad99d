"""Documents as tokens on disk, cut into units, and dealt out without end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np

from minicoder.data.dependencies import path_comment
from minicoder.data.shards import endless
from minicoder.data.sources import Document
from minicoder.tokenizer import Tokenizer

BATCH = 1 << 20         # characters encoded at once
UNITS = np.dtype([("stop", "<i8"), ("last", "?")])      # last: its document ends there
Unit = Literal["piece", "document"]


def whole_samples(documents: Iterable[Document]) -> Iterator[tuple[str, bool]]:
    """The texts of documents, and whether the next one begins another sample.

    Documents of one repository-level sample stand together, and the path of each, as a
    comment, above it (DeepSeek-Coder §2.2, Algorithm 1). One text is held at a time.
    """

    alone = iter(range(1 << 62))
    for _, group in groupby(documents, lambda one: one.sample or next(alone)):
        held = None
        for one in group:
            if held is not None:
                yield held + "\n" * (not held.endswith("\n")), False
            held = path_comment(one) + one.text if one.sample else one.text
        yield held, True


def encoded(texts: Iterable[tuple[str, bool]], tokenizer: Tokenizer
            ) -> Iterator[tuple[list[int], bool]]:
    """The texts as ids, some of them encoded together, which is faster."""
    batch, size = [], 0
    for text, last in texts:
        batch.append((text, last))
        size += len(text)
        if size >= BATCH:
            yield from zip(tokenizer.encode_batch([one for one, _ in batch]),
                           [end for _, end in batch], strict=True)
            batch, size = [], 0
    yield from zip(tokenizer.encode_batch([one for one, _ in batch]),
                   [end for _, end in batch], strict=True)


def cuts(ends: np.ndarray, length: int, longest: int, rng: np.random.Generator
         ) -> Iterator[int]:
    """Where the pieces of a document of `length` tokens stop.

    Cut at `ends` of lines, a quarter to a whole `longest` a piece, where there is one.
    Documents that fit stay whole.
    """
    start = 0
    while length - start > longest:
        stop = start + int(rng.integers(longest // 4, longest + 1))
        place = int(np.searchsorted(ends, stop, side="right")) - 1
        start = int(ends[place]) if place >= 0 and ends[place] > start else stop
        yield start
    yield length


@dataclass
class Part:
    """The endless stream of one kind's units, in an order of each pass's own."""

    tokens: np.ndarray      # ids of all documents, memory-mapped
    units: np.ndarray       # `UNITS`, memory-mapped
    newline: np.ndarray     # whether an id ends a line, for every id
    key: tuple[int, ...]    # decides the order
    place: int = 0          # units dealt out
    rest: tuple[int, int, bool] | None = None       # what was cut off comes next

    def next(self) -> tuple[int, int, bool]:
        """Start and stop of the next unit, and whether its document ends there."""
        index = endless(self.place, len(self.units), *self.key)
        self.place += 1
        start = int(self.units["stop"][index - 1]) if index else 0
        stop, last = self.units[index].item()
        return start, stop, last

    def document(self) -> list[int]:
        """The ids of the next unit as a whole."""
        start, stop, _ = self.next()
        return self.tokens[start:stop].tolist()

    def take(self, room: int, whole_lines: bool, longest: int
             ) -> tuple[list[int], bool]:
        """At most `room` tokens of the next unit, and whether its document ends there.

        What is cut off comes next. With `whole_lines` the cut is at the end of a line
        where there is one. A line that was cut short comes again whole, unless it is
        too long for that (`longest` is what a row can hold).
        """
        (start, stop, last), self.rest = self.rest or self.next(), None
        cut = min(stop, start + room)
        if cut < stop:
            ends = np.flatnonzero(self.newline[self.tokens[start:cut]])
            line = start + int(ends[-1]) + 1 if len(ends) else None
            again = start if room < longest // 2 else cut
            self.rest = again if line is None else line, stop, last
            cut = line if whole_lines and line else cut
        return self.tokens[start:cut].tolist(), cut == stop and last


def store(documents: Iterable[Document], tokenizer: Tokenizer, folder: Path, unit: Unit,
          longest: int, key: tuple[int, ...]) -> Part | None:
    """Encode documents of one kind into two files of `folder`, as a stream.

    `unit` "document" keeps documents whole, those of a repository-level sample joined;
    "piece" cuts each into what fits `longest`. None if there is no token.
    """
    rng, total = np.random.default_rng(key), 0
    newline = np.array([tokenizer.decode_bytes([token]).endswith(b"\n")
                        for token in range(tokenizer.vocab_size)])
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    texts = (whole_samples(documents) if unit == "document" else
             ((one.text, True) for one in documents))
    with (folder / "tokens").open("wb") as ids, (folder / "units").open("wb") as units:
        for row, last in encoded(texts, tokenizer):
            array = np.array(row, dtype)
            ids.write(array.tobytes())
            stops = [len(row)] if unit == "document" else [*cuts(
                np.flatnonzero(newline[array]) + 1, len(row), longest, rng)]
            table = np.array([(total + stop, stop == len(row)) for stop in stops],
                             UNITS)
            total += len(row)
            if last and len(row):
                units.write(table.tobytes())
    if not total:
        return None
    return Part(np.memmap(folder / "tokens", dtype, "r"),
                np.memmap(folder / "units", UNITS, "r"), newline, key)
