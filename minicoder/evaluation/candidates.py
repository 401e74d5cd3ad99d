"""Checkpoints, ours or released ones, asked and judged batch by batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import torch

from minicoder.config import ModelConfig
from minicoder.errors import UserError
from minicoder.evaluation.choice import likeliest, option_log_probs
from minicoder.evaluation.suite import Ask, Format, ask, is_chat
from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Result
from minicoder.model.generate import generate, stop_at
from minicoder.model.transformer import MiniCoder
from minicoder.progress import progress
from minicoder.stages import sha256, sync
from minicoder.tasks.choice import LETTERS, Choice
from minicoder.tasks.item import Item
from minicoder.tokenizer import Tokenizer

RANKED = ("probability", "perplexity")


class Log:
    """The judged samples on disk, a batch at a time; an interrupted batch is undone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        data = path.read_bytes() if path.exists() else b""
        self.left = data.split(b"\n")[:-1]      # what stands behind is half a line
        self.size = 0

    def take(self, count: int) -> list[dict] | None:
        """The next `count` samples; None, and an end behind the last, if there are not.
        """
        if len(self.left) >= count:
            lines, self.left = self.left[:count], self.left[count:]
            self.size += sum(len(line) + 1 for line in lines)
            return [json.loads(line) for line in lines]
        self.left = []
        with self.path.open("ab") as file:
            file.truncate(self.size)
        return None

    def add(self, samples: Sequence[dict]) -> None:
        """Append a batch, and have it on the disk."""
        data = b"".join(json.dumps(s).encode() + b"\n" for s in samples)
        with self.path.open("ab") as file:
            file.write(data)
        sync(self.path)
        self.size += len(data)


@dataclass(frozen=True)
class Plan:
    """How every model is asked; `draws` are (name, temperature, samples)."""

    draws: tuple[tuple[str, float, int], ...]
    new_tokens: int
    batch: int
    seed: int


class Candidate:
    """One checkpoint; its weights are read when the first question is asked."""

    def __init__(self, name: str, folder: Path, format: Format, reasoning: bool,
                 device: torch.device) -> None:
        self.name, self.device, self.reasoning = name, device, reasoning
        self.tokenizer = Tokenizer.load(folder)
        self.window = ModelConfig.load(folder).max_position_embeddings
        self.chat = is_chat(folder) if format == "auto" else format == "chat"
        self.model = cache(lambda: MiniCoder.with_tokenizer(folder, device)[1])

    def ask(self, item: Item) -> Ask:
        """The item in this checkpoint's format."""
        return ask(item, self.tokenizer, self.chat, self.reasoning)

    def texts(self, asks: Sequence[Ask], plan: Plan, draw: tuple[str, float, int],
              generator: torch.Generator) -> list[list[str] | None]:
        """`samples` texts for each; None where the prompt leaves the window no room."""
        _, temperature, samples = draw
        wanted = asks[0].most or plan.new_tokens
        room = self.window - min(wanted, self.window // 4)
        fits = [one.tokens for one in asks if len(one.tokens) <= room]
        if not fits:
            return [None] * len(asks)
        new = min(wanted, self.window - max(map(len, fits)))
        eos = self.tokenizer.eos
        # an answer is cut at its own stops; a batch is over at those that all share
        stops = [stop for stop in asks[0].stops if all(stop in a.stops for a in asks)]
        answers = generate(
            self.model(), fits, new, eos, samples, temperature, generator=generator,
            stop=stop_at(self.tokenizer, stops) if stops else None)
        said = iter([self.tokenizer.decode(t for t in each if t != eos)
                     for each in answers])
        return [list(islice(said, samples)) if len(one.tokens) <= room else None
                for one in asks]

    def rank(self, item: Choice) -> dict[str, str]:
        """The letter of the likeliest option, by each measure; "" without room."""
        try:
            logs = option_log_probs(self.model(), self.tokenizer,
                                    f"Question: {item.stem}\nAnswer:",
                                    [f" {option}" for option in item.options])
        except UserError:
            return dict.fromkeys(RANKED, "")
        return {by: LETTERS[likeliest(logs, by)] for by in RANKED}


def answer(candidate: Candidate, asks: Sequence[Ask], plan: Plan,
           draw: tuple[str, float, int], first: int, sandbox: Sandbox) -> list[dict]:
    """One batch, generated and judged. Its number decides what is drawn, so that a run
    that was interrupted goes on to the same samples.
    """
    name, _, samples = draw
    generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + first)
    texts = candidate.texts(asks, plan, draw, generator)
    flat = [(one, None if found is None else one.answer(found[i]))
            for one, found in zip(asks, texts, strict=True) for i in range(samples)]

    def grade(pair: tuple[Ask, str | None]) -> Result:
        one, said = pair
        if said is None:
            return Result("refused", f"the prompt's {len(one.tokens)} tokens leave the "
                          f"window of {candidate.window} no room", total=1)
        return one.grade(said, sandbox)

    with ThreadPoolExecutor(sandbox.workers, "grade") as threads:
        results = list(threads.map(grade, flat))
    return [{"model": candidate.name, "task_id": one.item.task_id, "draw": name,
             "answer": said or "", "verdict": result.verdict, "message": result.message}
            for (one, said), result in zip(flat, results, strict=True)]


def ranked(candidate: Candidate, items: Sequence[Choice]) -> list[dict]:
    """One batch of multiple choice, by likelihood."""
    return [{"model": candidate.name, "task_id": item.task_id, "draw": by,
             "answer": letter, "verdict": "pass" if letter == item.letter else "fail",
             "message": ""}
            for item in items for by, letter in candidate.rank(item).items()]


def examine(candidate: Candidate, kind: str, items: Sequence[Item], plan: Plan,
            log: Log, sandbox: Sandbox) -> Iterator[list[dict]]:
    """All batches of a kind of tasks, from the log or anew."""
    asks = [candidate.ask(item) for item in items]
    places = range(0, len(items), plan.batch)
    for draw in plan.draws:
        for first in progress(places, f"{candidate.name} {kind} {draw[0]}", "batch"):
            part = asks[first:first + plan.batch]
            if (known := log.take(len(part) * draw[2])) is None:
                known = answer(candidate, part, plan, draw, first, sandbox)
                log.add(known)
            yield known
    if all(isinstance(item, Choice) for item in items):
        for first in progress(places, f"{candidate.name} {kind} ranked", "batch"):
            part = items[first:first + plan.batch]
            if (known := log.take(len(part) * len(RANKED))) is None:
                known = ranked(candidate, part)
                log.add(known)
            yield known


def fingerprint(folder: Path) -> str:
    """SHA-256 over the configuration, tokenizer and weights of a checkpoint."""
    files = sorted(path for path in folder.glob("*") if path.suffix == ".safetensors"
                   or path.name in ("config.json", "tokenizer.json"))
    if not files:
        raise UserError(f"{folder} holds no checkpoint: config.json, tokenizer.json "
                        "and safetensors are expected.")
    lines = "".join(f"{sha256(path)}  {path.name}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()
