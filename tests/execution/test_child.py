"""What a program may count on while it runs, and what its answers look like."""

import pytest

from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Limits

pytestmark = pytest.mark.filterwarnings("ignore:Generated programs run")


@pytest.fixture(autouse=True)
def consent(monkeypatch):
    monkeypatch.setenv("MINICODER_SANDBOX", "weak")


@pytest.fixture(scope="module")
def sandbox(tier):
    with Sandbox(workers=1, require=tier, allow_weak=True) as pool:
        yield pool


def verdict(pool: Sandbox, code: str, expected: object, *arguments: object) -> str:
    result = pool.judge(code, ((arguments, expected),), "f")
    return f"{result.verdict} {result.message}".strip()


@pytest.mark.parametrize("value", [
    None, True, -7, 1 << 200, 0.1, float("inf"), "ü\n\x00", "\ud800", [1, [2.5]],
    (1, (), [None]), {"a": {1: (2,)}}, {1, "b"}, {(1, 2): set()}])
def test_values_go_in_and_come_out(sandbox, value):
    assert verdict(sandbox, "f = lambda v: v", value, value) == "pass"


@pytest.mark.parametrize("value", [0.1, float("inf"), "ü\n\x00", (1, (), [None]), {1}])
def test_values_are_what_they_were(sandbox, value):
    assert verdict(sandbox, "f = repr", repr(value), value) == "pass"


@pytest.mark.parametrize("code", [
    "import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: 'int'\n"
    "def f(v):\n    return P(v).x",
    "def f(v):\n    print('noise')\n    return v",
    "import collections, heapq, itertools, math, re, typing\ndef f(v):\n    return v",
    "import json.tool, xml.etree.ElementTree, sqlite3\ndef f(v):\n    return v",
    "import tempfile\ndef f(v):\n    with tempfile.TemporaryFile('w+') as t:\n"
    "        t.write(str(v)); t.seek(0); return int(t.read())",
    "import threading\ndef f(v):\n    out = []\n"
    "    t = threading.Thread(target=out.append, args=(v,))\n"
    "    t.start(); t.join(); return out[0]",
    "import asyncio\nasync def g(v):\n    await asyncio.sleep(0)\n    return v\n"
    "def f(v):\n    return asyncio.run(g(v))",
    "def f(v: int) -> 'int':\n    return v if f.__annotations__['v'] is int else 0",
    "f = lambda v: v",
    "class f:\n    def __new__(cls, v):\n        return v",
    "if __name__ == '__main__':\n    raise SystemExit\ndef f(v):\n    return v",
])
def test_ordinary_programs_pass(sandbox, code):
    assert verdict(sandbox, code, 5, 5) == "pass"


@pytest.mark.parametrize("code", [
    "import subprocess\ndef f(v):\n"
    "    return int(subprocess.run(['echo', str(v)], capture_output=True).stdout)",
    "import multiprocessing\ndef f(v):\n    with multiprocessing.Pool(2) as pool:\n"
    "        return pool.map(abs, [-v, v])[0]"])
def test_programs_may_start_others_but_in_landlock(sandbox, tier, code):
    found = verdict(sandbox, code, 5, 5)
    if tier == "landlock":
        assert found.startswith("error PermissionError: [Errno 1")
    elif tier == "namespaces" or "subprocess" in code:
        assert found == "pass"


def test_a_case_does_not_see_the_changes_of_another(sandbox):
    code = "def f(a):\n    a.append(1)\n    return len(a)"
    shared: list[int] = []
    assert sandbox.judge(code, (((shared,), 1),) * 3, "f").verdict == "pass"
    assert shared == []


def test_programs_do_not_see_one_another(sandbox):
    write = "import math\nmath.kept = 1\nopen('kept', 'w').close()\ndef f():\n    pass"
    read = ("import math, os\ndef f():\n"
            "    return hasattr(math, 'kept') or os.listdir('.') != []")
    assert verdict(sandbox, write, None) == "pass"
    assert verdict(sandbox, read, False) == "pass"


def test_chance_and_hashes_are_the_same_everywhere(tier):
    code = ("import random\ndef f():\n"
            "    return [random.random(), hash('a'), list({*'xyz'})]")
    found = set()
    for _ in range(3):
        with Sandbox(workers=1, require=tier, allow_weak=True) as pool:
            found.add(verdict(pool, code, None))
            found.add(verdict(pool, code, None))
    assert len(found) == 1


@pytest.mark.parametrize("code, message", [
    ("def f():\n    return 1 / 0",
     "error ZeroDivisionError: division by zero (line 2)"),
    ("def f():\n    g()\ndef g():\n    [][1]",
     "error IndexError: list index out of range (line 4)"),
    ("x = {}['k']\ndef f():\n    pass", "error KeyError: 'k' (line 1)"),
    ("def f():\n    raise KeyboardInterrupt", "error KeyboardInterrupt (line 2)"),
    ("def f(:\n    pass",
     "syntax_error SyntaxError: invalid syntax (<program>, line 1)"),
    ("def f():\n\treturn 1\n        return 2",
     "syntax_error TabError: inconsistent use of tabs and spaces in indentation "
     "(<program>, line 3)"),
    ("def g():\n    pass", "error NameError: the program does not define 'f'"),
    ("f = 3", "error TypeError: 'int' object is not callable"),
])
def test_errors_name_type_message_and_line(sandbox, code, message):
    assert verdict(sandbox, code, None) == message


def test_each_limit_can_be_set_for_one_job(sandbox):
    def judged(code: str, **limits: int | float) -> str:
        return sandbox.judge(code, (((), 1),), "f", limits=Limits(**limits)).verdict

    memory = "def f():\n    return len(bytearray(100 << 20)) >> 26"
    assert (judged(memory), judged(memory, memory_mib=64)) == ("pass", "memory")
    output = "def f():\n    print('x' * 5000)\n    return 1"
    assert (judged(output), judged(output, output_kib=4)) == ("pass", "output")
    nap = "import time\ndef f():\n    time.sleep(0.6)\n    return 1"
    assert (judged(nap), judged(nap, wall_s=0.3)) == ("pass", "timeout")
    work = ("import time\ndef f():\n"
            "    while time.process_time() < 0.5:\n        pass\n    return 1")
    assert (judged(work), judged(work, cpu_s=0.2)) == ("pass", "timeout")
    file = "def f():\n    return open('x', 'wb').write(bytes(2 << 20)) >> 21"
    assert (judged(file), judged(file, files_mib=1)) == ("pass", "error")
