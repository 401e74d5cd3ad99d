"""One process of a plan, traced at full size: real shapes and calls, no numbers.

The model is built on the meta device, dealt out by `parallelize` for a fake group of as
many processes, and one microbatch of the plan goes forward and back through what one
process holds, on fake tensors. What is counted stands beside what was planned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from minicoder.config import ModelConfig, Real
from minicoder.errors import UserError
from minicoder.model.moe import Experts, Routing, run_experts
from minicoder.model.rope import rope_table
from minicoder.model.transformer import MiniCoder
from minicoder.parallel import experts as expert_parallel
from minicoder.parallel.layout import DENSE, SPARSE, Layout, Team, team_of
from minicoder.parallel.parallelize import parallelize
from minicoder.parallel.pipeline import stages_of
from minicoder.scale.placement import holdings, seat
from minicoder.scale.plan import Budget, Work, keeping, loads
from minicoder.scale.traffic import devices_reached

COVERED = """Covered: the outline, stages, `parallelize`, and a microbatch forward and
back through each stage of this process, with every collective inside of it.
Not covered: numbers; the order of a pipeline's microbatches and what it sends between
stages; the optimizer's step; what a real group does. Routing is taken as even: each
process sends as many copies to each other one as arrive, with as many visits."""


@dataclass
class Trace(TorchDispatchMode):
    """What one process did in a microbatch."""

    team: Team
    numbers: int = 0            # stored
    flops: dict[str, Real] = field(default_factory=dict)     # by operation
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    sent: dict[str, Real] = field(default_factory=lambda: defaultdict(int))
    kept: Real = 0              # bytes, for the backward pass

    def __post_init__(self) -> None:
        super().__init__()
        # experts' shards are counted with the others: one axis may be both
        self.axes = {mesh.get_group(axis).group_name: axis.removeprefix("expert_")
                     for mesh, axes in ((self.team.sparse, SPARSE),
                                        (self.team.dense, DENSE)) for axis in axes}

    @property
    def matrices(self) -> Real:
        """FLOPs of products with weights."""
        return sum(self.flops.get(op, 0) for op in ("mm", "_grouped_mm"))

    @property
    def found(self) -> dict[str, Real]:
        """All that `planned_of` has too."""
        return {"numbers": self.numbers, "bytes kept": self.kept,
                "FLOPs of matrices": self.matrices, **self.sent}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        space, name = func.name().split(".")[0].split("::")
        if space in ("c10d", "_c10d_functional") and name in KINDS:
            self.count(name, args)
        return out

    def count(self, name: str, args: tuple) -> None:
        """Note a collective: what a ring sends of it, by kind and axis."""
        kind = KINDS[name]
        group = next(g for g in map(_group, args) if g is not None)
        parts, tensors = group.size(), [t for t in _tensors(args) if t.numel()]
        size = max((t.nbytes for t in tensors), default=0)
        if name == "all_gather_into_tensor":    # of which only a part comes in
            size *= parts
        ring = (parts - 1) / parts * (2 if kind == "all-reduce" else 1)
        axis = self.axes.get(group.group_name, "others")
        key = NAMES.get(kind) or NAMES.get(axis) or NAMES[f"{kind} {axis}"]
        self.calls[key] += 1
        self.sent[key] += size * ring


KINDS = {
    "_allgather_base_": "all-gather", "all_gather_into_tensor": "all-gather",
    "_reduce_scatter_base_": "reduce-scatter", "reduce_scatter_tensor":
    "reduce-scatter", "allreduce_": "all-reduce", "all_reduce": "all-reduce",
    "alltoall_base_": "all-to-all", "all_to_all_single": "all-to-all"}


NAMES = {   # as `traffic` calls them
    "all-to-all": "expert all-to-all", "tensor": "tensor sums",
    "replicate": "sum replicas", "all-gather shard": "gather weights",
    "reduce-scatter shard": "scatter gradients"}


def _group(value: Any) -> dist.ProcessGroup | None:
    if isinstance(value, torch.ScriptObject):
        try:
            return dist.ProcessGroup.unbox(value)
        except RuntimeError:    # an operation of reduction
            return None
    if isinstance(value, str) and value not in ("sum", "avg", "max", "min"):
        return dist.distributed_c10d._resolve_process_group(value)
    return None


def _tensors(args: Any) -> Iterator[Tensor]:
    for value in args:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _grouped(x: Any, weight: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """FLOPs of a grouped product, of rows with matrices or of rows with rows."""
    return 2 * x[0] * x[1] * weight[-1]


def _attended(q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return 2 * q[0] * q[1] * q[2] * k[2] * (q[3] + v[3])


def _attended_back(_: Any, q: Any, k: Any, v: Any, *__: Any, out_shape: Any = None,
                   **___: Any) -> int:
    """Scores are computed once more."""
    return 2 * q[0] * q[1] * q[2] * k[2] * (3 * q[3] + 2 * v[3])


_CPU = torch.ops.aten
FLOPS = {_CPU._grouped_mm: _grouped,
         _CPU._scaled_dot_product_flash_attention_for_cpu: _attended,
         _CPU._scaled_dot_product_flash_attention_for_cpu_backward: _attended_back}


def even_trip(reached: Real) -> Any:
    """A `plan_trip` whose tokens go everywhere alike; fake tensors have no numbers."""
    def plan_trip(routing: Routing, each: int, group: dist.ProcessGroup
                  ) -> expert_parallel.Trip:
        processes, (many, k) = group.size(), routing.experts.shape
        copies = round(many * reached / processes)
        visits, index = many * k, routing.experts
        count = index.new_empty(processes)
        dist.all_to_all_single(torch.empty_like(count), count, group=group)
        leave = [copies] * processes
        expert = index.new_empty(copies * processes, k)
        dist.all_to_all_single(torch.empty_like(expert), expert, leave, leave,
                               group=group)
        return expert_parallel.Trip(
            index.new_empty(copies * processes), expert, leave, leave,
            [visits // processes] * processes, index.new_empty(visits),
            index.new_empty(visits), index.new_empty(each))

    return plan_trip


def even_experts(self: Experts, x: Tensor, routing: Routing) -> Tensor:
    """`Experts.forward` without asking who chose whom."""
    chosen, weight = routing.experts.flatten(), routing.weights.flatten()
    return run_experts(x, chosen, weight.index_select(0, chosen),
                       chosen.new_empty(len(self.down_proj)), self.gate_up_proj,
                       self.down_proj)


@contextmanager
def fake_team(layout: Layout, rank: int) -> Iterator[Team]:
    """Process `rank` of a layout's team, without the others."""
    if dist.is_initialized():
        raise UserError("A dry run makes a process group of its own: start it in a "
                        "process that has none.")
    dist.init_process_group("fake", store=FakeStore(), rank=rank,
                            world_size=layout.world)
    try:
        yield team_of(layout, torch.device("cpu"))
    finally:
        dist.destroy_process_group()


