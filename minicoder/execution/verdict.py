"""From a program's answers to a verdict: the only place that knows the right results.

The answers are hostile input: bytes that the program itself may have forged. They are
compared as JSON with the expected values, and never become objects of their own.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minicoder.execution.common import OUT_OF_MEMORY

VERDICTS = ("pass", "fail", "error", "syntax_error", "timeout", "memory", "output",
            "crash", "refused", "harness_error")
MESSAGE_LENGTH = 300
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Limits:
    """What one program may use: seconds, MiB, MiB per file, processes, KiB of output.

    CPU time is what judges an endless loop; wall time is for sleepers only and should
    be several times as long, or the verdict depends on the machine's other work.
    """

    cpu_s: float | int = 3
    wall_s: float | int = 15
    memory_mib: int = 512
    files_mib: int = 4
    processes: int = 16
    output_kib: int = 64


@dataclass(frozen=True)
class Result:
    """What judging one program showed; only the verdict "pass" is a success.

    `passed` of `total` cases were right. `message` says what was wrong, in one line;
    `output` is what the program printed. `tier` says how well it was locked in.
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


@dataclass(frozen=True)
class Ending:
    """How a program's process ended, as seen from outside, and what it sent."""

    answers: bytes
    output: bytes
    flooded: bool  # it sent more than it may
    status: int  # of wait(2)
    stopped_by: str  # "", "wall" or "host"
    cpu_ms: float
    wall_ms: float
    peak_mib: float


def clean(text: str, length: int = MESSAGE_LENGTH) -> str:
    """Cuts text and replaces what could steer a terminal; newline and tab stay."""
    text = text[:length] + ("…" if len(text) > length else "")
    safe = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", "�", text)
    return safe.encode("utf-8", "replace").decode()


def number(wire: Any) -> int | float | None:
    """The number that a JSON value stands for; None when it stands for none."""
    if type(wire) is int:
        return wire
    if type(wire) is not dict:
        return None
    ((tag, body),) = wire.items()
    try:
        return {"i": lambda: int(body, 16), "f": lambda: float.fromhex(body)}[tag]()
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def same(want: Any, got: Any) -> bool:
    """Whether an answer equals the expected value, both in the form of `encode`.

    As `==` in Python, with three differences: a bool is not an int; where one side is
    a float, a relative or absolute error of 1e-9 is allowed and nan equals nan; keys of
    dicts and items of sets must agree in type. An int may stand for a float.
    """
    a, b = number(want), number(got)
    if a is not None and b is not None:
        if type(a) is int and type(b) is int:
            return a == b
        try:
            near = math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        except OverflowError:  # an int beyond the floats
            return False
        return near or (a != a and b != b)
    if type(want) is not type(got):
        return False
    if type(want) is list:
        return len(want) == len(got) and all(map(same, want, got))
    if type(want) is not dict:
        return want == got
    ((tag, left),), ((other, right),) = want.items(), got.items()
    if tag != other or type(right) is not list or len(left) != len(right):
        return False
    if tag == "t":
        return all(map(same, left, right))
    if tag == "s":
        return set(map(json.dumps, left)) == set(map(json.dumps, right))
    if not all(type(pair) is list and len(pair) == 2 for pair in right):
        return False
    table = {json.dumps(key): value for key, value in right}
    return all(json.dumps(k) in table and same(v, table[json.dumps(k)])
               for k, v in left)


def show(wire: Any) -> str:
    """An encoded value as Python writes it; "?" for one that is malformed."""
    try:
        if type(wire) is list:
            return "[" + ", ".join(map(show, wire)) + "]"
        if type(wire) is not dict:
            return repr(wire)
        ((tag, body),) = wire.items()
        if tag == "i":
            return body if len(body) > 1000 else repr(int(body, 16))
        if tag == "f":
            return repr(float.fromhex(body))
        if tag == "d":
            return "{" + ", ".join(f"{show(k)}: {show(v)}" for k, v in body) + "}"
        inside = ", ".join(map(show, body))
        if tag == "t":
            return f"({inside},)" if len(body) == 1 else f"({inside})"
        return "{" + inside + "}" if body else "set()"
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        return "?"


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
    if ending.flooded:
        return "output", f"wrote more than {limits.output_kib:g} KiB"
    if ending.stopped_by == "wall":
        return "timeout", f"ran longer than {limits.wall_s:g} s"
    if (code in (-signal.SIGPROF, -signal.SIGXCPU)
            or code == -signal.SIGKILL and ending.cpu_ms >= 1000 * limits.cpu_s):
        return "timeout", f"used more than {limits.cpu_s:g} s of CPU time"
    if code == OUT_OF_MEMORY:
        return "memory", f"needed more than {limits.memory_mib:g} MiB"
    if code < 0:
        return "crash", f"ended by signal {-code} ({signal.strsignal(-code)})"
    return None


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
    wrong = [outcome for outcome in graded if outcome[0] != "pass"]
    verdict, message = "pass", ""
    if found := stopped(ending, limits):
        verdict, message = found
    elif wrong:
        verdict, message = wrong[0]
    elif garbled:
        verdict, message = "crash", "wrote into the channel of the sandbox"
    elif code or len(graded) < len(cases):
        verdict, message = "crash", (
            f"left with status {code} after {len(graded)} of {len(cases)} cases")
    output = ending.output[:int(limits.output_kib * 1024)].decode("utf-8", "replace")
    return Result(verdict, clean(message), clean(output, len(output)),
                  len(graded) - len(wrong), len(cases), round(ending.cpu_ms, 3),
                  round(ending.wall_ms, 3), tier, round(ending.peak_mib, 1))
