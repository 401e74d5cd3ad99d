"""Which processes share the work, along which axis, and the team that one belongs to.

Processes are numbered with the axis `pipeline` outermost and `tensor` innermost, so
that those who talk most are neighbours. Experts are dealt out over the same processes
in another way: `expert` neighbours of shard x tensor hold all experts of a layer.
Source: DeepSeek-V2 §3.1.3 has 16 stages, 8 expert-parallel processes, ZeRO-1 and no
tensor parallelism.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn import functional

from minicoder.config import ModelConfig
from minicoder.errors import UserError, at_least

DENSE = ("pipeline", "replicate", "shard", "tensor")
SPARSE = ("pipeline", "replicate", "expert_shard", "expert")
PATIENCE = timedelta(minutes=10)    # until a silent process is given up
LOST = ("closed by peer", "reset by peer", "remote process exited", "imed out")


@dataclass(frozen=True)
class Layout:
    """How many processes share the work; all of them are the product of the first four.

    Args:
        pipeline: stages that the layers are dealt out to.
        replicate: copies of the sharded weights, which read other rows.
        shard: processes that share each weight (FSDP) and read other rows; 0 takes all
            that are left.
        tensor: processes that share the heads and widths, and read the same rows.
        expert: neighbours, of shard x tensor, that hold a layer's experts together.
        pipeline_schedule: in which order stages work: GPipe, 1F1B, Interleaved1F1B,
            ZBVZeroBubble or DualPipeV.
    """

    pipeline: int = 1
    replicate: int = 1
    shard: int = 0
    tensor: int = 1
    expert: int = 1
    pipeline_schedule: str = "1F1B"

    def of(self, world: int) -> Layout:
        """The layout for `world` processes; `UserError` when the numbers do not fit."""
        at_least(1, pipeline=self.pipeline, replicate=self.replicate,
                 tensor=self.tensor, expert=self.expert)
        at_least(0, shard=self.shard)
        others = self.pipeline * self.replicate * self.tensor
        full = replace(self, shard=self.shard or max(1, world // others))
        if full.world != world:
            raise UserError(
                f"--pipeline {full.pipeline} x --replicate {full.replicate} x --shard "
                f"{full.shard} x --tensor {full.tensor} = {full.world} processes, and "
                f"there are {world}: start so many with torchrun, or change one.")
        if full.shard * full.tensor % full.expert:
            raise UserError(f"--expert {full.expert} must divide shard x tensor = "
                            f"{full.shard * full.tensor}.")
        return full

    @property
    def world(self) -> int:
        """All processes."""
        return self.pipeline * self.replicate * self.shard * self.tensor

    @property
    def readers(self) -> int:
        """Processes, or groups of them, that read different rows."""
        return self.replicate * self.shard

    @property
    def expert_shard(self) -> int:
        """Processes that share each expert's weights (FSDP)."""
        return self.shard * self.tensor // self.expert

    def check(self, config: ModelConfig) -> None:
        """Raise `UserError` when a model of `config` cannot be dealt out like this."""
        for name, axis, parts, whole in (
                ("num_attention_heads", "tensor", self.tensor,
                 config.num_attention_heads),
                ("intermediate_size", "tensor", self.tensor, config.intermediate_size),
                ("n_shared_experts x moe_intermediate_size", "tensor", self.tensor,
                 (config.n_shared_experts or 0) * config.moe_intermediate_size),
                ("n_routed_experts", "expert", self.expert,
                 config.n_routed_experts or self.expert)):
            if whole % parts:
                raise UserError(f"--{axis} {parts} must divide {name} = {whole}.")
        if self.pipeline > config.num_hidden_layers:
            raise UserError(f"--pipeline {self.pipeline} is more than the "
                            f"{config.num_hidden_layers} layers of the model.")


