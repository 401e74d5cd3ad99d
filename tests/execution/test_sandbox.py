"""Hostile programs as data: none passes, the pool lives on, nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from minicoder.errors import UserError
from minicoder.execution.sandbox import Job, Sandbox
from minicoder.execution.verdict import VERDICTS, Limits

HOSTILE = tomllib.loads(Path(__file__).with_name("hostile.toml").read_text("utf-8"))
LIMITS = Limits(cpu_s=1, wall_s=10, memory_mib=256)
NAP = f"{os.getpid() + 1_000_000}.5"  # how long this run's daemon sleeps
LISTS = [[1, 2, 3], [], [-5], [4, 4], [10, 20, 30, 40]]
SUM = tuple(((a,), sum(a)) for a in LISTS)
RIGHT = Job("def solve(a):\n    return sum(a)\n", "solve", SUM)
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
pytestmark = pytest.mark.filterwarnings("ignore:Generated programs run")


def program(code: str) -> Job:
    return replace(RIGHT, code=code)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=2, limits=LIMITS) as pool:
        yield pool


def processes(word: str) -> list[str]:
    """Ids of the running processes whose command line contains `word`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def left_behind(pool: Sandbox) -> list[str]:
    """Files and processes that remain of the programs a pool has judged."""
    workers = [w for w in pool._all if w.process]
    found = [str(path) for w in workers for path in Path(w.folder).iterdir()]
    for worker in workers:  # a program's processes look like the worker they come from
        found += set(processes(worker.folder)) - {str(worker.process.pid)}
    return found + processes(NAP)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_does_not_pass_and_the_pool_lives_on(sandbox, name):
    case = HOSTILE[name]
    result = sandbox.judge(program(case["code"].replace("54321.5", NAP)),
                           replace(LIMITS, wall_s=case.get("wall_s", 10)))
    assert result.verdict in case["verdicts"], result
    assert result.verdict in VERDICTS and result.verdict != "pass"
    assert case.get("message", "") in result.message and len(result.message) <= 301
    assert not set(result.message + result.output) & set("\x00\x07\x1b\u202e")
    result.output.encode()  # no lone surrogates
    assert sandbox.judge(RIGHT).verdict == "pass"
    assert left_behind(sandbox) == []


def test_a_right_program_passes_with_everything_reported(sandbox):
    result = sandbox.judge(program("print('hello')\n" + RIGHT.code))
    assert (result.verdict, result.message, result.output) == ("pass", "", "hello\n")
    assert (result.passed, result.total, result.tier) == (5, 5, "weak")
    assert 0 < result.cpu_ms < 1000 and 0 < result.wall_ms and 1 < result.peak_mib


def test_copies_of_a_right_program_stay_silent(sandbox):
    code = ("import os\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\n"
            "def solve(a):\n    return sum(a) if pid else None\n")
    assert sandbox.judge(program(code)).verdict == "pass"


def test_a_flood_is_stopped_before_the_wall_limit(sandbox):
    code = "import time\nprint('x' * 100000, flush=True)\ntime.sleep(1000)"
    result = sandbox.judge(program(code), replace(LIMITS, wall_s=30))
    assert result.verdict == "output" and result.wall_ms < 25_000


def test_cases_are_counted_one_by_one(sandbox):
    result = sandbox.judge(program("def solve(a):\n    return a[0] and sum(a)"))
    assert (result.verdict, result.passed, result.total) == ("error", 4, 5)
    assert result.message == "IndexError: list index out of range (line 2)"


def test_the_first_wrong_case_is_shown(sandbox):
    result = sandbox.judge(program("def solve(a):\n    return max(a, default=0)"))
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
            result = fresh.judge(
                Job(code, "solve", ((("MINICODER_TEST_SECRET",), "violet"),)))
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
    assert sandbox.judge(Job(control, "solve", case)).verdict == "pass"
    assert sandbox.judge(Job(code, "solve", case)).verdict == "fail"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
