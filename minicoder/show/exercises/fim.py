"""The exercises of the lesson on infilling (notebook 03), and what they catch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from minicoder.config import PRESETS, ModelConfig, parameter_count
from minicoder.show.check import Rule, exercise
from minicoder.tokenizer import EOS, FIM_BEGIN, FIM_END, FIM_HOLE

Answer = Callable[..., Any]


def _on(wanted: Any, *args: Any) -> Callable[[Answer], bool]:
    """Hold when an answer gives `wanted` on these arguments."""
    return lambda answer: answer(*args) == wanted


def _mistake(message: str, run: Answer, wrong: Answer) -> Rule:
    """The rule that an answer must not give what `wrong` gives."""
    return Rule(message, lambda answer: run(answer) != run(wrong), wrong)


def _shuffle(*parts: str, cuts: Answer = sorted, tidy: Answer = str) -> Answer:
    """An arrangement of "p", "m", "s" and specials, right for the right parts."""
    def answer(text: str, first: int, second: int) -> str:
        low, high = cuts((first, second))
        pieces = {"p": text[:low], "m": text[low:high], "s": text[high:]}
        return "".join(tidy(pieces[part]) if part in pieces else part for part in parts)
    return answer


PSM = (FIM_BEGIN, "p", FIM_HOLE, "s", FIM_END, "m", EOS)
_plain = _shuffle(*PSM)


def _letters(answer: Answer) -> str:
    """`abcdefgh` cut at 2 and 5."""
    return answer("abcdefgh", 2, 5)


def _bare(answer: Answer) -> str:
    """The same without special tokens."""
    return re.sub("<[^>]*>", "", _letters(answer))


@exercise(
    "fim.psm",
    rules=(
        Rule("a letter was lost or doubled: each of abcdefgh must stand there once. "
             "The suffix begins *at* the second cut.",
             lambda answer: sorted(_bare(answer)) == list("abcdefgh"),
             lambda text, first, second: FIM_BEGIN + text[:first] + FIM_HOLE
             + text[second + 1:] + FIM_END + text[first:second] + EOS),
        _mistake("the middle stands in its old place. It must come last, or it cannot "
                 "see the suffix.", _letters,
                 _shuffle(FIM_BEGIN, "p", FIM_HOLE, "m", FIM_END, "s", EOS)),
        _mistake("hole and end are exchanged: the *hole* opens the suffix, and after "
                 "the *end* the middle is written.", _letters,
                 _shuffle(FIM_BEGIN, "p", FIM_END, "s", FIM_HOLE, "m", EOS)),
        _mistake("EOS is missing: the model would never learn where a middle stops.",
                 _letters, _shuffle(*PSM[:-1])),
        Rule("abcdefgh cut at 2 and 5 must be begin, ab, hole, fgh, end, cde, EOS, and "
             "nothing else.", lambda answer: _letters(answer) == _letters(_plain),
             _shuffle(FIM_BEGIN, "s", FIM_HOLE, "p", FIM_END, "m", EOS)),
        Rule("cut points come in any order: psm(text, 5, 2) is psm(text, 2, 5).",
             lambda answer: answer("abcdefgh", 5, 2) == _letters(answer),
             _shuffle(*PSM, cuts=tuple)),
        Rule("two equal cuts leave an empty middle, and the text is shuffled all the "
             "same: the model learns that a hole may need nothing.",
             _on(_plain("abcd", 2, 2), "abcd", 2, 2),
             lambda text, first, second: text + EOS if first == second
             else _plain(text, first, second)),
        Rule("white space is part of the text: add none, remove none.",
             _on(_plain("if x:\n  y = 1\n", 6, 8), "if x:\n  y = 1\n", 6, 8),
             _shuffle(*PSM, tidy=str.strip)),
    ),
    hints=("Sort the cuts. text[:low], text[low:high], text[high:] join to the text.",
           "begin, prefix, hole, suffix, end, middle, EOS."),
)
def psm(text: str, first: int, second: int) -> str:
    """A text cut at two places, in the order of DeepSeek-Coder-V2 §3.1."""
    low, high = sorted((first, second))
    return (FIM_BEGIN + text[:low] + FIM_HOLE + text[high:] + FIM_END
            + text[low:high] + EOS)


def _line(text: str) -> str:
    return text.lstrip("\n").split("\n")[0].strip()


@exercise(
    "fim.exact",
    rules=(
        Rule("an answer that is the missing line, line end and all, must count.",
             _on(True, "    x = 1\n", "    x = 1\n"),
             lambda answer, wanted: answer.split("\n")[0] == wanted),
        Rule("a model that goes on after the line is not wrong: compare the first "
             "line alone.", _on(True, "    x = 1\n    y = 2\n", "    x = 1\n"),
             lambda answer, wanted: answer == wanted),
        Rule("space around the line does not count.",
             _on(True, "x = 1 \n", "    x = 1\n"),
             lambda answer, wanted: answer.split("\n")[0] == wanted.rstrip("\n")),
        Rule("space behind the first line does not count either when more lines "
             "follow: strip the line, not the whole answer.",
             _on(True, "    x = 1  \ny = 2\n", "    x = 1\n"),
             lambda answer, wanted: answer.strip().split("\n")[0] == wanted.strip()),
        Rule("empty lines before the line do not count: the *first* line is the first "
             "that is not empty.", _on(True, "\n\nx = 1\n", "    x = 1\n"),
             lambda answer, wanted: answer.split("\n")[0].strip() == wanted.strip()),
        Rule("space inside a line counts, since it may stand in a string: neither x=1 "
             "nor x  =  1 is x = 1.",
             lambda answer: not answer("x=1\n", "x = 1\n")
             and not answer("x  =  1\n", "x = 1\n"),
             lambda answer, wanted: _line(answer).split() == wanted.split()),
        Rule("x = 10 begins like x = 1 and is another line.",
             _on(False, "x = 10\n", "x = 1\n"),
             lambda answer, wanted: _line(answer).startswith(wanted.strip())),
        Rule("an empty answer is wrong, not a part of the right one.",
             _on(False, "", "x = 1\n"),
             lambda answer, wanted: _line(answer) in wanted),
    ),
    hints=("Drop line breaks at the front of the answer, then take what stands before "
           "the next one.", "strip() both, and compare with ==."),
)
def exact(answer: str, wanted: str) -> bool:
    """Whether an answer's first line is the one that was cut out (Coder-V2 §4.2.2)."""
    return answer.lstrip("\n").split("\n")[0].strip() == wanted.strip()