@dataclass(frozen=True)
class Team:
    """The processes of a run, as one of them sees them."""

    layout: Layout
    rank: int
    device: torch.device
    dense: DeviceMesh | None    # over `DENSE`; None for a process alone
    sparse: DeviceMesh | None   # over `SPARSE`, the same processes

    @property
    def main(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    @property
    def reader(self) -> int:
        """Which share of a step's rows this process reads, of `layout.readers`."""
        return self.rank // self.layout.tensor % self.layout.readers

    @property
    def stage(self) -> int:
        """Which stage of the pipeline this process works at."""
        return self.rank // (self.layout.readers * self.layout.tensor)

    def described(self) -> str:
        """The device, and how many of them."""
        many = f" x {self.layout.world}" if self.layout.world > 1 else ""
        return self.device.type + many

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.dense is not None:
            dist.barrier()

    def share(self, value: Any) -> Any:
        """What the main process gives, in every process; anything that JSON holds."""
        if self.dense is None:
            return value
        text = json.dumps(value).encode() if self.main else b""
        size = torch.tensor(len(text), device=self.device)
        dist.broadcast(size, 0)
        data = torch.zeros(int(size), dtype=torch.uint8, device=self.device)
        if self.main:
            data.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        dist.broadcast(data, 0)
        return json.loads(data.cpu().numpy().tobytes())

    def collect(self, value: Any, axis: str) -> list[Any]:
        """What each process along an axis gives; anything that JSON holds."""
        group = self.dense.get_group(axis)
        text = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8,
                            device=self.device)
        sizes = [torch.zeros(1, dtype=torch.int64, device=self.device)
                 for _ in range(group.size())]
        dist.all_gather(sizes, torch.tensor([len(text)], device=self.device), group)
        longest = max(int(size) for size in sizes)
        texts = [text.new_empty(longest) for _ in sizes]
        dist.all_gather(texts, functional.pad(text, (0, longest - len(text))), group)
        return [json.loads(bytes(part[:int(size)].tolist()))
                for part, size in zip(texts, sizes, strict=True)]

    def mean(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The means over those who read other rows; the names are the same in each."""
        if self.dense is None or not values:
            return values
        flat = torch.cat([v.detach().double().flatten() for v in values.values()])
        for axis in ("replicate", "shard"):
            dist.all_reduce(flat, group=self.dense.get_group(axis))
        parts = (flat / self.layout.readers).split([v.numel() for v in values.values()])
        return {name: part.view_as(value).to(value.dtype)
                for (name, value), part in zip(values.items(), parts, strict=True)}

    def own(self, rows: Tensor, parts: int = 1) -> Tensor:
        """The rows of a step that this process reads, of each of the step's parts.

        Raises `UserError` when they cannot be dealt out evenly.
        """
        shares = parts * self.layout.readers
        if len(rows) % shares:
            raise UserError(f"{len(rows)} rows cannot be dealt out to "
                            f"{self.layout.readers} readers in {parts} parts: choose a "
                            f"multiple of {shares} as --batch.")
        dealt = rows.view(parts, self.layout.readers, -1, *rows.shape[1:])
        return dealt[:, self.reader].flatten(0, 1)


def team_of(layout: Layout, device: torch.device) -> Team:
    """The team in an initialised process group, which may be a fake one."""
    layout = layout.of(dist.get_world_size())
    sizes = (layout.pipeline, layout.replicate)
    dense = init_device_mesh(device.type, (*sizes, layout.shard, layout.tensor),
                             mesh_dim_names=DENSE)
    sparse = init_device_mesh(device.type, (*sizes, layout.expert_shard, layout.expert),
                              mesh_dim_names=SPARSE)
    return Team(layout, dist.get_rank(), device, dense, sparse)


ALONE = Team(Layout().of(1), 0, torch.device("cpu"), None, None)


def processes() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _lost(error: BaseException | None) -> bool:
    """Whether an error is that of a process that is gone; pipelining wraps it."""
    return error is not None and (any(words in str(error) for words in LOST)
                                  or _lost(error.__cause__))


@contextmanager
def gather_team(layout: Layout, device: torch.device) -> Iterator[Team]:
    """The team that torchrun started: gloo on the CPU, NCCL on GPUs of CUDA.

    `device` is what a process alone takes; of several GPUs each process takes its own.
    Without torchrun a team of one, and no process group; one that exists is taken.
    Raises `UserError` when another process ends, or is silent for `PATIENCE`.
    """
    if dist.is_initialized():
        yield team_of(layout, device)
        return
    if "WORLD_SIZE" not in os.environ:
        yield Team(layout.of(1), 0, device, None, None)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")    # gloo sends nothing of Apple's GPU
    layout.of(processes())  # said before anybody waits for anybody
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield team_of(layout, device)
    except RuntimeError as error:
        if not _lost(error):
            raise
        raise UserError("Another process has ended, or is silent; the same command "
                        "goes on from the newest checkpoint.") from error
    finally:
        dist.destroy_process_group()
