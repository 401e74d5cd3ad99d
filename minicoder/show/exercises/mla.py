"""The exercises of the lesson on MLA (notebook 04) and the mistakes that they catch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from minicoder.config import PRESETS, ModelConfig, preset
from minicoder.show.check import Rule, exercise

FULL, CONTEXT = PRESETS["full_236b"], 131_072
OTHER = preset("lite_16b", kv_lora_rank=256, v_head_dim=64)
GAIN = 1.2608038  # YaRN's g for factor 40 and mscale 0.707
Answer = Callable[..., Any]


def _same(first: Any, second: Any) -> bool:
    """Whether two answers hold the same numbers, up to rounding."""
    first, second = (torch.as_tensor(x, dtype=torch.float64) for x in (first, second))
    return first.shape == second.shape and torch.allclose(first, second, rtol=1e-9)


def _on(*args: Any) -> Answer:
    """Try an answer on these arguments."""
    return lambda answer: answer(*args)


def _mistake(message: str, run: Answer, wrong: Answer) -> Rule:
    """The rule that an answer must not give what `wrong` gives."""
    return Rule(message, lambda answer: not _same(run(answer), run(wrong)), wrong)


def _cache(latent: Answer = lambda c: c.cache_width,
           shared: Answer = lambda c, groups: 2 * groups * c.v_head_dim,
           layers: Answer = lambda c: c.num_hidden_layers, size: int = 2) -> Answer:
    """A formula for the cache, right unless a part of it is replaced."""
    def answer(config: ModelConfig, tokens: int, groups: int | None = None) -> int:
        width = latent(config) if groups is None else shared(config, groups)
        return width * layers(config) * tokens * size
    return answer


_mla, _gqa = _on(FULL, CONTEXT), _on(FULL, CONTEXT, 8)
_third = _on(torch.arange(24.0), 2, 4, 2)  # the third head of four


@exercise(
    "mla.cache_bytes",
    rules=(
        _mistake("the number of layers is forgotten: each of 60 has its own cache.",
                 _mla, _cache(layers=lambda c: 1)),
        _mistake("MLA's cache is half of the true one: a number in bf16 takes 2 bytes.",
                 _mla, _cache(size=1)),
        _mistake("MLA's cache is 15.1 times too large: all 128 heads share one rotary "
                 "key.", _mla, _cache(lambda c: c.kv_lora_rank + 128 * 64)),
        _mistake("MLA's cache is 1.89 times too large: keys and values share a latent.",
                 _mla, _cache(lambda c: c.cache_width + c.kv_lora_rank)),
        _mistake("MLA's cache is twice the true one: 2 bytes a number, one latent for "
                 "keys and values.", _mla, _cache(size=4)),
        _mistake("MLA's cache lacks a ninth: the rotary key, 64 numbers, is cached "
                 "beside the latent.", _mla, _cache(lambda c: c.kv_lora_rank)),
        _mistake("GQA's cache is half of the true one: a group has a key and a value.",
                 _gqa, _cache(shared=lambda c, g: g * c.v_head_dim)),
        _mistake("GQA's cache is 16 times too large: you count heads, not groups.",
                 _gqa, _cache(shared=lambda c, g: 2 * 128 * c.v_head_dim)),
        _mistake("GQA's cache is 1.25 times too large: only MLA has keys 192 wide.",
                 _gqa, _cache(shared=lambda c, g: g * (c.qk_head_dim + c.v_head_dim))),
        _mistake("GQA's cache is 3.2 times too small: a head is v_head_dim wide.",
                 _gqa, _cache(shared=lambda c, g: 2 * g * c.hidden_size // 128)),
        Rule('1,000 tokens of preset("lite_16b", kv_lora_rank=256, v_head_dim=64) must '
             "take 17,280,000 bytes with MLA and 55,296,000 with 8 groups.",
             lambda answer: [answer(OTHER, 1000), answer(OTHER, 1000, 8)] == [
                 17_280_000, 55_296_000], _cache(layers=lambda c: 60)),
    ),
    hints=("Numbers a token leaves in one layer, times layers, tokens and bytes.",
           "MLA: config.kv_lora_rank + config.qk_rope_head_dim. GQA: a key and a value "
           "of config.v_head_dim for each group. bf16 has 2 bytes."),
)
def cache_bytes(config: ModelConfig, tokens: int, groups: int | None = None) -> int:
    """Bytes of the cache in bf16 (DeepSeek-V2 table 1)."""
    if groups is None:
        width = config.kv_lora_rank + config.qk_rope_head_dim
    else:
        width = 2 * groups * config.v_head_dim
    return width * config.num_hidden_layers * tokens * 2


def _parts(answer: Answer) -> list[float]:
    """Head 2 of four, whose numbers are 12, 13, 14, 15 and 16, 17."""
    return [float(n) for part in _third(answer) for n in part]


@exercise(
    "mla.split_query",
    rules=(
        Rule("give two parts back: first nope = 4 numbers, then rotary = 2 numbers.",
             lambda answer: [part.numel() for part in _third(answer)] == [4, 2],
             lambda q, head, nope, rotary: q[head * 6:][:6].split([2, 4])),
        _mistake("head 2 got the numbers of head 0: start at head · (nope + rotary).",
                 _parts, lambda q, head, nope, rotary: q[:6].split([4, 2])),
        _mistake("the layout is head by head. You took it as the content of all heads, "
                 "then the rotary parts of all heads.", _parts,
                 lambda q, head, nope, rotary: (
                     q[head * nope:][:nope], q[4 * nope + head * rotary:][:rotary])),
        _mistake("inside a head the content comes first, then the rotary part.", _parts,
                 lambda q, head, nope, rotary: q[head * 6:][:6].split([2, 4])[::-1]),
        Rule("of the numbers 0 to 23, head 2 has content 12 to 15 and rotary 16, 17.",
             lambda answer: _parts(answer) == [12, 13, 14, 15, 16, 17],
             lambda q, head, nope, rotary: q[head::4].split([4, 2])),
    ),
    hints=("Each head owns nope + rotary numbers in a row.",
           "Head 1 starts at nope + rotary; from there, nope numbers are content."),
)
def split_query(q: Tensor, head: int, nope: int, rotary: int) -> tuple[Tensor, Tensor]:
    """One head's content and rotary part, as the checkpoint lays the rows out."""
    start = head * (nope + rotary)
    return q[start:start + nope], q[start + nope:start + nope + rotary]


