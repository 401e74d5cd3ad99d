"""Repair of one function, as in Defects4J: the buggy text, a failing test, and a fix.

Generated items break a task of the function families with a mutation of its syntax
tree. HumanEvalPack's buggy solutions make items of the same kind (`formats.py`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Result
from minicoder.tasks import dicts, lists, strings
from minicoder.tasks.answers import fenced
from minicoder.tasks.grammar import outcome
from minicoder.tasks.item import Item
from minicoder.tasks.mutants import mutants

BASES = (lists.FAMILY, strings.FAMILY, dicts.FAMILY)
SIZE = len(BASES) * min(base.size for base in BASES)


@dataclass(frozen=True)
class Repair:
    """A task whose solution is there, but wrong.

    `purpose` says what it is for, if its text does not; `symptom` is what a test says
    of the buggy program, in one line.
    """

    task_id: str
    task: Item
    purpose: str
    buggy: str
    symptom: str
    language: str = "python"
    family: str = "repair"

    @property
    def difficulty(self) -> int:
        """That of the task."""
        return self.task.difficulty

    @property
    def question(self) -> str:
        """What the function is for, its text, and the test that fails."""
        return (f"{self.purpose}\n\nThis {self.language} function is wrong:\n\n"
                f"{fenced(self.buggy, self.language)}\n\nA test fails: {self.symptom}\n"
                "Answer with the whole function, mended, in one code block.").lstrip()

    @property
    def reference(self) -> str:
        """The right program."""
        return self.task.reference

    def grade(self, answer: str, sandbox: Sandbox) -> Result:
        """Judges the program in an answer by the task's tests."""
        return self.task.grade(answer, sandbox)


def behaviour(index: int) -> tuple[str, int]:
    """The (family, number) of the task that is broken: both are on the same side."""
    number, base = divmod(index, len(BASES))
    return BASES[base].name, number


def make(index: int) -> Repair | None:
    """Item number `index`; None when its task is no good or no mutant is caught."""
    number, base = divmod(index, len(BASES))
    if not (task := BASES[base].make(number)):
        return None
    wrong = mutants(task.canonical_solution)
    random.Random(index).shuffle(wrong)
    for buggy in wrong:
        for (argument,), expected in task.cases:
            found = outcome(buggy, argument)
            if found != expected:
                raised = str(found).endswith("Error")
                gave = f"raised {found}" if raised else f"returned {found!r}"
                return Repair(f"repair/{index}", task, task.prompt, buggy,
                              f"solve({argument!r}) {gave}, not {expected!r}.")
    return None
