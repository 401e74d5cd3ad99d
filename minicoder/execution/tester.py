"""The tests' own process: it calls the program through a socket and alone reports.

Runs beside the program's process (`runner.py`), never in it; standard library only.
What comes from the program are frames of plain data, and hostile until decoded.
"""

from __future__ import annotations

import ast
import builtins
import ctypes
import socket
import sys
import types
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from common import MAX_FRAME, Opaque, decode, encode, pack, unpack
from report import LINK, Counted, Enough, Report, line_of
from runner import load

NOT_DUMPABLE = 4  # prctl(2): no process of the same user may look into this one
DEFINES = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign,
           ast.AnnAssign)
UNSAFE = (StopIteration, StopAsyncIteration,  # would end a test's loop in silence
          BaseExceptionGroup)  # wants more than a message


class Foreign:
    """Stands for a value that could not cross; equal to nothing, itself included."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<{self.what}>"


class Program:
    """The program behind its socket: a call goes out, plain data comes back."""

    def __init__(self, peer: socket.socket, report: Report, changes: bool) -> None:
        self.peer, self.report, self.changes = peer, report, changes
        self.stream = peer.makefile("rb")
        self.names = self.receive("ready")

    def receive(self, *kinds: str) -> Any:
        """The content of a reply; what is no reply or no program ends the tests."""
        try:
            kind, content = unpack(self.stream, MAX_FRAME)
            if kind in ("error", "syntax"):
                name, text, line = content
                where = f" (line {line})" if type(line) is int and line else ""
                content = name, (f"{name}: {text}" if text else f"{name}") + where, text
            elif kind == "opaque":
                content = f"{content}"
            elif kind in ("value", "ready"):
                content = decode(content)
            else:
                raise ValueError("not a reply")
        except (EOFError, OSError):
            self.report.end("lost")
        except MemoryError:
            self.report.end("memory", "an answer fills the tests' memory")
        except Exception:
            self.report.end("crash", "wrote into the channel of the sandbox")
        if kind in kinds:
            return content
        if kind == "error" and "value" in kinds:
            raise revived(*content)
        if kind == "opaque" and "value" in kinds:
            self.report.opaque = content
            return Foreign(content)
        verdict = {"syntax": "syntax_error"}.get(
            kind, "memory" if content[0] == "MemoryError" else "error")
        self.report.end(verdict, content[1])

    def call(self, name: str, arguments: Sequence[Any], named: dict[str, Any]) -> Any:
        """Calls the program; raises what it raised, as far as Python knows the name."""
        try:
            wire = [name, encode(list(arguments)), encode(named), self.changes]
        except Opaque as error:
            self.report.end("refused", f"the tests give {error} to the program; only "
                            "plain values cross into its process")
        self.report.calls += 1
        try:
            self.peer.sendall(pack(wire))
        except OSError:
            self.report.end("lost")
        value = self.receive("value")
        if self.changes and not isinstance(value, Foreign):
            value, after = value
            for old, new in zip(arguments, after, strict=True):
                change(old, new)
        self.report.answers = [value]
        return value


def change(old: Any, new: Any) -> None:
    """Gives a mutable argument the contents that it has in the program's process."""
    if type(old) is not type(new):
        return
    if type(old) is list:
        old[:] = new
    elif type(old) in (dict, set, deque):
        old.clear()
        (old.extend if type(old) is deque else old.update)(new)


def revived(name: Any, message: str, text: Any) -> BaseException:
    """The builtin exception of this name; another becomes a RuntimeError."""
    kind = getattr(builtins, name, None) if type(name) is str else None
    if not (isinstance(kind, type) and issubclass(kind, BaseException)) or (
            issubclass(kind, UNSAFE)):
        kind = RuntimeError
    error = kind.__new__(kind, f"{text}")  # __init__ of some wants more arguments
    error.of_program = name, message
    return error


def definitions(prompt: str) -> dict[str, Any]:
    """What a prompt defines: tests may use its helpers. No code defines nothing."""
    for ending in ("", "\n    pass\n"):  # it may stop after its last `def`
        try:
            tree = ast.parse(prompt + ending)
        except (SyntaxError, ValueError):
            continue
        tree.body = [node for node in tree.body if isinstance(node, DEFINES)]
        scope: dict[str, Any] = {"__name__": "tests"}
        exec(compile(tree, "<prompt>", "exec", dont_inherit=True), scope)
        return scope
    return {"__name__": "tests"}


def proxy(program: Program, name: str) -> Callable[..., Any]:
    """A function that runs in the program's process."""
    def call(*arguments: Any, **named: Any) -> Any:
        return program.call(name, arguments, named)
    call.__name__ = call.__qualname__ = name
    return call


def run_tests(channel: socket.socket, peer: socket.socket) -> None:
    """Reads one test program from the channel, runs it, and reports there.

    With code of its own (mode "shared") the program runs here and no peer is asked.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(NOT_DUMPABLE, 0, 0, 0, 0)
    with channel.makefile("rb") as stream:
        tests, entry_point, prompt, style, mode, code = unpack(stream)
    report = Report(channel, tests)
    try:
        tree = ast.parse(tests)
    except (SyntaxError, ValueError) as error:
        report.end("refused", f"the tests are not Python: {error}")
    counted = Counted()
    tree = ast.fix_missing_locations(counted.visit(tree))
    report.planned = counted.count
    if mode == "shared":
        scope = alone(report, code, entry_point)
    else:
        program = Program(peer, report, mode == "in_place")
        try:
            scope = beside(program, tree, prompt, entry_point)
        except Exception as error:
            report.end("refused", f"the prompt or the tests: {error}")
    scope[LINK] = report
    run(tree, scope, report, entry_point if style == "humaneval" else "")


def beside(
    program: Program, tree: ast.Module, prompt: str, entry_point: str
) -> dict[str, Any]:
    """The names that the tests see when the program is in another process."""
    scope = definitions(prompt)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    unknown = used.difference(scope, dir(builtins))
    scope |= {name: __import__(name) for name in unknown & sys.stdlib_module_names}
    scope |= {name: proxy(program, name) for name in
              (unknown - scope.keys()).intersection(program.names) | {entry_point}}
    return scope


def alone(report: Report, code: str, entry_point: str) -> dict[str, Any]:
    """The names that the tests see when the program shares their process."""
    module = types.ModuleType("program")
    kind, content = load(code, entry_point, module)
    if kind != "ready":
        name, text, line = content
        report.end("syntax_error" if kind == "syntax" else "error", f"{name}: {text}")
    report.calls = 1  # they cannot be counted here
    return module.__dict__


def run(
    tree: ast.Module, scope: dict[str, Any], report: Report, check: str
) -> NoReturn:
    """Runs the tests to their end or to the first error outside an assertion."""
    try:
        exec(compile(tree, "<tests>", "exec", dont_inherit=True), scope)
        if check:
            scope["check"](scope[check])
    except Enough:
        pass
    except BaseException as error:
        report.line, report.total = line_of(error), report.total + 1
        report.note(error)
        report.end(*report.failures[0][1:])
    if not report.total and not report.opaque:  # to get through is the only case
        report.total = report.passed = 1
    report.end()
