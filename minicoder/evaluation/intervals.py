"""Ninety-five per cent intervals, so that no number stands alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def wilson(successes: int, trials: int) -> dict[str, float]:
    """A share and Wilson's score interval for it (E. B. Wilson, 1927)."""
    if trials == 0:
        return {"value": 0.0, "low": 0.0, "high": 1.0, "n": 0}
    z, share = 1.959964, successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(
        share * (1 - share) / trials + z * z / (4 * trials * trials))
    return {"value": share, "low": max(0.0, centre - half),
            "high": min(1.0, centre + half), "n": trials}


def bootstrap(values: Sequence[float], resamples: int = 2000, seed: int = 0
              ) -> dict[str, float]:
    """A mean over tasks and its percentile bootstrap interval (tasks are redrawn).

    Where all values are 0, or all 1, redrawing knows no doubt: then Wilson's interval.
    """
    if set(values) in ({0.0}, {1.0}):
        return wilson(int(sum(values)), len(values))
    data = torch.tensor(values, dtype=torch.float64)
    draw = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(data), (resamples, len(data)), generator=draw)
    means = data[picks].mean(1)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return {"value": data.mean().item(), "low": low.item(), "high": high.item(),
            "n": len(values)}
