"""The family "dicts": one sentence about names with numbers, one line of Python."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from minicoder.tasks.grammar import Choice, Grammar, near
from minicoder.tasks.lists import MAX, MIN

NAMES = ("ada", "bo", "eve", "ian", "kim", "ravi", "tom", "olga")


def _slices() -> Iterator[Choice]:
    yield Choice("d", "d.items()")
    yield Choice("d in the order of its keys", "sorted(d.items())",
                 ("d.items()", "sorted(d.items(), reverse=True)"), hard=True)
    for k in range(2, 5):
        yield Choice(f"the first {k} items of d", f"list(d.items())[:{k}]",
                     (f"list(d.items())[:{k + 1}]", f"sorted(d.items())[:{k}]",
                      "d.items()"))
        yield Choice(f"the last {k} items of d", f"list(d.items())[-{k}:]",
                     (f"list(d.items())[-{k + 1}:]", f"list(d.items())[:{k}]",
                      "d.items()"))
        yield Choice(f"the first {k} items of d by key", f"sorted(d.items())[:{k}]",
                     (f"sorted(d.items())[:{k + 1}]", f"list(d.items())[:{k}]",
                      f"sorted(d.items())[-{k}:]"), hard=True)


def _filters() -> Iterator[Choice]:
    yield Choice("values", "")
    yield Choice("even values", "v % 2 == 0", ("v % 2 == 1", ""))
    yield Choice("odd values", "v % 2 == 1", ("v % 2 == 0", ""))
    for n in range(10):
        yield Choice(f"values above {n}", f"v > {n}",
                     (f"v >= {n}", f"v < {n}", f"v > {near(n)}", ""))
        yield Choice(f"values below {n}", f"v < {n}",
                     (f"v <= {n}", f"v > {n}", f"v < {near(n)}", ""))
    for n in (2, 3):
        yield Choice(f"values with a key longer than {n} letters", f"len(k) > {n}",
                     (f"len(k) >= {n}", f"v > {n}", f"len(k) < {n}", ""), hard=True)
    for c in "aeiom":
        yield Choice(f"values with {c} in the key", f"'{c}' in k",
                     (f"'{c}' not in k", f"k[0] == '{c}'", ""), hard=True)
    for name in NAMES:
        yield Choice(f"values with a key before {name!r}", f"k < {name!r}",
                     (f"k <= {name!r}", f"k > {name!r}", f"k != {name!r}", ""),
                     hard=True)


def _maps() -> Iterator[Choice]:
    yield Choice("", "v")
    yield Choice(", each squared", "v * v", ("v + v", "v"))
    yield Choice(", each without its sign", "abs(v)", ("-v", "v"))
    yield Choice(", each plus the length of its key", "v + len(k)",
                 ("v - len(k)", "len(k)", "v"), hard=True)
    yield Choice(", each times the length of its key", "v * len(k)",
                 ("v + len(k)", "len(k)", "v"), hard=True)
    for n in range(1, 10):
        yield Choice(f", each plus {n}", f"v + {n}",
                     (f"v - {n}", f"v + {near(n)}", "v"))
        yield Choice(f", each minus {n}", f"v - {n}",
                     (f"v + {n}", f"{n} - v", "v"))
    for n in range(2, 10):
        yield Choice(f", each times {n}", f"v * {n}", (f"v + {n}", "v"))
        yield Choice(f", each modulo {n}", f"v % {n}", (f"v // {n}", "v"), hard=True)


AGGREGATES = (
    Choice("the sum of the", "sum({})", (MAX, "len([{}])")),
    Choice("the largest (or 0) of the", MAX, (MIN, "max({})"), hard=True),
    Choice("the list of the", "[{}]", ("sorted({})", "[{}][::-1]")),
    Choice("the sorted list of the", "sorted({})", ("[{}]", "sorted({{{}}})")),
    Choice("the dict from key to value of the", "{{k: {}}}", ("[{}]", "{{v: {}}}"),
           hard=True))
COUNTS = (
    Choice("the count of the", "len([{}])", ("sum({})", "len({{{}}})")),
    Choice("the count of the distinct", "len({{{}}})", ("len([{}])",), hard=True),
    Choice("the sorted keys of the", "sorted(k {loop})", ("[k {loop}]", "sorted({})"),
           hard=True),
    Choice("the key (or '') of the largest", "max(((v, k) {loop}), default=(0, ''))[1]",
           ("min(((v, k) {loop}), default=(0, ''))[1]",
            "max((k {loop}), default='')"), hard=True))
FAMILY = Grammar(
    "dicts", "d", "k, v", AGGREGATES, COUNTS, tuple(_maps()), tuple(_filters()),
    tuple(_slices()), atoms=tuple(product(NAMES, range(-9, 13))),
    common=len(NAMES) * 22, build=dict,
    fixed=({}, {"tom": 4, "bo": -2}, {"olga": 7, "eve": 7, "kim": 0, "ada": -5}))
