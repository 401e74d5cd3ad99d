"""Group Relative Policy Optimization: the group is the baseline (DeepSeekMath §4.1).

Letters: P prompts, G answers per prompt, B = P * G rows, T tokens.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from minicoder.alignment.chat import CHAT_TEMPLATE, prompt_tokens
from minicoder.alignment.feedback import Sample, sample_and_judge
from minicoder.alignment.reward_model import RewardModel, score_all
from minicoder.errors import UserError, at_least
from minicoder.execution.sandbox import Sandbox
from minicoder.model.transformer import MiniCoder
from minicoder.stages import stage
from minicoder.tasks.families import sample_tasks
from minicoder.tokenizer import Tokenizer
from minicoder.training.batches import answer_batch, answer_logprobs
from minicoder.training.loop import Plan, pick_device, train

Judge = Literal["tests", "model"]


def advantages(rewards: Float[Tensor, "P G"], eps: float = 1e-6
               ) -> Float[Tensor, "P G"]:
    """(r - mean) / std within each group; population std, which one is unverified.

    Rewards [1, 0, 0, 1] give [1, -1, -1, 1]. A group of equal rewards gives zeros, and
    so does NaN: an answer that could not be judged takes no part.
    """
    gaps = rewards - rewards.nanmean(dim=1, keepdim=True)
    spread = gaps.square().nanmean(dim=1, keepdim=True).sqrt()
    return (gaps / (spread + eps)).nan_to_num(0.0)


def k3(log_ratio: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """x - ln x - 1 with x = pi_ref / pi: an estimate of KL, never negative (eq. 4)."""
    return log_ratio.expm1() - log_ratio  # exact near 0, where exp() - 1 is rounding


def grpo_loss(
    new: Float[Tensor, "B T"], old: Float[Tensor, "B T"],
    reference: Float[Tensor, "B T"] | None, advantage: Float[Tensor, " B"],
    mask: Bool[Tensor, "B T"], clip: float = 0.2, beta: float = 0.04,
) -> Float[Tensor, ""]:
    """The clipped objective with the KL term inside, negated (DeepSeekMath eq. 3).

    `new`, `old`, `reference` are log-probabilities of the answers' tokens. Each answer
    counts the same, whatever its length. No reference, no KL.
    """
    ratio, a = (new - old).exp(), advantage[:, None]
    gain = torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)
    if reference is not None:
        gain = gain - beta * k3(reference - new)
    return -((gain * mask).sum(1) / mask.sum(1)).mean()


class Rollouts:
    """Draws prompts, samples answers, judges them: everything before the update."""

    def __init__(self, coder: MiniCoder, tokenizer: Tokenizer, sandbox: Sandbox,
                 reward_model: RewardModel | None, family: str, tasks: int,
                 prompts: int, group: int, temperature: float, seed: int) -> None:
        self.coder, self.tokenizer, self.sandbox = coder, tokenizer, sandbox
        self.reward_model, self.temperature = reward_model, temperature
        self.prompts, self.group, self.seed = prompts, group, seed
        self.pool = sample_tasks(family, tasks, "train", seed + 2)

    def __call__(self, step: int) -> tuple[list[Sample], Float[Tensor, "P G"]]:
        """Samples of step `step` and their rewards."""
        tasks = random.Random(f"{self.seed} {step}").sample(self.pool, self.prompts)
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        samples = sample_and_judge(
            self.coder, self.tokenizer, tasks, self.sandbox, self.group,
            self.temperature, generator=draw)
        if self.reward_model is None:
            values = torch.tensor(
                [float(s.right) if s.judged else math.nan for s in samples])
        else:
            rows = [[*prompt_tokens(s.prompt, self.tokenizer), *s.tokens]
                    for s in samples]
            values = score_all(self.reward_model, rows).sigmoid().cpu()
        return samples, values.view(self.prompts, self.group)


def grpo_step(coder: MiniCoder, reference: MiniCoder | None, tokenizer: Tokenizer,
              samples: Sequence[Sample], rewards: Float[Tensor, "P G"], clip: float,
              beta: float) -> tuple[Tensor | None, dict]:
    """Loss of one batch of rollouts; None when every group agrees with itself."""
    device = coder.lm_head.weight.device
    advantage = advantages(rewards)
    worth = advantage.abs() > 1e-3
    kept = worth.flatten().nonzero().squeeze(1).tolist()
    noted = {
        "reward": rewards.nanmean().item(),
        "pass": sum(s.right for s in samples) / max(1, sum(s.judged for s in samples)),
        "length": sum(len(s.tokens) for s in samples) / len(samples),
        "groups_kept": int(worth.any(1).sum()),
        "kl": 0.0, "clip_share": 0.0}
    if not kept:
        return None, noted
    tokens, targets = answer_batch(
        [(prompt_tokens(samples[i].prompt, tokenizer), samples[i].tokens)
         for i in kept], device)
    new, mask = answer_logprobs(coder, tokens, targets)
    old, before = new.detach(), None  # one update per rollout: old and new are the same
    if reference is not None:
        with torch.no_grad():
            before, _ = answer_logprobs(reference, tokens, targets)
        noted["kl"] = k3(before - old)[mask].mean().item()
    noted["clip_share"] = ((new - old).exp() - 1).abs().gt(clip)[mask].float().mean(
        ).item()
    gain = advantage.flatten()[kept].to(device)
    return grpo_loss(new, old, before, gain, mask, clip, beta), noted


def grpo(
    out: Path, model: Path, reward_model: Path | None = None, judge: Judge = "tests",
    family: str = "lists", tasks: int = 4000, steps: int = 35, prompts: int = 12,
    group: int = 12, temperature: float = 1.0, lr: float = 3e-4, warmup: int = 5,
    clip: float = 0.2, beta: float = 0.0, seed: int = 0,
) -> Path:
    """Reinforce the programs that do better than the others of their group.

    Args:
        out: folder to write the final checkpoint to.
        model: folder of the fine-tuned checkpoint.
        reward_model: folder of the reward model, needed by --judge model.
        judge: what rewards: the tests' own 0 or 1, or the reward model's probability.
        family: family of programming tasks; its training split is used.
        tasks: size of the pool that prompts are drawn from.
        steps: rounds of sampling, each with one update.
        prompts: prompts per round.
        group: answers per prompt.
        temperature: of the sampling.
        lr: peak learning rate.
        warmup: steps of linear warm-up.
        clip: epsilon of the clipped ratio.
        beta: weight of the KL term; 0 leaves the reference model away.
        seed: decides prompts and samples.
    """
    if judge == "model" and reward_model is None:
        raise UserError("--judge model needs --reward-model FOLDER.")
    at_least(1, prompts=prompts, group=group)
    at_least(prompts, tasks=tasks)
    plan = Plan(steps, lr, warmup, weight_decay=0.0, log_every=1)
    settings = dict(
        model=model, reward_model=reward_model, judge=judge, family=family, tasks=tasks,
        steps=steps, prompts=prompts, group=group, temperature=temperature, lr=lr,
        warmup=warmup, clip=clip, beta=beta)
    inputs = [model] if reward_model is None else [model, reward_model]
    with stage(out, "grpo", settings, inputs, seed) as run:
        if run.finished:
            return out
        device = pick_device()
        run.device = device.type
        tokenizer, coder = MiniCoder.with_tokenizer(model, device)
        reference = MiniCoder.from_pretrained(model, device) if beta else None
        scorer = RewardModel.load(reward_model, device) if judge == "model" else None
        with Sandbox() as sandbox:
            rollouts = Rollouts(coder, tokenizer, sandbox, scorer, family, tasks,
                                prompts, group, temperature, seed)
            metrics = train(
                coder, lambda step: grpo_step(
                    coder, reference, tokenizer, *rollouts(step), clip, beta),
                plan, run.work, "grpo")
        coder.save_pretrained(run.work, tokenizer, chat_template=CHAT_TEMPLATE)
        first, last = (mean(m["pass"] for m in part)
                       for part in (metrics[:5], metrics[-5:]))
        run.headline = (f"sampled programs that pass: {first:.0%} → {last:.0%} on "
                        "training tasks")
    return out
