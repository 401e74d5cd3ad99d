"""Learning rates over a run. Sources: Coder-V2 §3.3 (cosine), DeepSeek-V2 §3.1.2."""

from __future__ import annotations

import math
from typing import Literal


def cosine(step: int, steps: int, peak: float, warmup: int, floor: float = 0.1
           ) -> float:
    """Linear warm-up, then half a cosine down to `floor` times the peak (§3.3)."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)


def steps_down(step: int, steps: int, peak: float, warmup: int,
               at: tuple[float, ...] = (0.6, 0.9), factor: float = 0.316) -> float:
    """Warm-up, then times `factor` at each share of the run in `at` (V2's schedule)."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * factor ** sum(step >= share * steps for share in at)


Schedule = Literal["cosine", "steps", "steps_lite"]


def rate(schedule: Schedule, step: int, steps: int, peak: float, warmup: int,
         floor: float) -> float:
    """The learning rate of a step: Coder-V2's cosine, or the steps of V2 or V2-Lite.

    V2 steps down at 60 and 90 % of the run (§3.1.2), V2-Lite at 80 and 90 % (appendix
    B); steps have no `floor`.
    """
    if schedule == "cosine":
        return cosine(step, steps, peak, warmup, floor)
    at = (0.8, 0.9) if schedule == "steps_lite" else (0.6, 0.9)
    return steps_down(step, steps, peak, warmup, at)
