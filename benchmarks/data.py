"""The data room on real packages: throughput by stage, memory, planted duplicates.

    python benchmarks/data.py [--archives runs/packages] [--run runs/demo]

Reads wheels, npm and Debian packages (`make packages`), needs the tokenizer of the
demo, and plants copies and forks among real files. Times are the process's own on one
core. Libraries are compared where they are installed: pip install rensa datasketch.
Writes benchmarks/results/data.json and data.md.
"""

from __future__ import annotations

import os
import platform
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module, metadata
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tyro

from minicoder.data.archives import documents_from_archives
from minicoder.data.corpus import build_corpus
from minicoder.data.decontaminate import Benchmarks, read_benchmarks
from minicoder.data.dedup import (
    BANDS,
    ROWS,
    THRESHOLD,
    Hashes,
    WordHashes,
    jaccard,
    kept_on_disk,
    minhash,
    multipliers,
    shingles,
    union,
)
from minicoder.data.dependencies import samples
from minicoder.data.filters import first_objection
from minicoder.data.packing import pack
from minicoder.data.sieve import Deduplicator, repositories
from minicoder.data.sources import Document
from minicoder.stages import MADE_BY, read_json, write_json
from minicoder.tokenizer import Tokenizer

RESULTS = Path(__file__).parent / "results"
WORD = re.compile(r"\w+")
CHANGED = (0.02, 0.05, 0.1, 0.2, 0.3)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of this process, and the result."""
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def megabytes(documents: list[Document]) -> float:
    """UTF-8 bytes in 10^6."""
    return sum(len(one.text.encode()) for one in documents) / 1e6


def read_some(archives: Path, each: float) -> tuple[list[Document], float]:
    """The first megabytes of each package, and MB/s at which all were read."""
    chosen, held, total = [], Counter(), 0
    began = time.process_time()
    for one in documents_from_archives(archives, [].append):
        total += len(one.text)
        if held[one.origin] < each * 1e6:
            chosen.append(one)
            held[one.origin] += len(one.text)
    return chosen, total / 1e6 / (time.process_time() - began)


def throughput(
    documents: list[Document], read: float, run: Path, exam: list[Path],
) -> dict[str, float]:
    """MB/s of one core by stage; every stage but the first gets what passed before."""
    rates = {"read archives": read}

    def stage(name: str, work: Callable[[list[Document]], Any],
              documents: list[Document]) -> Any:
        seconds, result = timed(lambda: work(documents))
        rates[name] = megabytes(documents) / seconds
        return result

    verdicts = stage("filters and parsers", lambda found: [
        first_objection(one) for one in found], documents)
    kept = [one for one, bad in zip(documents, verdicts, strict=True) if not bad]
    words, factors = WordHashes(), multipliers(BANDS * ROWS, 0)
    sets = stage("shingles", lambda found: [
        shingles(one.text, words) for one in found], kept)
    stage("MinHash", lambda found: [minhash(one, factors) for one in sets], kept)
    with TemporaryDirectory() as folder, kept_on_disk(Path(folder) / "kept") as memory:
        stage("MinHash, LSH on disk, verification", lambda found: [
            memory.like(one.path, mine) for one, mine in zip(
                found, sets, strict=True)], kept)
    if exam:
        benchmarks = Benchmarks(read_benchmarks(exam))
        stage("decontamination", lambda found: [
            benchmarks.objection(one.text) for one in found], kept)
    stage("dependency order", lambda found: [
        samples([one for one in group if one.kind == "code"])
        for group in repositories(found)], kept)
    tokenizer = Tokenizer.load(run / "tokenizer")
    stage("tokenise", lambda found: [tokenizer.encode(one.text) for one in found], kept)
    return rates


def packing(run: Path, folder: Path, tokens: int = 2_000_000) -> float:
    """Tokens a second of the pack stage, encoding the demo's corpus included."""
    seconds, _ = timed(lambda: pack(folder / "pack", run / "corpus", run / "tokenizer",
                                    tokens=tokens))
    return tokens / seconds


def library(name: str) -> Any:
    """A package that is compared with, or None."""
    try:
        return import_module(name)
    except ImportError:
        return None


