"""Compiler feedback: sample programs, run them, keep program and verdict (§3.5.2)."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from minicoder.alignment.chat import prompt_tokens
from minicoder.errors import UserError, at_least
from minicoder.execution.sandbox import Sandbox
from minicoder.model.generate import generate
from minicoder.model.transformer import MiniCoder
from minicoder.progress import progress
from minicoder.stages import Run, read_jsonl, stage, sync, write_json
from minicoder.tasks.answers import program_in
from minicoder.tasks.families import sample_items
from minicoder.tasks.item import Item, grade_many
from minicoder.tasks.task import Task
from minicoder.tokenizer import Tokenizer
from minicoder.training.loop import pick_device

SAMPLES, HIDDEN = "samples.jsonl", "hidden.jsonl"


@dataclass(frozen=True)
class Sample:
    """One program that a model wrote, and what running it showed."""

    task_id: str
    prompt: str
    tokens: list[int]     # the answer, its end token included when it was written
    program: str
    verdict: str
    message: str
    passed: int
    total: int
    failures: list[list] = field(default_factory=list)  # number, verdict, message

    @property
    def right(self) -> bool:
        """Whether every test passed: the compiler's 0 or 1."""
        return self.verdict == "pass"

    @property
    def judged(self) -> bool:
        """Whether the verdict is about the program; the sandbox itself may fail."""
        return self.verdict != "harness_error"


def sample_and_judge(
    model: MiniCoder, tokenizer: Tokenizer, tasks: Sequence[Item], sandbox: Sandbox,
    samples: int = 1, temperature: float = 1.0, new_tokens: int = 64,
    generator: torch.Generator | None = None,
) -> list[Sample]:
    """`samples` answers to each task, side by side, each with its verdict."""
    answers = generate(
        model, [prompt_tokens(t.question, tokenizer) for t in tasks], new_tokens,
        end=tokenizer.eos, samples=samples, temperature=temperature,
        generator=generator)
    texts = [tokenizer.decode(t for t in a if t != tokenizer.eos) for a in answers]
    asked = [(t, text) for t, text in zip(
        (t for t in tasks for _ in range(samples)), texts, strict=True)]
    # a trained policy repeats itself: equal answers to a task are judged once
    once = {(t.task_id, text): (t, text) for t, text in asked}
    results = dict(zip(once, grade_many(*zip(*once.values(), strict=True), sandbox),
                       strict=True))
    return [Sample(t.task_id, t.question, tokens, program_in(text), r.verdict,
                   r.message, r.passed, r.total, [list(f) for f in r.failures])
            for (t, text), tokens in zip(asked, answers, strict=True)
            for r in [results[t.task_id, text]]]


