"""From a program's answers to a verdict: the only place that knows the right results.

The answers are hostile input: bytes that the program itself may have forged. They are
compared as JSON with the expected values, and never become objects of their own.
"""

from __future__ import annotations

import json
import os
import re
import signal
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minicoder.errors import UserError
from minicoder.execution.common import MAX_FRAME, OUT_OF_MEMORY
from minicoder.execution.compare import same, show

VERDICTS = ("pass", "fail", "error", "syntax_error", "timeout", "memory", "output",
            "crash", "refused", "harness_error")
MODES = ("apart", "in_place", "shared")
MESSAGE_LENGTH = 300
MAX_FAILURES = 20
# A program's folder. It begins where a path does: looked for at each "/" of a text that
# is hostile it would take quadratic time.
SCRATCH = re.compile(r"(?<![\w./-])(/[\w.-]+)*/minicoder-\w+(/\d+)?/?")


@dataclass(frozen=True)
class Limits:
    """What one program may use: seconds, MiB of memory, of files together and of one
    file, processes, KiB of output.

    CPU time is what judges an endless loop; wall time is for sleepers only and should
    be several times as long, or the verdict depends on the machine's other work.
    Memory is that of one process, and in namespaces and bwrap that of a program's
    processes together, where what two of them share counts twice. Files together are
    bounded in namespaces only: 256 MiB in bwrap, not at all in landlock and weak.
    """

    cpu_s: float | int = 3
    wall_s: float | int = 15
    memory_mib: int = 512
    disk_mib: int = 8
    files_mib: int = 4
    processes: int = 16
    output_kib: int = 64

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < 1 << 32:  # nan fails too
                raise UserError(f"The limit {name} is {value}; it must be above 0.")


@dataclass(frozen=True)
class Result:
    """What judging one program showed; only the verdict "pass" is a success.

    `passed` of `total` cases were right. `message` says what was wrong, in one line;
    `output` is what the program printed. `tier` says how well it was locked in.
    `failures` holds, of the first 20 cases that were wrong, (number from 1, verdict,
    message). `mode` "shared" marks a verdict that the program could have forged.
    """

    verdict: str
    message: str = ""
    output: str = ""
    passed: int = 0
    total: int = 0
    cpu_ms: float = 0.0
    wall_ms: float = 0.0
    tier: str = "weak"
    peak_mib: float = 0.0
    output_truncated: bool = False
    failures: tuple[tuple[int, str, str], ...] = ()
    mode: str = "apart"


@dataclass(frozen=True)
class Ending:
    """How a program's process ended, as seen from outside, and what it sent."""

    answers: bytes
    output: bytes
    flooded: bool  # it sent more than it may
    status: int  # of wait(2)
    stopped_by: str  # "", "wall", "memory" or "host"
    cpu_ms: float
    wall_ms: float
    peak_mib: float


def clean(text: str, length: int = MESSAGE_LENGTH) -> str:
    """Cuts text, drops scratch folders, replaces what could steer a terminal."""
    text = SCRATCH.sub("", text)
    text = text[:length] + ("…" if len(text) > length else "")
    safe = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", "�", text)
    return safe.encode("utf-8", "replace").decode()


def _one_pair(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) != 1:
        raise ValueError("an object must have one key")
    return dict(pairs)


def read_answers(data: bytes) -> Iterator[tuple[str, Any]]:
    """Yields (kind, content) for each frame; ValueError for anything else."""
    start = 0
    while start < len(data):
        if len(data) < start + 4:
            raise ValueError("a cut frame")
        (size,) = struct.unpack_from(">I", data, start)
        if size > MAX_FRAME:  # a list takes thirty times the bytes that write it
            raise ValueError("too long a frame")
        body = data[start + 4:start + 4 + size]
        start += 4 + size
        try:
            kind, content = json.loads(body, object_pairs_hook=_one_pair)
            if len(body) < size or kind not in ("value", "opaque", "error", "syntax"):
                raise ValueError("not an answer")
            if kind in ("error", "syntax"):
                name, text, line = content
                where = f" (line {line})" if line else ""
                content = name, (f"{name}: {text}" if text else f"{name}") + where
        except (TypeError, RecursionError) as error:
            raise ValueError("not an answer") from error
        yield kind, content


def grade(call: str, want: Any, kind: str, content: Any) -> tuple[str, str]:
    """Verdict and message of one case."""
    if kind == "syntax":
        return "syntax_error", content[1]
    if kind == "error":
        return ("memory" if content[0] == "MemoryError" else "error"), content[1]
    if kind == "opaque":
        return "fail", f"{call} returned {content}, not {show(want)}"
    try:
        if same(want, content):
            return "pass", ""
    except RecursionError:  # no value that is expected nests so deeply
        pass
    return "fail", f"{call} returned {show(content)[:100]}, not {show(want)}"


