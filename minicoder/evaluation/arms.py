"""What the arms of an ablation read, and the one exam that all of them sit.

Both corpora hold the same files out, by the hash of their paths. Yet one of them may
train on a copy: a file that the other removed as a duplicate, or that only lies there.
So a text is left out of every arm when it holds most of a file of the exam.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from minicoder.data.corpus import (
    iterate_documents,
    read_documents,
    write_documents,
)
from minicoder.data.dedup import THRESHOLD, WordHashes, shingles
from minicoder.data.funnel import size
from minicoder.data.sources import Document, stable_hash
from minicoder.data.vocabulary import sample_bytes
from minicoder.errors import UserError, at_least
from minicoder.stages import clear, stage, write_json
from minicoder.tokenizer import Tokenizer

SMALLEST, LARGEST = 500, 4000       # bytes of a file of the exam
REPORT = "arm.json"


class Exam:
    """Held-out files, and what holds most of one of them."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self.words, self.documents = WordHashes(), documents
        sets = [shingles(one.text, self.words).tolist() for one in documents]
        self.sizes = list(map(len, sets))
        self.owners: dict[int, list[int]] = defaultdict(list)
        for number, found in enumerate(sets):
            for shingle in found:
                self.owners[shingle].append(number)

    def copied(self, text: str) -> str | None:
        """The path of a file of which `text` holds 70 % of the word 5-grams, or None.

        This is containment, |A ∩ B| / |A| for a file A of the exam: it finds what a
        Jaccard similarity of 70 % finds, and copies inside larger files as well.
        """
        shared = Counter(number for shingle in shingles(text, self.words).tolist()
                         for number in self.owners.get(shingle, ()))
        for number, count in shared.items():
            if count >= THRESHOLD * self.sizes[number]:
                return self.documents[number].path
        return None


def ticket(document: Document, seed: int) -> int:
    """A file's number in a lottery: the same for the same path in every corpus."""
    return stable_hash(f"{seed}:{document.path}")


def pick_exam(out: Path, corpus: Path, files: int, seed: int = 0) -> Path:
    """The stage that picks held-out code: as many files of each language that has them.

    They are drawn by lot among the files of 500 to 4,000 bytes. Raises `UserError` when
    no language has so many.
    """
    at_least(1, files=files)
    with stage(out, "exam", dict(corpus=corpus, files=files), [corpus], seed) as run:
        if run.finished:
            return out
        clear(run.work)
        groups: dict[str, list[Document]] = defaultdict(list)
        for one in iterate_documents(corpus, "heldout", ["code"]):
            if SMALLEST <= size(one) <= LARGEST:
                groups[one.language].append(one)
        chosen = [one for _, group in sorted(groups.items()) if len(group) >= files
                  for one in sorted(group, key=lambda one: ticket(one, seed))[:files]]
        if not chosen:
            raise UserError(f"No language in {corpus} has {files} held-out files of "
                            f"{SMALLEST} to {LARGEST} bytes; choose fewer --files or a "
                            "larger corpus.")
        write_documents(chosen, run.work)
        run.headline = (f"{len(chosen)} files in "
                        f"{len({one.language for one in chosen})} languages")
    return out


def draw_arm(out: Path, corpus: Path, exam: Path, megabytes: float, seed: int = 0
             ) -> Path:
    """The stage that draws an arm's code from its corpus, by lot, without the exam.

    Writes documents.parquet, and arm.json: bytes by language, and the copies that were
    left out. `megabytes` is met on average; a smaller corpus is taken whole.
    """
    settings = dict(corpus=corpus, exam=exam, megabytes=megabytes)
    with stage(out, "arm", settings, [corpus, exam], seed) as run:
        if run.finished:
            return out
        clear(run.work)
        sat = Exam(read_documents(exam, "heldout"))
        there = sum(map(size, iterate_documents(corpus, "train", ["code"])))
        languages: Counter[str] = Counter()
        copies: dict[str, str] = {}

        def drawn() -> Iterator[Document]:
            for one in iterate_documents(corpus, "train", ["code"]):
                if ticket(one, seed) >= megabytes * 1e6 / there * 2 ** 64:
                    continue
                if first := sat.copied(one.text):
                    copies[one.path] = first
                else:
                    languages[one.language] += size(one)
                    yield one

        write_documents(drawn(), run.work)
        report = {"bytes": sum(languages.values()), "corpus_bytes": there,
                  "languages": dict(languages.most_common()), "copies": copies}
        write_json(run.work / REPORT, report)
        run.headline = (f"{report['bytes'] / 1e6:.1f} of {there / 1e6:.1f} MB in "
                        f"{len(languages)} languages, {len(copies)} copies left out")
    return out


def shared_tokenizer(out: Path, arms: Sequence[Path], vocabulary: int,
                     megabytes: float, seed: int = 0) -> Path:
    """The stage that trains one tokenizer on equal parts of all arms."""
    settings = dict(arms=[str(arm) for arm in arms], vocabulary=vocabulary,
                    megabytes=megabytes)
    with stage(out, "tokenizer", settings, arms, seed) as run:
        if run.finished:
            return out
        clear(run.work)
        texts = [text for arm in arms for text in sample_bytes(
            iterate_documents(arm, "train"), megabytes * 1e6 / len(arms), seed)]
        words = Tokenizer.train(texts, vocabulary)
        words.save(run.work)
        run.headline = f"{words.vocab_size:,} tokens, from {len(arms)} arms"
    return out
