"""Compiler feedback: sample programs, run them, keep program and verdict (§3.5.2)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from minicoder.alignment.chat import program_in, prompt_tokens
from minicoder.errors import at_least
from minicoder.execution.sandbox import Job, Sandbox
from minicoder.model.generate import generate
from minicoder.model.transformer import MiniCoder
from minicoder.progress import progress
from minicoder.stages import stage, write_json
from minicoder.tasks.families import sample_tasks
from minicoder.tasks.task import Task
from minicoder.tokenizer import Tokenizer
from minicoder.training.loop import pick_device


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

    @property
    def right(self) -> bool:
        """Whether every test passed: the compiler's 0 or 1."""
        return self.verdict == "pass"

    @property
    def judged(self) -> bool:
        """Whether the verdict is about the program; the sandbox itself may fail."""
        return self.verdict != "harness_error"


def sample_and_judge(
    model: MiniCoder, tokenizer: Tokenizer, tasks: Sequence[Task], sandbox: Sandbox,
    samples: int = 1, temperature: float = 1.0, new_tokens: int = 64,
    generator: torch.Generator | None = None,
) -> list[Sample]:
    """`samples` programs for each task, side by side, each with its verdict."""
    answers = generate(
        model, [prompt_tokens(t.prompt, tokenizer) for t in tasks], new_tokens,
        end=tokenizer.eos, samples=samples, temperature=temperature,
        generator=generator)
    repeated = [t for t in tasks for _ in range(samples)]
    programs = [program_in(tokenizer.decode(t for t in a if t != tokenizer.eos))
                for a in answers]
    results = sandbox.judge_many(
        [Job(p, t.entry_point, tuple((c.arguments, c.expected) for c in t.cases))
         for p, t in zip(programs, repeated, strict=True)])
    return [Sample(t.task_id, t.prompt, a, p, r.verdict, r.message, r.passed, r.total)
            for t, a, p, r in zip(repeated, answers, programs, results, strict=True)]


def feedback(
    out: Path, model: Path, family: str = "lists", prompts: int = 256,
    samples: int = 8, temperature: float = 1.0, batch: int = 64, seed: int = 0,
) -> Path:
    """Sample programs from a model and judge each by running its tests.

    Args:
        out: folder for samples.jsonl and feedback.json.
        model: folder of the fine-tuned checkpoint.
        family: family of programming tasks; its training split is used.
        prompts: number of tasks.
        samples: programs per task.
        temperature: of the sampling.
        batch: tasks at a time.
        seed: decides tasks and samples.
    """
    at_least(1, prompts=prompts, samples=samples, batch=batch)
    settings = dict(model=model, family=family, prompts=prompts, samples=samples,
                    temperature=temperature, batch=batch)
    with stage(out, "feedback", settings, [model], seed) as run:
        if run.finished:
            return out
        device = pick_device()
        run.device = device.type
        tokenizer, coder = MiniCoder.with_tokenizer(model, device)
        tasks = sample_tasks(family, prompts, "train", seed + 1)
        found: list[Sample] = []
        with Sandbox() as sandbox:
            for first in progress(range(0, prompts, batch), "feedback", "batch"):
                draw = torch.Generator().manual_seed(seed * 1_000_003 + first)
                found += sample_and_judge(
                    coder, tokenizer, tasks[first:first + batch], sandbox, samples,
                    temperature, generator=draw)
            tier = sandbox.tier
        judged = [s for s in found if s.judged]
        with (run.work / "samples.jsonl").open("w", encoding="utf-8") as file:
            for sample in judged:
                file.write(json.dumps(asdict(sample)) + "\n")
        verdicts = Counter(s.verdict for s in found)
        write_json(run.work / "feedback.json", {
            "prompts": prompts, "samples_per_prompt": samples, "tier": tier,
            "verdicts": dict(verdicts.most_common()), "examples": one_of_each(found)})
        share = verdicts["pass"] / max(1, len(judged))
        run.headline = f"{len(judged):,} programs run, {share:.0%} pass their tests"
    return out


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
    """The samples of a finished feedback stage."""
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").split("\n")
    return [Sample(**json.loads(line)) for line in lines if line]
