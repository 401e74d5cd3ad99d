"""The fork server in each tier: what its programs find, and what it survives."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Limits

pytestmark = pytest.mark.filterwarnings("ignore:Generated programs run")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
RIGHT = ("def f():\n    return 1", (((), 1),), "f")


@pytest.fixture(scope="module")
def sandbox(tier):
    with Sandbox(workers=1, require=tier, allow_weak=True) as pool:
        yield pool


@pytest.fixture(autouse=True)
def consent(monkeypatch):
    monkeypatch.setenv("MINICODER_SANDBOX", "weak")


def answer(pool: Sandbox, code: str) -> str:
    """What f() returns, as the message of the failed comparison shows it."""
    result = pool.judge(code, (((), object.__name__),), "f")
    return result.message.removeprefix("f() returned ").removesuffix(", not 'object'")


def worker(pool: Sandbox):
    pool.judge(*RIGHT)
    return pool._all[0].programs


def test_it_says_what_it_is(sandbox, tier):
    worker(sandbox)
    report = sandbox.report
    assert sandbox.tier == report["tier"] == tier
    if sys.platform == "linux":
        assert report["orphans"] == "killed"
        assert (report["uid"] is not None) == (os.geteuid() == 0)
        assert report["network"] == "none" or tier == "weak" and os.geteuid()


def test_the_environment_is_empty_but_for_the_scratch_folder(sandbox):
    code = "import os\ndef f():\n    return sorted(os.environ)"
    assert answer(sandbox, code) == "['TMPDIR']"


def test_nothing_of_this_project_or_of_other_packages_can_be_imported(sandbox):
    code = ("import importlib.util as u\ndef f():\n"
            "    names = 'minicoder', 'numpy', 'pytest', 'sandbox', 'verdict'\n"
            "    return [n for n in names if u.find_spec(n)]")
    assert answer(sandbox, code) == "[]"


@LINUX
def test_only_its_own_descriptors_are_open(sandbox):
    code = ("import os, stat, sys\ndef f():\n    found = []\n"
            "    library = [os.stat(p) for p in sys.path if os.path.isdir(p)]\n"
            "    for n in range(64):\n"
            "        try:\n            at = os.fstat(n)\n"
            "        except OSError:\n            continue\n"
            "        if not any(os.path.samestat(at, p) for p in library):\n"
            "            found.append(stat.filemode(at.st_mode)[0])\n"
            "    return ''.join(found)")
    assert answer(sandbox, code) == "'cpps'"  # /dev/null, output twice, the channel


@LINUX
def test_processes_are_bounded(sandbox, tier):
    code = ("import os, time\ndef f():\n    count = 0\n    try:\n"
            "        while count < 500:\n            if os.fork() == 0:\n"
            "                time.sleep(60)\n            count += 1\n"
            "    except OSError:\n        pass\n    return count")
    most = 100 if tier == "weak" and os.geteuid() else 16
    assert 0 <= int(answer(sandbox, code)) < most
    assert sandbox.judge(*RIGHT).verdict == "pass"


@LINUX
def test_the_last_process_of_a_program_ends_with_it(sandbox):
    code = ("import os, time\ndef f():\n    if os.fork() == 0:\n        os.setsid()\n"
            "        time.sleep(60)\n    return os.getpid()")
    for _ in range(5):
        answer(sandbox, code)
    running = worker(sandbox)
    pid = running.report.get("pid") or running.process.pid
    with open(f"/proc/{pid}/task/{pid}/children") as listing:
        assert sandbox.tier == "bwrap" or listing.read() == ""
    named = [p for p in Path("/proc").glob("[0-9]*/cmdline")
             if running.folder.encode() in readable(p)]
    assert len(named) == {"landlock": 1, "weak": 1}.get(sandbox.tier, 2)


def readable(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@LINUX
@pytest.mark.parametrize("attack", [
    "os.kill(os.getppid(), signal.SIGKILL)", "os.kill(os.getppid(), signal.SIGSTOP)",
    "os.kill(-1, signal.SIGKILL)", "os.killpg(0, signal.SIGKILL)",
    "resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (0, 0))",
    "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "os.sched_setaffinity(os.getppid(), {0})", "os.ptrace(16, os.getppid())",
    "open(f'/proc/{os.getppid()}/mem', 'r+b').write(b'x')",
    "[os.close(n) for n in range(64)]", "os.rmdir(os.getcwd())"])
def test_its_programs_cannot_harm_it(sandbox, tier, attack):
    if tier == "weak" and os.geteuid():
        pytest.skip("the weak tier of an ordinary user is no boundary")
    before = worker(sandbox).process.pid
    code = f"import os, resource, signal\ndef f():\n    {attack}"
    assert sandbox.judge(code, (((), 1),), "f").verdict in ("error", "fail", "crash")
    assert sandbox.judge(*RIGHT).verdict == "pass"
    assert worker(sandbox).process.pid == before


@LINUX
@pytest.mark.parametrize("mebibytes, verdict", [(10, "pass"), (120, "memory")])
def test_what_its_processes_hold_together_is_bounded(
        sandbox, tier, mebibytes, verdict):
    if tier not in ("namespaces", "bwrap"):
        pytest.skip(f"{tier} counts the memory of each process")
    code = ("import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n"
            f"        kept = b'x' * ({mebibytes} << 20)\n        time.sleep(60)\n"
            "def f():\n    time.sleep(2)\n    return 1")
    result = sandbox.judge(code, (((), 1),), "f", limits=Limits(memory_mib=256))
    assert result.verdict == verdict, result
    assert verdict == "pass" or "its processes needed" in result.message


@LINUX
@pytest.mark.parametrize("limit, verdict", [
    (Limits(wall_s=1.5), "timeout"), (Limits(memory_mib=150), "memory")])
def test_a_program_that_keeps_its_worker_awake_has_limits_all_the_same(
        sandbox, tier, limit, verdict):
    """SIGCHLD comes to the worker each time that its child stops or goes on."""
    if tier not in ("namespaces", "bwrap"):
        pytest.skip(f"{tier} has no limit that needs it, or no processes")
    code = ("import os, signal, time\ndef f():\n    me = os.getpid()\n"
            "    for n in range(3):\n        if os.fork() == 0:\n"
            "            for turn in range(10 ** 6):\n"
            "                kept = kept if turn > 9 else b'x' * (turn * 7 << 20)\n"
            "                time.sleep(0.03)\n"
            "                os.kill(me, n and signal.SIGCONT or signal.SIGSTOP)\n"
            "    time.sleep(60)")
    assert sandbox.judge(code, (((), 1),), "f", limits=limit).verdict == verdict


def test_a_program_that_could_not_be_locked_in_is_not_to_blame(alone):
    code = ("import confinement, os, socket, tempfile, worker\n"
            "class Broken(confinement.Weak):\n"
            "    def lock(self, *_):\n        raise OSError('no room for it')\n"
            "here, host = socket.socketpair()\nchannel, peer = socket.socketpair()\n"
            "cage = Broken(tempfile.mkdtemp(), [])\n"
            "limits = {'wall_s': 30, 'memory_mib': 512}\n"
            "try:\n    worker.Server(here, cage).run(\n"
            "        limits, channel.detach(), os.pipe()[1])\n"
            "except OSError as error:\n    print(error)\n"
            "os.rmdir(cage.folder)")
    assert alone(code) == "a program was not locked in: no room for it"


@LINUX
def test_programs_share_no_memory_and_no_files(sandbox, tier):
    if tier == "weak" and os.geteuid():
        pytest.skip("the weak tier of an ordinary user is no boundary")
    leave = ("import ctypes, os, tempfile\ndef f():\n"
             "    open(tempfile.gettempdir() + '/kept', 'w').write('x')\n"
             "    for place in ('/tmp', '/dev/shm', '/var/tmp', '..'):\n"
             "        try:\n            open(place + '/kept', 'w').write('x')\n"
             "        except OSError:\n            pass\n"
             "    return ctypes.CDLL(None).shmget(77, 4096, 0o1666)")
    find = ("import ctypes, os, tempfile\ndef f():\n"
            "    return [p for p in (tempfile.gettempdir(), '/tmp', '/dev/shm', '..',\n"
            "            '/var/tmp') if os.path.exists(p + '/kept')], \\\n"
            "        ctypes.CDLL(None).shmget(77, 0, 0)")
    given = answer(sandbox, leave)
    assert given == "-1" or tier == "weak"
    if tier != "weak":
        assert answer(sandbox, find) == "([], -1)"
    for left in ("/tmp/kept", "/var/tmp/kept", "/dev/shm/kept"):
        Path(left).unlink(missing_ok=True)


@LINUX
@ROOT
def test_root_lends_a_user_id_and_takes_the_network(sandbox, tier):
    code = ("import socket\ndef f():\n    try:\n"
            "        socket.create_connection(('127.0.0.1', 9), 1)\n"
            "    except OSError as error:\n        return str(error)")
    said = answer(sandbox, code)
    assert "unreachable" in said or tier != "weak" and "not permitted" in said
    uid = sandbox.report["uid"]
    code = "import os\ndef f():\n    return [os.getuid(), os.getgid(), os.getgroups()]"
    assert uid > 1000 and answer(sandbox, code) in (f"[{uid}, {uid}, []]",)
    write = "def f():\n    open('/etc/hosts', 'a')"
    assert answer(sandbox, write).startswith(("PermissionError", "FileNotFound",
                                              "OSError"))


@LINUX
def test_a_worker_outlives_the_thread_that_started_it(tier):
    """The kernel tells a child of its parent's death when it is a thread's, too."""
    with Sandbox(workers=1, require=tier, allow_weak=True) as pool:
        thread = threading.Thread(target=worker, args=(pool,))
        thread.start()
        thread.join()
        wait_until(lambda: not Path(f"/proc/self/task/{thread.native_id}").exists())
        before = pool._all[0].programs.process.pid
        assert worker(pool).process.pid == before


@LINUX
def test_all_of_a_worker_ends_when_its_first_process_is_killed(tier):
    with Sandbox(workers=1, require=tier, allow_weak=True) as pool:
        running = worker(pool)
        running.process.kill()
        wait_until(lambda: not any(running.folder.encode() in readable(p)
                                   for p in Path("/proc").glob("[0-9]*/cmdline")))


def test_a_late_stop_does_not_hit_the_next_program(sandbox):
    flood = ("print('x' * 9000)\ndef f():\n    return 1", (((), 1),), "f")
    before = worker(sandbox).process.pid
    for _ in range(20):
        result = sandbox.judge(*flood, limits=Limits(output_kib=1))
        assert result.verdict == "output"
        assert sandbox.judge(*RIGHT).verdict == "pass"
    assert worker(sandbox).process.pid == before  # no worker had to be replaced


@LINUX
def test_it_ends_with_its_host_and_leaves_nothing(tier):
    code = ("import os, signal, threading, time\n"
            "from minicoder.execution.sandbox import Sandbox\n"
            f"pool = Sandbox(workers=1, require={tier!r}, allow_weak=True)\n"
            "pool.judge('def f(): return 1', [((), 1)], 'f')\n"
            "print(pool._all[0].programs.folder, flush=True)\n"
            "job = 'import time; time.sleep(60)', [((), 1)], 'f'\n"
            "threading.Thread(target=pool.judge, args=job, daemon=True).start()\n"
            "time.sleep(0.3)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n")
    host = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd=Path(__file__).parents[2])
    folder, said = (text.decode().strip() for text in host.communicate())
    assert folder and host.returncode == -9 and said == ""
    wait_until(lambda: not any(folder.encode() in readable(p)
                               for p in Path("/proc").glob("[0-9]*/cmdline")))
    assert tier == "bwrap" or not Path(folder).exists()


def wait_until(done) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)
