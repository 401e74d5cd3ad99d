"""Exact and near duplicates: MinHash signatures, LSH candidates, exact verification.

DeepSeek-Coder §2.3 deduplicates whole repositories, each as one long text; its MinHash
settings are not published. Ours are BigCode's: 5-grams of words, Jaccard similarity
0.7. What the hashes propose is always verified on the shingles themselves, so a false
alarm removes nothing. Texts come one after another and the first of its like is kept;
all that must be remembered of it lies on disk, so memory does not grow with the corpus.
"""

from __future__ import annotations

import errno
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import UInt64

WORD = re.compile(r"\w+")
SHINGLE = 5                 # words
THRESHOLD = 0.7             # Jaccard similarity
# 32 bands of 4 rows: a pair at similarity 0.7 is proposed with probability
# 1 - (1 - 0.7^4)^32 = 0.9998, one at 0.3 with 0.23
BANDS, ROWS = 32, 4
MOST_WORDS = 1 << 17        # whose hashes are remembered
CACHE = 8192                # KiB of SQLite pages in memory

Hashes = UInt64[np.ndarray, "_"]             # sets of any sizes
Signature = UInt64[np.ndarray, " permutations"]


def digest(text: str, size: int = 32) -> bytes:
    """A hash of a text that is the same in every process."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()


class WordHashes(dict[str, int]):
    """64-bit hashes of words; when they become too many, it forgets and starts over."""

    def __missing__(self, word: str) -> int:
        if len(self) >= MOST_WORDS:
            self.clear()
        self[word] = found = int.from_bytes(digest(word, 8))
        return found


def mix(x: Hashes) -> Hashes:
    """splitmix64's finaliser: every input bit reaches every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def shingles(text: str, words: WordHashes | None = None) -> Hashes:
    """The set of a text's word 5-grams as sorted hashes, empty below 5 words.

    Pass one `words` for many texts: it remembers the hashes of words seen.
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


def union(sets: Sequence[Hashes]) -> Hashes:
    """All shingles of several texts, as of one."""
    return np.unique(np.concatenate(sets))


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
    the two sets (Broder 1997). The signature of a union is the elementwise minimum.
    """
    smallest = np.full(len(factors), 2 ** 64 - 1, dtype=np.uint64)
    for start in range(0, len(shingle_set), 4096):      # bounds the product's memory
        block = shingle_set[start:start + 4096, None] * factors
        smallest = np.minimum(smallest, block.min(axis=0))
    return smallest


def bands(signature: Signature) -> list[int]:
    """A signed 64-bit key for each band: two signatures share it if they agree on all
    rows of the band."""
    keys = np.arange(BANDS, dtype=np.uint64)
    for row in signature.reshape(BANDS, ROWS).T:
        keys = mix(keys + row)
    return keys.view(np.int64).tolist()


class Kept:
    """What was kept so far: hashes and LSH bands in SQLite, sets of shingles in a file.

    Open it with `kept_on_disk`. It takes 8 bytes a shingle and some kB a text on disk.
    """

    def __init__(self, folder: Path, threshold: float, seed: int) -> None:
        self.threshold, self.factors = threshold, multipliers(BANDS * ROWS, seed)
        self.sets = (folder / "shingles").open("w+b")
        self.index = sqlite3.connect(folder / "index", isolation_level=None)
        self.index.executescript(f"""
            PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
            PRAGMA cache_size = -{CACHE};
            CREATE TABLE texts (hash BLOB PRIMARY KEY, name TEXT) WITHOUT ROWID;
            CREATE TABLE sets (id INTEGER PRIMARY KEY, name TEXT, start INT, size INT);
            CREATE TABLE bands (key INT, id INT, PRIMARY KEY (key, id)) WITHOUT ROWID;
            BEGIN""")

    def holds(self, hash: bytes) -> str | None:
        """The name under which the same hash was kept."""
        found = self.index.execute("SELECT name FROM texts WHERE hash = ?", [hash])
        return next(found, (None,))[0]

    def twin(self, name: str, hash: bytes) -> str | None:
        """The name under which the same hash was kept; None keeps it under `name`."""
        if first := self.holds(hash):
            return first
        self.index.execute("INSERT INTO texts VALUES (?, ?)", (hash, name))
        return None

    def like(self, name: str, found: Hashes) -> str | None:
        """The name of a kept set at least as similar as the threshold; None keeps this
        one under `name`. A set without shingles is like no other."""
        if not len(found):
            return None
        keys = bands(minhash(found, self.factors))
        # J is at most small / large; one more lest rounding decides on the border
        sizes = self.threshold * len(found) - 1, len(found) / self.threshold + 1
        candidates = self.index.execute(
            f"SELECT name, start, size FROM sets JOIN bands USING (id) WHERE key IN "
            f"({', '.join('?' * BANDS)}) AND size BETWEEN ? AND ? "
            f"GROUP BY id ORDER BY count(*) DESC, id",
            (*keys, *sizes)).fetchall()
        for first, start, size in candidates:
            self.sets.seek(start)
            other = np.frombuffer(self.sets.read(8 * size), dtype=np.uint64)
            if jaccard(found, other) >= self.threshold:
                return first
        start = self.sets.seek(0, 2)
        self.sets.write(found.tobytes())
        row = self.index.execute("INSERT INTO sets (name, start, size) VALUES (?, ?, ?)"
                                 , (name, start, len(found))).lastrowid
        self.index.executemany("INSERT INTO bands VALUES (?, ?)",
                               ((key, row) for key in keys))
        return None


@contextmanager
def kept_on_disk(
    folder: Path, threshold: float = THRESHOLD, seed: int = 0
) -> Iterator[Kept]:
    """A new memory of kept texts in `folder`, which is removed in the end.

    A disk that SQLite finds full raises `OSError`, as it does everywhere else.
    """
    folder.mkdir(parents=True)
    kept = Kept(folder, threshold, seed)
    try:
        yield kept
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        raise OSError(errno.ENOSPC, str(error)) from error
    finally:
        kept.index.close()
        kept.sets.close()
        shutil.rmtree(folder, ignore_errors=True)


def near_duplicates(
    texts: Iterable[str], threshold: float = THRESHOLD, seed: int = 0
) -> dict[int, int]:
    """Index of every near-duplicate → index of a kept text that is like it.

    A text is kept unless its Jaccard similarity with one that was kept before is
    `threshold` or more; so what is removed always has its like among what stays, which
    clusters of linked pairs do not promise. Texts of fewer than 5 words have no
    shingles and are never near-duplicates.
    """
    words = WordHashes()
    with (TemporaryDirectory() as folder,
          kept_on_disk(Path(folder) / "kept", threshold, seed) as kept):
        found = {index: kept.like(str(index), shingles(text, words))
                 for index, text in enumerate(texts)}
    return {index: int(first) for index, first in found.items() if first is not None}
