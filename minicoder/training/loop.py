"""The one training loop: pre-training, extension, SFT, reward model and GRPO use it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from minicoder.errors import UserError, at_least
from minicoder.model.balance import expert_balance_loss, expert_load
from minicoder.model.moe import Routing
from minicoder.model.transformer import MiniCoder
from minicoder.progress import progress
from minicoder.stages import read_jsonl, sync, write_text
from minicoder.training.checkpoints import load_state, save_state
from minicoder.training.optimizer import adamw
from minicoder.training.schedule import cosine

SECONDS_BETWEEN_CHECKPOINTS = 30.0
IGNORE = -100  # a target that takes no part in the loss


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train."""

    steps: int
    lr: float
    warmup: int = 20
    floor: float = 0.1
    weight_decay: float = 0.1
    clip: float = 1.0        # V2's; Coder-V2's is not stated
    log_every: int = 10

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        at_least(0, warmup=self.warmup)
        if not 0 < self.lr < math.inf:
            raise UserError(f"--lr {self.lr} must be a number above 0.")


# A step's loss and what to note of it. Must depend on the step number and the weights
# alone: that is what makes an interrupted run end with the same numbers.
StepLoss = Callable[[int], tuple[Tensor | None, dict]]


def pick_device() -> torch.device:
    """CUDA or Apple's GPU where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def train(model: nn.Module, step_loss: StepLoss, plan: Plan, work: Path, name: str
          ) -> list[dict]:
    """Train, going on from the newest checkpoint in `work/state`; return the metrics.

    Every `log_every` steps a line is added to `work/metrics.jsonl`.
    """
    optimizer = adamw(model, plan.lr, plan.weight_decay)
    first = load_state(work / "state", model, optimizer)
    path = work / "metrics.jsonl"
    kept = [m for m in read_jsonl_prefix(path) if m["step"] < first]
    write_text(path, "".join(json.dumps(m) + "\n" for m in kept))
    saved = time.monotonic()
    model.train()
    for step in progress(range(first, plan.steps), name, "step", plan.steps, first):
        noted = one_step(model, optimizer, step_loss, plan, step)
        if step % plan.log_every == 0 or step == plan.steps - 1:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(noted) + "\n")
        if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
            sync(path)
            save_state(work / "state", step + 1, model, optimizer)
            saved = time.monotonic()
    model.eval()
    return read_jsonl(path)


def one_step(model: nn.Module, optimizer: torch.optim.Optimizer, step_loss: StepLoss,
             plan: Plan, step: int) -> dict:
    """One update; a step whose loss is None (nothing to learn from) changes nothing."""
    lr = cosine(step, plan.steps, plan.lr, plan.warmup, plan.floor)
    for group in optimizer.param_groups:
        group["lr"] = lr
    loss, noted = step_loss(step)
    record = {"step": step, "lr": lr}
    if loss is not None:
        if not torch.isfinite(loss):
            raise UserError(f"The loss is {loss.item()} at step {step}; a smaller "
                            f"learning rate than {plan.lr} may help.")
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        record |= {"loss": loss.item(), "grad_norm": norm.item()}
    return record | noted


def read_jsonl_prefix(path: Path) -> list[dict]:
    """The whole lines of a log whose last line a kill may have cut."""
    found = []
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def token_losses(model: MiniCoder, tokens: Int[Tensor, "B T"],
                 targets: Int[Tensor, "B T"], seen: list[Routing] | None = None
                 ) -> Float[Tensor, " N"]:
    """Cross-entropy in nats of each target that is not `IGNORE`, in reading order.

    Logits are made for those alone: with a small model the output matrix is dear.
    """
    counts = targets != IGNORE
    hidden = model.model(tokens, seen)[counts]
    return F.cross_entropy(model.lm_head(hidden).float(), targets[counts],
                           reduction="none")


def balanced_loss(model: MiniCoder, tokens: Int[Tensor, "B T"],
                  targets: Int[Tensor, "B T"], alpha: float) -> tuple[Tensor, dict]:
    """Next-token loss plus alpha times the expert balance losses of all layers."""
    seen: list[Routing] = []
    language = token_losses(model, tokens, targets, seen).mean()
    noted = {"language_loss": language.item(), "tokens": targets.numel()}
    if not seen:
        return language, noted
    balance = torch.stack(
        [expert_balance_loss(r, tokens.shape[0]) for r in seen]).sum()
    noted |= {"balance_loss": balance.item() / len(seen),
              "expert_load": [[round(v, 4) for v in expert_load(r).tolist()]
                              for r in seen]}
    return language + alpha * balance, noted
