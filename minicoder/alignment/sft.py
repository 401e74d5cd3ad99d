"""Supervised fine-tuning on answers only, packed (Coder-V2 §3.5.1)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from minicoder.alignment.chat import CHAT_TEMPLATE, Message, chat_tokens
from minicoder.alignment.conversations import (
    Conversation,
    generated,
    packed_batch,
    read_conversations,
)
from minicoder.errors import UserError, at_least
from minicoder.model.documents import find_documents
from minicoder.model.transformer import MiniCoder
from minicoder.stages import same_inputs, sha256, stage
from minicoder.tokenizer import Tokenizer
from minicoder.training.loop import Plan, balanced_loss, pick_device, train


def sft(
    out: Path, model: Path, conversations: Path | None = None,
    families: tuple[str, ...] = ("lists",), tasks: int = 6000, code: float = 1.0,
    math: float = 0.0, right: float = 0.5, steps: int = 250, batch: int = 16,
    row: int = 512, lr: float = 2e-3, warmup: int = 20, balance: float = 0.001,
    seed: int = 0,
) -> Path:
    """Teach the base model to answer, with programs above all.

    The programs are noisy on purpose, as scraped code is: a share `right` of them is
    correct, the others hold a plausible bug. The model learns to write programs and
    not yet to prefer those that work. Every turn of the assistant counts, nothing else
    does. In the paper: 20k conversations of code, 30k of math and some of DeepSeek-V2's
    general ones; cosine, 100 steps of warm-up, peak 5e-6, batches of 1M tokens, 1B
    tokens.

    Args:
        out: folder to write the fine-tuned checkpoint to.
        model: folder of the base checkpoint.
        conversations: file of more of them, {"messages": [{"role", "content"}]} a line.
        families: families of the programming tasks, in equal parts.
        tasks: generated conversations, most of them a task and its program.
        code: share of programming tasks in these.
        math: share of word problems; general chat gets the rest.
        right: share of the programs that are correct.
        steps: optimizer steps.
        batch: conversations per step.
        row: tokens of a row that they are packed into.
        lr: peak learning rate; then a cosine down to a tenth.
        warmup: steps of linear warm-up.
        balance: alpha of the expert balance loss.
        seed: decides tasks, bugs and their order.
    """
    at_least(1, batch=batch)
    at_least(0, tasks=tasks)
    plan = Plan(steps, lr, warmup)
    more = [] if conversations is None else read_conversations(conversations)
    at_least(batch - len(more), tasks=tasks)
    settings = dict(
        model=model, conversations=conversations, families=list(families), tasks=tasks,
        code=code, math=math, right=right, steps=steps, batch=batch, row=row, lr=lr,
        warmup=warmup, balance=balance)
    with stage(out, "sft", settings, [model], seed) as run:
        if conversations is not None:
            same_inputs(run, {str(conversations): sha256(conversations)})
        if run.finished:
            return out
        device = pick_device()
        run.device = device.type
        tokenizer, coder = MiniCoder.with_tokenizer(model, device)
        row = min(row, coder.config.max_position_embeddings)
        learnt = encoded([*more, *generated(tasks, families, right, code, math, seed)],
                         tokenizer, row)

        def step_loss(step: int) -> tuple[Tensor, dict]:
            group = random.Random(f"{seed} {step}").sample(learnt, batch)
            return packed_loss(coder, group, row, balance, tokenizer.bos, device)

        metrics = train(coder, step_loss, plan, run.work, "sft")
        coder.save_pretrained(run.work, tokenizer, chat_template=CHAT_TEMPLATE)
        run.headline = (f"loss {metrics[0]['language_loss']:.2f} → "
                        f"{metrics[-1]['language_loss']:.2f} nats per answer token")
    return out


def encoded(talks: Sequence[Sequence[Message]], tokenizer: Tokenizer, room: int
            ) -> list[Conversation]:
    """Conversations as tokens; `UserError` for one that does not fit into a row."""
    found = [chat_tokens(talk, tokenizer) for talk in talks]
    for number, (tokens, _) in enumerate(found, 1):
        if len(tokens) > room + 1:
            raise UserError(f"Conversation {number} has {len(tokens)} tokens, and a "
                            f"row holds {room + 1}: shorten it, or raise --row as far "
                            "as the model's window goes.")
    return found


def packed_loss(coder: MiniCoder, group: Sequence[Conversation], row: int,
                balance: float, bos: int, device: torch.device) -> tuple[Tensor, dict]:
    """The loss of a batch in packed rows, where no conversation sees another."""
    tokens, targets = packed_batch(group, row, device)
    documents = find_documents(tokens, bos)
    return balanced_loss(
        coder, tokens, targets, balance,
        lambda tokens, seen: coder.model.packed(tokens, documents, seen))