@pytest.mark.skipif(not ROOT, reason="only root can lend another user id")
def test_root_never_runs_a_program_as_root(sandbox):
    code = "import os\ndef solve():\n    return [os.getuid(), os.getgid()] == [0, 0]"
    assert sandbox.judge(Job(code, "solve", (((), False),))).verdict == "pass"
    assert sandbox.report["uid"] not in (0, None)


def test_every_worker_works_and_order_is_kept(sandbox):
    jobs = [Job("def solve(n):\n    return n", "solve", (((n,), n % 3),))
            for n in range(60)]
    results = sandbox.judge_many(jobs)
    assert [r.verdict for r in results] == ["pass"] * 3 + ["fail"] * 57
    assert results[9].message == "solve(9) returned 9, not 0"


def test_a_dead_worker_is_replaced():
    with Sandbox(workers=1, limits=LIMITS) as pool:
        assert pool.judge(RIGHT).verdict == "pass"
        before = pool._all[0].process.pid
        os.kill(before, signal.SIGKILL)
        assert pool.judge(RIGHT).verdict == "pass"
        assert pool._all[0].process.pid != before
        assert left_behind(pool) == []


def test_a_worker_that_cannot_work_is_a_harness_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Sandbox(workers=1) as pool:
        result = pool.judge(RIGHT)
    assert (result.verdict, result.passed, result.total) == ("harness_error", 0, 5)


def test_a_hung_worker_is_replaced(monkeypatch):
    monkeypatch.setattr("minicoder.execution.sandbox.PATIENCE_S", 0.5)
    with Sandbox(workers=1, limits=replace(LIMITS, wall_s=3)) as pool:
        assert pool.judge(RIGHT).verdict == "pass"
        os.kill(pool._all[0].process.pid, signal.SIGSTOP)
        assert pool.judge(RIGHT).verdict == "pass"


def test_closing_leaves_no_process_and_no_folder():
    with Sandbox(workers=2) as pool:
        pool.judge_many([RIGHT] * 4)
        started = [w.process.pid for w in pool._all if w.process]
        kept = [w.folder for w in pool._all if w.process]
    assert started and not any(Path(folder).exists() for folder in kept)
    if sys.platform == "linux":
        assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    with pytest.raises(RuntimeError, match="closed"):
        pool.judge(RIGHT)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_when_their_host_is_killed():
    code = ("import os, signal\nfrom minicoder.execution.sandbox import Job, Sandbox\n"
            "pool = Sandbox(workers=1)\n"
            "pool.judge(Job('def f(): return 1', 'f', [((), 1)]))\n"
            "print(pool._all[0].process.pid, flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n")
    host = subprocess.run([sys.executable, "-W", "ignore", "-c", code],
                          stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert host.returncode == -signal.SIGKILL
    worker = Path("/proc") / host.stdout.decode().strip()
    deadline = time.monotonic() + 20
    while worker.exists() and "Z" not in (worker / "stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "the worker outlives its host"
        time.sleep(0.05)


@pytest.mark.parametrize("job, reason", [
    (replace(RIGHT, code="#" * (1 << 20) + "\n"), "bytes"),
    (replace(RIGHT, code="x = '\ud800'"), "Unicode"),
    (replace(RIGHT, code="\0"), "NUL"),
    (replace(RIGHT, cases=()), "no case"),
    (replace(RIGHT, entry_point="a.b"), "name of a function"),
])
def test_what_cannot_be_judged_is_refused(sandbox, job, reason):
    result = sandbox.judge(job)
    assert result.verdict == "refused" and reason in result.message


def test_tests_that_are_not_plain_values_are_the_callers_mistake(sandbox):
    with pytest.raises(UserError, match="object of type complex"):
        sandbox.judge(Job("", "solve", (((1j,), 2),)))
    with pytest.raises(UserError, match="object of type bytes"):
        sandbox.judge(Job("", "solve", (((1,), b"2"),)))


def test_weak_isolation_is_announced_once(monkeypatch):
    monkeypatch.setattr(Sandbox, "_warned", False)
    with pytest.warns(RuntimeWarning, match="weak tier"), Sandbox(workers=1):
        pass
