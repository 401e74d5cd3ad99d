"""The family "lists": one sentence about a list of ints, one line of Python."""

from __future__ import annotations

from collections.abc import Iterator

from minicoder.tasks.grammar import Choice, Grammar, near


def _slices() -> Iterator[Choice]:
    yield Choice("a", "a")
    for k in range(2, 6):
        yield Choice(f"the first {k} of a", f"a[:{k}]",
                     (f"a[:{k + 1}]", f"a[-{k}:]", f"a[{k}:]", "a"))
        yield Choice(f"the last {k} of a", f"a[-{k}:]",
                     (f"a[-{k + 1}:]", f"a[:{k}]", f"a[:-{k}]", "a"))
    for k, items in ((1, "item"), (2, "2"), (3, "3")):
        yield Choice(f"a without its first {items}", f"a[{k}:]",
                     (f"a[{k + 1}:]", f"a[:{k}]", f"a[:-{k}]", "a"), hard=True)
        yield Choice(f"a without its last {items}", f"a[:-{k}]",
                     (f"a[:-{k + 1}]", f"a[-{k}:]", f"a[{k}:]", "a"), hard=True)
    for k, word in ((2, "second"), (3, "third")):
        yield Choice(f"every {word} item of a", f"a[::{k}]",
                     (f"a[1::{k}]", f"a[::{k + 1}]", f"a[:{k}]", "a"), hard=True)


def _filters() -> Iterator[Choice]:
    yield Choice("numbers", "")
    yield Choice("even numbers", "x % 2 == 0", ("x % 2 == 1", ""))
    yield Choice("odd numbers", "x % 2 == 1", ("x % 2 == 0", ""))
    yield Choice("positive numbers", "x > 0", ("x >= 0", "x < 0", ""))
    yield Choice("negative numbers", "x < 0", ("x <= 0", "x > 0", ""))
    for n in range(1, 10):
        yield Choice(f"numbers above {n}", f"x > {n}",
                     (f"x >= {n}", f"x < {n}", f"x > {near(n)}", ""))
        yield Choice(f"numbers below {n}", f"x < {n}",
                     (f"x <= {n}", f"x > {n}", f"x < {near(n)}", ""))
        yield Choice(f"numbers except {n}", f"x != {n}",
                     (f"x == {n}", f"x != {near(n)}", f"x > {n}", ""), hard=True)
    for n in range(3, 10):
        yield Choice(f"multiples of {n}", f"x % {n} == 0",
                     (f"x % {n} != 0", f"x % {near(n)} == 0", f"x % {n} == 1", ""),
                     hard=True)


def _maps() -> Iterator[Choice]:
    yield Choice("", "x")
    yield Choice(", each squared", "x * x", ("x + x", "x"))
    yield Choice(", each negated", "-x", ("abs(x)", "x"), hard=True)
    yield Choice(", each without its sign", "abs(x)", ("-x", "x"), hard=True)
    for n in range(1, 10):
        yield Choice(f", each plus {n}", f"x + {n}",
                     (f"x - {n}", f"x + {near(n)}", "x"))
        yield Choice(f", each minus {n}", f"x - {n}",
                     (f"x + {n}", f"{n} - x", f"x - {near(n)}", "x"))
    for n in range(2, 10):
        yield Choice(f", each times {n}", f"x * {n}",
                     (f"x + {n}", f"x * {near(n)}", "x"))
        yield Choice(f", each modulo {n}", f"x % {n}",
                     (f"x // {n}", f"x % {near(n)}", "x"), hard=True)
        yield Choice(f", each floor divided by {n}", f"x // {n}",
                     (f"x % {n}", f"x / {n}", f"x // {near(n)}", "x"), hard=True)


MAX, MIN = "max(({}), default=0)", "min(({}), default=0)"
AGGREGATES = (
    Choice("the sum of the", "sum({})", (MAX, "len([{}])")),
    Choice("the largest (or 0) of the", MAX, (MIN, "max({})", "sum({})"), hard=True),
    Choice("the smallest (or 0) of the", MIN, (MAX, "min({})", "sum({})"), hard=True),
    Choice("the list of the", "[{}]", ("sorted({})", "[{}][::-1]")),
    Choice("the sorted list of the", "sorted({})",
           ("[{}]", "sorted(({}), reverse=True)")))
COUNTS = (  # these look at the numbers, not at what a map makes of them
    Choice("the count of the", "len([{}])", ("sum({})", "len({{{}}})")),
    Choice("the count of the distinct", "len({{{}}})", ("len([{}])", "sum({})"),
           hard=True))

FAMILY = Grammar(
    "lists", "a", "x", AGGREGATES, COUNTS, tuple(_maps()), tuple(_filters()),
    tuple(_slices()), atoms=range(-9, 19), common=22, build=list,
    fixed=([], [-3, -8, -1, -6, -5], [4, 4, 7, 7, 4, 1]))