def pairs(samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """Every right program beside every wrong one of its prompt; equal ones count once.
    """
    programs: dict[str, dict[str, Sample]] = {}
    for s in samples:
        if s.judged:
            programs.setdefault(s.task_id, {}).setdefault(s.program, s)
    return [(good, bad) for group in programs.values()
            for good in group.values() if good.right
            for bad in group.values() if not bad.right]


def hide(task: Item, visible: int, seed: int) -> tuple[Task, Task]:
    """A task with `visible` of its tests, drawn for each task anew, and with the rest.

    Raises `UserError` for a task that has no more plain tests than that.
    """
    count = len(task.cases) if isinstance(task, Task) else 0
    if count <= visible:
        raise UserError(f"--visible-tests {visible} leaves nothing to hide: "
                        f"{task.task_id} has {count} tests that can be told apart.")
    chosen = random.Random(f"{seed} {task.task_id}").sample(range(count), visible)
    return tuple(replace(task, cases=tuple(
        case for i, case in enumerate(task.cases) if (i in chosen) == shown))
        for shown in (True, False))


def feedback(
    out: Path, model: Path, family: str = "lists", prompts: int = 256,
    samples: int = 8, temperature: float = 1.0, new_tokens: int = 64, batch: int = 64,
    visible_tests: int = 0, allow_weak_sandbox: bool = False, seed: int = 0,
) -> Path:
    """Sample programs from a model and judge each by running its tests.

    Killed at any moment, the same command goes on with the batch that was not whole.

    Args:
        out: folder for samples.jsonl, feedback.json and, of hidden tests, hidden.jsonl.
        model: folder of the fine-tuned checkpoint.
        family: family of tasks; its training split is used.
        prompts: number of tasks.
        samples: programs per task.
        temperature: of the sampling.
        new_tokens: the most tokens of an answer.
        batch: tasks at a time.
        visible_tests: judge by so many tests of each task only, drawn at random; 0 for
            all. What the others say is kept apart.
        allow_weak_sandbox: run programs even where they cannot be locked in.
        seed: decides tasks and samples.
    """
    at_least(1, prompts=prompts, samples=samples, batch=batch, new_tokens=new_tokens)
    at_least(0, visible_tests=visible_tests)
    settings = dict(model=model, family=family, prompts=prompts, samples=samples,
                    temperature=temperature, new_tokens=new_tokens, batch=batch,
                    visible_tests=visible_tests)
    with stage(out, "feedback", settings, [model], seed) as run:
        if run.finished:
            return out
        device = pick_device()
        run.device = device.type
        tokenizer, coder = MiniCoder.with_tokenizer(model, device)
        tasks = sample_items(family, prompts, "train", seed + 1)
        hidden: Sequence[Item] = ()
        if visible_tests:
            tasks, hidden = zip(*(hide(t, visible_tests, seed) for t in tasks),
                                strict=True)
        with Sandbox(allow_weak=allow_weak_sandbox) as sandbox:
            for first in progress(range(done(run.work, prompts, samples, batch),
                                        prompts, batch), "feedback", "batch"):
                draw = torch.Generator().manual_seed(seed * 1_000_003 + first)
                part = slice(first, first + batch)
                found = sample_and_judge(coder, tokenizer, tasks[part], sandbox,
                                         samples, temperature, new_tokens, draw)
                append(run.work / HIDDEN, hidden_verdicts(hidden[part], found, sandbox))
                append(run.work / SAMPLES, [asdict(s) for s in found])
            write_report(run, sandbox.tier, prompts, samples)
    return out


def done(work: Path, prompts: int, samples: int, batch: int) -> int:
    """How many prompts a killed run left in whole batches; the rest is cut off."""
    paths = [path for path in (work / HIDDEN, work / SAMPLES) if path.exists()]
    lines = {path: path.read_bytes().split(b"\n")[:-1] for path in paths}
    whole = min(map(len, lines.values()), default=0) // samples
    if not (work / SAMPLES).exists():
        whole = 0
    whole -= whole % batch if whole < prompts else 0
    for path in paths:  # cut, not written anew: what stays is never off the disk
        os.truncate(path, sum(len(line) + 1 for line in lines[path][:whole * samples]))
    return whole


def append(path: Path, records: Sequence[dict]) -> None:
    """Add lines of JSON, and have them on the disk before the next batch begins."""
    if not records:
        return
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    sync(path)


def hidden_verdicts(tasks: Sequence[Item], found: Sequence[Sample], sandbox: Sandbox
                    ) -> list[dict]:
    """What the hidden tests say of each sample; nothing where none are hidden."""
    if not tasks:
        return []
    each = len(found) // len(tasks)
    results = grade_many([t for t in tasks for _ in range(each)],
                         [s.program for s in found], sandbox)
    return [{"task_id": s.task_id, "verdict": r.verdict, "passed": r.passed,
             "total": r.total} for s, r in zip(found, results, strict=True)]


def write_report(run: Run, tier: str, prompts: int, samples: int) -> None:
    """Count the verdicts into feedback.json and say the share that passes."""
    found = [Sample(**line) for line in read_jsonl(run.work / SAMPLES)]
    counts = Counter(s.verdict for s in found)
    write_json(run.work / "feedback.json", {
        "prompts": prompts, "samples_per_prompt": samples, "tier": tier,
        "verdicts": dict(counts.most_common()), "examples": one_of_each(found)})
    judged = sum(s.judged for s in found)
    run.headline = (f"{judged:,} programs run, {counts['pass'] / max(1, judged):.0%} "
                    "pass their tests")


def one_of_each(samples: Sequence[Sample], each: int = 2) -> list[dict]:
    """A few samples of every verdict, for the report."""
    kept: Counter[str] = Counter()
    chosen = []
    for s in samples:
        if kept[s.verdict] < each:
            kept[s.verdict] += 1
            chosen.append({"prompt": s.prompt, "program": s.program,
                           "verdict": s.verdict, "message": s.message})
    return chosen


def read_samples(folder: Path) -> list[Sample]:
    """The samples of a finished feedback stage that could be judged."""
    found = (Sample(**line) for line in read_jsonl(folder / SAMPLES))
    return [s for s in found if s.judged]
