"""Layouts that fit a cluster, the cheapest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from minicoder.config import ModelConfig, Real, parameter_count
from minicoder.errors import UserError
from minicoder.parallel.layout import Layout
from minicoder.scale.activations import WIDE, Keeping
from minicoder.scale.devices import NODE, Device
from minicoder.scale.plan import USABLE, Budget, Work, plan

Choice = Literal["auto", "yes", "no"]
SHORTEST, MOST = 1024, 8192    # tokens of a context, and GPUs, that are proposed
WHOLE = 128                    # processes that a layer's experts may be dealt out to


@dataclass(frozen=True)
class Wish:
    """What the caller has decided; 0, "auto" and "" are left to the search."""

    gpus: int
    layout: Layout      # each axis may be 0, but replicate
    recompute: Choice = "auto"
    rounds: int = 0

    @property
    def schedules(self) -> tuple[str, ...]:
        """Orders of a pipeline's work to try."""
        wanted = self.layout.pipeline_schedule
        return (wanted,) if wanted else ("1F1B", "ZBVZeroBubble")


def divisors(n: int, wanted: int, most: int) -> list[int]:
    """Those up to `most`, or the one that is wanted."""
    if wanted:
        return [wanted] if n % wanted == 0 else []
    return [d for d in range(1, min(n, most) + 1) if n % d == 0]


def layouts(config: ModelConfig, wish: Wish) -> Iterator[Layout]:
    """All layouts of so many GPUs that the wish allows; heads stay in a node."""
    w = wish.layout
    for pipeline in divisors(wish.gpus, w.pipeline, config.num_hidden_layers):
        left = wish.gpus // pipeline
        for tensor in divisors(left, w.tensor, NODE):
            for replicate in divisors(left // tensor, w.replicate, left):
                shard = left // tensor // replicate
                if w.shard not in (0, shard):
                    continue
                experts = WHOLE if config.n_routed_experts else 1
                for expert in divisors(shard * tensor, w.expert, experts):
                    for schedule in wish.schedules if pipeline > 1 else ("1F1B",):
                        yield Layout(pipeline, replicate, shard, tensor, expert,
                                     schedule)


def works(work: Work, layout: Layout, wish: Wish) -> Iterator[Work]:
    """What may be decided of the work: recomputation, and rows read at once."""
    rows, rest = divmod(work.rows, layout.readers)
    if rest or not rows:
        return
    if work.purpose == "serve":
        yield work
        return
    again = {"auto": (False, True), "yes": (True,), "no": (False,)}[wish.recompute]
    together = [1] if layout.pipeline > 1 else [1, 2, 4, 8]
    rounds = [wish.rounds] if wish.rounds else [
        rows // n for n in together if rows % n == 0]
    for recompute in again:
        for count in rounds:
            yield replace(work, recompute=recompute, rounds=count)


def budgets(config: ModelConfig, work: Work, wish: Wish, gpu: Device,
            memory: Real | None) -> list[Budget]:
    """All plans that can be made, those that fit first, the cheapest before others."""
    found = []
    for layout in layouts(config, wish):
        for choice in works(work, layout, wish):
            try:
                found.append(plan(config, layout, choice, gpu, memory))
            except UserError:   # heads, experts, microbatches that do not come out even
                continue
    return sorted(found, key=lambda b: (
        max(b.over, 0.0), b.gpu_hours, sum(b.wires.values()), b.work.rounds, b.over))


def proposals(config: ModelConfig, work: Work, wish: Wish, gpu: Device,
              memory: Real | None, count: int = 3) -> list[Budget]:
    """Plans that fit and keep as much of what was asked for as can be.

    First other layouts of the same GPUs; then twice as many GPUs, and again; and if
    those would be too many, shorter contexts. Empty when nothing fits.
    """
    open_axes = Layout(0, 1, 0, 0, 0, "")
    gpus, asked = wish.gpus, work.rows * work.context
    while work.context >= SHORTEST:
        while gpus <= max(MOST, wish.gpus):
            fitting = [] if least(config, work, gpus) > USABLE * (
                memory or gpu.memory) else [
                b for b in budgets(config, work, Wish(gpus, open_axes), gpu, memory)
                if b.over <= 0]
            if fitting:
                return unlike(fitting)[:count]
            gpus *= 2
        context = work.context // 2
        rows = max(1, asked // context) if work.purpose == "train" else work.rows
        work, gpus = replace(work, context=context, rows=rows), wish.gpus
    return []


def least(c: ModelConfig, work: Work, gpus: int) -> Real:
    """Bytes that some process needs in any layout: its share, and a row's loss."""
    each, loss = float(work.low), 0.0
    if work.purpose == "train":
        keep = Keeping(c, Layout().of(1), work.low, 0.0)
        each = 2 * WIDE + work.optimizer_bytes
        loss = (keep.head + keep.logits) * work.context
    return each * parameter_count(c) / gpus + loss


def unlike(found: list[Budget]) -> list[Budget]:
    """The first of each pipeline, tensor and expert axis."""
    first: dict[tuple[int, int, int], Budget] = {}
    for b in found:
        key = b.layout.pipeline, b.layout.tensor, b.layout.expert
        first.setdefault(key, b)
    return list(first.values())