def dealt(config: ModelConfig, team: Team, work: Work
          ) -> tuple[nn.Module, list[nn.Module]]:
    """What a process holds, on the meta device, and its stages."""
    model = MiniCoder.outline(config)
    held, stages = (stages_of(model, team) if team.layout.pipeline > 1
                    else (model, [model]))
    for stage in stages:
        parallelize(stage, team, work.precision, work.recompute)
    return held, stages


def dry_run(config: ModelConfig, layout: Layout, work: Work, rank: int = 0) -> Trace:
    """Trace a microbatch of process `rank`.

    Raises `UserError` for float32, whose grouped product torch 2.13 cannot outline.
    """
    if work.precision != "bfloat16" or work.purpose != "train":
        raise UserError("--dry-run traces training with --precision bfloat16 alone.")
    rows = work.rows // layout.readers // work.rounds
    with ExitStack() as held:
        team = held.enter_context(fake_team(layout, rank))
        held.enter_context(patch.object(Experts, "forward", even_experts))
        if layout.expert > 1:
            trip = even_trip(devices_reached(config, layout.expert))
            held.enter_context(patch.object(expert_parallel, "plan_trip", trip))
        model, stages = dealt(config, team, work)
        trace = Trace(team, sum(p.to_local().numel() for p in model.parameters()))
        rope_table(config, 0, work.context, torch.empty(0))  # kept: it must be real
        held.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        model.to_empty(device="cpu")
        with FlopCounterMode(display=False, custom_mapping=FLOPS) as counter, trace:
            for stage in stages:
                run(stage, rows, work, trace)
        counts = counter.get_flop_counts()["Global"]
        trace.flops = {str(op).removeprefix("aten."): n for op, n in counts.items()}
        return trace


