"""Conversations to fine-tune on: from a file, or generated, and packed without leaks.

Letters: B rows, T tokens.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from minicoder.alignment.chat import ROLES, Message
from minicoder.errors import UserError, at_least
from minicoder.tasks.families import noisy_solution, sample_items, sample_tasks
from minicoder.training.loop import IGNORE

Conversation = tuple[list[int], list[bool]]     # tokens, and which are to be learnt


def read_conversations(path: Path) -> list[list[Message]]:
    """Conversations, one {"messages": [{"role", "content"}, ...]} a line.

    Raises `UserError` that names file, line and field of what is no conversation.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(_messages(json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}, line {number}: {error}.") from None
    if not found:
        raise UserError(f"{path} holds no conversation.")
    return found


def _messages(record: object) -> list[Message]:
    """The messages of one line; ValueError that says what is wrong with them."""
    if not isinstance(record, dict) or not isinstance(record.get("messages"), list):
        raise ValueError("expected an object with a list in its field 'messages'")
    for place, message in enumerate(record["messages"]):
        if not isinstance(message, dict):
            raise ValueError(f"messages[{place}] must be an object, found "
                             f"{type(message).__name__}")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise ValueError(f"messages[{place}].role is {role!r}; choose from "
                             f"{', '.join(ROLES)}")
        if not isinstance(content, str):
            raise ValueError(f"messages[{place}].content must be text, found "
                             f"{type(content).__name__}")
    if not any(m["role"] == "assistant" for m in record["messages"]):
        raise ValueError("no message has the role assistant, so there is nothing to "
                         "learn")
    return [{"role": m["role"], "content": m["content"]} for m in record["messages"]]


WORDS = ("river", "lamp", "cloud", "seven", "apple", "stone", "window", "green",
         "letter", "music", "bridge", "winter", "paper", "orange", "tiger", "garden")


def small_talk(draw: random.Random) -> list[Message]:
    """A few turns of general chat; a system message may ask for capital letters."""
    (a, b), n = draw.sample(WORDS, 2), draw.randint(2, 4)
    talk = draw.sample((
        ("Hello!", "Hello! What can I do for you?"), ("Thank you.", "You are welcome."),
        (f"Spell the word {a}.", "-".join(a)),
        (f"Say {b} {n} times.", " ".join([b] * n)),
        (f"Which comes first in a dictionary, {a} or {b}?", min(a, b)),
        (f"How many letters has {b}?", str(len(b))),
        (f"What is the last letter of {a}?", a[-1])), draw.randint(1, 3))
    loud = draw.random() < 0.25
    messages = [{"role": "system", "content": "Answer in capital letters."}] * loud
    for question, answer in talk:
        messages += [{"role": "user", "content": question}, {
            "role": "assistant", "content": answer.upper() if loud else answer}]
    return messages


def generated(
    count: int, families: Sequence[str], right: float, code: float, math: float,
    seed: int,
) -> list[list[Message]]:
    """`count` conversations: shares of programming tasks and word problems, then chat.

    Of the programs a share `right` is correct, the others hold a plausible bug. Raises
    `UserError` for shares that are none.
    """
    at_least(1, families=len(families))
    if not (0 <= code <= 1 and 0 <= math <= 1 and code + math <= 1 + 1e-9
            and 0 <= right <= 1):
        raise UserError(f"--code {code}, --math {math} and --right {right} must be "
                        "shares of 1; general chat gets what code and math leave.")
    draw = random.Random(seed)
    programs, problems = round(count * code), round(count * math)
    each = [programs // len(families) + (i < programs % len(families))
            for i in range(len(families))]
    asked = [(t.question, noisy_solution(t, draw, right).strip())
             for family, n in zip(families, each, strict=True)
             for t in sample_tasks(family, n, "train", seed)]
    if problems:
        asked += [(t.question, t.reference)
                  for t in sample_items("words", problems, "train", seed)]
    return [[{"role": "user", "content": question},
             {"role": "assistant", "content": answer}] for question, answer in asked
            ] + [small_talk(draw) for _ in range(count - len(asked))]


def packed_batch(group: Sequence[Conversation], room: int, device: torch.device
                 ) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Rows of whole conversations, and targets that are `IGNORE` but for the answers.

    First fit, the longest first; none may be longer than `room` + 1. A row's end is
    padded with zeros, which count as more of its last conversation and come too late to
    be seen by it.
    """
    rows: list[tuple[list[int], list[int]]] = []
    for ids, learnt in sorted(group, key=lambda pair: -len(pair[0])):
        tokens, targets = next(
            (r for r in rows if len(r[0]) + len(ids) - 1 <= room), ([], []))
        if not tokens:
            rows.append((tokens, targets))
        tokens += ids[:-1]
        targets += [i if known else IGNORE
                    for i, known in zip(ids[1:], learnt[1:], strict=True)]
    length = max(len(tokens) for tokens, _ in rows)
    padded = [[part + [fill] * (length - len(part)) for part in parts]
              for parts, fill in zip(zip(*rows, strict=True), (0, IGNORE), strict=True)]
    return torch.tensor(padded[0], device=device), torch.tensor(
        padded[1], device=device)
