"""Extending the window: other positions and a little training on long rows (§3.4).

In stages as in the paper, 4K to 32K to 128K tokens: the first call stretches positions
at once, and further than will be read (V2 sets YaRN's factor 40 for 32 times its
window), the next goes on with a factor of 1 on longer rows, with as many tokens a step.
So from 128 to 512 to 2,048, as benchmarks/context.py measures it:

    extend(first, base, rows_of_512, factor=32)
    extend(second, first, rows_of_2048, factor=1)
"""

from __future__ import annotations

from pathlib import Path

from minicoder.data.packing import Shards
from minicoder.errors import UserError, at_least
from minicoder.model.balance import Balance
from minicoder.model.rope import Way, extended
from minicoder.model.transformer import MiniCoder
from minicoder.stages import stage
from minicoder.training.answers import Recall, with_answers
from minicoder.training.ledger import Ledger
from minicoder.training.loop import Plan, pick_device, train
from minicoder.training.objective import Objective, rows_loss


def stretch(coder: MiniCoder, factor: float, mscale: float = 0.707, way: Way = "yarn"
            ) -> MiniCoder:
    """The same weights over `factor` times the window, positions stretched `way`."""
    longer = MiniCoder(extended(coder.config, factor, mscale, way)).to(
        coder.lm_head.weight.device)
    longer.load_state_dict(coder.state_dict())
    longer.known = coder.known
    return longer


def extend(
    out: Path, model: Path, shards: Path, factor: float = 4, way: Way = "yarn",
    mscale: float = 0.707, steps: int = 60, tokens: int = 2048, lr: float = 1e-3,
    warmup: int = 10, balance: float = 0.001, seed: int = 0,
) -> Path:
    """Lengthen a model's window and train it on long rows.

    Args:
        out: folder to write the checkpoint to.
        model: folder of the pre-trained checkpoint, or of an earlier extension.
        shards: folder of a pack stage with longer rows.
        factor: how many times longer the window becomes; 1 keeps window and positions.
        way: YaRN as in the paper, or to compare: linear, ntk or none.
        mscale: YaRN's m, 0.707 as in DeepSeek-V2.
        steps: optimizer steps.
        tokens: tokens per step, the same for short rows and long ones.
        lr: peak learning rate; the paper states none for this stage.
        warmup: steps of linear warm-up.
        balance: alpha of the expert balance loss.
        seed: decides the order of the rows.
    """
    plan, rows = Plan(steps, lr, warmup), Shards(shards)
    at_least(rows.sequence_length, tokens=tokens)
    batch = tokens // rows.sequence_length
    settings = dict(model=model, shards=shards, factor=factor, way=way, mscale=mscale,
                    steps=steps, tokens=tokens, lr=lr, warmup=warmup, balance=balance)
    with stage(out, "extend", settings, [model, shards], seed) as run:
        if run.finished:
            return out
        run.device = (device := pick_device()).type
        tokenizer, base = MiniCoder.with_tokenizer(model, device)
        coder = stretch(base, factor, mscale, way)
        window = coder.config.max_position_embeddings
        if rows.sequence_length > window:
            raise UserError(f"{shards} has rows of {rows.sequence_length} tokens, and "
                            f"{factor} times the model's window is {window}.")

        read = Objective(coder, Balance(balance, 0.0, 0.0, 1, 1), rows.bos,
                         tokenizer.fim_begin)
        needles = Recall(tokenizer, rows, batch, rows.sequence_length, seed)
        step_loss = with_answers(read, rows_loss(read, rows, batch, seed),
                                 [(needles, range(steps))])
        metrics = train(coder, step_loss, plan, run.work, "extend",
                        Ledger(out.name, model))
        coder.save_pretrained(run.work, tokenizer)
        before, loss = base.config.max_position_embeddings, metrics[-1]["language_loss"]
        run.headline = (f"window {before} → {window} tokens, loss {loss:.2f} nats per "
                        "token")
    return out
