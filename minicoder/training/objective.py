"""What pre-training minimises: next tokens, and experts, devices and wires kept busy.

Letters: B rows, T tokens read of each, N tokens, E experts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minicoder.data.packing import Shards
from minicoder.errors import UserError
from minicoder.model.balance import (
    Balance,
    Dropping,
    communication_balance_loss,
    device_balance_loss,
    expert_balance_loss,
    expert_load,
)
from minicoder.model.documents import find_documents
from minicoder.model.moe import MoE, Routing
from minicoder.model.transformer import MiniCoder
from minicoder.parallel.dropping import shared
from minicoder.parallel.layout import ALONE, Team
from minicoder.parallel.pipeline import Pipeline
from minicoder.training.loop import StepLoss, token_losses

Sums = dict[str, Tensor]    # what a step's record is made of; parts of a step average


def in_fim(rows: Int[Tensor, "B row"], bos: int, fim_begin: int
           ) -> Bool[Tensor, "B row"]:
    """Which tokens stand in a piece that begins with BOS, FIM_BEGIN."""
    starts = rows == bos
    shuffled = starts & (rows.roll(-1, 1) == fim_begin)
    shuffled[:, -1] = False     # what follows there is not known
    places = torch.arange(rows.shape[1], device=rows.device)
    begin = places.where(starts, -1).cummax(1).values
    return shuffled.gather(1, begin.clamp(min=0)) & (begin >= 0)


def router_notes(seen: list[Routing]) -> Sums:
    """Of each layer, the experts' load and the mean entropy of a token's scores (nats).

    ln E says that a router does not care, 0 that it is sure.
    """
    return {"load": torch.stack([expert_load(r) for r in seen]),
            "entropy": torch.stack([torch.special.entr(r.scores).sum(-1).mean()
                                    for r in seen])}


@dataclass
class Objective:
    """The loss of packed rows, and what to note of it.

    With `documents` no token attends beyond its own document; with `parts` above 1 a
    step is read in so many parts to save memory, whose mean is the step's loss to the
    last digits of its sum: rows are alike long, and balance is counted in each row.
    Each process of a `team` reads rows of its own, and the record is that of all.
    """

    model: MiniCoder
    balance: Balance
    bos: int
    fim_begin: int
    parts: int = 1
    documents: bool = False
    dropping: Dropping | None = None
    team: Team = ALONE      # who else reads rows of this step
    pipeline: Pipeline | None = None    # runs the parts, when other stages have layers
    dropped: list[Tensor] = field(default_factory=list)  # of each layer, in this part

    def __post_init__(self) -> None:
        config = self.model.config
        if (config.n_routed_experts or 0) % self.balance.devices:
            raise UserError(f"--devices {self.balance.devices} must divide the "
                            f"{config.n_routed_experts} experts.")
        for module in self.model.modules():
            if isinstance(module, MoE) and self.dropping:
                module.drop = self.drop

    @property
    def device(self) -> torch.device:
        """Where tokens are read."""
        return next(self.model.parameters()).device

    def drop(self, routing: Routing, sequences: int) -> Routing:
        """Drop visits, and note the share of them that is lost."""
        changed = shared(self.dropping, self.team)(routing, sequences)
        lost = (changed.weights == 0) & (routing.weights != 0)
        self.dropped.append(lost.float().mean())
        return changed

    def __call__(self, rows: Int[Tensor, "B row"]) -> tuple[Tensor, dict]:
        """The loss of a step's rows. Its gradient is there once `backward` is called.

        Of all parts but the last it is there already; of a pipeline's it is of all.
        """
        loss, mean = (self.in_parts if self.pipeline is None else self.in_stages)(rows)
        tokens = rows[:, 1:].numel() * self.team.layout.readers
        return loss, {"tokens": tokens, **record(self.team.mean(mean))}

    def in_parts(self, rows: Int[Tensor, "B row"]) -> tuple[Tensor, Sums]:
        """One part after the other; the loss, and the parts' mean sums."""
        before, sums = 0.0, list[Sums]()
        for number, part in enumerate(rows.chunk(self.parts), start=1):
            loss, found = self.of_part(part)
            sums.append(found)
            if number < self.parts:
                loss = loss / self.parts
                loss.backward()
                before = before + loss.detach()
        if self.parts > 1:
            loss = before + loss / self.parts
        return loss, {name: torch.stack([s[name] for s in sums]).mean(0)
                      for name in sums[0]}

    def in_stages(self, rows: Int[Tensor, "B row"]) -> tuple[Tensor, Sums]:
        """All parts through the pipeline; the same."""
        def head(stage: MiniCoder, hidden: Tensor, tokens: Tensor, targets: Tensor
                 ) -> tuple[Tensor, Sums]:
            losses = token_losses(stage, tokens, targets, None, lambda *_: hidden)
            whole = torch.cat((tokens, targets[:, -1:]), dim=1)
            return self.of_tokens(losses, whole)

        return self.pipeline(rows[:, :-1], rows[:, 1:], head, self.of_layers,
                             self.bos if self.documents else None)

    def of_answers(self, tokens: Int[Tensor, "B T"], targets: Int[Tensor, "B T"],
                   share: float) -> Tensor:
        """The sum of the losses of the targets that count, over `share`."""
        if self.pipeline is None:
            return token_losses(self.model, tokens, targets).sum() / share

        def head(stage: MiniCoder, hidden: Tensor, tokens: Tensor, targets: Tensor
                 ) -> tuple[Tensor, Sums]:
            found = token_losses(stage, tokens, targets, None, lambda *_: hidden)
            return found.sum() * self.parts / share, Sums()

        return self.pipeline(tokens, targets, head)[0]

    def of_part(self, rows: Int[Tensor, "B row"]) -> tuple[Tensor, Sums]:
        """The loss of some rows, and sums for the record."""
        inputs, targets = rows[:, :-1], rows[:, 1:]
        seen: list[Routing] = []
        losses = token_losses(self.model, inputs, targets, seen, self.reader(inputs))
        loss, sums = self.of_tokens(losses, rows)
        more, noted = self.of_layers(seen, len(rows))
        return loss + more, sums | noted

    def of_tokens(self, losses: Float[Tensor, " N"], rows: Int[Tensor, "B row"]
                  ) -> tuple[Tensor, Sums]:
        """The mean loss of all tokens, and what to note of it."""
        fim = in_fim(rows, self.bos, self.fim_begin)[:, 1:].flatten()
        return losses.mean(), {"language_loss": losses.detach().mean(), **{
            name: torch.stack((losses.detach()[which].sum(), which.sum()))
            for name, which in (("ntp", ~fim), ("fim", fim))}}

    def of_layers(self, seen: list[Routing], rows: int) -> tuple[Tensor, Sums]:
        """The balance losses of some layers, and what to note of each layer."""
        loss, sums = torch.zeros((), device=self.device), Sums()
        for name, factor, values in self.imbalance(seen, rows):
            loss = loss + factor * values.sum()
            sums[name] = values.detach()
        with torch.no_grad():
            if seen:
                sums |= router_notes(seen)
            if self.dropped:    # the last ones: who recomputes drops a second time
                sums["dropped"] = torch.stack(self.dropped[-len(seen):])
        self.dropped.clear()
        return loss, sums

    def reader(self, inputs: Int[Tensor, "B T"]) -> Callable[..., Tensor]:
        """What turns inputs into hidden states."""
        if not self.documents:
            return self.model.model
        documents = find_documents(inputs, self.bos)
        return lambda tokens, seen: self.model.model.packed(tokens, documents, seen)

    def imbalance(self, seen: list[Routing], rows: int
                  ) -> list[tuple[str, float, Float[Tensor, " layers"]]]:
        """Name, factor and the layers' values of each balance loss that is on."""
        b = self.balance
        kinds: list[tuple[str, float, Callable[[Routing], Tensor]]] = [
            ("balance_loss", b.expert, lambda r: expert_balance_loss(r, rows))]
        if b.device:
            kinds.append(("device_balance_loss", b.device,
                          lambda r: device_balance_loss(r, rows, b.devices)))
        if b.communication:
            kinds.append((
                "communication_balance_loss", b.communication,
                lambda r: communication_balance_loss(r, rows, b.devices, b.limit)))
        return [(name, factor, torch.stack([loss(r) for r in seen]))
                for name, factor, loss in kinds if seen]


