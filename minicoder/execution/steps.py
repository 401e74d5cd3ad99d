"""What the sandbox is asked to do with a program of some language, and what it reports.

Two kinds of step: one that compiles (or, where no compiler is needed, checks the
syntax), then one for each input that the program is run on.
"""

from __future__ import annotations

import io
import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minicoder.errors import UserError
from minicoder.execution import landlock
from minicoder.execution.common import pack, unpack
from minicoder.execution.languages import COMPILE, PLAIN, Language, closed, named, tools
from minicoder.execution.pool import Pool
from minicoder.execution.verdict import Limits, clean
from minicoder.execution.workers import HarnessError

MAX_SOURCE = 1 << 20  # bytes of all files
FEEDBACK = 4096  # characters of a message
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
# What tools say when they hit a limit. A compiler also quotes the program, so that its
# own words are looked for at the start of a line.
OUT_OF_MEMORY = re.compile(
    r"bad_alloc|MemoryError|out of memory|not enough memory|memory allocation of|"
    r"allowed memory size|cannot allocate (?:memory|vector)|OutOfMemory", re.I)
COMPILER_MEMORY = re.compile(
    r"^(?:cc1\w*: out of memory|virtual memory exhausted|memory allocation of|"
    r"fatal error: .*out of memory|.*FATAL ERROR: .*out of memory|"
    r"(?:java\.lang\.)?OutOfMemory|The system is out of resources|"
    r".*: Cannot allocate memory$)", re.M)
COMPILER_TIME = re.compile(r"CPU time limit exceeded")  # gcc, of one of its parts


@dataclass(frozen=True)
class Step:
    """How one command ended: `status` as subprocess has it, negative for a signal.

    `stdout` is as the command wrote it, `message` and `stderr` are fit to be shown.
    """

    verdict: str
    message: str
    status: int
    stdout: str
    stderr: str
    cpu_ms: float
    wall_ms: float
    peak_mib: float


def refusal(language: Language, sources: dict[str, bytes]) -> str:
    """Why a program is not even compiled; empty when it may be."""
    if bad := [name for name in sources if not FILE_NAME.fullmatch(name)]:
        return f"{bad[0]!r} cannot be the name of a file"
    if language.file not in sources:
        return f"there is no {language.file}, only {', '.join(sources) or 'nothing'}"
    size = sum(map(len, sources.values()))
    return f"the source has {size} bytes, more than {MAX_SOURCE}" * (size > MAX_SOURCE)


def with_check(
    language: Language, sources: dict[str, bytes], token: str
) -> tuple[dict[str, bytes], str, str]:
    """The sources with the language's check, and how these are compiled and run."""
    sources, check = dict(sources), language.check
    if check.rename:
        name = check.rename.replace("main", "program_main")
        sources[language.file] = sources[language.file].replace(
            check.rename.encode(), name.encode())
    text = check.text.replace("{token}", token).encode()
    sources[check.file] = sources.get(check.file, b"") + text
    first, second = (file.split(".")[0] for file in (language.file, check.file))
    return (sources, f"{language.compile} {check.flags}",
            language.run.replace(first, second))


def plan(
    language: Language, sources: dict[str, bytes], stdins: Sequence[bytes],
    limits: Limits, token: str = "",
) -> tuple[bytes, Limits]:
    """The request to a sandbox, and limits that hold all of its steps together.

    With a token the language's check runs the program.
    """
    compile, run = language.compile, language.run
    if token:
        sources, compile, run = with_check(language, sources, token)
    sources = sources | {name: text.encode() for name, text in language.extra.items()}
    where = tools(language.name)

    def step(words: str, stdin: bytes, most: Limits, must: bool) -> dict[str, Any]:
        heap = int(most.memory_mib)
        return {
            "argv": language.command(words, list(sources), heap, where), "must": must,
            "environment": PLAIN | language.environment,
            "stdin": stdin.decode("latin-1"), "room": int(most.output_kib * 1024),
            "cpu_s": most.cpu_s, "wall_s": most.wall_s,
            "file": int(most.files_mib * (1 << 20)),
            "space": (heap + language.space_mib) << 20}

    steps = [step(compile, b"", COMPILE, True)]
    steps += [step(run, stdin, limits, False) for stdin in stdins]
    files = {name: text.decode("latin-1") for name, text in sources.items()}
    return pack([files, steps]), Limits(
        max(COMPILE.cpu_s, limits.cpu_s), COMPILE.wall_s + limits.wall_s * len(stdins),
        max(COMPILE.memory_mib, limits.memory_mib) + language.space_mib,
        max(COMPILE.disk_mib, limits.disk_mib),
        max(COMPILE.files_mib, limits.files_mib),
        max(language.processes, limits.processes), limits.output_kib)


