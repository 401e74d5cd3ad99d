"""Turning logits into text: sampling, batches, streaming."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minicoder.errors import UserError
from minicoder.model.mla import LatentCache
from minicoder.model.transformer import MiniCoder


def choose(logits: Float[Tensor, "B vocab"], temperature: float = 0.0,
           top_p: float = 1.0, generator: torch.Generator | None = None
           ) -> Int[Tensor, " B"]:
    """The likeliest token at temperature 0, else a draw.

    `top_p` keeps the smallest set of tokens whose probability reaches it
    (arXiv 1904.09751).
    """
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits.float() / temperature).softmax(-1)
    if top_p < 1:
        ranked, order = probabilities.sort(dim=-1, descending=True)
        beyond = ranked.cumsum(-1) - ranked >= top_p
        probabilities = probabilities.scatter(-1, order, ranked.masked_fill(beyond, 0))
    # on the CPU, so that a seed means the same text on every device
    return torch.multinomial(probabilities.cpu(), 1, generator=generator
                             ).squeeze(-1).to(logits.device)


def left_pad(prompts: Sequence[Sequence[int]], device: torch.device
             ) -> tuple[Int[Tensor, "B T"], Int[Tensor, " B"]]:
    """Prompts of different lengths as one block, and how many cells pad each row.

    Padding on the left keeps every row's newest token in the last column. Rotary
    positions are relative, so a shifted row computes the same.
    """
    length = max(map(len, prompts))
    rows = [[0] * (length - len(p)) + list(p) for p in prompts]
    padding = torch.tensor([length - len(p) for p in prompts], device=device)
    return torch.tensor(rows, device=device), padding


def visible(padding: Int[Tensor, " B"], length: int) -> Bool[Tensor, "B S"] | None:
    """Which of `length` cells hold tokens; nothing when all of them do."""
    if not padding.any():
        return None
    return torch.arange(length, device=padding.device) >= padding[:, None]


def _prefill(model: MiniCoder, prompts: Sequence[Sequence[int]], new: int
             ) -> tuple[Float[Tensor, "B D"], LatentCache, Int[Tensor, " B"]]:
    """Last hidden states, cache with room for `new` more tokens, and padding."""
    tokens, padding = left_pad(prompts, model.lm_head.weight.device)
    length = tokens.shape[1]
    cache = LatentCache(
        model.config, model.lm_head.weight, len(prompts), length + new)
    mask = None
    if (seen := visible(padding, length)) is not None:
        square = seen.new_ones(length, length)
        own = torch.eye(length, dtype=torch.bool, device=seen.device)
        # a padded cell sees itself, because a softmax over nothing is NaN
        mask = square.tril() & seen[:, None] | own
    return model.model.prefill(tokens, cache, mask)[:, -1], cache, padding


def _refuse(model: MiniCoder, prompts: Sequence[Sequence[int]], new: int,
            temperature: float, top_p: float) -> None:
    longest = max(map(len, prompts), default=0)
    if not prompts or min(map(len, prompts)) == 0:
        raise UserError("There is nothing to continue: a prompt has no tokens.")
    window = model.config.max_position_embeddings
    if longest + new > window:
        raise UserError(f"{longest} prompt tokens and {new} new ones do not fit into "
                        f"the model's window of {window}.")
    if temperature < 0 or not 0 < top_p <= 1:
        raise UserError(f"temperature = {temperature} and top_p = {top_p}: allowed are "
                        "0 or more, and above 0 up to 1.")


@torch.no_grad()
def _steps(
    model: MiniCoder, prompts: Sequence[Sequence[int]], max_new_tokens: int, end: int,
    samples: int, temperature: float, top_p: float, generator: torch.Generator | None,
) -> Iterator[tuple[list[int], list[int]]]:
    """After each step: the answers still growing, and the token that each got."""
    _refuse(model, prompts, max_new_tokens, temperature, top_p)
    hidden, cache, padding = _prefill(model, prompts, max_new_tokens)
    rows = torch.arange(len(prompts) * samples, device=hidden.device)
    prompt = rows // samples
    cache.select(prompt)
    hidden, padding = hidden[prompt], padding[prompt]
    for step in range(max_new_tokens):
        chosen = choose(model.lm_head(hidden), temperature, top_p, generator)
        yield rows.tolist(), chosen.tolist()
        going = (chosen != end).nonzero().squeeze(1)
        if len(going) == 0 or step == max_new_tokens - 1:
            return
        if len(going) < len(rows):
            cache.select(going)
            rows, padding, chosen = rows[going], padding[going], chosen[going]
        seen = visible(padding, cache.length + 1)
        mask = None if seen is None else seen[:, None]
        hidden = model.model.decode(chosen[:, None], cache, mask)[:, -1]


def generate(
    model: MiniCoder, prompts: Sequence[Sequence[int]], max_new_tokens: int,
    end: int, samples: int = 1, temperature: float = 0.0, top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """Continue each prompt `samples` times, up to and including the token `end`.

    Each prompt is computed once and its cache shared out; rows that are done leave the
    batch. Returns len(prompts) * samples lists, those of one prompt side by side.
    Raises `UserError` when prompt and answer exceed the model's window.
    """
    answers: list[list[int]] = [[] for _ in range(len(prompts) * samples)]
    for rows, tokens in _steps(model, prompts, max_new_tokens, end, samples,
                               temperature, top_p, generator):
        for row, token in zip(rows, tokens, strict=True):
            answers[row].append(token)
    return answers


def stream(
    model: MiniCoder, prompt: Sequence[int], max_new_tokens: int, end: int,
    temperature: float = 0.0, top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> Iterator[int]:
    """Yield one token after the other, without `end`."""
    for _, (token,) in _steps(model, [prompt], max_new_tokens, end, 1,
                              temperature, top_p, generator):
        if token != end:
            yield token
