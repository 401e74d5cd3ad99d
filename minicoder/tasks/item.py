"""What every kind of task has in common: it can be asked, and an answer be graded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, runtime_checkable

from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Result, clean


@runtime_checkable
class Item(Protocol):
    """A question, a reference answer that passes, and a way to grade any answer."""

    @property
    def task_id(self) -> str:
        """Its name, "family/number"; no two items of a file share it."""

    @property
    def family(self) -> str:
        """The kind of task that it is one of."""

    @property
    def difficulty(self) -> int:
        """1, easy, to 5, hard."""

    @property
    def question(self) -> str:
        """The user's turn, whole."""

    @property
    def reference(self) -> str:
        """An answer that passes."""

    def grade(self, answer: str, sandbox: Sandbox) -> Result:
        """Judge an answer as a model wrote it; programs run in the sandbox only."""


def compared(right: bool, found: str | None, wanted: str) -> Result:
    """The verdict on an answer that needs no program, only a comparison."""
    said = "no answer was found" if found is None else f"the answer is {found[:100]!r}"
    return Result("pass" if right else "fail",
                  "" if right else clean(f"{said}, not {wanted[:100]!r}"),
                  passed=int(right), total=1, tier="none")


def grade_many(items: Sequence[Item], answers: Sequence[str], sandbox: Sandbox
               ) -> list[Result]:
    """The verdict on each answer, side by side on all of the sandbox's workers."""
    with ThreadPoolExecutor(sandbox.workers, "grade") as threads:
        return list(threads.map(lambda item, answer: item.grade(answer, sandbox),
                                items, answers))