def frames(answers: bytes) -> list[Any]:
    """The whole frames that the driver has sent; ValueError for what is no frame."""
    stream, found = io.BytesIO(answers), []
    try:
        while True:
            found.append(unpack(stream))
    except EOFError:
        return found


def outcome(
    status: int, why: str, cpu_ms: float, stderr: str, limits: Limits, compiles: bool
) -> tuple[str, str]:
    """Verdict and message of one command: what was seen from outside comes first."""
    if why == "output":
        return "output", f"wrote more than {limits.output_kib:g} KiB"
    if why == "wall":
        return "timeout", f"ran longer than {limits.wall_s:g} s"
    if (status in (-signal.SIGPROF, -signal.SIGXCPU)
            or status == -signal.SIGKILL and cpu_ms >= 1000 * limits.cpu_s
            or status and compiles and COMPILER_TIME.search(stderr)):
        return "timeout", f"used more than {limits.cpu_s:g} s of CPU time"
    if status and (COMPILER_MEMORY if compiles else OUT_OF_MEMORY).search(stderr):
        return "memory", f"needed more than {limits.memory_mib:g} MiB"
    if status < 0:
        return "crash", f"ended by signal {-status} ({signal.strsignal(-status)})"
    if status:
        return "syntax_error" if compiles else "error", ""
    return "pass", ""


def read_step(report: list[Any], here: str, limits: Limits, compiles: bool) -> Step:
    """One report of the driver, which worked in the folder `here`."""
    status, why, cpu_ms, wall_ms, peak_kib, *texts = report
    status = os.waitstatus_to_exitcode(status)
    stdout, stderr = (t.encode("latin-1").decode("utf-8", "replace") for t in texts)
    verdict, message = outcome(status, why, cpu_ms, stderr, limits, compiles)
    if status and not message:  # some compilers complain on the other pipe
        message = (stderr.strip() or compiles and stdout.strip()
                   or f"ended with status {status}")
    shown = [clean(t.replace(here + "/", ""), FEEDBACK) for t in (message, stderr)]
    return Step(verdict, shown[0], status, stdout, shown[1], cpu_ms, wall_ms,
                peak_kib / 1024)


def perform(
    sandbox: Pool, language: str, sources: dict[str, bytes], stdins: Sequence[bytes],
    limits: Limits | None = None, token: str = "",
) -> tuple[list[Step], str, str]:
    """Compiles and runs: the steps, and verdict and message for want of further ones.

    UserError for a language that is unknown or whose tools cannot be used here.
    """
    row, limits = named(language), limits or sandbox.limits
    if reason := refusal(row, sources):
        return [], "refused", reason
    shut = [path for path in tools(language).values() if closed(path)]
    if shut and sandbox.tier in ("landlock", "weak"):
        raise UserError(
            f"{shut[0]} lies where only root may go, and programs do not run as root; "
            f"install the Debian package {' '.join(row.tools.values())} instead.")
    if sandbox.tier == "landlock" and landlock.abi() < landlock.SCOPES:
        raise UserError(
            "Compilers and the programs they make need processes of their own, which "
            "the tier landlock keeps from others' from version 6 of Landlock on (Linux "
            f"6.12); this kernel has version {landlock.abi()}.")
    request, together = plan(row, sources, stdins, limits, token)
    steps: list[Step] = []
    try:
        ending = sandbox.execute("commands", request, together)
        here, *reports = frames(ending.answers)
        for report in reports:
            if type(report) is str:
                return steps, "harness_error", f"the sandbox does not show {report}"
            most = limits if steps else COMPILE
            steps.append(read_step(report, here, most, not steps))
    except HarnessError as error:
        return [], "harness_error", str(error)
    except (ValueError, TypeError):
        return [], "harness_error", "the commands were not reported"
    if ending.flooded:
        return steps, "output", "wrote too much in all steps together"
    if ending.stopped_by == "wall":
        return steps, "timeout", "all steps together took too long"
    if ending.stopped_by == "memory":
        return steps, "memory", "all its processes together needed too much"
    return steps, "crash", "ended the process that watched it"
