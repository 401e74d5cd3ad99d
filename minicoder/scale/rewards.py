"""Our tasks and their verdicts for other trainers: trl's GRPOTrainer and verl.

One Parquet file serves both. A row names its task, and the name makes the task again
with its tests: none travels in the file. Programs run in one sandbox a process.

trl (`GRPOTrainer`, documentation of `reward_funcs`; tried with 1.16):

    rows = Dataset.from_parquet("runs/rl/train.parquet")
    GRPOTrainer(model, trl_reward, GRPOConfig(...), train_dataset=rows).train()

verl (documentation, "Implement Reward Function for Dataset"; 0.8, not run here):

    python -m verl.trainer.main_ppo algorithm.adv_estimator=grpo
      data.train_files=runs/rl/train.parquet data.val_files=runs/rl/heldout.parquet
      custom_reward_function.path=pkg://minicoder.scale.rewards
      custom_reward_function.name=compute_score    (a batch at a time: compute_scores
                                                    with reward_manager.name=batch)
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from minicoder.errors import UserError, at_least
from minicoder.execution.sandbox import Sandbox
from minicoder.stages import stage
from minicoder.tasks.families import KINDS, SPLITS, family_of, sample_items
from minicoder.tasks.item import Item, grade_many

_lock = threading.Lock()


def rows(family: str, n: int, split: str, seed: int) -> list[dict[str, Any]]:
    """`n` tasks in the columns that verl asks for, which trl passes on to a reward."""
    return [{"data_source": f"minicoder/{family}",
             "prompt": [{"role": "user", "content": item.question}], "ability": "code",
             "reward_model": {"style": "rule", "ground_truth": item.task_id},
             "extra_info": {"split": split, "index": index,
                            "difficulty": item.difficulty}}
            for index, item in enumerate(sample_items(family, n, split, seed))]


@lru_cache(maxsize=4096)
def task_of(task_id: str) -> Item:
    """The task "family/number"; `UserError` for a name that no task of ours has."""
    family, _, number = task_id.rpartition("/")
    kind = family_of(family, KINDS)
    if (not number.isdecimal() or int(number) >= kind.size
            or (item := kind.make(int(number))) is None):
        raise UserError(f"The family {family!r} has no task of the number {number!r}, "
                        f"which ground_truth {task_id!r} asks for.")
    return item


def sandbox(allow_weak: bool = False) -> Sandbox:
    """The one sandbox of this process, whichever of its threads asks."""
    with _lock:
        return _sandbox(os.getpid(), allow_weak)


@cache
def _sandbox(process: int, allow_weak: bool) -> Sandbox:
    pool = Sandbox(allow_weak=allow_weak)
    atexit.register(pool.close)
    return pool


def verdicts(task_ids: Sequence[str], answers: Sequence[str],
             allow_weak_sandbox: bool = False) -> list[float | None]:
    """1 for an answer that passes all tests of its task, else 0; equal ones run once.

    None where the sandbox itself failed (`harness_error`): nobody's fault.
    """
    asked = list(zip(task_ids, answers, strict=True))
    once: dict[tuple[str, str], float | None] = dict.fromkeys(asked)
    results = grade_many([task_of(name) for name, _ in once],
                         [text for _, text in once], sandbox(allow_weak_sandbox))
    for key, result in zip(once, results, strict=True):
        if result.verdict != "harness_error":
            once[key] = float(result.verdict == "pass")
    return [once[key] for key in asked]


def trl_reward(completions: Sequence[str | Sequence[dict[str, Any]]],
               reward_model: Sequence[dict[str, str]],
               allow_weak_sandbox: bool = False, **columns: Any) -> list[float | None]:
    """A reward for each completion, text or messages; trl leaves out those of None."""
    texts = [text if isinstance(text, str) else text[-1]["content"]
             for text in completions]
    return verdicts([row["ground_truth"] for row in reward_model], texts,
                    allow_weak_sandbox)


def compute_score(data_source: str, solution_str: str, ground_truth: str,
                  extra_info: dict[str, Any] | None = None, **settings: Any
                  ) -> dict[str, float]:
    """verl's reward of one answer: `compute_scores` of it, from any thread."""
    return compute_scores([data_source], [solution_str], [ground_truth], **settings)[0]


def compute_scores(data_sources: Sequence[str], solution_strs: Sequence[str],
                   ground_truths: Sequence[str],
                   extra_infos: Sequence[dict[str, Any]] | None = None,
                   allow_weak_sandbox: bool = False, **settings: Any
                   ) -> list[dict[str, float]]:
    """verl's rewards of a batch, on all workers of the sandbox.

    verl can leave no answer out: where the sandbox failed the score is 0, and
    `harness_error`, which verl reports beside it, 1.
    """
    found = verdicts(ground_truths, solution_strs, allow_weak_sandbox)
    return [{"score": right or 0.0, "acc": right or 0.0,
             "harness_error": float(right is None)} for right in found]


def rl_tasks(out: Path, families: tuple[str, ...] = ("lists",), train: int = 4096,
             heldout: int = 256, seed: int = 0) -> Path:
    """Write tasks for reinforcement learning with trl or verl.

    Their verdicts are `trl_reward` and `compute_score` of minicoder.scale.rewards.

    Args:
        out: folder for train.parquet and heldout.parquet.
        families: families of tasks.
        train: tasks of each family to learn from.
        heldout: tasks of each family to measure with.
        seed: decides which tasks are drawn.
    """
    at_least(1, families=len(families), train=train, heldout=heldout)
    settings = dict(families=families, train=train, heldout=heldout)
    with stage(out, "rl-tasks", settings, seed=seed) as run:
        if not run.finished:
            for split, count in zip(SPLITS, (train, heldout), strict=True):
                table = pa.Table.from_pylist([row for family in families for row in
                                              rows(family, count, split, seed + 1)])
                pq.write_table(table, run.work / f"{split}.parquet")
            run.headline = (f"{train:,} + {heldout:,} tasks of each of "
                            f"{', '.join(families)}")
    return out
