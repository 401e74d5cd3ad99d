"""Gradient spikes: noticed by their norm, and the step is left out.

Coder-V2 §3.2 tells of instability and spikes in gradient values and lays them to
"exponential normalization", which neither it nor DeepSeek-V2 defines: what that was,
and what they did at a spike, is not known. The rule here is ours.
"""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from minicoder.errors import UserError

WINDOW = 64     # steps that the median is taken over
FEWEST = 16     # before so many steps nothing is called a spike


class Spikes:
    """Judge each gradient's norm by the median of the last ones.

    All norms enter the median, those of spikes too: what stays large for half a window
    is no spike any more, and training goes on.
    """

    def __init__(self, factor: float = 0.0) -> None:
        """A norm above `factor` times the median is a spike; with 0 nothing is."""
        if factor and not 1 < factor < math.inf:
            raise UserError(f"--spike {factor} must be 0, or a number above 1.")
        self.factor, self.norms = factor, list[float]()

    def ratio(self, norm: float) -> float:
        """The norm over the median of those before it; 0 while nothing can be said."""
        middle = median(self.norms) if len(self.norms) >= FEWEST else 0.0
        return norm / middle if middle else 0.0

    def judge(self, norm: float, step: int) -> dict[str, Any]:
        """What to note of a step that must be left out; empty for any other.

        Raises `UserError` for a norm that is no number, unless spikes are left out.
        """
        if not self.factor:
            if not math.isfinite(norm):
                raise UserError(f"The norm of the gradient is {norm} at step {step}; "
                                "--spike 10 leaves out such steps.")
            return {}
        if not math.isfinite(norm):
            return {"skipped": f"the gradient's norm is {norm}"}
        found = self.ratio(norm)
        self.norms = [*self.norms, norm][-WINDOW:]
        if found <= self.factor:
            return {}
        return {"skipped": f"the gradient's norm is {found:.1f} times the median"}

    def state(self) -> dict[str, Any]:
        """What must be kept for a run that goes on to judge alike."""
        return {"norms": self.norms}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.norms = state["norms"]
