"""Pre-training: next-token prediction on packed rows, FIM already in them (§3.1)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from tyro.conf import OmitArgPrefixes

from minicoder.config import preset
from minicoder.data.packing import Shards
from minicoder.errors import UserError, at_least
from minicoder.model.balance import Balance, Dropping
from minicoder.model.transformer import MiniCoder
from minicoder.parallel.economy import Precision, prepare
from minicoder.stages import stage
from minicoder.tokenizer import Tokenizer, padded
from minicoder.training.answers import Answers, Middles, Recall, with_answers
from minicoder.training.checkpoints import KEPT
from minicoder.training.ledger import Ledger
from minicoder.training.loop import Plan, pick_device, train
from minicoder.training.objective import Objective
from minicoder.training.schedule import Schedule

HOLES = 16   # lines to fill in beside the rows of a step
REFRESH = 8  # every so many steps, needles that were learnt are asked for again
Lessons = list[tuple[Answers, set[int]]]  # batches, and the steps that have them


def needles(words: Tokenizer, rows: Shards, batch: int, plan: Plan, recall: int,
            seed: int) -> Lessons:
    """Needles in `recall` steps from twice the warm-up on, then now and then."""
    if not recall:
        return []
    first, then = 2 * plan.warmup, 2 * plan.warmup + recall
    source = Recall(words, rows, batch, rows.sequence_length, seed)
    return [(source, {*range(first, then), *range(then, plan.steps, REFRESH)})]


def holes(words: Tokenizer, rows: Shards, plan: Plan, recall: int, middles: int,
          seed: int) -> Lessons:
    """Lines to fill in, in `middles` steps after the needles, evenly spread."""
    if not middles or not (source := Middles(words, rows, HOLES, seed)).pieces:
        return []
    then = 2 * plan.warmup + recall
    steps = {then + i * (plan.steps - then) // middles for i in range(middles)}
    return [(source, steps)]


@dataclass(frozen=True)
class Updates:
    """How a step changes the weights (AdamW, betas 0.9 and 0.95).

    Args:
        schedule: cosine as in Coder-V2, or the two steps down of V2 or V2-Lite.
        floor: where the cosine ends, as a share of the peak.
        weight_decay: of matrices; norms have none.
        clip: the longest gradient; longer ones are shortened.
        spike: leave out a step whose gradient is so many times as long as the median of
            the last 64; 0 leaves out none.
    """

    schedule: Schedule = "cosine"
    floor: float = 0.1
    weight_decay: float = 0.1
    clip: float = 1.0
    spike: float = 0.0


@dataclass(frozen=True)
class Routers:
    """Keeping devices and wires as busy as experts, as if there were several devices.

    DeepSeek-V2 has 0.05, 0.02, 8 devices, limit 3, capacity 1 and 0.1 spared, with
    --balance 0.003.

    Args:
        device_balance: alpha of the device balance loss.
        communication_balance: alpha of the communication balance loss.
        devices: how many the experts are dealt out to.
        device_limit: the most devices that a token should go to.
        capacity: a device's room over the average load; the weakest visits above it are
            dropped. 0 drops none.
        spared: share of the rows that keep all their visits.
    """

    device_balance: float = 0.0
    communication_balance: float = 0.0
    devices: int = 1
    device_limit: int = 1
    capacity: float = 0.0
    spared: float = 0.1


@dataclass(frozen=True)
class Machine:
    """The same training with less memory or time.

    Args:
        accumulate: parts that the rows of a step are read in; the gradient is that of
            all of them.
        precision: what matrices are multiplied in; weights and routers stay float32.
        recompute: forget activations and compute them again, for a third more time.
        compile: compile attention and feed-forward; needs a C++ compiler.
    """

    accumulate: int = 1
    precision: Precision = "float32"
    recompute: bool = False
    compile: bool = False


@dataclass(frozen=True)
class Records:
    """What is kept beside the weights.

    Args:
        keep: how many checkpoints to resume from.
        tensorboard: draw curves for TensorBoard too, if it is installed.
    """

    keep: int = KEPT
    tensorboard: bool = False


UPDATES, ROUTERS, MACHINE, RECORDS = Updates(), Routers(), Machine(), Records()


def first_model(start: Path | None, model: str | None, words: Tokenizer,
                window: int) -> MiniCoder:
    """Random weights of a preset, or those of the checkpoint to start from.

    Raises `UserError` when the checkpoint's tokenizer is another one, or its window
    shorter than the rows.
    """
    if start is None:
        return MiniCoder(preset(model or "toy", vocab_size=padded(words.vocab_size),
                                max_position_embeddings=window))
    if model is not None:
        raise UserError(f"--model {model}: with --start it is {start} that decides the "
                        "model; leave one of them away.")
    old, coder = MiniCoder.with_tokenizer(start)
    if any(getattr(old, part) != getattr(words, part)
           for part in ("tokens", "merges", "rules", "specials")):
        raise UserError(f"{start} was trained with another tokenizer than the rows: "
                        "pack them with the tokenizer that lies in it.")
    if window > coder.config.max_position_embeddings:
        raise UserError(f"The rows have {window} tokens, and the window of {start} is "
                        f"{coder.config.max_position_embeddings}: pack shorter rows, "
                        "or extend it first.")
    return coder


def make_objective(coder: MiniCoder, rows: Shards, words: Tokenizer, expert: float,
                   routers: Routers, machine: Machine, documents: bool) -> Objective:
    """The loss, with all that was asked for."""
    r = routers
    balance = Balance(expert, r.device_balance, r.communication_balance, r.devices,
                      r.device_limit)
    dropping = Dropping(r.devices, r.capacity, r.spared) if r.capacity else None
    return Objective(coder, balance, rows.bos, words.fim_begin, machine.accumulate,
                     documents, dropping)


def check(batch: int, machine: Machine) -> None:
    """Raise `UserError` for a step that cannot be read in equal parts."""
    at_least(1, batch=batch, accumulate=machine.accumulate)
    if batch % machine.accumulate:
        raise UserError(f"--accumulate {machine.accumulate} must divide --batch "
                        f"{batch}.")


def pretrain(
    out: Path, shards: Path, tokenizer: Path, model: str | None = None,
    start: Path | None = None, steps: int = 1600, batch: int = 8, lr: float = 4e-3,
    warmup: int = 50, balance: float = 0.001, recall: int = 200, middles: int = 650,
    documents: bool = False, seed: int = 0,
    updates: OmitArgPrefixes[Updates] = UPDATES,
    routers: OmitArgPrefixes[Routers] = ROUTERS,
    machine: OmitArgPrefixes[Machine] = MACHINE,
    records: OmitArgPrefixes[Records] = RECORDS,
) -> Path:
    """Train a base model from random weights, or go on from a checkpoint.

    Phase A, a general mix, then phase B, another one, from A's weights:

      pretrain --out a --shards pack_a --tokenizer tokenizer

      pretrain --out b --shards pack_b --tokenizer tokenizer --start a

    Writes the checkpoint, metrics.jsonl, and ledger.json: the tokens that the weights
    have read, by phase and source. Killed at any moment, the same command goes on.

    Args:
        out: folder to write the checkpoint to.
        shards: folder of the pack stage.
        tokenizer: folder of the tokenizer stage.
        model: preset (toy, nano, small, ablation_1b, lite_16b, full_236b); toy where
            neither it nor a start is given.
        start: folder of a checkpoint to go on from, with a fresh optimizer (whether
            the paper's kept its own is not known).
        steps: optimizer steps.
        batch: rows per step; a row is the sequence length of the shards.
        lr: peak learning rate.
        warmup: steps of linear warm-up.
        balance: alpha of the expert balance loss.
        recall: steps, from twice the warm-up on, that also teach to look back
            (answers.py); then every eighth step does, so that it is not forgotten.
        middles: how many of the later steps, evenly spread, also teach to fill in, if
            the rows have FIM.
        documents: whether no token attends beyond its own document in a row; which the
            paper did is not known.
        seed: decides the first weights and the order of the rows.
    """
    plan = Plan(steps, lr, warmup, **asdict(updates), **asdict(records))
    check(batch, machine)
    settings = dict(
        shards=shards, tokenizer=tokenizer, start=start, steps=steps,
        model=model if model or start else "toy", batch=batch, lr=lr, warmup=warmup,
        balance=balance, recall=recall, middles=middles, documents=documents,
        **asdict(updates), **asdict(routers), **asdict(machine), **asdict(records))
    words, rows = Tokenizer.load(tokenizer), Shards(shards)
    inputs = [path for path in (shards, tokenizer, start) if path]
    with stage(out, "pretrain", settings, inputs, seed) as run:
        if run.finished:
            return out
        run.device = (device := pick_device()).type
        torch.manual_seed(seed)
        coder = first_model(start, model, words, rows.sequence_length).to(device)
        prepare(coder, machine.precision, machine.recompute, machine.compile)
        read = make_objective(coder, rows, words, balance, routers, machine, documents)

        def rows_loss(step: int) -> tuple[Tensor, dict]:
            loss, noted = read(rows.batch(step, batch, seed).to(device))
            return loss, noted | {"sources": rows.counts(step, batch, seed)}

        lessons = [*needles(words, rows, batch, plan, recall, seed),
                   *holes(words, rows, plan, recall, middles, seed)]
        ledger = Ledger(out.name, start)
        metrics = train(coder, with_answers(coder, rows_loss, lessons), plan, run.work,
                        "pretrain", ledger)
        coder.save_pretrained(run.work, words)
        run.headline = headline(metrics, ledger)
    return out


def headline(metrics: list[dict], ledger: Ledger) -> str:
    """From which loss to which, after how many tokens."""
    tail = metrics[-10:]
    loss = sum(m["language_loss"] for m in tail) / len(tail)
    now = ledger.phases[-1]
    read = sum(now["tokens"].values())
    said = (f"loss {metrics[0]['language_loss']:.2f} → {loss:.2f} nats per token after "
            f"{read / 1e6:.1f} M tokens")
    if len(ledger.phases) > 1:
        said += f" on top of {(ledger.total - read) / 1e6:.1f} M"
    return said + (f"; {now['skipped']} steps left out" if now["skipped"] else "")
