"""Families of generated tasks: one table, one way to draw from it.

A new family is a module like `lists.py` and one line in FAMILIES.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass

from minicoder.errors import UserError
from minicoder.tasks import lists
from minicoder.tasks.task import Task

SPLITS = ("train", "heldout")
HELDOUT_SHARE = 0.1


@dataclass(frozen=True)
class Family:
    """Numbered programs, 0 to size - 1, and what is known about each.

    `make` gives the task, or None for a number that is no good; `behaviour` a text
    that is equal for programs that do the same; `bugs` wrong programs for a task.
    """

    size: int
    make: Callable[[int], Task | None]
    behaviour: Callable[[int], str]
    bugs: Callable[[Task], list[str]]


FAMILIES = {
    "lists": Family(lists.SIZE, lists.make, lists.behaviour, lists.bugs),
}


def family_of(name: str) -> Family:
    """The family of that name; UserError names those that exist."""
    if name not in FAMILIES:
        raise UserError(f"There is no family {name!r}; choose from "
                        f"{', '.join(sorted(FAMILIES))}.")
    return FAMILIES[name]


def split_of(name: str, index: int) -> str:
    """Split of a program, by a hash of what it does.

    Programs that do the same on the family's fixed inputs are on the same side, so a
    held-out task is never a training task in other words.
    """
    text = f"{name}:{family_of(name).behaviour(index)}"
    draw = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
    return "heldout" if draw < HELDOUT_SHARE else "train"


def sample_tasks(family: str, n: int, split: str, seed: int) -> list[Task]:
    """Draws `n` different tasks of one split; the same everywhere for a seed.

    Raises UserError for an unknown family or split, or more tasks than there are.
    """
    table = family_of(family)
    if split not in SPLITS:
        raise UserError(f"There is no split {split!r}; choose from {SPLITS}.")
    draw, seen, tasks = random.Random(seed).random, set(), []
    while len(tasks) < n:
        if len(seen) == table.size:
            raise UserError(f"The family {family!r} has {len(tasks)} tasks in its "
                            f"split {split!r}; {n} were asked for.")
        index = int(draw() * table.size)
        if index in seen:
            continue
        seen.add(index)
        if split_of(family, index) == split and (task := table.make(index)):
            tasks.append(task)
    return tasks


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
