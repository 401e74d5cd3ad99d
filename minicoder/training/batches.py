"""Prompts with answers as padded rows, and what the model thinks of the answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minicoder.model.groups import group_hidden
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


def group_logprobs(
    model: MiniCoder, prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]], temperature: float = 1.0,
) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"], float]:
    """ln pi(answer token | all before it), 0 behind an answer's end; the mask; and the
    mean entropy, in nats, of what the tokens were drawn from.

    `answers` as in `group_hidden`; `temperature` is that of their sampling.
    """
    lengths = torch.tensor([len(answer) for answer in answers])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    targets = torch.tensor([token for answer in answers for token in answer])
    hidden = group_hidden(model.model, prompts, answers).flatten(0, 1)
    mask, targets = mask.to(hidden.device), targets.to(hidden.device)
    logits = model.lm_head(hidden[mask]) / temperature
    chosen = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    with torch.no_grad():
        entropy = -(chosen.exp() * chosen).sum(-1).mean().item()
    values = chosen.gather(1, targets[:, None]).squeeze(1)
    out = values.new_zeros(mask.shape)
    return out.masked_scatter(mask, values), mask, entropy
