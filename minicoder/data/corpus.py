"""The corpus stage: sources → filters → deduplication → documents and their funnel.

Everything is a stream of generators. One repository at a time is in memory, and what
must be remembered of all the others lies on disk, so a corpus may be larger than the
memory of the machine that builds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, asdict, fields
from difflib import get_close_matches
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from minicoder.data.archives import documents_from_archives
from minicoder.data.decontaminate import Benchmarks, read_benchmarks
from minicoder.data.dedup import kept_on_disk
from minicoder.data.filters import parsers
from minicoder.data.funnel import Funnel
from minicoder.data.languages import LANGUAGES, language_named
from minicoder.data.repositories import documents_from_folder
from minicoder.data.sieve import (
    Deduplicator,
    Level,
    Rules,
    apply_filters,
    decontaminate,
    in_force,
    in_order,
    repositories,
)
from minicoder.data.sources import Document, Note, stable_hash
from minicoder.data.standard import REQUIREMENTS, packages, standard_corpus
from minicoder.data.web import documents_from_pages
from minicoder.errors import UserError
from minicoder.progress import progress
from minicoder.stages import MADE_BY, clear, stage, write_json

DOCUMENTS = "documents.parquet"
HELD_OUT = 0.03
COLUMNS = [field.name for field in fields(Document)]
ROW_GROUP_BYTES = 8 << 20       # of text in memory before it is written
LINE = re.compile(r":[0-9]+$")  # of a docstring in its file


def is_held_out(path: str, share: float = HELD_OUT) -> bool:
    """Whether a file is never trained on: a stable hash of its path decides.

    All docstrings of one file ("numpy/linalg.py:90") fall on the same side.
    """
    return stable_hash(LINE.sub("", path)) < share * 2 ** 64


def pages_at(place: Path, note: Note) -> Iterator[Document]:
    """What the recall stage left in a folder, or the pages of a crawl as text."""
    if (place / MADE_BY).exists():
        yield from read_rows(place / DOCUMENTS)
    else:
        yield from documents_from_pages(place, "text", note)


def gather(
    folders: Sequence[Path], archives: Sequence[Path], pages: Sequence[Path],
    requirements: Sequence[str], scale: float, seed: int, note: Note,
) -> Iterator[Document]:
    """The documents of what is given, then this machine's (code only if none was)."""
    for folder in folders:
        yield from documents_from_folder(Path(folder), note)
    for folder in archives:
        yield from documents_from_archives(Path(folder), note)
    for place in pages:
        yield from pages_at(Path(place), note)
    yield from standard_corpus(requirements, scale, seed, note,
                               not (folders or archives))


def write_documents(documents: Iterable[Document], folder: Path) -> None:
    """Write documents.parquet, row group by row group: documents and their splits."""
    schema = pa.schema([(name, pa.string()) for name in (*COLUMNS, "split")])
    rows: list[dict[str, str]] = []
    held = 0
    with pq.ParquetWriter(folder / DOCUMENTS, schema, compression="zstd") as writer:
        for one in documents:
            rows.append(asdict(one) | {
                "split": "heldout" if is_held_out(one.path) else "train"})
            held += len(one.text)
            if held >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows, held = [], 0
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema))


def counted(documents: Iterable[Document], funnel: Funnel) -> Iterator[Document]:
    """The same documents, and the funnel knows them."""
    for one in documents:
        funnel.keep(one, is_held_out(one.path))
        yield one


def check_languages(names: Sequence[str]) -> None:
    """Raise `UserError` for a language that is not in the table."""
    for name in names:
        try:
            language_named(name)
        except KeyError:
            near = get_close_matches(name, [language.name for language in LANGUAGES])
            raise UserError(f"--languages {name!r} is not known. Names that are near: "
                            f"{', '.join(near) or 'none'}.") from None


