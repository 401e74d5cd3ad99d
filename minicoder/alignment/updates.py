"""The updates of a round of GRPO, and what a killed run needs to go on in it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from minicoder.alignment.chat import prompt_tokens
from minicoder.alignment.feedback import Sample
from minicoder.alignment.iterative import Phases
from minicoder.alignment.objectives import clip_share, grpo_loss, k3
from minicoder.alignment.rollouts import Rollouts, Round
from minicoder.model.transformer import MiniCoder
from minicoder.training.batches import group_logprobs


class Updates:
    """The loss of each step: a round is sampled, then used for several updates.

    A round's groups are dealt into `minibatches`; one update takes one of these. With
    the first of them old and new policy are the same: every ratio is 1.
    """

    def __init__(self, rollouts: Rollouts, phases: Phases, updates: int = 1,
                 minibatches: int = 1, refresh: int = 0) -> None:
        self.rollouts, self.phases = rollouts, phases
        self.updates, self.minibatches, self.refresh = updates, minibatches, refresh
        self.round: Round | None = None
        self.samples: list[Sample] = []  # of this phase, for the reward model

    def __call__(self, step: int) -> tuple[Tensor | None, dict]:
        """Loss of step `step`; None when all groups agree with themselves."""
        number, update = divmod(step, self.updates)
        if self.refresh:
            self.phases.enter(number // self.refresh, self.samples)
            if update == 0 and number % self.refresh == 0:
                self.samples = []
        if update == 0 or self.round is None:
            self.round, found = self.rollouts(number)
            if self.refresh and self.phases.judge is not None:
                self.samples += found
            if self.updates > 1 and self.round.samples:
                self.round.old = self.think(self.round, range(self.count))[0].detach()
        return self.loss(self.round, self.dealt(number, update))

    @property
    def count(self) -> int:
        """Groups of the round."""
        return len(self.round.samples) // self.rollouts.sampling.group

    def dealt(self, number: int, update: int) -> list[int]:
        """The groups of one update; dealt anew when all had their turn."""
        turn, part = divmod(update, self.minibatches)
        order = list(range(self.count))
        if self.minibatches > 1:
            seed = self.rollouts.sampling.seed
            random.Random(f"{seed} {number} {turn}").shuffle(order)
        return sorted(order[part::self.minibatches])

    def think(self, found: Round, chosen: Sequence[int], model: MiniCoder | None = None
              ) -> tuple[Tensor, Tensor, float]:
        """Log-probabilities of some groups' answers, mask and entropy."""
        rollouts, size = self.rollouts, self.rollouts.sampling.group
        groups = [found.samples[g * size:(g + 1) * size] for g in chosen]
        return group_logprobs(
            model or rollouts.coder,
            [prompt_tokens(group[0].prompt, rollouts.tokenizer) for group in groups],
            [s.tokens for group in groups for s in group],
            rollouts.sampling.temperature)

    def loss(self, found: Round, chosen: list[int]) -> tuple[Tensor | None, dict]:
        """One update on the chosen groups."""
        noted = found.noted | {"kl": 0.0, "clip_share": 0.0}
        if not chosen:
            return None, noted
        how, size = self.rollouts.objective, self.rollouts.sampling.group
        rows = [g * size + i for g in chosen for i in range(size)]
        new, mask, noted["entropy"] = self.think(found, chosen)
        old, reference = new.detach(), None
        if found.old is not None:
            old = found.old[rows, :mask.shape[1]]
        advantage = found.advantage[rows]
        if advantage.ndim == 2:
            advantage = advantage[:, :mask.shape[1]]
        if self.phases.reference is not None:
            with torch.no_grad():
                reference, _, _ = self.think(found, chosen, self.phases.reference)
            noted["kl"] = k3(reference - new.detach())[mask].mean().item()
        noted["clip_share"] = clip_share(new, old, advantage, mask, how)
        loss = grpo_loss(new, old, reference, advantage, mask, how, found.weight[rows])
        return loss * self.minibatches, noted

    def state(self) -> dict[str, Any]:
        """The round under way, and the samples that the reward model is to see."""
        return {"round": self.round and self.round.state(),
                "samples": [asdict(s) for s in self.samples]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        device = self.rollouts.coder.lm_head.weight.device
        self.round = state["round"] and Round.restored(state["round"], device)
        self.samples = [Sample(**s) for s in state["samples"]]
