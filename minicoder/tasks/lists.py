"""The family "lists": one sentence about a list of ints, one line of Python.

    Return the sum of the even numbers in the last 3 of a, each squared.
    def solve(a):
        return sum(x * x for x in a[-3:] if x % 2 == 0)

A program is one choice from each of four tables: aggregate, map, filter, slice. Each
choice brings the bugs that people make in its place (another comparison, a neighbouring
number, the step forgotten), which gives wrong programs that look right.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from minicoder.tasks.task import Case, Task

CASES = range(5, 9)  # how many cases a task may have
FIXED_INPUTS = ([], [-3, -8, -1, -6, -5], [4, 4, 7, 7, 4, 1])
ANY_BUG_AT_LEAST = 3  # bugs that the cases must tell from the right program


class Choice(NamedTuple):
    """One entry of a table: its words, its code, and plausible wrong codes."""

    words: str
    code: str
    bugs: tuple[str, ...] = ()


Codes = tuple[str, str, str, str]  # of aggregate, map, filter, slice


def _near(n: int) -> int:
    """The number that an off-by-one puts in the place of n; one digit."""
    return n + 1 if n < 9 else n - 1


def _slices() -> Iterator[Choice]:
    yield Choice("a", "a")
    for k in range(2, 6):
        yield Choice(f"the first {k} of a", f"a[:{k}]",
                     (f"a[:{k + 1}]", f"a[-{k}:]", f"a[{k}:]", "a"))
        yield Choice(f"the last {k} of a", f"a[-{k}:]",
                     (f"a[-{k + 1}:]", f"a[:{k}]", f"a[:-{k}]", "a"))
    for k, items in ((1, "item"), (2, "2"), (3, "3")):
        yield Choice(f"a without its first {items}", f"a[{k}:]",
                     (f"a[{k + 1}:]", f"a[:{k}]", f"a[:-{k}]", "a"))
        yield Choice(f"a without its last {items}", f"a[:-{k}]",
                     (f"a[:-{k + 1}]", f"a[-{k}:]", f"a[{k}:]", "a"))
    for k, word in ((2, "second"), (3, "third")):
        yield Choice(f"every {word} item of a", f"a[::{k}]",
                     (f"a[1::{k}]", f"a[::{k + 1}]", f"a[:{k}]", "a"))


def _filters() -> Iterator[Choice]:
    yield Choice("numbers", "")
    yield Choice("even numbers", "x % 2 == 0", ("x % 2 == 1", ""))
    yield Choice("odd numbers", "x % 2 == 1", ("x % 2 == 0", ""))
    yield Choice("positive numbers", "x > 0", ("x >= 0", "x < 0", ""))
    yield Choice("negative numbers", "x < 0", ("x <= 0", "x > 0", ""))
    for n in range(1, 10):
        yield Choice(f"numbers above {n}", f"x > {n}",
                     (f"x >= {n}", f"x < {n}", f"x > {_near(n)}", ""))
        yield Choice(f"numbers below {n}", f"x < {n}",
                     (f"x <= {n}", f"x > {n}", f"x < {_near(n)}", ""))
        yield Choice(f"numbers except {n}", f"x != {n}",
                     (f"x == {n}", f"x != {_near(n)}", f"x > {n}", ""))
    for n in range(3, 10):
        yield Choice(f"multiples of {n}", f"x % {n} == 0",
                     (f"x % {n} != 0", f"x % {_near(n)} == 0", f"x % {n} == 1", ""))


def _maps() -> Iterator[Choice]:
    yield Choice("", "x")
    yield Choice(", each squared", "x * x", ("x + x", "x"))
    yield Choice(", each negated", "-x", ("abs(x)", "x"))
    yield Choice(", each without its sign", "abs(x)", ("-x", "x"))
    for n in range(1, 10):
        yield Choice(f", each plus {n}", f"x + {n}",
                     (f"x - {n}", f"x + {_near(n)}", "x"))
        yield Choice(f", each minus {n}", f"x - {n}",
                     (f"x + {n}", f"{n} - x", f"x - {_near(n)}", "x"))
    for n in range(2, 10):
        yield Choice(f", each times {n}", f"x * {n}",
                     (f"x + {n}", f"x * {_near(n)}", "x"))
        yield Choice(f", each modulo {n}", f"x % {n}",
                     (f"x // {n}", f"x % {_near(n)}", "x"))
        yield Choice(f", each floor divided by {n}", f"x // {n}",
                     (f"x % {n}", f"x / {n}", f"x // {_near(n)}", "x"))


MAX, MIN = "max(({}), default=0)", "min(({}), default=0)"
AGGREGATES = (
    Choice("the sum of the", "sum({})", (MAX, "len([{}])")),
    Choice("the largest (or 0) of the", MAX, (MIN, "max({})", "sum({})")),
    Choice("the smallest (or 0) of the", MIN, (MAX, "min({})", "sum({})")),
    Choice("the list of the", "[{}]", ("sorted({})", "[{}][::-1]")),
    Choice("the sorted list of the", "sorted({})",
           ("[{}]", "sorted(({}), reverse=True)")))
COUNTS = (  # these look at the numbers, not at what a map makes of them
    Choice("the count of the", "len([{}])", ("sum({})", "len({{{}}})")),
    Choice("the count of the distinct", "len({{{}}})", ("len([{}])", "sum({})")))
SLICES, FILTERS, MAPS = tuple(_slices()), tuple(_filters()), tuple(_maps())
_PLACES = len(SLICES) * len(FILTERS)
_MAPPED = len(AGGREGATES) * len(MAPS) * _PLACES
SIZE = _MAPPED + len(COUNTS) * _PLACES  # number of programs


def choices(index: int) -> tuple[Choice, Choice, Choice, Choice]:
    """Program number `index` (0 to SIZE - 1): aggregate, map, filter and slice."""
    rest, place = divmod(index, _PLACES)
    chosen, cut = divmod(place, len(SLICES))
    if index < _MAPPED:
        aggregate, each = divmod(rest, len(MAPS))
        head = AGGREGATES[aggregate], MAPS[each]
    else:
        head = COUNTS[rest - _MAPPED // _PLACES], MAPS[0]
    return *head, FILTERS[chosen], SLICES[cut]


def source(codes: Codes) -> str:
    """The program's text."""
    aggregate, each, keep, cut = codes
    items = f"{each} for x in {cut}" + (f" if {keep}" if keep else "")
    return f"def solve(a):\n    return {aggregate.format(items)}\n"


