"""The recall stage: from a crawl to the documents of a subject, and how it went.

The rounds are in `rounds.py`; here are files: pages in, documents and reports out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, fields
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool

from minicoder.data.annotators import by_patterns, by_samples, folder_of, nobody
from minicoder.data.classifier import Recipe
from minicoder.data.languages import language_of
from minicoder.data.page_store import (
    PageStore,
    batches,
    split_url,
    unique_pages,
)
from minicoder.data.rounds import (
    EXAMPLES,
    Round,
    own_domains,
    paths_of,
    recall_rounds,
)
from minicoder.data.sources import Document, Note
from minicoder.data.web import pages as read_pages
from minicoder.errors import UserError, at_least
from minicoder.progress import progress
from minicoder.stages import clear, stage, write_json
from minicoder.tokenizer import Tokenizer


def addresses(file: Path | None, depth: int) -> set[str]:
    """The addresses in a file of one a line, spelt as in the store; none without."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n") if file else []
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as addresses: {error}.") from None
    return {"".join(split_url(line.strip(), depth)) for line in lines if line.strip()}


def measured(
    web: PageStore, kept: Bool[np.ndarray, " pages"],
    subject: Bool[np.ndarray, " pages"],
) -> dict[str, float]:
    """Recall and precision of what is kept, by tokens; nought of nothing is 0."""
    sizes = web.sizes
    right, all_kept, all_there = (int(sizes[part].sum())
                                  for part in (kept & subject, kept, subject))
    return {"recall": right / max(all_there, 1), "precision": right / max(all_kept, 1)}


def report(
    web: PageStore, one: Round, subject: Bool[np.ndarray, " pages"]
) -> dict[str, object]:
    """A round as numbers, with recall and precision where labels were given."""
    row = {"round": one.number, "examples": one.examples, "pages": int(one.kept.sum()),
           "tokens": one.tokens, "known": one.known, "domains": len(one.domains),
           "annotated": one.annotated, "joined": one.joined}
    return row | (measured(web, one.kept, subject) if subject.any() else {})


def folders_kept(
    web: PageStore, kept: Bool[np.ndarray, " pages"]
) -> dict[str, dict[str, dict[str, int]]]:
    """{domain: {folder: pages and how many are kept}} of the subject's domains.

    This is what a person reads to write the patterns of the next run.
    """
    found: dict[str, dict[str, dict[str, int]]] = {}
    for domain, paths in paths_of(web, own_domains(web, kept)).items():
        pages = Counter(map(folder_of, paths))
        chosen = Counter(folder_of(p) for p, i in paths.items() if kept[i])
        found[domain] = {folder: {"pages": pages[folder], "kept": chosen[folder]}
                         for folder in sorted(pages)}
    return found


def write_kept(
    web: PageStore, kept: Bool[np.ndarray, " pages"], kind: str, file: Path
) -> None:
    """The kept pages as documents: the origin is the domain, the path the address."""
    schema = pa.schema([(name.name, pa.string()) for name in fields(Document)])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in batches(web.pages(kept)):
            rows = []
            for page in batch:
                language = language_of(page.path)
                known = language is not None and language.name != "HTML"
                rows.append(asdict(Document(
                    page.text, page.domain + page.path,
                    language.name if known else "Text", kind, page.domain,
                    "unknown")))
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def counter(dropped: Counter[str]) -> Note:
    """A note that counts pages by the rule that removed them."""
    return lambda one: dropped.update([one.rule])


def open_web(
    pages: Path, work: Path, tokenizer: Tokenizer, dropped: Counter[str], depth: int
) -> PageStore:
    """Store the pages of a crawl; `UserError` when there is none."""
    note = counter(dropped)
    stream = progress(read_pages(pages, note), "pages", "page")
    web = PageStore.write(work, unique_pages(stream, work / "kept", note, depth),
                          tokenizer)
    if not len(web):
        raise UserError(f"{pages} holds no page; {sum(dropped.values())} were removed.")
    return web


