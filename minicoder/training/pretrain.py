"""Pre-training: next-token prediction on packed rows, FIM already in them (§3.1)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from minicoder.config import preset
from minicoder.data.packing import Shards
from minicoder.errors import at_least
from minicoder.model.transformer import MiniCoder
from minicoder.stages import stage
from minicoder.tokenizer import Tokenizer
from minicoder.training.loop import Plan, balanced_loss, pick_device, train
from minicoder.training.recall import Answers, Middles, Recall, with_answers

HOLES = 16   # lines to fill in beside the rows of a step
REFRESH = 8  # every so many steps, needles that were learnt are asked for again
Schedule = list[tuple[Answers, set[int]]]  # batches, and the steps that have them


def needles(words: Tokenizer, rows: Shards, batch: int, plan: Plan, recall: int,
            seed: int) -> Schedule:
    """Needles in `recall` steps from twice the warm-up on, then now and then."""
    first, then = 2 * plan.warmup, 2 * plan.warmup + recall
    source = Recall(words, rows, batch, rows.sequence_length, seed)
    steps = {*range(first, then), *range(then, plan.steps, REFRESH)}
    return [(source, steps)] if recall else []


def holes(words: Tokenizer, rows: Shards, plan: Plan, recall: int, middles: int,
          seed: int) -> Schedule:
    """Lines to fill in, in `middles` steps after the needles, evenly spread."""
    source = Middles(words, rows, HOLES, seed)
    if not middles or not source.pieces:
        return []
    then = 2 * plan.warmup + recall
    steps = {then + i * (plan.steps - then) // middles for i in range(middles)}
    return [(source, steps)]


def pretrain(
    out: Path, shards: Path, tokenizer: Path, model: str = "toy", steps: int = 1600,
    batch: int = 8, lr: float = 4e-3, warmup: int = 50, balance: float = 0.001,
    recall: int = 200, middles: int = 650, seed: int = 0,
) -> Path:
    """Train a base model from random weights.

    Args:
        out: folder to write the checkpoint to.
        shards: folder of the pack stage.
        tokenizer: folder of the tokenizer stage.
        model: preset (toy, nano, small, ablation_1b, lite_16b, full_236b).
        steps: optimizer steps.
        batch: rows per step; a row is the sequence length of the shards.
        lr: peak learning rate.
        warmup: steps of linear warm-up.
        balance: alpha of the expert balance loss.
        recall: steps, from twice the warm-up on, that also teach to look back
            (recall.py); then every eighth step does, so that it is not forgotten.
        middles: how many of the later steps, evenly spread, also teach to fill in, if
            the rows have FIM.
        seed: decides the first weights and the order of the rows.
    """
    at_least(1, batch=batch)
    plan = Plan(steps, lr, warmup)
    settings = dict(shards=shards, tokenizer=tokenizer, model=model, steps=steps,
                    batch=batch, lr=lr, warmup=warmup, balance=balance,
                    recall=recall, middles=middles)
    words, rows = Tokenizer.load(tokenizer), Shards(shards)
    config = preset(model, vocab_size=words.vocab_size,
                    max_position_embeddings=rows.sequence_length)
    with stage(out, "pretrain", settings, [shards, tokenizer], seed) as run:
        if run.finished:
            return out
        device = pick_device()
        run.device = device.type
        torch.manual_seed(seed)
        coder = MiniCoder(config).to(device)

        def step_loss(step: int) -> tuple[Tensor, dict]:
            chosen = rows.batch(step, batch, seed).to(device)
            inputs, targets = chosen[:, :-1], chosen[:, 1:]
            return balanced_loss(coder, inputs, targets, balance)

        step_loss = with_answers(coder, step_loss, [
            *needles(words, rows, batch, plan, recall, seed),
            *holes(words, rows, plan, recall, middles, seed)])
        metrics = train(coder, step_loss, plan, run.work, "pretrain")
        coder.save_pretrained(run.work, words)
        tail = metrics[-10:]
        loss = sum(m["language_loss"] for m in tail) / len(tail)
        seen = steps * batch * rows.sequence_length
        run.headline = (f"loss {metrics[0]['language_loss']:.2f} → {loss:.2f} nats per "
                        f"token after {seen / 1e6:.1f} M tokens")
    return out
