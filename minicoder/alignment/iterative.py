"""Iterative GRPO: now and then the policy becomes the reference, and the reward model
learns from what the policy writes by then (DeepSeekMath §4.1.4, algorithm 1)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from minicoder.alignment.feedback import SAMPLES, Sample, read_samples
from minicoder.alignment.reward_model import RewardModel, fit
from minicoder.model.transformer import MiniCoder
from minicoder.tokenizer import Tokenizer

REPLAY = 0.1  # share of each batch that is old data


class Phases:
    """The reference and the reward model of each phase, kept in folders of their own.

    A run that goes on reads its phase from there; what a phase began with depends on
    nothing but the run up to then, so that its folder stays right.
    """

    def __init__(self, folder: Path, coder: MiniCoder, tokenizer: Tokenizer,
                 reference: MiniCoder | None, judge: RewardModel | None,
                 old: Sequence[Sample], seed: int) -> None:
        self.folder, self.coder, self.tokenizer = folder, coder, tokenizer
        self.reference, self.judge, self.old = reference, judge, list(old)
        self.seed, self.phase = seed, 0

    def enter(self, phase: int, fresh: Sequence[Sample]) -> None:
        """Make what phase number `phase` needs, or read it; `fresh` are the samples of
        the phase before."""
        if phase == self.phase:
            return
        path = self.folder / str(phase)
        if not path.exists():
            self.enter(phase - 1, ())  # the judge goes on from where it was
            self.make(path, phase, [s for s in fresh if s.judged])
        self.phase = phase
        device = self.coder.lm_head.weight.device
        if self.reference is not None:
            made = MiniCoder.from_pretrained(path / "reference", device)
            self.reference.load_state_dict(made.state_dict())
        if self.judge is not None:
            made = RewardModel.load(path / "judge", device)
            self.judge.load_state_dict(made.state_dict())

    def make(self, path: Path, phase: int, fresh: Sequence[Sample]) -> None:
        """Write a phase's folder, whole or not at all."""
        aside = path.with_name(path.name + ".tmp")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        if self.reference is not None:
            self.coder.save_pretrained(aside / "reference")
        if self.judge is not None:
            (aside / SAMPLES).write_text(
                "".join(json.dumps(asdict(s)) + "\n" for s in fresh), encoding="utf-8")
            past = [*self.old, *(s for earlier in range(1, phase)
                                 for s in read_samples(self.folder / str(earlier)))]
            if fresh:
                fit(self.judge, self.tokenizer, fresh, old=past, replay=REPLAY,
                    seed=self.seed + phase)
            self.judge.save(aside / "judge", self.tokenizer)
        os.rename(aside, path)
