"""Learning to look back: needles and middles, with the loss on their answers alone.

Among the losses of all the tokens around them, a few answers are noise; alone, they
are learnt in some hundred steps, if early, while the learning rate is high. Asked for
no more, they are forgotten. What is learnt is to find a lone capital letter anywhere,
not to copy what came after the same words: where the straw has other capitals, one of
them is named (benchmarks/results/context.md, "rival"). The paper raises the share of
long documents instead (§3.4); this is our way for a model that sees a million tokens.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from minicoder.data.needles import recall_row, without_rivals
from minicoder.data.packing import Shards
from minicoder.tokenizer import Tokenizer
from minicoder.training.batches import Pair, answer_batch
from minicoder.training.loop import IGNORE, StepLoss
from minicoder.training.objective import Objective

STRAW = 300  # rows of the corpus that the hay is taken from
CUT = 1 << 22    # tokens of rows that lines to fill in are cut from, held in memory
AROUND = 4   # at most so many lines before and behind one that is to be filled in

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
        self.lines = without_rivals(
            tokenizer, [line[line < tokenizer.bos].tolist() for line in lines])

    def __call__(self, step: int) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """Inputs, and targets that are `IGNORE` but for the answers."""
        tokens = torch.zeros(self.rows, self.length + 1, dtype=torch.long)
        targets = torch.full((self.rows, self.length), IGNORE)
        for row in range(self.rows):
            ids, answers = recall_row(self.tokenizer, self.lines, self.length + 1,
                                      random.Random(f"{self.seed} {step} {row}"))
            tokens[row] = torch.tensor(ids)
            for place, token in answers.items():
                targets[row, place - 1] = token
        return tokens[:, :-1], targets


class Middles:
    """Batches of single lines to fill in, cut anew at each step from shuffled pieces.

    A hole has 1 to `AROUND` lines on each side, few as in the evaluation. `pieces` is
    empty where the corpus was packed without FIM.
    """

    def __init__(self, tokenizer: Tokenizer, shards: Shards, rows: int, seed: int
                 ) -> None:
        self.tokenizer, self.rows, self.seed = tokenizer, rows, seed
        (newline,) = tokenizer.encode("\n")
        first = shards.rows[:max(1, CUT // shards.rows.shape[1])]
        pieces = unshuffled(np.asarray(first), tokenizer)
        split = [[line.tolist() for line in
                  np.split(piece, np.flatnonzero(piece == newline) + 1) if len(line)]
                 for piece in pieces]
        # a hole is where more than white space stands
        holes = [[i for i, line in enumerate(lines)
                  if tokenizer.decode_bytes(line).strip()] for lines in split]
        self.pieces = [pair for pair in zip(split, holes, strict=True) if pair[1]]

    def hole(self, draw: random.Random) -> Pair:
        """A prompt, and the line that it asks for with its end."""
        t, (lines, holes) = self.tokenizer, draw.choice(self.pieces)
        place, around = draw.choice(holes), draw.randint(1, AROUND)
        before, after = (
            [token for line in part for token in line] for part in
            (lines[max(0, place - around):place], lines[place + 1:place + 1 + around]))
        return ([t.bos, t.fim_begin, *before, t.fim_hole, *after, t.fim_end],
                [*lines[place], t.eos])

    def __call__(self, step: int) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """Inputs, and targets that are `IGNORE` but for the lines and their ends."""
        draw = random.Random(f"{self.seed} {step}")
        return answer_batch([self.hole(draw) for _ in range(self.rows)],
                            torch.device("cpu"))


def unshuffled(rows: np.ndarray, tokenizer: Tokenizer) -> list[np.ndarray]:
    """The texts of the FIM pieces in packed rows, in reading order."""
    found = []
    for row in rows:
        for piece in np.split(row, np.flatnonzero(row == tokenizer.bos))[1:]:
            hole, end, eos = (np.flatnonzero(piece == token) for token in (
                tokenizer.fim_hole, tokenizer.fim_end, tokenizer.eos))
            if len(hole) and len(end) and len(eos):
                found.append(np.concatenate((
                    piece[2:hole[0]], piece[end[0] + 1:eos[0]],
                    piece[hole[0] + 1:end[0]])))
    return found


def own_answers(tokens: Int[Tensor, "B T"], targets: Int[Tensor, "B T"],
                read: Objective) -> tuple[Int[Tensor, "b T"], Int[Tensor, "b T"]]:
    """The rows that this process reads; rows without answers fill up the last ones."""
    parts = 1 if read.pipeline is None else read.parts
    missing = -len(tokens) % (parts * read.team.layout.readers)
    more = tokens.new_zeros(missing, tokens.shape[1])
    return (read.team.own(torch.cat((tokens, more)), parts),
            read.team.own(torch.cat((targets, more + IGNORE)), parts))


def with_answers(read: Objective, step_loss: StepLoss,
                 sources: Sequence[tuple[Answers, Container[int]]]) -> StepLoss:
    """`step_loss` plus the loss of each source's answers, during the source's steps.

    The processes of a team share the answers; the loss is the mean over all of them.
    """
    team = read.team

    def together(step: int) -> tuple[Tensor | None, dict]:
        loss, noted = step_loss(step)
        for source, steps in sources:
            if loss is None or step not in steps:
                continue
            tokens, targets = source(step)
            if not (count := int((targets != IGNORE).sum())):  # the rows are too short
                continue
            found = read.of_answers(
                *(part.to(read.device) for part in own_answers(tokens, targets, read)),
                count / team.layout.readers)
            loss = loss + found
            name = f"{type(source).__name__.lower()}_loss"
            noted |= {name: team.mean({name: found})[name].item()}
        return loss, noted

    return together
