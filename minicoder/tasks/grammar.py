"""Families of one-line programs: one choice from each of four tables.

    Return the sum of the even numbers in the last 3 of a, each squared.
           aggregate      filter           slice           map
    def solve(a):
        return sum(x * x for x in a[-3:] if x % 2 == 0)

Each choice brings the bugs that people make in its place (another comparison, a
neighbouring number, the step forgotten): wrong programs that look right. The texts are
ours, so they may run here. Difficulty counts the steps beyond the plain loop, hard ones
twice, less 2.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from minicoder.tasks.task import Case, Task

CASES = range(5, 9)  # how many cases a task may have
ANY_BUG_AT_LEAST = 3  # bugs that the cases must tell from the right program


class Choice(NamedTuple):
    """One entry of a table: its words, its code, plausible wrong codes; is it hard?"""

    words: str
    code: str
    bugs: tuple[str, ...] = ()
    hard: bool = False


Codes = tuple[str, str, str, str]  # of aggregate, map, filter, slice


def near(n: int) -> int:
    """The number that an off-by-one puts in the place of n; one digit."""
    return n + 1 if n < 9 else n - 1


@lru_cache(maxsize=4096)
def function(source: str) -> Callable[..., Any]:
    """The function `solve` of a program that is ours."""
    scope: dict[str, Any] = {}
    exec(source, scope)
    return scope["solve"]


def outcome(source: str, argument: object) -> object:
    """What a program of ours returns; the name of the exception if it raises one."""
    try:
        return function(source)(argument)
    except Exception as error:  # a bug may raise anything
        return type(error).__name__


@dataclass(frozen=True)
class Grammar:
    """Tables, and how a program, a sentence and inputs are made of them.

    `counts` are aggregates that look at the items, not at what a map makes of them.
    An input is built from atoms; plain draws use the first `common` of them, the rest
    lie around the filters' edges. `fixed` inputs are cases of every task.
    """

    name: str
    argument: str  # name of the parameter
    item: str      # name of the loop's variable
    aggregates: tuple[Choice, ...]
    counts: tuple[Choice, ...]
    maps: tuple[Choice, ...]
    filters: tuple[Choice, ...]
    slices: tuple[Choice, ...]
    atoms: Sequence[Any]
    common: int
    build: Callable[[Iterable[Any]], Any]
    fixed: tuple[Any, ...]

    @cached_property
    def places(self) -> int:
        """Pairs of filter and slice."""
        return len(self.slices) * len(self.filters)

    @cached_property
    def mapped(self) -> int:
        """Programs with a map; those that count follow."""
        return len(self.aggregates) * len(self.maps) * self.places

    @cached_property
    def size(self) -> int:
        """Number of programs."""
        return self.mapped + len(self.counts) * self.places

    @cached_property
    def probes(self) -> tuple[Any, ...]:
        """The inputs that say what a program does."""
        return (*self.fixed, *self.inputs(0, 13, self.atoms[:self.common]))

    def choices(self, index: int) -> tuple[Choice, Choice, Choice, Choice]:
        """Program number `index` (0 to size - 1): aggregate, map, filter and slice."""
        rest, place = divmod(index, self.places)
        chosen, cut = divmod(place, len(self.slices))
        if index < self.mapped:
            aggregate, each = divmod(rest, len(self.maps))
            head = self.aggregates[aggregate], self.maps[each]
        else:
            head = self.counts[rest - self.mapped // self.places], self.maps[0]
        return *head, self.filters[chosen], self.slices[cut]

    def source(self, codes: Codes) -> str:
        """The program's text."""
        aggregate, each, keep, cut = codes
        loop = f"for {self.item} in {cut}" + (f" if {keep}" if keep else "")
        body = aggregate.format(f"{each} {loop}", loop=loop)
        return f"def solve({self.argument}):\n    return {body}\n"

    def program(self, index: int) -> str:
        """The text of program number `index`."""
        return self.source(tuple(part.code for part in self.choices(index)))

    def kept(self, keep: str) -> list[bool]:
        """Which atoms a filter keeps."""
        test = function(f"def solve(atoms):\n    return [bool({keep or True}) "
                        f"for {self.item} in atoms]\n")
        return test(self.atoms)

    def telling(self, keep: Choice) -> tuple[Any, ...]:
        """Atoms at which the filter's bugs show, and then those that it keeps."""
        right = self.kept(keep.code)
        wrong = [self.kept(bug) for bug in keep.bugs if bug]
        edge = [atom for i, atom in enumerate(self.atoms)
                for bug in wrong if bug[i] != right[i]]
        return (*edge, *edge, *(a for a, is_kept in zip(self.atoms, right, strict=True)
                                if is_kept))

    def inputs(self, seed: int, count: int, telling: Sequence[Any]) -> Iterator[Any]:
        """Inputs of 3 to 8 atoms, a changing share of them telling.

        `random()` alone promises to be the same in every version of Python.
        """
        draw = random.Random(seed).random
        for _ in range(count):
            share = 0.5 + 0.5 * draw()
            yield self.build([
                telling[int(draw() * len(telling))] if draw() < share
                else self.atoms[int(draw() * self.common)]
                for _ in range(3 + int(draw() * 6))])

    def behaviour(self, index: int) -> str:
        """What the program does on fixed inputs: equal for programs that do the same.
        """
        program = self.program(index)
        return json.dumps([outcome(program, a) for a in self.probes])

    def mistakes(self, index: int) -> list[str]:
        """The program with one of its four parts replaced by a plausible bug."""
        parts = self.choices(index)
        right = tuple(part.code for part in parts)
        return list(dict.fromkeys(
            self.source(right[:i] + (bug,) + right[i + 1:])
            for i, part in enumerate(parts) for bug in part.bugs))

    def make(self, index: int) -> Task | None:
        """Task number `index`; None if it is dull or too few bugs can be told from it.

        Cases: the fixed inputs, then random ones as long as they find a further bug.
        """
        parts, program = self.choices(index), self.program(index)
        alive, chosen, spare = self.mistakes(index), [], []
        found, many = 0, self.inputs(index + 1, 80, self.telling(parts[2]))
        for a in (*self.fixed, *many):
            right = outcome(program, a)
            left = [bug for bug in alive if outcome(bug, a) == right]
            useful = len(left) < len(alive) or a in self.fixed
            if useful and len(chosen) < CASES[-1]:
                found, alive = found + len(alive) - len(left), left
                chosen.append(Case((a,), right))
            else:
                spare.append(Case((a,), right))
            if not alive and len(chosen) + len(spare) >= CASES[0]:
                break
        chosen += spare[:max(0, CASES[0] - len(chosen))]
        if (found < ANY_BUG_AT_LEAST
                or len({repr(case.expected) for case in chosen}) < 3):
            return None
        aggregate, each, keep, cut = (part.words for part in parts)
        return Task(f"{self.name}/{index}", self.name,
                    f"Return {aggregate} {keep} in {cut}{each}.", "solve", program,
                    tuple(chosen), difficulty=max(1, sum(
                        part.hard for part in parts) + sum(
                        bool(part.bugs) for part in parts[1:]) - 2))

    def bugs(self, task: Task) -> list[str]:
        """Plausible wrong programs, each of which fails a case of the task."""
        return [bug for bug in self.mistakes(int(task.task_id.split("/")[1]))
                if any(outcome(bug, case.arguments[0]) != case.expected
                       for case in task.cases)]
