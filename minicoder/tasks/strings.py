"""The family "strings": one sentence about the words of a text, one line of Python."""

from __future__ import annotations

from collections.abc import Iterator

from minicoder.tasks.grammar import Choice, Grammar

# words of every length from 1 to 8, some capitals, palindromes, endings and vowels
WORDS = ("a I so Oak tin eve Noon level apple Stone radar under river Orange yellow "
         "silver umbrella Echo gate bee sees mango Red owl iris").split()


def _slices() -> Iterator[Choice]:
    yield Choice("s", "s.split()")
    yield Choice("s read backwards by words", "s.split()[::-1]",
                 ("s[::-1].split()", "s.split()"), hard=True)
    for k in range(2, 6):
        yield Choice(f"the first {k} words of s", f"s.split()[:{k}]",
                     (f"s.split()[:{k + 1}]", f"s[:{k}].split()", f"s.split()[{k}:]"))
        yield Choice(f"the last {k} words of s", f"s.split()[-{k}:]",
                     (f"s.split()[-{k + 1}:]", f"s.split()[:{k}]", "s.split()"))
    for k, words in ((1, "word"), (2, "2 words")):
        yield Choice(f"s without its first {words}", f"s.split()[{k}:]",
                     (f"s.split()[{k + 1}:]", f"s[{k}:].split()", "s.split()"),
                     hard=True)
    for k, word in ((2, "second"), (3, "third")):
        yield Choice(f"every {word} word of s", f"s.split()[::{k}]",
                     (f"s.split()[1::{k}]", f"s[::{k}].split()", "s.split()"),
                     hard=True)


def _filters() -> Iterator[Choice]:
    yield Choice("words", "")
    yield Choice("palindromes", "w == w[::-1]", ("w != w[::-1]", ""), hard=True)
    yield Choice("capitalized words", "w[0].isupper()",
                 ("w.isupper()", "w.islower()", ""), hard=True)
    yield Choice("words without capitals", "w.islower()", ("w[0].isupper()", ""),
                 hard=True)
    yield Choice("words that begin with a vowel", "w[0] in 'aeiouAEIOU'",
                 ("w[0] in 'aeiou'", "w[-1] in 'aeiouAEIOU'", ""), hard=True)
    yield Choice("words that end with a vowel", "w[-1] in 'aeiouAEIOU'",
                 ("w[0] in 'aeiouAEIOU'", "w[-1] not in 'aeiouAEIOU'", ""), hard=True)
    for n in range(2, 8):
        yield Choice(f"words longer than {n} letters", f"len(w) > {n}",
                     (f"len(w) >= {n}", f"len(w) < {n}", f"len(w) > {n + 1}", ""))
        yield Choice(f"words shorter than {n} letters", f"len(w) < {n}",
                     (f"len(w) <= {n}", f"len(w) > {n}", ""))
        yield Choice(f"words of {n} letters", f"len(w) == {n}",
                     (f"len(w) != {n}", f"len(w) == {n - 1}", f"len(w) >= {n}", ""))
    for c in "aegilnoru":
        yield Choice(f"words with the letter {c}", f"'{c}' in w",
                     (f"'{c}' not in w", f"w[0] == '{c}'", ""))
        yield Choice(f"words without the letter {c}", f"'{c}' not in w",
                     (f"'{c}' in w", f"w[-1] != '{c}'", ""))
    for c in "aenr":
        yield Choice(f"words that end with {c}", f"w[-1] == '{c}'",
                     (f"w[0] == '{c}'", f"'{c}' in w", ""), hard=True)


def _maps() -> Iterator[Choice]:
    yield Choice("", "w")
    yield Choice(", each in upper case", "w.upper()", ("w.title()", "w.lower()", "w"))
    yield Choice(", each in lower case", "w.lower()", ("w.upper()", "w"))
    yield Choice(", each reversed", "w[::-1]", ("w[::-2]", "w"), hard=True)
    yield Choice(", each written twice", "w * 2", ("w + ' ' + w", "w * 3", "w"),
                 hard=True)
    yield Choice(", each with its cases swapped", "w.swapcase()", ("w.upper()", "w"),
                 hard=True)
    for k in range(1, 5):
        letters = "letter" if k == 1 else f"{k} letters"
        yield Choice(f", each cut to its first {letters}", f"w[:{k}]",
                     (f"w[:{k + 1}]", f"w[-{k}:]", f"w[{k}:]", "w"))
        yield Choice(f", each cut to its last {letters}", f"w[-{k}:]",
                     (f"w[-{k + 1}:]", f"w[:{k}]", f"w[:-{k}]", "w"))
    for old, new in ("ao", "ei", "ie", "oa", "ru"):
        yield Choice(f", each with {old} replaced by {new}",
                     f"w.replace('{old}', '{new}')",
                     (f"w.replace('{new}', '{old}')", f"w.replace('{old}', '')", "w"),
                     hard=True)


AGGREGATES = (
    Choice("the list of the", "[{}]", ("sorted({})", "[{}][::-1]")),
    Choice("the sorted list of the", "sorted({})", ("[{}]", "sorted({{{}}})")),
    Choice("the text with spaces of the", "' '.join({})", ("''.join({})", "[{}]")),
    Choice("the text with dashes of the", "'-'.join({})", ("' '.join({})", "[{}]")),
    Choice("the longest (first, or '') of the", "max(({}), key=len, default='')",
           ("min(({}), key=len, default='')", "max(({}), default='')"), hard=True),
    Choice("the first in the alphabet (or '') of the", "min(({}), default='')",
           ("max(({}), default='')", "min(({}), key=len, default='')"), hard=True))
COUNTS = (
    Choice("the count of the", "len([{}])", ("len(''.join({}))", "len({{{}}})")),
    Choice("the count of the distinct", "len({{{}}})", ("len([{}])",), hard=True),
    Choice("the count of letters in the", "len(''.join({}))",
           ("len([{}])", "len(' '.join({}))"), hard=True))
FAMILY = Grammar(
    "strings", "s", "w", AGGREGATES, COUNTS, tuple(_maps()), tuple(_filters()),
    tuple(_slices()), atoms=WORDS, common=len(WORDS), build=" ".join,
    fixed=("", "level Oak apple", "a Red river a under Noon"))
