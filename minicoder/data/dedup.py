"""Exact and near duplicates: MinHash signatures, LSH candidates, exact verification.

DeepSeek-Coder §2.3 deduplicates whole repositories, each as one long text; its MinHash
settings are not published. Here every file is a document of its own, and the settings
are BigCode's: 5-grams of words, Jaccard similarity 0.7. What the hashes propose is
always verified on the shingles themselves, so a false alarm removes nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import combinations

import numpy as np
from jaxtyping import UInt64

WORD = re.compile(r"\w+")
SHINGLE = 5                 # words
THRESHOLD = 0.7             # Jaccard similarity
# 32 bands of 4 rows: a pair at similarity 0.7 is proposed with probability
# 1 - (1 - 0.7^4)^32 = 0.9998, one at 0.3 with 0.23
BANDS, ROWS = 32, 4

Hashes = UInt64[np.ndarray, "_"]             # sets of any sizes
Signature = UInt64[np.ndarray, " permutations"]


class WordHashes(dict[str, int]):
    """64-bit hashes of words, each computed once."""

    def __missing__(self, word: str) -> int:
        digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self[word] = int.from_bytes(digest)
        return self[word]


def mix(x: Hashes) -> Hashes:
    """splitmix64's finaliser: every input bit reaches every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def shingles(text: str, words: WordHashes | None = None) -> Hashes:
    """The set of a text's word 5-grams as sorted hashes, empty below 5 words.

    Pass one `words` for many texts: it remembers the hash of every word seen.
    """
    words = WordHashes() if words is None else words
    found = list(map(words.__getitem__, WORD.findall(text)))
    hashes = np.array(found, dtype=np.uint64)
    if len(hashes) < SHINGLE:
        return hashes[:0]
    last = len(hashes) - SHINGLE + 1
    total = np.zeros(last, dtype=np.uint64)
    for place in range(SHINGLE):    # mixing between words keeps their order apart
        total = mix(total + hashes[place:place + last])
    return np.unique(total)


def jaccard(left: Hashes, right: Hashes) -> float:
    """|A ∩ B| / |A ∪ B| of two sets of shingles, exactly; 0 for two empty sets."""
    common = np.intersect1d(left, right, assume_unique=True).size
    union = left.size + right.size - common
    return common / union if union else 0.0


def multipliers(permutations: int, seed: int) -> Signature:
    """Odd 64-bit factors: each re-orders all 64-bit numbers by x → a·x mod 2^64.

    Full width matters. A factor of 32 bits does not wrap on 32-bit hashes, so it keeps
    their order, and every "permutation" has the same minimum.
    """
    random = np.random.default_rng(seed)
    return random.integers(0, 2 ** 64, permutations, dtype=np.uint64) | np.uint64(1)


def minhash(shingle_set: Hashes, factors: Signature) -> Signature:
    """The smallest hash under each permutation.

    The share of equal entries in two signatures estimates the Jaccard similarity of
    the two sets (Broder 1997).
    """
    smallest = np.full(len(factors), 2 ** 64 - 1, dtype=np.uint64)
    for start in range(0, len(shingle_set), 4096):      # bounds the product's memory
        block = shingle_set[start:start + 4096, None] * factors
        smallest = np.minimum(smallest, block.min(axis=0))
    return smallest


class Clusters:
    """Union-find: the representative of a cluster is its smallest member."""

    def __init__(self, size: int) -> None:
        self.parent = list(range(size))

    def find(self, member: int) -> int:
        while self.parent[member] != member:
            self.parent[member] = self.parent[self.parent[member]]
            member = self.parent[member]
        return member

    def join(self, left: int, right: int) -> None:
        left, right = sorted((self.find(left), self.find(right)))
        self.parent[right] = left


def candidates(
    signatures: UInt64[np.ndarray, "documents permutations"]
) -> Iterable[list[int]]:
    """Groups of documents that agree on all rows of some band."""
    for band in range(BANDS):
        buckets: defaultdict[bytes, list[int]] = defaultdict(list)
        part = np.ascontiguousarray(signatures[:, band * ROWS:(band + 1) * ROWS])
        for index, key in enumerate(part):
            buckets[key.tobytes()].append(index)
        yield from (group for group in buckets.values() if len(group) > 1)


def exact_duplicates(texts: Iterable[str]) -> dict[int, int]:
    """Index of every repeated text → index of its first occurrence."""
    first: dict[bytes, int] = {}
    repeated = {}
    for index, text in enumerate(texts):
        key = blake2b(text.encode("utf-8", "surrogatepass")).digest()
        if first.setdefault(key, index) != index:
            repeated[index] = first[key]
    return repeated


def near_duplicates(
    texts: Sequence[str], threshold: float = THRESHOLD, seed: int = 0
) -> dict[int, int]:
    """Index of every near-duplicate → index of the text that is kept for it.

    Texts that are linked by a chain of pairs with a Jaccard similarity of at least
    `threshold` form one cluster, of which the first text is kept. Texts of fewer than
    5 words have no shingles and are never near-duplicates.
    """
    words, factors = WordHashes(), multipliers(BANDS * ROWS, seed)
    sets = [shingles(text, words) for text in texts]
    usable = [index for index, found in enumerate(sets) if len(found)]
    if not usable:
        return {}
    signatures = np.stack([minhash(sets[index], factors) for index in usable])
    clusters = Clusters(len(sets))
    rejected: set[tuple[int, int]] = set()
    for group in candidates(signatures):
        for pair in combinations([usable[place] for place in group], 2):
            if pair in rejected or clusters.find(pair[0]) == clusters.find(pair[1]):
                continue
            if jaccard(sets[pair[0]], sets[pair[1]]) >= threshold:
                clusters.join(*pair)
            else:
                rejected.add(pair)
    return {index: kept for index in usable if (kept := clusters.find(index)) != index}
