"""Scoring needles: an answer counts when greedy decoding would write it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from minicoder.data.needles import (
    needle_tokens,
    tokenized_lines,
    without_rivals,
)
from minicoder.model.transformer import MiniCoder
from minicoder.progress import progress
from minicoder.tokenizer import Tokenizer


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
