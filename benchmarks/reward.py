"""Figure 3 of the paper in small: weak tests, a model of their verdicts, and GRPO.

    python benchmarks/reward.py [--model runs/demo/extend] [--out runs/reward]

For each seed: a fine-tuned coder of its own, half of whose examples have a bug;
programs of it, judged by `visible` of each task's 5 to 8 tests; a reward model trained
on these verdicts. Both are measured against the tests that nobody saw. Then GRPO with
four rewards (the visible verdict; the reward model; the same, trained further on the
policy's new programs every eight steps; all tests), scored with all tests on held-out
tasks. Last a reward that is gamed: the tests that are shown are those that want 0, and
a tenth of the examples are stubs such as `return 0`. Interrupted, it goes on; seeds may
run side by side. Writes benchmarks/results/reward.json and reward.md once all are done.
"""

from __future__ import annotations

import json
import os
import platform
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch
import tyro
from torch import Tensor

from minicoder.alignment.calibration import calibration
from minicoder.alignment.chat import CHAT_TEMPLATE
from minicoder.alignment.conversations import generated
from minicoder.alignment.feedback import (
    HIDDEN,
    feedback,
    hide,
    read_samples,
    sample_and_judge,
)
from minicoder.alignment.hacking import exploits
from minicoder.alignment.iterative import Phases
from minicoder.alignment.objectives import RECIPES
from minicoder.alignment.reward_model import (
    RewardModel,
    reward,
    row,
    score_all,
    split_by_prompt,
)
from minicoder.alignment.rewards import Rewards
from minicoder.alignment.rollouts import Rollouts, Sampling
from minicoder.alignment.sft import sft
from minicoder.alignment.updates import Updates
from minicoder.evaluation.intervals import student
from minicoder.execution.sandbox import Sandbox
from minicoder.model.transformer import MiniCoder
from minicoder.stages import read_json, read_jsonl, stage, write_json, write_text
from minicoder.tasks.families import sample_tasks
from minicoder.tasks.task import Task
from minicoder.tokenizer import Tokenizer
from minicoder.training.loop import Plan, train

RESULTS = Path(__file__).parent / "results"
DEVICE = torch.device("cpu")
RULES = {"visible": "the visible verdict", "model": "the reward model",
         "refreshed": "the reward model, refreshed", "all": "all tests"}
EXAM, POOL = 60, 2000      # held-out tasks of a score; tasks that GRPO draws from
PROMPTS = GROUP = 8
STUBS = ("0", "[]", "None")
Shown = list[Task]


def by_hidden(samples: Path, judge: Path, seed: int) -> dict:
    """The visible verdict and the reward model beside the hidden tests."""
    tokenizer = Tokenizer.load(judge)
    found = read_samples(samples)
    truth = {(s.task_id, s.program): float(h["verdict"] == "pass")
             for s, h in zip(found, read_jsonl(samples / HIDDEN), strict=True)}
    _, test = split_by_prompt(found, 0.2, seed)
    right = torch.tensor([truth[s.task_id, s.program] for s in test])
    seen = torch.tensor([float(s.right) for s in test])
    model = score_all(RewardModel.load(judge, DEVICE),
                      [row(s, tokenizer) for s in test])
    rows = {"visible": calibration(4 * seen - 2, right),
            "model": calibration(model, right),
            # a failed test settles it; of the rest the model says which are likelier
            "both": calibration(model - 50 * (1 - seen), right)}
    return {f"{name}_{k}": r[k] for name, r in rows.items()
            for k in ("accuracy", "auc")} | {
        "n": len(test), "passes_hidden": right.mean().item(),
        "passes_visible": seen.mean().item(),
        "wrong_among_visible_passes": 1 - right[seen == 1].mean().item(),
        "model_ece": rows["model"]["ece"],
        "model_auc_on_visible": calibration(model, seen)["auc"]}


def score(coder: MiniCoder, tokenizer: Tokenizer, tasks: Shown, sandbox: Sandbox,
          seed: int) -> dict[str, float]:
    """True pass@1, by all tests: of four samples a task, and of the likeliest one."""
    draw = torch.Generator().manual_seed(seed)
    found = sample_and_judge(coder, tokenizer, tasks, sandbox, 4, generator=draw)
    greedy = sample_and_judge(coder, tokenizer, tasks, sandbox, temperature=0.0)
    return {"pass@1": fmean(s.right for s in found),
            "greedy": fmean(s.right for s in greedy)}


