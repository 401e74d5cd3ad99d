"""A model of the verdicts: scalar head, trained point-wise on 0/1 (Coder-V2 §3.5.2).

The paper gives no size, head or loss for its reward model; these are the standard ones.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from minicoder.alignment.chat import prompt_tokens
from minicoder.alignment.feedback import Sample, read_samples
from minicoder.config import ModelConfig
from minicoder.errors import UserError, at_least
from minicoder.model.transformer import MiniCoder
from minicoder.stages import stage, write_json
from minicoder.tokenizer import Tokenizer
from minicoder.training.loop import Plan, pick_device, train


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


def calibration(scores: Float[Tensor, " N"], right: Float[Tensor, " N"], bins: int = 8
                ) -> dict:
    """Accuracy, AUC and predicted against observed share, in bins of equal size."""
    scores, right = scores.cpu().double(), right.cpu().double()
    chance, order = scores.sigmoid(), scores.argsort()
    good, bad = chance[right == 1], chance[right == 0]
    wins = (good[:, None] > bad).double() + 0.5 * (good[:, None] == bad)
    table = [{"predicted": chance[part].mean().item(),
              "observed": right[part].mean().item(), "n": len(part)}
             for part in order.tensor_split(bins) if len(part)]
    return {"accuracy": ((chance > 0.5) == (right == 1)).double().mean().item(),
            "auc": wins.mean().item() if wins.numel() else 0.5,
            "base_rate": right.mean().item(), "n": len(right), "bins": table}


def split_by_prompt(samples: Sequence[Sample], held_out: float, seed: int
                    ) -> tuple[list[Sample], list[Sample]]:
    """Samples to learn from and to test on; all of a prompt's are on one side."""
    prompts = sorted({s.task_id for s in samples})
    random.Random(seed).shuffle(prompts)
    kept = set(prompts[:max(1, int(len(prompts) * held_out))])
    return ([s for s in samples if s.task_id not in kept],
            [s for s in samples if s.task_id in kept])


def reward(
    out: Path, model: Path, samples: Path, steps: int = 100, batch: int = 32,
    lr: float = 5e-4, warmup: int = 10, held_out: float = 0.2, seed: int = 0,
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
        held_out: share of the prompts kept for testing.
        seed: decides the split and the order.
    """
    at_least(1, batch=batch)
    plan = Plan(steps, lr, warmup)
    settings = dict(model=model, samples=samples, steps=steps, batch=batch, lr=lr,
                    warmup=warmup, held_out=held_out)
    with stage(out, "reward", settings, [model, samples], seed) as run:
        if run.finished:
            return out
        device = pick_device()
        run.device = device.type
        tokenizer, coder = MiniCoder.with_tokenizer(model, device)
        judge = RewardModel(coder)
        learn, test = split_by_prompt(read_samples(samples), held_out, seed)

        def row(s: Sample) -> list[int]:
            return [*prompt_tokens(s.prompt, tokenizer), *s.tokens]

        def verdicts(group: Sequence[Sample]) -> Tensor:
            return torch.tensor([float(s.right) for s in group], device=device)

        def step_loss(step: int) -> tuple[Tensor, dict]:
            group = random.Random(f"{seed} {step}").choices(learn, k=batch)
            scores = judge(*scored_batch([row(s) for s in group], device))
            return pointwise_loss(scores, verdicts(group)), {}

        train(judge, step_loss, plan, run.work, "reward")
        found = calibration(score_all(judge, [row(s) for s in test]), verdicts(test))
        write_json(run.work / "calibration.json", found)
        judge.save(run.work, tokenizer)
        run.headline = (f"AUC {found['auc']:.2f} on {found['n']:,} programs for unseen "
                        f"prompts, accuracy {found['accuracy']:.0%}")
    return out
