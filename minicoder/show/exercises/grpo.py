"""The exercises of the lesson on GRPO (notebook 11), and the mistakes they catch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minicoder.show.check import Rule, exercise

Answer = Callable[..., Any]


def _same(first: Any, second: Any, within: float = 1e-4) -> bool:
    """Whether two answers hold the same numbers, in the same shape."""
    first, second = (torch.as_tensor(x, dtype=torch.float64) for x in (first, second))
    return first.shape == second.shape and torch.allclose(
        first, second, rtol=0, atol=within)


def _on(*args: Any) -> Answer:
    """Try an answer on these arguments."""
    return lambda answer: answer(*args)


def _mistake(message: str, run: Answer, wrong: Answer) -> Rule:
    """The rule that an answer must not give what `wrong` gives."""
    return Rule(message, lambda answer: not _same(run(answer), run(wrong), 5e-4), wrong)


def _std(x: Tensor) -> Tensor:
    return x.std(1, correction=0, keepdim=True)


def _compare(centre: Answer = lambda r: r.nanmean(1, keepdim=True),
             scale: Answer = lambda r: (r - r.nanmean(1, keepdim=True)).square(
                 ).nanmean(1, keepdim=True).sqrt() + 1e-6,
             sign: int = 1, use_spread: bool = True, mask: bool = True,
             first: Answer = lambda r: r) -> Answer:
    """Advantages, right unless a part is replaced."""
    def answer(rewards: Tensor, spread: bool = True) -> Tensor:
        rewards = first(rewards)
        gaps = sign * (rewards - centre(rewards))
        if spread or not use_spread:
            gaps = gaps / scale(rewards)
        return gaps.nan_to_num(0.0) if mask else gaps
    return answer


TWO = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
THIRD = 3 ** 0.5
NEAR = 1e-3  # trl adds 1e-4 to the deviation: right as well
_two = _on(TWO)
_agreed = _on(torch.ones(2, 4))
_broken = _on(torch.tensor([[1.0, math.nan, 0.0, 0.0, 1.0]]))


@exercise(
    "grpo.advantages",
    rules=(
        Rule("give one advantage for each reward, in the same shape: groups are rows.",
             lambda answer: tuple(_two(answer).shape) == (2, 4),
             lambda rewards, spread=True: _compare()(rewards, spread).flatten()),
        _mistake("the rewards were not compared with their group: subtract its mean.",
                 _two, _compare(centre=lambda r: 0 * r)),
        _mistake("you took mean and deviation of the whole batch. The baseline is the "
                 "group: an easy question must not push down a hard one.", _two,
                 _compare(centre=lambda r: r.mean(),
                          scale=lambda r: r.std(correction=0) + 1e-6)),
        _mistake("the mean is the group's, but the deviation that of the whole batch "
                 "(trl offers it as scale_rewards=\"batch\"). GRPO takes the group's.",
                 _two, _compare(scale=lambda r: r.std(correction=0) + 1e-6)),
        _mistake("[1, 0, 0, 1] gives ±0.866: that is the sample deviation (n - 1). "
                 "Take the population's (n), as the library does; the papers do not "
                 "say which.", _two,
                 _compare(scale=lambda r: r.std(1, keepdim=True) + 1e-6)),
        _mistake("[1, 0, 0, 1] gives ±0.5 though `spread` is true: this is Dr. GRPO.",
                 _two, _compare(scale=lambda r: 1.0)),
        _mistake("you divided by the variance: take its root.", _two,
                 _compare(scale=lambda r: _std(r).square() + 1e-6)),
        Rule("[1, 0, 0, 1] must give [1, -1, -1, 1], and [0, 0, 0, 1] must give three "
             "times -0.577 and once 1.732.",
             lambda answer: _same(_two(answer), [[1, -1, -1, 1],
                                                 [-1 / THIRD] * 3 + [THIRD]], NEAR),
             _compare(sign=-1)),
        Rule("with spread=False nothing is divided: [1, 0, 0, 1] gives ±0.5.",
             lambda answer: _same(answer(TWO, False)[0], [0.5, -0.5, -0.5, 0.5]),
             _compare(use_spread=False)),
        Rule("a group of equal rewards must give zeros. Yours divides 0 by 0: add a "
             "small number to the deviation.",
             lambda answer: _same(_agreed(answer), torch.zeros(2, 4)),
             _compare(scale=_std, mask=False)),
        Rule("NaN is an answer that could not be judged: its advantage is 0, and the "
             "mean and the deviation are those of the others. [1, NaN, 0, 0, 1] must "
             "give [1, 0, -1, -1, 1].",
             lambda answer: _same(_broken(answer), [[1, 0, -1, -1, 1]], NEAR),
             _compare(first=lambda r: r.nan_to_num(0.0))),
    ),
    hints=("A row is a group: its mean with nanmean(1, keepdim=True), then the gaps.",
           "The deviation is the root of the gaps' mean square; add 1e-6.",
           "At the end nan_to_num(0.0) gives the unjudged their 0."),
)
def advantages(rewards: Tensor, spread: bool = True) -> Tensor:
    """(r - mean) / std in each row; NaN takes no part and gets 0."""
    gaps = rewards - rewards.nanmean(1, keepdim=True)
    if spread:
        gaps = gaps / (gaps.square().nanmean(1, keepdim=True).sqrt() + 1e-6)
    return gaps.nan_to_num(0.0)


def _per_answer(gain: Tensor, mask: Tensor) -> Tensor:
    return ((gain * mask).sum(1) / mask.sum(1)).mean()


def _clipped(ratio: Answer = lambda new, old: (new - old).exp(),
             choose: Answer = torch.minimum, average: Answer = _per_answer,
             sign: int = -1, bound: Answer = lambda r, a, low, high: r.clamp(
                 1 - low, 1 + high) * a) -> Answer:
    """GRPO's loss, right unless a part is replaced."""
    def answer(new: Tensor, old: Tensor, advantage: Tensor, mask: Tensor,
               low: float = 0.2, high: float = 0.2) -> Tensor:
        a, r = advantage[:, None], ratio(new, old)
        return sign * average(choose(r * a, bound(r, a, low, high)), mask)
    return answer


