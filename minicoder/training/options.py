"""What can be asked of a training run beside its length: settings of `pretrain`."""

from __future__ import annotations

from dataclasses import dataclass

from minicoder.errors import UserError, at_least
from minicoder.parallel.economy import Precision
from minicoder.parallel.layout import Layout
from minicoder.training.checkpoints import KEPT
from minicoder.training.schedule import Schedule


@dataclass(frozen=True)
class Updates:
    """How a step changes the weights (AdamW, betas 0.9 and 0.95).

    Args:
        schedule: cosine as in Coder-V2, or the two steps down of V2 or V2-Lite.
        floor: where the cosine ends, as a share of the peak.
        weight_decay: of matrices; norms have none.
        clip: the longest gradient; longer ones are shortened.
        spike: leave out a step whose gradient is so many times as long as the median of
            the last 64; 0 leaves out none.
    """

    schedule: Schedule = "cosine"
    floor: float = 0.1
    weight_decay: float = 0.1
    clip: float = 1.0
    spike: float = 0.0


@dataclass(frozen=True)
class Routers:
    """Keeping devices and wires as busy as experts, as if there were several devices.

    DeepSeek-V2 has 0.05, 0.02, 8 devices, limit 3, capacity 1 and 0.1 spared, with
    --balance 0.003.

    Args:
        device_balance: alpha of the device balance loss.
        communication_balance: alpha of the communication balance loss.
        devices: how many the experts are dealt out to.
        device_limit: the most devices that a token should go to.
        capacity: a device's room over the average load; the weakest visits above it are
            dropped. 0 drops none.
        spared: share of the rows that keep all their visits.
    """

    device_balance: float = 0.0
    communication_balance: float = 0.0
    devices: int = 1
    device_limit: int = 1
    capacity: float = 0.0
    spared: float = 0.1


@dataclass(frozen=True)
class Machine:
    """The same training with less memory or time.

    Args:
        accumulate: parts that the rows of a step are read in; the gradient is that of
            all of them.
        precision: what matrices are multiplied in; weights and routers stay float32.
        recompute: forget activations and compute them again, for a third more time.
        compile: compile attention and feed-forward; needs a C++ compiler.
    """

    accumulate: int = 1
    precision: Precision = "float32"
    recompute: bool = False
    compile: bool = False


@dataclass(frozen=True)
class Records:
    """What is kept beside the weights.

    Args:
        keep: how many checkpoints to resume from.
        tensorboard: draw curves for TensorBoard too, if it is installed.
    """

    keep: int = KEPT
    tensorboard: bool = False


UPDATES, ROUTERS, MACHINE, RECORDS, LAYOUT = (
    Updates(), Routers(), Machine(), Records(), Layout())


def check(batch: int, machine: Machine) -> None:
    """Raise `UserError` for a step that cannot be read in equal parts."""
    at_least(1, batch=batch, accumulate=machine.accumulate)
    if batch % machine.accumulate:
        raise UserError(f"--accumulate {machine.accumulate} must divide --batch "
                        f"{batch}.")
