"""A model of the verdicts: a scalar head on a coder (Coder-V2 §3.5.2).

The paper gives no size, head or loss for its reward model; these are the standard ones,
point-wise on 0/1 and pair-wise on a right and a wrong program of the same prompt.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from minicoder.alignment.calibration import calibration, cross_fitted, platt
from minicoder.alignment.chat import prompt_tokens
from minicoder.alignment.feedback import Sample, pairs, read_samples
from minicoder.config import ModelConfig
from minicoder.errors import UserError, at_least
from minicoder.model.transformer import MiniCoder
from minicoder.stages import stage, write_json
from minicoder.tokenizer import Tokenizer
from minicoder.training.loop import Plan, StepLoss, one_step, pick_device, train
from minicoder.training.optimizer import adamw
from minicoder.training.spikes import Spikes

Loss = Literal["pointwise", "pairwise"]


class RewardModel(nn.Module):
    """A language model's body with one number read off the last token."""

    def __init__(self, coder: MiniCoder) -> None:
        super().__init__()
        self.coder = coder
        weight = coder.lm_head.weight
        self.score = nn.Linear(weight.shape[1], 1).to(weight)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    @property
    def config(self) -> ModelConfig:
        """The configuration of the body."""
        return self.coder.config

    def forward(self, tokens: Int[Tensor, "B T"], last: Int[Tensor, " B"]
                ) -> Float[Tensor, " B"]:
        """The logit of "this passes its tests", read at column `last` of each row."""
        hidden = self.coder.model(tokens)
        rows = torch.arange(len(tokens), device=tokens.device)
        return self.score(hidden[rows, last]).squeeze(-1)

    def save(self, folder: Path, tokenizer: Tokenizer) -> None:
        """Write the body as an ordinary checkpoint, the head beside it."""
        self.coder.save_pretrained(folder, tokenizer)
        save_file(self.score.state_dict(), folder / "score.safetensors")

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> RewardModel:
        """Read what `save` wrote."""
        path = Path(folder) / "score.safetensors"
        if not path.exists():
            raise UserError(f"{folder} holds no reward model: {path.name} is missing.")
        model = cls(MiniCoder.from_pretrained(folder, device))
        model.score.load_state_dict(load_file(path, str(device)))
        return model.eval()


def scored_batch(rows: Sequence[Sequence[int]], device: torch.device
                 ) -> tuple[Int[Tensor, "B T"], Int[Tensor, " B"]]:
    """Conversations padded on the right, and where each one ends."""
    length = max(map(len, rows))
    tokens = torch.tensor([list(r) + [0] * (length - len(r)) for r in rows])
    last = torch.tensor([len(r) - 1 for r in rows])
    return tokens.to(device), last.to(device)


def pointwise_loss(scores: Float[Tensor, " B"], right: Float[Tensor, " B"]
                   ) -> Float[Tensor, ""]:
    """Binary cross-entropy of sigma(score) against the verdicts."""
    return F.binary_cross_entropy_with_logits(scores, right)


def pairwise_loss(winners: Float[Tensor, " B"], losers: Float[Tensor, " B"]
                  ) -> Float[Tensor, ""]:
    """-ln sigma(winner - loser): a right program beside a wrong one of its prompt."""
    return -F.logsigmoid(winners - losers).mean()


@torch.no_grad()
def score_all(model: RewardModel, rows: Sequence[Sequence[int]], batch: int = 128
              ) -> Float[Tensor, " N"]:
    """Rewards of many conversations, each a list of tokens."""
    device = model.score.weight.device
    return torch.cat([model(*scored_batch(rows[i:i + batch], device))
                      for i in range(0, len(rows), batch)])


def split_by_prompt(samples: Sequence[Sample], held_out: float, seed: int
                    ) -> tuple[list[Sample], list[Sample]]:
    """Samples to learn from and to test on; all of a prompt's are on one side."""
    prompts = sorted({s.task_id for s in samples})
    random.Random(seed).shuffle(prompts)
    kept = set(prompts[:max(1, int(len(prompts) * held_out))])
    return ([s for s in samples if s.task_id not in kept],
            [s for s in samples if s.task_id in kept])


def row(sample: Sample, tokenizer: Tokenizer) -> list[int]:
    """A prompt and its answer as one conversation."""
    return [*prompt_tokens(sample.prompt, tokenizer), *sample.tokens]


def verdicts(samples: Sequence[Sample], device: torch.device | None = None
             ) -> Float[Tensor, " N"]:
    """1 for each program that passed its tests, 0 for the others."""
    return torch.tensor([float(s.right) for s in samples], device=device)


