"""Layers dealt out to stages, between which hidden states and their gradients travel.

Rows are cut into microbatches, so that the stages work at the same time; which one does
what when is a schedule of `torch.distributed.pipelining`. DeepSeek-V2 has 16 stages and
a zero-bubble schedule (§3.1.3): what waits elsewhere is filled with the weights' part
of the backward pass (arXiv 2401.10241). Letters: B rows, T tokens of each, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import (
    PipelineScheduleSingle,
    get_schedule_class,
)

from minicoder.errors import UserError, at_least
from minicoder.model.documents import find_documents
from minicoder.model.moe import Routing
from minicoder.model.transformer import Block, MiniCoder, Transformer
from minicoder.parallel.layout import Layout, Team

# all forward, then all backward; one of each in turn; that with two stages a process;
# and two with two stages a process in a V, which put gradients of weights off
SCHEDULES = ("GPipe", "1F1B", "Interleaved1F1B", "ZBVZeroBubble", "DualPipeV")
Sums = dict[str, Tensor]
# a microbatch's loss and sums: of the last hidden states (with stage, tokens, targets),
# and of the layers' routing (with the number of rows), whose sums count layers first
Head = Callable[["Stage", Tensor, Tensor, Tensor], tuple[Tensor, Sums]]
Layers = Callable[[list[Routing], int], tuple[Tensor, Sums]]


def stages_at(layout: Layout, process: int) -> list[int]:
    """Which stages a process of a pipeline works at, counted from 0."""
    if layout.pipeline_schedule in ("GPipe", "1F1B"):
        return [process]
    if layout.pipeline_schedule == "Interleaved1F1B":
        return [process, process + layout.pipeline]
    return [process, 2 * layout.pipeline - 1 - process]     # down the V, and up again


def layers_of(layers: int, stages: int) -> list[range]:
    """The layers of each stage: alike many, and one more at the first where some are
    left, because the last has the output matrix."""
    each, left = divmod(layers, stages)
    starts = [each * stage + min(stage, left) for stage in range(stages + 1)]
    return [range(*pair) for pair in pairwise(starts)]


def check(layout: Layout, layers: int, microbatches: int, recomputed: bool = False,
          compiled: bool = False) -> None:
    """Raise `UserError` for what cannot be dealt out or scheduled."""
    at_least(1, accumulate=microbatches)
    name, processes = layout.pipeline_schedule, layout.pipeline
    if name not in SCHEDULES:
        raise UserError(f"--pipeline-schedule {name}: choose one of "
                        f"{', '.join(SCHEDULES)}.")
    stages = processes * len(stages_at(layout, 0))
    if stages > layers:
        raise UserError(f"--pipeline {processes} with --pipeline-schedule {name} makes "
                        f"{stages} stages, and the model has {layers} layers.")
    if name in ("1F1B", "DualPipeV") and microbatches < stages:
        raise UserError(f"--accumulate {microbatches}: --pipeline-schedule {name} "
                        f"needs {stages} or more, the number of stages.")
    if name == "Interleaved1F1B" and microbatches % max(1, microbatches // processes):
        raise UserError(f"--accumulate {microbatches}: choose a multiple of --pipeline "
                        f"{processes} for --pipeline-schedule {name}.")
    for option, wanted in (("recompute", recomputed), ("compile", compiled)):
        if wanted and name in SCHEDULES[3:]:    # torch goes back once for each weight
            raise UserError(f"--{option} with --pipeline-schedule {name} would compute "
                            f"layers again for each weight: choose 1F1B for it.")


class Absent(nn.Module):
    """Stands where another stage has the embedding, the last norm or the output matrix.

    As embedding it gives what the stage before has sent. Who asks for the type and
    device of its weight gets those of a block.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.sent: Tensor | None = None
        self.like = (block,)    # in a tuple it is no part of this module

    @property
    def weight(self) -> Tensor:
        return self.like[0].input_layernorm.weight

    def forward(self, x: Tensor) -> Tensor:
        return x if self.sent is None else self.sent