def _score(g: float, nope: int = 128, rotary: int = 64) -> Answer:
    """Try an answer on two random vectors of these widths."""
    draw = torch.Generator().manual_seed(4)
    vectors = [torch.randn(n, generator=draw, dtype=torch.float64)
               for n in (nope, nope, rotary, rotary)]
    return lambda answer: torch.as_tensor(
        answer(*vectors, g), dtype=torch.float64).squeeze()


def _scaled(gain: Answer) -> Answer:
    """The right score, but for what it makes of g."""
    return lambda a, b, c, d, g: (a @ b + c @ d) * gain(g) / (len(a) + len(c)) ** 0.5


@exercise(
    "mla.score",
    rules=(
        Rule("one query and one key have one score: give a single number back.",
             lambda answer: _score(1.0)(answer).numel() == 1, lambda a, b, *_: a * b),
        _mistake("the rotary part is left out: a score is the sum of two products.",
                 _score(1.0), lambda a, b, c, d, g: a @ b / 192 ** 0.5),
        _mistake("scores are 1.22 times too large: divide by √(128 + 64), not by √128.",
                 _score(1.0), lambda a, b, c, d, g: (a @ b + c @ d) / 128 ** 0.5),
        _mistake("two scales, √128 and √64: the rotary part weighs 1.41 times more.",
                 _score(1.0),
                 lambda a, b, c, d, g: a @ b / 128 ** 0.5 + c @ d / 64 ** 0.5),
        Rule("without YaRN (g = 1) and with widths 6 and 4, the score must be "
             "(content product + rotary product) / √10.",
             lambda answer: _same(_score(1.0, 6, 4)(answer), _score(1.0, 6, 4)(score)),
             lambda a, b, c, d, g: (a @ b + c @ d) / 192 ** 0.5),
        _mistake("scores are 1.59 times too small: the softmax scale lacks mscale² "
                 "(g² = 1.2608² = 1.59).", _score(GAIN), _scaled(lambda g: 1.0)),
        _mistake("scores are 1.26 times too small: g belongs to the query and to the "
                 "key, so the score gets g².", _score(GAIN), _scaled(lambda g: g)),
        _mistake("g² reaches only the rotary part, as in the YaRN paper. MLA "
                 "multiplies the whole score.", _score(GAIN), lambda a, b, c, d, g: (
                     a @ b + g * g * (c @ d)) / (len(a) + len(c)) ** 0.5),
        Rule("with g = 1.5 the score must be 2.25 times the one with g = 1.",
             lambda answer: _same(_score(1.5)(answer), 2.25 * _score(1.0)(answer)),
             _scaled(lambda g: 1.5896 if g > 1 else 1.0)),
    ),
    hints=("Joined end to end, query and key have nope + rotary numbers each.",
           "Divide once, by the root of nope + rotary; YaRN multiplies by g * g."),
)
def score(content_q: Tensor, content_k: Tensor, rotary_q: Tensor, rotary_k: Tensor,
          g: float) -> Tensor:
    """One head's score of one query and one key (DeepSeek-V2 §2.1.3 and §3.1.4)."""
    width = len(content_q) + len(rotary_q)
    return (content_q @ content_k + rotary_q @ rotary_k) * g * g / width ** 0.5


