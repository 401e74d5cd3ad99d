"""pass@k on held-out tasks: sample, run, count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from minicoder.alignment.feedback import Sample, sample_and_judge
from minicoder.errors import UserError, at_least
from minicoder.evaluation.intervals import bootstrap
from minicoder.evaluation.pass_at_k import pass_at_k
from minicoder.execution.sandbox import Sandbox
from minicoder.model.transformer import MiniCoder
from minicoder.progress import progress
from minicoder.stages import stage, write_json
from minicoder.tasks.families import sample_tasks
from minicoder.tasks.task import Task
from minicoder.tokenizer import Tokenizer
from minicoder.training.loop import pick_device


def solve(model: MiniCoder, tokenizer: Tokenizer, tasks: Sequence[Task],
          sandbox: Sandbox, samples: int, temperature: float, seed: int,
          batch: int = 32, name: str = "evaluate") -> list[list[Sample]]:
    """`samples` judged programs for each task."""
    found: list[list[Sample]] = []
    for first in progress(range(0, len(tasks), batch), name, "batch"):
        draw = torch.Generator().manual_seed(seed * 1_000_003 + first)
        flat = sample_and_judge(model, tokenizer, tasks[first:first + batch], sandbox,
                                samples, temperature, generator=draw)
        for sample in flat:
            if not sample.judged:  # a score without it would be of other tasks
                raise UserError(f"The sandbox could not judge a program for "
                                f"{sample.task_id}: {sample.message}. Try again.")
        found += [flat[i:i + samples] for i in range(0, len(flat), samples)]
    return found


def scores(sampled: Sequence[Sequence[Sample]], greedy: Sequence[Sequence[Sample]],
           ks: Sequence[int] = (1, 8)) -> dict:
    """pass@k over the samples and greedy pass@1, each with a 95 % interval."""
    row = {f"pass@{k}": bootstrap(
        [pass_at_k(len(group), sum(s.right for s in group), k) for group in sampled])
        for k in ks if k <= len(sampled[0])}
    return row | {"greedy": bootstrap([float(group[0].right) for group in greedy])}


def examples(greedy: Sequence[Sequence[Sample]], count: int = 5) -> dict:
    """A few solved and failed tasks of the last model, with their programs."""
    chosen: dict[str, list[dict]] = {"solved": [], "failed": []}
    for group in greedy:
        part = chosen["solved" if group[0].right else "failed"]
        if len(part) < count:
            part.append({"prompt": group[0].prompt, "program": group[0].program,
                         "verdict": group[0].verdict, "message": group[0].message})
    return chosen


def evaluate(
    out: Path, models: tuple[Path, ...],
    names: tuple[str, ...] = ("base", "sft", "grpo"), family: str = "lists",
    tasks: int = 150, samples: int = 8,
    temperature: float = 1.0, seed: int = 0,
) -> Path:
    """Score checkpoints on tasks that none of them was trained on.

    Args:
        out: folder for scores.json.
        models: folders of the checkpoints, in the order of training.
        names: what to call them.
        family: family of programming tasks; its held-out split is used.
        tasks: number of tasks.
        samples: programs per task, besides the greedy one.
        temperature: of the sampling.
        seed: decides tasks and samples.
    """
    at_least(1, tasks=tasks, samples=samples)
    if len(names) != len(models):
        raise UserError(f"--names has {len(names)} entries and --models {len(models)}.")
    settings = dict(models=[str(m) for m in models], names=list(names), family=family,
                    tasks=tasks, samples=samples, temperature=temperature)
    with stage(out, "evaluate", settings, models, seed) as run:
        if run.finished:
            return out
        device = pick_device()
        run.device = device.type
        held_out = sample_tasks(family, tasks, "heldout", seed)
        rows, last = [], []
        with Sandbox() as sandbox:
            for name, folder in zip(names, models, strict=True):
                tokenizer, coder = MiniCoder.with_tokenizer(folder, device)
                sampled = solve(coder, tokenizer, held_out, sandbox, samples,
                                temperature, seed, name=name)
                last = solve(coder, tokenizer, held_out, sandbox, 1, 0.0, seed,
                             batch=128, name=name)
                rows.append({"name": name} | scores(sampled, last))
            tier = sandbox.tier
        write_json(run.work / "scores.json", {
            "tasks": tasks, "samples": samples, "temperature": temperature,
            "tier": tier, "rows": rows, "examples": examples(last)})
        run.headline = "pass@1 " + ", ".join(
            f"{r['name']} {r['pass@1']['value']:.0%}" for r in rows)
    return out
