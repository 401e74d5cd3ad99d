"""Group Relative Policy Optimization: the group is the baseline (DeepSeekMath §4.1)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Literal

from minicoder.alignment.chat import CHAT_TEMPLATE
from minicoder.alignment.feedback import read_samples
from minicoder.alignment.iterative import Phases
from minicoder.alignment.objectives import (
    RECIPES,
    Objective,
    advantages,
    grpo_loss,
    k3,
)
from minicoder.alignment.reward_model import RewardModel
from minicoder.alignment.rewards import Rewards
from minicoder.alignment.rollouts import Rollouts, Sampling
from minicoder.alignment.updates import Updates
from minicoder.errors import UserError, at_least
from minicoder.execution.sandbox import Sandbox
from minicoder.model.transformer import MiniCoder
from minicoder.stages import stage
from minicoder.tasks.families import sample_items
from minicoder.training.loop import Plan, pick_device, train

__all__ = ["advantages", "grpo", "grpo_loss", "k3"]  # the formulas: objectives.py

Recipe = Literal["deepseek-math", "deepseek-v2", "dr-grpo", "dapo"]
JUDGES = {"tests": (1.0, 0.0, 0.0), "model": (0.0, 1.0, 0.0)}


def objective_of(recipe: Recipe, clip: float, clip_high: float | None, beta: float,
                 supervision: str) -> Objective:
    """A recipe with these numbers; `UserError` where they do not fit together."""
    published = RECIPES[recipe]
    if clip_high is None:
        clip_high = max(clip, published.clip_high)
    how = replace(published, clip=clip, clip_high=clip_high, beta=beta)
    if supervision == "process" and (how.level == "sequence" or how.overlong):
        raise UserError(f"--supervision process rewards lines, and --recipe {recipe} "
                        "whole answers; take deepseek-math or dr-grpo.")
    if not (0 < clip < 1 and clip_high > 0 and beta >= 0):
        raise UserError(f"--clip {clip}, --clip-high {clip_high} and --beta {beta}: "
                        "allowed are a number between 0 and 1, one above 0, and 0 or "
                        "more.")
    return how


def check_judge(judge: str, reward_model: Path | None, refresh: int, beta: float,
                supervision: str, weights: tuple[float, ...]) -> None:
    """Raise `UserError` for a judge, or something to refresh, that is not there, and
    for one that would decide nothing."""
    if supervision == "process" and judge != "tests":
        raise UserError(f"--supervision process rewards lines by the tests alone: it "
                        f"does not go with --judge {judge}.")
    if judge == "mixed" and not any(weights):
        raise UserError("--weights 0 0 0 rewards nothing: one must be another number.")
    if judge != "tests" and reward_model is None:
        raise UserError(f"--judge {judge} needs --reward-model FOLDER.")
    if refresh and judge == "tests" and not beta:
        raise UserError("--refresh has nothing to refresh: give --beta, or a judge "
                        "with a --reward-model.")


def loaded(work: Path, model: Path, reward_model: Path | None, replay: Path | None,
           beta: float, seed: int) -> Phases:
    """The policy and what judges it; a reference only where KL counts."""
    device = pick_device()
    tokenizer, coder = MiniCoder.with_tokenizer(model, device)
    reference = MiniCoder.from_pretrained(model, device) if beta else None
    judge = RewardModel.load(reward_model, device) if reward_model else None
    return Phases(work / "phases", coder, tokenizer, reference, judge,
                  read_samples(replay) if replay else [], seed)


def grpo(
    out: Path, model: Path, reward_model: Path | None = None,
    judge: Literal["tests", "model", "mixed"] = "tests", family: str = "lists",
    tasks: int = 4000, steps: int = 35, prompts: int = 12, group: int = 12,
    temperature: float = 1.0, new_tokens: int = 64, lr: float = 3e-4, warmup: int = 5,
    recipe: Recipe = "deepseek-math", clip: float = 0.2, clip_high: float | None = None,
    beta: float = 0.0, supervision: Literal["outcome", "process"] = "outcome",
    updates: int = 1, minibatches: int = 1, tries: int = 4,
    weights: tuple[float, float, float] = (1.0, 0.5, 0.1), refresh: int = 0,
    replay: Path | None = None, allow_weak_sandbox: bool = False, seed: int = 0,
) -> Path:
    """Reinforce the programs that do better than the others of their group.

    Args:
        out: folder to write the final checkpoint to.
        model: folder of the fine-tuned checkpoint.
        reward_model: folder of the reward model, needed by --judge model and mixed.
        judge: what rewards: the tests' own 0 or 1, the reward model's probability, or
            both and style, with --weights.
        family: family of programming tasks; its training split is used.
        tasks: size of the pool that prompts are drawn from.
        steps: rounds of sampling.
        prompts: prompts per round.
        group: answers per prompt.
        temperature: of the sampling.
        new_tokens: the most tokens of an answer.
        lr: peak learning rate; 1e-6 for a model of 7B (DeepSeekMath).
        warmup: updates of linear warm-up.
        recipe: whose objective: DeepSeekMath eq. 3; DeepSeek-V2 eq. 32, of whole
            answers; Dr. GRPO, without lengths and spreads; DAPO, all its parts.
        clip: the ratio is clipped below 1 - clip ...
        clip_high: ... and above 1 + clip_high; as clip, or DAPO's 0.28.
        beta: weight of the KL term (DeepSeekMath: 0.04); 0 needs no reference model.
        supervision: one reward for an answer, or one for each line of it.
        updates: optimizer steps per round; from the second one on clipping can act.
        minibatches: parts that a round is dealt into, one for each update in turn.
        tries: how often DAPO may sample until all groups have a signal.
        weights: of tests, reward model and style in --judge mixed.
        refresh: rounds until the reference becomes the policy and the reward model
            learns from the new samples; 0 for never.
        replay: folder of the feedback stage, old data for that learning.
        allow_weak_sandbox: run programs even where they cannot be locked in.
        seed: decides prompts and samples.
    """
    settings = {k: v for k, v in locals().items()
                if k not in ("out", "allow_weak_sandbox", "seed")}
    how = objective_of(recipe, clip, clip_high, beta, supervision)
    check_judge(judge, reward_model, refresh, beta, supervision, weights)
    at_least(1, steps=steps, prompts=prompts, group=group, new_tokens=new_tokens,
             updates=updates, minibatches=minibatches, tries=tries)
    at_least(prompts, tasks=tasks)
    at_least(0, refresh=refresh)
    plan = Plan(steps * updates, lr, warmup, weight_decay=0.0, log_every=1)
    inputs = [path for path in (model, reward_model, replay) if path is not None]
    with stage(out, "grpo", settings, inputs, seed) as run:
        if run.finished:
            return out
        phases = loaded(run.work, model, None if judge == "tests" else reward_model,
                        replay, beta, seed)
        run.device = phases.coder.lm_head.weight.device.type
        with Sandbox(allow_weak=allow_weak_sandbox) as sandbox:
            rounds = Updates(Rollouts(
                phases.coder, phases.tokenizer, sandbox,
                Rewards(phases.tokenizer, JUDGES.get(judge, weights), phases.judge),
                sample_items(family, tasks, "train", seed + 2),
                Sampling(prompts, group, temperature, new_tokens, tries, supervision,
                         seed), how), phases, updates, minibatches, refresh)
            passed = [m["pass"] for m in train(
                phases.coder, rounds, plan, run.work, "grpo", also={"round": rounds})]
        phases.coder.save_pretrained(run.work, phases.tokenizer, CHAT_TEMPLATE)
        run.headline = (f"sampled programs that pass: {mean(passed[:5]):.0%} → "
                        f"{mean(passed[-5:]):.0%} on training tasks")
    return out
