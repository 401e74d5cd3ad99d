"""A Python task: its question, and which program an answer stands for."""

from dataclasses import replace

import pytest

from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.answers import fenced
from minicoder.tasks.families import sample_tasks
from minicoder.tasks.formats import to_record
from minicoder.tasks.task import Case, Task, plain_cases

pytestmark = pytest.mark.filterwarnings("ignore:")
DOUBLE = Task("toy/0", "toy", "Return twice n.", "f",
              "def f(n):\n    return 2 * n\n", (Case((2,), 4), Case((0.5,), 1.0)))
BEGUN = replace(
    DOUBLE, prompt="from math import floor\n\ndef half(n):\n    return n / 2\n\n"
    "def f(n):\n    \"\"\"Half of n, down.\"\"\"\n",
    canonical_solution="    return floor(half(n))\n", cases=(Case((5,), 2),))


@pytest.mark.parametrize("line, cases", [
    ("assert candidate([1], 'a') == (1, 2)", 1), ("assert True, 'note'", 0),
    ("pass", 0), ("assert candidate(1) == 2, 'message'", 1),
    ("assert abs(candidate(1) - 2) < 1e-6", None), ("assert candidate(1) != 2", None),
    ("assert candidate(1)", None), ("assert candidate(n=1) == 2", None),
    ("assert candidate(1) == f(2)", None), ("assert candidate(1) == ...", None),
    ("for i in range(3):\n        assert candidate(i) == 1", None),
    ("assert candidate(__import__('os').getpid()) == 1", None)])
def test_cases_are_read_whole_or_not_at_all(line, cases):
    test = f"def check(candidate):\n    assert candidate(5) == 6\n    {line}\n"
    assert len(plain_cases(test)) == (0 if cases is None else 1 + cases)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=1, allow_weak=True) as pool:
        yield pool


def test_the_prompt_is_code_or_a_sentence():
    assert DOUBLE.program(DOUBLE.canonical_solution) == DOUBLE.canonical_solution
    assert DOUBLE.question == DOUBLE.prompt and not DOUBLE.preamble
    assert to_record(DOUBLE)["prompt"] == "# Return twice n.\n"
    assert BEGUN.program("    return 2\n") == BEGUN.prompt + "    return 2\n"
    assert BEGUN.preamble.startswith("from math") and "def f" not in BEGUN.preamble
    assert fenced(BEGUN.prompt) in BEGUN.question
    assert BEGUN.question.startswith("Complete this python function.")


@pytest.mark.parametrize(("answer", "verdict"), [
    (BEGUN.reference, "pass"), ("    return n // 2\n", "pass"),
    ("return n // 2", "pass"),
    ("Here it is:\n```python\ndef f(n):\n    return floor(half(n))\n```", "pass"),
    ("```python\nprint(1)\n```\n```python\ndef f(n):\n    return n // 2\n```", "pass"),
    ("```\n    if n:\n        return n // 2\n    return 0\n```", "pass"),
    ("```python\ndef g(n):\n    return n // 2\n```", "fail"), ("", "fail"),
    ("```python\ndef f(n):\n    return n\n```", "fail")])
def test_an_answer_is_the_function_or_its_body(sandbox, answer, verdict):
    assert BEGUN.grade(answer, sandbox).verdict == verdict


def test_a_record_runs_as_human_eval_runs_it():
    for task in [*sample_tasks("lists", 20, "heldout", 1), DOUBLE]:
        record, scope = to_record(task), {}
        exec(record["prompt"] + record["canonical_solution"] + record["test"]
             + f"check({record['entry_point']})", scope)
        with pytest.raises(AssertionError):
            exec(record["test"] + "check(lambda *_: object())", scope)
