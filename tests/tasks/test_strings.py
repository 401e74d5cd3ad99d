"""The family "strings": what a sentence says is what the program does."""

import random
import re

from minicoder.tasks.grammar import outcome
from minicoder.tasks.strings import FAMILY, WORDS

NUMBERS = {"word": 1, "second": 2, "third": 3, "letter": 1}
VOWELS = set("aeiouAEIOU")
CUTS = {
    r"(s)": lambda w, _: w, r"s (read backwards) by words":
        lambda w, _: [w[-1 - i] for i in range(len(w))],
    r"the first (\d) words of s":
        lambda w, k: [x for i, x in enumerate(w) if i < int(k)],
    r"the last (\d) words of s":
        lambda w, k: [x for i, x in enumerate(w) if i >= len(w) - int(k)],
    r"s without its first (word|\d)(?: words)?":
        lambda w, k: [x for i, x in enumerate(w) if i >= int(NUMBERS.get(k, k))],
    r"every (second|third) word of s":
        lambda w, k: [x for i, x in enumerate(w) if i % NUMBERS[k] == 0]}
KEEPS = {
    r"(words)": lambda w, _: True,
    r"(palindromes)": lambda w, _: list(w) == list(reversed(w)),
    r"(capitalized words)": lambda w, _: w[:1] != w[:1].lower(),
    r"(words without capitals)": lambda w, _: w == w.lower(),
    r"words that (begin|end) with a vowel":
        lambda w, k: w[0 if k == "begin" else len(w) - 1] in VOWELS,
    r"words longer than (\d) letters": lambda w, k: len(w) >= int(k) + 1,
    r"words shorter than (\d) letters": lambda w, k: len(w) + 1 <= int(k),
    r"words of (\d) letters": lambda w, k: not len(w) - int(k),
    r"words with the letter (.)": lambda w, k: w.count(k) > 0,
    r"words without the letter (.)": lambda w, k: w.count(k) == 0,
    r"words that end with (.)": lambda w, k: w.endswith(k)}
EACH = {
    r"in (upper|lower) case": lambda w, k: getattr(str, k)(w),
    r"(reversed)": lambda w, _: "".join(reversed(w)),
    r"(written twice)": lambda w, _: w + w,
    r"(with its cases swapped)":
        lambda w, _: "".join(c.lower() if c.isupper() else c.upper() for c in w),
    r"cut to its first (letter|\d)(?: letters)?":
        lambda w, k: "".join(c for i, c in enumerate(w) if i < int(NUMBERS.get(k, k))),
    r"cut to its last (letter|\d)(?: letters)?": lambda w, k: "".join(
        c for i, c in enumerate(w) if i >= len(w) - int(NUMBERS.get(k, k))),
    r"with (. replaced by .)":
        lambda w, k: "".join(k[-1] if c == k[0] else c for c in w)}
AGGREGATES = {
    "the list of the": list, "the sorted list of the": sorted,
    "the text with spaces of the": " ".join, "the text with dashes of the": "-".join,
    "the longest (first, or '') of the":
        lambda v: [w for w in v if len(w) == max(map(len, v))][0] if v else "",
    "the first in the alphabet (or '') of the": lambda v: (sorted(v) or [""])[0],
    "the count of the": len,
    "the count of the distinct":
        lambda v: sum(w not in v[:i] for i, w in enumerate(v)),
    "the count of letters in the": lambda v: sum(map(len, v))}


def meaning(table: dict, words: str):
    """The function of a table that words stand for."""
    for pattern, function in table.items():
        if found := re.fullmatch(pattern, words):
            return lambda value: function(value, found.group(1))
    raise AssertionError(f"nobody says {words!r}")


def understand(aggregate: str, keep: str, cut: str, each: str, s: str) -> object:
    """A slow reader of the sentences, written without a look at the programs."""
    keeps, words = meaning(KEEPS, keep), meaning(CUTS, cut)(s.split())
    kept = [word for word in words if keeps(word)]
    if each:
        kept = [meaning(EACH, each.removeprefix(", each "))(word) for word in kept]
    return AGGREGATES[aggregate](kept)


def test_the_sentence_says_what_the_program_does():
    draw = random.Random(1)
    inputs = [" ".join(draw.choices(WORDS, k=n)) for n in range(10)]
    for index in [*draw.sample(range(FAMILY.size), 300),
                  *range(FAMILY.size - 1000, FAMILY.size, 13)]:
        aggregate, each, keep, cut = (part.words for part in FAMILY.choices(index))
        if task := FAMILY.make(index):
            assert task.prompt == f"Return {aggregate} {keep} in {cut}{each}."
            for s in inputs:
                assert understand(aggregate, keep, cut, each, s) == outcome(
                    task.canonical_solution, s), (task, s)
