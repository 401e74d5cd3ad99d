"""What the project is examined on, planted in a corpus and found there."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minicoder.data.corpus import DOCUMENTS
from minicoder.data.decontaminate import Benchmarks, read_benchmarks
from minicoder.data.sources import Document
from minicoder.errors import UserError
from minicoder.evaluation.contamination import (
    held_out_holes,
    occurring,
    project_benchmarks,
    write_benchmarks,
)
from minicoder.tasks.families import FAMILIES, sample_tasks


def code(text, path="a.py"):
    return Document(text, path, "Python", "code", "own", "MIT")


def test_the_sets_hold_all_that_evaluate_would_draw():
    sets = project_benchmarks(50, seed=3)
    assert set(sets) == {*(f"tasks: {name}" for name in FAMILIES), "needles"}
    for name in FAMILIES:
        for task in sample_tasks(name, 20, "heldout", 3):
            assert {task.prompt, task.canonical_solution} <= set(sets[f"tasks: {name}"])
    assert len(sets["needles"]) == 26


def test_a_leaked_task_goes_and_a_training_task_stays(tmp_path):
    index = Benchmarks(read_benchmarks(
        [write_benchmarks(tmp_path / "new/own.jsonl", 50, seed=3)]))
    for task in sample_tasks("lists", 20, "heldout", 3):
        assert index.objection("intro\n" + task.prompt + "\nthe end")
    assert index.objection('x\n# The magic letter is "Q".\ny')
    assert index.objection("# The magic letter is a mystery.\n") is None
    assert index.objection("import os\n\nprint(os.listdir('.'))\n") is None


def test_the_file_is_one_string_a_line(tmp_path):
    file = write_benchmarks(tmp_path / "own.jsonl", 5)
    lines = file.read_bytes().decode().split("\n")[:-1]
    assert list(map(json.loads, lines)) == list(read_benchmarks([file]))
    assert len(lines) == 10 * len(FAMILIES) + 26


def test_occurring_counts_texts_and_documents_by_set():
    sets = {"a": ["alpha beta gamma", "delta epsilon zeta", "alpha beta gamma"],
            "b": ["eta theta iota"]}
    documents = [code("x = 1"), code("alpha beta gamma", "b.py"),
                 code("alpha beta gamma! delta epsilon zeta?", "c.py")]
    first, second = occurring(sets, iter(documents))
    assert first == {"set": "a", "texts": 2, "found": 2, "documents": 2, "example": {
        "path": "b.py", "gram": "alpha beta gamma", "text": "alpha beta gamma"}}
    assert second == {"set": "b", "texts": 1, "found": 0, "documents": 0,
                      "example": None}
    assert occurring({}, documents) == [] and occurring(sets, [])[0]["found"] == 0


def corpus(folder, documents, split):
    rows = [{name: getattr(one, name) for name in Document.__dataclass_fields__}
            | {"split": split} for one in documents]
    pq.write_table(pa.Table.from_pylist(rows), folder / DOCUMENTS)
    return folder


def test_holes_come_from_held_out_code_and_are_found_where_it_stands(tmp_path):
    text = "".join(f"first_{n} = second_{n} + third_{n}\n" for n in range(30))
    folder = corpus(tmp_path, [code(text)], "heldout")
    holes = held_out_holes(folder, 5, seed=1)
    assert len(set(holes)) == 5 and all(
        hole.rstrip("\n") in text for hole in holes)
    (row,) = occurring({"holes": holes}, [code(text), code("something else")])
    assert row["found"] == row["texts"] == 5 and row["documents"] == 1


def test_a_corpus_without_held_out_code_is_an_error(tmp_path):
    with pytest.raises(UserError, match="heldout"):
        held_out_holes(corpus(tmp_path, [code("x = 1")], "train"))