def verdict_loss(
    judge: RewardModel, tokenizer: Tokenizer, samples: Sequence[Sample],
    batch: int = 32, loss: Loss = "pointwise", old: Sequence[Sample] = (),
    replay: float = 0.1, seed: int = 0,
) -> StepLoss:
    """The loss of `batch` programs a step, a share `replay` of them from `old` ones.

    Raises `UserError` when there is nothing to learn from.
    """
    device = judge.score.weight.device
    fresh, past = ((pairs(part) if loss == "pairwise" else list(part))
                   for part in (samples, old))
    if not fresh:
        raise UserError(f"--loss {loss} has nothing to learn from: " + (
            "no prompt has a right and a wrong program." if samples
            else "there are no judged programs."))
    size = max(1, batch // 2) if loss == "pairwise" else batch
    kept = round(size * replay) if past else 0

    def scores(group: Sequence[Sample]) -> Tensor:
        return judge(*scored_batch([row(s, tokenizer) for s in group], device))

    def step_loss(step: int) -> tuple[Tensor, dict]:
        draw = random.Random(f"{seed} {step}")
        group = draw.choices(fresh, k=size - kept) + draw.choices(past, k=kept)
        if loss == "pointwise":
            return pointwise_loss(scores(group), verdicts(group, device)), {}
        winners, losers = zip(*group, strict=True)
        return pairwise_loss(*scores([*winners, *losers]).chunk(2)), {}

    return step_loss


def fit(
    judge: RewardModel, tokenizer: Tokenizer, samples: Sequence[Sample],
    steps: int = 20, lr: float = 1e-4, batch: int = 32, loss: Loss = "pointwise",
    old: Sequence[Sample] = (), replay: float = 0.1, seed: int = 0,
) -> list[float]:
    """Train a reward model further, in place and at a constant rate; the losses.

    With `old` samples, a share `replay` of each batch is theirs (DeepSeekMath §4.1.4).
    """
    step_loss = verdict_loss(judge, tokenizer, samples, batch, loss, old, replay, seed)
    plan, spikes = Plan(steps, lr, warmup=0, floor=1.0), Spikes()
    optimizer = adamw(judge, lr, plan.weight_decay)
    judge.train()
    losses = [one_step(judge, optimizer, step_loss, plan, step, spikes)["loss"]
              for step in range(steps)]
    judge.eval()
    return losses


def measure(judge: RewardModel, tokenizer: Tokenizer, test: Sequence[Sample], seed: int
            ) -> dict:
    """Calibration on held-out programs; the head is rescaled where that helps.

    Platt's scale and shift are fitted on one half of the prompts and measured on the
    other, both ways; they are kept, fitted on all, if the log loss falls by that. The
    figures are then the rescaled ones, "raw" those without.
    """
    scores = score_all(judge, [row(s, tokenizer) for s in test]).cpu().double()
    right = verdicts(test).double()
    one = {s.task_id for s in split_by_prompt(test, 0.5, seed)[1]}
    scaled = cross_fitted(scores, right,
                          torch.tensor([s.task_id in one for s in test]))
    raw, better = calibration(scores, right), calibration(scaled, right)
    scale, shift = platt(scores, right)
    note = {"kept": scale > 0 and better["log_loss"] < raw["log_loss"], "scale": scale,
            "shift": shift, "raw": {k: raw[k] for k in ("accuracy", "ece", "log_loss")}}
    if note["kept"]:
        with torch.no_grad():
            judge.score.weight.mul_(scale)
            judge.score.bias.mul_(scale).add_(shift)
    return (better if note["kept"] else raw) | {"platt": note}


def reward(
    out: Path, model: Path, samples: Path, steps: int = 100, batch: int = 32,
    lr: float = 5e-4, warmup: int = 10, loss: Loss = "pointwise",
    held_out: float = 0.2, seed: int = 0,
) -> Path:
    """Train a reward model on judged programs, and test it on prompts it never saw.

    Args:
        out: folder to write the reward model to.
        model: folder of the fine-tuned checkpoint that it starts from.
        samples: folder of the feedback stage.
        steps: optimizer steps.
        batch: programs per step.
        lr: peak learning rate.
        warmup: steps of linear warm-up.
        loss: on single verdicts, or on a right and a wrong program of the same prompt.
        held_out: share of the prompts kept for testing.
        seed: decides the split and the order.
    """
    at_least(1, batch=batch)
    if not 0 < held_out < 1:
        raise UserError(f"--held-out {held_out} must be a share between 0 and 1.")
    plan = Plan(steps, lr, warmup)
    settings = dict(model=model, samples=samples, steps=steps, batch=batch, lr=lr,
                    warmup=warmup, loss=loss, held_out=held_out)
    with stage(out, "reward", settings, [model, samples], seed) as run:
        if run.finished:
            return out
        device = pick_device()
        run.device = device.type
        tokenizer, coder = MiniCoder.with_tokenizer(model, device)
        judge = RewardModel(coder)
        learn, test = split_by_prompt(read_samples(samples), held_out, seed)
        train(judge, verdict_loss(judge, tokenizer, learn, batch, loss, seed=seed),
              plan, run.work, "reward")
        found = measure(judge, tokenizer, test, seed)
        write_json(run.work / "calibration.json", found)
        judge.save(run.work, tokenizer)
        run.headline = (f"AUC {found['auc']:.2f} on {found['n']:,} programs for unseen "
                        f"prompts, accuracy {found['accuracy']:.0%}")
    return out
