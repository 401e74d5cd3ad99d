"""The exercises of the lesson on MoE (notebook 05), and the mistakes they catch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from minicoder.show.check import Rule, exercise

Answer = Callable[..., Tensor]
Run = Sequence[Callable[[Tensor], Tensor]]


def _close(given: Tensor, wanted: Tensor) -> bool:
    return given.shape == wanted.shape and torch.allclose(
        given.double(), wanted.double(), rtol=1e-9, atol=1e-12)


# --- group-limited top-k; the scores of the lesson, in 4 groups of 2

TOY = torch.tensor([[.20, .02, .05, .18, .15, .14, .16, .10]], dtype=torch.float64)


def _chosen(answer: Answer, scores: Tensor, *sizes: int) -> list[int]:
    return answer(scores, *sizes)[0].sort().values.tolist()


def _limited(scores: Tensor, kept: int, k: int, by: Answer) -> Tensor:
    """Top-k among the `kept` groups, given as (M, groups, members), that are best."""
    best = by(scores).topk(kept, dim=-1).indices
    keep = torch.zeros(scores.shape[:2]).scatter(1, best, 1.0)
    return (scores * keep[..., None]).flatten(1).topk(k, dim=-1).indices


def _local(scores: Tensor, groups: int, kept: int, k: int) -> Tensor:
    grouped = scores.unflatten(1, (groups, -1))
    best = grouped.amax(-1).topk(kept, dim=-1).indices.sort(-1).values
    return grouped.take_along_dim(best[..., None], 1).flatten(1).topk(k).indices


@exercise(
    "moe.group_limited",
    rules=(
        Rule("the lesson's scores give experts 0, 3, 6: the best three of all. The "
             "groups play no part yet.",
             lambda answer: _chosen(answer, TOY, 4, 2, 3) != [0, 3, 6],
             lambda scores, groups, kept, k: scores.topk(k, dim=-1).indices),
        Rule("the lesson's scores give experts 4, 5, 6, so groups 2 and 3 survived. "
             "They have the largest sums (.29, .26); V2 ranks groups by their best "
             "single expert (.20, .18, .15, .16).",
             lambda answer: _chosen(answer, TOY, 4, 2, 3) != [4, 5, 6],
             lambda scores, groups, kept, k: _limited(
                 scores.unflatten(1, (groups, -1)), kept, k, lambda s: s.sum(-1))),
        Rule("with the scores reversed the answer is 4, 5, 7, and yours is 0, 1, 3: "
             "these are places among the survivors, not numbers of experts.",
             lambda answer: _chosen(answer, TOY.flip(1), 4, 2, 3) != [0, 1, 3], _local),
        Rule("3 experts from the best 2 of 4 groups must be 0, 2, 3; 2 experts from "
             "the better of 2 groups, 0 and 3.",
             lambda answer: _chosen(answer, TOY, 4, 2, 3) == [0, 2, 3]
             and _chosen(answer, TOY, 2, 1, 2) == [0, 3],
             lambda scores, groups, kept, k: _limited(
                 scores.unflatten(1, (4, 2)), 2, 3, lambda s: s.amax(-1))),
    ),
    hints=("scores.unflatten(1, (groups, -1)) has one row for each group of a token; "
           "amax(-1) is the best score of each group.",
           "topk(kept).indices tells the surviving groups. Scatter ones to them, and "
           "multiply: the experts of all other groups get score 0.",
           "flatten(1) goes back to one column for each expert; then topk(k)."),
)
def group_limited(scores: Tensor, groups: int, kept: int, k: int) -> Tensor:
    """The k experts of each token, all from its `kept` best groups: (M, k)."""
    grouped = scores.unflatten(1, (groups, -1))
    best = grouped.amax(-1).topk(kept, dim=-1).indices
    keep = torch.zeros_like(grouped[..., 0]).scatter(1, best, 1.0)
    return (grouped * keep[..., None]).flatten(1).topk(k, dim=-1).indices


# --- dispatch: 4 tokens, 2 of 4 experts each, expert 1 idle

X = torch.tensor([[1.], [2.], [3.], [4.]], dtype=torch.float64)
EXPERTS = torch.tensor([[3, 0], [0, 2], [3, 2], [0, 3]])
WEIGHTS = torch.tensor([[.5, .1], [.3, .2], [.4, .3], [.2, .6]], dtype=torch.float64)


class _Counting:
    """Expert e multiplies by 10 ** e and counts its calls and rows."""

    def __init__(self, number: int) -> None:
        self.factor, self.calls, self.rows = 10.0 ** number, 0, 0

    def __call__(self, rows: Tensor) -> Tensor:
        self.calls, self.rows = self.calls + 1, self.rows + len(rows)
        return rows * self.factor


def _dispatch(answer: Answer) -> tuple[Tensor, int, int]:
    """The answer's output, the most calls of one expert, and the rows of all."""
    run = [_Counting(number) for number in range(4)]
    out = answer(X, EXPERTS, WEIGHTS, run)
    return out, max(e.calls for e in run), sum(e.rows for e in run)