def build_corpus(
    out: Path, folders: Sequence[Path] = (),
    requirements: Sequence[str] = REQUIREMENTS, archives: Sequence[Path] = (),
    pages: Sequence[Path] = (), languages: Sequence[str] = (), rules: Rules = "all",
    dedup: Level = "both", benchmarks: Sequence[Path] = (), scale: float = 1.0,
    seed: int = 0,
) -> Path:
    """Collect documents, filter and deduplicate them, hold a few files out.

    Without a source, the corpus is what this machine's Python ships. With --folders or
    --archives, only its documentation is added to your code, as text and math.

    Of what is alike the first is kept; sources are read in the order folders, archives,
    pages, this machine. What is held out is chosen last. Unless --dedup is repository,
    no near copy of it is then trained on.

    Raises `UserError` for a folder without a usable file, a package that is not
    installed, and a language that is not known.

    Args:
        out: folder for documents.parquet and funnel.json.
        folders: your own folders of source code, or checkouts; each is a repository.
        requirements: installed packages to read, with all that they require.
        archives: folders of wheels, crates, npm, Debian or source archives.
        pages: crawled web pages (WARC, HTML, JSON lines), or a folder made by recall.
        languages: of code, keep only these; none keeps all that are known.
        rules: all filters, or the weak three that count characters and lines.
        dedup: compare whole repositories, as DeepSeek-Coder, or single files, or both.
        benchmarks: files of test problems; what holds a piece of one is removed.
        scale: multiplies the bytes taken from each origin of this machine's Python.
        seed: decides which files are taken.
    """
    places = {"folders": folders, "archives": archives, "pages": pages,
              "benchmarks": benchmarks}
    settings = {"folders": [], "requirements": list(requirements)} | {
        name: list(map(str, found)) for name, found in places.items()} | {
        "languages": list(languages), "rules": rules, "dedup": dedup, "scale": scale}
    recalled = [Path(place) for place in pages if (Path(place) / MADE_BY).exists()]
    check_languages(languages)
    packages(requirements)  # before anything is read: is each of them installed?
    with stage(out, "data", settings, recalled, seed) as run:
        if run.finished:
            return out
        clear(run.work)
        funnel = Funnel(in_force(languages, rules, dedup, benchmarks))
        exam = Benchmarks(read_benchmarks(list(map(Path, benchmarks)))
                          ) if benchmarks else None
        found = gather(folders, archives, pages, requirements, scale, seed, funnel)
        documents = apply_filters(progress(found, "data", "doc"), languages, rules,
                                  funnel)
        number = count()
        with (kept_on_disk(run.work / "kept_whole", seed=seed) as whole,
              kept_on_disk(run.work / "kept_files", seed=seed) as files):
            unseen = Deduplicator(dedup, whole, files, funnel)
            write_documents(counted((
                one for group in repositories(documents)
                for one in in_order(list(
                    decontaminate(unseen(group), exam, funnel)), number)), funnel),
                run.work)
        report = funnel.report() | {"parsers": list(parsers())}
        write_json(run.work / "funnel.json", report)
        run.headline = headline(report)
    return out


def headline(report: dict) -> str:
    """What the stage says in one line."""
    parts = ", ".join(f"{kind} {part['bytes'] / 1e6:.1f}"
                      for kind, part in report["kept"].items())
    left = sum(part["documents"] for part in report["kept"].values())
    return (f"{left:,} of {report['rules'][0]['documents_in']:,} documents kept, "
            f"MB: {parts}")


def read_rows(
    file: Path, split: str | None = None, kinds: Sequence[str] | None = None
) -> Iterator[Document]:
    """The documents in a Parquet file, one row group in memory at a time.

    Raises `UserError` for a file that is missing, broken, or lacks a field.
    """
    try:
        with pq.ParquetFile(file) as opened:
            there = set(opened.schema_arrow.names)
            names = [f.name for f in fields(Document)
                     if f.name in there or f.default is MISSING]
            if lacking := {*names, *["split"] * bool(split)} - there:
                raise KeyError(f"no column {', '.join(sorted(lacking))}")
            for group in range(opened.num_row_groups):
                table = opened.read_row_group(group, names + ["split"] * bool(split))
                for row in table.to_pylist():
                    if row.pop("split", None) == split and (
                            kinds is None or row["kind"] in kinds):
                        yield Document(**row)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UserError(f"{file} cannot be read as a corpus: {error}.") from None


def iterate_documents(
    folder: Path, split: str, kinds: Sequence[str] | None = None
) -> Iterator[Document]:
    """The documents of a corpus folder, read as they are asked for.

    `split` is "train" or "heldout"; `kinds` keeps only some. Raises `UserError` when
    the file is missing, broken or holds none of them.
    """
    file, empty = Path(folder) / DOCUMENTS, True
    for document in read_rows(file, split, kinds):
        empty = False
        yield document
    if empty:
        raise UserError(f"{file} holds no document with split {split!r}"
                        f"{f' and kind in {tuple(kinds)}' if kinds else ''}.")


def read_documents(
    folder: Path, split: str, kinds: Sequence[str] | None = None
) -> list[Document]:
    """The documents of `iterate_documents`, all at once."""
    return list(iterate_documents(folder, split, kinds))
