"""The fork server: what it reports, and how it shields itself and the machine."""

import os
import sys

import pytest

from minicoder.execution.sandbox import Job, Sandbox
from minicoder.execution.verdict import Limits

pytestmark = pytest.mark.filterwarnings("ignore:Generated programs run")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=1) as pool:
        yield pool


def answer(pool: Sandbox, code: str) -> str:
    """What f() returns, as the message of the failed comparison shows it."""
    result = pool.judge(Job(code, "f", (((), object.__name__),)))
    return result.message.removeprefix("f() returned ").removesuffix(", not 'object'")


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
    code = ("import os\ndef f():\n"
            "    links = [os.readlink(f'/proc/self/fd/{n}') for n in range(64)\n"
            "             if os.path.lexists(f'/proc/self/fd/{n}')]\n"
            "    return sorted({l.split(':')[0].split('/')[-1] for l in links\n"
            "                   if 'python3' not in l} - {'fd'})")
    assert answer(sandbox, code) == "['null', 'pipe', 'socket']"


@LINUX
def test_processes_are_bounded(sandbox):
    code = ("import os, time\ndef f():\n    count = 0\n    try:\n"
            "        while count < 500:\n            if os.fork() == 0:\n"
            "                time.sleep(60)\n            count += 1\n"
            "    except OSError:\n        pass\n    return count")
    sandbox.judge(Job("f = len", "f", ((("",), 0),)))
    most = 16 if sandbox.report["uid"] is not None else 100
    assert 0 < int(answer(sandbox, code)) < most


@LINUX
def test_the_last_process_of_a_program_ends_with_it(sandbox):
    code = ("import os, time\ndef f():\n    if os.fork() == 0:\n        os.setsid()\n"
            "        time.sleep(60)\n    return os.getpid()")
    for _ in range(5):
        answer(sandbox, code)
    pid = sandbox._all[0].process.pid
    with open(f"/proc/{pid}/task/{pid}/children") as listing:
        assert listing.read() == ""


@LINUX
@ROOT
def test_root_lends_a_user_id_and_takes_the_network(sandbox):
    code = ("import socket\ndef f():\n    try:\n"
            "        socket.create_connection(('127.0.0.1', 9), 1)\n"
            "    except OSError as error:\n        return str(error)")
    assert "unreachable" in answer(sandbox, code)
    assert sandbox.report == {"tier": "weak", "uid": sandbox.report["uid"],
                              "network": "none", "orphans": "killed"}
    write = "def f():\n    open('/etc/hosts', 'a')"
    assert answer(sandbox, write).startswith("PermissionError")
    kill = "import os\ndef f():\n    os.kill(os.getppid(), 0)"
    assert answer(sandbox, kill).startswith("PermissionError")


def test_a_late_stop_does_not_hit_the_next_program(sandbox):
    flood = Job("print('x' * 9000)\ndef f():\n    return 1", "f", (((), 1),))
    right = Job("def f():\n    return 1", "f", (((), 1),))
    assert sandbox.judge(right).verdict == "pass"
    before = sandbox._all[0].process.pid
    for _ in range(20):
        assert sandbox.judge(flood, Limits(output_kib=1)).verdict == "output"
        assert sandbox.judge(right).verdict == "pass"
        assert sandbox._all[0].process.pid == before  # no worker had to be replaced
