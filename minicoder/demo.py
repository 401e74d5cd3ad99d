"""The whole way in one command: from raw source code to a coder trained with GRPO."""

from __future__ import annotations

import time
from pathlib import Path

from minicoder.alignment.feedback import feedback
from minicoder.alignment.grpo import grpo
from minicoder.alignment.reward_model import reward
from minicoder.alignment.sft import sft
from minicoder.data.corpus import build_corpus
from minicoder.data.packing import pack
from minicoder.data.vocabulary import train_tokenizer
from minicoder.errors import UserError
from minicoder.evaluation.contamination import write_benchmarks
from minicoder.evaluation.evaluate import evaluate
from minicoder.evaluation.language import language
from minicoder.execution.tiers import choose_tier
from minicoder.show.report import write_report
from minicoder.training.long_context import extend
from minicoder.training.pretrain import pretrain

WINDOW, FACTOR = 128, 8


def demo(out: Path = Path("runs/demo"), seed: int = 0, effort: float = 1.0,
         allow_weak_sandbox: bool = False) -> Path:
    """Build a whole small coder and write its report.

    Each stage can be run alone; the report lists the commands. Interrupted at any
    moment, the same command goes on from the last finished stage or checkpoint.

    Args:
        out: folder of the run.
        seed: decides everything that is drawn.
        effort: multiplies all budgets; 1 takes about ten minutes on two cores.
        allow_weak_sandbox: run programs even where they cannot be locked in.
    """
    if not 0.001 <= effort <= 1000:
        raise UserError(f"--effort {effort} must lie between 0.001 and 1000.")
    choose_tier(None, allow_weak_sandbox)  # to refuse now, not when models are trained
    weak, began = {"allow_weak_sandbox": allow_weak_sandbox}, time.time()

    def some(budget: int, least: int = 2) -> int:
        return max(least, round(budget * effort))

    exam = write_benchmarks(out / "benchmarks.jsonl", seed=seed)
    build_corpus(out / "corpus", benchmarks=[exam], scale=min(1.0, max(0.05, effort)),
                 seed=seed)
    train_tokenizer(out / "tokenizer", out / "corpus",
                    megabytes=min(2.5, max(0.5, 2.5 * effort)), seed=seed)
    common = dict(corpus=out / "corpus", tokenizer=out / "tokenizer", seed=seed)
    pack(out / "pack", sequence_length=WINDOW, tokens=some(1_640_000, 60_000),
         **common)
    pack(out / "pack_long", sequence_length=WINDOW * FACTOR, unit="document",
         tokens=some(100_000, 20_000), **common)
    pretrain(out / "pretrain", out / "pack", out / "tokenizer", steps=some(1600),
             warmup=some(50), recall=some(200), middles=some(650), seed=seed)
    extend(out / "extend", out / "pretrain", out / "pack_long", factor=FACTOR,
           tokens=WINDOW * FACTOR, steps=some(60), seed=seed)
    language(out / "language", out / "pretrain", out / "extend", out / "corpus",
             kilobytes=some(300), holes=some(600, 4), trials=some(6, 1), seed=seed)
    sft(out / "sft", out / "extend", tasks=some(6000, 50), steps=some(200),
        seed=seed)
    feedback(out / "feedback", out / "sft", prompts=some(192, 4), seed=seed, **weak)
    reward(out / "reward", out / "sft", out / "feedback", steps=some(80), seed=seed)
    grpo(out / "grpo", out / "sft", out / "reward", tasks=some(4000, 50),
         steps=some(30), prompts=min(12, some(12)), group=min(12, some(12, 4)),
         seed=seed, **weak)
    evaluate((out / "extend", out / "sft", out / "grpo"), out / "evaluate",
             names=("base", "sft", "grpo"), limit=some(120, 3), new_tokens=64,
             seed=seed, **weak)
    report = write_report(out)
    print(f"report     {report}  ({(time.time() - began) / 60:.1f} min in this call)")
    return report
