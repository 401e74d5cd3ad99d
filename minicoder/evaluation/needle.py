"""Scoring needles: an answer counts when greedy decoding would write it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from minicoder.data.needles import (
    needle_tokens,
    tokenized_lines,
    without_rivals,
)
from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Result
from minicoder.model.transformer import MiniCoder
from minicoder.progress import progress
from minicoder.tasks.item import compared
from minicoder.tokenizer import Tokenizer

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Needle:
    """A needle as a task: text that ends with the question, and the letter it asks for.

    `tokens` is the text for one tokenizer, since that decides how much a window holds.
    """

    task_id: str
    tokens: tuple[int, ...]
    question: str
    reference: str
    difficulty: int
    family: str = "needle"

    def grade(self, answer: str, sandbox: Sandbox) -> Result:
        """Compares the first character; runs nothing."""
        return compared(answer[:1] == self.reference, answer[:1], self.reference)


def needles(tokenizer: Tokenizer, text: str, window: int, count: int, seed: int
            ) -> list[Needle]:
    """`count` needles at five depths in turn, in texts of an eighth, a quarter, a half
    and the whole of a window (difficulty 1 to 4); one token is left for the answer.
    """
    lines = without_rivals(tokenizer, tokenized_lines(tokenizer, text))
    found = []
    for i in range(count):
        size, draw = i // len(DEPTHS) % 4, random.Random(f"{seed} needle {i}")
        ids, (answer,) = needle_tokens(tokenizer, lines, window >> (3 - size),
                                       DEPTHS[i % len(DEPTHS)], draw)
        found.append(Needle(f"needle/{i}", tuple(ids[:answer]),
                            tokenizer.decode(ids[1:answer]),
                            tokenizer.decode(ids[answer:]), size + 1))
    return found


@torch.no_grad()
def needle_grid(model: MiniCoder, tokenizer: Tokenizer, text: str,
                lengths: Sequence[int], depths: Sequence[float], trials: int = 10,
                seed: int = 0, rivals: bool = False) -> list[list[float]]:
    """Share of needles found: a row per depth, a column per length in tokens.

    With `rivals` the straw keeps its other capital letters (`without_rivals`).
    """
    lines, device = tokenized_lines(tokenizer, text), model.lm_head.weight.device
    lines = lines if rivals else without_rivals(tokenizer, lines)
    grid = [[0.0] * len(lengths) for _ in depths]
    cells = [(r, c) for c in range(len(lengths)) for r in range(len(depths))]
    for row, column in progress(cells, "needle", "cell"):
        draw = random.Random(f"{seed} {row} {column}")
        for _ in range(trials):
            ids, (answer,) = needle_tokens(
                tokenizer, lines, lengths[column], depths[row], draw)
            tokens = torch.tensor([ids[:answer]], device=device)
            guess = model.lm_head(model.model(tokens)[:, -1]).argmax().item()
            grid[row][column] += (guess == ids[answer]) / trials
    return grid
