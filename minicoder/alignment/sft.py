"""Supervised fine-tuning on answers only (Coder-V2 §3.5.1)."""

from __future__ import annotations

import random
from pathlib import Path

from torch import Tensor

from minicoder.alignment.chat import CHAT_TEMPLATE, answer_tokens, prompt_tokens
from minicoder.errors import at_least
from minicoder.model.transformer import MiniCoder
from minicoder.stages import stage
from minicoder.tasks.families import noisy_solution, sample_tasks
from minicoder.training.batches import answer_batch
from minicoder.training.loop import Plan, balanced_loss, pick_device, train


def sft(
    out: Path, model: Path, family: str = "lists", tasks: int = 6000,
    right: float = 0.5, steps: int = 250, batch: int = 16, lr: float = 2e-3,
    warmup: int = 20, balance: float = 0.001, seed: int = 0,
) -> Path:
    """Teach the base model to answer a request with a program.

    The examples are noisy on purpose, as scraped code is: a share `right` of them is
    correct, the others hold a plausible bug. The model learns to write programs and
    not yet to prefer those that work.

    Args:
        out: folder to write the fine-tuned checkpoint to.
        model: folder of the base checkpoint.
        family: family of programming tasks.
        tasks: training tasks, each with one example solution.
        right: share of the example solutions that are correct.
        steps: optimizer steps.
        batch: examples per step.
        lr: peak learning rate.
        warmup: steps of linear warm-up.
        balance: alpha of the expert balance loss.
        seed: decides tasks, bugs and their order.
    """
    at_least(1, batch=batch)
    at_least(batch, tasks=tasks)
    plan = Plan(steps, lr, warmup)
    settings = dict(model=model, family=family, tasks=tasks, right=right, steps=steps,
                    batch=batch, lr=lr, warmup=warmup, balance=balance)
    with stage(out, "sft", settings, [model], seed) as run:
        if run.finished:
            return out
        device = pick_device()
        run.device = device.type
        tokenizer, coder = MiniCoder.with_tokenizer(model, device)
        draw = random.Random(seed)
        pairs = [
            (prompt_tokens(t.prompt, tokenizer),
             answer_tokens(noisy_solution(t, draw, right).strip(), tokenizer))
            for t in sample_tasks(family, tasks, "train", seed)]

        def step_loss(step: int) -> tuple[Tensor, dict]:
            group = random.Random(f"{seed} {step}").sample(pairs, batch)
            tokens, targets = answer_batch(group, device)
            return balanced_loss(coder, tokens, targets, balance)

        metrics = train(coder, step_loss, plan, run.work, "sft")
        coder.save_pretrained(run.work, tokenizer, chat_template=CHAT_TEMPLATE)
        run.headline = (f"loss {metrics[0]['language_loss']:.2f} → "
                        f"{metrics[-1]['language_loss']:.2f} nats per answer token")
    return out
