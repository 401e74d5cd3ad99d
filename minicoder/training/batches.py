"""Prompts with answers as padded rows, and what the model thinks of the answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minicoder.model.moe import Routing
from minicoder.model.transformer import MiniCoder
from minicoder.training.loop import IGNORE

Pair = tuple[Sequence[int], Sequence[int]]  # prompt tokens, answer tokens


def answer_batch(pairs: Sequence[Pair], device: torch.device
                 ) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Inputs, and targets that are `IGNORE` everywhere but on the answers.

    Rows are padded on the right, where causal attention never looks from the left.
    """
    length = max(len(p) + len(a) for p, a in pairs) - 1
    tokens = torch.zeros(len(pairs), length, dtype=torch.long)
    targets = torch.full((len(pairs), length), IGNORE)
    for row, (prompt, answer) in enumerate(pairs):
        ids = torch.tensor([*prompt, *answer])
        tokens[row, :len(ids) - 1] = ids[:-1]
        targets[row, len(prompt) - 1:len(ids) - 1] = ids[len(prompt):]
    return tokens.to(device), targets.to(device)


def answer_logprobs(model: MiniCoder, tokens: Int[Tensor, "B T"],
                    targets: Int[Tensor, "B T"], seen: list[Routing] | None = None
                    ) -> tuple[Float[Tensor, "B T"], Tensor]:
    """ln pi(answer token | all before it), 0 outside the answers, and the mask."""
    mask = targets != IGNORE
    hidden = model.model(tokens, seen)
    chosen = model.lm_head(hidden[mask]).float().log_softmax(-1)
    values = chosen.gather(1, targets[mask][:, None]).squeeze(1)
    out = torch.zeros(mask.shape, dtype=values.dtype, device=values.device)
    return out.masked_scatter(mask, values), mask
