"""GRPO measured: what it gains in CPU-seconds, and its step beside trl's.

    python benchmarks/grpo.py [--parts learn weak speed] [--seeds 0 1 2]
        [--out runs/grpo] [--allow-weak-sandbox]

Each seed makes a start of its own: a model of 0.7 M parameters, fine-tuned on programs
of which a share is wrong. `learn` reinforces a start that knows the right programs,
`weak` one that was trained too little. `speed` takes turns with trl's GRPOTrainer on
transformers' DeepseekV2: same weights, prompts, rewards and settings. CPU-seconds are
of one thread, with those of the sandbox's processes in `learn` and `weak`. Finished
stages are not run again. Writes benchmarks/results/grpo.json and grpo.md.
"""

from __future__ import annotations

import gc
import platform
import resource
import time
from pathlib import Path
from statistics import median

import accelerate
import torch
import transformers
import trl
import tyro
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from minicoder.alignment.chat import CHAT_TEMPLATE
from minicoder.alignment.feedback import sample_and_judge
from minicoder.alignment.grpo import grpo
from minicoder.alignment.iterative import Phases
from minicoder.alignment.objectives import RECIPES
from minicoder.alignment.rewards import Rewards
from minicoder.alignment.rollouts import Rollouts, Sampling
from minicoder.alignment.sft import sft
from minicoder.alignment.updates import Updates
from minicoder.config import preset
from minicoder.evaluation.intervals import bootstrap
from minicoder.execution.sandbox import Sandbox
from minicoder.model.transformer import MiniCoder
from minicoder.stages import MADE_BY, read_json, read_jsonl, stage, write_json
from minicoder.tasks.families import sample_tasks
from minicoder.tasks.item import grade_many
from minicoder.tokenizer import Tokenizer
from minicoder.training.loop import Plan, one_step
from minicoder.training.optimizer import adamw
from minicoder.training.spikes import Spikes

RESULTS = Path(__file__).parent / "results"
VOCABULARY = 448
COMMON = dict(prompts=16, group=16, warmup=3)
BATCH = {"learn": 32, "weak": 5}  # examples per step of fine-tuning
RUNS = {
    "learn": {"short": dict(steps=24, lr=6e-4), "long": dict(steps=72, lr=6e-4)},
    "weak": {"one update": dict(steps=40, lr=6e-4),
             "DAPO, 4 updates": dict(steps=30, lr=3e-4, recipe="dapo", updates=4,
                                     minibatches=4)}}
ONCE = {"DAPO, 4 updates"}  # on the first seed only