def _whole(new: Tensor, old: Tensor, advantage: Tensor, mask: Tensor,
           low: float = 0.2, high: float = 0.2) -> Tensor:
    """The same with one ratio for each answer (DeepSeek-V2 eq. 32)."""
    ratio = ((new - old) * mask).sum(1, keepdim=True).exp()
    return _clipped(ratio=lambda new, old: ratio, average=lambda gain, _: gain.mean())(
        new, old, advantage, mask, low, high)


def _answers() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Three answers of 3, 1 and 2 tokens, with ratios on every side of the clip."""
    ratio = torch.tensor([[1.5, 1.0, 0.6], [0.5, 7.0, 7.0], [1.6, 0.9, 7.0]],
                         dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0]], dtype=torch.bool)
    old = torch.tensor([[-1.0, -2.0, -0.5]] * 3, dtype=torch.float64)
    advantage = torch.tensor([1.0, -1.0, -0.5], dtype=torch.float64)
    return old + ratio.log(), old, advantage, mask


_three = _on(*_answers())
_higher = _on(*_answers(), 0.2, 0.28)


def _slope(answer: Answer) -> Tensor:
    """The gradient where the new policy is the old one."""
    _, *given = _answers()
    new = given[0].clone().requires_grad_()
    answer(new, *given).backward()
    return new.grad


@exercise(
    "grpo.clipped_loss",
    rules=(
        Rule("a loss is one number: average over tokens and answers.",
             lambda answer: torch.as_tensor(_three(answer)).ndim == 0,
             _clipped(average=lambda gain, mask: gain * mask)),
        _mistake("the sign is wrong: the gain is to grow, so the loss is minus it.",
                 _three, _clipped(sign=1)),
        _mistake("the ratio is upside down: it is new over old, exp(new - old).",
                 _three, _clipped(ratio=lambda new, old: (old - new).exp())),
        _mistake("this is the difference of the log-probabilities; the ratio is its "
                 "exponential.", _three, _clipped(ratio=lambda new, old: new - old)),
        _mistake("nothing is clipped.", _three,
                 _clipped(choose=lambda free, cut: free)),
        _mistake("you took the clipped gain alone. Without the minimum a token that "
                 "went the wrong way gets no gradient to come back.", _three,
                 _clipped(choose=lambda free, cut: cut)),
        _mistake("you took the larger of both gains; the bound is pessimistic, so take "
                 "the smaller.", _three, _clipped(choose=torch.maximum)),
        _mistake("you clipped ratio times advantage; clip the ratio, then multiply.",
                 _three, _clipped(bound=lambda r, a, low, high: (r * a).clamp(
                     1 - low, 1 + high))),
        _mistake("padding was counted: tokens where the mask is false take no part.",
                 _three, _clipped(average=lambda gain, mask: gain.mean())),
        _mistake("all tokens of the batch count the same: that is DAPO. In "
                 "DeepSeekMath answers do: average over the tokens of each first.",
                 _three, _clipped(average=lambda gain, mask: gain[mask].mean())),
        _mistake("you divided every answer by the longest one's length: that is Dr. "
                 "GRPO's constant. DeepSeekMath takes each answer's own.", _three,
                 _clipped(average=lambda gain, mask: (gain * mask).mean(1).mean())),
        _mistake("each answer has one ratio, the product over its tokens: that is "
                 "DeepSeek-V2 eq. 32. DeepSeekMath eq. 3 has one for each token.",
                 _three, _whole),
        Rule("the three answers with ratios 1.5, 1.0, 0.6 (A = 1), 0.5 (A = -1) and "
             "1.6, 0.9 (A = -0.5) must give 0.1639. Is A a column, A[:, None]?",
             lambda answer: _same(_three(answer), 0.1638889),
             _clipped(average=lambda gain, mask: (
                 (gain * mask).sum(1) / mask.sum(1)).sum())),
        Rule("`high` is the upper bound and `low` the lower one: DAPO's 0.2 and 0.28 "
             "must give 0.1550.",
             lambda answer: _same(_higher(answer), 0.1550),
             lambda new, old, advantage, mask, low=0.2, high=0.2: _clipped()(
                 new, old, advantage, mask, low, low)),
        Rule("where new and old are equal the gradient must not vanish: it is minus "
             "A / (answers · tokens of the answer). Yours was cut off; do not detach "
             "`new`.",
             lambda answer: _same(_slope(answer)[:, 0], [-1 / 9, 1 / 3, 1 / 12]),
             lambda new, old, advantage, mask, low=0.2, high=0.2: _clipped()(
                 new.detach(), old, advantage, mask, low, high) + 0 * new.sum()),
    ),
    hints=("ratio = (new - old).exp(), and the advantage as a column: A[:, None].",
           "gain = minimum(ratio · A, ratio.clamp(1 - low, 1 + high) · A).",
           "((gain * mask).sum(1) / mask.sum(1)).mean(), and a minus before it."),
)
def clipped_loss(new: Tensor, old: Tensor, advantage: Tensor, mask: Tensor,
                 low: float = 0.2, high: float = 0.2) -> Tensor:
    """DeepSeekMath eq. 3 without its KL term, negated."""
    a, ratio = advantage[:, None], (new - old).exp()
    gain = torch.minimum(ratio * a, ratio.clamp(1 - low, 1 + high) * a)
    return -((gain * mask).sum(1) / mask.sum(1)).mean()


_k3 = _on(torch.zeros(3, dtype=torch.float64),
          torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64).log())


def _pull(answer: Answer) -> Tensor:
    new = torch.zeros(1, requires_grad=True)
    answer(new, torch.tensor([2.0]).log()).sum().backward()
    return new.grad


@exercise(
    "grpo.k3",
    rules=(
        _mistake("this is k1, ln(pi / pi_ref): for x = 2 it is negative, and no KL "
                 "is.", _k3, lambda new, reference: new - reference),
        _mistake("this is k1 the other way round, ln x.", _k3,
                 lambda new, reference: reference - new),
        _mistake("this is k2, half of the squared logarithm: never negative, but "
                 "biased.", _k3, lambda new, reference: (reference - new) ** 2 / 2),
        _mistake("x is pi_ref / pi, the reference above: yours is upside down.", _k3,
                 lambda new, reference: (new - reference).exp() - (
                     new - reference) - 1),
        _mistake("where both agree (x = 1) the estimate must be 0: the - 1 is missing.",
                 _k3, lambda new, reference: (reference - new).exp() - (
                     reference - new)),
        _mistake("x itself was subtracted; it is x - ln x - 1, with the logarithm.",
                 _k3, lambda new, reference: (reference - new).exp() - (
                     reference - new).exp() - 1),
        Rule("one number for each token: x = 1, 2, 0.5 give 0, 0.306853, 0.193147.",
             lambda answer: _same(_k3(answer), [0.0, 0.306853, 0.193147], 1e-6),
             lambda new, reference: ((reference - new).exp() - (
                 reference - new) - 1) / math.log(2)),
        Rule("it is part of the loss, so its gradient counts, 1 - x: do not detach.",
             lambda answer: _same(_pull(answer), [-1.0]),
             lambda new, reference: k3(new.detach(), reference) + 0 * new),
    ),
    hints=("With log-probabilities, ln x = reference - new.",
           "x - ln x - 1 = exp(ln x) - ln x - 1."),
)
def k3(new: Tensor, reference: Tensor) -> Tensor:
    """The estimate of KL at each token (DeepSeekMath eq. 4)."""
    log_x = reference - new
    return log_x.exp() - log_x - 1


_hard = _on(0.2, 4)


@exercise(
    "grpo.signal",
    rules=(
        _mistake("a group in which all pass teaches nothing either.", _hard,
                 lambda p, group: 1 - (1 - p) ** group),
        _mistake("a group in which none passes teaches nothing either.", _hard,
                 lambda p, group: 1 - p ** group),
        _mistake("this is the chance that a group teaches nothing.", _hard,
                 lambda p, group: p ** group + (1 - p) ** group),
        _mistake("this is the chance that two answers differ; the group has more.",
                 _hard, lambda p, group: 2 * p * (1 - p)),
        _mistake("you multiplied both chances. All pass or none does, never both at "
                 "once: add them.", _hard,
                 lambda p, group: (1 - p ** group) * (1 - (1 - p) ** group)),
        Rule("for p = 0.2 and a group of 4 the chance must be 0.5888, for p = 0.01 and "
             "64 it is 0.4744.",
             lambda answer: _same(_hard(answer), 0.5888)
             and _same(answer(0.01, 64), 0.47440, 1e-4),
             lambda p, group: 1 - p ** 4 - (1 - p) ** 4),
        Rule("a question that is always answered right, or never, teaches nothing: "
             "p = 0 and p = 1 must give 0.",
             lambda answer: all(_same(answer(p, 8), 0.0) for p in (0.0, 1.0)),
             lambda p, group: 1 - p ** group - (1 - p) ** group if 0 < p < 1 else 1.0),
    ),
    hints=("When are all rewards equal? In two cases.",
           "All of G pass with chance p^G, none with (1 - p)^G."),
)
def signal(p: float, group: int) -> float:
    """Chance that `group` answers, each right with chance p, do not all agree."""
    return 1 - p ** group - (1 - p) ** group
