"""Workers fail, hang and lie; the host notices, replaces them and goes on."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minicoder.execution import workers
from minicoder.execution.common import pack
from minicoder.execution.sandbox import Job, Sandbox
from minicoder.execution.verdict import Limits
from minicoder.execution.workers import HarnessError, Seat, Worker

pytestmark = pytest.mark.filterwarnings("ignore:Only weak isolation")
LIMITS = Limits(cpu_s=1, wall_s=3)
PLAIN = Job("def f(n):\n    return n\n", (((1,), 1),), "f")
APART = Job("def f(n):\n    return n\n", "assert f(1) == 1", "f", style="mbpp")
SLEEPS = Job("import time\ntime.sleep(1000)", (((1,), 1),), "f")


@pytest.fixture
def sandbox():
    with Sandbox(workers=1, limits=LIMITS) as pool:
        yield pool


def judge(pool: Sandbox, job: Job) -> str:
    (result,) = pool.judge_many([job])
    return result.verdict


def server(worker: Worker) -> int:
    """The process that serves, which may be a child of the one that was started."""
    return worker.report.get("pid", worker.process.pid)


def pair(pool: Sandbox) -> tuple[Worker, Worker]:
    (seat,) = pool._all
    return seat.programs, seat.tests


@pytest.mark.parametrize("which", [0, 1])
def test_a_dead_worker_is_replaced(sandbox, which):
    assert judge(sandbox, APART) == "pass"
    worker = pair(sandbox)[which]
    before, folder = worker.process.pid, worker.folder
    os.kill(before, signal.SIGKILL)
    assert judge(sandbox, APART) == "pass"
    assert worker.process.pid != before
    assert not Path(folder).exists()


@pytest.mark.parametrize("which", [0, 1])
def test_a_hung_worker_is_replaced(sandbox, which, monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE_S", 0.5)
    assert judge(sandbox, APART) == "pass"
    os.kill(server(pair(sandbox)[which]), signal.SIGSTOP)
    assert judge(sandbox, APART) == "pass"


def test_a_worker_that_cannot_work_is_a_harness_error(sandbox, monkeypatch):
    monkeypatch.setattr(workers, "command", lambda *_: ["/bin/false"])
    assert judge(sandbox, PLAIN) == "harness_error"
    assert judge(sandbox, APART) == "harness_error"


def test_tests_are_served_by_a_process_of_their_own_and_only_when_needed(sandbox):
    assert judge(sandbox, PLAIN) == "pass"
    programs, tests = pair(sandbox)
    assert programs.process and not tests.process
    assert judge(sandbox, APART) == "pass"
    assert server(programs) != server(tests) and programs.folder != tests.folder


def test_after_a_kill_a_known_program_is_judged(sandbox, monkeypatch):
    asked = []
    settle = workers.settle
    monkeypatch.setattr(workers, "settle", lambda *a: asked.append(a) or settle(*a))
    assert judge(sandbox, PLAIN) == "pass" and not asked
    assert judge(sandbox, SLEEPS) == "timeout" and len(asked) == 1
    monkeypatch.setattr(workers, "CHECK_EVERY", 3)
    assert [judge(sandbox, PLAIN) for _ in range(6)] == ["pass"] * 6
    assert len(asked) == 3


@pytest.mark.parametrize("job", [PLAIN, APART])
def test_a_worker_that_fails_a_known_program_is_replaced(sandbox, job, monkeypatch):
    monkeypatch.setattr(workers, "CHECK_EVERY", 1)
    assert judge(sandbox, job) == "pass"
    before = server(pair(sandbox)[0])
    monkeypatch.setattr(workers, "KNOWN", "def right(n):\n    return n\n")
    assert judge(sandbox, job) == "harness_error"
    monkeypatch.setattr(workers, "KNOWN", "def right(n):\n    return n + 1\n")
    assert judge(sandbox, job) == "pass" and server(pair(sandbox)[0]) != before


def test_a_seat_alone_says_that_it_failed(monkeypatch):
    monkeypatch.setattr(workers, "command", lambda *_: ["/bin/false"])
    seat = Seat("weak")
    with pytest.raises(HarnessError, match="the worker has ended"):
        seat.run("program", b"", LIMITS)
    seat.stop()


def test_a_worker_that_cannot_be_started_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "command", lambda *_: ["/no/such/file"])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    worker = Worker("weak")
    with pytest.raises(FileNotFoundError):
        worker.begin("program", b"", LIMITS)
    worker.stop()
    assert worker.control.fileno() == -1 and not list(tmp_path.iterdir())


def test_a_worker_that_gives_up_in_the_middle_says_why():
    worker = Worker("weak")
    worker.control, theirs = socket.socketpair()
    theirs.sendall(pack({"refused": "no process could be started"}))
    with pytest.raises(HarnessError, match="refused: no process could be started"):
        worker.receive()
    worker.control.close()
    theirs.close()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_when_their_host_is_killed():
    code = ("import os, signal\nfrom minicoder.execution.sandbox import Sandbox\n"
            "pool = Sandbox(workers=1, allow_weak=True)\n"
            "pool.judge('def f(): return 1', 'assert f()', 'f', '', 'mbpp')\n"
            "seat = pool._all[0]\n"
            "print(seat.programs.process.pid, seat.tests.process.pid, flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n")
    host = subprocess.run([sys.executable, "-W", "ignore", "-c", code],
                          stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert host.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    for name in host.stdout.decode().split():
        stat = Path("/proc") / name / "stat"
        while stat.exists() and "Z" not in stat.read_text().split()[2]:
            assert time.monotonic() < deadline, "the worker outlives its host"
            time.sleep(0.05)
