"""How the cases of a test program are counted, and the wrong ones told.

Runs in the tests' process (`tester.py`); standard library only.
"""

from __future__ import annotations

import ast
import os
import socket
import sys
from typing import Any, NoReturn

from common import pack
from runner import describe

MAX_FAILURES = 20  # so many wrong cases are told; then the tests end
LINK = "_count_this_case"  # what an assertion is wrapped in


class Enough(BaseException):
    """So many cases are wrong that the others do not matter."""


class Report:
    """Counts the cases, notes the wrong ones, and tells the host once, at the end.

    It is the context in which each assertion runs.
    """

    def __init__(self, channel: socket.socket, source: str) -> None:
        self.channel, self.lines = channel, source.split("\n")
        self.planned = self.total = self.passed = self.calls = self.line = 0
        self.failures: list[list[Any]] = []
        self.answers: list[Any] = []  # the last one since the case began
        self.opaque = ""

    def __call__(self, line: int) -> Report:
        self.line = line
        return self

    def __enter__(self) -> None:
        self.total += 1
        self.answers = []

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> bool:
        if error is None and not self.opaque:
            self.passed += 1
            return False
        self.note(error)
        if len(self.failures) == MAX_FAILURES:
            raise Enough
        return True

    def note(self, error: BaseException | None) -> None:
        """One wrong case: the program's error, an opaque answer, or a failed test."""
        verdict, text = "fail", ""
        if self.answers:
            text = f"the answer was {shown(self.answers[0])}"
        if self.opaque:
            text = f"returned {self.opaque}, which cannot leave its process"
        elif error is not None and hasattr(error, "of_program"):
            name, text = error.of_program
            verdict = "memory" if name == "MemoryError" else "error"
        elif error is not None and type(error) is not AssertionError:
            name, message, _ = describe(error)
            text = f"{name}: {message}" + (text and f"; {text}")
        self.opaque = ""
        where = self.lines[self.line - 1].strip()[:200] if self.line else "the tests"
        message = f"{where}: {text}" if text else where
        self.failures.append([self.total, verdict, message])

    def end(self, verdict: str = "", message: str = "") -> NoReturn:
        """Sends the report and ends the process; a verdict overrules the cases."""
        if self.opaque:  # it came outside an assertion
            self.total += 1
            self.note(None)
        if not self.calls and verdict in ("", "fail"):
            verdict, message = "refused", f"the tests never call the program {message}"
        early = bool(verdict) or len(self.failures) == MAX_FAILURES
        total = max(self.total, self.planned) if early else self.total
        self.channel.sendall(pack(["report", [
            verdict, message, self.passed, total, self.calls, self.failures]]))
        sys.stdout.flush()
        os._exit(0)


class Counted(ast.NodeTransformer):
    """Puts each assertion into a context that counts it.

    Not those under `try` and `with`, which may be there to catch its failure.
    """

    count = 0

    def leave(self, node: ast.AST) -> ast.AST:
        return node

    visit_Try = visit_TryStar = visit_With = leave

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        self.count += 1
        call = ast.Call(ast.Name(LINK, ast.Load()), [ast.Constant(node.lineno)], [])
        return ast.With([ast.withitem(call)], [node])


def line_of(error: BaseException) -> int:
    """The line of the tests that an error came through; 0 when it is none."""
    line, trace = 0, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def shown(value: object) -> str:
    """A value as Python writes it, cut."""
    try:
        return repr(value)[:100]
    except (ValueError, RecursionError):  # a number of too many digits, a deep list
        return "too large to show"
