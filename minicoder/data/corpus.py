"""The corpus stage: sources → filters → deduplication → documents and their funnel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from minicoder.data.dedup import THRESHOLD, exact_duplicates, near_duplicates
from minicoder.data.filters import RULES, first_objection
from minicoder.data.mixture import SHARES
from minicoder.data.sources import (
    NOT_SAMPLED,
    READING_RULES,
    Document,
    Dropped,
    documents_from_folder,
    stable_hash,
)
from minicoder.data.standard import REQUIREMENTS, standard_corpus
from minicoder.errors import UserError
from minicoder.progress import progress
from minicoder.stages import clear, stage, write_json

DOCUMENTS = "documents.parquet"
HELD_OUT = 0.03
EXCERPT = 300           # characters of an example in the funnel
COLUMNS = [field.name for field in fields(Document)]
DUPLICATE_RULES = (
    ("exact duplicate", "the same text twice is learnt by heart"),
    ("near duplicate", f"shares {THRESHOLD:.0%} of its word 5-grams with one kept"),
)
ORDER = (*READING_RULES, *((name, why) for name, why, _ in RULES), *DUPLICATE_RULES)


def size(document: Document) -> int:
    """Bytes of UTF-8."""
    return len(document.text.encode())


def removed(document: Document, rule: str, reason: str) -> Dropped:
    """The note that stays of a document that a rule removed."""
    return Dropped(rule, document.path, size(document), document.text[:EXCERPT], reason)


def gather(
    folders: Sequence[Path], requirements: Sequence[str], scale: float, seed: int,
    dropped: list[Dropped],
) -> list[Document]:
    """The documents of `folders`, or of this machine, in an order that is stable."""
    documents = standard_corpus(requirements, scale, seed, dropped, not folders)
    for folder in folders:
        documents += documents_from_folder(Path(folder), dropped)
    return sorted(documents, key=lambda one: (one.kind, one.origin, one.path))


def apply_filters(
    documents: Sequence[Document], dropped: list[Dropped]
) -> list[Document]:
    """The documents to which no rule of `filters.RULES` objects."""
    kept = []
    for document in progress(documents, "filters", "doc"):
        if objection := first_objection(document):
            dropped.append(removed(document, *objection))
        else:
            kept.append(document)
    return kept


def deduplicate(
    documents: Sequence[Document], dropped: list[Dropped], seed: int
) -> list[Document]:
    """The first document of every cluster of exact, then of near duplicates."""
    for find, (rule, _) in zip(
            (exact_duplicates, lambda texts: near_duplicates(texts, seed=seed)),
            DUPLICATE_RULES, strict=True):
        repeated = find([document.text for document in documents])
        dropped += [removed(documents[index], rule, f"kept: {documents[first].path}")
                    for index, first in repeated.items()]
        documents = [document for index, document in enumerate(documents)
                     if index not in repeated]
    return list(documents)


def is_held_out(path: str, share: float = HELD_OUT) -> bool:
    """Whether a file is never trained on: a stable hash of its path decides.

    All docstrings of one file ("numpy/linalg.py:90") fall on the same side.
    """
    return stable_hash(path.rsplit(":", 1)[0]) < share * 2 ** 64


def count(documents: Iterable[Document]) -> dict[str, dict[str, int]]:
    """Documents and bytes of each kind."""
    counted = {kind: {"documents": 0, "bytes": 0} for kind in SHARES}
    for document in documents:
        counted[document.kind]["documents"] += 1
        counted[document.kind]["bytes"] += size(document)
    return counted


def by_origin(documents: Iterable[Document]) -> dict[str, dict[str, str | int]]:
    """Documents and bytes of each origin, with its kind and licence."""
    origins: dict[str, dict[str, str | int]] = {}
    for one in documents:
        name = one.origin
        if origins.get(name, {}).get("kind", one.kind) != one.kind:
            name = f"{name} ({one.kind})"
        about = origins.setdefault(name, {"kind": one.kind, "documents": 0, "bytes": 0,
                                          "licence": one.licence})
        about["documents"] += 1
        about["bytes"] += size(one)
    return origins


def funnel(dropped: Sequence[Dropped], kept: Sequence[Document]) -> dict[str, object]:
    """What each rule of `ORDER` saw and removed, and what is left.

    "kept" counts all documents that are left, "heldout" those of them that are reserved
    for measuring; "not_sampled" are files that the limits on bytes left unread.
    """
    by_rule: defaultdict[str, list[Dropped]] = defaultdict(list)
    for one in dropped:
        by_rule[one.rule].append(one)
    unread = by_rule.pop(NOT_SAMPLED, [])
    left, rules = len(kept) + sum(map(len, by_rule.values())), []
    for rule, why in ORDER:
        gone = by_rule[rule]
        example = {key: getattr(gone[0], key) for key in ("path", "excerpt", "reason")
                   } if gone else None
        rules.append({"rule": rule, "why": why, "documents_in": left,
                      "documents_removed": len(gone),
                      "bytes_removed": sum(one.bytes for one in gone),
                      "example": example})
        left -= len(gone)
    return {"rules": rules, "kept": count(kept), "by_origin": by_origin(kept),
            "heldout": count(one for one in kept if is_held_out(one.path)),
            "not_sampled": {"documents": len(unread),
                            "bytes": sum(one.bytes for one in unread)}}


def write_documents(documents: Sequence[Document], folder: Path) -> None:
    """Write documents.parquet: the fields of a document and its split."""
    rows = [asdict(document)
            | {"split": "heldout" if is_held_out(document.path) else "train"}
            for document in documents]
    pq.write_table(pa.Table.from_pylist(rows), folder / DOCUMENTS, compression="zstd")


def build_corpus(
    out: Path, folders: Sequence[Path] = (),
    requirements: Sequence[str] = REQUIREMENTS, scale: float = 1.0, seed: int = 0,
) -> Path:
    """Collect documents, filter and deduplicate them, hold a few files out.

    The held-out part is chosen after deduplication, so that no near copy of a held-out
    file is trained on. Raises `UserError` for a folder without a usable file and for a
    package that is not installed.

    Args:
        out: folder for documents.parquet and funnel.json.
        folders: your own folders of source code; without them, this machine's Python.
        requirements: packages to read, with all that they require.
        scale: multiplies the bytes taken from each origin of the standard corpus.
        seed: decides which files are taken.
    """
    settings = {"folders": [str(folder) for folder in folders],
                "requirements": list(requirements), "scale": scale}
    with stage(out, "data", settings, seed=seed) as run:
        if run.finished:
            return out
        clear(run.work)
        dropped: list[Dropped] = []
        documents = gather(folders, requirements, scale, seed, dropped)
        documents = apply_filters(documents, dropped)
        documents = deduplicate(documents, dropped, seed)
        write_documents(documents, run.work)
        report = funnel(dropped, documents)
        write_json(run.work / "funnel.json", report)
        parts = ", ".join(f"{kind} {part['bytes'] / 1e6:.1f}"
                          for kind, part in report["kept"].items())
        run.headline = (f"{len(documents):,} of {report['rules'][0]['documents_in']:,} "
                        f"documents kept, MB: {parts}")
    return out


def read_documents(
    folder: Path, split: str, kinds: Sequence[str] | None = None
) -> list[Document]:
    """The documents of a corpus folder: `split` "train" or "heldout", of some kinds.

    Raises `UserError` when the file is missing, broken or holds none of them.
    """
    file = Path(folder) / DOCUMENTS
    try:
        table = pq.read_table(file, filters=pc.field("split") == split)
        table = table.select(COLUMNS)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UserError(f"{file} cannot be read as a corpus: {error}.") from None
    documents = [Document(**row) for row in table.to_pylist()
                 if kinds is None or row["kind"] in kinds]
    if not documents:
        raise UserError(f"{file} holds no document with split {split!r}"
                        f"{f' and kind in {tuple(kinds)}' if kinds else ''}.")
    return documents
