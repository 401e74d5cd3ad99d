"""What the project is examined on, and whether a corpus holds any of it.

Decontamination stands before training: `write_benchmarks` makes the file that the
`data` command takes. Counting stands behind it: `occurring` says what is left.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from minicoder.data.corpus import iterate_documents
from minicoder.data.decontaminate import Benchmarks
from minicoder.data.needles import LETTERS, STATEMENT
from minicoder.data.sources import Document
from minicoder.evaluation.infilling import single_line_holes
from minicoder.stages import write_text
from minicoder.tasks.families import FAMILIES, sample_tasks


def project_benchmarks(tasks: int = 1000, seed: int = 0) -> dict[str, list[str]]:
    """The texts of each of the project's own evaluation sets, by name.

    Of every family the prompts and solutions of the first `tasks` held-out tasks that a
    seed draws, among them those on which `evaluate` with that seed scores, and the
    needles. The holes of infilling are cut from the corpus itself, where the removal of
    duplicates keeps them out of training; `held_out_holes` gives them for counting.
    """
    sets = {f"tasks: {family}": [
        text for task in sample_tasks(family, tasks, "heldout", seed)
        for text in (task.prompt, task.canonical_solution)] for family in FAMILIES}
    return sets | {"needles": [STATEMENT.format(letter) for letter in LETTERS]}


def write_benchmarks(file: Path, tasks: int = 1000, seed: int = 0) -> Path:
    """Write the texts of `project_benchmarks` as JSON lines, one string a line.

    `minicoder.data.decontaminate.read_benchmarks` reads them.
    """
    lines = "".join(
        json.dumps(text) + "\n"
        for texts in project_benchmarks(tasks, seed).values() for text in texts)
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or file.read_bytes() != lines.encode():
        write_text(file, lines)
    return file


def held_out_holes(corpus: Path, count: int = 400, seed: int = 0) -> list[str]:
    """Holes of infilling with the lines around them, from a corpus's held-out code."""
    texts = [one.text for one in iterate_documents(corpus, "heldout", ["code"])]
    return [hole.prefix + hole.middle + hole.suffix
            for hole in single_line_holes(texts, count, seed=seed)]


def occurring(sets: Mapping[str, Sequence[str]], documents: Iterable[Document]
              ) -> list[dict[str, object]]:
    """How many texts of each evaluation set share a gram with a document.

    A row for each set: "set", "texts" (different ones), "found" among them, "documents"
    that hold one, and of the first find an "example": path, gram and text. Grams are
    those of `minicoder.data.decontaminate`. The documents are read once.
    """
    indices = {name: Benchmarks(texts) for name, texts in sets.items()}
    rows: dict[str, dict[str, object]] = {
        name: {"set": name, "texts": len(index.texts), "found": 0, "documents": 0,
               "example": None} for name, index in indices.items()}
    found: dict[str, set[int]] = {name: set() for name in sets}
    for document in documents:
        for name, index in indices.items():
            if matches := dict(index.matches(document.text)):
                rows[name]["documents"] += 1
                owner, gram = next(iter(matches.items()))
                rows[name]["example"] = rows[name]["example"] or {
                    "path": document.path, "gram": gram, "text": index.texts[owner]}
                found[name].update(matches)
    return [row | {"found": len(found[name])} for name, row in rows.items()]
