"""Keeping experts, devices and wires busy alike: three losses and token dropping.

Source: DeepSeek-V2 §2.2.3 (eq. 23-31) and §2.2.4. Letters: B sequences, T tokens of
each, E experts, K chosen per token, D devices. Device d holds the experts
d E/D .. (d+1) E/D - 1, which is also how routing groups them. All losses come without
their factor alpha; the gradient flows through the scores, never through the counts.
Used alike, the first two are 1, and the third is too when every token goes to as many
devices as it may.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from minicoder.errors import UserError
from minicoder.model.moe import Routing


def _each(routing: Routing, devices: int) -> int:
    """Experts of a device; `UserError` when they cannot be dealt out evenly."""
    each, rest = divmod(routing.scores.shape[1], devices)
    if rest:
        raise UserError(f"{routing.scores.shape[1]} experts cannot be dealt out to "
                        f"devices = {devices}: choose a divisor.")
    return each


def chosen(routing: Routing) -> Float[Tensor, "M E"]:
    """1 where a token chose an expert, else 0."""
    count = routing.scores.shape[1]
    return F.one_hot(routing.experts, count).sum(1).to(routing.scores.dtype)


def fractions(routing: Routing, sequences: int
              ) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B E"]]:
    """f_i, how often expert i was chosen over its fair share, and P_i, its mean score.

    f_i = E / (K T) * tokens that chose i (eq. 24); P_i = mean of s_i,t (eq. 25).
    """
    scores = rearrange(routing.scores, "(b t) e -> b t e", b=sequences)
    load = rearrange(chosen(routing), "(b t) e -> b t e", b=sequences).mean(1)
    fair = routing.experts.shape[1] / routing.scores.shape[1]
    return load / fair, scores.mean(1)


def expert_balance_loss(routing: Routing, sequences: int) -> Float[Tensor, ""]:
    """sum_i f_i P_i per sequence, averaged (eq. 23-25); E/K at worst."""
    f, p = fractions(routing, sequences)
    return (f * p).sum(-1).mean()


def device_balance_loss(routing: Routing, sequences: int, devices: int
                        ) -> Float[Tensor, ""]:
    """sum_d f'_d P'_d: mean f and summed P of a device's experts (eq. 26-28)."""
    f, p = (rearrange(part, "b (d e) -> b d e", d=devices)
            for part in fractions(routing, sequences))
    return (f.mean(-1) * p.sum(-1)).sum(-1).mean()


def communication_balance_loss(routing: Routing, sequences: int, devices: int,
                               limit: int) -> Float[Tensor, ""]:
    """sum_d f''_d P''_d with f''_d = D / (M T) * tokens sent to device d (eq. 29-31).

    `limit` is the paper's M, the most devices a token may go to. However many of its
    experts a device holds, a token is sent there once.
    """
    sent = rearrange(chosen(routing), "(b t) (d e) -> b t d e", b=sequences, d=devices)
    f = sent.amax(-1).mean(1) * devices / limit
    _, p = fractions(routing, sequences)
    return (f * rearrange(p, "b (d e) -> b d e", d=devices).sum(-1)).sum(-1).mean()


@dataclass(frozen=True)
class Balance:
    """The factors of the three losses, each to be stated: 0 leaves one away.

    The 236B was trained with expert 0.003, device 0.05, communication 0.02 on 8 devices
    with at most 3 a token (§3.1.2); V2-Lite with expert 0.001 alone (appendix B). The
    `aux_loss_alpha` of a released config.json is 0.001 for both.
    """

    expert: float
    device: float
    communication: float
    devices: int
    limit: int

    def __post_init__(self) -> None:
        for name in ("expert", "device", "communication"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"The balance factor {name} = {getattr(self, name)} "
                                "must be a number, 0 or more.")
        if not 1 <= self.limit <= self.devices:
            raise UserError(f"Balance limit = {self.limit}: allowed is 1 to the number "
                            f"of devices, {self.devices}.")

    def loss(self, routing: Routing, sequences: int) -> Float[Tensor, ""]:
        """The weighted sum; `UserError` when the experts cannot be dealt out evenly."""
        _each(routing, self.devices)
        total = self.expert * expert_balance_loss(routing, sequences)
        if self.device:
            total = total + self.device * device_balance_loss(
                routing, sequences, self.devices)
        if self.communication:
            total = total + self.communication * communication_balance_loss(
                routing, sequences, self.devices, self.limit)
        return total


@dataclass(frozen=True)
class Dropping:
    """Token dropping while training (§2.2.4); `MoE.drop` takes one.

    A device has room for `capacity` times the average number of visits; of what is
    above that the visits of the lowest scores are dropped, but none of the tokens of
    about `spared` of the sequences, which stay as they will be when the model is used.
    The paper has 8 devices, capacity 1.0 and a tenth spared. In one process a dropped
    visit is computed all the same, with weight 0; what it saves is sending.
    """

    devices: int
    capacity: float
    spared: float
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.devices < 1 or self.capacity <= 0 or not 0 <= self.spared <= 1:
            raise UserError(
                f"devices = {self.devices}, capacity = {self.capacity} and spared = "
                f"{self.spared}: allowed are 1 or more, above 0, and 0 to 1.")

    def __call__(self, routing: Routing, sequences: int) -> Routing:
        """Drop from a batch of sequences, some of which are drawn to be spared."""
        draw = torch.rand(sequences, generator=self.generator) < self.spared
        length = len(routing.experts) // sequences
        safe = draw.repeat_interleave(length).to(routing.experts.device)
        return drop_tokens(routing, self.devices, self.capacity, safe)


def drop_tokens(routing: Routing, devices: int, capacity: float,
                spared: Bool[Tensor, " M"]) -> Routing:
    """Give weight 0 to the weakest visits of each device that got too many.

    A visit is one chosen expert of one token. A device has room for `capacity` times
    M K / D of them; what has weight 0 need not be sent there. `spared` tokens take
    their room first and are never dropped, even beyond it.
    """
    device = routing.experts // _each(routing, devices)
    room = int(capacity * routing.experts.numel() / devices)
    rank = routing.scores.detach().gather(1, routing.experts)
    rank = rank.masked_fill(spared[:, None], float("inf"))
    dropped = torch.zeros_like(rank, dtype=torch.bool)
    for d in range(devices):
        score = rank.where(device == d, -1.0).flatten()  # who is elsewhere comes last
        order = score.argsort(descending=True, stable=True)
        dropped.view(-1)[order[room:]] |= (score[order[room:]] >= 0)
    dropped &= ~spared[:, None]
    return replace(routing, weights=routing.weights.masked_fill(dropped, 0.0))


def expert_load(routing: Routing) -> Float[Tensor, " E"]:
    """Share of the choices that each expert got; sums to 1."""
    count = routing.scores.shape[1]
    return torch.bincount(routing.experts.flatten(), minlength=count) / (
        routing.experts.numel())
