"""Plus tests: inputs by type, answers from the sandbox, what the new cases catch."""

import random
from dataclasses import replace

import pytest

from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Limits
from minicoder.execution.workers import HarnessError
from minicoder.tasks.families import FAMILIES, sample_tasks
from minicoder.tasks.formats import from_record
from minicoder.tasks.mutants import mutants
from minicoder.tasks.plus import (
    STOPPED,
    answers_of,
    killed,
    like,
    more_inputs,
    mutated,
    strengthen,
)
from minicoder.tasks.task import Case, Task

pytestmark = pytest.mark.filterwarnings("ignore:")
FLOATS = {"task_id": "HumanEval/9", "prompt": "def mean(a):\n    '''Mean.'''\n",
          "entry_point": "mean", "atol": 1e-3, "base_input": [[[1, 2]]],
          "plus_input": [[[0.1, 0.2, 0.3]], [[]], [[1e9]]],
          "canonical_solution": "    return sum(a) / len(a)\n"}


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=2, allow_weak=True) as pool:
        yield pool


@pytest.mark.parametrize("value", [
    3, True, 2.5, "a b", [1, 2], (1, "x"), {1, 2}, {"a": [1]}, [[1], [2, 3]]])
def test_a_mutation_keeps_the_type_and_changes_the_value(value):
    draw = random.Random(0)
    found = [mutated(value, draw) for _ in range(60)]
    assert {type(one) for one in found} == {type(value)}
    assert any(one != value for one in found)
    before = repr(value)
    assert repr(value) == before


def test_more_inputs_are_new_and_the_same_every_time():
    seeds = [([1, 2, 3], "ab"), ([], "")]
    found = more_inputs(seeds, 40, 1)
    assert found == more_inputs(seeds, 40, 1) != more_inputs(seeds, 40, 2)
    assert len({repr(given) for given in found + seeds}) == 42
    assert all(type(a) is list and type(s) is str for a, s in found)
    assert more_inputs([()], 5, 0) == [] and seeds == [([1, 2, 3], "ab"), ([], "")]


@pytest.mark.parametrize(("example", "value", "cast"), [
    ((1,), [1, 2], (1, 2)), ([(1, 2)], [[3], []], [(3,), ()]), ({1}, [2, 2], {2}),
    ({"a": (1,)}, {"b": [2]}, {"b": (2,)}), (1j, "2+1j", 2 + 1j), (1, "(1+2j)", 1 + 2j),
    (1, "J", "J"), ((1, (2, (3,))), [[4, [5]]], ((4, (5,)),)), ("s", [1], [1])])
def test_values_from_json_get_their_types_back(example, value, cast):
    assert like(example, value) == cast and type(like(example, value)) is type(cast)


def test_answers_come_from_the_sandbox(sandbox):
    program = ("def f(n):\n    if n == 3:\n        while True: pass\n"
               "    return (n, 1 / n)\n")
    found = answers_of(sandbox, program, "f", [(1,), (0,), (3,), (2,)],
                       Limits(cpu_s=0.3))
    assert [kind for kind, _ in found] == ["value", "error", "stopped"]
    assert found[-1] == STOPPED
    right = answers_of(sandbox, "def f(n): return (n, 1.0)", "f", [(1,), (0,), (3,)])
    assert killed(right, found) == {1, 2}


def test_evalplus_compares_as_it_says(sandbox):
    task = from_record(FLOATS)
    assert task.grade(task.reference, sandbox).verdict == "pass"
    assert task.tests(sandbox).count("),\n") == 3  # the empty list raises
    for body, verdict in (("    return sum(a) / len(a) + 9e-4\n", "pass"),
                          ("    return sum(a) / len(a) + 0.01\n", "fail"),
                          ("    return str(sum(a) / len(a))\n", "fail"),
                          ("    return a[0]\n", "fail")):
        assert task.grade(f"```python\n{body}```", sandbox).verdict == verdict, body


def test_more_cases_catch_planted_mistakes_that_two_cases_miss(sandbox):
    tasks = [replace(task, cases=task.cases[:2])
             for task in sample_tasks("lists", 6, "train", 3)]
    planted = [FAMILIES["lists"].bugs(task) for task in sample_tasks(
        "lists", 6, "train", 3)]  # another kind of mistakes than the cover saw
    strong = [strengthen(task, sandbox) for task in tasks]
    caught = []
    for version in (tasks, strong):
        results = sandbox.judge_many(
            task.job_of(bug) for task, bugs in zip(version, planted, strict=True)
            for bug in bugs)
        caught.append(sum(r.verdict != "pass" for r in results))
    total = sum(map(len, planted))
    print(f"{total} planted mistakes: two cases catch {caught[0]}, more {caught[1]}")
    assert caught[1] >= 1.3 * caught[0] and caught[1] > 0.75 * total
    right = sandbox.judge_many(task.job(task.canonical_solution) for task in strong)
    assert {r.verdict for r in right} == {"pass"}
    assert all(len(task.cases) <= 10 and task.cases[:2] == weak.cases
               for task, weak in zip(strong, tasks, strict=True))


def test_the_cover_is_small_and_drops_inputs_that_raise(sandbox):
    task = Task("t/0", "t", "First.", "f", "def f(a):\n    return max(a[0], 5)\n",
                (Case(([9, 1],), 9),))
    strong = strengthen(task, sandbox)
    assert 2 <= len(strong.cases) <= 6 and all(c.arguments[0] for c in strong.cases)
    assert len(strengthen(task, sandbox, keep=1).cases) == 2
    all_inputs = replace(task, cases=tuple(
        Case(given, max(given[0][0], 5))
        for given in more_inputs([([9, 1],)], 150, 0) if given[0]))
    for case in strong.cases:
        assert case.expected == max(case.arguments[0][0], 5)
    bugs = mutants(task.canonical_solution)
    alive = [sum(r.verdict == "pass" for r in sandbox.judge_many(
        one.job_of(bug) for bug in bugs)) for one in (task, strong, all_inputs)]
    assert alive[2] == alive[1] < alive[0]
    assert strengthen(strong, sandbox, wrong=[]).cases == strong.cases


def test_a_reference_that_answers_nothing_makes_no_answer_wrong(sandbox, monkeypatch):
    broken = from_record(FLOATS | {"canonical_solution": "    return 1 / 0\n"})
    result = broken.grade(broken.reference, sandbox)
    assert result.verdict == "harness_error" and "none of the inputs" in result.message
    task = from_record(FLOATS)

    def dead(*_):
        raise HarnessError("two workers died")

    with monkeypatch.context() as patch:
        patch.setattr(sandbox, "execute", dead)
        assert task.grade(task.reference, sandbox).verdict == "harness_error"
    assert task.grade(task.reference, sandbox).verdict == "pass"    # asked anew
