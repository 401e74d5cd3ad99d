"""Cut documents into pieces at ends of lines, and deal them out without end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from minicoder.tokenizer import Tokenizer

BATCH = 256         # texts encoded at once
TOKENS = np.dtype(np.int32)


@dataclass
class Part:
    """The endless stream of one kind's pieces; each pass has its own order and cuts."""

    documents: list[np.ndarray]         # token ids
    line_ends: list[np.ndarray]         # for each document, positions after a newline
    longest: int                        # tokens of a piece
    rng: np.random.Generator
    queue: list[tuple[int, int, int]] = field(default_factory=list)

    def border(self, index: int, start: int, stop: int) -> int | None:
        """The last end of a line in (start, stop], if there is one."""
        ends = self.line_ends[index]
        place = int(np.searchsorted(ends, stop, side="right")) - 1
        return int(ends[place]) if place >= 0 and ends[place] > start else None

    def refill(self) -> None:
        """Cut all documents at ends of lines, a quarter to a whole `longest` a piece.

        Documents that fit stay whole.
        """
        for index, document in enumerate(self.documents):
            start = 0
            while len(document) - start > self.longest:
                drawn = int(self.rng.integers(self.longest // 4, self.longest + 1))
                stop = self.border(index, start, start + drawn) or start + drawn
                self.queue.append((index, start, stop))
                start = stop
            self.queue.append((index, start, len(document)))
        self.rng.shuffle(self.queue)

    def take(self, room: int, whole_lines: bool) -> tuple[list[int], bool]:
        """At most `room` tokens of the next piece, and whether its document ends there.

        What is cut off comes next. With `whole_lines` the cut is at the end of a line
        where there is one. A line that was cut short comes again whole, unless it is
        too long for that.
        """
        if not self.queue:
            self.refill()
        index, start, stop = self.queue.pop()
        cut = min(stop, start + room)
        if cut < stop:
            line = self.border(index, start, cut)
            whole = start if room < self.longest // 2 else cut
            self.queue.append((index, whole if line is None else line, stop))
            cut = line if whole_lines and line else cut
        tokens = self.documents[index]
        return tokens[start:cut].tolist(), cut == len(tokens)


def encode_part(
    texts: Sequence[str], tokenizer: Tokenizer, needed: int | float,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Token ids of documents in random order, no more of them than are needed."""
    order, documents, total = rng.permutation(len(texts)), [], 0
    for start in range(0, len(order), BATCH):
        if total >= needed:
            break
        batch = [texts[index] for index in order[start:start + BATCH]]
        documents += [np.array(ids, TOKENS) for ids in tokenizer.encode_batch(batch)]
        total += sum(map(len, documents[start:]))
    return documents