def cpu() -> float:
    """CPU-seconds of this process and of all its children that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def start(out: Path, seed: int, batch: int) -> Path:
    """A fine-tuned model of this seed: its own words, weights, tasks and bugs."""
    with stage(out / "base", "pretrain", {}, seed=seed) as run:
        if not run.finished:
            texts = [f"{t.question}\n{t.reference}"
                     for t in sample_tasks("lists", 1000, "train", seed + 7)]
            tokenizer = Tokenizer.train(texts, VOCABULARY)
            torch.manual_seed(seed)
            MiniCoder(preset(
                "toy", vocab_size=VOCABULARY, hidden_size=96, num_hidden_layers=3,
                n_routed_experts=8, num_experts_per_tok=2)).save_pretrained(
                    run.work, tokenizer, chat_template=CHAT_TEMPLATE)
    return sft(out / "sft", out / "base", right=0.4, steps=300, batch=batch, lr=3e-3,
               warmup=30, seed=seed)


def measure(folder: Path, allow_weak: bool, tasks: int = 256, samples: int = 4) -> dict:
    """Sampled and greedy pass@1 on held-out tasks, with 95 % intervals."""
    path = folder.with_name(folder.name + "-score.json")
    if path.exists():
        return read_json(path)
    tokenizer, coder = MiniCoder.with_tokenizer(folder, torch.device("cpu"))
    items, found = sample_tasks("lists", tasks, "heldout", 0), {}
    with Sandbox(allow_weak=allow_weak) as sandbox:
        for name, each, heat in (("sampled", samples, 1.0), ("greedy", 1, 0.0)):
            drawn = sample_and_judge(coder, tokenizer, items, sandbox, each, heat,
                                     generator=torch.Generator().manual_seed(0))
            assert all(s.judged for s in drawn), "the sandbox failed: run it again"
            right = torch.tensor([s.right for s in drawn]).view(tasks, each).double()
            found[name] = bootstrap(right.mean(1).tolist())
            found[name + " by task"] = right.mean(1).tolist()
    write_json(path, found)
    return found


def reinforce(out: Path, model: Path, seed: int, allow_weak: bool, **how: object
              ) -> dict:
    """GRPO from a start, its CPU-seconds and what came of it."""
    clock = out.with_name(out.name + "-cpu.json")
    began = cpu()
    grpo(out, model, seed=seed, allow_weak_sandbox=allow_weak, **COMMON | how)
    if not clock.exists():
        write_json(clock, {"cpu_s": cpu() - began})
    before, after = measure(model, allow_weak), measure(out, allow_weak)
    gain = [b - a for a, b in zip(before["greedy by task"], after["greedy by task"],
                                  strict=True)]
    curve = read_jsonl(out / "metrics.jsonl")
    before, after = ({k: score[k] for k in ("sampled", "greedy")}
                     for score in (before, after))
    return read_json(clock) | {
        "settings": COMMON | how, "before": before, "after": after,
        "greedy gain": bootstrap(gain), "pass": [m["pass"] for m in curve],
        "entropy": [m.get("entropy") for m in curve],
        "clip_share": max(m["clip_share"] for m in curve),
        "resumed": read_json(out / MADE_BY)["resumed"]}


class Turns(TrainerCallback):
    """Times each of the peer's steps, then takes one of ours on the same prompts."""

    def __init__(self, mine: MiniCoder, tokenizer: Tokenizer, sandbox: Sandbox,
                 lr: float) -> None:
        self.mine, self.tokenizer, self.sandbox = mine, tokenizer, sandbox
        self.plan = Plan(1000, lr, warmup=0, floor=1.0, weight_decay=0.0)
        self.optimizer = adamw(mine, lr, 0.0)
        self.items: list = []   # of the peer's step
        self.rows: list[dict] = []

    def on_step_begin(self, args: object, state: object, control: object, **_: object
                      ) -> None:
        self.began = time.process_time()

    def on_step_end(self, args: object, state: object, control: object, **_: object
                    ) -> None:
        theirs = time.process_time() - self.began
        rollouts = Rollouts(
            self.mine, self.tokenizer, self.sandbox, Rewards(self.tokenizer),
            self.items, Sampling(16, 16, seed=state.global_step),
            RECIPES["deepseek-math"])
        phases = Phases(Path(), self.mine, self.tokenizer, None, None, [], 0)
        began = time.process_time()
        noted = one_step(self.mine, self.optimizer, Updates(rollouts, phases),
                         self.plan, 0, Spikes())
        ours = time.process_time() - began
        self.rows.append({"trl": theirs, "minicoder": ours, "pass": noted["pass"],
                          "trl_pass": self.passed, "length": noted["length"],
                          "groups_kept": noted["groups_kept"]})
        print({k: round(v, 3) for k, v in self.rows[-1].items()}, flush=True)


def speed(out: Path, model: Path, rounds: int, allow_weak: bool, lr: float = 3e-4
          ) -> dict:
    """Median CPU-seconds of a step of 256 rollouts, ours and trl's in turn."""
    tokenizer, mine = MiniCoder.with_tokenizer(model, torch.device("cpu"))
    theirs = AutoModelForCausalLM.from_pretrained(
        model, local_files_only=True, attn_implementation="sdpa",
        experts_implementation="grouped_mm", dtype=torch.float32)
    pool = sample_tasks("lists", 512, "train", 2)
    with Sandbox(allow_weak=allow_weak) as sandbox:
        turns = Turns(mine.train(), tokenizer, sandbox, lr)

        def right(prompts: list, completions: list, index: list, **_: object
                  ) -> list[float]:
            texts = [c[0]["content"] for c in completions]
            once = dict.fromkeys(zip(index, texts, strict=True))  # as ours judges
            verdicts = grade_many([pool[i] for i, _ in once], [t for _, t in once],
                                  sandbox)
            for key, verdict in zip(once, verdicts, strict=True):
                once[key] = float(verdict.verdict == "pass")
            turns.items = [pool[i] for i in dict.fromkeys(index)]
            found = [once[key] for key in zip(index, texts, strict=True)]
            turns.passed = sum(found) / len(found)
            return found

        settings = trl.GRPOConfig(
            output_dir=str(out / "trl"), per_device_train_batch_size=256,
            num_generations=16, max_completion_length=64, temperature=1.0, beta=0.0,
            learning_rate=lr, lr_scheduler_type="constant", loss_type="grpo",
            weight_decay=0.0, adam_beta2=0.95, max_grad_norm=1.0, max_steps=rounds + 1,
            gradient_checkpointing=False, bf16=False, use_cpu=True, save_strategy="no",
            report_to="none", logging_steps=1000, disable_tqdm=True, seed=1)
        trl.GRPOTrainer(
            theirs, right, settings, callbacks=[turns],
            processing_class=AutoTokenizer.from_pretrained(model),
            train_dataset=Dataset.from_list(
                [{"prompt": [{"role": "user", "content": t.question}], "index": i}
                 for i, t in enumerate(pool)])).train()
    gc.collect()
    rows = turns.rows[1:]  # the first warms up
    ours, peer = (median(r[who] for r in rows) for who in ("minicoder", "trl"))
    return {"rounds": rows, "minicoder": ours, "trl": peer, "ratio": peer / ours}


