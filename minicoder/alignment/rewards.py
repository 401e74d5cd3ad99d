"""What an answer is worth: tests, a reward model, a rule of style; also by lines.

Source: DeepSeek-V2 §4.2 (eq. 35-36: rewards are summed with weights, whose values are
not published), Coder-V2 §3.5.2, DeepSeekMath §4.1.3.
"""

from __future__ import annotations

import ast
import codeop
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minicoder.alignment.feedback import Sample
from minicoder.alignment.reward_model import RewardModel, row, score_all
from minicoder.tokenizer import Tokenizer

NO_SOURCE = (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError)
LONGEST_LINE = 79


@dataclass
class Rewards:
    """c1 * tests + c2 * model + c3 * style; the model's part is a probability."""

    tokenizer: Tokenizer
    weights: tuple[float, float, float] = (1.0, 0.0, 0.0)
    model: RewardModel | None = None

    def __call__(self, samples: Sequence[Sample]) -> Float[Tensor, " B"]:
        """A reward for each; NaN where tests count and the sandbox failed."""
        tests, model, style = self.weights
        total = torch.zeros(len(samples))
        if tests:
            total += tests * torch.tensor(
                [float(s.right) if s.judged else math.nan for s in samples])
        if model and self.model is not None:
            rows = [row(s, self.tokenizer) for s in samples]
            total += model * score_all(self.model, rows).sigmoid().cpu()
        if style:
            total += style * torch.tensor([tidiness(s.program) for s in samples])
        return total


def tidiness(program: str) -> float:
    """Share of three rules kept: it is Python, one function and nothing else; no line
    is longer than 79 characters; nothing is computed and thrown away."""
    try:
        body = ast.parse(program).body
    except NO_SOURCE:
        return 0.0
    only = len(body) == 1 and isinstance(body[0], ast.FunctionDef)
    short = all(len(line) <= LONGEST_LINE for line in program.split("\n"))
    idle = any(isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call)
               and not (isinstance(node.value, ast.Constant)
                        and isinstance(node.value.value, str))
               for part in body for node in ast.walk(part))
    return (only + short + (not idle)) / 3


def begins_program(text: str) -> bool:
    """Whether some program starts with these lines; nothing is run."""
    lines = [line for line in text.split("\n") if not line.startswith("```")]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            codeop.compile_command("\n".join(lines), symbol="exec")
    except NO_SOURCE:
        return False
    return True


def steps_of(sample: Sample, tokenizer: Tokenizer) -> tuple[list[float], list[int]]:
    """A reward for each line of a program, and the place of the line's last token.

    The last line gets the share of tests passed; each one before it 1 when a program
    can still begin like this, and 0 when it cannot. That is a checker's signal, where
    DeepSeekMath has a process reward model's.
    """
    ends, text, last = [], b"", len(sample.tokens) - 1
    rewards = []
    for place, token in enumerate(sample.tokens[:-1]):
        piece = tokenizer.decode_bytes([token])
        text += piece
        if b"\n" in piece and text.strip():
            rewards.append(float(begins_program(
                text.decode("utf-8", "replace").strip())))
            ends.append(place)
    share = sample.passed / max(1, sample.total) if sample.judged else math.nan
    return [*rewards, share], [*ends, last]


def step_rewards(samples: Sequence[Sample], tokenizer: Tokenizer
                 ) -> tuple[Float[Tensor, "B S"], Int[Tensor, "B S"]]:
    """`steps_of` all samples as one block, filled up with NaN; all NaN, not judged."""
    found = [steps_of(s, tokenizer) for s in samples]
    width = max(len(ends) for _, ends in found)
    rewards = torch.full((len(samples), width), math.nan)
    places = torch.zeros(len(samples), width, dtype=torch.long)
    for line, (sample, (values, ends)) in enumerate(zip(samples, found, strict=True)):
        if sample.judged:
            rewards[line, :len(ends)] = torch.tensor(values)
        places[line, :len(ends)] = torch.tensor(ends)
    return rewards, places
