"""Exercises answered with whole files: Aider's benchmark in kind.

The starter files hold functions without bodies; the answer gives files anew, each as
its path and a fenced block.
"""

from __future__ import annotations

from dataclasses import dataclass

from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Result
from minicoder.tasks.draw import Draw
from minicoder.tasks.files import (
    Check,
    Files,
    Refused,
    refused,
    run_checks,
    show_files,
    whole_files,
)
from minicoder.tasks.packages import STUB, Package, make_package

SIZE = 20_000


@dataclass(frozen=True)
class Exercise:
    """Starter files, the checks that they fail, and a solution's files."""

    task_id: str
    family: str
    files: Files
    checks: tuple[Check, ...]
    solution: Files  # the files that change
    difficulty: int = 3

    @property
    def question(self) -> str:
        """The user's turn."""
        return (f"{show_files(self.files)}\nWrite the functions that are not "
                "implemented; each does what its docstring says. Change nothing else. "
                "Answer with each file that you change, whole: first a line with its "
                "path, then the file in a ``` block.")

    @property
    def reference(self) -> str:
        """The solution's files."""
        return show_files(self.solution)

    def grade(self, answer: str, sandbox: Sandbox) -> Result:
        """Puts the answer's files in place and runs the checks."""
        default = next(iter(self.solution)) if len(self.solution) == 1 else None
        try:
            changed = whole_files(answer, default)
        except Refused as error:
            return refused(error, len(self.checks))
        return run_checks(self.files | changed, self.checks, sandbox)


def _drawn(index: int) -> tuple[Package, list[str], int]:
    """The package, the names of the functions to write, and the difficulty."""
    draw, difficulty = Draw("edits", index), index % 5 + 1
    package = make_package(draw, (1, 1, 2, 3, 3)[difficulty - 1])
    by_level = [[f.name for f in package.functions if f.level == n] for n in range(3)]
    count = ((1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 1, 1), (3, 2, 2))[difficulty - 1]
    return package, [name for names, n in zip(by_level, count, strict=True)
                     for name in draw.some(names, n)], difficulty


def behaviour(index: int) -> frozenset[str]:
    """The bodies that are to be written."""
    package, missing, _ = _drawn(index)
    return frozenset(f.body for f in package.functions if f.name in missing)


def make(index: int) -> Exercise:
    """Exercise number `index`."""
    package, missing, difficulty = _drawn(index)
    start, whole = package.files(dict.fromkeys(missing, STUB)), package.files()
    checks = tuple(
        ((package.target(f.name), argument), want) for f in package.functions
        for argument, want in zip(package.arguments[f.argument],
                                  package.outcomes()[f.name], strict=True))
    return Exercise(f"edits/{index}", "edits", start, checks,
                    {p: t for p, t in whole.items() if start[p] != t}, difficulty)
