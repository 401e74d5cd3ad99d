"""The exercises of the lesson on the corpus (notebook 02), and the mistakes caught."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from minicoder.data.dedup import minhash
from minicoder.show.check import Rule, exercise

Answer = Callable[..., Any]


def _keeps(
    mean: Answer = lambda text, lines: sum(map(len, lines)) <= 100 * len(lines),
    longest: Answer = lambda lines: max(map(len, lines)) <= 1000,
    letters: Answer = lambda text: 4 * sum(map(str.isalpha, text)) >= len(text),
    xml: Answer = lambda text, language: (
        language == "XSLT" or "<?xml version=" not in text[:100]),
    html: Answer = lambda text, visible: visible >= max(100, len(text) / 5),
    data: Answer = lambda text, language: (
        language not in ("JSON", "YAML") or 50 <= len(text) <= 5000),
) -> Answer:
    """All six rules, right unless one of them is replaced."""
    def answer(text: str, language: str, visible: int = 0) -> bool:
        lines = text.splitlines()
        return (mean(text, lines) and longest(lines) and letters(text)
                and xml(text, language) and data(text, language)
                and (language != "HTML" or html(text, visible)))
    return answer


def _kept(message: str, wrong: Answer, *cases: tuple[bool, str, str, int]) -> Rule:
    """The rule that an answer keeps or drops what each of the cases says."""
    return Rule(message, lambda answer: all(
        bool(answer(text, language, visible)) == kept
        for kept, text, language, visible in cases), wrong)


def _long(size: int) -> str:
    return "x" * size + "\nab" * 20


XML = '<?xml version="1.0"?>'


@exercise(
    "corpus.keeps",
    rules=(
        _kept("a plain Python file must stay.", lambda *_: False,
              (True, "def f(x):\n    return x\n", "Python", 0)),
        _kept("lines of 99 and 100 characters were dropped: the end of a line is no "
              "part of it. Use text.splitlines().",
              _keeps(lambda text, lines: len(text) <= 100 * len(lines)),
              (True, ("x" * 99 + "\n" + "x" * 100 + "\n") * 2, "Python", 0)),
        _kept('a mean of exactly 100 stays, 100.3 and 101 go. (text.split("\\n") '
              "counts one line too many, an empty one behind the last end.)",
              _keeps(lambda text, lines: sum(map(len, lines)) < 100 * len(lines)),
              (True, ("x" * 100 + "\n") * 3, "C", 0),
              (False, ("x" * 101 + "\n") * 3, "C", 0),
              (False, ("x" * 100 + "\n") * 2 + "x" * 101, "C", 0)),
        _kept("a longest line of 1000 stays, of 1001 goes, whatever the mean is.",
              _keeps(longest=lambda lines: max(map(len, lines)) < 1000),
              (True, _long(1000), "C", 0), (False, _long(1001), "C", 0)),
        _kept("digits are no letters: a table of numbers passed. (BigCode's filter "
              "counts isalnum, the paper alphabetic characters.)",
              _keeps(letters=lambda t: 4 * sum(map(str.isalnum, t)) >= len(t)),
              (False, ("a" + "1" * 18 + "\n") * 5, "C", 0)),
        _kept("letters are those of every script: a Chinese comment was dropped.",
              _keeps(letters=lambda t: 4 * len(re.findall("[A-Za-z]", t)) >= len(t)),
              (True, "# 文件的第一行\n" * 5, "Python", 0)),
        _kept("exactly 25 % of all characters, ends of lines too, is enough.",
              _keeps(letters=lambda t: 4 * sum(map(str.isalpha, t)) > len(t)),
              (True, ("a" * 5 + "1" * 14 + "\n") * 5, "C", 0),
              (False, ("a" * 4 + "1" * 15 + "\n") * 5, "C", 0),
              (False, ("a" * 5 + "1" * 15 + "\n") * 5, "C", 0)),
        _kept("XSLT is a programming language in XML: its header is no reason.",
              _keeps(xml=lambda text, language: "<?xml version=" not in text[:100]),
              (True, XML, "XSLT", 0)),
        _kept("the XML header counts wherever it stands in the first 100 characters, "
              "also behind a comment.",
              _keeps(xml=lambda text, language: (
                  language == "XSLT" or not text.startswith("<?xml version="))),
              (False, "<!-- a remark -->\n" + XML, "XML", 0)),
        _kept("the XML header is a reason in every language but XSLT: SVG is XML, too.",
              _keeps(xml=lambda text, language: (
                  language != "XML" or "<?xml version=" not in text[:100])),
              (False, XML, "SVG", 0)),
        _kept("an XML header behind the first 100 characters is no reason; one whose "
              "`=` is the hundredth is.",
              _keeps(xml=lambda text, language: (
                  language == "XSLT" or "<?xml version=" not in text)),
              *((n > 35, "x" * 50 + "\n" + "x" * n + XML, "SVG", 0) for n in (35, 36))),
        _kept("HTML needs both: 100 visible characters, and 20 % of the file. 100 of "
              "500 stays; 99 of 400 and 100 of 501 go.",
              _keeps(html=lambda text, n: n >= 100 or n >= len(text) / 5),
              (True, "<p>ab</p>\n" * 50, "HTML", 100),
              (False, "<p>ab</p>\n" * 40, "HTML", 99),
              (False, "<p>ab</p>\n" * 50 + "x", "HTML", 100)),
        _kept("JSON and YAML of 50 and of 5000 characters stay; 49 and 5001 go, and no "
              "other language has this limit.",
              _keeps(data=lambda text, language: (
                  language not in ("JSON", "YAML") or 50 < len(text) < 5000)),
              *((50 <= n <= 5000, "ab: c\n" * (n // 6) + "x" * (n % 6), name, 0)
                for n in (49, 50, 5000, 5001) for name in ("YAML", "JSON")),
              (True, "a = b\n" * 900, "Lua", 0)),
    ),
    hints=("One `if` for each row of the table; return False at the first objection.",
           "lines = text.splitlines(); sum(map(len, lines)) / len(lines) is the mean.",
           'XML: "<?xml version=" in text[:100] and language != "XSLT".'),
)
def keeps(text: str, language: str, visible: int) -> bool:
    """The six rules of DeepSeek-Coder-V2 §2 on the text of one file of code."""
    lines = text.splitlines()
    if sum(map(len, lines)) > 100 * len(lines) or max(map(len, lines)) > 1000:
        return False
    if sum(map(str.isalpha, text)) < 0.25 * len(text):
        return False
    if "<?xml version=" in text[:100] and language != "XSLT":
        return False
    if language == "HTML" and (visible < 100 or visible < 0.2 * len(text)):
        return False
    return language not in ("JSON", "YAML") or 50 <= len(text) <= 5000


_draw = random.Random(2)
SHINGLES = [_draw.getrandbits(64) for _ in range(40)]
FACTORS = [_draw.getrandbits(64) | 1 for _ in range(16)]
SMALL = [5, 3, 9]


def _mins(best: Answer = min, wrap: Answer = lambda x: x % 2**64) -> Answer:
    return lambda found, factors: [best(wrap(a * x) for x in found) for a in factors]


@exercise(
    "corpus.signature",
    rules=(
        Rule("give one number for each factor, in the order of the factors.",
             lambda answer: len(answer(SMALL, [1, 3])) == 2,
             lambda found, factors: [min(a * x for a in factors for x in found)]),
        Rule("factor 1 leaves the shingles 5, 3, 9 as they are: the smallest is 3.",
             lambda answer: answer(SMALL, [1])[0] == 3, _mins(max)),
        Rule("the products were not cut to 64 bits. Then a factor keeps the order of "
             "the shingles, and every 'permutation' has the same winner.",
             lambda answer: max(answer(SHINGLES, FACTORS)) < 2**64,
             _mins(wrap=lambda x: x)),
        Rule("the place of a number says which factor made it: do not sort them.",
             lambda answer: (given := [*answer(SHINGLES, FACTORS)]) != sorted(given),
             lambda *given: sorted(_mins()(*given))),
        Rule("40 shingles and 16 factors give another signature in the library. For "
             "each factor a, first cut every a · x to 64 bits, then take the smallest.",
             lambda answer: [int(x) for x in answer(SHINGLES, FACTORS)] == minhash(
                 np.array(SHINGLES, np.uint64), np.array(FACTORS, np.uint64)).tolist(),
             lambda found, factors: [
                 min(a * x for x in found) % 2**64 for a in factors]),
    ),
    hints=("For one factor a: multiply every shingle, cut to 64 bits, take the min.",
           "In Python % 2**64 cuts; NumPy's uint64 does it by itself."),
)
def signature(shingles: Iterable[int], factors: Sequence[int]) -> list[int]:
    """The smallest a · x mod 2^64 of all shingles x, for each odd factor a."""
    found = list(shingles)
    return [min(a * x % 2**64 for x in found) for a in factors]


EXAM = "Return the sum of all even entries of numbers or None for an empty list"
SHORT = "return price * amount"
BLOCK = "return THE sum,\n    of all   even entries: of numbers; or"


def _grams(words: Sequence[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(words[i:i + n]) for i in range(len(words) - n + 1)}


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _leaks(long: int = 10, short: int = 3, words: Answer = _words,
           exact: Answer = lambda d, p: " ".join(p.split()) in " ".join(d.split())
           ) -> Answer:
    def answer(document: str, problem: str) -> bool:
        if len(words(problem)) >= long:
            return bool(_grams(words(document), long) & _grams(words(problem), long))
        return len(words(problem)) >= short and exact(document, problem)
    return answer


@exercise(
    "corpus.leaks",
    rules=(
        Rule("ten words of the problem in a row are a leak, without the other five.",
             lambda answer: answer("x = 1  # " + " ".join(EXAM.split()[4:14]), EXAM),
             lambda d, p: " ".join(_words(p)) in " ".join(_words(d))),
        Rule("ten words in a row, with other capitals, commas and line breaks, are the "
             "same.", lambda answer: answer(BLOCK, EXAM), _leaks(words=str.split)),
        Rule("nine words in a row are no leak of a long problem.",
             lambda answer: not answer(" ".join(EXAM.split()[:9]) + " only", EXAM),
             _leaks(long=9)),
        Rule("`order` is not the word `or`: nine words and a piece of the tenth are no "
             "leak. Compare words, not pieces of a string.",
             lambda answer: not answer(" ".join(EXAM.split()[:10]) + "der", EXAM),
             lambda d, p: _leaks()(d, p) or any(
                 " ".join(g) in " ".join(_words(d)) for g in _grams(_words(p), 10))),
        Rule("digits belong to words: `x1` and `x2` are two words.",
             lambda answer: not answer(EXAM.replace(" ", "1 "), EXAM),
             _leaks(words=lambda text: re.findall("[a-z]+", text.lower()))),
        Rule("ten words that do not stand in a row are no leak.",
             lambda answer: not answer(" ".join(reversed(EXAM.split())), EXAM),
             lambda d, p: len({*_words(d)} & {*_words(p)}) > 9 or _leaks()(d, p)),
        Rule("a problem of exactly ten words is told by its words, like longer ones.",
             lambda answer: answer(BLOCK, " ".join(EXAM.split()[:10])),
             lambda d, p: len(_words(p)) > 10 and _leaks()(d, p)),
        Rule("a problem of 3 to 9 words leaks when it stands there as it is: `return "
             "price * amount`, with other spaces, or nine words.",
             lambda answer: answer("def pay():\n    return  " + SHORT[7:], SHORT)
             and answer("# " + EXAM, " ".join(EXAM.split()[:9])),
             _leaks(short=10)),
        Rule("`return (price, amount)` holds the words of it, not the string: short "
             "problems keep their case and symbols.",
             lambda answer: not answer("return (price, amount)", SHORT)
             and not answer("Return price * amount", SHORT),
             _leaks(exact=lambda d, p: " ".join(_words(p)) in " ".join(_words(d)))),
        Rule("a problem of two words would be everywhere: it is not looked for.",
             lambda answer: not answer("return x", "return x"), _leaks(short=1)),
    ),
    hints=('re.findall(r"\\w+", text.lower()) gives the words.',
           "Make a set of all runs of ten words of each text. Do the sets meet?",
           'Below ten words: " ".join(text.split()) evens out white space; then `in`.'),
)
def leaks(document: str, problem: str) -> bool:
    """Whether a document holds a piece of a test problem (DeepSeek-Coder §2.4)."""
    has, exam = (re.findall(r"\w+", text.lower()) for text in (document, problem))
    if len(exam) < 10:
        return len(exam) >= 3 and " ".join(problem.split()) in " ".join(
            document.split())
    ours, theirs = ({tuple(words[i:i + 10]) for i in range(len(words) - 9)}
                    for words in (has, exam))
    return bool(ours & theirs)


def _site(host: str, kept: int, pages: int) -> list[tuple[str, bool]]:
    return [(f"https://{host}/notes/{i}.html", i < kept) for i in range(pages)]


def _domains(own: Answer = lambda kept, pages, total: kept > pages / 10,
             name: Answer = lambda url: urlsplit(url).netloc) -> Answer:
    def answer(pages: Sequence[tuple[str, bool]]) -> set[str]:
        sites, total = defaultdict(list), sum(kept for _, kept in pages)
        for url, kept in pages:
            sites[name(url)].append(kept)
        return {one for one, kept in sites.items()
                if own(sum(kept), len(kept), total)}
    return answer


@exercise(
    "corpus.domains",
    rules=(
        Rule("give back a set of names.", lambda answer: isinstance(answer([]), set),
             lambda pages: [*_domains()(pages)]),
        Rule("all pages like https://maths.example/n/0 were kept: {'maths.example'}.",
             lambda answer: answer(_site("maths.example", 20, 20)) == {"maths.example"},
             _domains(name=lambda url: url.rsplit("/", 1)[0])),
        Rule("a.example has 9 of 200 pages kept, which is 4.5 % of its pages. That "
             "they are all the kept pages there are is another share.",
             lambda answer: answer(_site("a.example", 9, 200)
                                   + _site("b.example", 0, 5)) == set(),
             _domains(lambda kept, pages, total: kept > total / 10)),
        Rule("10 kept pages of 100 are 10 %, and not more than 10 %.",
             lambda answer: not answer(_site("a.example", 10, 100)),
             _domains(lambda kept, pages, total: kept >= pages / 10)),
        Rule("a small site with 1 kept page of 3 is above 10 %: the share counts, not "
             "the number.", lambda answer: "b.example" in answer(
                 _site("a.example", 20, 99) + _site("b.example", 1, 3)),
             _domains(lambda kept, pages, total: kept > 10)),
        Rule("11 kept pages of 100 and 2 of 10 are above 10 %, 1 of 10 is not.",
             lambda answer: answer(
                 _site("a.example", 11, 100) + _site("b.example", 1, 10)
                 + _site("c.example", 2, 10)) == {"a.example", "c.example"},
             _domains(lambda kept, pages, total: kept > 0.11 * pages)),
    ),
    hints=("from urllib.parse import urlsplit: urlsplit(url).netloc is the domain. "
           "Count its pages and its kept pages.",
           "Compare kept > 0.10 * pages for each domain by itself."),
)
def domains(pages: Sequence[tuple[str, bool]]) -> set[str]:
    """Domains of which more than 10 % of the pages were kept (DeepSeekMath §2.1)."""
    sites: dict[str, list[bool]] = {}
    for url, kept in pages:
        sites.setdefault(urlsplit(url).netloc, []).append(kept)
    return {name for name, kept in sites.items() if sum(kept) > 0.10 * len(kept)}
