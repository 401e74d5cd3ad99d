"""What GRPO maximises: advantages within a group and the clipped gain, as published.

Sources: DeepSeekMath (arXiv 2402.03300) §4.1, DeepSeek-V2 eq. 32-34, Dr. GRPO (arXiv
2503.20783), DAPO (arXiv 2503.14476) §3.1, §3.2, §3.3. Letters: P prompts, G answers per
prompt, S steps of an answer, B = P * G rows, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

EPS = 1e-6  # added to a spread that may be zero


@dataclass(frozen=True)
class Objective:
    """One version of GRPO.

    `level` says what has a ratio of its own: each token, or an answer as a whole.
    `average` says what counts the same: each answer; each token of the batch, so that
    long answers count more; or each token, over a number that no length changes.
    `spread` divides a group's advantages by their standard deviation.
    """

    level: Literal["token", "sequence"] = "token"
    average: Literal["answer", "token", "constant"] = "answer"
    spread: bool = True
    clip: float = 0.2        # lower end of the ratio: 1 - clip
    clip_high: float = 0.2   # upper end: 1 + clip_high
    beta: float = 0.0        # weight of the KL term; DeepSeekMath: 0.04
    dynamic: bool = False    # groups without signal are sampled anew
    overlong: bool = False   # answers near the limit lose reward


RECIPES = {
    "deepseek-math": Objective(),                                       # eq. 3
    "deepseek-v2": Objective(level="sequence"),                         # eq. 32
    "dr-grpo": Objective(average="constant", spread=False),
    # DAPO's formula divides by the tokens of a group, its code by those of the batch
    "dapo": Objective(average="token", clip_high=0.28, dynamic=True, overlong=True),
}


def advantages(rewards: Float[Tensor, "P G"], spread: bool = True
               ) -> Float[Tensor, "P G"]:
    """(r - mean) / std within each group (DeepSeek-V2 eq. 34).

    Population std; which one is unverified. Rewards [1, 0, 0, 1] give [1, -1, -1, 1]. A
    group of equal rewards gives zeros, and so does NaN: an answer that could not be
    judged takes no part.
    """
    return step_values(rewards.unsqueeze(-1), spread).squeeze(-1)


def step_values(rewards: Float[Tensor, "P G S"], spread: bool = True
                ) -> Float[Tensor, "P G S"]:
    """Rewards of all steps of a group, normalised together; NaN gives 0."""
    gaps = rewards - rewards.nanmean((1, 2), keepdim=True)
    if spread:
        gaps = gaps / (gaps.square().nanmean((1, 2), keepdim=True).sqrt() + EPS)
    return gaps.nan_to_num(0.0)


def step_advantages(rewards: Float[Tensor, "P G S"], ends: Int[Tensor, "P G S"],
                    length: int, spread: bool = True) -> Float[Tensor, "P G T"]:
    """Process supervision: a token's advantage is the sum of the normalised rewards of
    the steps that end at it or later (DeepSeekMath §4.1.3).

    `ends` holds the place of each step's last token; NaN rewards fill short answers.
    """
    later = ends.unsqueeze(-1) >= torch.arange(length, device=ends.device)
    return (step_values(rewards, spread).unsqueeze(-1) * later).sum(2)


def overlong_penalty(lengths: Int[Tensor, "*any"], limit: int, cache: int
                     ) -> Float[Tensor, "*any"]:
    """0 up to limit - cache tokens, then linear down to -1 at the limit (DAPO eq. 13).

    A limit of 20480 with a cache of 4096 gives 18432 tokens -0.5.
    """
    return ((limit - cache - lengths) / cache).clamp(-1, 0)


def k3(log_ratio: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """x - ln x - 1 with x = pi_ref / pi: an estimate of KL, never negative.

    DeepSeekMath eq. 4; DeepSeek-V2 eq. 33.
    """
    return log_ratio.expm1() - log_ratio  # exact near 0, where exp() - 1 is rounding


def token_weights(lengths: Int[Tensor, " B"], objective: Objective, limit: int
                  ) -> Float[Tensor, " B"]:
    """What each token of these answers, which are the whole batch, counts in the loss.

    `limit` is the longest that an answer may be: Dr. GRPO's constant.
    """
    rows = lengths.new_full(lengths.shape, len(lengths), dtype=torch.double)
    if objective.level == "sequence":
        return 1 / rows
    by = {"answer": lengths * rows, "token": lengths.sum().expand(rows.shape).double(),
          "constant": limit * rows}
    return 1 / by[objective.average]


def of_whole_answers(mask: Bool[Tensor, "B T"], *parts: Float[Tensor, "B T"]
                     ) -> tuple[Bool[Tensor, "B 1"], tuple[Float[Tensor, "B 1"], ...]]:
    """Each answer as a single token, whose log-probability is the sum of theirs.

    With it the objective is that of DeepSeek-V2 eq. 32.
    """
    return mask.any(1, True), tuple((part * mask).sum(1, True) for part in parts)


def grpo_loss(
    new: Float[Tensor, "B T"], old: Float[Tensor, "B T"],
    reference: Float[Tensor, "B T"] | None,
    advantage: Float[Tensor, " B"] | Float[Tensor, "B T"], mask: Bool[Tensor, "B T"],
    objective: Objective = RECIPES["deepseek-math"],
    weight: Float[Tensor, " B"] | None = None,
) -> Float[Tensor, ""]:
    """The clipped objective with the KL term inside, negated (DeepSeekMath eq. 3).

    `new`, `old`, `reference` are log-probabilities of the answers' tokens. No
    reference, no KL. `weight` is of `token_weights` where these are not all answers.
    """
    if weight is None:
        weight = token_weights(mask.sum(1), objective, mask.shape[1])
    if objective.level == "sequence":
        if reference is not None:
            _, (reference,) = of_whole_answers(mask, reference)
        mask, (new, old) = of_whole_answers(mask, new, old)
    a = advantage if advantage.ndim == 2 else advantage.unsqueeze(1)
    ratio = (new - old).exp()
    gain = torch.minimum(
        ratio * a, ratio.clamp(1 - objective.clip, 1 + objective.clip_high) * a)
    if reference is not None:
        gain = gain - objective.beta * k3(reference - new)
    return -(gain * mask * weight.to(gain.dtype).unsqueeze(1)).sum()


@torch.no_grad()
def clip_share(
    new: Float[Tensor, "B T"], old: Float[Tensor, "B T"],
    advantage: Float[Tensor, " B"] | Float[Tensor, "B T"], mask: Bool[Tensor, "B T"],
    objective: Objective,
) -> float:
    """Share of the tokens, or answers, that clipping leaves without a gradient."""
    if objective.level == "sequence":
        mask, (new, old) = of_whole_answers(mask, new, old)
    a = advantage if advantage.ndim == 2 else advantage.unsqueeze(1)
    ratio = (new - old).exp()
    stuck = ((ratio > 1 + objective.clip_high) & (a > 0)
             | (ratio < 1 - objective.clip) & (a < 0))
    return stuck[mask].float().mean().item()
