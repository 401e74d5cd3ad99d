"""Runs untrusted programs and judges them, many a second.

Host (this file) -> fork servers (`workers.py`, `worker.py`) -> a process per program
(`runner.py`). Tests are plain cases, whose expected values the host keeps and compares
(`verdict.py`), or a test program, which runs in a process of its own (`tester.py`) and
calls the program through a socket. Either way no test ever enters the program's
process, so no trick inside it can turn a wrong program into a right one.
"""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from minicoder.errors import UserError
from minicoder.execution.common import encode, pack
from minicoder.execution.compare import show
from minicoder.execution.pool import Pool
from minicoder.execution.programs import CompileAndRun, compile_and_run
from minicoder.execution.verdict import MODES, Limits, Result, settle, settle_tests
from minicoder.execution.workers import HarnessError

MAX_SOURCE = 1 << 20  # bytes of a program
STYLES = ("humaneval", "mbpp", "script")

Cases = Sequence[tuple[Sequence[Any], Any]]


@dataclass(frozen=True)
class Job:
    """One program and its tests.

    `tests` are cases, each (arguments, expected) of plain values, or a test program:
    in `style` "humaneval" its `check(candidate)` is called, in "mbpp" and "script" its
    lines call `entry_point` by name. `prompt` holds what its helpers need.

    `mode`, for test programs: "apart" keeps them in another process, and the program
    gets copies of its arguments; "in_place" also sends back what it made of them, for
    tests that look (one that compares with its own argument can then be fooled);
    "shared" is one process, for results of the program's own classes: forgeable.
    """

    code: str | bytes
    tests: str | Cases
    entry_point: str
    prompt: str = ""
    style: str = "humaneval"
    mode: str = "apart"


def refusal(job: Job) -> str:
    """Why a job is not even started; empty when it may be."""
    if not job.tests:
        return "there is no case to test it with"
    if not job.entry_point.isidentifier():
        return f"{job.entry_point!r} cannot be the name of a function"
    try:
        source = job.code if isinstance(job.code, bytes) else job.code.encode()
        source.decode()
    except UnicodeEncodeError:
        return "the source is not valid Unicode"
    except UnicodeDecodeError:
        return "the source is not UTF-8"
    if len(source) > MAX_SOURCE:
        return f"the source has {len(source)} bytes, more than {MAX_SOURCE}"
    if b"\0" in source:
        return "the source contains a NUL character"
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(source).readline)[0]
    except SyntaxError:
        encoding = "an unknown one"
    if encoding not in ("utf-8", "utf-8-sig", "ascii"):
        return f"the source asks for another encoding than UTF-8: {encoding}"
    return ""


def prepare(job: Job) -> tuple[list[Any], list[tuple[str, Any]]]:
    """What the program gets to see, and what the host keeps: calls, expected values."""
    try:
        pairs = [(tuple(arguments), expected) for arguments, expected in job.tests]
    except (TypeError, ValueError):
        raise UserError(f"A test of {job.entry_point!r} is no pair (arguments, "
                        "expected result).") from None
    try:
        given = [encode(arguments) for arguments, _ in pairs]
        wanted = [encode(expected) for _, expected in pairs]
    except TypeError as error:
        raise UserError(
            f"A test of {job.entry_point!r} holds {error}; arguments and expected "
            "results may be None, bool, int, float, complex, str, bytes, list, tuple, "
            "range, deque, dict, set or frozenset.") from None
    calls = [job.entry_point + "(" + ", ".join(map(show, wire["t"])) + ")"
             for wire in given]
    return given, list(zip(calls, wanted, strict=True))


class Sandbox(Pool):
    """Judges programs, whatever they try; a context manager."""

    def judge(
        self, code: str | bytes, tests: str | Cases, entry_point: str,
        prompt: str = "", style: str = "humaneval", limits: Limits | None = None,
        mode: str = "apart",
    ) -> Result:
        """Runs one program on its tests (see `Job`); UserError for tests of no kind."""
        job = Job(code, tests, entry_point, prompt, style, mode)
        for field, allowed in (("style", STYLES), ("mode", MODES)):
            if getattr(job, field) not in allowed:
                raise UserError(f"{field} is {getattr(job, field)!r}; it may be "
                                f"{', '.join(allowed)}.")
        total = 1 if isinstance(tests, str) else len(tests)
        if reason := refusal(job):
            return Result("refused", reason, total=total, tier=self.tier, mode=mode)
        try:
            return self._judge(job, limits or self.limits)
        except HarnessError as error:
            return Result("harness_error", str(error), total=total, tier=self.tier,
                          mode=mode)

    def _judge(self, job: Job, limits: Limits) -> Result:
        code = job.code.decode() if isinstance(job.code, bytes) else job.code
        code = code.removeprefix("\ufeff")
        if not isinstance(job.tests, str):
            given, cases = prepare(job)
            request = pack([code, job.entry_point, given])
            return settle(cases, limits, self.execute("program", request, limits),
                          self.tier)
        shared = job.mode == "shared"
        program = None if shared else pack([code, job.entry_point, None])
        tests = pack([job.tests, job.entry_point, job.prompt, job.style, job.mode,
                      code if shared else ""])
        return settle_tests(*self.test(program, tests, limits), limits, self.tier,
                            job.mode)

    def judge_many(
        self, jobs: Iterable[Job], limits: Limits | None = None
    ) -> list[Result]:
        """Judges programs on all workers; results in the order of the jobs."""
        return list(self._threads.map(lambda job: self.judge(
            job.code, job.tests, job.entry_point, job.prompt, job.style, limits,
            job.mode), jobs))

    def run(
        self, language: str, sources: dict[str, bytes], stdin: bytes = b"",
        limits: Limits | None = None,
    ) -> CompileAndRun:
        """Compiles a program of any language and runs it once; see `programs.py`."""
        return compile_and_run(self, language, sources, stdin, limits)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
