"""The exercises of the tour (notebook 00), with the mistakes that they catch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from minicoder.show.check import Rule, exercise
from minicoder.tokenizer import EOS, FIM_BEGIN, FIM_END, FIM_HOLE

BitsPerByte = Callable[[float, int, int], float]


def _unlike(factor: float) -> Callable[[BitsPerByte], bool]:
    """Hold unless the answer is `factor` times the true 2 · 100 / 300 / ln 2."""
    true = 2 * 100 / 300 / math.log(2)
    return lambda answer: not math.isclose(
        answer(2.0, 100, 300), factor * true, rel_tol=1e-5)


@exercise(
    "tour.bits_per_byte",
    rules=(
        Rule("the value is 0.69 of what it should be, which is ln 2: the loss is in "
             "nats, and a bit is ln 2 nats.",
             _unlike(math.log(2)), lambda nll, tokens, size: nll * tokens / size),
        Rule("the value is 0.48 of what it should be, which is ln 2 squared: divide by "
             "ln 2, do not multiply.",
             _unlike(math.log(2) ** 2),
             lambda nll, tokens, size: nll * tokens / size * math.log(2)),
        Rule("these are bits per token: the same text in fewer tokens would look "
             "worse. Multiply by the tokens, divide by the bytes.",
             _unlike(3.0), lambda nll, tokens, size: nll / math.log(2)),
        Rule("tokens and bytes are the wrong way round.",
             _unlike(9.0), lambda nll, tokens, size: nll * size / tokens / math.log(2)),
        Rule("a model that guesses each byte at random (nll = ln 256, one token a "
             "byte) needs exactly 8 bits a byte; yours gives another number.",
             lambda answer: math.isclose(
                 answer(math.log(256), 50, 50), 8, rel_tol=1e-5),
             lambda nll, tokens, size: 2 * 100 / 300 / math.log(2)),
        Rule("the value is rounded; leave rounding to the print.",
             lambda answer: math.isclose(  # torch's float32 is exact enough
                 answer(1.7, 311, 1000), 1.7 * 311 / 1000 / math.log(2), rel_tol=1e-5),
             lambda nll, tokens, size: round(nll * tokens / size / math.log(2), 2)),
    ),
    hints=("The text costs nll nats for each token. How many nats is the whole text?",
           "Nats become bits when divided by ln 2, which is math.log(2).",
           "Total bits, shared among all bytes of the text."),
)
def bits_per_byte(nll: float, tokens: int, size: int) -> float:
    """Bits that a model needs for a byte of text.

    nll: mean loss in nats per token; tokens, size: length of the text in both units.
    """
    return nll * tokens / math.log(2) / size


Psm = Callable[[str, str, str], str]


PARTS = ("PRE:\n", "SUF\n", "    MID\n")


def _psm(answer: Psm) -> str:
    return answer(*PARTS)


def _order(text: str) -> list[int]:
    return [text.find(part) for part in ("PRE", "SUF", "MID")]


@exercise(
    "tour.psm",
    rules=(
        Rule("this is no text: join the pieces to one string.",
             lambda answer: isinstance(_psm(answer), str),
             lambda prefix, suffix, middle: [
                 FIM_BEGIN, prefix, FIM_HOLE, suffix, FIM_END, middle, EOS]),
        Rule("a part of the document got lost: prefix, suffix and middle must each "
             "stand in the text once.",
             lambda answer: all(_psm(answer).count(part) == 1
                                for part in ("PRE", "SUF", "MID")),
             lambda prefix, suffix, middle:
                 FIM_BEGIN + prefix + FIM_HOLE + suffix + FIM_END + EOS),
        Rule("the middle stands before the suffix, as in the file. The model reads "
             "from left to right, so what it shall use must come first.",
             lambda answer: not _order(_psm(answer))[2] < _order(_psm(answer))[1],
             lambda prefix, suffix, middle:
                 FIM_BEGIN + prefix + FIM_HOLE + middle + FIM_END + suffix + EOS),
        Rule("this is SPM: the suffix comes first. PSM is prefix, suffix, middle.",
             lambda answer: _order(_psm(answer)) == sorted(_order(_psm(answer))),
             lambda prefix, suffix, middle:
                 FIM_BEGIN + suffix + FIM_HOLE + prefix + FIM_END + middle + EOS),
        Rule("the end of the text is not marked: without EOS after the middle the "
             "model never learns to stop.",
             lambda answer: _psm(answer).endswith(EOS),
             lambda prefix, suffix, middle:
                 FIM_BEGIN + prefix + FIM_HOLE + suffix + FIM_END + middle),
        Rule("a special token is missing: begin before the prefix, hole behind it, end "
             "behind the suffix.",
             lambda answer: all(mark in _psm(answer)
                                for mark in (FIM_BEGIN, FIM_HOLE, FIM_END)),
             lambda prefix, suffix, middle: prefix + FIM_HOLE + suffix + FIM_END
                 + middle + EOS),
        Rule("hole and end are exchanged: the hole stands where the middle was cut "
             "out, the end closes the suffix.",
             lambda answer: _psm(answer).find(FIM_HOLE) < _psm(answer).find(FIM_END),
             lambda prefix, suffix, middle:
                 FIM_BEGIN + prefix + FIM_END + suffix + FIM_HOLE + middle + EOS),
        Rule("the white space of a piece got lost: it is part of the document.",
             lambda answer: all(part in _psm(answer) for part in PARTS),
             lambda prefix, suffix, middle: FIM_BEGIN + prefix.strip() + FIM_HOLE
                 + suffix.strip() + FIM_END + middle.strip() + EOS),
        Rule("the order is right, yet something stands before or between the pieces: "
             "add nothing, not even a space or a newline.",
             lambda answer: _psm(answer) == psm(*PARTS),
             lambda prefix, suffix, middle: "\n".join(
                 [FIM_BEGIN, prefix, FIM_HOLE, suffix, FIM_END, middle, EOS])),
    ),
    hints=("PSM is prefix, suffix, middle: the model sees both sides, then writes.",
           "Begin opens the prefix, hole stands where the cut was, end closes the "
           "suffix.",
           "begin, prefix, hole, suffix, end, middle, EOS."),
)
def psm(prefix: str, suffix: str, middle: str) -> str:
    """Arrange a document for infilling (DeepSeek-Coder-V2 §3.1)."""
    return FIM_BEGIN + prefix + FIM_HOLE + suffix + FIM_END + middle + EOS


MIXED = [1.0, 0.0, 0.0, 1.0]  # a group whose first and last program passed
Advantages = Callable[[list[float]], Sequence[float]]


def _gives(answer: Advantages, rewards: list[float], wanted: list[float]) -> bool:
    given = [float(value) for value in answer(rewards)]
    return len(given) == len(wanted) and all(
        math.isclose(a, b, abs_tol=1e-3) for a, b in zip(given, wanted, strict=True))


def _centred(rewards: list[float]) -> list[float]:
    mean = sum(rewards) / len(rewards)
    return [reward - mean for reward in rewards]


def _sample_std(rewards: list[float]) -> list[float]:
    gaps = _centred(rewards)
    std = math.sqrt(sum(gap * gap for gap in gaps) / (len(gaps) - 1))
    return [gap / std for gap in gaps]


def _no_guard(rewards: list[float]) -> list[float]:
    gaps = _centred(rewards)
    std = math.sqrt(sum(gap * gap for gap in gaps) / len(gaps))
    return [gap / std for gap in gaps]


@exercise(
    "tour.advantages",
    rules=(
        Rule("the advantages are the rewards themselves: subtract the group's mean, "
             "so that a program counts only against its own group.",
             lambda answer: not _gives(answer, MIXED, MIXED),
             lambda rewards: list(rewards)),
        Rule("[1, 0, 0, 1] gives ±0.5: that is Dr. GRPO's advantage. Here the gap is "
             "also divided by the group's standard deviation.",
             lambda answer: not _gives(answer, MIXED, [0.5, -0.5, -0.5, 0.5]),
             _centred),
        Rule("[1, 0, 0, 1] gives ±0.866: that is the sample standard deviation "
             "(n - 1). Here it is the population's (n); the papers do not say which.",
             lambda answer: not _gives(
                 answer, MIXED, [0.866, -0.866, -0.866, 0.866]),
             _sample_std),
        Rule("[1, 0, 0, 1] must give [1, -1, -1, 1].",
             lambda answer: _gives(answer, MIXED, [1.0, -1.0, -1.0, 1.0]),
             lambda rewards: [-x for x in _no_guard(rewards)]),
        Rule("[1, 0, 0, 0] must give [1.732, -0.577, -0.577, -0.577]: the harder the "
             "group, the more its one success counts. Is your divisor a constant?",
             lambda answer: _gives(answer, [1.0, 0.0, 0.0, 0.0],
                                   [1.732, -0.577, -0.577, -0.577]),
             lambda rewards: [2 * gap for gap in _centred(rewards)]),
        Rule("a group whose rewards are all equal must give zeros: nobody was better "
             "than the others. Add a small number to the standard deviation.",
             lambda answer: _gives(answer, [1.0] * 4, [0.0] * 4),
             _no_guard),
    ),
    hints=("The group is its own baseline: first its mean reward, then each gap to it.",
           "Divide each gap by the square root of the mean squared gap.",
           "When all gaps are 0 that root is 0: add 1e-6 below the line."),
)
def advantages(rewards: list[float]) -> list[float]:
    """GRPO's advantage of each sample in one group (DeepSeekMath §4.1)."""
    mean = sum(rewards) / len(rewards)
    gaps = [reward - mean for reward in rewards]
    std = math.sqrt(sum(gap * gap for gap in gaps) / len(gaps))
    return [gap / (std + 1e-6) for gap in gaps]