@cache
def _function(code: str) -> Callable[[Any], Any]:
    """A function from a code of the tables above, all of which are ours."""
    variable = "a" if code.startswith("a") and not code.startswith("abs") else "x"
    if "{}" in code:
        variable, code = "v", code.format("x for x in v")
    return eval(f"lambda {variable}: {code or True}")


def outcome(codes: Codes, a: list[int]) -> object:
    """What the program returns for `a`; the name of the exception if it raises one."""
    aggregate, each, keep, cut = map(_function, codes)
    try:
        return aggregate([each(x) for x in cut(a) if keep(x)])
    except ValueError as error:  # max of nothing
        return type(error).__name__


@cache
def _telling(keep: Choice) -> tuple[int, ...]:
    """Numbers at which the filter's bugs show, and then those that it keeps."""
    right, kept = _function(keep.code), range(-9, 19)
    edge = [x for x in kept for bug in keep.bugs
            if bug and bool(_function(bug)(x)) != bool(right(x))]
    return (*edge, *edge, *(x for x in kept if right(x)))


def _random_lists(seed: int, count: int, telling: tuple[int, ...]) -> Iterator[list]:
    """Lists of 3 to 8 ints, a changing share of them telling, the rest -9 to 12.

    `random()` alone promises to be the same in every version of Python.
    """
    draw = random.Random(seed).random
    for _ in range(count):
        share = 0.5 + 0.5 * draw()
        yield [telling[int(draw() * len(telling))] if draw() < share
               else int(draw() * 22) - 9 for _ in range(3 + int(draw() * 6))]


PROBES = (*FIXED_INPUTS, *_random_lists(0, 13, tuple(range(-9, 13))))


def behaviour(index: int) -> str:
    """What the program does on fixed lists: equal for programs that do the same."""
    codes = tuple(choice.code for choice in choices(index))
    return json.dumps([outcome(codes, a) for a in PROBES])


def mistakes(index: int) -> dict[Codes, None]:
    """The program with one of its four parts replaced by a plausible bug."""
    parts = choices(index)
    right = tuple(part.code for part in parts)
    return {right[:i] + (bug,) + right[i + 1:]: None
            for i, part in enumerate(parts) for bug in part.bugs}


def make(index: int) -> Task | None:
    """Task number `index`; None when it is dull or too few bugs can be told from it.

    Cases: the fixed lists, then random ones as long as they find a further bug.
    """
    parts = choices(index)
    codes = tuple(part.code for part in parts)
    alive, chosen, spare = list(mistakes(index)), [], []
    found = 0
    for a in (*FIXED_INPUTS, *_random_lists(index + 1, 80, _telling(parts[2]))):
        right = outcome(codes, a)
        left = [bug for bug in alive if outcome(bug, a) == right]
        useful = len(left) < len(alive) or a in FIXED_INPUTS
        if useful and len(chosen) < CASES[-1]:
            found, alive = found + len(alive) - len(left), left
            chosen.append(Case((a,), right))
        else:
            spare.append(Case((a,), right))
        if not alive and len(chosen) + len(spare) >= CASES[0]:
            break
    chosen += spare[:max(0, CASES[0] - len(chosen))]
    if found < ANY_BUG_AT_LEAST or len({repr(case.expected) for case in chosen}) < 3:
        return None
    aggregate, each, keep, cut = (part.words for part in parts)
    return Task(f"lists/{index}", "lists",
                f"Return {aggregate} {keep} in {cut}{each}.", "solve",
                source(codes), tuple(chosen))


def bugs(task: Task) -> list[str]:
    """Plausible wrong programs, each of which fails at least one case of the task."""
    return [source(codes) for codes in mistakes(int(task.task_id.split("/")[1]))
            if any(outcome(codes, case.arguments[0]) != case.expected
                   for case in task.cases)]
