"""The exercises of the lesson on MoE (notebook 05), and the mistakes they catch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.functional import jacobian

from minicoder.show.check import Rule, exercise

Answer = Callable[..., Tensor]


def _close(given: Tensor, wanted: Tensor) -> bool:
    return given.shape == wanted.shape and torch.allclose(
        given.double(), wanted.double(), rtol=1e-9, atol=1e-12)


# --- group-limited top-k; the scores of the lesson, in 4 groups of 2

TOY = torch.tensor([[.20, .02, .05, .18, .15, .14, .16, .10]], dtype=torch.float64)
PAIR = torch.cat((TOY, TOY.flip(1)))


def _chosen(answer: Answer, scores: Tensor, *sizes: int) -> list[int]:
    return answer(scores, *sizes)[0].sort().values.tolist()


def _limited(by: Answer) -> Answer:
    """Top-k among the groups, given as (M, groups, members), that are best by `by`."""
    def answer(scores: Tensor, groups: int, kept: int, k: int) -> Tensor:
        grouped = scores.unflatten(1, (groups, -1))
        best = by(grouped).topk(kept).indices
        keep = torch.zeros(grouped.shape[:2]).scatter(1, best, 1.0)
        return (grouped * keep[..., None]).flatten(1).topk(k, dim=-1).indices
    return answer


@exercise(
    "moe.group_limited",
    rules=(
        Rule("for 2 tokens and k = 3, return a tensor of whole numbers with shape "
             "(2, 3): the numbers of the experts, not their scores.",
             lambda answer: answer(PAIR, 4, 2, 3).shape == (2, 3)
             and not answer(PAIR, 4, 2, 3).is_floating_point(),
             lambda scores, groups, kept, k: scores.topk(k, dim=-1).values),
        Rule("the lesson's scores give experts 0, 3, 6: the best three of all. The "
             "groups play no part yet.",
             lambda answer: _chosen(answer, TOY, 4, 2, 3) != [0, 3, 6],
             lambda scores, groups, kept, k: scores.topk(k, dim=-1).indices),
        Rule("experts 4, 5, 6 lie in the groups with the largest sums (.29, .26); V2 "
             "ranks groups by their best single expert (.20, .18, .15, .16).",
             lambda answer: _chosen(answer, TOY, 4, 2, 3) != [4, 5, 6],
             _limited(lambda s: s.sum(-1))),
        Rule("with the scores reversed the answer is 4, 5, 7, and yours are all below "
             "4: these are places among the survivors, not numbers of experts.",
             lambda answer: max(_chosen(answer, TOY.flip(1), 4, 2, 3)) > 3,
             lambda scores, groups, kept, k: (
                 rows := scores.unflatten(1, (groups, -1))).take_along_dim(
                 rows.amax(-1).topk(kept).indices[..., None], 1).flatten(1).topk(k)[1]),
        Rule("3 experts from the best 2 of 4 groups must be 0, 2, 3; 2 experts from "
             "the better of 2 groups, 0 and 3. Neighbours form a group.",
             lambda answer: _chosen(answer, TOY, 4, 2, 3) == [0, 2, 3]
             and _chosen(answer, TOY, 2, 1, 2) == [0, 3],
             lambda scores, *sizes: _limited(lambda s: s.amax(-1))(scores, 4, 2, 3)),
        Rule("right for one token, wrong for two at once: each ranks its own groups.",
             lambda answer: _chosen(answer, PAIR, 4, 2, 3) == [0, 2, 3],
             _limited(lambda s: s.amax(-1).amax(0).expand(len(s), -1))),
    ),
    hints=("scores.unflatten(1, (groups, -1)) has a row for each group; take its amax.",
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
ONE_EACH = torch.tensor([[1], [0], [1], [0]])


class _Counting:
    """Expert e is 10 ** e x + 1, so not linear; it counts its calls and rows."""

    def __init__(self, number: int) -> None:
        self.factor, self.calls, self.rows = 10.0 ** number, 0, 0

    def __call__(self, rows: Tensor) -> Tensor:
        self.calls, self.rows = self.calls + 1, self.rows + len(rows)
        return rows * self.factor + 1


def _dispatch(answer: Answer, experts: Tensor = EXPERTS) -> tuple[Tensor, int, int]:
    """The answer's output, the most calls of one expert, and the rows of all."""
    run = [_Counting(number) for number in range(4)]
    out = answer(X, experts, WEIGHTS[:, :experts.shape[1]], run)
    return out, max(e.calls for e in run), sum(e.rows for e in run)


def _one_by_one(x: Tensor, experts: Tensor, weights: Tensor, run: list) -> Tensor:
    return torch.cat([sum(w * run[e](x[t:t + 1]) for e, w in zip(
        experts[t].tolist(), weights[t], strict=True)) for t in range(len(x))])


def _everywhere(x: Tensor, experts: Tensor, weights: Tensor, run: list) -> Tensor:
    return sum(expert(x) * (weights * (experts == e)).sum(1, keepdim=True)
               for e, expert in enumerate(run))


