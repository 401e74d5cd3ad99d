"""Test programs in a process of their own: right programs pass, no trick does."""

import ast
import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from minicoder.execution.sandbox import Job, Sandbox
from minicoder.execution.verdict import Limits, Result

pytestmark = pytest.mark.filterwarnings("ignore:Only weak isolation")
LIMITS = Limits(cpu_s=2, wall_s=10, memory_mib=256)
DATA = Path(__file__).parents[3] / "shared/data"
TESTS = '''
METADATA = {"author": "x"}
def check(candidate):
    assert candidate([1, 2]) == 3
    assert candidate([]) == 0, "of nothing"
    for n in range(3):
        assert candidate([n]) == n
'''
SUM = Job("def solve(a):\n    return sum(a)\n", TESTS, "solve")


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=2, limits=LIMITS) as pool:
        yield pool


def judge(pool: Sandbox, job: Job, limits: Limits | None = None) -> Result:
    (result,) = pool.judge_many([job], limits)
    return result


def script(code: str, tests: str, **more: str) -> Job:
    """Program and tests that call f, line by line."""
    return Job(code, tests, "f", style="mbpp", **more)


def test_a_right_program_passes_and_each_assertion_counts(sandbox):
    result = judge(sandbox, SUM)
    assert (result.verdict, result.message, result.failures) == ("pass", "", ())
    assert (result.passed, result.total, result.mode) == (5, 5, "apart")
    assert 0 < result.cpu_ms < 1000 and result.peak_mib > 1


def test_wrong_assertions_are_told_with_line_and_answer(sandbox):
    code = "def solve(a):\n    return len(a) or 1/0"
    result = judge(sandbox, replace(SUM, code=code))
    assert (result.verdict, result.passed, result.total) == ("fail", 1, 5)
    assert result.message == "assert candidate([1, 2]) == 3: the answer was 2"
    assert result.failures[1] == (
        2, "error", "assert candidate([]) == 0, \"of nothing\": "
        "ZeroDivisionError: division by zero (line 2)")
    assert [number for number, _, _ in result.failures] == [1, 2, 3, 5]


@pytest.mark.parametrize("code, verdict, message", [
    ("def solve(a:\n", "syntax_error", "SyntaxError: '(' was never closed"),
    ("def other(a):\n    pass", "error", "does not define 'solve'"),
    ("{}['k']", "error", "KeyError: 'k' (line 1)"),
    ("def solve(a):\n    return object()", "fail", "an object of type object, which"),
    ("def solve(a):\n    a = bytearray(1 << 30)", "memory", "MemoryError"),
    ("a = bytearray(1 << 30)", "memory", "MemoryError"),
    ("def solve(a):\n    while True: pass", "timeout", "CPU time"),
    ("while True: pass", "timeout", "CPU time"),
    ("def solve(a):\n    while True: print(a)", "output", "KiB"),
    ("import os\nos.kill(os.getpid(), 11)", "crash", "signal 11"),
    ("import os\ndef solve(a):\n    os._exit(0)", "crash", "status 0 after 1 calls"),
])
def test_what_ends_a_program_is_its_verdict(sandbox, code, verdict, message):
    result = judge(sandbox, replace(SUM, code=code), replace(LIMITS, cpu_s=1))
    assert result.verdict == verdict and message in result.message, result