def reinforce(out: Path, start: Path, judge: Path | None, samples: Path | None,
              pool: Shown, refresh: int, seed: int, steps: int, every: int) -> Path:
    """GRPO on the tests of `pool`, or on a judge; metrics.jsonl has scores on the way.
    """
    settings = dict(start=start, judge=judge, refresh=refresh, steps=steps, every=every,
                    tests=sum(len(t.cases) for t in pool))
    with stage(out, "reinforce", settings, [start], seed) as run:
        if run.finished:
            return out
        tokenizer, coder = MiniCoder.with_tokenizer(start, DEVICE)
        scorer = judge and RewardModel.load(judge, DEVICE)
        exam = sample_tasks("lists", EXAM, "heldout", seed)
        phases = Phases(run.work / "phases", coder, tokenizer, None, scorer,
                        read_samples(samples) if refresh else [], seed)
        with Sandbox(allow_weak=True) as sandbox:
            rounds = Updates(Rollouts(
                coder, tokenizer, sandbox,
                Rewards(tokenizer, (0.0, 1.0, 0.0) if judge else (1.0, 0.0, 0.0),
                        scorer), pool, Sampling(PROMPTS, GROUP, seed=seed),
                RECIPES["deepseek-math"]), phases, refresh=refresh)

            def step_loss(step: int) -> tuple[Tensor | None, dict]:
                found = ({} if step % every else
                         score(coder, tokenizer, exam, sandbox, seed))
                loss, noted = rounds(step)
                return loss, noted | found

            train(coder, step_loss,
                  Plan(steps, 3e-4, 5, weight_decay=0.0, log_every=1), run.work,
                  out.name, also={"round": rounds})
            write_json(run.work / "last.json",
                       score(coder, tokenizer, exam, sandbox, seed))
        coder.save_pretrained(run.work, tokenizer, chat_template=CHAT_TEMPLATE)
        run.headline = "done"
    return out


def curve(folder: Path) -> list[dict]:
    """The scores of a run against its step, with reward and visible pass share."""
    lines = read_jsonl(folder / "metrics.jsonl")
    found = [m for m in lines if "pass@1" in m]
    found.append(lines[-1] | {"step": len(lines)} | read_json(folder / "last.json"))
    return [{k: round(m[k], 4) for k in ("step", "pass@1", "greedy", "reward", "pass")}
            for m in found]


def study(out: Path, model: Path, seed: int, prompts: int, visible: int, steps: int,
          every: int) -> dict:
    """Judges and rewards of one seed."""
    start = sft(out / "sft", model, steps=200, seed=seed)
    samples = feedback(out / "feedback", start, prompts=prompts, visible_tests=visible,
                       allow_weak_sandbox=True, seed=seed)
    judge = reward(out / "reward", start, samples, steps=120, seed=seed)
    tasks = sample_tasks("lists", POOL, "train", seed + 2)
    shown = [hide(t, visible, seed)[0] for t in tasks]
    runs = {rule: curve(reinforce(
        out / rule, start, None if rule in ("visible", "all") else judge, samples,
        tasks if rule == "all" else shown, 8 * (rule == "refreshed"), seed, steps,
        every)) for rule in RULES}
    return {"judges": by_hidden(samples, judge, seed), "runs": runs}


