"""Ninety-five per cent intervals, so that no number stands alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

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


def student_t(freedom: int, share: float = 0.95) -> float:
    """How many standard errors to each side hold `share` of Student's t distribution.

    12.706 for 1 degree of freedom, 4.303 for 2, 1.960 for very many. By bisection of
    the finite sums that the distribution is for whole degrees (Abramowitz and Stegun,
    26.7.3 and 26.7.4).
    """
    def within(angle: float) -> float:      # P(|t| < tan(angle) · √freedom)
        odd, cos2 = freedom % 2, math.cos(angle) ** 2
        term = math.cos(angle) if odd else 1.0
        total = 0.0
        for k in range(1 + odd, freedom, 2):
            total += term
            term *= k / (k + 1) * cos2
        total *= math.sin(angle)
        return 2 / math.pi * (angle + total) if odd else total

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) < share else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def student(values: Sequence[float]) -> dict[str, float]:
    """A mean and Student's t interval for it, for few values such as those of seeds.

    Raises `ValueError` for fewer than two: one value says nothing about its spread.
    """
    n, mean = len(values), fmean(values)
    half = stdev(values) / math.sqrt(n) * student_t(n - 1)
    return {"value": mean, "low": mean - half, "high": mean + half, "n": n}
