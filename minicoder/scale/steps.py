"""The rules of the corpus as steps of datatrove, for more sources than one task reads.

Each step is a generator of `minicoder.data` in the engine's clothes, so that there is
one version of each rule. Four stages give what `build_corpus` gives, to the byte:

    filter    many tasks  each reads its share of the sources, rule by rule
    unique    one task    of what is alike the first is kept
    order     many tasks  no benchmark in it; files in the order of their imports
    assemble  one task    numbers the samples; documents.parquet and funnel.json

Shares are neighbours in the list of sources, so the tasks' files one after the other
are in the order of `build_corpus`, and "the first" is the same document. That one task
bounds the size of a corpus: it read 3.4 MB a second on one core, 0.3 TB a day. The
engine has MinHash blocks that need none, and they keep other documents: 14 buckets of 8
hashes propose, nothing verifies, pairs that are linked make one cluster of which one
stays, and a repository is not one text.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain, count, groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import Document as Datum
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter

from minicoder.data.corpus import COLUMNS, counted, headline, write_documents
from minicoder.data.dedup import kept_on_disk
from minicoder.data.filters import parsers
from minicoder.data.funnel import Funnel
from minicoder.data.sieve import (
    Deduplicator,
    apply_filters,
    decontaminate,
    in_order,
    repositories,
)
from minicoder.data.sources import Document, Dropped, Note
from minicoder.scale.recipe import Recipe, Source
from minicoder.stages import clear, stage, write_json

COMMAND = "data-at-scale"
BATCH = 100     # documents of at most 1 MiB that a reader and a writer hold
Data = Iterable[Datum] | None


@dataclass(frozen=True)
class Carried(Document):
    """A document on its way from task to task."""

    rank: str = ""      # of the task that reads it: the engine names files by it
    group: int = -1     # number of the repository, or of its part, in the corpus


def packed(one: Document) -> Datum:
    """Our document as the engine's."""
    return Datum(one.text, one.path,
                 metadata={name: value for name, value in vars(one).items()
                           if name not in ("text", "path")})


def unpacked(data: Data) -> Iterator[Carried]:
    """The engine's documents as ours."""
    names = [field.name for field in fields(Carried)][2:]
    for one in data or ():
        yield Carried(one.text, one.id, *(one.metadata[name] for name in names))


