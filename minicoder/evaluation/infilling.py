"""Single-line infilling: is the missing line written back exactly? (Coder-V2 §4.2.2)"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from minicoder.data.fim import infill_prompt
from minicoder.evaluation.intervals import wilson
from minicoder.model.generate import generate
from minicoder.model.transformer import MiniCoder
from minicoder.progress import progress
from minicoder.tokenizer import Tokenizer


@dataclass(frozen=True)
class Hole:
    """A few lines of a file with one of them cut out, line end included."""

    prefix: str
    middle: str
    suffix: str


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
