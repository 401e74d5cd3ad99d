"""What a checkpoint keeps besides weights and moments (`parallel.shards` writes it)."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

KEPT = 2    # checkpoints


class Draws:
    """The random generators of Python, NumPy and torch, of each GPU too."""

    def state(self) -> dict[str, Any]:
        """Where all of them are."""
        _, *numbers = np.random.get_state()
        return {"python": random.getstate(),
                "numpy": [numbers[0].tolist(), *numbers[1:]],
                "torch": [s.numpy().tobytes().hex() for s in (
                    torch.get_rng_state(), *torch.cuda.get_rng_state_all())]}

    def restore(self, state: dict[str, Any]) -> None:
        """Put all of them there."""
        version, numbers, gauss = state["python"]
        random.setstate((version, tuple(numbers), gauss))
        keys, *rest = state["numpy"]
        np.random.set_state(("MT19937", np.array(keys, np.uint32), *rest))
        cpu, *gpus = (torch.tensor(list(bytes.fromhex(s)), dtype=torch.uint8)
                      for s in state["torch"])
        torch.set_rng_state(cpu)
        if len(gpus) == torch.cuda.device_count():  # else it goes on elsewhere
            torch.cuda.set_rng_state_all(gpus)
