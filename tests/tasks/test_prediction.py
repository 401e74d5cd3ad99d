"""Predicting outputs and inputs: what the function does decides, run in the sandbox."""

import json
import os
from pathlib import Path

import pytest

from minicoder.errors import UserError
from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.item import grade_many
from minicoder.tasks.prediction import Prediction, read_cruxeval

SHARED = Path(os.environ.get(
    "MINICODER_BENCHMARKS", Path(__file__).parents[3] / "shared/data"))
pytestmark = pytest.mark.filterwarnings("ignore:")
cruxeval = pytest.mark.skipif(not (SHARED / "cruxeval").exists(),
                              reason="CRUXEval is not on this disk")
LENGTH = "def f(a):\n    return sorted(set(a))\n"


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=2, allow_weak=True) as pool:
        yield pool


def ask(asks):
    return Prediction("t/0", "t", LENGTH, "[3, 1, 1]", "[1, 3]", asks)


@pytest.mark.parametrize(("answer", "verdict"), [
    ("[ANSWER]assert f([3, 1, 1]) == [1, 3][/ANSWER]", "pass"), ("[1, 3]", "pass"),
    ("I think\n[ANSWER][1,3][/ANSWER]", "pass"), ("`[1, 3]`", "pass"),
    ("assert f([3, 1, 1]) == [1, 3]", "pass"), ("[ANSWER]\n[1, 3]\n", "pass"),
    ("[ANSWER]```python\nassert f([3, 1, 1]) == [1, 3]\n```[/ANSWER]", "pass"),
    ("[ANSWER][1, 3][/ANSWER] no, [ANSWER][3, 1][/ANSWER]", "fail"),
    ("(1, 3)", "fail"), ("[1, 3] or [3, 1]", "fail"), ("f([3, 1, 1])", "fail"),
    ("[ANSWER]assert f([3, 1, 1]) == f([3, 1, 1])[/ANSWER]", "fail"),
    ("[ANSWER]assert True[/ANSWER]", "fail"), ("", "fail"), ("[ANSWER]", "fail"),
    ("[" * 3000, "fail"), ("1+" * 1900 + "1", "fail"), ("-" * 3900 + "1", "fail"),
    ("[1, 3]" * 10**5, "fail"), ("object()", "fail"), ("frozenset", "fail"),
    ("__import__('os').getpid()", "fail"), ("1e999", "fail"), ("[True, 3]", "fail")])
def test_outputs(sandbox, answer, verdict):
    assert ask("output").grade(answer, sandbox).verdict == verdict


@pytest.mark.parametrize(("answer", "verdict"), [
    ("[ANSWER]assert f([3, 1, 1]) == [1, 3][/ANSWER]", "pass"), ("[1, 3]", "pass"),
    ("f((3, 3, 1))", "pass"), ("[ANSWER]f({1: 0, 3: 0})[/ANSWER]", "pass"),
    ("a = [1, 3]", "pass"), ("range(1, 4, 2)", "pass"), ("a=[1, 3]", "pass"),
    ("[n for n in (1, 3)]", "fail"), ("[3, 3]", "fail"), ("", "fail"),
    ("[int(c) for c in '13']", "fail"), ("list(map(int, '13'))", "fail"),
    ("[len('a'), 1 + 2]", "pass"), ("'13'.join(['', ''])", "fail"),
    ("(f := lambda a: [1, 3])", "fail"), ("0), (f := 1), (0", "fail"),
    ("globals().update(f=lambda a: [1, 3])", "fail"), ("[].__class__", "fail"),
    ("exec('def f(a): return [1, 3]')", "fail"), ("lambda: [1, 3]", "error"),
    ("0) or g([1, 3]", "fail"), ("f(f([1, 3]))", "fail"), ("f", "fail"),
    ("'a' * 10**9", "memory"), ("[1, 3], 2", "error")])
def test_inputs(sandbox, answer, verdict):
    assert ask("input").grade(answer, sandbox).verdict == verdict


def test_the_question_hides_what_it_asks_for():
    assert "== ??" in ask("output").question and "f(??)" in ask("input").question
    assert "[1, 3]" not in ask("output").question
    assert "[3, 1, 1]" not in ask("input").question


@pytest.mark.parametrize(("change", "message"), [
    ({"code": 3}, "field 'code' must be text"), ({"output": ")"}, "field 'output': it"),
    ({"input": "1)"}, r"field 'input': it is no Python expression.*found 'f\(1\)\)'"),
    ({"id": None}, "field 'id' must be text, not empty, found null")])
def test_a_broken_line_is_named(tmp_path, change, message):
    path = tmp_path / "cruxeval.jsonl"
    good = {"code": LENGTH, "input": "[1]", "output": "[1]", "id": "s"}
    path.write_text(json.dumps(good) + "\n" + json.dumps(good | change))
    with pytest.raises(UserError, match=f"line 2: {message}"):
        read_cruxeval(path, "input")


def graded(sandbox, asks, every):
    """Verdicts on the references, and on those of other items."""
    items = read_cruxeval(SHARED / "cruxeval/cruxeval.jsonl.gz", asks)
    assert len(items) == 800
    items = items[::every]
    right = grade_many(items, [item.reference for item in items], sandbox)
    wrong = grade_many(items, [item.reference for item in items[1:] + items[:1]],
                       sandbox)
    return ([(i.task_id, r) for i, r in zip(items, right, strict=True)
             if r.verdict != "pass"], sum(r.verdict == "pass" for r in wrong))


@cruxeval
@pytest.mark.parametrize("asks", ["input", "output"])
def test_references_of_cruxeval_pass(sandbox, asks):
    failed, lucky = graded(sandbox, asks, 32)
    assert failed == [] and lucky <= 3


@cruxeval
@pytest.mark.slow
@pytest.mark.parametrize("asks", ["input", "output"])
def test_all_references_of_cruxeval_pass(sandbox, asks):
    failed, lucky = graded(sandbox, asks, 1)
    assert failed == [] and lucky < 80
