"""What a model needs of a cluster: memory, traffic and time of each process.

`plan` computes a `Budget` from a configuration, a layout and the work to do; nothing is
built. tests/scale holds its numbers to real shards, to what autograd keeps and to a
trace of one process; benchmarks/plan.py does so at full size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

from minicoder.config import ModelConfig, Real
from minicoder.errors import UserError, at_least
from minicoder.parallel.economy import Precision
from minicoder.parallel.layout import Layout
from minicoder.parallel.pipeline import check
from minicoder.scale import flops, traffic
from minicoder.scale.activations import WIDE, Keeping
from minicoder.scale.devices import NODE, Device, find_device, paper_utilisation
from minicoder.scale.placement import FIRST, Seat, gathered, held, seat, weights_of
from minicoder.scale.schedules import bubble, in_flight

Purpose = Literal["train", "serve"]
USABLE = 0.9        # of a device's memory
PREFILL = 8192      # tokens of a prompt that a server reads at once


@dataclass(frozen=True)
class Work:
    """What is asked of the cluster.

    `rows` are the sequences of a step, or those that are served at once; `rounds` the
    parts that a step is read in, which are a pipeline's microbatches.
    """

    purpose: Purpose = "train"
    context: int = 4096
    rows: int = 9216
    rounds: int = 1
    precision: Precision = "bfloat16"
    recompute: bool = False
    optimizer_bytes: int = 8    # a parameter: AdamW's two moments in float32
    tokens: Real = 6e12
    utilisation: Real | None = None    # None: that of DeepSeek-V2's training
    price: Real = 2.0          # of a GPU-hour

    @property
    def low(self) -> int:
        """Bytes of a number that is multiplied."""
        return 2 if self.precision == "bfloat16" else WIDE


@dataclass(frozen=True)
class Memory:
    """Bytes of one process."""

    parameters: Real
    gradients: Real = 0.0
    optimizer: Real = 0.0
    activations: Real = 0.0    # kept for the backward pass
    working: Real = 0.0        # one part's activations and logits, for a moment
    buffers: Real = 0.0        # weights gathered, and gradients not yet scattered
    cache: Real = 0.0

    @property
    def total(self) -> Real:
        """All that is there at the worst moment."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class Budget:
    """A plan's numbers. Memory is that of the first process of each stage, which holds
    no less than its neighbours; traffic and time are those of a step, or of reading
    the prompts that are served."""

    layout: Layout
    work: Work
    device: Device
    usable: Real                   # bytes of memory
    stages: tuple[Memory, ...]
    sent: dict[str, Real]          # bytes by axis
    wires: dict[str, Real]         # seconds by axis, if nothing hid them
    copies: dict[str, Real]        # processes that a token is sent to, by routing
    bubble: Real
    flops_per_token: Real          # as a model needs them
    executed_per_token: Real       # with what is computed again, or by several
    imbalance: Real                # the busiest stage's work over the mean
    step_tokens: int
    step_seconds: Real
    gpu_hours: Real
    cost: Real

    @property
    def worst(self) -> int:
        """The stage whose process needs most."""
        return max(range(len(self.stages)), key=lambda n: self.stages[n].total)

    @property
    def over(self) -> Real:
        """Bytes that are missing there; below 0 when it fits."""
        return self.stages[self.worst].total - self.usable

    @property
    def speed(self) -> Real:
        """Tokens a second and GPU."""
        return self.step_tokens / self.step_seconds / self.layout.world

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        made = {"worst": self.worst, "over": self.over, "speed": self.speed}
        return asdict(self) | made


def plan(config: ModelConfig, layout: Layout, work: Work | None = None,
         gpu: Device | None = None, memory: Real | None = None) -> Budget:
    """The budget of a resolved layout; `memory` replaces the device's own.

    Raises `UserError` when model, rows or rounds cannot be dealt out like this.
    """
    work, gpu = work or Work(), gpu or find_device("h800")
    refuse(config, layout, work)
    rows = work.rows // layout.readers
    training, low = work.purpose == "train", work.low
    stages = tuple(memories(config, layout, work))
    parts = flops.forward(config, work.context)
    needed = sum(parts.values()) * (3 if training else 1)
    load = loads(config, layout, work)
    sent, idle = dict[str, Real](), 0.0
    if training:
        sent = traffic.per_step(config, layout, low, work.recompute,
                                rows * work.context, work.rounds)
        idle = bubble(layout, work.rounds, work.recompute)
    wires = {axis: count / link(layout, gpu, axis) for axis, count in sent.items()}
    use = work.utilisation or paper_utilisation()
    spent = max(load) if training else sum(load)    # a prompt meets stage after stage
    busy = spent * rows * work.context / (gpu.peak(work.precision) * use)
    seconds = max(busy, sum(wires.values())) / (1 - idle)
    step_tokens = work.rows * work.context
    hours = work.tokens / step_tokens * seconds * layout.world / 3600
    return Budget(
        layout, work, gpu, USABLE * (memory or gpu.memory), stages, sent, wires,
        reach(config, layout), idle, needed, sum(load) * layout.tensor,
        max(load) / sum(load) * len(load), step_tokens, seconds, hours,
        hours * work.price)


