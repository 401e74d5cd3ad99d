"""Contest problems: a program reads stdin and writes stdout; problems have dates.

In kind LiveCodeBench (windows of dates: what was published after a model's data cannot
have been in it) and USACO.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from minicoder.execution.languages import LANGUAGES
from minicoder.execution.programs import judge_stdin
from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Result
from minicoder.tasks.answers import fenced, program_in

LEVELS = {"easy": 1, "medium": 3, "hard": 5}  # of LiveCodeBench


@dataclass(frozen=True)
class Contest:
    """One problem; `tests` are (stdin, expected stdout), `examples` of them are shown.

    `solution` is a program in `language` that passes; empty if none is known.
    """

    task_id: str
    statement: str
    tests: tuple[tuple[str, str], ...]
    date: str  # of publication, YYYY-MM-DD
    difficulty: int
    platform: str
    solution: str = ""
    language: str = "python"
    examples: int = 1
    family: str = "contests"

    @property
    def question(self) -> str:
        """The statement, what to write, and the tests that are shown."""
        shown = "\n\n".join(f"Input:\n{given.rstrip()}\nOutput:\n{wanted.rstrip()}"
                            for given, wanted in self.tests[:self.examples])
        return (f"{self.statement}\n\nWrite a whole program in {self.language} that "
                "reads standard input and writes standard output. Answer with one code "
                f"block.\n\n{shown}").rstrip()

    @property
    def reference(self) -> str:
        """The known solution, in a code block."""
        return fenced(self.solution, self.language)

    def grade(self, answer: str, sandbox: Sandbox) -> Result:
        """Compiles the program of an answer once and runs it on every input."""
        program = program_in(answer, self.language).encode()
        return judge_stdin(sandbox, self.language,
                           {LANGUAGES[self.language].file: program}, list(self.tests))


def window(problems: Iterable[Contest], first: str, last: str) -> list[Contest]:
    """The problems published from `first` to `last`, both included (YYYY-MM-DD)."""
    return [one for one in problems if first <= one.date <= last]


def weighted_mean(groups: Mapping[str, tuple[int, float]]) -> float:
    """The score over all problems, from (number of problems, score) of each group.

    Coder-V2 table 4: 82 easy at 84.1, 87 medium at 29.9, 57 hard at 5.3 give 43.36.
    """
    return (sum(count * score for count, score in groups.values())
            / sum(count for count, _ in groups.values()))


def by_difficulty(problems: Sequence[Contest], scores: Sequence[float]
                  ) -> dict[str, tuple[int, float]]:
    """(number of problems, mean score) of easy (1, 2), medium (3) and hard (4, 5)."""
    of = [("easy", "easy", "medium", "hard", "hard")[one.difficulty - 1]
          for one in problems]
    grouped = {name: [score for score, level in zip(scores, of, strict=True)
                      if level == name] for name in LEVELS}
    return {name: (len(found), sum(found) / len(found))
            for name, found in grouped.items() if found}


def _text(record: Mapping[str, Any], field: str) -> str:
    if not isinstance(record.get(field), str):
        raise ValueError(f"field {field!r} must be text, found {record.get(field)!r}")
    return record[field]


def _day(record: Mapping[str, Any], field: str) -> str:
    day = _text(record, field)[:10]
    try:
        return date.fromisoformat(day).isoformat()
    except ValueError:
        raise ValueError(
            f"field {field!r} must be a date, YYYY-MM-DD, found {day!r}") from None


def _tests(found: Any, field: str) -> tuple[tuple[str, str], ...]:
    """Tests as pairs, or as LiveCodeBench's objects, which may stand in a text."""
    try:
        pairs = [(t["input"], t["output"]) if isinstance(t, dict) else tuple(t)
                 for t in (json.loads(found) if isinstance(found, str) else found)]
        if (pairs or field.startswith("private")) and all(
                len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], str)
                for pair in pairs):
            return tuple(pairs)
    except (KeyError, TypeError, ValueError):
        pass
    raise ValueError(f"field {field!r} must be a list of [stdin, stdout], found "
                     f"{str(found)[:40]!r}")


def from_record(record: Mapping[str, Any]) -> Contest:
    """A problem of our own form or of LiveCodeBench's; ValueError if it is bad.

    LiveCodeBench packs its private tests as a pickle, which is code: they are not read.
    Save them as JSON first.
    """
    if "question_content" in record:
        level = _text(record, "difficulty")
        if level not in LEVELS:
            raise ValueError(f"field 'difficulty' must be one of {', '.join(LEVELS)}, "
                             f"found {level!r}")
        public = _tests(record.get("public_test_cases"), "public_test_cases")
        hidden = _tests(record.get("private_test_cases", []), "private_test_cases")
        return Contest(
            f"{_text(record, 'platform')}/{_text(record, 'question_id')}",
            _text(record, "question_content"), public + hidden,
            _day(record, "contest_date"), LEVELS[level], _text(record, "platform"),
            examples=len(public))
    level = record.get("difficulty")
    if type(level) is not int or level not in range(1, 6):
        raise ValueError(f"field 'difficulty' must be 1 to 5, found {level!r}")
    return Contest(
        _text(record, "task_id"), _text(record, "statement"),
        _tests(record.get("tests"), "tests"), _day(record, "date"), level,
        _text(record, "platform"), record.get("solution", ""),
        record.get("language", "python"), record.get("examples", 1),
        record.get("family", "contests"))
