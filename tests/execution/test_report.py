"""Which assertions are counted, and where: seen from outside, through the sandbox."""

import pytest

from minicoder.execution.sandbox import Job, Sandbox

pytestmark = pytest.mark.filterwarnings("ignore:Only weak isolation")


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=1) as pool:
        yield pool


def counted(pool: Sandbox, tests: str) -> tuple[str, int, int]:
    """Verdict, passed and total of a program that gives back what it gets."""
    job = Job("def f(a):\n    return a", tests, "f", style="script")
    (result,) = pool.judge_many([job])
    return result.verdict, result.passed, result.total


@pytest.mark.parametrize("tests, expected", [
    ("assert f(1) == 1", ("pass", 1, 1)),
    ("for n in range(9):\n    assert f(n) == n", ("pass", 9, 9)),
    ("for n in range(9):\n    assert f(n) == n // 2 * 2", ("fail", 5, 9)),
    ("def part():\n    assert f(1)\n    assert f(2)\npart()", ("pass", 2, 2)),
    ("if f(0):\n    assert f(1)\nelse:\n    assert f(2)", ("pass", 1, 1)),
    ("f(1)", ("pass", 1, 1)),  # to get through is the only case
    ("f(1)\nf(2)\nraise AssertionError", ("fail", 0, 1)),
    ("assert f(1) == 1\nf(1) + 'a'\nassert f(2) == 2", ("fail", 1, 2)),
    ("assert f(0)\nassert f(1)", ("fail", 1, 2)),
    ("try:\n    assert f(0)\nexcept AssertionError:\n    f(1)", ("pass", 1, 1)),
    ("try:\n    assert f(0)\nfinally:\n    f(1)", ("fail", 0, 1)),
    ("import contextlib\nwith contextlib.suppress(AssertionError):\n    assert f(0)",
     ("pass", 1, 1)),
    ("assert f(1), 1/0", ("pass", 1, 1)),
    ("assert f(0), 1/0", ("fail", 0, 1)),
])
def test_assertions_are_counted_as_they_run(sandbox, tests, expected):
    assert counted(sandbox, tests) == expected


def test_a_failure_has_its_number_and_its_line(sandbox):
    tests = "\n\nassert f(1)\nif True:\n    assert (f(0) ==\n        1)\nf(0)[1]"
    result = sandbox.judge("f = abs", tests, "f", style="script")
    assert result.failures == (
        (2, "fail", "assert (f(0) ==: the answer was 0"),
        (3, "fail", "f(0)[1]: TypeError: 'int' object is not subscriptable; "
                    "the answer was 0"))


def test_answers_that_are_too_long_to_show_are_not_shown(sandbox):
    tests = "assert f(10) == 0\nassert f(20000) == 0"
    result = sandbox.judge("f = lambda n: 10 ** n", tests, "f", style="script")
    assert [text for _, _, text in result.failures] == [
        "assert f(10) == 0: the answer was 10000000000",
        "assert f(20000) == 0: the answer was too large to show"]