@pytest.mark.parametrize("job", [
    script("f = sum", "assert f([1, 2]) == 3\nassert f([]) == 0"),
    script("def f(a, *, b=1):\n    return a + b", "assert f(1, b=2) == 3 == f(a=2)"),
    script("def f(a):\n    yield from a", "assert list(f('ab')) == ['a', 'b']"),
    script("import collections\nf = collections.Counter", "assert f('aa') == {'a': 2}"),
    script("def f(a):\n    return g(a)\ndef g(a):\n    return a + 1",
           "assert g(1) == 2\nassert f(1) == 2"),
    script("from math import *\ndef f():\n    return pi",
           "assert math.isclose(f(), math.pi)"),  # the tests forgot to import math
    script("def f(a):\n    raise KeyError('k')",
           "try:\n    f(1)\n    assert False\nexcept KeyError:\n    pass"),
    script("class Own(Exception):\n    pass\ndef f():\n    raise Own('what')",
           "try:\n    f()\nexcept RuntimeError as e:\n    assert str(e) == 'what'"),
    script("count = 0\ndef f():\n    global count\n    count += 1\n    return count",
           "assert f() == 1\nassert f() == 2"),
    script("def sum(a):\n    return 0\ndef f(a):\n    return a",
           "assert f(3) == sum([1, 2])"),  # the tests have Python's sum
    script("def f(a):\n    return a is None", "assert f(None) is True", prompt="Word"),
    Job("def h(x):\n    return 0\ndef f(x):\n    return x + 1\n",
        "def check(candidate):\n    assert candidate(1) == h(1)", "f",
        "def h(x):\n    return x + 1\ndef f(x):\n"),  # the prompt's own helper counts
    Job("def f(x):\n    return x", "def check(candidate):\n    def deep(n):\n"
        "        assert candidate(n) == n\n    deep(1)\n    deep(2)", "f"),
])
def test_what_right_programs_and_their_tests_may_do(sandbox, job):
    result = judge(sandbox, job)
    assert result.verdict == "pass", result


@pytest.mark.parametrize("tests, style, message", [
    ("assert f(1", "mbpp", "not Python"),
    ("pass", "mbpp", "never call"),
    ("assert 1 + 1 == 3", "mbpp", "never call"),
    ("def test(candidate):\n    assert candidate(1)", "humaneval", "never call"),
    ("assert f(lambda: 1) == 1", "mbpp", "an object of type function"),
])
def test_tests_that_test_nothing_are_refused(sandbox, tests, style, message):
    result = judge(sandbox, Job("def f(a):\n    return 1", tests, "f", style=style))
    assert result.verdict == "refused" and message in result.message, result


def test_many_wrong_cases_end_the_tests_early(sandbox):
    endless = "while True:\n    assert f() == 1"
    result = judge(sandbox, script("def f():\n    return 2", endless))
    assert (result.verdict, len(result.failures)) == ("fail", 20)


def test_tests_that_do_not_end_are_a_timeout_of_their_own(sandbox):
    result = judge(sandbox, script("def f():\n    return 2", "f()\nwhile True: pass"),
                   replace(LIMITS, cpu_s=0.1))
    assert result.verdict == "timeout" and "tests' own process" in result.message


ARGUMENT = "a = [3, 1]\nd = {}\nf(a, d)\nassert a == [1, 3] and d == {'n': 2}"


def test_changes_of_arguments_come_back_only_where_asked(sandbox):
    code = "def f(a, d):\n    a.sort()\n    d['n'] = len(a)"
    assert judge(sandbox, script(code, ARGUMENT)).verdict == "fail"
    assert judge(sandbox, script(code, ARGUMENT, mode="in_place")).verdict == "pass"
    cheat = script("def f(a):\n    a.clear()\n    return []",
                   "a = [2, 1]\nassert f(a) == sorted(a)")
    assert judge(sandbox, cheat).verdict == "fail"
    assert judge(sandbox, replace(cheat, mode="in_place")).verdict == "pass"


OWN = ("class Pair:\n    def __init__(self, a, b):\n        self.a, self.b = a, b\n"
       "def f(p):\n    return p.a + p.b")


def test_own_classes_need_one_process_and_the_result_says_so(sandbox):
    job = script(OWN, "assert f(Pair(1, 2)) == 3")
    apart = judge(sandbox, job)
    assert (apart.verdict, apart.mode) == ("refused", "apart")
    shared = judge(sandbox, replace(job, mode="shared"))
    assert (shared.verdict, shared.mode, shared.passed) == ("pass", "shared", 1)
    wrong = replace(job, code=OWN.replace("+", "-"), mode="shared")
    assert judge(sandbox, wrong).verdict == "fail"
    broken = replace(job, code="def f(:", mode="shared")
    assert judge(sandbox, broken).verdict == "syntax_error"


FRAME = ('import json, struct, os, sys\n'
         'def frame(x):\n'
         '    body = json.dumps(x).encode()\n'
         '    return struct.pack(">I", len(body)) + body\n'
         'def flood(data):\n'
         '    for fd in range(64):\n'
         '        try:\n'
         '            os.write(fd, data)\n'
         '        except OSError:\n'
         '            pass\n')
