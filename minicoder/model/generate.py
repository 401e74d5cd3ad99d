"""Turning logits into text: sampling, batches, streaming."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minicoder.errors import UserError
from minicoder.model.attention import causal
from minicoder.model.mla import LatentCache
from minicoder.model.transformer import MiniCoder
from minicoder.tokenizer import Tokenizer

# whether an answer is over, judged by its tokens; beside the end token
Stop = Callable[[Sequence[int]], bool]

CHUNK = 2048  # prompt tokens computed at once: bounds the memory of a long prompt


def choose(logits: Float[Tensor, "B vocab"], temperature: float = 0.0,
           top_p: float = 1.0, generator: torch.Generator | None = None,
           top_k: int = 0) -> Int[Tensor, " B"]:
    """The likeliest token at temperature 0, else a draw.

    `top_k` keeps that many of the likeliest tokens, 0 all (arXiv 1805.04833); of these
    `top_p` keeps the smallest set whose probability reaches it (arXiv 1904.09751).
    """
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() / temperature
    if 0 < top_k < logits.shape[-1]:
        kept = logits.topk(top_k, dim=-1)
        logits = torch.full_like(logits, float("-inf")).scatter(
            -1, kept.indices, kept.values)
    probabilities = logits.softmax(-1)
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
    for chunk in tokens.split(CHUNK, dim=1):
        start, stop = cache.length, cache.length + chunk.shape[1]
        mask = None
        if (seen := visible(padding, stop)) is not None:
            own = torch.eye(stop, dtype=torch.bool, device=seen.device)[start:]
            # a padded cell sees itself: a softmax over nothing may be NaN
            mask = causal(stop - start, stop, seen.device) & seen[:, None] | own
        hidden = model.model.prefill(chunk, cache, mask)[:, -1]
    return hidden, cache, padding


def cache_bytes(model: MiniCoder, rows: int, length: int) -> int:
    """What the latent cache of `rows` texts of `length` tokens takes.

    For a moment there are two of it, whenever finished rows leave.
    """
    config, itemsize = model.config, model.lm_head.weight.itemsize
    return rows * length * config.num_hidden_layers * config.cache_width * itemsize


def _refuse(model: MiniCoder, prompts: Sequence[Sequence[int]], new: int, rows: int,
            budget: int | None) -> None:
    longest = max(map(len, prompts), default=0)
    if not prompts or min(map(len, prompts)) == 0:
        raise UserError("There is nothing to continue: a prompt has no tokens.")
    window = model.config.max_position_embeddings
    if longest + new > window:
        raise UserError(f"{longest} prompt tokens and {new} new ones do not fit into "
                        f"the model's window of {window}.")
    needed = cache_bytes(model, rows, longest + new)
    if budget is not None and needed > budget:
        raise UserError(
            f"The cache of {rows} texts of {longest + new} tokens takes {needed:,} "
            f"bytes, and cache_budget is {budget:,}: ask for fewer or shorter texts.")


def _refuse_sampling(temperature: float, top_p: float, top_k: int) -> None:
    if temperature < 0 or not 0 < top_p <= 1 or top_k < 0:
        raise UserError(
            f"temperature = {temperature}, top_p = {top_p} and top_k = {top_k}: "
            "allowed are 0 or more, above 0 up to 1, and 0 (all tokens) or more.")


@torch.no_grad()
def _steps(
    model: MiniCoder, prompts: Sequence[Sequence[int]], max_new_tokens: int, end: int,
    samples: int, pick: Callable[[Tensor], Tensor], stop: Stop | None,
) -> Iterator[tuple[list[int], list[int]]]:
    """After each step: the answers still growing, and the token that each got."""
    hidden, cache, padding = _prefill(model, prompts, max_new_tokens)
    rows = torch.arange(len(prompts) * samples, device=hidden.device)
    prompt = rows // samples
    cache.select(prompt)
    hidden, padding = hidden[prompt], padding[prompt]
    answers: list[list[int]] = [[] for _ in rows]
    for step in range(max_new_tokens):
        chosen = pick(model.lm_head(hidden)[:, :model.known])
        yield rows.tolist(), chosen.tolist()
        over = chosen == end
        if stop is not None:
            for place, (row, token) in enumerate(zip(rows, chosen, strict=True)):
                answers[row].append(int(token))
                over[place] |= stop(answers[row])
        going = (~over).nonzero().squeeze(1)
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
    generator: torch.Generator | None = None, top_k: int = 0, stop: Stop | None = None,
    cache_budget: int | None = None,
) -> list[list[int]]:
    """Continue each prompt `samples` times, up to and including the token `end`.

    Each prompt is computed once and its cache shared out; rows that are done leave the
    batch: those that met `end`, and those whose tokens `stop` calls over. Returns
    len(prompts) * samples lists, those of one prompt side by side. Raises `UserError`
    when prompt and answer exceed the model's window, or the cache `cache_budget` bytes.
    """
    _refuse(model, prompts, max_new_tokens, len(prompts) * samples, cache_budget)
    _refuse_sampling(temperature, top_p, top_k)
    answers: list[list[int]] = [[] for _ in range(len(prompts) * samples)]
    for rows, tokens in _steps(
            model, prompts, max_new_tokens, end, samples,
            lambda logits: choose(logits, temperature, top_p, generator, top_k), stop):
        for row, token in zip(rows, tokens, strict=True):
            answers[row].append(token)
    return answers


def stream(
    model: MiniCoder, prompt: Sequence[int], max_new_tokens: int, end: int,
    temperature: float = 0.0, top_p: float = 1.0,
    generator: torch.Generator | None = None, top_k: int = 0, stop: Stop | None = None,
    cache_budget: int | None = None,
) -> Iterator[int]:
    """Yield one token after the other, without `end`; otherwise as `generate`."""
    _refuse(model, [prompt], max_new_tokens, 1, cache_budget)
    _refuse_sampling(temperature, top_p, top_k)
    return (token for _, (token,) in _steps(
        model, [prompt], max_new_tokens, end, 1,
        lambda logits: choose(logits, temperature, top_p, generator, top_k), stop)
        if token != end)


def stop_at(tokenizer: Tokenizer, strings: Sequence[str]) -> Stop:
    """Over as soon as an answer's text holds one of `strings`, wherever tokens end."""
    wanted = [string.encode() for string in strings]
    if b"" in wanted:
        raise UserError("A stop string is empty: every answer would be over at once.")
    longest = max(map(len, wanted), default=0)

    def over(tokens: Sequence[int]) -> bool:
        # every token has a byte at least, and what came before was looked at already
        last = len(tokenizer.decode_bytes(tokens[-1:]))
        text = tokenizer.decode_bytes(tokens[-longest - 1:])[-longest - last + 1:]
        return any(string in text for string in wanted)

    return over
