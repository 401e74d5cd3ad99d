"""The exercises of lesson 13, inference, with the mistakes that they catch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from minicoder.config import PRESETS, ModelConfig
from minicoder.show.check import Rule, exercise

Step = Callable[[list[int], int, list], tuple[int, list]]
Greedy = Callable[[Step, list[int], int], list[int]]
Call = tuple[list[int], int, int, int]  # tokens read, start, length of the cache, next

PROMPT, NEW = [5, 8, 2], 4


def _watch(answer: Greedy) -> tuple[list[int], list[Call]]:
    """What `answer` says, and the calls that it makes to a stand-in for the model."""
    calls: list[Call] = []

    def step(tokens: list[int], start: int, cache: list) -> tuple[int, list]:
        longer = cache + [(start + i, token) for i, token in enumerate(tokens)]
        chosen = sum((place + 1) * (token + 3) for place, token in longer) % 101
        calls.append((list(tokens), start, len(cache), chosen))
        return chosen, longer

    return answer(step, list(PROMPT), NEW), calls


def _through(change: Callable) -> Greedy:
    """Cached greedy decoding in which every call of `step` is changed."""
    return lambda step, prompt, new: greedy(
        lambda *call: step(*change(prompt, *call)), prompt, new)


def _uncached(step: Step, prompt: list[int], new: int) -> list[int]:
    said: list[int] = []
    for _ in range(new):
        said.append(step(prompt + said, 0, [])[0])
    return said


@exercise(
    "inference.greedy",
    rules=(
        Rule("for 4 new tokens the answer has another length. Reading the prompt "
             "already chooses the first of them.",
             lambda answer: len(_watch(answer)[0]) == NEW,
             lambda step, prompt, new: greedy(step, prompt, new + 1)),
        Rule("a prompt of 3 tokens and 4 new ones need 3 + 1 + 1 + 1 = 6 readings, and "
             "yours are not 6. Reading all again, without a cache, is 3 + 4 + 5 + 6 = "
             "18; 7 is one token twice, or the last one, which nobody needs.",
             lambda answer: sum(len(call[0]) for call in _watch(answer)[1]) == 6,
             _uncached),
        Rule("the first step does not read the whole prompt. All its tokens are known, "
             "so one pass serves them, the prefill: step(prompt, 0, []).",
             lambda answer: _watch(answer)[1][0][0] == PROMPT,
             lambda step, prompt, new: greedy(step, prompt[:1], new + 2)[2:]),
        Rule("a later step got an empty cache, so its token saw no prompt. Hand on the "
             "cache that the step before returned.",
             lambda answer: all(call[2] for call in _watch(answer)[1][1:]),
             _through(lambda prompt, t, start, cache: (t, start, []))),
        Rule("the cache does not grow: the later steps must get 3, 4 and 5 entries. "
             "Keep the one that *each* step returns.",
             lambda answer: [call[2] for call in _watch(answer)[1]] == [0, 3, 4, 5],
             _through(lambda prompt, t, start, cache: (t, start, cache[:3]))),
        Rule("a position is off. The prompt fills positions 0, 1, 2, so the steps "
             "start at 0, 3, 4, 5.",
             lambda answer: [call[1] for call in _watch(answer)[1]] == [0, 3, 4, 5],
             _through(lambda prompt, t, start, cache: (t, start + (start > 0), cache))),
        Rule("a step reads a token other than the one that was chosen last.",
             lambda answer: [call[0][0] for call in _watch(answer)[1][1:]]
             == [call[3] for call in _watch(answer)[1][:-1]],
             _through(lambda prompt, t, start, cache:
                      (prompt[-1:] if start else t, start, cache))),
        Rule("the answer does not hold the 4 chosen tokens in their order: the prompt "
             "stays out, and the last chosen token is in, though nobody reads it.",
             lambda answer: list(_watch(answer)[0])
             == [call[3] for call in _watch(answer)[1]],
             lambda step, prompt, new: [prompt[-1], *greedy(step, prompt, new)[:-1]]),
    ),
    hints=("Read the prompt once, at 0, with an empty cache: that gives a first token.",
           "Each later step reads [the last token] with the last returned cache.",
           "New token number k = 0, 1, ... stands at position len(prompt) + k."),
)
def greedy(step: Step, prompt: list[int], new: int) -> list[int]:
    """The `new` likeliest tokens after `prompt`: it in one step, then one a step."""
    token, cache = step(prompt, 0, [])
    answer = [token]
    while len(answer) < new:
        token, cache = step([token], len(prompt) + len(answer) - 1, cache)
        answer.append(token)
    return answer


FULL, LITE = PRESETS["full_236b"], PRESETS["lite_16b"]
TRUE_COSTS = (16_818_176_000, 156_041_216)
NARROW = replace(LITE, v_head_dim=96)
TRUE_BYTES = 60 * 8 * 4096 * 576 * 2  # 2,264,924,160


def _bytes_rule(message: str, factor: float) -> Rule:
    """Refuse an answer that is `factor` times the true one."""
    return Rule(message, lambda answer: not math.isclose(
        answer(FULL, 8, 4096, 2), factor * TRUE_BYTES, rel_tol=1e-9),
        lambda c, batch, tokens, size: factor * cache_bytes(c, batch, tokens, size))


@exercise(
    "inference.cache_bytes",
    rules=(
        _bytes_rule("60 times too small: every layer has its own cache.", 1 / 60),
        _bytes_rule("8 times too small: each of the 8 texts has its own cache.", 1 / 8),
        _bytes_rule("128 times too large: all heads read one latent and one "
                    "rotary key, so heads do not count.", 128.0),
        _bytes_rule("0.889 = 512 / 576 of the true value: the rotary key of 64 numbers "
                    "is cached beside the latent.", 512 / 576),
        _bytes_rule("15.1 times too large: the rotary key is one for all heads, not "
                    "one per head.", (512 + 128 * 64) / 576),
        _bytes_rule("twice too large: keys and values are made from the same latent, "
                    "which is cached once.", 2.0),
        Rule("with 1 byte a number instead of 2 the cache is half as large.",
             lambda answer: 2 * answer(FULL, 8, 4096, 1) == answer(FULL, 8, 4096, 2),
             lambda c, batch, tokens, size: cache_bytes(c, batch, tokens, 2)),
        Rule("8 texts of 4,096 tokens take 2,264,924,160 bytes in the 236B, and one "
             "token takes 31,104 in Lite (2 bytes a number); yours are other values.",
             lambda answer: answer(FULL, 8, 4096, 2) == TRUE_BYTES
             and answer(LITE, 1, 1, 2) == 31_104,
             lambda c, b, tokens, size: cache_bytes(c, b, tokens, size) / 2**30),
    ),
    hints=("One token leaves c.cache_width numbers in one layer, for all heads.",
           "Multiply by all that have one of their own: layers, texts, tokens."),
)
def cache_bytes(c: ModelConfig, batch: int, tokens: int, size: int) -> int:
    """Bytes of MLA's cache for `batch` texts of `tokens` tokens; `size` per number."""
    return c.num_hidden_layers * batch * tokens * c.cache_width * size


