"""Learning rates over a run. Sources: Coder-V2 §3.3 (cosine), DeepSeek-V2 §3.1.2."""

from __future__ import annotations

import math


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