def refuse(config: ModelConfig, layout: Layout, work: Work) -> None:
    """Raise `UserError` for numbers that do not fit together."""
    layout.check(config)
    at_least(1, context=work.context, batch=work.rows, microbatches=work.rounds,
             optimizer_state=work.optimizer_bytes)
    shares = layout.readers * work.rounds
    if work.rows % shares:
        raise UserError(
            f"--batch: {work.rows} rows of {work.context} tokens cannot be dealt out "
            f"to {layout.readers} readers in {work.rounds} microbatches: choose a "
            f"multiple of {shares * work.context} tokens.")
    if work.purpose == "train" and layout.pipeline > 1:
        check(layout, config.num_hidden_layers, work.rounds, work.recompute)


def memories(c: ModelConfig, layout: Layout, work: Work) -> Iterator[Memory]:
    """Of the first process of each stage; stages that are alike are measured once."""
    measure = training_memory if work.purpose == "train" else serving_memory
    known: dict[tuple[Seat, Real], Memory] = {}
    for process in range(layout.pipeline):
        alike = seat(c, layout, process), in_flight(layout, process, work.rounds)
        if alike not in known:
            known[alike] = measure(c, layout, work, process)
        yield known[alike]


@lru_cache(maxsize=4096)
def stored(c: ModelConfig, layout: Layout, here: Seat, low: int, recompute: bool
           ) -> tuple[int, int, Real]:
    """Numbers and tensors of a process, and bytes of what is gathered of them.

    A process alone gathers nothing, and keeps what autocast made of its weights.
    """
    numbers, tensors, whole, units = 0, 0, 0.0, dict[str, Real]()
    for count, weight in weights_of(c, here):
        numbers += count * held(weight, layout, FIRST)
        tensors += count
        size = math.prod(gathered(weight, layout, FIRST))
        whole += count * size * ((WIDE if weight.wide else low) + WIDE)
        units[weight.unit] = units.get(weight.unit, 0.0) + size
    largest = max(units.values())
    if layout.world == 1:
        casts = largest if recompute else numbers
        return numbers, tensors, casts * low if low < WIDE else 0.0
    if layout.pipeline > 1:     # all stay whole, and so do gradients, until the end
        return numbers, tensors, whole + largest * (low + WIDE)
    # one in use, the next arriving and unpacked; a gradient, and it in float32
    return numbers, tensors, largest * (3 * low + low + WIDE)


def training_memory(c: ModelConfig, layout: Layout, work: Work, process: int) -> Memory:
    """Bytes of a process of the pipeline while it trains."""
    low, here = work.low, seat(c, layout, process)
    numbers, tensors, buffers = stored(c, layout, here, low, work.recompute)
    tokens = work.rows // layout.readers // work.rounds * work.context
    keep = keeping(c, layout, low)
    kept = in_flight(layout, process, work.rounds) * (
        here.dense * keep.layer(False, work.recompute)
        + here.moe * keep.layer(True, work.recompute))
    working = keep.part(here.moe > 0)
    if here.last:   # one microbatch at a time reaches the loss
        kept, working = kept + keep.head, max(working, keep.logits)
    return Memory(WIDE * numbers, WIDE * numbers,
                  work.optimizer_bytes * numbers + WIDE * tensors,  # each has its step
                  kept * tokens, working * tokens, buffers)


def serving_memory(c: ModelConfig, layout: Layout, work: Work, process: int) -> Memory:
    """Bytes of a process of the pipeline that serves.

    Only heads, widths and experts are dealt out; a reader has sequences of its own.
    """
    here, sequences = seat(c, layout, process), work.rows // layout.readers
    numbers = sum(count * math.prod(gathered(weight, layout, FIRST))
                  for count, weight in weights_of(c, here))
    keep = keeping(c, layout, work.low)
    working = keep.part(here.moe > 0) * min(work.context, PREFILL)
    return Memory(
        work.low * numbers, working=working,
        cache=(work.low * c.cache_width * (here.dense + here.moe) * work.context
               * sequences))


def reach(c: ModelConfig, layout: Layout) -> dict[str, Real]:
    """To how many processes a token of a layer with experts goes, three ways."""
    if layout.expert == 1:
        return {}
    return {"as it is": traffic.devices_reached(c, layout.expert),
            "if experts were not grouped": traffic.devices_reached(
                c, layout.expert, limited=False),
            "if each visit were sent": c.num_experts_per_tok}


def keeping(c: ModelConfig, layout: Layout, low: int) -> Keeping:
    """What a token leaves in memory, with the copies of it that are sent."""
    return Keeping(c, layout, low, reach(c, layout).get("as it is", 0.0))


def loads(c: ModelConfig, layout: Layout, work: Work) -> list[Real]:
    """FLOPs of a process of each stage for a token that it reads."""
    share = 1 if work.purpose == "train" else 1 / 3     # who serves does not go back
    found = []
    for process in range(layout.pipeline):
        here = seat(c, layout, process)
        found.append(share * flops.executed(
            c, here.dense, here.moe, here.last, work.context, layout.tensor,
            work.recompute))
    return found


def link(layout: Layout, gpu: Device, axis: str) -> Real:
    """Bytes a second of the slowest link that an axis goes over.

    Neighbours share a node; the axes of a layout lie in it from the inside out.
    """
    inner = layout.shard * layout.tensor
    extent = {"tensor sums": layout.tensor, "expert all-to-all": layout.expert,
              "gather weights": inner, "scatter gradients": inner,
              "sum replicas": inner * layout.replicate, "pipeline": layout.world}[axis]
    return gpu.node_link if extent <= NODE else gpu.network

