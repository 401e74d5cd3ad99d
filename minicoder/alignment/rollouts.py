"""A round of GRPO before its updates: draw prompts, sample groups, judge, compare.

Letters: P prompts, G answers per prompt, B answers, T or L tokens of the longest.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minicoder.alignment.feedback import Sample, sample_and_judge
from minicoder.alignment.objectives import (
    Objective,
    advantages,
    overlong_penalty,
    step_advantages,
    token_weights,
)
from minicoder.alignment.rewards import Rewards, step_rewards
from minicoder.execution.sandbox import Sandbox
from minicoder.model.transformer import MiniCoder
from minicoder.tasks.item import Item
from minicoder.tokenizer import Tokenizer

SIGNAL = 1e-3     # an advantage below this one is rounding
CACHE_SHARE = 5   # DAPO's cache is a fifth of its limit: 4,096 of 20,480 tokens


@dataclass(frozen=True)
class Sampling:
    """How a round is drawn; `tries` bounds what dynamic sampling may ask for."""

    prompts: int
    group: int
    temperature: float = 1.0
    new_tokens: int = 64
    tries: int = 4
    supervision: Literal["outcome", "process"] = "outcome"
    seed: int = 0


@dataclass
class Round:
    """Whole groups to learn from, side by side, and what each answer counts."""

    samples: list[Sample]
    advantage: Float[Tensor, " B"] | Float[Tensor, "B T"]
    weight: Float[Tensor, " B"]
    noted: dict[str, float]
    old: Float[Tensor, "B L"] | None = None  # log-probabilities before the updates

    def state(self) -> dict[str, Any]:
        """All of it, to the last bit, as JSON."""
        return {"samples": [asdict(s) for s in self.samples], "noted": self.noted} | {
            name: None if part is None else part.tolist()
            for name, part in (("advantage", self.advantage), ("weight", self.weight),
                               ("old", self.old))}

    @classmethod
    def restored(cls, state: dict[str, Any], device: torch.device) -> Round:
        """What `state` described."""
        old = state["old"]
        return cls([Sample(**s) for s in state["samples"]],
                   torch.tensor(state["advantage"], device=device),
                   torch.tensor(state["weight"], dtype=torch.double, device=device),
                   state["noted"],
                   None if old is None else torch.tensor(old, device=device))


class Rollouts:
    """Draws prompts, samples answers, judges and compares them."""

    def __init__(self, coder: MiniCoder, tokenizer: Tokenizer, sandbox: Sandbox,
                 rewards: Rewards, pool: Sequence[Item], sampling: Sampling,
                 objective: Objective) -> None:
        self.coder, self.tokenizer, self.sandbox = coder, tokenizer, sandbox
        self.rewards, self.pool = rewards, pool
        self.sampling, self.objective = sampling, objective

    def sample(self, number: int) -> tuple[list[Sample], Float[Tensor, "P G"]]:
        """Groups of round `number` and their rewards; with dynamic sampling, until
        enough groups have a signal or `tries` are used up."""
        how, dynamic = self.sampling, self.objective.dynamic
        draw = torch.Generator().manual_seed(how.seed * 1_000_003 + number)
        wanted = how.prompts * (how.tries if dynamic else 1)
        tasks = random.Random(f"{how.seed} {number}").sample(
            self.pool, min(len(self.pool), wanted))
        found: list[Sample] = []
        rewards = torch.zeros(0, how.group)
        for first in range(0, len(tasks), how.prompts):
            new = sample_and_judge(
                self.coder, self.tokenizer, tasks[first:first + how.prompts],
                self.sandbox, how.group, how.temperature, how.new_tokens, draw)
            found += new
            rewards = torch.cat((rewards, self.rewards(new).view(-1, how.group)))
            if signals(advantages(rewards)).sum() >= how.prompts:
                break
        return found, rewards

    def __call__(self, number: int) -> tuple[Round, list[Sample]]:
        """What round `number` can teach, and all that was sampled for it."""
        how, objective = self.sampling, self.objective
        samples, rewards = self.sample(number)
        worth = signals(advantages(rewards))
        noted = note(samples, rewards) | {"groups_kept": int(worth.sum())}
        found = samples
        if objective.dynamic:
            chosen = worth.nonzero()[:how.prompts, 0]
            found, rewards = groups(found, chosen, how.group), rewards[chosen]
        lengths = torch.tensor([len(s.tokens) for s in found], dtype=torch.long)
        advantage = self.compare(found, rewards, lengths)
        weight = token_weights(lengths, objective, how.new_tokens)
        if not objective.beta:  # without KL a group of no signal adds nothing
            kept = signals(advantage)
            found = groups(found, kept.nonzero()[:, 0], how.group)
            advantage, weight = advantage[kept], weight.view(-1, how.group)[kept]
        device = self.coder.lm_head.weight.device
        return Round(found, advantage.flatten(0, 1).to(device),
                     weight.flatten().to(device), noted), samples

    def compare(self, found: Sequence[Sample], rewards: Float[Tensor, "P G"],
                lengths: Int[Tensor, " B"]) -> Float[Tensor, "P G *T"]:
        """Advantages of whole groups: of each answer, or of each of its tokens."""
        how, objective = self.sampling, self.objective
        if how.supervision == "process" and found:
            values, ends = (part.unflatten(0, (-1, how.group))
                            for part in step_rewards(found, self.tokenizer))
            return step_advantages(values, ends, int(lengths.max()), objective.spread)
        if objective.overlong:
            rewards = rewards + overlong_penalty(
                lengths.view(-1, how.group), how.new_tokens,
                max(1, how.new_tokens // CACHE_SHARE))
        return advantages(rewards, objective.spread)


def signals(advantage: Float[Tensor, "P G *T"]) -> Bool[Tensor, " P"]:
    """Which groups hold answers that differ."""
    return advantage.abs().gt(SIGNAL).flatten(1).any(1)


def groups(samples: Sequence[Sample], chosen: Int[Tensor, " N"], size: int
           ) -> list[Sample]:
    """The samples of the chosen groups."""
    return [s for g in chosen.tolist() for s in samples[g * size:(g + 1) * size]]


def note(samples: Sequence[Sample], rewards: Float[Tensor, "P G"]) -> dict[str, float]:
    """The round's curves, over all that was sampled."""
    right = torch.tensor([s.right for s in samples]).view(rewards.shape)
    return {
        "reward": rewards.nanmean().item(),
        "pass": right.sum().item() / max(1, sum(s.judged for s in samples)),
        "solved": right.any(1).float().mean().item(), "groups": len(rewards),
        "length": sum(len(s.tokens) for s in samples) / len(samples)}
