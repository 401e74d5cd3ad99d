"""What a document passes on its way into the corpus, each step a generator.

One repository at a time is in memory. What must be remembered of all the others lies on
disk (`dedup.Kept`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from minicoder.data.decontaminate import Benchmarks
from minicoder.data.dedup import (
    THRESHOLD,
    Hashes,
    Kept,
    WordHashes,
    digest,
    shingles,
    union,
)
from minicoder.data.dependencies import samples
from minicoder.data.filters import RULES, first_objection
from minicoder.data.funnel import removed, size
from minicoder.data.sources import READING_RULES, Document, Note

REPOSITORY_BYTES = 16 << 20     # of text in memory at a time
Level = Literal["repository", "file", "both"]
Rules = Literal["all", "weak"]
WEAK = ("mean line", "longest line", "alphabetic")  # what counting characters can tell
LANGUAGE = ("language", "not one of --languages")
EXACT = ("exact duplicate", "the same text twice is learnt by heart")
REPOSITORY = ("near duplicate (repository)",
              f"a fork: shares {THRESHOLD:.0%} of its word 5-grams with one kept")
FILE = ("near duplicate (file)",
        f"shares {THRESHOLD:.0%} of its word 5-grams with one kept")
CONTAMINATION = ("contamination", "holds text of a benchmark: an exam must be unseen")


def apply_filters(
    documents: Iterable[Document], languages: Sequence[str], rules: Rules, note: Note
) -> Iterator[Document]:
    """The documents in these languages (all, if none) to which no rule objects."""
    for one in documents:
        if languages and one.kind == "code" and one.language not in languages:
            note(removed(one, LANGUAGE[0], f"written in {one.language}"))
            continue
        objection = first_objection(one)
        if objection and (rules == "all" or objection[0] in WEAK):
            note(removed(one, *objection))
        else:
            yield one


def repositories(
    documents: Iterable[Document], most: int = REPOSITORY_BYTES
) -> Iterator[list[Document]]:
    """Neighbours of one origin; one of more than `most` bytes comes in several parts.

    A part ends before the document that would be too much.
    """
    group: list[Document] = []
    held = 0
    for one in documents:
        if group and (one.origin != group[0].origin or held + size(one) > most):
            yield group
            group, held = [], 0
        group.append(one)
        held += size(one)
    if group:
        yield group


@dataclass
class Deduplicator:
    """Remove what was kept before: whole repositories, documents, or both in turn.

    A repository with any code in it is one long text, as in DeepSeek-Coder §2.3: it
    goes as a whole or stays as a whole, so that none is torn apart. Its set of shingles
    is the union of its files'; the few that lie across the end of a file are left out.
    Whatever else has an origin (pages of a site, docstrings) is judged one by one.
    """

    level: Level
    whole: Kept
    files: Kept
    note: Note
    words: WordHashes = field(default_factory=WordHashes)

    def repository(
        self, group: list[Document], sets: list[Hashes]
    ) -> tuple[str, str] | None:
        """Why a whole repository goes, or None: then it is kept from now on."""
        origin = group[0].origin
        if first := self.whole.twin(origin, digest("\0".join(d.text for d in group))):
            return EXACT[0], first
        first = self.whole.like(origin, union(sets))
        return (REPOSITORY[0], first) if first else None

    def document(
        self, one: Document, found: Hashes, fork: tuple[str, str] | None
    ) -> tuple[str, str] | None:
        """Why a document goes, or None: then it is kept from now on."""
        hash = digest(one.text)
        known = self.files.holds(hash) if fork else self.files.twin(one.path, hash)
        if known or fork:
            return (EXACT[0], known) if known else fork
        first = self.files.like(one.path, found)
        return (FILE[0], first) if first else None

    def __call__(self, group: list[Document]) -> Iterator[Document]:
        """The documents of one origin that are like nothing that was kept before."""
        sets = [shingles(one.text, self.words) for one in group]
        one_text = self.level != "file" and any(d.kind == "code" for d in group)
        gone = self.repository(group, sets) if one_text else None
        for one, found in zip(group, sets, strict=True):
            objection = gone
            if not (one_text and self.level == "repository"):
                objection = self.document(one, found, gone)
            if objection:
                rule, first = objection
                self.note(removed(one, rule, f"kept: {first}"))
            else:
                yield one


def decontaminate(
    documents: Iterable[Document], benchmarks: Benchmarks | None, note: Note
) -> Iterator[Document]:
    """The documents that hold nothing of a benchmark."""
    for one in documents:
        if reason := benchmarks and benchmarks.objection(one.text):
            note(removed(one, CONTAMINATION[0], reason))
        else:
            yield one


def in_order(documents: list[Document], number: Iterator[int]) -> Iterator[Document]:
    """One origin's code in the order of its imports, then what else it has.

    Files that are linked by imports are one sample, named by the next free `number`.
    """
    for sample in samples([one for one in documents if one.kind == "code"]):
        name = f"{sample[0].origin}#{next(number)}" if len(sample) > 1 else ""
        yield from (replace(one, sample=name) for one in sample)
    yield from (one for one in documents if one.kind != "code")


def in_force(
    languages: Sequence[str], rules: Rules, dedup: Level, benchmarks: Sequence[Path]
) -> list[tuple[str, str]]:
    """The rules of a run with their reasons, in the order in which they act."""
    filters = [(name, why) for name, why, _ in RULES if rules == "all" or name in WEAK]
    return [*READING_RULES, *[LANGUAGE] * bool(languages), *filters, EXACT,
            *[REPOSITORY] * (dedup != "file"), FILE,
            *[CONTAMINATION] * bool(benchmarks)]