def record(mean: Sums) -> dict:
    """The line of metrics.jsonl: losses in nats; of routers, a number for each layer.

    `max_over_mean` is the busiest expert's load over the fair share.
    """
    noted: dict = {}
    for name, value in mean.items():
        if name in ("ntp", "fim"):
            if value[1]:
                noted[f"{name}_loss"] = (value[0] / value[1]).item()
        elif name == "load":
            noted["expert_load"] = [[round(v, 4) for v in layer]
                                    for layer in value.tolist()]
            noted["max_over_mean"] = _rounded(value.amax(1) * value.shape[1])
        elif name in ("entropy", "dropped"):
            noted[f"router_{name}"] = _rounded(value)
        else:
            noted[name] = value.mean().item()
    return noted


def _rounded(values: Float[Tensor, " layers"]) -> list[float]:
    return [round(v, 4) for v in values.tolist()]


def rows_loss(read: Objective, rows: Shards, batch: int, seed: int) -> StepLoss:
    """The loss of a step's rows; this process reads those that are its own."""
    def loss(step: int) -> tuple[Tensor, dict]:
        own = read.team.own(rows.batch(step, batch, seed), read.parts)
        found, noted = read(own.to(read.device))
        return found, noted | {"sources": rows.counts(step, batch, seed)}

    return loss
