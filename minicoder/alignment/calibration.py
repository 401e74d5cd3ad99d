"""How far scores can be trusted as probabilities: AUC, ECE, Platt's scale."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def calibration(scores: Float[Tensor, " N"], right: Float[Tensor, " N"], bins: int = 8
                ) -> dict:
    """Accuracy, AUC, log loss, and predicted against observed share in equal bins.

    `scores` are logits, `right` is 0 or 1. "ece" is the expected calibration error over
    these bins (arXiv 1706.04599, with bins of equal size). Log loss in nats.
    """
    scores, right = scores.cpu().double(), right.cpu().double()
    chance, order = scores.sigmoid(), scores.argsort()
    good, bad = chance[right == 1], chance[right == 0]
    wins = (good[:, None] > bad).double() + 0.5 * (good[:, None] == bad)
    table = [{"predicted": chance[part].mean().item(),
              "observed": right[part].mean().item(), "n": len(part)}
             for part in order.tensor_split(bins) if len(part)]
    gaps = [abs(b["predicted"] - b["observed"]) * b["n"] for b in table]
    return {"accuracy": ((chance > 0.5) == (right == 1)).double().mean().item(),
            "auc": wins.mean().item() if wins.numel() else 0.5,
            "ece": sum(gaps) / len(right),
            "log_loss": F.binary_cross_entropy_with_logits(scores, right).item(),
            "base_rate": right.mean().item(), "n": len(right), "bins": table}


def platt(scores: Float[Tensor, " N"], right: Float[Tensor, " N"]
          ) -> tuple[float, float]:
    """Scale and shift of logits that fit the verdicts best (J. Platt, 1999).

    With his targets, a little inside 0 and 1, so that few verdicts give no infinity.
    """
    good = right.double().sum()
    target = torch.where(right == 1, (good + 1) / (good + 2),
                         1 / (len(right) - good + 2))
    line = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([line], max_iter=200, tolerance_grad=1e-9,
                               tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.binary_cross_entropy_with_logits(
            scores.double() * line[0] + line[1], target)
        loss.backward()
        return loss

    solver.step(closure)
    scale, shift = line.tolist()
    return scale, shift


def cross_fitted(scores: Float[Tensor, " N"], right: Float[Tensor, " N"],
                 fold: Bool[Tensor, " N"]) -> Float[Tensor, " N"]:
    """The scores of each part rescaled by what fits the other part."""
    out = scores.clone()
    for part in (fold, ~fold):
        if part.any() and not part.all():
            scale, shift = platt(scores[~part], right[~part])
            out[part] = scores[part] * scale + shift
    return out
