"""Whole-file exercises: the solution passes, the starter files and tricks do not."""

import pytest

from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.edits import make
from minicoder.tasks.files import show_files

pytestmark = pytest.mark.filterwarnings("ignore:")


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=2, allow_weak=True) as pool:
        yield pool


def test_starter_files_fail_and_show_no_solution(sandbox):
    for index in range(20):
        exercise = make(index)
        stubs = "".join(exercise.files.values()).count("raise NotImplementedError")
        assert stubs == (1, 2, 2, 3, 7)[exercise.difficulty - 1]
        result = exercise.grade(show_files(exercise.files), sandbox)
        assert result.verdict == "error" and result.passed < result.total


def test_every_file_must_be_right(sandbox):
    exercise = make(4)
    assert exercise.difficulty == 5 and len(exercise.solution) > 2
    for path in exercise.solution:
        part = {p: t for p, t in exercise.solution.items() if p != path}
        assert exercise.grade(show_files(part), sandbox).verdict == "error"


def test_a_block_without_path_is_the_only_file(sandbox):
    exercise = make(0)
    (text,) = exercise.solution.values()
    answer = f"Here it is:\n\n```python\n{text}```\nDone."
    assert exercise.grade(answer, sandbox).verdict == "pass"


@pytest.mark.parametrize("answer", [
    "", "x", "../x.py\n```\n1\n```", "/x.py\n```\n1\n```",
    "x.py\n```\n" + "1\n" * 10**5 + "```"])
def test_answers_that_are_not_run(sandbox, answer):
    assert make(4).grade(answer, sandbox).verdict == "refused"


def test_changing_the_tests_does_not_help(sandbox):
    answer = show_files({"test_all.py": "def test(): pass\n",
                         "conftest.py": "import os\nos._exit(0)\n"})
    assert make(4).grade(answer, sandbox).verdict == "error"
