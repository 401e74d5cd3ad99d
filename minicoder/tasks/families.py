"""Families of generated tasks: one table, one way to draw from it.

A new family is a module like `lists.py` and one line in FAMILIES, if its tasks are
Python functions, or in KINDS, if they are any other kind of item.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from minicoder.errors import UserError
from minicoder.tasks import (
    choice,
    crossfile,
    dicts,
    edits,
    lists,
    prediction,
    problems,
    repair,
    repositories,
    strings,
    words,
)
from minicoder.tasks.item import Item
from minicoder.tasks.task import Task

SPLITS = ("train", "heldout")
HELDOUT_SHARE = 0.1


@runtime_checkable
class Functions(Protocol):
    """Numbered function tasks, 0 to size - 1: a `Grammar` is one."""

    size: int

    def make(self, index: int) -> Task | None:
        """The task, or None for a number that is no good."""

    def behaviour(self, index: int) -> str:
        """A text that is equal for programs that do the same."""

    def bugs(self, task: Task) -> list[str]:
        """Wrong programs for a task."""


@dataclass(frozen=True)
class Kind:
    """Numbered items of any kind.

    `behaviour` is as above, or the (family, number) of the task that an item is made
    from: both are then on the same side. Or it is a set of texts, one for each part to
    be written: an item is held out when one of them is, so that no training item asks
    for it (but a prompt may show it: the stock that files are made of is small).
    """

    size: int
    make: Callable[[int], Item | None]
    behaviour: Callable[[int], str | frozenset[str] | tuple[str, int]]


FAMILIES: dict[str, Functions] = {
    "lists": lists.FAMILY, "strings": strings.FAMILY, "dicts": dicts.FAMILY}
KINDS: dict[str, Functions | Kind] = FAMILIES | {
    "contests": Kind(problems.SIZE, problems.make, problems.behaviour),
    "repair": Kind(repair.SIZE, repair.make, repair.behaviour)} | {
    kind.__name__.rpartition(".")[2]: Kind(kind.SIZE, kind.make, kind.behaviour)
    for kind in (choice, crossfile, edits, prediction, repositories, words)}


def family_of(name: str, among: Mapping[str, Functions | Kind] = FAMILIES) -> Any:
    """The family or kind of that name; UserError names those that exist."""
    if name not in among:
        raise UserError(f"There is no family {name!r}; choose from "
                        f"{', '.join(sorted(among))}.")
    return among[name]


def split_of(name: str, index: int) -> str:
    """Split of an item, by a hash of what it does.

    Programs that do the same on the family's fixed inputs are on the same side, so a
    held-out task is never a training task in other words.
    """
    does = KINDS[name].behaviour(index)
    if isinstance(does, tuple):
        return split_of(*does)
    draws = [hashlib.sha256(f"{name}:{text}".encode()).digest()[:8]
             for text in (does if isinstance(does, frozenset) else (does,))]
    low = int.from_bytes(min(draws), "big") / 2**64 < HELDOUT_SHARE
    return "heldout" if low else "train"


def sample_items(family: str, n: int, split: str, seed: int, fewer: bool = False
                 ) -> list[Item]:
    """Draws `n` different items of one split; the same everywhere for a seed.

    Raises UserError for an unknown family or split, or more items than there are;
    with `fewer`, all that there are will do.
    """
    table, draw = family_of(family, KINDS), random.Random(seed).random
    if split not in SPLITS:
        raise UserError(f"There is no split {split!r}; choose from {SPLITS}.")
    seen: set[int] = set()
    asked: set[str] = set()
    items: list[Item] = []
    while len(items) < n:
        if len(seen) == table.size:
            if fewer:
                break
            raise UserError(f"The family {family!r} has {len(items)} tasks in its "
                            f"split {split!r}; {n} were asked for.")
        index = int(draw() * table.size)
        if index in seen:
            continue
        seen.add(index)
        if (split_of(family, index) == split and (item := table.make(index))
                and item.question not in asked):
            asked.add(item.question)
            items.append(item)
    return items


def sample_tasks(family: str, n: int, split: str, seed: int) -> list[Task]:
    """`sample_items` of a family of function tasks."""
    family_of(family)
    return sample_items(family, n, split, seed)


def noisy_solution(task: Task, rng: random.Random, p_right: float) -> str:
    """The right program with probability `p_right`, else one with a plausible bug.

    The bug fails at least one of the task's cases. Raises UserError for a task that no
    family made.
    """
    wrong = family_of(task.family).bugs
    if rng.random() < p_right:
        return task.canonical_solution
    found = wrong(task)
    return found[int(rng.random() * len(found))]
