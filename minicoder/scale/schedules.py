"""What a pipeline costs: idle time, and microbatches whose activations must stay.

Time is counted in forward passes of one stage: F = 1, a backward pass is B = 2, or 3
where activations are computed again, and the weights' part of it is W = 1.
"""

from __future__ import annotations

from minicoder.config import Real
from minicoder.parallel.layout import Layout
from minicoder.parallel.pipeline import stages_at

SOURCES = {
    "GPipe": "(P-1)(F+B): arXiv 1811.06965 §2.3",
    "1F1B": "(P-1)(F+B): arXiv 2104.04473 §2.2",
    "Interleaved1F1B": "(P-1)(F+B) of a half as long stage: arXiv 2104.04473 §2.2",
    "ZBVZeroBubble": "(P-1)(F+B-2W) of half a stage: arXiv 2401.10241, DualPipe README",
    "DualPipeV": "(P-1)(F+B + B-3W) of half a stage, if what overlaps takes as long as "
                 "one after the other: DualPipe README"}


def bubble(layout: Layout, microbatches: int, recompute: bool = False) -> Real:
    """The share of a step that a process waits, with stages that take alike long."""
    forward, backward, weights = 1, 3 if recompute else 2, 1
    idle = {"ZBVZeroBubble": forward + backward - 2 * weights,
            "DualPipeV": forward + 2 * backward - 3 * weights,
            }.get(layout.pipeline_schedule, forward + backward)
    waits = (layout.pipeline - 1) * idle
    works = microbatches * len(stages_at(layout, 0)) * (forward + backward)
    return waits / (waits + works)


def in_flight(layout: Layout, process: int, microbatches: int) -> Real:
    """Of how many microbatches a process keeps the activations of all its layers."""
    processes, name = layout.pipeline, layout.pipeline_schedule
    if processes == 1:
        return 1
    most = {"GPipe": microbatches,
            "1F1B": processes - process,
            "Interleaved1F1B": (3 * processes - 2 * process - 1) / 2,
            "ZBVZeroBubble": processes,
            "DualPipeV": processes + 0.5}[name]
    return min(microbatches, most)