def percent(value: dict[str, float]) -> str:
    """41.2 % (38.0-44.1)."""
    return (f"{100 * value['value']:.1f} % ({100 * value['low']:.1f}–"
            f"{100 * value['high']:.1f})")


def table(found: dict) -> str:
    """The results as a page of Markdown."""
    lines = ["# GRPO", "", f"Made by `python benchmarks/grpo.py`, {found['machine']}. "
             "256 held-out tasks of the family `lists`, 4 samples each at temperature "
             "1; 95 % intervals. CPU-seconds of one thread and of the sandbox's "
             "processes.", "", "## What it gains", ""]
    head = ("| seed | run | CPU-s | sampled before | after | points | greedy before "
            "| after | what happened |\n|---|---|---|---|---|---|---|---|---|")
    for part in ("learn", "weak"):
        if part not in found:
            continue
        lines += [{"learn": "From a start that knows the right programs, and draws "
                   "wrong ones as often:", "weak": "From a start that was trained too "
                   "little:"}[part], "", head]
        for seed, runs in found[part].items():
            for name, row in runs.items():
                before, after, gain = row["before"], row["after"], row["greedy gain"]
                points = 100 * (after["sampled"]["value"] - before["sampled"]["value"])
                word = ("greedy gains too" if gain["low"] > 0 else
                        "greedy loses" if gain["high"] < 0 else
                        "sharpens: greedy did not move")
                lines.append(
                    f"| {seed} | {name}, {row['settings']['steps']} rounds | "
                    f"{row['cpu_s']:.0f} | {percent(before['sampled'])} | "
                    f"{percent(after['sampled'])} | {points:+.1f} | "
                    f"{percent(before['greedy'])} | {percent(after['greedy'])} | "
                    f"{word} ({percent(gain)}) |")
        lines.append("")
    if "speed" in found:
        row = found["speed"]
        lines += ["## A step beside trl's GRPOTrainer", "",
                  f"256 rollouts (16 prompts x 16), one update, float32, one thread, "
                  f"in turn; medians of {len(row['rounds'])} rounds after a warm-up. "
                  "Programs run in the sandbox's processes, off both clocks.", "",
                  "| | CPU-s per step |", "|---|---|",
                  f"| minicoder | {row['minicoder']:.2f} |",
                  f"| {found['versions']} | {row['trl']:.2f} |",
                  f"| ratio | **{row['ratio']:.2f} x** |"]
    return "\n".join(lines) + "\n"


def main(parts: tuple[str, ...] = ("learn", "weak", "speed"),
         seeds: tuple[int, ...] = (0, 1, 2), out: Path = Path("runs/grpo"),
         rounds: int = 8, allow_weak_sandbox: bool = False) -> None:
    """Run the parts that are asked for and write what came out."""
    torch.set_num_threads(1)
    path, weak = RESULTS / "grpo.json", allow_weak_sandbox
    found = read_json(path) if path.exists() else {}
    found |= {"machine": f"{platform.machine()}, Python {platform.python_version()}, "
                         f"torch {torch.__version__}",
              "versions": f"trl {trl.__version__}, transformers "
                          f"{transformers.__version__}, accelerate "
                          f"{accelerate.__version__}"}
    for part, runs in RUNS.items():
        for seed in seeds if part in parts else ():
            run = out / f"{part}-{seed}"
            model = start(run, seed, BATCH[part])
            found.setdefault(part, {})[str(seed)] = {
                name: reinforce(run / name.replace(", ", "-").replace(" ", "-"), model,
                                seed, weak, **how) for name, how in runs.items()
                if seed == seeds[0] or name not in ONCE}
    if "speed" in parts:
        model = start(out / f"learn-{seeds[0]}", seeds[0], BATCH["learn"])
        found["speed"] = speed(out, model, rounds, weak)
    write_json(path, found)
    (RESULTS / "grpo.md").write_text(table(found), encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
