"""Whole programs in many languages: compiled, run, and judged by what they print.

The compiler runs in the sandbox too. What a program is expected to print never enters
it: the host compares. The other way, one program with its tests inside, is weaker; see
`judge_script`.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from minicoder.execution.languages import named
from minicoder.execution.pool import Pool
from minicoder.execution.steps import FEEDBACK, Step, perform
from minicoder.execution.verdict import Limits, Result, clean

MAX_FAILURES = 20
BAD_NEWS = re.compile(
    r"^.*(?:error|exception|panicked|fatal).*(?:(?<=:)\n.*)?$", re.I | re.M)


@dataclass(frozen=True)
class CompileAndRun:
    """One program compiled and run once; None for a step that did not take place.

    `verdict` is "pass" when the program ended with status 0, "syntax_error" when the
    compiler refused it; `message` is what the compiler or the program said, at most
    4096 characters.
    """

    language: str
    compile: Step | None
    run: Step | None
    verdict: str
    message: str
    tier: str


def compile_and_run(
    sandbox: Pool, language: str, sources: dict[str, bytes], stdin: bytes = b"",
    limits: Limits | None = None,
) -> CompileAndRun:
    """Compiles and runs one program in the sandbox; `limits` are those of the run.

    `sources` are files by name; the main one is called as `LANGUAGES[language].file`
    says. UserError for a language that cannot be run here.
    """
    steps, verdict, message = perform(sandbox, language, sources, [stdin], limits)
    compile, run = [*steps, None, None][:2]
    last = run or compile
    if last and (run or last.verdict != "pass"):
        verdict, message = last.verdict, last.message
    return CompileAndRun(language, compile, run, verdict, message, sandbox.tier)


def near(got: str, want: str, tolerance: float) -> bool:
    """Whether two words are numbers within a tolerance, absolute or relative."""
    try:
        return math.isclose(float(got), float(want), rel_tol=tolerance,
                            abs_tol=tolerance)
    except ValueError:
        return False


def difference(stdout: str, expected: str, tolerance: float = 0.0) -> str:
    """What is wrong with an output; empty when it is right.

    As contests compare: word by word, parted by white space of any kind and length.
    With a tolerance, words that are numbers may differ by that much.
    """
    got, want = stdout.split(), expected.split()
    for place, (a, b) in enumerate(zip(got, want, strict=False), 1):
        if a != b and not (tolerance and near(a, b, tolerance)):
            return f"word {place} of the output is {a[:80]!r}, not {b[:80]!r}"
    if len(got) != len(want):
        return f"the output has {len(got)} words, not {len(want)}"
    return ""


def brief(step: Step, language: str) -> str:
    """The part of a message that says what happened."""
    if language == "python":
        return step.message.strip().rsplit("\n", 1)[-1]
    if found := BAD_NEWS.search(step.message):
        return found[0].strip()
    lines = [line for line in step.message.split("\n") if not line.startswith("#")]
    return lines[0] if lines else ""  # Go begins with "# package"


def settle(
    sandbox: Pool, language: str, steps: Sequence[Step], total: int,
    graded: Sequence[tuple[str, str]], otherwise: tuple[str, str],
) -> Result:
    """The result of all steps: the compiler's, or that of the first wrong run.

    `graded` is (verdict, message) of each run; `otherwise` is that of those missing.
    """
    wrong = [(n, *case) for n, case in enumerate(graded, 1) if case[0] != "pass"]
    output = steps[-1].stdout if steps else ""
    verdict, message = "pass", ""
    if steps and steps[0].verdict != "pass":
        verdict, message = steps[0].verdict, brief(steps[0], language)
        output = steps[0].message
    elif wrong:
        _, verdict, message = wrong[0]
    elif len(graded) < total:
        verdict, message = otherwise
    return Result(
        verdict, clean(message), clean(output, FEEDBACK), len(graded) - len(wrong),
        total, round(sum((step.cpu_ms for step in steps), 0.0), 3),
        round(sum((step.wall_ms for step in steps), 0.0), 3), sandbox.tier,
        round(max((step.peak_mib for step in steps), default=0.0), 1),
        len(output) > FEEDBACK, tuple(wrong[:MAX_FAILURES]))


def judge_stdin(
    sandbox: Pool, language: str, sources: dict[str, bytes],
    tests: Sequence[tuple[str, str]], limits: Limits | None = None,
    tolerance: float = 0.0,
) -> Result:
    """Compiles a program once and runs it on each input: tests are (stdin, stdout).

    The outputs expected stay in this process. A program that used up its time on one
    test does not get the others. UserError as `compile_and_run`.
    """
    if not tests:
        return Result("refused", "there is no test to judge it with", tier=sandbox.tier)
    inputs = [given.encode() for given, _ in tests]
    steps, verdict, message = perform(sandbox, language, sources, inputs, limits)
    graded = []
    for step, (_, expected) in zip(steps[1:], tests, strict=False):
        wrong = difference(step.stdout, expected, tolerance)
        if step.verdict == "pass" and wrong:
            graded.append(("fail", wrong))
        else:
            graded.append((step.verdict, brief(step, language)))
    return settle(sandbox, language, steps, len(tests), graded, (verdict, message))


def judge_script(
    sandbox: Pool, language: str, source: str, limits: Limits | None = None
) -> Result:
    """Judges one program that holds a solution and its tests: status 0 is a pass.

    The format of HumanEvalPack and MultiPL-E, and a weak one: solution and tests share
    a process, so a solution that wants to can forge a pass. A random token, printed
    when the program has come to its end by itself, stops the cheap way: to leave with
    status 0 before the tests. A program that reads the token out of its own files is
    not stopped. The result's `mode` is "shared". UserError as `compile_and_run`.
    """
    token = secrets.token_hex(16)
    sources = {named(language).file: source.encode("utf-8", "replace")}
    steps, verdict, message = perform(sandbox, language, sources, [b""], limits, token)
    graded = []
    for step in steps[1:]:
        if step.verdict == "pass" and not step.stdout.endswith(f"\n{token}\n"):
            graded.append(("fail", "left before its tests had ended"))
        elif step.verdict == "error":
            graded.append(("fail", brief(step, language)))
        else:
            graded.append((step.verdict, brief(step, language)))
    result = settle(sandbox, language, steps, 1, graded, (verdict, message))
    return replace(result, output=result.output.removesuffix(f"\n{token}\n"),
                   mode="shared")
