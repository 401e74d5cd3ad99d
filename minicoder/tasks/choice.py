"""Multiple choice in the MMLU format: a generated quiz, and a reader of its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Result
from minicoder.tasks.draw import Draw
from minicoder.tasks.item import compared
from minicoder.tasks.records import read_records, text_field

LETTERS = "ABCD"
SIZE = 20_000
# OpenAI simple-evals: the first letter after "Answer:" counts, so naming all four is
# no better than naming the first; here a word that begins with A to D is no letter
ANSWER = re.compile(r"Answer[ \t]*:[ \t]*[*$(]{0,3}(?:\\boxed\{)?([A-D])(?![A-Za-z'])",
                    re.IGNORECASE)


def letter_in(answer: str) -> str | None:
    """The letter that an answer gives."""
    found = ANSWER.search(answer.replace("**", ""))
    return found[1].upper() if found else None


@dataclass(frozen=True)
class Choice:
    """A question with four options, of which one, `letter`, is right."""

    task_id: str
    family: str
    stem: str
    options: tuple[str, ...]
    letter: str
    difficulty: int = 3

    @property
    def question(self) -> str:
        """The user's turn, which says how to answer."""
        listed = "\n".join(f"{letter}) {option}" for letter, option in
                           zip(LETTERS, self.options, strict=True))
        return (f"{self.stem}\n\n{listed}\n\nThink step by step, then end with a line "
                "\"Answer: X\", where X is one of A, B, C, D.")

    @property
    def reference(self) -> str:
        """The line that is asked for."""
        return f"Answer: {self.letter}"

    def grade(self, answer: str, sandbox: Sandbox) -> Result:
        """Compares the letter; runs nothing."""
        found = letter_in(answer)
        return compared(found == self.letter, found, self.letter)


def _remainder(draw: Draw) -> tuple[str, object, list[object]]:
    a, b = draw.number(20, 199), draw.number(3, 12)
    return (f"What is {a} % {b} in Python?", a % b,
            [a // b, (a + 1) % b, b - a % b, a % b + b])


def _slice(draw: Draw) -> tuple[str, object, list[object]]:
    word = "".join(draw.some("abcdefghijklmnopqrstuvwxyz", 6))
    i, j = draw.number(0, 2), draw.number(3, 5)
    return (f"What is {word!r}[{i}:{j}] in Python?", repr(word[i:j]),
            [repr(w) for w in (word[i:j + 1], word[i + 1:j], word[i + 1:j + 1], word)])


def _base(draw: Draw) -> tuple[str, object, list[object]]:
    n = draw.number(18, 4000)
    return (f"Which number has the hexadecimal digits {n:x} ?", n,
            [n + 16, n - 1, n + 6, n - 16])


def _truth(draw: Draw) -> tuple[str, object, list[object]]:
    a, b, c = (draw.one((True, False)) for _ in range(3))
    x, y = draw.number(2, 40), draw.number(2, 40)
    value = (x if a else 0) or (y if b and not c else "none")
    return (f"What is ({x} if {a} else 0) or ({y} if {b} and not {c} else 'none') in "
            "Python?", repr(value), [x, y, "'none'", True, 0, x + y])


def _loops(draw: Draw) -> tuple[str, object, list[object]]:
    n, m, low = draw.number(5, 30), draw.number(2, 7), draw.number(0, 4)
    return ("How often does the body of the inner loop run?\n\nfor i in "
            f"range({low}, {n}):\n    for j in range(i, {n}, {m}):\n        pass",
            sum(len(range(i, n, m)) for i in range(low, n)),
            [n * n, n * (n + 1) // 2, n * (n // m), n * n // m, n * m])


TOPICS = (_remainder, _slice, _base, _truth, _loops)  # from easy to hard


def _drawn(index: int) -> tuple[str, list[str], str]:
    """Stem, the four options in their order, and the right one."""
    draw = Draw("choice", index)
    stem, right, wrong = TOPICS[index % 5](draw)
    near = [right + n for n in (1, 2, 3)] if isinstance(right, int) else []
    others = list(dict.fromkeys(str(w) for w in wrong + near if str(w) != str(right)))
    options = [str(right), *others[:3]]
    return stem, Draw(stem).some(options, 4), str(right)


def behaviour(index: int) -> str:
    """The stem: what is asked, whatever the order of the options."""
    return _drawn(index)[0]


def make(index: int) -> Choice:
    """Question number `index` of the quiz."""
    stem, options, right = _drawn(index)
    return Choice(f"choice/{index}", "choice", stem, tuple(options),
                  LETTERS[options.index(right)], index % 5 + 1)


def from_record(record: dict[str, Any], number: int) -> Choice:
    """A line of an MMLU file; ValueError names the field that is wrong."""
    options, letter = record.get("options"), text_field(record, "answer")
    if isinstance(options, list):  # pandas reads the word None as missing: NaN
        options = ["None" if option != option else option for option in options]
    if not (isinstance(options, list) and len(options) == len(LETTERS)
            and all(isinstance(option, str) for option in options)):
        raise ValueError(f"field 'options' must be four texts, found {options!r:.80}")
    if letter not in tuple(LETTERS):
        raise ValueError(f"field 'answer' must be one of A, B, C, D, found {letter!r}")
    topic = record.get("subject") or record.get("topic") or "mmlu"
    return Choice(f"mmlu/{topic}/{number}", "mmlu", text_field(record, "question"),
                  tuple(options), letter)


def read_mmlu(path: Path) -> list[Choice]:
    """The questions of an MMLU file, as JSON lines; UserError names file and line."""
    return read_records(path, from_record)