def signatures(sets: list[Hashes]) -> dict[str, float]:
    """Seconds for the signatures of the same shingles, by implementation."""
    factors, found = multipliers(BANDS * ROWS, 0), {}
    found["ours, NumPy"] = timed(lambda: [minhash(one, factors) for one in sets])[0]
    if rensa := library("rensa"):
        found[f"rensa {metadata.version('rensa')}"] = timed(
            lambda: rensa.RMinHash.digest_matrix_from_token_hash_sets(
                [one.tolist() for one in sets], BANDS * ROWS, 42))[0]
    if datasketch := library("datasketch"):
        def sketch(one: Hashes) -> None:
            datasketch.MinHash(BANDS * ROWS, hashfunc=int).update_batch(
                (one & np.uint64(0xFFFFFFFF)).tolist())
        few = sets[:len(sets) // 10]
        name = f"datasketch {metadata.version('datasketch')}, from a tenth"
        found[name] = 10 * timed(lambda: [sketch(one) for one in few])[0]
    return found


def changed(text: str, share: float, draw: random.Random) -> str:
    """A copy in which a share of the words is another, in random places."""
    return WORD.sub(lambda word: f"w{draw.randrange(10 ** 9)}"
                    if draw.random() < share else word[0], text)


def planted_files(texts: list[str], draw: random.Random) -> list[dict]:
    """Copies with changed words: how many are alike by definition, how many found."""
    words, rows = WordHashes(), []
    sets = [shingles(text, words) for text in texts]
    with TemporaryDirectory() as folder:
        for share in CHANGED:
            copies = [shingles(changed(text, share, draw), words) for text in texts]
            with kept_on_disk(Path(folder) / str(share)) as kept:
                known = [kept.like(str(place), one) for place, one in enumerate(sets)]
                found = [kept.like("copy", one) for one in copies]
            # by definition: like any original that stays, all pairs compared exactly
            stays = [one for one, first in zip(sets, known, strict=True) if not first]
            alike = [any(jaccard(copy, one) >= THRESHOLD for one in stays)
                     for copy in copies]
            rows.append({
                "changed": share, "copies": len(texts),
                "similarity": float(np.mean([jaccard(a, b) for a, b in zip(
                    sets, copies, strict=True)])),
                "alike": sum(alike),
                "found": sum(a and f is not None and f != "copy"
                             for a, f in zip(alike, found, strict=True)),
                "false": sum(not a and f is not None and f != "copy"
                             for a, f in zip(alike, found, strict=True))})
    return rows


def planted_forks(groups: list[list[Document]], draw: random.Random) -> list[dict]:
    """Forks of repositories: a share of files is rewritten, others have 1 % of their
    words changed. What is left of them by level of deduplication."""
    rows = []
    for share in (0.05, 0.1, 0.2, 0.3, 0.5):
        forks = [[Document(changed(one.text, 1.0 if draw.random() < share else 0.01,
                                   draw), f"fork/{one.path}", one.language, one.kind,
                           f"fork of {one.origin}", one.licence) for one in group]
                 for group in groups]
        words = WordHashes()
        pairs = [jaccard(*(union([shingles(one.text, words) for one in side])
                           for side in pair))
                 for pair in zip(groups, forks, strict=True)]
        row = {"rewritten": share, "forks": len(forks), "similarity":
               float(np.mean(pairs)), "alike": sum(j >= THRESHOLD for j in pairs)}
        for level in ("repository", "file", "both"):
            with (TemporaryDirectory() as folder,
                  kept_on_disk(Path(folder) / "whole") as whole,
                  kept_on_disk(Path(folder) / "files") as files):
                unseen = Deduplicator(level, whole, files, [].append)
                before = [list(unseen(group)) for group in groups]
                left = [list(unseen(fork)) for fork in forks]
            row[level] = {
                "originals removed": sum(map(len, groups)) - sum(map(len, before)),
                "forks removed whole": sum(not one for one in left),
                "documents left of forks": sum(map(len, left)),
                "documents of forks": sum(map(len, forks))}
        rows.append(row)
    return rows


def table(found: dict) -> str:
    """The results as a page of Markdown."""
    lines = [
        "# The data room, measured", "",
        f"Made by `{found['command']}`: {found['machine']}, Python "
        f"{found['python']}, NumPy {np.__version__}, one core, the process's own "
        f"time, beside other work (load {found['load']:.0f}). "
        f"{found['documents']:,} documents, {found['megabytes']:.1f} MB, from "
        f"{found['archives']} archives.", "",
        "| stage | MB/s per core |", "|---|---|",
        *(f"| {name} | {rate:.1f} |" for name, rate in found["rates"].items()), "",
        f"Packing (encoding included): {found['packing']:,.0f} tokens/s.", "",
        f"The whole `data` command on all archives: {found['build']['read']:,} "
        f"documents read, {found['build']['kept']:,} kept, "
        f"{found['build']['megabytes']:.1f} MB; {found['build']['cpu']:.0f} s of "
        f"processor time, peak memory {found['build']['peak_mib']} MiB "
        "(PyTorch's import is a part of it).",
        "", f"## MinHash of the same {found['sets']:,} sets of shingles, "
        f"{BANDS * ROWS} permutations", "",
        "| implementation | seconds |", "|---|---|",
        *(f"| {name} | {s:.2f} |" for name, s in found["signatures"].items()), "",
        "Making the shingles, which all of them need, takes "
        f"{found['shingling']:.2f} s.", "",
        "## Copies of files with changed words", "",
        "Alike: Jaccard similarity of word 5-grams with any original that stays is "
        f"{THRESHOLD} or more, all pairs compared exactly.", "",
        "| words changed | mean similarity to its original | copies | alike | "
        "recall of these | false alarms |",
        "|---|---|---|---|---|---|",
        *(f"| {row['changed']:.0%} | {row['similarity']:.3f} | {row['copies']} | "
          f"{row['alike']} | {share(row['found'], row['alike'])} | {row['false']} |"
          for row in found["files"]), "",
        "## Forks of repositories", "",
        "In a fork a share of the files is rewritten, 1 % of the words of all others "
        "is changed.", "",
        "| files rewritten | mean similarity | forks | alike | --dedup | "
        "removed whole | documents left |", "|---|---|---|---|---|---|---|",
        *(f"| {row['rewritten']:.0%} | {row['similarity']:.3f} | {row['forks']} | "
          f"{row['alike']} | {level} | {row[level]['forks removed whole']} | "
          f"{row[level]['documents left of forks']:,} of "
          f"{row[level]['documents of forks']:,} |"
          for row in found["forks"] for level in ("repository", "file", "both"))]
    return "\n".join(lines) + "\n"


def share(part: int, whole: int) -> str:
    """As a percentage; of nothing there is none."""
    return f"{part / whole:.1%}" if whole else "–"


def whole_command(archives: Path, folder: Path) -> dict[str, float]:
    """The data stage on all archives."""
    seconds, out = timed(lambda: build_corpus(folder / "corpus", archives=[archives]))
    report = read_json(out / "funnel.json")
    return {"cpu": seconds, "peak_mib": read_json(out / MADE_BY)["peak_mib"],
            "read": report["rules"][0]["documents_in"],
            "kept": sum(part["documents"] for part in report["kept"].values()),
            "megabytes": sum(part["bytes"] for part in report["kept"].values()) / 1e6,
            "near": {rule["rule"]: rule["documents_removed"] for rule
                     in report["rules"] if "duplicate" in rule["rule"]}}


def main(
    archives: Path = Path("runs/packages"), run: Path = Path("runs/demo"),
    exam: tuple[Path, ...] = (), each: float = 0.6, files: int = 5000,
    copies: int = 300, forks: int = 20,
) -> None:
    """Measure the data room.

    Args:
        archives: a folder of packages.
        run: the demo's run, for its tokenizer and corpus.
        exam: files of benchmarks, to time decontamination.
        each: megabytes of each package that are held and timed.
        files: whose MinHash is timed.
        copies: of files, for each share of changed words.
        forks: of repositories.
    """
    draw = random.Random(0)
    with TemporaryDirectory() as folder:
        build = whole_command(archives, Path(folder))
        packed = packing(run, Path(folder))
    documents, read = read_some(archives, each)
    rates = throughput(documents, read, run, list(exam))
    texts = [one.text for one in draw.sample(documents, min(files, len(documents)))]
    words = WordHashes()
    shingling, sets = timed(lambda: [shingles(text, words) for text in texts])
    groups = [group for group in repositories(documents)
              if 5 <= len(group) <= 200 and group[0].kind == "code"]
    found = {
        "command": "python benchmarks/data.py" + (
            f" --exam {' '.join(file.name for file in exam)}" if exam else ""),
        "machine": platform.machine(), "load": os.getloadavg()[1],
        "python": platform.python_version(),
        "archives": sum(1 for _ in archives.iterdir()), "documents": len(documents),
        "megabytes": megabytes(documents), "rates": rates, "packing": packed,
        "build": build, "sets": len(sets), "shingling": shingling,
        "signatures": signatures(sets),
        "files": planted_files([t for t in texts if len(t) > 500][:copies], draw),
        "forks": planted_forks(list(islice(groups, forks)), draw)}
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / "data.json", found)
    (RESULTS / "data.md").write_text(table(found), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    tyro.cli(main)