def _output(answer: Answer, values: int = 5) -> Tensor:
    """Of a head with N = 5, V = values, R = 2, L = 4 that sees S = 9 tokens."""
    draw = torch.Generator().manual_seed(5)
    arrays = [torch.randn(shape, generator=draw, dtype=torch.float64)
              for shape in ((5,), (2,), (5 + values, 4), (9, 6))]
    return answer(*arrays, 0.5)


def _stays_latent(answer: Answer) -> bool:
    """Whether no keys or values of all 9 tokens are made on the way."""
    seen: list[tuple[int, ...]] = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Answer, types: Any, args: tuple = (),
                               kwargs: dict[str, Any] | None = None) -> Any:
            out = func(*args, **(kwargs or {}))
            seen.extend([tuple(out.shape)] if isinstance(out, Tensor) else [])
            return out

    with Watch():
        _output(answer)
    made = any(9 in shape and {5, 7, 10} & set(shape) for shape in seen)
    return not made and seen.count((5,)) < 9


def _head(first: int = 0, rotary: float = 1.0, width: float = 1.0,
          weigh: Answer = lambda s: s.softmax(-1)) -> Answer:
    """A head in the latent space, right unless a part of it is replaced."""
    def answer(q: Tensor, r: Tensor, up: Tensor, cached: Tensor, scale: float) -> Any:
        (latent, key), up = cached.split([4, 2], dim=-1), up.roll(first, 0)
        scores = (latent @ (up[:5].T @ q) + key @ r * rotary) * scale * width
        return up[5:] @ (weigh(scores) @ latent)
    return answer


def _expanding(q: Tensor, r: Tensor, up: Tensor, cached: Tensor, scale: float) -> Any:
    """The right numbers, from keys and values of every token."""
    keys, values = (cached[:, :4] @ up.T).split([5, len(up) - 5], dim=-1)
    return ((keys @ q + cached[:, 4:] @ r) * scale).softmax(-1) @ values


@exercise(
    "mla.absorb",
    rules=(
        Rule("the result must have V = 5 numbers, the head's output. A sum of latents "
             "has L = 4: W^UV still has to carry it to the values.",
             lambda answer: _output(answer).shape == (5,),
             lambda q, r, up, cached, scale: cached[0, :4]),
        _mistake("keys and values are exchanged: W^UK is the first N rows of `up`.",
                 _output, _head(first=5)),
        _mistake("the rotary part of the score is missing: the last R numbers of each "
                 "cached row are the rotary key.", _output, _head(rotary=0.0)),
        _mistake("you divide by √(L + R): the folded query is longer, yet its score is "
                 "the same number. Keep `scale`.", _output, _head(width=2 / 6 ** 0.5)),
        _mistake("the scores are not scaled: use `scale`.", _output, _head(width=2.0)),
        _mistake("`scale` reaches the content alone: it multiplies the sum of both "
                 "parts.", _output, _head(rotary=2.0)),
        _mistake("the softmax is missing between the scores and the sum of latents.",
                 _output, _head(weigh=lambda s: s)),
        Rule("the result is not that of a head that makes keys and values of every "
             "token and takes the softmax of its scores (tried with V = 5 and V = 3).",
             lambda answer: all(_same(_output(answer, v), _output(_expanding, v))
                                for v in (5, 3)),
             lambda q, r, up, *rest: _expanding(q, r, up[[*range(5), *range(-5, 0)]],
                                                *rest)),
        Rule("the numbers are right, but keys or values of all tokens were made on the "
             "way. Fold W^UK into the query, and W^UV behind the sum.",
             _stays_latent, _expanding),
    ),
    hints=("q · (W^UK c) = (W^UK transposed q) · c: fold W^UK into the query, once.",
           "The scores are latent @ folded + rotary_keys @ rotary, times scale.",
           "Sum the latents with the softmax weights, then apply W^UV once."),
)
def absorb(content: Tensor, rotary: Tensor, up: Tensor, cached: Tensor,
           scale: float) -> Tensor:
    """One head's output from the cached rows alone (DeepSeek-V2 §2.1.2)."""
    up_k, up_v = up[:len(content)], up[len(content):]
    latent, rotary_keys = cached.split([up.shape[1], len(rotary)], dim=-1)
    folded = up_k.T @ content
    scores = (latent @ folded + rotary_keys @ rotary) * scale
    return up_v @ (scores.softmax(dim=-1) @ latent)