def _new(answer: Answer) -> int:
    """Behind 500 tokens, before 300."""
    return answer(500, 300, "psm")


@exercise(
    "fim.fresh",
    rules=(
        Rule("in SPM the suffix was read before the prefix and did not change: only "
             "the new token is read.", _on(1, 500, 300, "spm"),
             lambda prefix, suffix, order: suffix + 3),
        _mistake("in PSM the suffix stands behind the new token. What was computed for "
                 "it saw a shorter prefix, so it must be read again.", _new,
                 lambda prefix, suffix, order: 1),
        _mistake("the prefix stands before the new token and did not change; its part "
                 "of the cache is kept.", _new,
                 lambda prefix, suffix, order:
                     1 if order == "spm" else prefix + suffix + 4),
        _mistake("hole and end move as well: in PSM both stand behind the new token.",
                 _new,
                 lambda prefix, suffix, order: 1 if order == "spm" else suffix + 1),
        _mistake("count the new token itself, too.", _new,
                 lambda prefix, suffix, order: 1 if order == "spm" else suffix + 2),
        Rule("an empty suffix costs 3: hole and end are still there.",
             _on(3, 500, 0, "psm"), lambda prefix, suffix, order:
                 1 if order == "spm" or not suffix else suffix + 3),
    ),
    hints=("Write both prompts down, with one token more at the end of the prefix. "
           "From which place on do they differ?",
           "A cache can be kept up to the first token that differs.",
           "SPM: begin hole suffix end prefix. PSM: begin prefix hole suffix end."),
)
def fresh(prefix: int, suffix: int, order: str) -> int:
    """Tokens to read when one more was typed (Bavarian et al. §3 on SPM)."""
    return 1 if order == "spm" else suffix + 3


def _borders(start: int, stop: int, row: int) -> int:
    """Borders of rows strictly inside (start, stop)."""
    return sum(start < border < stop for border in range(0, stop + row, row))