class Rows(ParquetWriter):
    """One file for each rank, in columns; only one is open where ranks come in turn.

    Closes a file before the next one is begun: the engine keeps them all open.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        super().__init__(str(folder), compression="zstd", batch_size=BATCH,
                         max_file_size=-1, schema=schema)

    def _default_adapter(self, document: Datum) -> dict[str, Any]:
        return document.metadata | {"text": document.text, "path": document.id}

    def write(self, document: Datum, rank: int = 0, **names: Any) -> None:
        """Write a row into the file of the document's rank, or else of the task's."""
        ours = self._get_output_filename(document, rank)
        for other in set(self.output_mg.get_open_files()) - {ours}:
            self.close_file(other)
        super().write(document, rank, **names)


def written(folder: Path) -> Rows:
    """The step that writes what is left after a stage."""
    return Rows(folder, pa.schema([
        *((name, pa.string()) for name in (*COLUMNS, "rank")), ("group", pa.int64())]))


def removals(folder: Path) -> Rows:
    """The writer of what a step removed."""
    return Rows(folder, pa.schema([("bytes", pa.int64()), *(
        (name, pa.string()) for name in ("rule", "path", "excerpt", "reason"))]))


def read_removals(folder: Path) -> Iterator[Dropped]:
    """What all the tasks of a step removed, in the order of the tasks."""
    for file in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(BATCH):
                yield from (Dropped(**row) for row in batch.to_pylist())


def adapt(reader: ParquetReader, row: dict[str, Any], file: str, place: int
          ) -> dict[str, Any]:
    """A row that `Rows` wrote, as what the engine makes a document of."""
    return {"text": row.pop("text"), "id": row.pop("path"), "metadata": row}


def reader(folder: Path) -> ParquetReader:
    """The step that reads what the stage before has written, each task its files."""
    return ParquetReader(str(folder), batch_size=BATCH, adapter=adapt)


class Step(PipelineStep):
    """A generator from documents to fewer, which says what it removes.

    The removed go into a folder of Parquet, and are counted in the engine's statistics
    as "removed: RULE" and "removed bytes: RULE".
    """

    type = "minicoder"

    def __init__(self, recipe: Recipe, removed: Path) -> None:
        super().__init__()
        self.recipe, self.removed = recipe, removed

    @abstractmethod
    def passed(
        self, documents: Iterator[Carried], note: Note, rank: int, world_size: int
    ) -> Iterator[Document]:
        """What is left of the documents of task `rank` among `world_size`."""

    def run(self, data: Data = None, rank: int = 0, world_size: int = 1
            ) -> Iterator[Datum]:
        """What the engine calls."""
        with removals(self.removed / self.name) as writer:
            def note(one: Dropped) -> None:
                self.stat_update(f"removed: {one.rule}")
                self.stat_update(f"removed bytes: {one.rule}", value=one.bytes)
                about = {"rule": one.rule, "bytes": one.bytes, "reason": one.reason,
                         "excerpt": one.excerpt}
                writer.write(Datum("", one.path, metadata=about), rank)

            for one in self.passed(unpacked(data), note, rank, world_size):
                self.stat_update("passed")
                yield packed(one)


class Read(Step):
    """The documents of this task's share of the sources, which are neighbours."""

    name = "read"

    def __init__(self, recipe: Recipe, removed: Path) -> None:
        super().__init__(recipe, removed)
        self.sources: Sequence[Source] = recipe.sources()

    def passed(self, documents: Iterator[Carried], note: Note, rank: int,
               world_size: int) -> Iterator[Document]:
        first, last = (len(self.sources) * r // world_size for r in (rank, rank + 1))
        for source in self.sources[first:last]:
            for one in source(note):
                yield Carried(**vars(one), rank=f"{rank:05}")


class Filter(Step):
    """Documents in the languages that are asked for, to which no rule objects."""

    name = "filter"

    def passed(self, documents: Iterator[Carried], note: Note, rank: int,
               world_size: int) -> Iterator[Document]:
        return apply_filters(documents, self.recipe.languages, self.recipe.rules, note)


class Unique(Step):
    """Documents and repositories like none before them; for one task alone.

    A repository at the border of two shares goes to the first. What is remembered lies
    in the task's own TMPDIR, since SQLite is no friend of shared file systems.
    """

    name = "unique"

    def passed(self, documents: Iterator[Carried], note: Note, rank: int,
               world_size: int) -> Iterator[Document]:
        with (TemporaryDirectory() as folder,
              kept_on_disk(Path(folder) / "whole", seed=self.recipe.seed) as whole,
              kept_on_disk(Path(folder) / "files", seed=self.recipe.seed) as files):
            unseen = Deduplicator(self.recipe.dedup, whole, files, note)
            for number, group in enumerate(repositories(documents)):
                for one in unseen(group):
                    yield replace(one, rank=group[0].rank, group=number)


class Order(Step):
    """Repositories that hold nothing of a benchmark, in the order of their imports."""

    name = "order"

    def passed(self, documents: Iterator[Carried], note: Note, rank: int,
               world_size: int) -> Iterator[Document]:
        exam = self.recipe.exam()
        for _, group in groupby(documents, lambda one: one.group):
            yield from in_order(list(decontaminate(group, exam, note)), count())


STEPS = (Read, Filter, Unique, Order)


def numbered(documents: Iterable[Carried]) -> Iterator[Document]:
    """Plain documents, their samples numbered through all repositories."""
    number = count()
    for _, same in groupby(documents, lambda d: (d.group, d.kind, d.sample)):
        first, *others = same
        named = first.kind == "code" and first.sample
        sample = f"{first.origin}#{next(number)}" if named else first.sample
        for one in (first, *others):
            yield Document(one.text, one.path, one.language, one.kind, one.origin,
                           one.licence, sample)


class Assemble(PipelineStep):
    """The folder of the corpus, as a stage: nothing, or all of it; for one task."""

    type, name = "minicoder", "assemble"

    def __init__(self, recipe: Recipe, removed: Path, out: Path) -> None:
        super().__init__()
        self.recipe, self.removed, self.out = recipe, removed, out

    def run(self, data: Data = None, rank: int = 0, world_size: int = 1) -> None:
        """Write documents.parquet and funnel.json, or find that they are there."""
        with stage(self.out, COMMAND, self.recipe.settings(), self.recipe.recalled(),
                   self.recipe.seed) as run:
            if run.finished:
                return
            clear(run.work)
            funnel = Funnel(self.recipe.in_force())
            for one in chain.from_iterable(
                    read_removals(self.removed / step.name) for step in STEPS):
                funnel(one)
            write_documents(counted(numbered(unpacked(data)), funnel), run.work)
            report = funnel.report() | {"parsers": list(parsers())}
            write_json(run.work / "funnel.json", report)
            run.headline = headline(report)
