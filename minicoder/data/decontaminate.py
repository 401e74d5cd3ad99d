"""Keep the exam out of the textbook: remove documents that hold benchmark text.

DeepSeek-Coder §2.4 excludes a piece of code that holds a 10-gram identical to one of
the test data; test strings of 3 to 9 grams are looked for exactly, shorter ones not at
all. The piece is here the whole file: what surrounds a leaked solution is usually the
rest of it. What a gram is the paper does not say. Here it is a word, `\\w+` in lower
case, so that a leak is found whatever its indentation, line breaks, quotes and comment
signs are. Symbols are no grams: in `self.a = a` they would be half of all, and ten
grams would be one line that every class has. A short string has too few words to be
told by them alone: it must stand in the document with its case and symbols, only the
white space may differ.

One thing is not in the paper: grams that count or repeat ("0 1 2 3 4 5 6 7 8 9" is in
HumanEval and in every table of digits) are left out; see `telling`.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt64

from minicoder.errors import UserError

WORD = re.compile(r"\w+")
LONGEST, SHORTEST = 10, 3       # grams
TELLING = 3         # different words of two letters or more that a gram must have
# Fields of the known formats that hold no text of a problem: names and classes, and
# what every test program of the format begins with
NO_TEXT = frozenset((
    "task_id", "id", "entry_point", "name", "language", "subject", "topic", "split",
    "category", "source", "bug_type", "failure_symptoms", "import", "test_setup",
    "test_setup_code"))
CHOICES = ("options", "choices")    # of one question: alone they say nothing

Ids = Int32[np.ndarray, " grams"]       # words as numbers; -1 in no benchmark
Hashes = UInt64[np.ndarray, " hashes"]


def factors(seed: int = 0) -> UInt64[np.ndarray, " places"]:
    """Odd random 64-bit numbers, one for each place in a gram."""
    drawn = np.random.default_rng(seed).integers(0, 2 ** 64, LONGEST, dtype=np.uint64)
    return drawn | np.uint64(1)


def telling(gram: Sequence[str]) -> bool:
    """Whether a gram can tell a leak: "0 1 2 3 4 5 6 7 8 9" and "for i in" cannot."""
    return len({w for w in gram if len(w) > 1 and not w[0].isdigit()}) >= TELLING


class Benchmarks:
    """An index of the n-grams of benchmark texts; hashes propose, words decide.

    Memory grows with the benchmarks alone: their texts and about 40 bytes a word.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = list(dict.fromkeys(texts))
        self.numbers: dict[str, int] = {}
        self.factors = factors()
        stream: list[int] = []
        grams: dict[int, tuple[list[int], list[int]]] = {}     # length: starts, owners
        for owner, text in enumerate(self.texts):
            words = WORD.findall(text.lower())
            size = min(len(words), LONGEST)
            if size >= SHORTEST:
                starts, owners = grams.setdefault(size, ([], []))
                for place in range(len(words) - size + 1):
                    if telling(words[place:place + size]):
                        starts.append(len(stream) + place)
                        owners.append(owner)
                stream += [self.numbers.setdefault(w, len(self.numbers)) for w in words]
        self.stream = np.array(stream, dtype=np.int32)
        self.index = self._index(grams)

    def _index(self, grams: dict[int, tuple[list[int], list[int]]]
               ) -> dict[int, tuple[Hashes, np.ndarray, np.ndarray, np.ndarray]]:
        """For each length: sorted hashes, starts, owners, and a table of top bits.

        The table answers "no" for nearly all grams of a document with one look.
        """
        index = {}
        for size, hashes in self._hashes(self.stream):
            starts, owners = (np.array(part, dtype=np.int32)
                              for part in grams.get(size, ((), ())))
            if len(starts):
                keys = hashes[starts]
                order = np.argsort(keys, kind="stable")
                table = np.zeros(1 << (8 * len(keys)).bit_length(), dtype=bool)
                table[keys >> _shift(table)] = True
                index[size] = keys[order], starts[order], owners[order], table
        return index

    def _hashes(self, ids: Ids) -> Iterator[tuple[int, Hashes]]:
        """(n, hashes of all n-grams) for n = 1 to 10: the sum of word times factor."""
        numbers = ids.astype(np.uint64) + np.uint64(1)
        total = np.zeros(len(ids) + 1, dtype=np.uint64)
        for size in range(1, min(LONGEST, len(ids)) + 1):
            total = total[:-1] + numbers[size - 1:] * self.factors[size - 1]
            yield size, total

    def matches(self, text: str) -> Iterator[tuple[int, str]]:
        """(index in `texts`, the gram) for all benchmark grams in a text."""
        words = WORD.findall(text.lower())
        ids = np.fromiter(map(self.numbers.get, words, repeat(-1)), dtype=np.int32,
                          count=len(words))
        for size, hashes in self._hashes(ids):
            if size not in self.index:
                continue
            keys, starts, owners, table = self.index[size]
            places = np.flatnonzero(table[hashes >> _shift(table)])
            lows, highs = (np.searchsorted(keys, hashes[places], side)
                           for side in ("left", "right"))
            for some in np.flatnonzero(lows < highs):
                place, low, high = places[some], lows[some], highs[some]
                for start, owner in zip(starts[low:high].tolist(),
                                        owners[low:high].tolist(), strict=True):
                    same = self.stream[start:start + size] == ids[place:place + size]
                    if same.all() and (size == LONGEST or self._literal(owner, text)):
                        yield owner, " ".join(words[place:place + size])

    def _literal(self, owner: int, text: str) -> bool:
        """Whether a text holds a short string, whatever the white space in both."""
        words = self.texts[owner].split()
        if not all(word in text for word in words):     # much faster than the pattern
            return False
        pattern = r"\s+".join(map(re.escape, words))
        return re.search(rf"(?<!\w){pattern}(?!\w)", text) is not None

    def objection(self, text: str) -> str | None:
        """Why a document must go, or None: the first benchmark gram that it holds."""
        for _, gram in self.matches(text):
            return f"{len(gram.split())}-gram of a benchmark: {gram}"
        return None


