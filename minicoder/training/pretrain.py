"""Pre-training: next-token prediction on packed rows, FIM already in them (§3.1)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn
from tyro.conf import OmitArgPrefixes

from minicoder.config import ModelConfig, preset
from minicoder.data.packing import Shards
from minicoder.errors import UserError
from minicoder.model.balance import Balance, Dropping
from minicoder.model.transformer import MiniCoder
from minicoder.parallel.economy import prepare
from minicoder.parallel.export import export
from minicoder.parallel.layout import Layout, Team, gather_team
from minicoder.parallel.pipeline import Pipeline
from minicoder.parallel.spread import spread
from minicoder.parallel.together import team_stage
from minicoder.tokenizer import Tokenizer, padded
from minicoder.training.answers import Answers, Middles, Recall, with_answers
from minicoder.training.ledger import Ledger
from minicoder.training.loop import Plan, pick_device, train
from minicoder.training.objective import Objective, rows_loss
from minicoder.training.options import (
    LAYOUT,
    MACHINE,
    RECORDS,
    ROUTERS,
    UPDATES,
    Machine,
    Records,
    Routers,
    Updates,
    check,
)

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


def first_config(start: Path | None, model: str | None, words: Tokenizer,
                 window: int) -> ModelConfig:
    """The shape of a preset for this vocabulary and window, or of a checkpoint.

    Raises `UserError` when the checkpoint's tokenizer is another one, or its window
    shorter than the rows.
    """
    if start is None:
        return preset(model or "toy", vocab_size=padded(words.vocab_size),
                      max_position_embeddings=window)
    if model is not None:
        raise UserError(f"--model {model}: with --start it is {start} that decides the "
                        "model; leave one of them away.")
    old, config = Tokenizer.load(start), ModelConfig.load(start)
    if any(getattr(old, part) != getattr(words, part)
           for part in ("tokens", "merges", "rules", "specials")):
        raise UserError(f"{start} was trained with another tokenizer than the rows: "
                        "pack them with the tokenizer that lies in it.")
    if window > config.max_position_embeddings:
        raise UserError(f"The rows have {window} tokens, and the window of {start} is "
                        f"{config.max_position_embeddings}: pack shorter rows, "
                        "or extend it first.")
    return config


def first_model(config: ModelConfig, start: Path | None, machine: Machine, team: Team
                ) -> tuple[MiniCoder, Pipeline | None]:
    """Random weights, or those of the checkpoint; of a team's, what this process holds
    and what runs it with the other stages."""
    economy = machine.precision, machine.recompute, machine.compile
    if team.dense is not None:
        return spread(config, start, team, machine.accumulate, *economy)
    coder = MiniCoder.with_tokenizer(start)[1] if start else MiniCoder(config)
    prepare(coder.to(team.device), *economy)
    return coder, None


def make_objective(coder: MiniCoder, rows: Shards, words: Tokenizer, expert: float,
                   routers: Routers, machine: Machine, documents: bool, team: Team,
                   pipeline: Pipeline | None) -> Objective:
    """The loss, with all that was asked for."""
    r = routers
    balance = Balance(expert, r.device_balance, r.communication_balance, r.devices,
                      r.device_limit)
    dropping = Dropping(r.devices, r.capacity, r.spared) if r.capacity else None
    return Objective(coder, balance, rows.bos, words.fim_begin, machine.accumulate,
                     documents, dropping, team, pipeline)


def pretrain(
    out: Path, shards: Path, tokenizer: Path, model: str | None = None,
    start: Path | None = None, steps: int = 1600, batch: int = 8, lr: float = 4e-3,
    warmup: int = 50, balance: float = 0.001, recall: int = 200, middles: int = 650,
    documents: bool = False, seed: int = 0,
    updates: OmitArgPrefixes[Updates] = UPDATES,
    routers: OmitArgPrefixes[Routers] = ROUTERS,
    machine: OmitArgPrefixes[Machine] = MACHINE,
    records: OmitArgPrefixes[Records] = RECORDS,
    layout: OmitArgPrefixes[Layout] = LAYOUT,
) -> Path:
    """Train a base model from random weights, or go on from a checkpoint.

    Phase A, a general mix, then phase B, another one, from A's weights:

      pretrain --out a --shards pack_a --tokenizer tokenizer

      pretrain --out b --shards pack_b --tokenizer tokenizer --start a

    On many processes or GPUs, each weight and each step shared among them (without the
    lone -- torchrun takes --start for its own --start-method):

      torchrun --nproc-per-node 4 -m -- minicoder pretrain --shard 2 --tensor 2 ...

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
    with gather_team(layout, pick_device()) as team, team_stage(
            team, out, "pretrain", settings, inputs, seed) as run:
        if run.finished:
            return out
        run.device = team.described()
        torch.manual_seed(seed)
        config = first_config(start, model, words, rows.sequence_length)
        coder, pipeline = first_model(config, start, machine, team)
        read = make_objective(coder, rows, words, balance, routers, machine, documents,
                              team, pipeline)
        lessons = [*needles(words, rows, batch, plan, recall, seed),
                   *holes(words, rows, plan, recall, middles, seed)]
        ledger = Ledger(out.name, start)
        loss = with_answers(read, rows_loss(read, rows, batch, seed), lessons)
        metrics = train(coder, loss, plan, run.work, "pretrain", ledger, team=team)
        save(coder, run.work, words, team)
        if team.main:
            run.headline = headline(metrics, ledger)
    return out


def save(coder: nn.Module, folder: Path, words: Tokenizer, team: Team) -> None:
    """Write the released layout; a team does it without one who holds the whole."""
    if team.dense is None:
        coder.save_pretrained(folder, words)
    else:
        export(folder, coder, team, words)


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
