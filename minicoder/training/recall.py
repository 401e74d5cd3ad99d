"""Learning to look back: needles and middles, with the loss on their answers alone.

Among the losses of all the tokens around them, a few answers are noise; alone, they
are learnt in a hundred steps. The paper raises the share of long documents instead
(§3.4); this is our way for a model that sees a million tokens.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from minicoder.data.needles import recall_row
from minicoder.data.packing import Shards
from minicoder.model.transformer import MiniCoder
from minicoder.tokenizer import Tokenizer
from minicoder.training.loop import IGNORE, StepLoss, token_losses

STRAW = 300  # rows of the corpus that the hay is taken from

# inputs and targets of a step, (B, T) each; targets are `IGNORE` but for the answers
Answers = Callable[[int], tuple[Tensor, Tensor]]


class Recall:
    """Batches of needle documents, a pure function of the step."""

    def __init__(self, tokenizer: Tokenizer, shards: Shards, rows: int, length: int,
                 seed: int) -> None:
        self.tokenizer, self.rows, self.length = tokenizer, rows, length
        self.seed = seed
        straw = np.asarray(shards.rows[:STRAW]).flatten()
        (newline,) = tokenizer.encode("\n")
        lines = np.split(straw, np.flatnonzero(straw == newline) + 1)
        self.lines = [line[line < tokenizer.bos].tolist() for line in lines]

    def __call__(self, step: int) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """Inputs, and targets that are `IGNORE` but for the answers."""
        tokens = torch.zeros(self.rows, self.length + 1, dtype=torch.long)
        targets = torch.full((self.rows, self.length), IGNORE)
        for row in range(self.rows):
            ids, places = recall_row(self.tokenizer, self.lines, self.length + 1,
                                     random.Random(f"{self.seed} {step} {row}"))
            tokens[row] = torch.tensor(ids)
            where = torch.tensor(places, dtype=torch.long) - 1
            targets[row, where] = tokens[row, where + 1]
        return tokens[:, :-1], targets


class Middles:
    """Batches of the shuffled pieces of a packed corpus, one piece a row."""

    def __init__(self, tokenizer: Tokenizer, shards: Shards, rows: int, seed: int
                 ) -> None:
        self.tokenizer, self.rows, self.seed = tokenizer, rows, seed
        self.pieces = shuffled_pieces(np.asarray(shards.rows), tokenizer)

    def __call__(self, step: int) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """Inputs, and targets that are `IGNORE` but for the middles and their ends."""
        draw = random.Random(f"{self.seed} {step}")
        chosen = [draw.choice(self.pieces) for _ in range(self.rows)]
        length = max(map(len, chosen)) - 1
        tokens = torch.zeros(self.rows, length, dtype=torch.long)
        targets = torch.full((self.rows, length), IGNORE)
        for row, piece in enumerate(chosen):
            ids = torch.from_numpy(piece.astype(np.int64))
            middle = int((ids == self.tokenizer.fim_end).nonzero()[0])
            tokens[row, :len(ids) - 1] = ids[:-1]
            targets[row, middle:len(ids) - 1] = ids[middle + 1:]
        return tokens, targets


def shuffled_pieces(rows: np.ndarray, tokenizer: Tokenizer) -> list[np.ndarray]:
    """The FIM pieces of packed rows, each from its bos to its eos."""
    found = []
    for row in rows:
        for piece in np.split(row, np.flatnonzero(row == tokenizer.bos))[1:]:
            ends = np.flatnonzero(piece == tokenizer.eos)
            if len(ends) and (piece == tokenizer.fim_end).any():
                found.append(piece[:ends[0] + 1])
    return found


def with_answers(model: MiniCoder, step_loss: StepLoss, sources: Sequence[Answers],
                 first: int) -> StepLoss:
    """`step_loss`, and from step `first` on the loss of each source's answers."""
    device = model.lm_head.weight.device

    def together(step: int) -> tuple[Tensor | None, dict]:
        loss, noted = step_loss(step)
        if loss is None or step < first:
            return loss, noted
        for source in sources:
            tokens, targets = source(step)
            if (targets == IGNORE).all():  # no answer fitted into a very short row
                continue
            found = token_losses(model, tokens.to(device), targets.to(device)).mean()
            loss = loss + found
            noted |= {f"{type(source).__name__.lower()}_loss": found.item()}
        return loss, noted

    return together