def _one_by_one(x: Tensor, experts: Tensor, weights: Tensor, run: Run) -> Tensor:
    return torch.cat([sum(w * run[e](x[t:t + 1]) for e, w in zip(
        experts[t].tolist(), weights[t], strict=True)) for t in range(len(x))])


def _everywhere(x: Tensor, experts: Tensor, weights: Tensor, run: Run) -> Tensor:
    return sum(expert(x) * (weights * (experts == e)).sum(1, keepdim=True)
               for e, expert in enumerate(run))


def _sorted(
    copy: Answer = lambda x, order, k: x[order // k],
    back: Answer = lambda order: order.argsort(),
    weigh: Answer = lambda rows, weights: (rows * weights[..., None]).sum(1),
    count: Answer = lambda chosen, run: chosen.bincount(minlength=len(run)),
) -> Answer:
    """A sorted dispatch with one of its steps exchanged."""
    def answer(x: Tensor, experts: Tensor, weights: Tensor, run: Run) -> Tensor:
        chosen, k = experts.flatten(), experts.shape[1]
        order = chosen.argsort(stable=True)
        parts = copy(x, order, k).split(count(chosen, run).tolist())
        rows = torch.cat([e(part) for e, part in zip(run, parts, strict=False)])
        return weigh(rows[back(order)].unflatten(0, (-1, k)), weights)
    return answer


def _outcome(message: str, wrong: Answer) -> Rule:
    return Rule(message, lambda answer: not _close(
        _dispatch(answer)[0], _dispatch(wrong)[0]), wrong)


@exercise(
    "moe.dispatch",
    rules=(
        Rule("an expert ran more than once. Sort first: then one call serves it.",
             lambda answer: _dispatch(answer)[1] <= 1, _one_by_one),
        Rule("the experts ran on 16 rows, each on all 4 tokens. 4 tokens with 2 "
             "experts each are 8 rows.",
             lambda answer: _dispatch(answer)[2] <= 8, _everywhere),
        _outcome("expert 1 got no token, and the experts behind it got rows of others: "
                 "bincount needs minlength, unique leaves the idle ones out.",
                 _sorted(count=lambda chosen, run: chosen.unique(
                     return_counts=True)[1])),
        _outcome("the rows stay in the order of the experts: un-sort them before you "
                 "add up a token's results.", _sorted(back=lambda order: slice(None))),
        _outcome("rows[order] sorts a second time. To un-sort, use the inverse: "
                 "order.argsort().", _sorted(back=lambda order: order)),
        _outcome("row r of the flat choices belongs to token r // K; yours takes "
                 "token r % M.", _sorted(copy=lambda x, order, k: x[order % len(x)])),
        _outcome("the results are added, not weighted: each is to be multiplied by its "
                 "router weight.", _sorted(weigh=lambda rows, weights: rows.sum(1))),
        Rule("the output differs from a loop over tokens and experts.",
             lambda answer: _close(_dispatch(answer)[0], _dispatch(_one_by_one)[0]),
             _sorted(weigh=lambda rows, weights: (
                 rows * weights.flip(1)[..., None]).sum(1))),
    ),
    hints=("experts.flatten() lists all choices; its stable argsort brings the choices "
           "of one expert together.",
           "Choice r belongs to token r // K. bincount(minlength=len(run)) says how "
           "many rows each expert gets; split cuts them.",
           "order.argsort() un-sorts. Then unflatten(0, (M, K)), times weights, sum."),
)
def dispatch(x: Tensor, experts: Tensor, weights: Tensor,
             run: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """Run each expert once on the rows that chose it; weighted sum per token."""
    chosen = experts.flatten()
    order = chosen.argsort(stable=True)
    counts = chosen.bincount(minlength=len(run)).tolist()
    parts = x[order // experts.shape[1]].split(counts)
    rows = torch.cat([expert(part) for expert, part in zip(run, parts, strict=True)])
    rows = rows[order.argsort()].unflatten(0, experts.shape)
    return (rows * weights[..., None]).sum(1)


# --- the expert balance loss: 4 tokens, 2 of 4 experts each

ROUTED = torch.tensor([[0, 1], [0, 2], [0, 1], [3, 0]])
SCORES = torch.tensor([[.4, .3, .2, .1], [.5, .1, .3, .1], [.6, .2, .1, .1],
                       [.3, .2, .1, .4]], dtype=torch.float64)
FLAT, EVEN = torch.full((4, 4), 0.25), torch.tensor([[0, 1], [2, 3]] * 2)


def _loss(f: Answer = lambda s, e: _counts(s, e) / 2,
          p: Answer = lambda s, e: s.mean(0)) -> Answer:
    """The loss with one part exchanged; E/(K T) is 4/(2 · 4) = 1/2."""
    return lambda scores, experts: (f(scores, experts) * p(scores, experts)).sum()


def _counts(scores: Tensor, experts: Tensor) -> Tensor:
    """How many tokens chose each expert."""
    return F.one_hot(experts, scores.shape[1]).sum((0, 1)).to(scores.dtype)


def _gradient(answer: Answer) -> Tensor:
    scores = SCORES.clone().requires_grad_()
    loss = answer(scores, ROUTED)
    if loss.requires_grad:
        return torch.autograd.grad(loss, scores)[0]
    return torch.zeros_like(scores)


def _unlike(message: str, wrong: Answer) -> Rule:
    return Rule(message, lambda answer: not _close(
        answer(SCORES, ROUTED), wrong(SCORES, ROUTED)), wrong)


@exercise(
    "moe.balance",
    rules=(
        _unlike("the loss is 4 for every routing, even or not: that is the sum of f "
                "alone. P, the mean score of each expert, is missing.",
                _loss(p=lambda s, e: torch.ones(4, dtype=s.dtype))),
        _unlike("4 tokens with 2 choices each, dealt out evenly, give 2 instead of 1: "
                "divide by K, for a token is counted K times.",
                _loss(f=lambda s, e: _counts(s, e) * 4 / 4)),
        _unlike("an even load gives 1/4 instead of 1: f lacks the factor E, the number "
                "of experts.", _loss(f=lambda s, e: _counts(s, e) / 2 / 4)),
        _unlike("f is made of scores. It counts choices: E/(K T) times the tokens that "
                "chose the expert.", _loss(f=lambda s, e: s.mean(0) * 4)),
        _unlike("P is the mean over all tokens of the score, chosen or not; yours "
                "leaves out the scores of experts that were not chosen.",
                _loss(p=lambda s, e: (s * F.one_hot(e, 4).sum(1)).mean(0))),
        Rule("an even load must give 1, and the check's routing 1.275.",
             lambda answer: answer(FLAT, EVEN).item() == 1
             and abs(answer(SCORES, ROUTED).item() - 1.275) < 1e-9,
             lambda scores, experts: _loss()(scores, experts).square()),
        Rule("no gradient reaches the scores: do not detach P.",
             lambda answer: bool(_gradient(answer).any()),
             _loss(p=lambda s, e: s.mean(0).detach())),
        Rule("the value is right and the gradient is not: for each score it must be "
             "f/T. The counts are constants and carry no gradient.",
             lambda answer: _close(
                 _gradient(answer)[0], _counts(SCORES, ROUTED) / 8),
             _loss(f=lambda s, e: _counts(s, e) / 2 + (s - s.detach()).sum(0))),
    ),
    hints=("F.one_hot(experts, E).sum((0, 1)) counts the tokens of each expert.",
           "f is that count times E, divided by K and by T. An even load has f = 1.",
           "P is scores.mean(0). The loss is the sum of f times P."),
)
def balance(scores: Tensor, experts: Tensor) -> Tensor:
    """The expert-level balance loss of one sequence (DeepSeek-V2 eq. 23-25)."""
    (tokens, count), chosen = scores.shape, experts.shape[1]
    f = F.one_hot(experts, count).sum((0, 1)) * count / chosen / tokens
    return (f * scores.mean(0)).sum()
