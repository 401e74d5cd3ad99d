"""Token dropping over the tokens of all readers, as one process would do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from minicoder.model.moe import Drop, Routing
from minicoder.parallel.layout import Team


@dataclass(frozen=True)
class SharedDropping:
    """`drop`, which sees one process's tokens, for those of all readers of a team.

    Each gives the choices of its tokens to all and drops among all of them, with the
    same draws: the generator of torch must stand at the same place in all processes.
    Readers must have alike many tokens.
    """

    drop: Drop
    team: Team

    def __call__(self, routing: Routing, sequences: int) -> Routing:
        """Weight 0 for what one process would have dropped of these tokens."""
        readers, experts = self.team.layout.readers, routing.scores.shape[1]
        chosen = self.gathered(routing.experts)
        scores = routing.scores.new_zeros(len(chosen), experts).scatter(
            1, chosen, self.gathered(routing.scores.detach().gather(1, routing.experts))
        )
        ones = torch.ones_like(chosen, dtype=routing.weights.dtype)
        kept = self.drop(Routing(scores, chosen, ones), sequences * readers).weights
        own = kept.view(readers, -1, kept.shape[1])[self.team.reader]
        return Routing(routing.scores, routing.experts, routing.weights * own)

    def gathered(self, own: Tensor) -> Tensor:
        """The rows of all readers, in their order."""
        for axis in ("shard", "replicate"):
            group: dist.ProcessGroup = self.team.dense.get_group(axis)
            parts = [torch.empty_like(own) for _ in range(group.size())]
            dist.all_gather(parts, own.contiguous(), group=group)
            own = torch.cat(parts)
        return own


def shared(drop: Drop, team: Team) -> Callable[[Routing, int], Routing]:
    """`drop` itself for a process alone."""
    return drop if team.dense is None else SharedDropping(drop, team)
