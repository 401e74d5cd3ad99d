"""The family "dicts": what a sentence says is what the program does."""

import random
import re

from minicoder.tasks.dicts import FAMILY, NAMES
from minicoder.tasks.grammar import outcome

CUTS = {
    r"(d)": lambda p, _: p, r"(d in the order of its keys)": lambda p, _: ordered(p),
    r"the first (\d) items of d": lambda p, k: p[:k],
    r"the last (\d) items of d": lambda p, k: list(reversed(p[::-1][:k])),
    r"the first (\d) items of d by key": lambda p, k: ordered(p)[:k]}
KEEPS = {
    r"(values)": lambda k, v, _: True, r"(even) values": lambda k, v, _: not v & 1,
    r"(odd) values": lambda k, v, _: bool(v & 1),
    r"values above (\d)": lambda k, v, n: v >= n + 1,
    r"values below (\d)": lambda k, v, n: v + 1 <= n,
    r"values with a key longer than (\d) letters": lambda k, v, n: len(k) >= n + 1,
    r"values with (.) in the key": lambda k, v, n: k.count(n) > 0,
    r"values with a key before '(\w+)'": lambda k, v, n: sorted([n, k])[0] != n}
EACH = {
    r"(squared)": lambda k, v, _: v ** 2,
    r"without its (sign)": lambda k, v, _: max(v, -v),
    r"plus the (length) of its key": lambda k, v, _: v + len(k),
    r"times the (length) of its key": lambda k, v, _: v * len(k),
    r"plus (\d)": lambda k, v, n: n + v, r"minus (\d)": lambda k, v, n: v + -n,
    r"times (\d)": lambda k, v, n: sum([v] * n),
    r"modulo (\d)": lambda k, v, n: divmod(v, n)[1]}
AGGREGATES = {  # of (key, value before the map, value after it)
    "the sum of the": lambda p: sum(x for *_, x in p),
    "the largest (or 0) of the": lambda p: max([x for *_, x in p] or [0]),
    "the list of the": lambda p: [x for *_, x in p],
    "the sorted list of the": lambda p: sorted(x for *_, x in p),
    "the dict from key to value of the": lambda p: {k: x for k, _, x in p},
    "the count of the": len,
    "the count of the distinct": lambda p: len({v for _, v, _ in p}),
    "the sorted keys of the": lambda p: sorted(k for k, *_ in p),
    "the key (or '') of the largest":
        lambda p: sorted((v, k) for k, v, _ in p)[-1][1] if p else ""}


def ordered(pairs: list) -> list:
    """Pairs in the order of their keys, by selection."""
    return [next(p for p in pairs if p[0] == key) for key in sorted(dict(pairs))]


def meaning(table: dict, words: str):
    """The function of a table that words stand for, with its number filled in."""
    for pattern, function in table.items():
        if found := re.fullmatch(pattern, words):
            word = found.group(1)
            extra = int(word) if word.isdigit() else word
            return lambda *value: function(*value, extra)
    raise AssertionError(f"nobody says {words!r}")


def understand(aggregate: str, keep: str, cut: str, each: str, d: dict) -> object:
    """A slow reader of the sentences, written without a look at the programs."""
    change = meaning(EACH, each.removeprefix(", each ")) if each else lambda k, v: v
    return AGGREGATES[aggregate]([
        (k, v, change(k, v)) for k, v in meaning(CUTS, cut)(list(d.items()))
        if meaning(KEEPS, keep)(k, v)])


def test_the_sentence_says_what_the_program_does():
    draw = random.Random(1)
    inputs = [{name: draw.randint(-12, 15) for name in draw.sample(NAMES, n)}
              for n in range(len(NAMES) + 1)]
    for index in [*draw.sample(range(FAMILY.size), 300),
                  *range(FAMILY.size - 1200, FAMILY.size, 13)]:
        aggregate, each, keep, cut = (part.words for part in FAMILY.choices(index))
        if task := FAMILY.make(index):
            for d in inputs:
                got = outcome(task.canonical_solution, d)
                assert understand(aggregate, keep, cut, each, d) == got, (task, d)
