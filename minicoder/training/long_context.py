"""Extending the window with YaRN and a little training on long rows (§3.4)."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from minicoder.config import extended
from minicoder.data.packing import Shards
from minicoder.errors import UserError, at_least
from minicoder.model.transformer import MiniCoder
from minicoder.stages import stage
from minicoder.training.loop import Plan, balanced_loss, pick_device, train
from minicoder.training.recall import Recall, with_answers


def stretch(coder: MiniCoder, factor: float, mscale: float) -> MiniCoder:
    """The same weights, with YaRN over `factor` times the window."""
    longer = MiniCoder(extended(coder.config, factor, mscale)).to(
        coder.lm_head.weight.device)
    longer.load_state_dict(coder.state_dict())
    return longer


def extend(
    out: Path, model: Path, shards: Path, factor: float = 4, mscale: float = 0.707,
    steps: int = 60, batch: int = 1, lr: float = 1e-3, warmup: int = 10,
    balance: float = 0.001, seed: int = 0,
) -> Path:
    """Lengthen a base model's window by YaRN and train it on long rows.

    Args:
        out: folder to write the checkpoint to.
        model: folder of the pre-trained checkpoint.
        shards: folder of a pack stage with rows of the new length.
        factor: how many times longer the window becomes.
        mscale: YaRN's m, 0.707 as in DeepSeek-V2.
        steps: optimizer steps.
        batch: rows per step.
        lr: peak learning rate; the paper states none for this stage.
        warmup: steps of linear warm-up.
        balance: alpha of the expert balance loss.
        seed: decides the order of the rows.
    """
    at_least(1, batch=batch)
    plan = Plan(steps, lr, warmup)
    settings = dict(model=model, shards=shards, factor=factor, mscale=mscale,
                    steps=steps, batch=batch, lr=lr, warmup=warmup, balance=balance)
    rows = Shards(shards)
    with stage(out, "extend", settings, [model, shards], seed) as run:
        if run.finished:
            return out
        device = pick_device()
        run.device = device.type
        tokenizer, base = MiniCoder.with_tokenizer(model, device)
        coder = stretch(base, factor, mscale)
        window = coder.config.max_position_embeddings
        if rows.sequence_length > window:
            raise UserError(f"{shards} has rows of {rows.sequence_length} tokens, and "
                            f"{factor} times the model's window is {window}.")

        def step_loss(step: int) -> tuple[Tensor, dict]:
            chosen = rows.batch(step, batch, seed).to(device)
            return balanced_loss(coder, chosen[:, :-1], chosen[:, 1:], balance)

        needles = Recall(tokenizer, rows, batch, rows.sequence_length, seed)
        step_loss = with_answers(coder, step_loss, [(needles, range(steps))])
        metrics = train(coder, step_loss, plan, run.work, "extend")
        coder.save_pretrained(run.work, tokenizer)
        run.headline = (f"window {window // factor:.0f} → {window} tokens, loss "
                        f"{metrics[-1]['language_loss']:.2f} nats per token")
    return out
