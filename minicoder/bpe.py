"""Byte-pair encoding: which two neighbouring tokens occur together most often?

Source: arXiv 1508.07909. Trained on bytes, so that no text is ever unknown.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict

Pair = tuple[int, int]


def alphabet() -> list[int]:
    """The 256 bytes in the order in which byte-level tokenizers number them."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return shown + [byte for byte in range(256) if byte not in set(shown)]


def merge(ids: list[int], pair: Pair, new: int) -> list[int]:
    """Replace each `pair` by `new`: merge([1, 2, 3, 1, 2], (1, 2), 4) = [4, 3, 4]."""
    out, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            out.append(new)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


class Trainer:
    """Learns merges from words and their counts, keeping the pair counts up to date.

    Only the words that hold the merged pair are looked at again. Ties go to the smaller
    pair of ids, as in the `tokenizers` library.
    """

    def __init__(self, words: Counter[bytes]) -> None:
        number = {byte: i for i, byte in enumerate(alphabet())}
        self.tokens = [bytes([byte]) for byte in alphabet()]
        self.merges: list[Pair] = []
        self.known = {token: i for i, token in enumerate(self.tokens)}
        self.words = [[number[byte] for byte in word] for word in words]
        self.counts = list(words.values())
        self.pairs: Counter[Pair] = Counter()
        self.places: defaultdict[Pair, set[int]] = defaultdict(set)
        for place, ids in enumerate(self.words):
            self._count(place, ids, self.counts[place])
        self.queue = [(-count, pair) for pair, count in self.pairs.items()]
        heapq.heapify(self.queue)

    def _count(self, place: int, ids: list[int], times: int) -> None:
        for pair in zip(ids, ids[1:], strict=False):
            self.pairs[pair] += times
            if times > 0:
                self.places[pair].add(place)

    def _most_frequent(self) -> Pair | None:
        while self.queue:
            count, pair = heapq.heappop(self.queue)
            if -count == self.pairs[pair] and count < 0:
                return pair
            if self.pairs[pair] > 0:  # the entry is out of date: put back what is true
                heapq.heappush(self.queue, (-self.pairs[pair], pair))
        return None

    def step(self) -> Pair | None:
        """Make the most frequent pair a token; None when no pair is left."""
        pair = self._most_frequent()
        if pair is None:
            return None
        token = self.tokens[pair[0]] + self.tokens[pair[1]]
        new = self.known.setdefault(token, len(self.tokens))
        if new == len(self.tokens):
            self.tokens.append(token)
        self.merges.append(pair)
        touched: set[Pair] = set()
        for place in self.places.pop(pair):
            old, times = self.words[place], self.counts[place]
            self._count(place, old, -times)
            self.words[place] = merge(old, pair, new)
            self._count(place, self.words[place], times)
            touched.update(zip(self.words[place], self.words[place][1:], strict=False))
        del self.pairs[pair]
        for changed in touched:
            heapq.heappush(self.queue, (-self.pairs[changed], changed))
        return pair