def run(stage: nn.Module, rows: int, work: Work, trace: Trace) -> None:
    """One microbatch, forward and back."""
    config, weights, kept = stage.config, set[int](), dict[int, Tensor]()
    if trace.team.layout.pipeline > 1:     # as `Pipeline` does
        for module in stage.modules():
            if isinstance(module, FSDPModule):
                module.set_reshard_after_forward(False, recurse=False)

    def know(module: nn.Module, _: Any) -> None:
        for p in module.parameters(recurse=False):
            local = p.detach().to_local() if isinstance(p, DTensor) else p
            weights.add(local.untyped_storage()._cdata)

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage()._cdata] = x
        return x

    for module in stage.modules():
        module.register_forward_pre_hook(know)
    tokens = torch.zeros(rows, work.context, dtype=torch.int64)
    inner, sent = stage.model, torch.zeros(rows, work.context, config.hidden_size,
                                           requires_grad=True)
    first, last = (isinstance(part, cls) for part, cls in (
        (inner.embed_tokens, nn.Embedding), (stage.lm_head, nn.Linear)))
    if not first:
        inner.embed_tokens.sent = sent
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        hidden = inner(tokens, [])
        if last:
            logits = stage.lm_head(hidden.flatten(0, 1)).float()
            F.cross_entropy(logits, tokens.flatten(), reduction="none").mean()
    trace.kept += sum(x.untyped_storage().nbytes() for key, x in kept.items()
                      if key not in weights)
    out = F.cross_entropy(logits, tokens.flatten()) if last else hidden.sum()
    out.backward()


def planned_of(c: ModelConfig, b: Budget) -> dict[str, Real]:
    """What a budget says of a microbatch of process 0, as a trace counts it."""
    work, layout, here = b.work, b.layout, seat(c, b.layout, 0)
    tokens = work.rows // layout.readers // work.rounds * work.context
    keep = keeping(c, layout, work.low)
    kept = (here.dense * keep.layer(False, work.recompute)
            + here.moe * keep.layer(True, work.recompute) + here.last * keep.head)
    heads = c.num_attention_heads / layout.tensor
    core = (work.context + 1) * heads * (c.qk_head_dim + c.v_head_dim)
    core *= (3 + work.recompute) * (here.dense + here.moe)
    once = ("gather weights", "scatter gradients", "sum replicas")  # in a pipeline
    sent = {axis: count if axis in once and layout.pipeline > 1
            else count / work.rounds for axis, count in b.sent.items()
            if axis != "pipeline"}
    return {"numbers": holdings(c, layout, 0)[0], "bytes kept": kept * tokens,
            "FLOPs of matrices": tokens * (loads(c, layout, work)[0] - core), **sent}


def account(c: ModelConfig, trace: Trace, b: Budget) -> str:
    """The trace beside the plan, and what it covers."""
    found = trace.found
    lines = [f"Dry run of 1 of {b.layout.world} processes, a microbatch:",
             f"{'':<20}{'traced':>22}{'planned':>22}{'calls':>8}"]
    for name, planned in planned_of(c, b).items():
        calls = trace.calls.get(name, "")
        lines.append(f"{name:<20}{found.get(name, 0):>22,.0f}{planned:>22,.0f}"
                     f"{calls:>8}")
    return "\n".join([*lines, COVERED])