def _shift(table: np.ndarray) -> np.uint64:
    """By how many bits a hash is longer than the numbers of a table's entries."""
    return np.uint64(65 - len(table).bit_length())


def strings_of(record: Any) -> Iterator[str]:
    """The texts of one benchmark record: its strings and its lists of strings.

    Fields in `NO_TEXT` are left out, a question comes with its choices, and a task of
    infilling is one program: its middle alone may be `return False`. Nested lists are
    arguments for a program, not texts.
    """
    if isinstance(record, str):
        yield record
    if not isinstance(record, dict):
        return
    if {"prompt", "canonical_solution", "suffix"} <= record.keys():
        whole = "".join(map(str, (record["prompt"], record["canonical_solution"],
                                  record["suffix"])))
        record = record | dict(prompt=whole, canonical_solution=None, suffix=None)
    choices = [str(c) for field in CHOICES for c in record.get(field) or ()]
    for field, value in record.items():
        if field in NO_TEXT or field in CHOICES:
            continue
        if isinstance(value, str):
            yield "\n".join([value, *choices]) if field == "question" else value
        elif isinstance(value, list):
            yield from (one for one in value if isinstance(one, str))


def read_benchmarks(files: Sequence[Path]) -> Iterator[str]:
    """The texts of benchmark files: JSON lines (.jsonl, .json) or plain text, or .gz.

    Made for HumanEval, its infilling sets, HumanEvalPack, Multilingual HumanEval, MBPP,
    EvalPlus, CRUXEval, GSM8K and MMLU; of any other JSON lines all strings are used. A
    plain text is one string. Raises `UserError` for a file or line that cannot be read,
    and for a file without a text.
    """
    for file in map(Path, files):
        empty = True
        for text in _texts_of(file):
            empty = empty and not text.strip()
            yield text
        if empty:
            raise UserError(f"{file} holds no text of a benchmark.")


def _texts_of(file: Path) -> Iterator[str]:
    try:
        data = file.read_bytes()
        if file.suffix == ".gz":
            data = gzip.decompress(data)
        text = data.decode("utf-8-sig")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{file} cannot be read as a benchmark: {error}.") from None
    if not {".jsonl", ".json"}.intersection(file.suffixes):
        yield text
        return
    for number, line in enumerate(text.split("\n"), 1):  # texts may hold other breaks
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file}, line {number}: no JSON value: {error}.") from None
        if not isinstance(record, dict | str):
            raise UserError(f"{file}, line {number}: expected an object or a string, "
                            f"found {type(record).__name__}.")
        yield from strings_of(record)