def _sorted(
    copy: Answer = lambda x, order, k: x[order // k],
    back: Answer = lambda order: order.argsort(),
    weigh: Answer = lambda rows, weights: (rows * weights[..., None]).sum(1),
    count: Answer = lambda chosen, run: chosen.bincount(minlength=len(run)),
) -> Answer:
    """A sorted dispatch with one of its steps exchanged."""
    def answer(x: Tensor, experts: Tensor, weights: Tensor, run: list) -> Tensor:
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
        Rule("each expert may run once at most. Sort first: then one call serves it.",
             lambda answer: _dispatch(answer)[1] <= 1, _one_by_one),
        Rule("the experts ran on too many rows: 4 tokens with 2 choices each are 8.",
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
        Rule("the output differs from a loop over tokens and experts. The result of "
             "each choice is multiplied by the weight of the same choice.",
             lambda answer: _close(_dispatch(answer)[0], _dispatch(_one_by_one)[0]),
             _sorted(weigh=lambda rows, weights: (
                 rows * weights.flip(1)[..., None]).sum(1))),
        Rule("4 tokens with one expert each, 1, 0, 1 and 0, come out wrong. Is a 2 "
             "written where K belongs, or are the idle experts at the end missing?",
             lambda answer: _close(_dispatch(answer, ONE_EACH)[0],
                                   _dispatch(_one_by_one, ONE_EACH)[0]),
             _sorted(copy=lambda x, order, k: x[order // 2])),
    ),
    hints=("The stable argsort of experts.flatten() brings an expert's rows together.",
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


# --- the device balance loss: 4 tokens, 2 of 4 experts each, on 2 devices

ROUTED = torch.tensor([[0, 1], [0, 2], [0, 1], [3, 0]])
SCORES = torch.tensor([[.4, .3, .2, .1], [.5, .1, .3, .1], [.6, .2, .1, .1],
                       [.3, .2, .1, .4]], dtype=torch.float64)
FLAT, THREE = torch.full((3, 4), 0.25), torch.tensor([[0], [2], [0]])


def _joined(join: Answer) -> Answer:
    """The loss with f and P, one row for each device, joined in another way."""
    def answer(scores: Tensor, experts: Tensor, devices: int) -> Tensor:
        f = F.one_hot(experts, 4).sum((0, 1)) * 4 / experts.numel()
        return join(f.view(devices, -1), scores.mean(0).view(devices, -1))
    return answer


def _gives(answer: Answer, value: float, scores: Tensor = SCORES,
           experts: Tensor = ROUTED, devices: int = 2) -> bool:
    return abs(answer(scores, experts, devices).item() - value) < 1e-6


@exercise(
    "moe.balance",
    rules=(
        Rule("return one number, as a tensor: a float has no gradient.",
             lambda answer: torch.is_tensor(given := answer(SCORES, ROUTED, 2))
             and given.dim() == 0,
             _joined(lambda f, p: (f.mean(1) * p.sum(1)).sum().item())),
        Rule("1.275 is the loss of the 4 experts, f times P; 2 devices have 1.15.",
             lambda answer: not _gives(answer, 1.275),
             _joined(lambda f, p: (f * p).sum())),
        Rule("2.3 is twice 1.15: f' is the mean of a device's f, and f has 1/K in it.",
             lambda answer: not _gives(answer, 2.3),
             _joined(lambda f, p: (f.sum(1) * p.sum(1)).sum())),
        Rule("0.575 is half of 1.15: P' is the sum of a device's P, not their "
             "mean, and the loss is the sum over the devices.",
             lambda answer: not _gives(answer, 0.575),
             _joined(lambda f, p: (f.mean(1) * p.mean(1)).sum())),
        Rule("1.0625 instead of 1.15: device 0 holds experts 0 and 1, yours 0 and 2.",
             lambda answer: not _gives(answer, 1.0625),
             _joined(lambda f, p: (f.mean(0) * p.sum(0)).sum())),
        Rule("the check's 4 tokens must give 1.15 on 2 devices and 1.275 on 4; even "
             "scores give 1, also with 3 tokens and 1 choice each.",
             lambda answer: _gives(answer, 1.15) and _gives(answer, 1.275, devices=4)
             and _gives(answer, 1.0, FLAT, THREE),
             _joined(lambda f, p: f.mean(1).sum())),
        Rule("the value is right, the gradient is not: for each score it must be f'/T. "
             "The counts are constants, and P must not be detached.",
             lambda answer: _close(jacobian(lambda s: answer(s, ROUTED, 2), SCORES)[0],
                                   torch.tensor([3, 3, 1, 1]) / 8),
             _joined(lambda f, p: ((f + p - p.detach()).mean(1) * p.sum(1)).sum())),
    ),
    hints=("expert_loss in the lesson has f and P; start from its lines.",
           "f.view(devices, -1) has a row for each device: neighbours lie together.",
           "Multiply the mean of each row of f by the sum of the same row of P; add."),
)
def balance(scores: Tensor, experts: Tensor, devices: int) -> Tensor:
    """The device-level balance loss of one sequence (DeepSeek-V2 eq. 26-28)."""
    tokens, count = scores.shape
    f = F.one_hot(experts, count).sum((0, 1)) * count / experts.shape[1] / tokens
    p = scores.mean(0)
    return (f.view(devices, -1).mean(1) * p.view(devices, -1).sum(1)).sum()