def _cost_rule(message: str, way: int, heads: int = 128, **change: int) -> Rule:
    """Refuse a cost (way 0 expanded, 1 absorbed) in which a number was changed."""
    def wrong(c: ModelConfig, keys: int, queries: int) -> tuple[int, int]:
        part = {"whole": (keys, queries)[way], "pair": (320, 1088)[way]} | change
        cost = heads * (part["whole"] * 512 * 256 + part["pair"] * keys * queries)
        expanded, absorbed = multiply_adds(c, keys, queries)
        return (expanded, cost) if way else (cost, absorbed)

    return Rule(message, lambda answer: answer(FULL, 1000, 3)[way]
                != wrong(FULL, 1000, 3)[way], wrong)


@exercise(
    "inference.multiply_adds",
    rules=(
        _cost_rule("one head is counted: the 236B has 128.", 0, heads=1),
        _cost_rule("twice too large: a multiply-add counts 1 here.", 0, heads=256),
        _cost_rule("expanded counts 320 a pair and no more. Before that each cached "
                   "latent must become a key and a value: 512 * (128 + 128) a token.",
                   0, whole=0),
        _cost_rule("expanded counts 256 a pair: a key is 128 content numbers *and* 64 "
                   "rotary ones, so a score takes 192.", 0, pair=256),
        _cost_rule("absorbed counts 1,088 a pair and no more: W_UK on each query and "
                   "W_UV on each result take 512 * (128 + 128) together.", 1, whole=0),
        _cost_rule("576 a pair is the score: the sum takes 512 more.", 1, pair=576),
        _cost_rule("absorbed counts 1,152 a pair: the weighted sum is one of latents, "
                   "512 numbers, without the 64 rotary ones.", 1, pair=1152),
        _cost_rule("the moved matrices work on *every* query, not on one.", 1, whole=1),
        _cost_rule("absorbed expands no key: its matrices work on the queries, here 3, "
                   "and not on the 1,000 keys.", 1, whole=1000),
        _cost_rule("absorbed counts 1,024 a pair: the score has 64 rotary numbers "
                   "beside the 512 of the latent.", 1, pair=1024),
        _cost_rule("a latent is expanded once and serves every query: that part does "
                   "not grow with the queries.", 0, whole=3000),
        _cost_rule("expanded uses one matrix: a latent becomes a key *and* a value.",
                   0, whole=500),
        Rule("1 query and 1,000 keys in the 236B cost 16,818,176,000 expanded and "
             "156,041,216 absorbed, in this order; yours are other values.",
             lambda answer: tuple(answer(FULL, 1000, 1)) == TRUE_COSTS,
             lambda c, keys, queries: multiply_adds(c, keys, queries)[::-1]),
        Rule("right for 1 query in the 236B, wrong for 2 in a Lite with values of 96 "
             "numbers: take every width from c, and keep N and V apart.",
             lambda answer: tuple(answer(NARROW, 7, 2)) == multiply_adds(NARROW, 7, 2),
             lambda c, keys, queries: multiply_adds(
                 replace(c, v_head_dim=c.qk_nope_head_dim), keys, queries)),
    ),
    hints=("Expanded: a key and a value from each latent; then for each pair 128 + 64 "
           "for the score and 128 for the weighted sum.",
           "Absorbed: W_UK and W_UV once a query; then for each pair 512 + 64 for the "
           "score and 512 for the weighted sum."),
)
def multiply_adds(c: ModelConfig, keys: int, queries: int) -> tuple[int, int]:
    """Multiply-adds of one layer, all heads: (expanded, absorbed)."""
    n, r, v = c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim
    latent, pairs = c.kv_lora_rank, queries * keys
    expanded = keys * latent * (n + v) + pairs * (n + r + v)
    absorbed = queries * latent * (n + v) + pairs * (latent + r + latent)
    return c.num_attention_heads * expanded, c.num_attention_heads * absorbed


