"""The one training loop: pre-training, extension, SFT, reward model and GRPO use it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from minicoder.errors import UserError, at_least
from minicoder.model.balance import expert_balance_loss, expert_load
from minicoder.model.moe import Routing
from minicoder.model.transformer import MiniCoder
from minicoder.parallel.layout import ALONE, Team
from minicoder.parallel.parallelize import clip
from minicoder.parallel.shards import load_shards, save_shards
from minicoder.progress import progress
from minicoder.stages import Kept, read_jsonl, sync, write_text
from minicoder.training.board import no_board, open_board, show_on
from minicoder.training.checkpoints import KEPT, Draws
from minicoder.training.ledger import Ledger
from minicoder.training.optimizer import adamw
from minicoder.training.schedule import Schedule, rate
from minicoder.training.spikes import Spikes

SECONDS_BETWEEN_CHECKPOINTS = 30.0
IGNORE = -100  # a target that takes no part in the loss


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train, and what to keep of it."""

    steps: int
    lr: float
    warmup: int = 20
    floor: float = 0.1
    weight_decay: float = 0.1
    clip: float = 1.0        # V2's; Coder-V2's is not stated
    log_every: int = 10
    schedule: Schedule = "cosine"
    spike: float = 0.0       # 0: no step is left out
    keep: int = KEPT         # checkpoints to resume from
    tensorboard: bool = False

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, keep=self.keep)
        at_least(0, warmup=self.warmup, weight_decay=self.weight_decay)
        Spikes(self.spike)
        if self.schedule not in get_args(Schedule):
            raise UserError(f"--schedule {self.schedule}: choose one of "
                            f"{', '.join(get_args(Schedule))}.")
        if not 0 <= self.floor <= 1:
            raise UserError(f"--floor {self.floor} must lie between 0 and 1.")
        for name in ("lr", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"--{name} {getattr(self, name)} must be a number "
                                "above 0.")


# A step's loss and what to note of it; "sources" of these are tokens for the ledger.
# Must depend on the step, the weights and the generators that `Draws` keeps alone: that
# is what makes an interrupted run end with the same numbers.
StepLoss = Callable[[int], tuple[Tensor | None, dict]]


def pick_device() -> torch.device:
    """CUDA or Apple's GPU where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def train(model: nn.Module, step_loss: StepLoss, plan: Plan, work: Path, name: str,
          ledger: Ledger | None = None, also: Mapping[str, Kept] | None = None,
          team: Team = ALONE) -> list[dict]:
    """Train, going on from the newest checkpoint in `work/state`; return the metrics.

    Every `log_every` steps a line is added to `work/metrics.jsonl`, and one of the
    speed, which no two runs share, to `work/timing.jsonl`; steps that were left out
    are noted always. With a `ledger`, `work/ledger.json` says what was read. `also` is
    what `step_loss` must find as it was when the run goes on. In a `team` each process
    holds its shards of the model, and the main one writes the logs.
    """
    optimizer, spikes = adamw(model, plan.lr, plan.weight_decay), Spikes(plan.spike)
    books = ledger or Ledger(name)
    kept = {"ledger": books, "spikes": spikes, "draws": Draws()} | dict(also or {})
    state = work / "state"
    first = load_shards(state, model, optimizer, kept, team)
    saved, said, speed = time.monotonic(), dict[str, str](), Speed()
    model.train()
    with open_log(work, first, plan, team) as log:
        steps = range(first, plan.steps)
        for step in progress(steps, name, "step", plan.steps, first, said
                             ) if team.main else steps:
            noted = one_step(model, optimizer, step_loss, plan, step, spikes, team)
            if sources := noted.pop("sources", {}):
                books.add(sources, "skipped" in noted)
                noted["tokens_seen"] = books.total
            speed.add(noted, said)
            if step % plan.log_every == 0 or step == plan.steps - 1 or (
                    "skipped" in noted):
                log(noted, speed.record(step))
            late = time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
            if team.share(late):
                if team.main:
                    sync(work / "metrics.jsonl")
                save_shards(state, step + 1, model, optimizer, kept, team, plan.keep)
                saved = time.monotonic()
    model.eval()
    if ledger and team.main:
        ledger.save(work)
    return read_jsonl(work / "metrics.jsonl") if team.main else []


@contextmanager
def open_log(work: Path, first: int, plan: Plan, team: Team
             ) -> Iterator[Callable[[dict, dict], None]]:
    """What writes a step's record and its speed; only the main process of a team does.

    Lines from the step `first` on are taken out: the run goes on before them.
    """
    if not team.main:
        yield lambda noted, speed: None
        return
    path = work / "metrics.jsonl"
    mended = [m for m in read_jsonl_prefix(path) if m["step"] < first]
    write_text(path, "".join(json.dumps(m) + "\n" for m in mended))
    board = open_board(work / "tensorboard", first) if plan.tensorboard else no_board()
    with board as shown:
        def write(noted: dict, speed: dict) -> None:
            append(path, noted)
            append(work / "timing.jsonl", speed)
            if plan.tensorboard:
                show_on(shown, noted | speed)

        yield write


class Speed:
    """Tokens a second since training began or went on."""

    def __init__(self) -> None:
        self.began, self.tokens = time.monotonic(), 0

    def add(self, noted: dict, said: dict[str, str]) -> None:
        """Count a step's tokens, and say how it goes."""
        self.tokens += noted.get("tokens", 0)
        loss = noted.get("language_loss", noted.get("loss"))
        said |= {} if loss is None else {"loss": f"{loss:.3f}"}
        if self.tokens:
            said["tokens/s"] = f"{self.record(0)['tokens_per_second']:,.0f}"

    def record(self, step: int) -> dict:
        """A line of timing.jsonl."""
        seconds = time.monotonic() - self.began
        return {"step": step, "seconds": round(seconds, 3),
                "tokens_per_second": round(self.tokens / max(seconds, 1e-9), 1)}


