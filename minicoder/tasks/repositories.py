"""Issues of small repositories: SWE-bench in kind.

A repository, an issue text, and two sets of checks: some fail before the patch and must
pass after it, the others pass before and must still pass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Result
from minicoder.tasks.draw import Draw
from minicoder.tasks.files import (
    Check,
    Files,
    Refused,
    apply_patch,
    make_patch,
    refused,
    run_checks,
    show_files,
)
from minicoder.tasks.packages import Function, Package, make_package

SIZE = 20_000
LEVELS = {1: 0, 2: 0, 3: 1, 4: 2, 5: 2}  # difficulty: calls from report to bug


@dataclass(frozen=True)
class Issue:
    """A repository with a bug, what a user says of it, and how a patch is judged."""

    task_id: str
    family: str
    text: str
    files: Files
    failing: tuple[Check, ...]  # before the patch; hidden from the model
    passing: tuple[Check, ...]  # before and after it
    patch: str  # a right one
    difficulty: int = 3

    @property
    def question(self) -> str:
        """The user's turn: the issue and the whole repository."""
        return (f"{self.text}\n\nThe repository:\n\n{show_files(self.files)}\n"
                "Mend it. Answer with one unified diff in a ```diff block, with paths "
                "from the root of the repository.")

    @property
    def reference(self) -> str:
        """The right patch in its block."""
        return f"```diff\n{self.patch}```"

    def grade(self, answer: str, sandbox: Sandbox) -> Result:
        """Applies the last diff of an answer and runs all checks."""
        patch = (re.findall(r"```(?:diff|patch)\n(.*?)```", answer, re.DOTALL)
                 or [answer])[-1]
        try:
            return self.judge(apply_patch(self.files, patch), sandbox)
        except Refused as error:
            return refused(error, len(self.failing) + len(self.passing))

    def judge(self, files: Mapping[str, str], sandbox: Sandbox) -> Result:
        """Runs all checks on the repository as an answer left it."""
        return run_checks(files, self.failing + self.passing, sandbox)


def _bugs(draw: Draw, package: Package, difficulty: int) -> dict[str, str]:
    """Wrong bodies, of one function or, for difficulty 5, of two on its way."""
    chain = [draw.one([f for f in package.functions if f.level == LEVELS[difficulty]])]
    while chain[-1].uses:
        chain.append(chain[-1].uses)
    return {f.name: draw.one(f.bugs) for f in chain[-2 if difficulty == 5 else -1:]}


def _report(package: Package, reported: Function, shown: tuple[object, object, object],
            difficulty: int) -> str:
    """The issue's text: what was called, what came, what should have come."""
    argument, wrong, right = shown
    where = f" (in {package.name}/{reported.module}.py)" if difficulty == 1 else ""
    return (f"{reported.name} gives a wrong result\n\nI called {reported.name}"
            f"({argument!r}) of {package.name}{where} and got {wrong!r}, but it should "
            f"be {right!r}. Its docstring says: {reported.sentence}")


def _drawn(index: int) -> tuple[Package, dict[str, str], int]:
    """The package, its bugs, and the difficulty."""
    draw, difficulty = Draw("repositories", index), index % 5 + 1
    package = make_package(draw, (1, 2, 2, 3, 3)[difficulty - 1])
    return package, _bugs(draw, package, difficulty), difficulty


def behaviour(index: int) -> frozenset[str]:
    """What each wrong function is to do and what it does."""
    package, bugs, _ = _drawn(index)
    return frozenset(f"{f.body}\n{bugs[f.name]}" for f in package.functions
                     if f.name in bugs)


def make(index: int) -> Issue | None:
    """Issue number `index`; None when its bug shows too little."""
    package, bugs, difficulty = _drawn(index)
    right, wrong = package.outcomes(), package.outcomes(bugs)
    failing: list[Check] = []
    passing: list[Check] = []
    shown: dict[str, tuple[object, object, object]] = {}
    for f in package.functions:
        for argument, want, got in zip(package.arguments[f.argument], right[f.name],
                                       wrong[f.name], strict=True):
            same = repr(want) == repr(got)
            (passing if same else failing).append(
                ((package.target(f.name), argument), want))
            if not same and not isinstance(got, str):
                shown[f.name] = argument, got, want
    reported = [f for f in package.functions
                if f.name in shown and f.level == LEVELS[difficulty]]
    if not reported or len(passing) < 5 or not {*bugs} <= {*shown}:
        return None
    files = package.files(bugs)
    return Issue(
        f"repositories/{index}", "repositories",
        _report(package, reported[0], shown[reported[0].name], difficulty),
        files, tuple(failing), tuple(passing), make_patch(files, package.files()),
        difficulty)
