"""The program's side of the channel: what it answers to cases and to calls."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

import minicoder.execution.common
from minicoder.execution.common import decode, encode, pack, unpack

FOLDER = Path(minicoder.execution.common.__file__).parent
START = ("import socket, sys\nsys.path.insert(0, sys.argv[2])\nimport runner\n"
         "runner.run_program(socket.socket(fileno=int(sys.argv[1])))\n")


class Program:
    """A process of the runner alone, without any isolation."""

    def __init__(self, code: str, cases: object = None) -> None:
        self.channel, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", START, str(theirs.fileno()), str(FOLDER)],
            pass_fds=[theirs.fileno()], stdout=subprocess.PIPE)
        theirs.close()
        self.stream = self.channel.makefile("rb")
        self.channel.sendall(pack([code, "f", cases]))

    def call(self, *arguments: object, name: str = "f", changes: bool = False,
             **named: object) -> list:
        wire = [name, encode(list(arguments)), encode(named), changes]
        self.channel.sendall(pack(wire))
        return unpack(self.stream)

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.channel.close()
        self.output, _ = self.process.communicate()
        assert self.process.returncode == 0


def test_cases_are_answered_in_order_and_output_is_flushed():
    code = "print('noise')\ndef f(a):\n    return 6 / a"
    with Program(code, [encode((n,)) for n in (2, 0, 3)]) as program:
        assert unpack(program.stream) == ["value", encode(3.0)]
        assert unpack(program.stream) == [
            "error", ["ZeroDivisionError", "division by zero", 3]]
        assert unpack(program.stream) == ["value", encode(2.0)]
    assert program.output == b"noise\n"


def test_calls_are_answered_as_they_come_with_state_kept():
    code = ("seen = []\ndef f(a, *, b=0):\n    seen.append(a)\n    return a, b\n"
            "def g():\n    return seen\nclass K:\n    pass\nN = 3")
    with Program(code) as program:
        kind, names = unpack(program.stream)
        assert kind == "ready" and {"f", "g", "K"} <= {*names} and "N" not in names
        assert program.call(1, b=2) == ["value", encode((1, 2))]
        assert program.call({3: b"x"}) == ["value", encode(({3: b"x"}, 0))]
        assert program.call(name="g") == ["value", encode([1, {3: b"x"}])]
        assert program.call(name="K") == ["opaque", "an object of type K"]
        assert program.call()[0] == "error"


def test_changes_of_the_arguments_are_sent_when_asked():
    with Program("def f(a, b):\n    a.sort()\n    return b.pop()") as program:
        unpack(program.stream)
        kind, (value, after) = program.call([2, 1], [5], changes=True)
        assert (kind, value, decode(after)) == ("value", 5, [[1, 2], []])
        assert program.call([2, 1], [5]) == ["value", 5]


@pytest.mark.parametrize("code, kind, error", [
    ("def f(:", "syntax", ["SyntaxError", "invalid syntax (<program>, line 1)", 0]),
    ("1/0", "error", ["ZeroDivisionError", "division by zero", 1]),
    ("x = 1", "error", ["NameError", "the program does not define 'f'", 0]),
    ("raise SystemExit(3)", "error", ["SystemExit", "3", 1])])
@pytest.mark.parametrize("cases", [None, [encode(())]])
def test_a_program_that_cannot_be_loaded_says_why_once(code, kind, error, cases):
    with Program(code, cases) as program:
        assert unpack(program.stream) == [kind, error]
        with pytest.raises(EOFError):
            unpack(program.stream)


@pytest.mark.parametrize("value, kind, content", [
    ("(n for n in (1, 2))", "value", {"n": [1, 2]}),
    ("(1/n for n in (1, 0))", "error", ["ZeroDivisionError", "division by zero", 2]),
    ("iter(int, 1)", "opaque", "an iterator of more than 1048576 items"),
    ("'x' * (8 << 20)", "opaque", "a value of more than 8388608 bytes")])
def test_values_that_come_late_or_are_large(value, kind, content):
    with Program(f"def f():\n    return {value}") as program:
        unpack(program.stream)
        assert program.call() == [kind, content]