class Part(Transformer):
    """Some of the layers, under their own numbers, and what stands at their ends."""

    def __init__(self, whole: Transformer, layers: Sequence[int]) -> None:
        nn.Module.__init__(self)
        self.config = whole.config
        like, last = whole.layers[layers[0]], len(whole.layers) - 1
        self.embed_tokens = whole.embed_tokens if 0 in layers else Absent(like)
        self.layers = nn.ModuleList()
        for layer in layers:
            self.layers.add_module(str(layer), whole.layers[layer])
        self.norm = whole.norm if last in layers else Absent(like)


class Stage(MiniCoder):
    """A model that has some of its layers; parameters keep their names.

    `number` is None for what holds all layers of a process that has several stages.
    """

    def __init__(self, whole: MiniCoder, layers: Sequence[int],
                 number: int | None = None) -> None:
        nn.Module.__init__(self)
        self.config, self.known = whole.config, whole.known
        self.model = Part(whole.model, layers)
        self.first = self.model.embed_tokens is whole.model.embed_tokens
        self.last = self.model.norm is whole.model.norm
        self.lm_head = whole.lm_head if self.last else Absent(
            whole.model.layers[layers[0]])
        self.number = number
        self.task: Task | None = None

    def forward(self, x: Int[Tensor, "B T"] | Float[Tensor, "B T D"],
                tokens: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]
                ) -> Float[Tensor, "B T D"] | Float[Tensor, ""]:
        """What comes from the stage before (tokens at the first) becomes what goes on
        to the next one, or at the last stage the loss."""
        task, seen = self.task, list[Routing]()
        if not self.first:
            self.model.embed_tokens.sent = x
        if task.bos is None:
            hidden = self.model(tokens, seen)
        else:
            hidden = self.model.packed(tokens, find_documents(tokens, task.bos), seen)
        loss, sums = hidden.new_zeros(()), Sums()
        if seen and task.layers:
            loss, sums = task.layers(seen, len(tokens))
        if self.last:
            language, more = task.head(self, hidden, tokens, targets)
            loss, sums = loss + language, sums | more
        loss = loss / task.microbatches
        task.noted.setdefault(self.number, []).append((loss.detach(), sums))
        return loss if self.last else Attached.apply(hidden, loss)