def stopped(ending: Ending, limits: Limits) -> tuple[str, str] | None:
    """Verdict and message when a limit, not the program, ended the process."""
    code = os.waitstatus_to_exitcode(ending.status)
    if ending.flooded and len(ending.output) <= 1024 * limits.output_kib:
        return "output", "sent more answers than it may"
    if ending.flooded:
        return "output", f"wrote more than {limits.output_kib:g} KiB"
    if ending.stopped_by == "wall":
        return "timeout", f"ran longer than {limits.wall_s:g} s"
    if ending.stopped_by == "memory":
        return "memory", f"its processes needed more than {limits.memory_mib:g} MiB"
    if (code in (-signal.SIGPROF, -signal.SIGXCPU)
            or code == -signal.SIGKILL and ending.cpu_ms >= 1000 * limits.cpu_s):
        return "timeout", f"used more than {limits.cpu_s:g} s of CPU time"
    if code == OUT_OF_MEMORY:
        return "memory", f"needed more than {limits.memory_mib:g} MiB"
    if code < 0:
        return "crash", f"ended by signal {-code} ({signal.strsignal(-code)})"
    return None


def result_of(
    verdict: str, message: str, passed: int, total: int, ending: Ending, limits: Limits,
    tier: str, failures: Sequence[tuple[int, str, str]], mode: str = "apart",
) -> Result:
    """A verdict with what the program used and printed."""
    most = int(limits.output_kib * 1024)
    output = ending.output[:most].decode("utf-8", "replace")
    told = tuple((n, v, clean(text)) for n, v, text in failures[:MAX_FAILURES])
    return Result(
        verdict, clean(message), clean(output, len(output)), passed, total,
        round(ending.cpu_ms, 3), round(ending.wall_ms, 3), tier,
        round(ending.peak_mib, 1), len(ending.output) > most, told, mode)


def settle(
    cases: Sequence[tuple[str, Any]], limits: Limits, ending: Ending, tier: str
) -> Result:
    """Judges a finished program: cases are (call as text, encoded expected value).

    A limit that ended the program decides; otherwise the first case that is not right.
    """
    graded, garbled = [], False
    try:
        for case, answer in zip(cases, read_answers(ending.answers), strict=False):
            graded.append(grade(*case, *answer))
    except ValueError:
        garbled = True
    code = os.waitstatus_to_exitcode(ending.status)
    wrong = [(n, *found) for n, found in enumerate(graded, 1) if found[0] != "pass"]
    verdict, message = "pass", ""
    if found := stopped(ending, limits):
        verdict, message = found
    elif wrong:
        verdict, message = wrong[0][1:]
    elif garbled:
        verdict, message = "crash", "wrote into the channel of the sandbox"
    elif code or len(graded) < len(cases):
        verdict, message = "crash", (
            f"left with status {code} after {len(graded)} of {len(cases)} cases")
    return result_of(verdict, message, len(graded) - len(wrong), len(cases), ending,
                     limits, tier, wrong)


def read_report(data: bytes) -> tuple[str, str, int, int, int, list[Any]] | None:
    """The report of a tests' process (`report.py`); None when it gave no sound one."""
    try:
        kind, (verdict, message, *counts, failures) = json.loads(data[4:])
        passed, total, calls = map(int, counts)
        told = [(int(n), str(v), str(text)) for n, v, text in failures]
        sound = (kind == "report" and verdict in (*VERDICTS, "", "lost")
                 and all(v in VERDICTS for _, v, _ in told))
        return (verdict, str(message), passed, total, calls, told) if sound else None
    except (TypeError, ValueError, RecursionError):
        return None


def settle_tests(
    program: Ending | None, tests: Ending, limits: Limits, tier: str,
    mode: str = "apart",
) -> Result:
    """Judges a program by its test program's report; no program: they were one process.

    A limit that ended the program decides; then what the tests say of themselves; then
    the first case that is not right.
    """
    ending = program or tests
    told = read_report(tests.answers)
    verdict, message, passed, total, calls, wrong = told or ("lost", "", 0, 1, 0, [])
    code = os.waitstatus_to_exitcode(ending.status)
    found = stopped(ending, limits)
    if ending.flooded and found or verdict == "lost" and found:
        verdict, message = found
    elif told is None:
        verdict, why = stopped(tests, limits) or ("crash", "ended without a report")
        message = f"the tests' own process {why}"
    elif verdict == "lost":
        verdict, message = "crash", f"left with status {code} after {calls} calls"
    elif not verdict:
        verdict, message = wrong[0][1:] if wrong else ("pass", "")
    if verdict == "pass" and not 0 < passed == total:
        verdict, message = "crash", "the tests' report contradicts itself"
    return result_of(verdict, message, passed, total, ending, limits, tier, wrong, mode)
