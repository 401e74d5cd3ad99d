"""Programs from tables: what every family of them keeps to."""

import random
from collections import Counter

import pytest

from minicoder.tasks import dicts, lists, strings
from minicoder.tasks.grammar import CASES, near, outcome

FAMILIES = (lists.FAMILY, strings.FAMILY, dicts.FAMILY)
every = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def made(family, count: int) -> list:
    numbers = random.Random(0).sample(range(family.size), count)
    return [(index, task) for index in numbers if (task := family.make(index))]


@every
def test_few_numbers_make_no_task_and_difficulty_is_spread(family):
    found = made(family, 400)
    assert len(found) > 0.85 * 400
    levels = Counter(task.difficulty for _, task in found)
    assert set(levels) == {1, 2, 3, 4} | set(levels) & {5}
    assert all(levels[level] > 20 for level in (1, 2, 3, 4))


@every
def test_right_programs_raise_nothing_and_cases_tell_bugs(family):
    for index, task in made(family, 150):
        assert len(task.cases) in CASES
        assert task.canonical_solution == family.program(index)
        for case in task.cases:
            found = outcome(task.canonical_solution, *case.arguments)
            assert found == case.expected and not str(found).endswith("Error")
        bugs = family.bugs(task)
        assert len(set(bugs)) == len(bugs) >= 3
        assert all(any(outcome(bug, *case.arguments) != case.expected
                       for case in task.cases) for bug in bugs)


@every
def test_a_number_is_one_program(family):
    programs = [family.program(index) for index in range(0, family.size, 37)]
    assert len(set(programs)) == len(programs)
    assert family.choices(0)[0] == family.aggregates[0]
    assert family.choices(family.size - 1)[0] == family.counts[-1]


def test_helpers():
    assert [near(n) for n in (1, 8, 9)] == [2, 9, 8]
    assert outcome("def solve(a):\n    return a[1]\n", [5, 6]) == 6
    assert outcome("def solve(a):\n    return a[1]\n", [5]) == "IndexError"
