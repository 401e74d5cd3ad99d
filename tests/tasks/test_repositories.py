"""Issues: the right patch passes, no patch and no trick does."""

import pytest

from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.files import make_patch
from minicoder.tasks.repositories import make

pytestmark = pytest.mark.filterwarnings("ignore:")


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=2, allow_weak=True) as pool:
        yield pool


@pytest.fixture(scope="module")
def issues():
    return [issue for index in range(40) if (issue := make(index))]


def test_before_the_patch_exactly_the_failing_checks_fail(sandbox, issues):
    for issue in issues:
        assert len(issue.failing) >= 1 and len(issue.passing) >= 5
        result = issue.judge(issue.files, sandbox)
        assert result.verdict in ("fail", "error")
        assert result.passed == len(issue.passing)


def test_the_report_is_of_a_failing_check_and_hides_the_others(issues):
    for issue in issues:
        calls = [f"called {target.rpartition(':')[2]}({argument!r}) of"
                 for (target, argument), _ in issue.failing]
        assert sum(call in issue.text for call in calls) == 1
        assert issue.patch not in issue.question


def test_a_report_of_higher_difficulty_is_further_from_the_bug(issues):
    for issue in issues:
        changed = [line[6:] for line in issue.patch.split("\n") if line[:4] == "+++ "]
        assert len(changed) == 1 + (issue.difficulty == 5)
        reported = issue.text.split()[0]
        assert (f"def {reported}(" in issue.files[changed[0]]) == (issue.difficulty < 3)


def test_tricks_do_not_pass(sandbox, issues):
    issue = issues[0]
    package = next(iter(issue.files)).split("/")[0]
    init = f"{package}/__init__.py"
    for text in ("import sys\nsys.exit(0)\n", "import os\nos._exit(0)\n",
                 "class Same(int):\n    def __eq__(self, other):\n        return True\n"
                 "import importlib\nimportlib.import_module = lambda name: Any()\n"
                 "class Any:\n    def __getattr__(self, name):\n"
                 "        return lambda *a: Same()\n",
                 "import builtins\nbuiltins.AssertionError = Exception\n"):
        patch = make_patch(issue.files, issue.files | {init: text})
        result = issue.grade(f"```diff\n{patch}```", sandbox)
        assert result.verdict not in ("pass", "harness_error"), text
    tests = make_patch({}, {"tests/test_all.py": "def test_all():\n    assert True\n"})
    assert issue.grade(tests, sandbox).verdict == "fail"


@pytest.mark.parametrize("answer", [
    "", "```diff\n```", "nothing to do", "```diff\n" * 10**4,
    "--- /dev/null\n+++ b/../../x.py\n@@ -0,0 +1 @@\n+1\n"])
def test_answers_that_are_not_run(issues, sandbox, answer):
    result = issues[0].grade(answer, sandbox)
    assert (result.verdict, result.passed) == ("refused", 0)


def test_a_patch_that_breaks_what_worked_fails(sandbox, issues):
    issue = issues[0]
    path = next(p for p, text in issue.files.items() if "return" in text)
    broken = issue.files | {path: issue.files[path].replace("return", "return 0 *")}
    assert issue.grade(make_patch(issue.files, broken), sandbox).verdict == "fail"


def test_the_last_diff_of_an_answer_counts(sandbox, issues):
    issue = issues[0]
    answer = f"First try:\n```diff\nbad\n```\nBetter:\n{issue.reference}"
    assert issue.grade(answer, sandbox).verdict == "pass"
    assert issue.grade(issue.patch, sandbox).verdict == "pass"
