"""The exercises of the lesson on YaRN (notebook 08), and the mistakes they catch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from minicoder.config import Real
from minicoder.show.check import Rule, exercise

Answer = Callable[..., Any]
RELEASED = (64, 10_000.0, 4096, 40.0)  # width, base, window, factor
PAIRS = (0, 9, 10, 11, 16, 20, 22, 23, 31)
BLENDED = (1, 0.074989421, 0.056234133, 0.039006927, 0.0055, 0.00079056942,
           0.00017782794, 3.3338036e-05, 3.3338036e-06)  # of the released models


def _same(first: Any, second: Any, rtol: float = 1e-6) -> bool:
    """Whether two answers hold the same numbers, up to rounding."""
    first, second = (torch.as_tensor(x, dtype=torch.float64) for x in (first, second))
    return first.shape == second.shape and torch.allclose(
        first, second, rtol=rtol, atol=0)


def _on(*args: Any) -> Answer:
    """Try an answer on these arguments."""
    return lambda answer: answer(*args)


def _mistake(message: str, run: Answer, wrong: Answer) -> Rule:
    """The rule that an answer must not give what `wrong` gives."""
    return Rule(message, lambda answer: not _same(run(answer), run(wrong)), wrong)


_base = _on(10_000.0, 64, 40.0)


@exercise(
    "yarn.ntk_base",
    rules=(
        _mistake("base · s slows the slowest pair by less than s: its exponent is "
                 "(d − 2) / d, so the base needs the inverse power.", _base,
                 lambda base, width, factor: base * factor),
        _mistake("the power is upside down: d / (d − 2) is above 1.", _base,
                 lambda base, width, factor: base * factor ** ((width - 2) / width)),
        _mistake("you took the number of pairs for the width d.", _base,
                 lambda base, width, factor: base * factor ** (
                     width / 2 / (width / 2 - 2))),
        _mistake("this is the factor of the base, not the base.", _base,
                 lambda base, width, factor: factor ** (width / (width - 2))),
        Rule("with the new base the slowest pair must turn s times slower (tried with "
             "widths 8 and 64, bases 500 and 10,000).",
             lambda answer: all(
                 _same(answer(base, d, s) ** ((2 - d) / d) * s, base ** ((2 - d) / d))
                 for base, d, s in ((500.0, 8, 3.0), (10_000.0, 64, 40.0))),
             lambda base, width, factor: 10_000 * factor ** (width / (width - 2))),
    ),
    hints=("The slowest pair has m = d/2 − 1, so it turns by base^(−(d − 2)/d).",
           "Write base' = base · x and ask for which x the angle is s times smaller."),
)
def ntk_base(base: float, width: int, factor: float) -> float:
    """The base with which the slowest of width/2 pairs turns `factor` times slower."""
    return base * factor ** (width / (width - 2))


def _blend(pair: Answer = lambda d, window, turns, base: d * math.log(
               window / (2 * math.pi * turns)) / (2 * math.log(base)),
           first: Answer = math.floor, last: Answer = math.ceil, clip: bool = True,
           top: Real = -1,
           mix: Answer = lambda kept, slowed, share: kept * (1 - share) + slowed * share
           ) -> Answer:
    """YaRN's rotations, right unless a part is replaced."""
    def answer(width: int, base: float, window: int, factor: float, fast: Real = 32,
               slow: Real = 1) -> torch.Tensor:
        m = torch.arange(width // 2, dtype=torch.float64)
        theta = base ** (-2 * m / width)
        low = max(first(pair(width, window, fast, base)), 0)
        high = min(last(pair(width, window, slow, base)), width + top)
        share = (m - low) / (high - low)
        return mix(theta, theta / factor, share.clamp(0, 1) if clip else share)
    return answer


_released = _on(*RELEASED)


@exercise(
    "yarn.ramp",
    rules=(
        Rule("give one number a pair: width / 2 of them.",
             lambda answer: len(_released(answer)) == 32, lambda *_: torch.zeros(64)),
        _mistake("this is position interpolation: every pair is slowed, also the fast "
                 "ones that tell neighbours apart.", _released,
                 _blend(mix=lambda kept, slowed, share: slowed)),
        _mistake("the ramp is upside down: fast pairs, below `low`, are kept.",
                 _released,
                 _blend(mix=lambda kept, slowed, share: kept * share
                        + slowed * (1 - share))),
        _mistake("the ramp is not clipped to 0 … 1: outside of low … high it runs on.",
                 _released, _blend(clip=False)),
        _mistake("the ends of the ramp are not whole pairs: floor the low end, ceil "
                 "the high one.", _released,
                 _blend(first=lambda x: x, last=lambda x: x)),
        _mistake("the high end is floored to 22. It is rounded up, to 23.",
                 _released, _blend(last=math.floor)),
        _mistake("you blend factors or wavelengths. YaRN blends the angles theta and "
                 "theta / s.", _released,
                 _blend(mix=lambda kept, slowed, share: 1 / (
                     (1 - share) / kept + share / slowed))),
        _mistake("2π is missing: a pair that turns by theta a token makes "
                 "window · theta / 2π rotations.", _released,
                 _blend(lambda d, window, turns, base: d * math.log(window / turns) / (
                     2 * math.log(base)))),
        _mistake("the low end is not floored: it is 10, from 10.47.", _released,
                 _blend(first=lambda x: x)),
        _mistake("the low end is rounded up to 11. It is floored, to 10.", _released,
                 _blend(first=math.ceil)),
        _mistake("the ramp asks about the *first* window: do not multiply it by s.",
                 _released,
                 lambda width, base, window, factor, *turns: _blend()(
                     width, base, int(window * factor), factor, *turns)),
        Rule("the released models' rotations must come out: pair 11 is slowed from "
             "0.0421697 to 0.0390069, pair 16 from 0.01 to 0.0055.",
             lambda answer: _same(torch.as_tensor(_released(answer))[list(PAIRS)],
                                  BLENDED),
             _blend(mix=lambda kept, slowed, share: kept ** (1 - share)
                    * slowed ** share)),
        Rule("a short window pushes the low end below pair 0: clamp it to 0 (tried "
             "with 16 numbers and a window of 64).",
             lambda answer: _same(answer(16, 10_000.0, 64, 4.0),
                                  _blend()(16, 10_000.0, 64, 4.0)),
             lambda width, base, window, factor, fast=32, slow=1: _blend(
                 first=lambda x: math.floor(x) if x >= 0 else 1)(
                     width, base, window, factor, fast, slow)),
        Rule("the high end is at most width − 1, as in the released code (tried with 8 "
             "numbers, base 10 and a window of 1,000: m(1) is 8.8).",
             lambda answer: _same(answer(8, 10.0, 1000, 4.0),
                                  _blend()(8, 10.0, 1000, 4.0)),
             _blend(top=math.inf)),
        Rule("use `base`, `fast` and `slow` as they are given (tried with base 500 and "
             "with 16 and 2 turns).",
             lambda answer: _same(answer(32, 500.0, 8192, 8.0, 16, 2),
                                  _blend()(32, 500.0, 8192, 8.0, 16, 2)),
             lambda width, base, window, factor, fast=32, slow=1: _blend()(
                 width, base, window, factor)),
    ),
    hints=("Pair m makes window · theta_m / 2π rotations; solve for m.",
           "low = floor(m for fast), high = ceil(m for slow), in 0 … width − 1.",
           "share = ((m − low) / (high − low)).clamp(0, 1); then blend the angles."),
)
def ramp(width: int, base: float, window: int, factor: float, fast: Real = 32,
         slow: Real = 1) -> torch.Tensor:
    """YaRN's angle per token of every pair (arXiv 2309.00071 §3.2)."""
    first, last = (width * math.log(window / (2 * math.pi * rotations))
                   / (2 * math.log(base)) for rotations in (fast, slow))
    low, high = max(math.floor(first), 0), min(math.ceil(last), width - 1)
    m = torch.arange(width // 2, dtype=torch.float64)
    theta = base ** (-2 * m / width)
    share = ((m - low) / (high - low)).clamp(0, 1)
    return theta * (1 - share) + theta / factor * share


def _scale(power: int = 2, log: Answer = math.log, one: float = 1.0,
           width: Answer = lambda nope, rotary: nope + rotary,
           weight: Answer = lambda m: m) -> Answer:
    """The scale of the softmax, right unless a part is replaced."""
    def answer(nope: int, rotary: int, factor: float, mscale: float) -> float:
        gain = 0.1 * weight(mscale) * log(factor) + one if factor > 1 else 1.0
        return gain ** power * width(nope, rotary) ** -0.5
    return answer


_lite = _on(128, 64, 40.0, 0.707)


@exercise(
    "yarn.softmax_scale",
    rules=(
        _mistake("scores are 1.59 times too small: the softmax scale lacks mscale². "
                 "This is transformers' bug.", _lite, _scale(power=0)),
        _mistake("scores are 1.26 times too small: g belongs to the query and to the "
                 "key, so the score gets g².", _lite, _scale(power=1)),
        _mistake("the logarithm is the natural one, not that of base 10.", _lite,
                 _scale(log=math.log10)),
        _mistake("the 1 of g = 0.1 · m · ln s + 1 is missing.", _lite, _scale(one=0.0)),
        _mistake("divide by the root of the whole width, 128 + 64.", _lite,
                 _scale(width=lambda nope, rotary: rotary)),
        _mistake("mscale itself was squared: the square is that of "
                 "g = 0.1 · m · ln s + 1.", _lite,
                 lambda nope, rotary, factor, mscale: mscale ** 2 * (
                     nope + rotary) ** -0.5),
        Rule("with m = 0.707 and s = 40 the scale must be 0.1147214, with m = 1 "
             "0.1352338; with m = 1 and s = 8 it is 0.1053036.",
             lambda answer: _same(_lite(answer), 0.1147213868)
             and _same(answer(128, 64, 40.0, 1.0), 0.1352337789)
             and _same(answer(128, 64, 8.0, 1.0), (0.1 * math.log(8) + 1) ** 2
                       / 192 ** 0.5),
             _scale(weight=lambda m: 0.707)),
        Rule("a model that was not stretched (s = 1) keeps 1 / √width, and so does one "
             "with s below 1.",
             lambda answer: all(_same(answer(48, 16, s, 1.0), 0.125)
                                for s in (1.0, 0.5)),
             lambda nope, rotary, factor, mscale: (
                 0.1 * mscale * math.log(factor) + 1) ** 2 * (nope + rotary) ** -0.5),
    ),
    hints=("g = 0.1 · mscale · ln(factor) + 1, and 1 when the factor is 1 or less.",
           "The scale is g · g / √(nope + rotary)."),
)
def softmax_scale(nope: int, rotary: int, factor: float, mscale: float) -> float:
    """What MLA multiplies every score by; g is 1 for a factor of 1 or less."""
    gain = 0.1 * mscale * math.log(factor) + 1 if factor > 1 else 1.0
    return gain * gain / (nope + rotary) ** 0.5
