"""Expert parallelism: tokens travel to the processes that hold their experts, and back.

A token goes once to each process that holds one or more of its experts, and one sum
comes back: that is what device-limited routing bounds and the communication balance
loss keeps even. Source: DeepSeek-V2 §2.2.2-2.2.4. Letters: M tokens of a process, D
hidden, K chosen experts of a token, P processes that hold a layer's experts together, C
copies of tokens that leave, R that arrive, V visits of an expert by one of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import partial

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributed._functional_collectives import all_to_all_single_autograd
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from minicoder.model.moe import Experts, MoE, Routing, run_experts
from minicoder.parallel.layout import Team


@dataclass(frozen=True)
class Traffic:
    """What one process sent in forward passes; `away` leaves out what stays with it."""

    copies: int = 0         # rows, each token once to each process
    visits: int = 0         # rows, had every visit of an expert been sent
    away_copies: int = 0
    away_visits: int = 0
    away_bytes: int = 0     # of the copies, and of the sums that go back

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(*map(sum, zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Trip:
    """Who goes where: what leaves is sorted by process, what arrives too."""

    token: Int[Tensor, " C"]        # whose copy it is
    expert: Int[Tensor, "C K"]      # its experts there, as they count; -1: elsewhere
    leave: list[int]                # copies for each process
    arrive: list[int]               # copies from each
    visits: list[int]               # visits that the copies for each stand for
    row: Int[Tensor, " V"]          # of what arrives: a visit's copy,
    choice: Int[Tensor, " V"]       # which of that token's K it is,
    ends: Int[Tensor, " E"]         # and where each expert's visits end


def plan_trip(routing: Routing, each: int, group: dist.ProcessGroup) -> Trip:
    """Agree on who goes where; a process holds `each` experts.

    What has weight 0 stays at home: token dropping saves sending.
    """
    processes, k = group.size(), routing.experts.shape[1]
    home = (routing.experts // each).masked_fill(routing.weights == 0, processes)
    visits = F.one_hot(home, processes + 1)[..., :-1].sum(1)        # M P
    to, token = visits.T.nonzero(as_tuple=True)
    here = home.index_select(0, token) == to.unsqueeze(1)
    expert = (routing.experts.index_select(0, token) % each).where(here, -1)
    count = torch.stack(((visits > 0).sum(0), visits.sum(0)))
    coming = torch.empty_like(count[0])
    dist.all_to_all_single(coming, count[0].contiguous(), group=group)
    leave, of_visits, arrive = torch.stack((*count, coming)).tolist()
    arrived = expert.new_empty(sum(arrive), k)
    dist.all_to_all_single(arrived, expert, arrive, leave, group=group)
    row, choice = (arrived >= 0).nonzero(as_tuple=True)
    chosen = arrived[row, choice]
    order = chosen.argsort(stable=True)
    ends = chosen.bincount(minlength=each).cumsum(0)
    return Trip(token, expert, leave, arrive, of_visits, row[order], choice[order],
                ends)


class Dispatch:
    """The forward of `Experts` whose weights are dealt out over the axis `mesh`."""

    def __init__(self, experts: Experts, mesh: DeviceMesh) -> None:
        self.experts, self.group, self.traffic = experts, mesh.get_group(), Traffic()

    def __call__(self, x: Float[Tensor, "M D"], routing: Routing
                 ) -> Float[Tensor, "M D"]:
        """Send rows and weights, run the experts that live here, send sums back."""
        gate_up, down = (p.to_local() for p in (self.experts.gate_up_proj,
                                                self.experts.down_proj))
        trip = plan_trip(routing, len(down), self.group)
        weights = routing.weights.index_select(0, trip.token)
        weights = weights.where(trip.expert >= 0, 0).type_as(x)
        leaving = torch.cat((x.index_select(0, trip.token), weights), dim=1)
        arrived = all_to_all_single_autograd(
            leaving, trip.arrive, trip.leave, self.group)
        rows, weights = arrived.split([x.shape[1], weights.shape[1]], dim=1)
        sums = run_experts(rows, trip.row, weights[trip.row, trip.choice], trip.ends,
                           gate_up, down)
        back = all_to_all_single_autograd(sums, trip.leave, trip.arrive, self.group)
        self.count(trip, leaving, sums)
        return torch.zeros_like(x).index_add(0, trip.token, back)

    def count(self, trip: Trip, leaving: Tensor, sums: Tensor) -> None:
        """Add a trip to the traffic."""
        own = self.group.rank()
        copies, visits = sum(trip.leave), sum(trip.visits)
        away = copies - trip.leave[own]
        row = (leaving.shape[1] * leaving.itemsize
               + trip.expert.shape[1] * trip.expert.itemsize)
        back = (len(sums) - trip.arrive[own]) * sums.shape[1] * sums.itemsize
        self.traffic += Traffic(copies, visits, away, visits - trip.visits[own],
                                away * row + back)


Run = Callable[[Tensor, Routing], Tensor]


def share_tokens(run: Run, mesh: DeviceMesh, x: Float[Tensor, "M D"], routing: Routing
                 ) -> Float[Tensor, "M D"]:
    """Let the processes of a tensor axis, who have the same tokens, each `run` a part.

    Gradients of the parts are gathered on the way back, so that each process has those
    of all tokens.
    """
    def part(whole: Tensor) -> Tensor:
        return DTensor.from_local(whole, mesh, [Replicate()], run_check=False
                                  ).redistribute(placements=[Shard(0)]).to_local()

    own = Routing(part(routing.scores), part(routing.experts), part(routing.weights))
    out = DTensor.from_local(run(part(x), own), mesh, [Shard(0)], run_check=False,
                             shape=x.shape, stride=x.stride())
    # FSDP2 dislikes views
    return out.redistribute(placements=[Replicate()]).to_local().clone()


def spread_experts(model: nn.Module, team: Team) -> None:
    """Deal the experts of each layer out, and their tokens; works on an outline too."""
    for block in model.model.layers:
        if not isinstance(block.mlp, MoE):
            continue
        experts = block.mlp.experts
        if team.layout.expert > 1:
            mesh = team.sparse["expert"]
            for name, p in experts.named_parameters():
                dealt = distribute_tensor(p.detach(), mesh, [Shard(0)],
                                          src_data_rank=None)
                experts.register_parameter(name, nn.Parameter(dealt))
            experts.forward = experts.dispatch = Dispatch(experts, mesh)
        if team.layout.tensor > 1:
            experts.forward = partial(share_tokens, experts.forward,
                                      team.dense["tensor"])


def traffic(model: nn.Module) -> list[Traffic]:
    """What this process has sent so far, of each layer whose experts are dealt out."""
    return [block.mlp.experts.dispatch.traffic for block in model.model.layers
            if isinstance(block.mlp, MoE) and hasattr(block.mlp.experts, "dispatch")]