HOSTILE = {
    "equal to everything": """
class Yes(int):
    def __eq__(self, other): return True
    __ne__ = lambda self, other: False
    __hash__ = int.__hash__
def solve(a): return Yes()""",
    "equal to everything, inside": """
class Yes:
    def __eq__(self, other): return True
def solve(a): return [Yes()]""",
    "a patched class that looks plain": """
class int(int):
    def __eq__(self, other): return True
def solve(a): return int()""",
    "a str that lies": """
class str(str):
    def __eq__(self, other): return True
    def __hash__(self): return 0
def solve(a): return str()""",
    "false for five": "def solve(a): return sum(a) == 3",
    "patched builtins": """
import builtins, operator
builtins.AssertionError = builtins.sum = builtins.len = lambda *a, **k: 0
builtins.__debug__ = False if False else None
def solve(a): return None""",
    "raises what would end a loop": "def solve(a): raise StopIteration",
    "raises a failed assertion": "def solve(a): raise AssertionError",
    "leaves the tests": "def solve(a): raise SystemExit(0)",
    "generator exit": "def solve(a): raise GeneratorExit",
    "an exception of the harness by name": """
class Enough(BaseException): pass
def solve(a): raise Enough""",
    "exit code": "import os, sys\ndef solve(a): sys.exit(0)",
    "exits at once": "import os\nos._exit(0)",
    "exits behind the last call": """
import os, threading
def solve(a):
    threading.Timer(0.05, os._exit, (0,)).start()
    return None""",
    "a forged report everywhere": FRAME + """
flood(frame(["report", ["", "", 5, 5, 5, []]]) * 3)
def solve(a):
    flood(frame(["report", ["", "", 5, 5, 5, []]]))
    return None""",
    "forged answers everywhere": FRAME + """
flood(frame(["ready", ["solve", "check"]]) + frame(["value", 0]) * 9)
def solve(a): return None""",
    "a million answers": FRAME + """
import threading
def more():
    data = frame(["value", 3]) * 1000
    for n in range(1000): flood(data)
threading.Thread(target=more, daemon=True).start()
def solve(a): return None""",
    "a frame without end": FRAME + """
flood(b"\\xff\\xff\\xff\\xff" + b"[" * 1000)
def solve(a): return None""",
    "unknown tags": FRAME + """
flood(frame(["ready", [{"pickle": "x"}]]))
def solve(a): return None""",
    "names that are no names": FRAME + """
flood(frame(["ready", [[], {"d": []}, 1, None]]))
def solve(a): return None""",
    "errors of odd names": FRAME + """
def solve(a):
    for name in ("exec", "__import__", "ExceptionGroup", 7, None, [], "print"):
        flood(frame(["error", [name, "x", 1]]))""",
    "an error whose text is no text": FRAME + """
def solve(a):
    flood(frame(["error", ["KeyError", {"t": [[]]}, "no line"]]))""",
    "deep answer": """
def solve(a):
    for n in range(100000): a = [a]
    return a""",
    "deeper frame": FRAME + """
flood(struct.pack(">I", 200000) + b"[" * 200000)
def solve(a): return None""",
    "deep recursion": "def solve(a): return solve(a)",
    "huge answer": "def solve(a): return 'x' * (9 << 20)",
    "huge number": "def solve(a): return 1 << (30 << 20)",
    "endless iterator": "import itertools\ndef solve(a): return itertools.count()",
    "reads the tests from memory": """
import gc, sys
def solve(a):
    seen = [o for o in gc.get_objects() if type(o) is dict and 'check' in o]
    frame, names = sys._getframe(), []
    while frame:
        names += [str(v) for v in frame.f_locals.values()]
        frame = frame.f_back
    texts = ' '.join(names)
    return len(seen) + ('candidate' in texts) * 3 or None""",
    "asks another process for it": """
import os
def solve(a):
    for name in os.listdir('/proc') if os.path.exists('/proc') else ():
        if name.isdigit() and name != str(os.getpid()):
            for part in ('mem', 'environ', 'maps'):
                try:
                    if b'candidate' in open(f'/proc/{name}/{part}', 'rb').read(1 << 16):
                        return sum(a)
                except OSError:
                    pass""",
    "kills whom it can": """
import os, signal
def solve(a):
    for name in os.listdir('/proc') if os.path.exists('/proc') else range(1, 99):
        if str(name).isdigit() and int(name) not in (os.getpid(), 1):
            try:
                os.kill(int(name), 0 if int(name) == os.getppid() else 18)
            except OSError:
                pass
    return None""",
    "two processes that answer": """
import os
os.fork()
def solve(a): return None""",
    "writes into its standard input and output": """
import os, sys
print('["report", ["", "", 5, 5, 5, []]]', flush=True)
sys.stdout.write = lambda *a: None
def solve(a): return None""",
    "sleeps": "import time\ndef solve(a): time.sleep(1000)",
    "does not leave": """
import atexit, signal, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
def solve(a): return None""",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_hostile_program_passes_and_the_pool_lives_on(sandbox, name):
    loops = TESTS + "    assert all(map(candidate, [[7], [8]]))\n"
    result = judge(sandbox, replace(SUM, code=HOSTILE[name], tests=loops),
                   replace(LIMITS, cpu_s=1, wall_s=1.5 if name == "sleeps" else 10))
    assert result.verdict not in ("pass", "harness_error"), result
    assert len(result.message) <= 301
    json.dumps(result.__dict__)
    assert judge(sandbox, SUM).verdict == "pass"


def test_an_answer_that_cannot_cross_is_never_right(sandbox):
    code = "class Own:\n    pass\ndef f():\n    return Own()"
    for tests in ("assert f() != 1", "assert f()", "assert f() is not None",
                  "x = f()\nassert x != 1", "f()", "assert not isinstance(f(), int)",
                  "try:\n    assert f() == 1\nexcept AssertionError:\n    pass"):
        result = judge(sandbox, script(code, tests))
        assert result.verdict == "fail" and "type Own" in result.message, result


@pytest.mark.parametrize("name", ["StopIteration", "StopAsyncIteration", "IndexError"])
def test_an_exception_does_not_end_a_loop_of_the_tests_in_silence(sandbox, name):
    job = script(f"def f(a):\n    raise {name}", "assert all(map(f, [1, 2]))\n"
                 "assert [v for v in map(f, [1, 2])] == []")
    assert (judge(sandbox, job).verdict, judge(sandbox, job).passed) == ("error", 0)


def read(name: str) -> list[dict]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return [json.loads(line) for line in gzip.open(path, "rt", encoding="utf-8")]


def test_every_canonical_solution_of_humaneval_passes_apart(sandbox):
    tasks = read("humaneval/HumanEval.jsonl.gz")
    results = sandbox.judge_many(
        (Job(t["prompt"] + t["canonical_solution"], t["test"], t["entry_point"],
             t["prompt"]) for t in tasks), Limits(cpu_s=10, wall_s=60))
    assert [t["task_id"] for t, r in zip(tasks, results, strict=True)
            if r.verdict != "pass"] == []
    assert len(results) == 164 and sum(r.total for r in results) > 1500


def mbpp_job(task: dict) -> Job:
    """MBPP names the function in its tests only: the last one of the program there."""
    lines = [task["test_setup_code"], *task["test_list"], *task["challenge_test_list"]]
    used = set(re.findall(r"\w+", " ".join(lines)))
    names = [node.name for node in ast.parse(task["code"]).body
             if isinstance(node, ast.FunctionDef) and node.name in used]
    return Job(task["code"], "\n".join(lines), names[-1], style="mbpp")


FOREIGN = {367, 533, 601, 927}  # their tests hand over objects of the program's classes


@pytest.mark.parametrize("step", [25, pytest.param(1, marks=pytest.mark.slow)])
def test_solutions_of_mbpp_pass_apart_but_those_with_own_classes(sandbox, step):
    tasks = read("mbpp/mbpp.jsonl.gz")[::step]
    limits = Limits(cpu_s=20, wall_s=100)
    results = sandbox.judge_many(map(mbpp_job, tasks), limits)
    wrong = {t["task_id"] for t, r in zip(tasks, results, strict=True)
             if r.verdict != "pass"}
    assert wrong == FOREIGN & {t["task_id"] for t in tasks}
    shared = sandbox.judge_many((replace(mbpp_job(t), mode="shared") for t in tasks
                                 if t["task_id"] in wrong), limits)
    assert {r.verdict for r in shared} <= {"pass"}
