"""Generated contest problems: references pass, mistakes fail, C++ agrees."""

import itertools
import random
from collections import Counter

import pytest

from minicoder.execution.languages import missing
from minicoder.execution.sandbox import Sandbox
from minicoder.tasks import problems
from minicoder.tasks.answers import fenced
from minicoder.tasks.item import grade_many

pytestmark = pytest.mark.filterwarnings("ignore:")
ITEMS = {i: item for i in range(problems.SIZE) if (item := problems.make(i))}
BRUTE = {  # slow readers of the statements
    "multiples": lambda a, k: sum(x for x in a if x in range(-k * 99, k * 99, k)),
    "above": lambda a, k: len([x for x in a if x >= k + 1]),
    "window": lambda a, k: max(sum(a[i:i + k]) for i in range(len(a) - k + 1)),
    "streak": lambda a, k: max(len(list(run)) for _, run in itertools.groupby(
        a, key=lambda x: (x % k + k) % k)),
    "pairs": lambda a, k: sum(
        (x + y) % k == 0 for x, y in itertools.combinations(a, 2)),
    "segments": lambda a, k: sum(
        sum(a[i:j]) % k == 0 for i in range(len(a)) for j in range(i + 1, len(a) + 1)),
    "change": lambda a, k: sum(
        sum(some) == 3 * k for n in range(len(a) + 1)
        for some in itertools.combinations([x for x in a if x > 0], n)),
    "climb": lambda a, k: max(
        n for n in range(1, len(a) + 1) for some in itertools.combinations(a, n)
        if all(y - x >= k for x, y in zip(some, some[1:], strict=False))),
    "hops": lambda a, k: hops(a, k),
    "albums": lambda a, k: min(
        sum(k + max(a[i:j]) - min(a[i:j]) for i, j in zip(cuts, cuts[1:], strict=False))
        for n in range(len(a)) for inner in itertools.combinations(range(1, len(a)), n)
        for cuts in [(0, *inner, len(a))])}


def hops(a: list[int], k: int) -> int:
    """Fewest hops by spreading from everything reached so far."""
    reached = {0}
    for step in range(len(a)):
        if len(a) - 1 in reached:
            return step
        reached |= {j for i in reached for j in range(len(a))
                    if abs(i - j) <= 3 and abs(a[i] - a[j]) <= k}
    return -1


def test_the_reference_does_what_the_statement_says():
    draw = random.Random(0)
    for index in range(problems.SIZE):
        problem, k = problems.chosen(index)
        if k <= 6:
            solve = problems.function(
                problems.READ + problems.with_k(problem.solve, k))
            for _ in range(6):
                a = [draw.randint(-3, 3 * k) for _ in range(draw.randint(k, 10))]
                tokens = [str(len(a)), *map(str, a)]
                assert solve(tokens) == BRUTE[problem.name](a, k), (problem.name, k, a)


def test_there_are_enough_of_every_difficulty():
    levels = Counter(item.difficulty for item in ITEMS.values())
    assert set(levels) == {1, 2, 3, 4, 5} and min(levels.values()) >= 20
    assert len(ITEMS) > 300
    assert len({item.statement for item in ITEMS.values()}) == len(ITEMS)
    assert len({item.tests for item in ITEMS.values()}) == len(ITEMS)
    assert {item.date[:4] for item in ITEMS.values()} == {"2023", "2024"}
    assert all(problems.bugs(index) for index in ITEMS)


def test_references_pass_and_mistakes_fail():
    some = random.Random(1).sample(sorted(ITEMS), 16)
    items = [ITEMS[index] for index in some]
    wrong = [(ITEMS[index], fenced(bug)) for index in some[:4]
             for bug in problems.bugs(index)]
    with Sandbox(workers=2, allow_weak=True) as sandbox:
        right = grade_many(items, [item.reference for item in items], sandbox)
        failed = grade_many(*zip(*wrong, strict=True), sandbox)
        empty = grade_many(items[:3], ["", "```python\n```", "I do not know."], sandbox)
    assert [(i.task_id, r) for i, r in zip(items, right, strict=True)
            if r.verdict != "pass"] == []
    assert {r.verdict for r in failed} <= {"fail", "error"} and len(failed) > 5
    assert "pass" not in {r.verdict for r in empty}


def test_cpp_agrees():
    if "cpp" in missing():
        pytest.skip(f"needs the Debian package {missing()['cpp']}")
    items = [item for index in range(60, 70, 2) if (item := problems.in_cpp(index))]
    assert len(items) >= 2 and {item.language for item in items} == {"cpp"}
    with Sandbox(workers=2, allow_weak=True) as sandbox:
        results = grade_many(items, [item.reference for item in items], sandbox)
    assert {r.verdict for r in results} == {"pass"}, results