def with_stubs(path: Path, seed: int) -> Path:
    """Noisy examples, a tenth of which are stubs, as a file of conversations."""
    draw = random.Random(seed)
    talks = generated(6000, ("lists",), 0.5, 1.0, 0.0, seed)
    for talk in talks:
        if draw.random() < 0.1:
            talk[1]["content"] = f"def solve(a):\n    return {draw.choice(STUBS)}"
    write_text(path, "".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    return path


def inspect(folder: Path, pool: Shown, tasks: Shown, seed: int) -> dict:
    """What a policy's programs pass, seen and unseen, and the tricks among them."""
    tokenizer, coder = MiniCoder.with_tokenizer(folder, DEVICE)
    with Sandbox(allow_weak=True) as sandbox:
        found = sample_and_judge(coder, tokenizer, pool[:EXAM], sandbox, 2,
                                 generator=torch.Generator().manual_seed(seed))
        whole = {t.task_id: t for t in tasks}
        names: Counter[str] = Counter()
        true = 0
        for s in found:
            true += whole[s.task_id].grade(s.program, sandbox).verdict == "pass"
            names.update(exploits(s.program, whole[s.task_id], sandbox)
                         if s.right else [])
    common = Counter(s.program for s in found).most_common(1)[0]
    return {"visible": fmean(s.right for s in found), "true": true / len(found),
            "exploits": {name: n / len(found) for name, n in names.most_common()},
            "commonest": {"program": common[0], "share": common[1] / len(found)}}


def wanting_nothing(task: Task) -> Task:
    """A task with those of its tests alone that want 0."""
    return replace(task, cases=tuple(c for c in task.cases if c.expected == 0))


def gamed(out: Path, model: Path, seed: int, steps: int, every: int) -> dict:
    """GRPO with a reward that a stub can have, of one seed."""
    out.mkdir(parents=True, exist_ok=True)
    start = sft(out / "sft_stubs", model, with_stubs(out / "stubs.jsonl", seed),
                tasks=0, steps=120, seed=seed)
    tasks = [t for t in sample_tasks("lists", 2 * POOL, "train", seed + 2)
             if len(wanting_nothing(t).cases) > 1]
    shown = [wanting_nothing(t) for t in tasks]
    last = reinforce(out / "gamed", start, None, None, shown, 0, seed, steps, every)
    return {"curve": curve(last), "before": inspect(start, shown, tasks, seed),
            "after": inspect(last, shown, tasks, seed)}


def average(values: list[float]) -> str:
    """A mean over seeds and its 95 % interval (Student's t)."""
    found = student(values)
    return f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def judges_table(rows: list[dict]) -> str:
    """Accuracy and AUC against the hidden tests."""
    found = [r["study"]["judges"] for r in rows]
    lines = ["| judge | accuracy | AUC |", "|---|---|---|"]
    for key, name in (("visible", "the visible verdict"), ("model", "the reward model"),
                      ("both", "a failed test, else the model")):
        lines.append(f"| {name} | " + " | ".join(
            average([f[f"{key}_{k}"] for f in found]) for k in ("accuracy", "auc"))
            + " |")
    return "\n".join(lines) + (
        f"\n\n{found[0]['n']} programs a seed, for prompts that the model never saw. "
        f"Hidden tests pass {fmean(f['passes_hidden'] for f in found):.0%} of them, "
        f"the visible one {fmean(f['passes_visible'] for f in found):.0%}; of those "
        "that the visible one passes, "
        f"{fmean(f['wrong_among_visible_passes'] for f in found):.0%} are wrong. "
        "The model's expected calibration error against the hidden tests is "
        f"{fmean(f['model_ece'] for f in found):.2f}.\n")


def runs_table(rows: list[dict]) -> str:
    """True pass@1 before and after, and what the policy was told."""
    lines = ["| reward | step | sampled pass@1 | each seed | greedy | its own reward |",
             "|---|---|---|---|---|---|"]
    for rule, name in RULES.items():
        runs = [r["study"]["runs"][rule] for r in rows]
        for points in zip(*runs, strict=True):
            lines.append(
                f"| {name} | {points[0]['step']} | "
                f"{average([p['pass@1'] for p in points])} | "
                + ", ".join(f"{p['pass@1']:.2f}" for p in points)
                + f" | {fmean(p['greedy'] for p in points):.2f} | "
                f"{fmean(p['reward'] for p in points):.2f} |")
    return "\n".join(lines) + "\n"


def gamed_table(rows: list[dict]) -> str:
    """Visible and true pass shares, and the tricks that were named."""
    lines = ["| seed | | passes the shown test | passes all | named exploits | "
             "commonest program |", "|---|---|---|---|---|---|"]
    for r in rows:
        for when in ("before", "after"):
            f = r["hacking"][when]
            tricks = ", ".join(f"{k} {v:.0%}" for k, v in f["exploits"].items())
            program = f["commonest"]["program"].strip().split("\n")[-1].strip()
            lines.append(f"| {r['seed']} | {when} | {f['visible']:.0%} | "
                         f"{f['true']:.0%} | {tricks or 'none'} | `{program}` "
                         f"({f['commonest']['share']:.0%}) |")
    return "\n".join(lines) + "\n"


def gains(rows: list[dict], rule: str) -> list[float]:
    """How far true pass@1 went, of each seed."""
    return [run[-1]["pass@1"] - run[0]["pass@1"]
            for run in (r["study"]["runs"][rule] for r in rows)]


def page(rows: list[dict], visible: int, steps: int) -> str:
    """The results, whichever way they came out."""
    ahead = [m - v for m, v in zip(gains(rows, "model"), gains(rows, "visible"),
                                   strict=True)]
    word = ("better than" if min(ahead) > 0 else "worse than" if max(ahead) < 0
            else "not clearly different from")
    cpu = sum(r[part]["cpu_s"] for r in rows for part in ("study", "hacking"))
    return f"""# Weak tests, a model of their verdicts, and GRPO

Made by `python benchmarks/reward.py`: {len(rows)} seeds, {visible} visible test of 5 to
8, GRPO of {steps} steps with {PROMPTS} x {GROUP} programs, scored by all tests on
{EXAM} held-out tasks with four samples each; {cpu / 60:.0f} CPU-minutes in all, one
thread. Intervals are over seeds (Student, 95 %): with so few seeds they are wide.

**In this small setting the reward model's teaching is {word} the raw visible verdict's,
as far as all seeds agree** (difference of the gains in true pass@1: {average(ahead)}).

## The judges beside the hidden tests

{judges_table(rows)}
## GRPO with each reward

{runs_table(rows)}
Gains in true pass@1: {"; ".join(f"{name} {average(gains(rows, rule))}"
                                 for rule, name in RULES.items())}.

A reward that rises while true pass@1 falls is a reward model being hacked: the policy
finds programs that the model likes and that do not work. Refreshing means: after every
eight rounds the model learns from that phase's programs, a tenth of each batch from old
ones (DeepSeekMath §4.1.4).

## The paper's figure 3

Read off the plot, approximate, pass@1 against steps 50 to 600: on LeetCode the SFT
model has 0.140, the raw compiler signal 0.117 to 0.164 (last 0.141), the reward model
0.164 to 0.227 (last 0.203); on LeetCode-zh 0.100, 0.086 to 0.133 (last 0.110), 0.117 to
0.172 (last 0.141). There the reward model wins.

Like the paper: the reward model starts from the fine-tuned model and learns 0/1
verdicts of weak tests, and each reward trains the same policy. Unlike: the tasks are
one-line programs in which a single symbol decides, the model is tiny and learns 1,600
verdicts where the paper has 40k prompts, and all rewards share one set of
hyper-parameters. How weak the paper's tests are is not known.

## A reward that is gamed

The tests that are shown are those that want 0, two or more of a task's, and a tenth of
the examples that the coder learnt from are stubs: `return 0`, `[]` or `None`. {EXAM}
training tasks, two programs each, before and after {steps} steps. Exploits are named
among the programs that pass the shown tests; all shares are of all programs.

{gamed_table(rows)}
The gap between the two pass shares is the alarm; `alignment/hacking.py` names what
part of it is a trick. The rest are programs that are wrong in ways that these tests do
not see.
"""


def main(model: Path = Path("runs/demo/extend"), out: Path = Path("runs/reward"),
         seeds: tuple[int, ...] = (0, 1, 2), prompts: int = 256, visible: int = 1,
         steps: int = 24, every: int = 12) -> None:
    """Run it and keep what came out."""
    torch.set_num_threads(1)
    rows = []
    for seed in seeds:
        folder = out / f"seed{seed}"
        for name, part in (
                ("study", lambda folder=folder, seed=seed: study(
                    folder, model, seed, prompts, visible, steps, every)),
                ("hacking", lambda folder=folder, seed=seed: gamed(
                    folder, model, seed, steps, every))):
            if not (folder / f"{name}.json").exists():
                began = sum(os.times()[:4])
                found = part()
                write_json(folder / f"{name}.json",
                           found | {"cpu_s": round(sum(os.times()[:4]) - began)})
        rows.append({"seed": seed} | {name: read_json(folder / f"{name}.json")
                                      for name in ("study", "hacking")})
    if len(rows) > 1:
        write_json(RESULTS / "reward.json", {
            "seeds": rows, "visible": visible, "prompts": prompts, "steps": steps,
            "torch": torch.__version__, "machine": platform.machine()})
        write_text(RESULTS / "reward.md", page(rows, visible, steps))


if __name__ == "__main__":
    tyro.cli(main)