def _counting(count: Answer, every: bool = False) -> Answer:
    """Walk over the documents and add `count(start, stop, row)` of shuffled ones."""
    def answer(lengths: Sequence[int], shuffled: Sequence[bool], row: int) -> int:
        found = start = 0
        for length, moved in zip(lengths, shuffled, strict=True):
            found += (moved or every) * int(count(start, start + length, row))
            start += length
        return found
    return answer


MIXED = ([30, 50, 40, 60, 300, 20], [True, False, True, False, True, True])


@exercise(
    "fim.cut",
    rules=(
        Rule("three documents of 60 fill 180 places: the second lies on the border at "
             "100. Documents stand one after the other, so add their lengths up.",
             _on(1, [60, 60, 60], [True] * 3, 100),
             _counting(lambda start, stop, row: stop - start > row)),
        Rule("only shuffled documents are asked for.",
             _on(0, [60, 60], [True, False], 100),
             _counting(lambda *where: _borders(*where) > 0, every=True)),
        Rule("a document that ends exactly at a border is whole, and so is the next.",
             _on(0, [60, 40, 70], [True] * 3, 100),
             _counting(lambda start, stop, row: start // row != stop // row)),
        Rule("count documents, not borders: one of 300 tokens is cut more than once.",
             _on(1, [50, 300], [False, True], 100), _counting(_borders)),
        Rule(f"for the lengths {MIXED[0]}, all but the second and fourth shuffled, in "
             "rows of 100, there are 2.", _on(2, *MIXED, 100),
             lambda lengths, shuffled, row: int(
                 _counting(lambda *where: _borders(*where) > 0)(
                     lengths, shuffled, row) > 0)),
    ),
    hints=("Keep the place where the next document starts.",
           "Compare the rows of its first and of its last token, at stop - 1."),
)
def cut(lengths: Sequence[int], shuffled: Sequence[bool], row: int) -> int:
    """Shuffled documents that do not lie in one row."""
    found, start = 0, 0
    for length, moved in zip(lengths, shuffled, strict=True):
        found += moved and start // row != (start + length - 1) // row
        start += length
    return found


FULL, LITE = PRESETS["full_236b"], PRESETS["lite_16b"]


def _near(wanted: float, *args: Any) -> Callable[[Answer], bool]:
    """`_on` for numbers that may be rounded."""
    return lambda answer: abs(answer(*args) / wanted - 1) < 0.01


def _seconds(config: ModelConfig, tokens: int, bandwidth: float) -> float:
    return 2 * parameter_count(config, activated=True) * tokens / bandwidth


def _unlike(wrong: Answer) -> Callable[[Answer], bool]:
    return lambda answer: not _near(wrong(FULL, 10, 2e12), FULL, 10, 2e12)(answer)


@exercise(
    "fim.wait",
    rules=tuple(Rule(message, _unlike(wrong), wrong) for message, wrong in (
        ("all 236 billion parameters are read; a token uses the activated ones alone.",
         lambda config, tokens, bandwidth:
             2 * parameter_count(config) * tokens / bandwidth),
        ("half of the true time: a parameter in bf16 has two bytes.",
         lambda *given: _seconds(*given) / 2),
        ("this is the time of one token; each of them reads the weights again.",
         lambda config, tokens, bandwidth: _seconds(config, 1, bandwidth)),
        ("these are milliseconds; give seconds.",
         lambda *given: 1000 * _seconds(*given)),
        ("upside down: bytes divided by bytes a second are seconds.",
         lambda *given: 1 / _seconds(*given)))) + (
        Rule("for Lite, 20 tokens and 1e12 bytes a second it must be "
             f"{_seconds(LITE, 20, 1e12):.3f} s.",
             _near(_seconds(LITE, 20, 1e12), LITE, 20, 1e12),
             lambda config, tokens, bandwidth: _seconds(FULL, tokens, bandwidth)),),
    hints=("parameter_count(config, activated=True) counts what a token uses.",
           "parameters × 2 bytes × tokens / (bytes a second)."),
)
def wait(config: ModelConfig, tokens: int, bandwidth: float) -> float:
    """Seconds to read the weights for a suggestion, token after token."""
    return 2 * parameter_count(config, activated=True) * tokens / bandwidth