class Attached(torch.autograd.Function):
    """x, into whose way back the gradient of a loss comes in.

    So a layer's balance loss needs no way to the last stage. Source: AddAuxiliaryLoss
    of the released modeling_deepseek.py.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, loss: Tensor) -> Tensor:
        ctx.save_for_backward(torch.ones_like(loss))
        return x.clone()    # schedules cut it from its graph, which a view forbids

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, *ctx.saved_tensors


@dataclass
class Task:
    """What a step does with each microbatch, and what each stage notes of them."""

    microbatches: int
    head: Head
    layers: Layers | None
    bos: int | None
    noted: dict[int, list[tuple[Tensor, Sums]]] = field(default_factory=dict)

    def means(self) -> list[tuple[int, float, dict[str, Any]]]:
        """Of each stage its number, its part of the loss, and the means of its sums."""
        return [(number, sum(loss.item() for loss, _ in noted),
                 {name: torch.stack([sums[name] for _, sums in noted]).double().mean(0)
                  .tolist() for name in noted[0][1]})
                for number, noted in self.noted.items()]


def stages_of(model: MiniCoder, team: Team) -> tuple[Stage, list[Stage]]:
    """What this process holds of a model, and its stages, which share the parameters.

    An outline stays one, so that no process ever holds the whole. The first is for
    whoever fills, updates or stores parameters, the second for `parallelize` and
    `Pipeline`; call `check` before.
    """
    numbers = stages_at(team.layout, team.stage)
    dealt = layers_of(len(model.model.layers), team.layout.pipeline * len(numbers))
    stages = [Stage(model, dealt[number], number) for number in numbers]
    if len(stages) == 1:
        return stages[0], stages
    return Stage(model, [layer for n in numbers for layer in dealt[n]]), stages


class Pipeline:
    """Runs this process's stages of a step, forward and backward.

    Weights that are sharded are gathered once a step and stay whole until its last
    microbatch, as in ZeRO-1: schedules that put off their gradients need them.
    """

    def __init__(self, stages: list[Stage], team: Team, microbatches: int) -> None:
        self.stages, self.team, self.microbatches = stages, team, microbatches
        self.shape: torch.Size | None = None    # of rows that `schedule` is made for
        for stage in stages:
            # schedules know of FSDP only where the stage itself is a unit of it
            fully_shard(stage, mesh=team.dense["shard"])
            stage.set_reshard_after_forward(False)

    def __call__(self, tokens: Int[Tensor, "B T"], targets: Int[Tensor, "B T"],
                 head: Head, layers: Layers | None = None, bos: int | None = None
                 ) -> tuple[Float[Tensor, ""], Sums]:
        """The loss of a step, whose gradient is there already, and the means of sums.

        Both are the mean over microbatches, which are alike long, and of all stages in
        every process; sums of layers stand in the order of the layers. With `bos` no
        token attends beyond its own document.
        Raises `UserError` when the rows cannot be cut evenly.
        """
        if len(tokens) % self.microbatches:
            raise UserError(f"--accumulate {self.microbatches} must divide the "
                            f"{len(tokens)} rows that a process reads.")
        if tokens.shape != self.shape:
            self.shape, self.schedule = tokens.shape, self.scheduled(tokens.shape)
        task = Task(self.microbatches, head, layers, bos)
        for stage in self.stages:
            stage.task = task
        with kept_gradients(self.stages):
            self.schedule.step(tokens, tokens=tokens, targets=targets, target=targets,
                               return_outputs=False)
        return self.collected(task)

    def scheduled(self, shape: torch.Size) -> Any:
        """The schedule, with room for what comes in from other stages."""
        rows = torch.Size((shape[0] // self.microbatches, *shape[1:]))
        tokens = torch.empty(rows, dtype=torch.int64, device="meta")
        config, parts = self.stages[0].config, self.team.layout.pipeline
        hidden = torch.empty((*rows, config.hidden_size), device="meta",
                             dtype=next(self.stages[0].parameters()).dtype,
                             requires_grad=True)
        loss = torch.empty((), device="meta", requires_grad=True)
        seats = [PipelineStage(
            stage, stage.number, parts * len(self.stages), self.team.device,
            input_args=tokens if stage.first else hidden,
            output_args=loss if stage.last else hidden,
            group=self.team.dense.get_group("pipeline")) for stage in self.stages]
        kind = get_schedule_class(self.team.layout.pipeline_schedule)
        # each stage takes its share of the loss: gradients are not scaled once more
        return kind(seats[0] if issubclass(kind, PipelineScheduleSingle) else seats,
                    self.microbatches, loss_fn=lambda loss, targets: loss,
                    scale_grads=False)

    def collected(self, task: Task) -> tuple[Float[Tensor, ""], Sums]:
        """The loss and the sums of all stages, in every process."""
        device, together = self.team.device, dict[str, Any]()
        found = sorted(part for own in self.team.collect(task.means(), "pipeline")
                       for part in own)
        for _, _, sums in found:
            for name, values in sums.items():
                together[name] = together[name] + values if name in together else values
        loss = sum(part for _, part, _ in found)
        return (torch.tensor(loss, dtype=torch.float64, device=device),
                {name: torch.tensor(values, dtype=torch.float64, device=device)
                 for name, values in together.items()})


@contextmanager
def kept_gradients(stages: Sequence[Stage]) -> Iterator[None]:
    """Add what was there before, which a new schedule would clear (torch 2.13)."""
    parameters = [p for stage in stages for p in stage.parameters()]
    before = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    yield
    for p, old in zip(parameters, before, strict=True):
        if old is not None:
            p.grad = old if p.grad is None else p.grad.add_(old)