def labelled(web: PageStore, known: Collection[str]) -> Bool[np.ndarray, " pages"]:
    """Which pages have one of the known addresses."""
    subject = np.zeros(len(web), bool)
    everything = np.full(len(web), bool(known))
    subject[[page.index for page in web.pages(everything, text=False)
             if page.domain + page.path in known]] = True
    return subject


def recall_pages(
    out: Path, pages: Path, seeds: Path, tokenizer: Path, tokens: int,
    kind: Literal["code", "math"] = "code", patterns: Path | None = None,
    labels: Path | None = None, rounds: int = 3, depth: int = 0,
    dimension: int = 256, rate: float = 0.1, epochs: int = 3, most: int = EXAMPLES,
    seed: int = 0,
) -> Path:
    """Recall pages of code or mathematics from a crawl, by DeepSeekMath's rounds.

    For repositories instead of sites: --rounds 2 --depth 2 and, as seeds, good files.
    A run without --patterns and --labels learns from the seeds alone; its domains.json
    lists the folders of the subject's domains, from which you write the patterns. With
    few examples, ten thousand or less, take --rate 1 --epochs 10.

    Args:
        out: folder for documents.parquet, recall.json and domains.json.
        pages: crawl: a WARC, HTML or JSONL file, or a folder of them.
        seeds: pages that are surely the subject's, in the same formats.
        tokenizer: folder of the tokenizer stage.
        tokens: how many a round keeps.
        kind: what the documents are called.
        patterns: JSON {"domain": ["/path/*"]}: where a person found the subject.
        labels: addresses of the subject's pages, one a line: recall and precision are
            measured and, without patterns, a person's look at each folder is imitated.
        rounds: at most so many; 3 on the web, 2 on repositories (Coder-V2 §2).
        depth: folders of a path that belong to the domain: 2 for owner/repository.
        dimension: width of the classifier's embeddings.
        rate: learning rate at the start.
        epochs: passes over the examples.
        most: examples of the subject, and as many others.
        seed: decides examples, their order and the start.
    """
    at_least(1, tokens=tokens, rounds=rounds, most=most)
    at_least(0, depth=depth)
    recipe = Recipe(dimension=dimension, rate=rate, epochs=epochs)
    settings = dict(pages=pages, seeds=seeds, tokenizer=tokenizer, tokens=tokens,
                    kind=kind, patterns=patterns, labels=labels, rounds=rounds,
                    depth=depth, dimension=dimension, rate=rate, epochs=epochs,
                    most=most)
    with stage(out, "recall", settings, [tokenizer], seed) as run:
        if run.finished:
            return out
        clear(run.work)
        encoder, dropped = Tokenizer.load(tokenizer), Counter[str]()
        known = addresses(labels, depth)
        annotate = by_patterns(patterns) if patterns else (
            by_samples(known) if known else nobody)
        web = open_web(pages, run.work, encoder, dropped, depth)
        subject = labelled(web, known)
        good = [np.array(ids, np.uint32) for ids in encoder.encode_batch(
            [page.text for page in read_pages(seeds, counter(dropped))])]
        rows = []
        for one in recall_rounds(web, good, encoder.vocab_size, annotate, tokens,
                                 rounds, recipe, most, seed):
            rows.append(report(web, one, subject))
        write_kept(web, one.kept, kind, run.work / "documents.parquet")
        write_json(run.work / "domains.json", folders_kept(web, one.kept))
        write_json(run.work / "recall.json", {
            "pages": len(web), "tokens": int(web.sizes.sum()),
            "domains": len(web.domains), "seeds": len(good),
            "dropped": dict(sorted(dropped.items())), "rounds": rows})
        web.remove()
        run.headline = (f"{rows[-1]['pages']:,} of {len(web):,} pages kept as {kind} "
                        f"after {len(rows)} rounds, {one.known:.0%} known before")
    return out