TopP = Callable[[list[float], float], list[float]]
SHARES = [0.125, 0.5, 0.0625, 0.25, 0.0625]


def _kept(answer: TopP, p: float) -> list[int]:
    return [place for place, share in enumerate(answer(list(SHARES), p)) if share > 0]


def _by_value(shares: list[float], p: float) -> list[float]:
    least = min(s for s, new in zip(shares, top_p(shares, p), strict=True) if new)
    return [s / sum(t for t in shares if t >= least) * (s >= least) for s in shares]


@exercise(
    "inference.top_p",
    rules=(
        Rule("five tokens go in and another number comes out: a token that is cut "
             "off stays in the list, with probability 0.",
             lambda answer: len(answer(list(SHARES), 0.7)) == 5,
             lambda shares, p: [s for s in top_p(shares, p) if s > 0]),
        Rule("at p = 0.7 only 0.5 is kept: the token that crosses p belongs to it.",
             lambda answer: len(_kept(answer, 0.7)) > 1,
             lambda shares, p: top_p(shares, p - 0.25)),
        Rule("the set is larger than needed: at p = 0.75 the two likeliest reach it "
             "already, 0.5 + 0.25.",
             lambda answer: len(_kept(answer, 0.75)) < 3,
             lambda shares, p: top_p(shares, p + 1e-9)),
        Rule("the sum of the answer is not 1: divide the kept probabilities by their "
             "sum (0.75 at p = 0.7).",
             lambda answer: abs(sum(answer(list(SHARES), 0.7)) - 1) < 1e-5,
             lambda shares, p: [s if new else 0.0 for s, new in
                                zip(shares, top_p(shares, p), strict=True)]),
        Rule("the probabilities are at the places of other tokens: sort to find the "
             "set, but leave each value at its token's place (here 1 and 3).",
             lambda answer: _kept(answer, 0.7) == [1, 3],
             lambda shares, p: sorted(top_p(shares, p), reverse=True)),
        Rule("0.5 was twice 0.25, and after the cut it is not: dividing by the sum "
             "gives 2/3 and 1/3.",
             lambda answer: abs(answer(list(SHARES), 0.7)[1] - 2 / 3) < 1e-5,
             lambda shares, p: [float(s > 0) / sum(t > 0 for t in top_p(shares, p))
                                for s in top_p(shares, p)]),
        Rule("at p = 0.9 four tokens do, and of the two with 0.0625 one is enough: cut "
             "by rank, not by value.",
             lambda answer: len(_kept(answer, 0.9)) == 4, _by_value),
    ),
    hints=("Go through the tokens from the likeliest to the least likely and add up "
           "their probabilities.",
           "A token is kept if the sum *before* it is less than p.",
           "Cut tokens become 0; then divide everything by the sum of what is left."),
)
def top_p(probabilities: list[float], p: float) -> list[float]:
    """Keep the smallest set of likeliest tokens whose sum reaches `p`; renormalise."""
    kept, reached = [0.0] * len(probabilities), 0.0
    for place in sorted(range(len(kept)), key=lambda i: -probabilities[i]):
        if reached < p:
            kept[place] = probabilities[place]
        reached += probabilities[place]
    return [share / sum(kept) for share in kept]
