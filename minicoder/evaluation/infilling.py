"""Infilling: is the missing line written back exactly, and does the program run?

Coder-V2 §4.2.2 compares single lines; HumanEval-Infilling (arXiv 2207.14255) runs the
program around a line, several lines or any span.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minicoder.data.fim import infill_prompt
from minicoder.evaluation.intervals import wilson
from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Result
from minicoder.model.generate import generate
from minicoder.model.transformer import MiniCoder
from minicoder.progress import progress
from minicoder.tasks.records import read_records, text_field
from minicoder.tokenizer import Tokenizer

SPAN = ("prompt", "canonical_solution", "suffix")   # what a file calls a hole's pieces


@dataclass(frozen=True)
class Hole:
    """A few lines of a file with one of them cut out, line end included."""

    prefix: str
    middle: str
    suffix: str


@dataclass(frozen=True)
class Span:
    """A span cut out of a right program; an answer passes when the program does."""

    task_id: str
    family: str
    hole: Hole
    entry_point: str
    test: str
    difficulty: int = 3

    @property
    def question(self) -> str:
        """The program with its hole."""
        return f"{self.hole.prefix}<FILL>{self.hole.suffix}"

    @property
    def reference(self) -> str:
        """What was cut out."""
        return self.hole.middle

    @property
    def one_line(self) -> bool:
        """Whether one whole line is missing: then the answer's first line counts."""
        return self.family.startswith("SingleLine")

    def filled(self, answer: str) -> str:
        """The program with the answer in its hole."""
        if self.one_line:
            answer = answer.lstrip("\n").split("\n")[0] + "\n"
        return self.hole.prefix + answer + self.hole.suffix

    def exact(self, answer: str) -> bool:
        """Whether the answer is what was cut out, spaces around it apart."""
        said = first_line(answer) if self.one_line else answer.strip()
        return said == self.hole.middle.strip()

    def grade(self, answer: str, sandbox: Sandbox) -> Result:
        """Runs the filled program's tests."""
        return sandbox.judge(self.filled(answer), self.test, self.entry_point)


def read_spans(path: Path) -> list[Span]:
    """The tasks of a HumanEval-Infilling file; UserError names file and line."""
    def make(record: dict[str, Any], number: int) -> Span:
        task_id, entry_point, test = (
            text_field(record, name) for name in ("task_id", "entry_point", "test"))
        pieces = [record.get(name) for name in SPAN]
        if not all(isinstance(piece, str) for piece in pieces):
            raise ValueError(f"fields {', '.join(SPAN)} must be text")
        return Span(task_id, task_id.split("/")[0], Hole(*pieces), entry_point, test)
    return read_records(path, make)


def single_line_holes(texts: Sequence[str], count: int, lines: int = 2, seed: int = 0,
                      ) -> list[Hole]:
    """Cut one line each out of `count` places, with up to `lines` lines on each side.

    Any line that is not blank may be cut out, comments and documentation too; one place
    per file and round, so that a long file does not count for more, and none twice.
    """
    draw, holes = random.Random(seed), []
    left = [(rows, [i for i in range(2, len(rows) - 2)
                    if rows[i].strip() and len(rows[i]) <= 80])
            for rows in (text.split("\n") for text in texts)]
    while len(holes) < count and (left := [pair for pair in left if pair[1]]):
        for rows, places in left[:count - len(holes)]:
            i = places.pop(draw.randrange(len(places)))
            before, after = rows[max(0, i - lines):i], rows[i + 1:i + 1 + lines]
            holes.append(Hole("".join(r + "\n" for r in before), rows[i] + "\n",
                              "".join(r + "\n" for r in after)))
    return holes


def first_line(text: str) -> str:
    """What is compared: up to the first line break, without the space around it."""
    return text.lstrip("\n").split("\n")[0].strip()


def infill_lines(model: MiniCoder, tokenizer: Tokenizer, holes: Sequence[Hole],
                 suffix: bool, new_tokens: int = 32, batch: int = 64) -> list[str]:
    """Greedy answers for every hole, seeing both sides, or the prefix alone."""
    prompts = [infill_prompt(h.prefix, h.suffix, tokenizer) if suffix
               else [tokenizer.bos, *tokenizer.encode(h.prefix)] for h in holes]
    room = model.config.max_position_embeddings - new_tokens
    answers: list[str] = []
    for start in progress(range(0, len(prompts), batch), "infilling", "batch"):
        group = [p[:1] + p[1:][-room + 1:] if not suffix else p
                 for p in prompts[start:start + batch]]
        answers += [tokenizer.decode(a) for a in generate(
            model, group, new_tokens, end=tokenizer.eos)]
    return [first_line(a) for a in answers]


def exact_match(model: MiniCoder, tokenizer: Tokenizer, holes: Sequence[Hole]
                ) -> dict:
    """Share of lines written back exactly: seeing both sides, and the prefix alone."""
    window = model.config.max_position_embeddings - 32
    holes = [h for h in holes
             if len(infill_prompt(h.prefix, h.suffix, tokenizer)) <= window]
    wanted = [h.middle.strip() for h in holes]
    both = infill_lines(model, tokenizer, holes, suffix=True)
    alone = infill_lines(model, tokenizer, holes, suffix=False)
    examples = [asdict(h) | {"generated": got, "exact": got == want}
                for h, want, got in zip(holes, wanted, both, strict=True)]
    right = [e for e in examples if e["exact"]]
    wrong = [e for e in examples if not e["exact"]]
    return {
        "fim": wilson(len(right), len(holes)),
        "prefix_only": wilson(
            sum(a == w for a, w in zip(alone, wanted, strict=True)), len(holes)),
        "examples": [*right[:6], *wrong[:4]],
    }