def append(path: Path, line: dict) -> None:
    """Add a line of JSON to a log."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def one_step(model: nn.Module, optimizer: torch.optim.Optimizer, step_loss: StepLoss,
             plan: Plan, step: int, spikes: Spikes, team: Team = ALONE) -> dict:
    """One update; a step whose loss is None (nothing to learn from) changes nothing,
    and neither does one whose gradient is a spike.

    A loss without a graph has been sent back already (pipelines do it on the way).
    """
    lr = rate(plan.schedule, step, plan.steps, plan.lr, plan.warmup, plan.floor)
    for group in optimizer.param_groups:
        group["lr"] = lr
    loss, noted = step_loss(step)
    record = {"step": step, "lr": lr}
    if loss is not None:
        value = team.mean({"loss": loss})["loss"].item()
        if not math.isfinite(value):
            raise UserError(f"The loss is {value} at step {step}; a smaller "
                            f"learning rate than {plan.lr} may help.")
        if loss.requires_grad:
            loss.backward()
        norm = clip(model, plan.clip, team)
        record |= {"loss": value, "grad_norm": norm.item()}
        left_out = spikes.judge(record["grad_norm"], step)
        record |= left_out
        if not left_out:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
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
                 targets: Int[Tensor, "B T"], seen: list[Routing] | None = None,
                 read: Callable[..., Tensor] | None = None) -> Float[Tensor, " N"]:
    """Cross-entropy in nats of each target that is not `IGNORE`, in reading order.

    Logits are made for those alone: with a small model the output matrix is dear.
    `read` gives hidden states in another way than `model.model`.
    """
    counts = targets != IGNORE
    hidden = (read or model.model)(tokens, seen)[counts]
    logits = model.lm_head(hidden)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, targets[counts], reduction="none")


def balanced_loss(model: MiniCoder, tokens: Int[Tensor, "B T"],
                  targets: Int[Tensor, "B T"], alpha: float,
                  read: Callable[..., Tensor] | None = None) -> tuple[Tensor, dict]:
    """Next-token loss plus alpha times the expert balance losses of all layers."""
    seen: list[Routing] = []
    language = token_losses(model, tokens, targets, seen, read).mean()
    noted = {"language_loss": language.item(), "tokens": targets.numel()}
    if not seen:
        return language, noted
    balance = torch.stack(
        [expert_balance_loss(r, tokens.shape[0]) for r in seen]).sum()
    noted |= {"balance_loss": balance.item() / len(seen),
              "expert_load": [[round(v, 4) for v in expert_load(r).tolist()]
                              for r in seen]}
    return language + alpha * balance, noted
