# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 11 · GRPO: the group is the baseline; loss 0, gradient not
#
# A fine-tuned model writes right programs and wrong ones. Running them tells which is
# which. GRPO turns these verdicts into a gradient, with no second network that guesses
# values: the answers to one question judge one another. You compute it by hand, break
# it in the ways in which it is often broken, and run it on programs that a sandbox
# judges.
#
# - **You will be able to** *compute* advantages, the clipped loss and the KL estimate
#   by hand; *predict* when clipping acts and which groups teach; *test* whether a run
#   learns, and whether it teaches or only sharpens.
# - **You need first:** lesson 00, sections 6 and 7. Lessons 09 and 10 help.
# - **Time:** about a minute on one quiet CPU core; 40 minutes to read, 35
#   minutes for the exercises.
# - **Paper:** DeepSeekMath (arXiv 2402.03300) §4.1, eq. 3 and 4; DeepSeek-V2
#   (arXiv 2405.04434) §4.2, eq. 32–34; DeepSeek-Coder-V2 (arXiv 2406.11931) §3.5.2.
#
# DeepSeek-Coder-V2 gives no setting of its reinforcement learning: no learning rate, no
# group size, no KL weight. Numbers that are quoted for it are DeepSeekMath's, and so
# are ours.

# %% tags=["nbval-skip", "remove-cell"]
import os
import sys

shell = get_ipython()  # noqa: F821
if "google.colab" in sys.modules and not os.path.exists("../pyproject.toml"):
    # Colab opens a notebook without the files that lie beside it
    shell.system("test -d minicoder || git clone -q --depth 1 REPOSITORY minicoder")
    shell.run_line_magic("cd", "-q minicoder/notebooks")
try:
    import minicoder  # noqa: F401
except ImportError:  # a hosted notebook: install the clone that this file lies in
    shell.run_line_magic("pip", "install -q ..")

# %%
import copy
import math
import random
import re
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from minicoder.show.check import check, hint, solution  # noqa: F401
from minicoder.show.slider import frame_slider
from minicoder.show.style import label_lines, use_style
from minicoder.stages import read_json

torch.set_num_threads(1)  # small matrices: a second thread would cost, not help
colours = use_style()
f64 = torch.float64

# %% [markdown]
# ## 1. Better than whom?
#
# A reward of 1 says little. On an easy question every program passes; on a hard one a
# pass is news. GRPO samples a **group** of $G$ answers to the same question and
# compares each reward with the group:
#
# $$ A_i = \frac{r_i - \text{mean}(r)}{\text{std}(r)} $$
#
# This is the **advantage**. Every token of answer $i$ gets it.
#
# **Predict.** Two of four programs pass. What are the advantages with the population's
# deviation (divide by $n$), and what with the sample's ($n - 1$)?

# %%
from minicoder.alignment.objectives import advantages

rewards = [1.0, 0.0, 0.0, 1.0]
mean = sum(rewards) / 4
gaps = [r - mean for r in rewards]
for name, n in (("population", 4), ("sample", 3)):
    std = math.sqrt(sum(g * g for g in gaps) / n)
    print(f"{name:<11}mean {mean}, std {std:.5f}, advantages",
          [round(g / std, 4) for g in gaps])
torch.testing.assert_close(advantages(torch.tensor([rewards], dtype=f64))[0],
                           torch.tensor([1, -1, -1, 1], dtype=f64), rtol=0, atol=1e-5)

# %% [markdown]
# **Explain.** The papers do not say which deviation they mean (unverified). The library
# takes the population's. Implementations differ here, so two correct ones can differ by
# a factor: $\sqrt{4/3}$ in this group.
#
# **Predict.** What do these five groups get: a lone right answer; a lone wrong one; all
# right; none right; and one in which the sandbox itself failed once, so that nobody
# knows whether that program is right?

# %%
groups = {"a lone right one": [1, 0, 0, 0, 0], "a lone wrong one": [0, 1, 1, 1, 1],
          "all right": [1] * 5, "none right": [0] * 5,
          "one not judged": [math.nan, 1, 0, 0, 1]}
found = advantages(torch.tensor(list(groups.values()), dtype=f64))
for name, row in zip(groups, found, strict=True):
    print(f"{name:<18}", [round(a, 2) + 0.0 for a in row.tolist()])
assert not found[2:4].any() and found[4, 0] == 0

# %% [markdown]
# **Explain.** The rare answer gets the large advantage. **A group without variance
# gives zeros**: there is nothing to compare. And what was not judged takes no part: a
# reward of 0 for it would blame the program for the sandbox.
#
# **Predict.** Move the slider from 0 to 8 right answers of 8. Where is the push on a
# right answer largest? Dr. GRPO leaves the division out. Where do the two differ most?

# %% tags=["nbval-ignore-output"]
def draw_group(k):
    row = torch.tensor([[1.0] * k + [0.0] * (8 - k)])
    figure, axes = plt.subplots(figsize=(6.4, 2.9))
    for shift, spread, width in ((-0.2, True, 0.38), (0.2, False, 0.38)):
        values = advantages(row, spread)[0].tolist()
        bars = axes.bar([i + shift for i in range(8)], values, width,
                        color=[colours["good" if i < k else "bad"] for i in range(8)],
                        alpha=1 if spread else 0.45)
        axes.bar_label(bars, [f"{v:.1f}" if v else "0" for v in values], fontsize=8,
                       padding=2)
    axes.set(ylim=(-3.3, 3.3), xticks=range(8), ylabel="advantage",
             xticklabels=["right"] * k + ["wrong"] * (8 - k),
             title=f"{k} of 8 right" + (": nothing to learn" if k in (0, 8) else ""))
    axes.axhline(0, color=colours["muted"], linewidth=0.8)
    return figure


frame_slider([draw_group(k) for k in range(9)],
             [f"{k} of 8 right; dark GRPO, pale Dr. GRPO" for k in range(9)],
             name="grpo-group", start=2)

# %% [markdown]
# **Explain.** A right answer that stands alone is pushed most: by 2.6, where Dr. GRPO
# gives 0.9. The two differ most where one answer stands alone, right or wrong. With 0
# or 8 right both give zeros.
#
# The still picture of it, for groups of 16, and the chance that a group teaches at all:
#
# ![Left: the advantage of a right and a wrong answer over how many of 16 pass; a lone
# right one gets 3.87. Right: the chance that a group holds both kinds, for groups of 4,
# 16 and 64; it is 0 where no answer or every answer is
# right.](../figures/grpo-light.svg)
#
# ### Exercise 1 · advantages (medium, important, 10 minutes)

# %% tags=["nbval-ignore-output"]
def my_advantages(rewards: torch.Tensor, spread: bool = True) -> torch.Tensor:
    """(r - mean) / std in each row, a group; with spread=False not divided.

    NaN is an answer that was not judged: it takes no part and gets 0.
    """
    ...


check("grpo.advantages", my_advantages)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def my_advantages(rewards, spread=True):
#     gaps = rewards - rewards.nanmean(1, keepdim=True)
#     if spread:
#         gaps = gaps / (gaps.square().nanmean(1, keepdim=True).sqrt() + 1e-6)
#     return gaps.nan_to_num(0.0)
# ```
#
# </details>
#
# ### Exercise 2 · the group without variance (easy, important, 5 minutes)
#
# A question is answered rightly with chance $p$. How likely does a group of $G$ teach?

# %% tags=["nbval-ignore-output"]
def signal(p: float, group: int) -> float:
    """Chance that `group` answers, each right with chance p, do not all agree."""
    ...


check("grpo.signal", signal)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def signal(p, group):
#     return 1 - p ** group - (1 - p) ** group
# ```
#
# DeepSeekMath samples 64 answers to a question. With $p = 0.01$ such a group teaches
# with chance 0.47, a group of 4 with 0.04. DAPO's *dynamic sampling* drops groups
# without variance and samples others until the batch is full.
#
# </details>
#
# ## 2. The loss is 0, its gradient is not
#
# With $\pi_{old}$ the policy that sampled, each token has a ratio $\rho$ of its
# probability now to its probability then. Without clipping and KL, DeepSeekMath's loss
# is
#
# $$ L = -\frac1G \sum_i \frac{1}{|o_i|} \sum_t \rho_{i,t} A_i,
# \qquad \rho_{i,t} = \frac{\pi_\theta(o_{i,t})}{\pi_{old}(o_{i,t})}. $$
#
# **Predict.** Four answers of 2, 4, 4 and 2 tokens, advantages 1, −1, −1, 1, and
# nothing updated yet, so $\rho = 1$. What is $L$? What is $\partial L / \partial \ln
# \pi$ of a token of the first answer?

# %%
from minicoder.alignment.objectives import RECIPES, grpo_loss

mask = torch.arange(4) < torch.tensor([2, 4, 4, 2])[:, None]
A = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=f64)
old = torch.full((4, 4), -0.7, dtype=f64)
new = old.clone().requires_grad_()
by_hand = -(((new - old).exp() * A[:, None] * mask).sum(1) / mask.sum(1)).mean()
loss = grpo_loss(new, old, None, A, mask)
torch.testing.assert_close(loss, by_hand)
loss.backward()
print(f"loss {abs(loss.item()):.3f}")
for row, size in zip(new.grad, mask.sum(1).tolist(), strict=True):
    print(f"{size} tokens, gradient", [round(g, 4) + 0.0 for g in row.tolist()])
other = grpo_loss(old, old, None, A, mask, RECIPES["dapo"])
print(f"the same with DAPO's average over tokens: loss {other:.3f}")
assert abs(loss) < 1e-9 and math.isclose(other, 1 / 3)

# %% [markdown]
# **Explain.** The ratios are all 1, and the advantages of a group add up to 0. So the
# loss is 0, however good or bad the policy is. The gradient is
# $-A_i / (G\,|o_i|)$: $-1/8$ for a token of the first answer. A step against it makes
# the right answers likelier. (Where all tokens count the same, as in DAPO of section 5,
# long answers weigh more. That loss need not begin at 0, and says as little.)
#
# **Famous bug.** "Loss is 0, so nothing learns" (trl issue 2703, open-r1 issue 239).
# Others saw it *rise* and stopped the run. Let us make all of it: a policy that chooses
# one of four programs, of which one is right; groups of 8; one update a round; and a KL
# term (section 4) with weight 0.04.
#
# **Predict.** Where do loss, KL and the chance of the right program go?

# %%
from minicoder.alignment.objectives import k3


def bandit(reward, beta, rounds=60, lr=1.0, seed=0):
    """GRPO on a choice among four: loss, KL, gradient, chance of program 2."""
    draw, objective = torch.Generator().manual_seed(seed), replace(
        RECIPES["deepseek-math"], beta=beta)
    logits = torch.zeros(4, dtype=f64, requires_grad=True)
    reference, log = torch.zeros(4, dtype=f64).log_softmax(0), []
    for _ in range(rounds):
        policy = logits.log_softmax(0)
        chosen = torch.multinomial(policy.detach().exp(), 8, True, generator=draw)
        new, ref = policy[chosen][:, None], reference[chosen][:, None]
        a = advantages(reward(chosen)[None])[0]
        loss = grpo_loss(new, new.detach(), ref, a, torch.ones(8, 1).bool(), objective)
        grad, = torch.autograd.grad(loss, logits)
        log.append((loss.item(), k3(ref - new).mean().item(), grad.norm().item(),
                    policy[2].exp().item()))
        logits = (logits - lr * grad).detach().requires_grad_()
    return log


healthy = bandit(lambda chosen: (chosen == 2).double(), beta=0.04)
for n in (0, 5, 15, 59):
    loss, kl, norm, right = healthy[n]
    print(f"round {n:>2}: loss {abs(loss):.3f}, KL {kl:.2f}, gradient {norm:.2f}, "
          f"chance of the right program {right:.2f}")
assert abs(healthy[0][0]) < 1e-9 and healthy[0][2] > 0.1
assert healthy[-1][0] > healthy[0][0] and healthy[-1][3] > 0.9

# %% [markdown]
# **Explain.** The loss begins at 0 and rises, while the policy gets better. All that it
# shows is $\beta$ times the estimate of the KL: that the policy has moved. (Late
# gradients are small because a policy that is nearly always right has groups without
# variance.)
#
# So watch reward and pass share, and for the machinery the **gradient's norm** and the
# **groups that teach**. There is a run that really learns nothing, and its loss looks
# the same:
#
# **Predict.** The sandbox is misconfigured and refuses every program: all rewards 0.
# What tells this log from the healthy one?

# %%
def alive(log):
    """Whether some round has a gradient; the loss is not asked."""
    return any(norm > 1e-9 for _, _, norm, _ in log)


refused = bandit(lambda chosen: torch.zeros(8, dtype=f64), beta=0.0)
free = bandit(lambda chosen: (chosen == 2).double(), beta=0.0)
for name, log in (("all refused", refused), ("healthy, no KL", free)):
    print(f"{name:<15}largest loss {max(abs(row[0]) for row in log):.3f}, largest "
          f"gradient {max(row[2] for row in log):.2f}, alive {alive(log)}")
assert alive(free) and not alive(refused)

# %% [markdown]
# **Change one thing.** Give the healthy bandit `beta=2.0`. Does the chance of the right
# program still rise above 0.9? What holds it back?
#
# ## 3. When clipping acts
#
# Sampling is dear, so one may update several times on the same answers. Then the policy
# walks away from the one that sampled, and the ratios leave 1. The clipped gain bounds
# what can be won by that:
#
# $$ \min\big(\rho A,\ \text{clip}(\rho, 1 - \varepsilon, 1 + \varepsilon)\, A\big) $$
#
# **Predict.** With $\varepsilon = 0.2$: for which two of these four has the token no
# gradient left? $\rho$ is 1.3 or 0.7, $A$ is 1 or −1.

# %%
for ratio in (1.3, 0.7):
    for a in (1.0, -1.0):
        new = torch.tensor([[math.log(ratio)]], dtype=f64, requires_grad=True)
        gain = -grpo_loss(new, torch.zeros(1, 1, dtype=f64), None,
                          torch.tensor([a], dtype=f64), torch.ones(1, 1).bool())
        assert math.isclose(gain.item(),
                            min(ratio * a, min(max(ratio, 0.8), 1.2) * a))
        slope, = torch.autograd.grad(gain, new)
        print(f"ratio {ratio}, A {a:>4}: gain {gain.item():>4.1f}, "
              f"slope {slope.item():>4.1f}")

# %% [markdown]
# **Explain.** What has already moved far enough in the wanted direction stops (1.3 with
# $A = 1$, 0.7 with $A = -1$). What moved the wrong way keeps its whole slope and can
# come back: that is the minimum's work.
#
# **Predict.** DeepSeekMath makes *one* update for each sample (§4.2). How often does
# its clipping act?

# %%
from minicoder.alignment.objectives import clip_share

logits = torch.zeros(4, dtype=f64, requires_grad=True)
chosen = torch.tensor([2, 0, 1, 2, 3, 0, 1, 1])
a = advantages((chosen == 2).double()[None])[0]
mask = torch.ones(8, 1).bool()
old = logits.detach().log_softmax(0)[chosen][:, None]
for update in range(1, 5):
    new = logits.log_softmax(0)[chosen][:, None]
    share = clip_share(new, old, a, mask, RECIPES["deepseek-math"])
    ratio = (new - old).exp().detach()
    print(f"update {update}: ratios {ratio.min():.2f} to {ratio.max():.2f}, "
          f"without gradient {100 * share:.0f} %")
    grad, = torch.autograd.grad(grpo_loss(new, old, None, a, mask), logits)
    logits = (logits - 0.3 * grad).detach().requires_grad_()

# %% [markdown]
# **Explain.** In the first update old and new are the same policy: every ratio is 1 and
# clipping never acts. With one update a round there is only a first update. So the
# $\varepsilon$ of such a run has no effect at all, and DeepSeekMath indeed does not
# state it; 0.2 is custom. From the second update on it can act. Here the two right
# answers are stopped, the six wrong ones are still pushed.
#
# **Change one thing.** Put a step of 0.6 in place of 0.3. In which update does clipping
# act now, and where do the ratios end?
#
# ### Exercise 3 · the clipped loss (hard, important, 15 minutes)

# %% tags=["nbval-ignore-output"]
def clipped_loss(new: torch.Tensor, old: torch.Tensor, advantage: torch.Tensor,
                 mask: torch.Tensor, low: float = 0.2, high: float = 0.2
                 ) -> torch.Tensor:
    """DeepSeekMath eq. 3 without its KL term, negated.

    new, old: log-probabilities, a row per answer; advantage: one per answer; mask: true
    on an answer's tokens; the ratio is clipped to 1 - low ... 1 + high.
    """
    ...


check("grpo.clipped_loss", clipped_loss)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def clipped_loss(new, old, advantage, mask, low=0.2, high=0.2):
#     a, ratio = advantage[:, None], (new - old).exp()
#     gain = torch.minimum(ratio * a, ratio.clamp(1 - low, 1 + high) * a)
#     return -((gain * mask).sum(1) / mask.sum(1)).mean()
# ```
#
# </details>
#
# ## 4. A leash: KL by k3
#
# DeepSeekMath keeps the policy near a reference, the model before reinforcement. At
# each sampled token it estimates the KL divergence (eq. 4) as
#
# $$ k_3 = x - \ln x - 1, \qquad x = \pi_{ref} / \pi_\theta, $$
#
# and takes $\beta = 0.04$ of it from the gain. It is in the loss, not in the reward.
#
# **Predict.** For $x$ = 1, 2 and 0.5: what is $-\ln x$, the plain estimate $k_1$?
# Which of $k_1$ and $k_3$ can be negative?

# %%
for x in (1.0, 2.0, 0.5):
    log_x = torch.tensor(math.log(x), dtype=f64)
    torch.testing.assert_close(k3(log_x), x - log_x - 1)
    print(f"x {x}: k1 {-math.log(x) + 0.0:>6.3f}, k3 {k3(log_x).item():.6f}")

policy = torch.tensor([0.5, 0.3, 0.2], dtype=f64)
reference = torch.tensor([0.25, 0.25, 0.5], dtype=f64)
log_x = (reference / policy).log()
true = (policy * -log_x).sum()
print(f"\nKL {true:.4f}; mean and spread under the policy:")
for name, k in (("k1", -log_x), ("k2", log_x ** 2 / 2), ("k3", k3(log_x))):
    mean = (policy * k).sum()
    print(f"{name} {mean:.4f} ± {(policy * (k - mean) ** 2).sum().sqrt():.4f}")
torch.testing.assert_close((policy * k3(log_x)).sum(), true)

p = healthy[-1][3]  # section 2: nearly always program 2, where the start has 1/4 each
sure = torch.tensor([p] + [(1 - p) / 3] * 3, dtype=f64)
log_x = (0.25 / sure).log()
print(f"\nsection 2's end: KL {(sure * -log_x).sum():.2f}; k3 of the right program "
      f"{k3(log_x)[0]:.2f}, of another {k3(log_x)[1]:.0f}")

# %% [markdown]
# **Explain.** $k_1$ is right on average: its mean is the KL. So is $k_3$, which adds
# $x - 1$, since $x$ has the mean 1 under the policy. For both the tokens must be the
# policy's own. $k_3$ is never negative and, here, spreads less. $k_2 = (\ln x)^2 / 2$
# is biased. And right on average is not right in each sample: section 2's log ended
# with a KL of 0.63, half of the true one. The other half lies in programs that few
# groups of 8 still hold. DAPO and Dr. GRPO's runs set $\beta = 0$: then no
# reference model has to be kept.
#
# ### Exercise 4 · k3 (easy, useful, 5 minutes)

# %% tags=["nbval-ignore-output"]
def my_k3(new: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """The estimate of KL at each token, from log-probabilities."""
    ...


check("grpo.k3", my_k3)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def my_k3(new, reference):
#     log_x = reference - new
#     return log_x.exp() - log_x - 1
# ```
#
# </details>
#
# ## 5. Four losses called GRPO
#
# DeepSeekMath's eq. 3 has a ratio for each *token* and averages over each answer's
# length. DeepSeek-V2's eq. 32 has one ratio for the *whole answer* and no length.
# DeepSeek-Coder-V2 cites the first, says that it uses the algorithm of the second, and
# prints no formula. Dr. GRPO (arXiv 2503.20783) and DAPO (arXiv 2503.14476) change
# more:
#
# | recipe | a ratio for each | counts the same | divides by std | clip | also |
# |---|---|---|---|---|---|
# | DeepSeekMath | token | answer | yes | 0.2 / 0.2 | KL 0.04 |
# | DeepSeek-V2 | answer | answer, as a whole | yes | 0.2 / 0.2 | KL |
# | Dr. GRPO | token | token, over a constant | no | 0.2 / 0.2 | – |
# | DAPO | token | token of the batch | yes | 0.2 / 0.28 | dynamic, overlong |
#
# *Dynamic*: groups without variance are thrown away and others drawn in their place.
# *Overlong*: answers near the limit lose reward. What clip and KL weight Coder-V2 took
# is not stated. 0.2 is custom, DAPO's 0.28 its own. DAPO's formula averages over the
# tokens of a group, the library over those of the batch. The library's recipes leave
# the KL out; `--beta` adds it.
#
# **Predict.** Three wrong answers of 4, 8 and 12 tokens, at most 16 allowed. In which
# recipe is a token of the long answer pushed down *less* than one of the short answer?

# %%
from fractions import Fraction

from minicoder.alignment.objectives import token_weights

lengths = torch.tensor([4, 8, 12])
print(f"{'':<15}{'weight of a token':<22}weight of the answer")
for name, objective in RECIPES.items():
    weights = token_weights(lengths, objective, limit=16)
    token, answer = ([str(Fraction(w).limit_denominator(999)) for w in each.tolist()]
                     for each in (weights, weights * lengths))
    print(f"{name:<15}{'  '.join(token):<22}{'  '.join(answer)}")

# %% [markdown]
# **Explain.** In DeepSeekMath alone. A wrong answer gets away with less per token if it
# is longer, and a right one gains more per token if it is shorter: wrong answers learn
# to be long. This is the **length bias** that Dr. GRPO removes. All others let a long
# answer weigh more as a whole. V2's ratio belongs to the answer, so all of its tokens
# get the answer's weight.
#
# **Predict.** Where $\rho = 1$ V2's gradient is Dr. GRPO's (if that keeps the std)
# times a constant. Which? And after an update that makes each of 10 tokens 1.03 times
# likelier: which of DeepSeekMath and V2 clips?

# %%
draw = torch.Generator().manual_seed(0)
old = -torch.rand(3, 16, generator=draw, dtype=f64)
mask = torch.arange(16) < lengths[:, None]
a = torch.tensor([1.0, -0.5, -0.5], dtype=f64)


def slope(objective):
    new = old.clone().requires_grad_()
    return torch.autograd.grad(grpo_loss(new, old, None, a, mask, objective), new)[0]


torch.testing.assert_close(slope(RECIPES["deepseek-v2"]),
                           16 * slope(RECIPES["dr-grpo"]))
print("V2's gradient = 16 × Dr. GRPO's, where 16 is the limit")
step = torch.full((1, 10), math.log(1.03), dtype=f64)
for name in ("deepseek-math", "deepseek-v2"):
    share = clip_share(step, 0 * step, torch.ones(1, dtype=f64),
                       torch.ones(1, 10).bool(), RECIPES[name])
    print(f"{name:<14}without gradient {100 * share:.0f} %")
print(f"1.03 to the power of 10 = {1.03 ** 10:.3f}")

# %% [markdown]
# **Explain.** The constant is the limit. AdamW hardly sees constants, so the first
# update of both is nearly the same. But $1.03^{10} = 1.344$: one ratio for a whole
# answer leaves the clip's range soon, and sooner the longer the answer is. Section 6
# shows it live. (GSPO takes the $|o|$-th root of V2's ratio.)
#
# **Predict.** Now the **difficulty bias**. The push of a group is the mean of $|A|$. A
# question that 1 of 16 answers gets right, against one that 8 of 16 do: how much less
# does it push, with the std and without?

# %%
for k in (1, 4, 8, 15):
    row = torch.tensor([[1.0] * k + [0.0] * (16 - k)], dtype=f64)
    push = {spread: advantages(row, spread).abs().mean().item()
            for spread in (True, False)}
    p = k / 16
    assert math.isclose(push[True], 2 * math.sqrt(p * (1 - p)), rel_tol=1e-4)
    assert math.isclose(push[False], 2 * p * (1 - p))
    print(f"{k:>2} of 16: push with std {push[True]:.3f}, without {push[False]:.3f}; "
          f"relative to 8 of 16: {push[True]:.2f}, {2 * push[False]:.2f}")

# %% [markdown]
# **Explain.** $2\sqrt{p(1-p)}$ against $2p(1-p)$: dividing by the std doubles, here,
# the relative weight of questions that are nearly too hard or too easy. Whether that is
# a fault or a wish depends on what you train for.
#
# **Predict.** DAPO lowers the reward of overlong answers: 0 up to 16,384 tokens, then
# linearly to −1 at 20,480. What do 18,432 tokens cost? And its higher upper clip: to
# which chance may a token of chance 0.01 rise in a round before its push ends?

# %%
from minicoder.alignment.objectives import overlong_penalty

sizes = torch.tensor([16_384, 18_432, 20_480, 25_000])
for size, cost in zip(sizes.tolist(), overlong_penalty(sizes, 20_480, 4096).tolist(),
                      strict=True):
    print(f"{size:>6,} tokens: {cost + 0.0:.1f}")
for name in ("deepseek-math", "dapo"):
    high = RECIPES[name].clip_high
    print(f"{name:<14}chance 0.01 may rise to {0.01 * (1 + high):.4f}, "
          f"0.9 to {min(1, 0.9 * (1 + high)):.2f}")

# %% [markdown]
# **Explain.** The same factor is little for the rare token and all for the likely one,
# which is never clipped on its way to 1. So clipping helps what is likely already;
# DAPO's 0.28 leaves rare tokens more room, against the collapse of entropy.
#
# ### One reward for each step
#
# With **process supervision** an answer has a reward for each of its steps. All step
# rewards of a group are normalised together, and a token's advantage is the sum over
# the steps that end at it or later (DeepSeekMath §4.1.3).
#
# **Predict.** Two answers of two lines, two tokens each. Line rewards: 1, 0 for the
# first, 1, 1 for the second. Their mean is 0.75, their std 0.433. Which token gets the
# lowest advantage?

# %%
from minicoder.alignment.objectives import step_advantages

lines = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]], dtype=f64)
ends = torch.tensor([[[1, 3], [1, 3]]])  # the place of each line's last token
given = step_advantages(lines, ends, length=4)[0]
good, bad = 0.25 / 0.1875 ** 0.5, -0.75 / 0.1875 ** 0.5
by_hand = torch.tensor([[good + bad, good + bad, bad, bad],
                        [2 * good, 2 * good, good, good]], dtype=f64)
torch.testing.assert_close(given, by_hand, rtol=1e-4, atol=1e-4)
for row in given.tolist():
    print([round(v, 3) for v in row])

# %% [markdown]
# **Explain.** The tokens of the bad line get −1.732; the good line before it gets back
# 0.577. A whole-answer reward would blame both lines alike. In DeepSeekMath the steps'
# rewards come from a trained model. Here `--supervision process` uses a checker: can a
# program still begin like this, and how many tests pass in the end?
#
# ## 6. Live: the sandbox is the judge
#
# Now a real run, of about a minute. The questions are one-line programs about a list.
# We fine-tune a new model on answers of which half hold a plausible bug, so that it can
# write programs but does not prefer those that work. (Lesson 09 does this with care.)

# %% tags=["nbval-ignore-output"]
from minicoder.alignment.sft import encoded, packed_loss
from minicoder.config import preset
from minicoder.model.transformer import MiniCoder
from minicoder.tasks.families import family_of, sample_tasks
from minicoder.tokenizer import Tokenizer
from minicoder.training.loop import Plan, one_step
from minicoder.training.optimizer import adamw
from minicoder.training.spikes import Spikes


def whole_list(split, count):
    """Questions about the whole list a, not about a slice of it."""
    return [t for t in sample_tasks("lists", count, split, 0)
            if re.search(r" in a[,.]", t.prompt)]


def optimise(coder, step_loss, plan):
    """The steps of the plan; what each noted."""
    optimizer = adamw(coder.train(), plan.lr, plan.weight_decay)
    noted = [one_step(coder, optimizer, step_loss, plan, step, Spikes())
             for step in range(plan.steps)]
    coder.eval()
    return noted


pool, held_out = whole_list("train", 3000), whole_list("heldout", 1200)[:64]
tokenizer = Tokenizer.train([f"{t.prompt}\n{t.canonical_solution}" for t in pool], 400)
draw = random.Random(0)
talks = [[{"role": "user", "content": t.question},
          {"role": "assistant", "content": draw.choice(
              [t.reference, draw.choice(family_of("lists").bugs(t))])}]
         for t in pool for _ in range(4)]
learnt = encoded(talks, tokenizer, room=256)
print(f"{len(pool)} questions to learn from, {len(held_out)} held out")
print("\n".join(turn["content"] for turn in talks[4]))

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
start = MiniCoder(preset(
    "toy", vocab_size=400, hidden_size=64, num_hidden_layers=2, kv_lora_rank=32,
    intermediate_size=128, n_routed_experts=None, n_shared_experts=None,
    first_k_dense_replace=2, max_position_embeddings=256))
noted = optimise(start, lambda step: packed_loss(
    start, random.Random(step).sample(learnt, 32), 256, 0.0, tokenizer.bos,
    torch.device("cpu")), Plan(200, 4e-3))
print(f"{sum(p.numel() for p in start.parameters()):,} parameters; "
      f"loss {noted[0]['loss']:.1f} → {noted[-1]['loss']:.2f} nats")
assert noted[-1]["loss"] < 0.3

# %% [markdown]
# The sandbox runs each program on its tests, walled in as well as this machine allows.
# (Where it allows too little, `Sandbox()` refuses and says what to do.)
#
# **Predict.** Half of the answers that it learnt are wrong. How many of its sampled
# programs pass? And of its *greedy* ones, with the likeliest token each time?

# %% tags=["nbval-ignore-output"]
from minicoder.alignment.feedback import sample_and_judge
from minicoder.evaluation.intervals import bootstrap
from minicoder.evaluation.pass_at_k import pass_at_k
from minicoder.execution.sandbox import Sandbox

warnings.filterwarnings("ignore", "Generated programs run")  # said in the text above
sandbox = Sandbox()
SAMPLES = 8


def measure(coder):
    """pass@1, pass@4 and pass@8 of 8 samples, and greedy, on each held-out question."""
    drawn = sample_and_judge(coder, tokenizer, held_out, sandbox, SAMPLES,
                             generator=torch.Generator().manual_seed(0))
    counts = torch.tensor([s.right for s in drawn]).view(-1, SAMPLES).sum(1).tolist()
    greedy = sample_and_judge(coder, tokenizer, held_out, sandbox, temperature=0.0)
    return {f"pass@{k}": [pass_at_k(SAMPLES, c, k) for c in counts] for k in (1, 4, 8)
            } | {"greedy": [float(s.right) for s in greedy]}


def percent(values):
    """A mean over questions with its 95 % interval."""
    found = bootstrap(values)
    return (f"{100 * found['value']:.0f} % ({100 * found['low']:.0f}–"
            f"{100 * found['high']:.0f})")


scores = {"start": measure(start)}
print("   ".join(f"{name} {percent(v)}" for name, v in scores["start"].items()))

# %% [markdown]
# **Explain.** About half of the samples pass, and far more of the greedy programs: the
# right answer is the likeliest one, since the wrong ones differ from one another. Keep
# this in mind. Of the 8 samples one is nearly always right.
#
# Now GRPO, five times from the same start: DeepSeekMath's recipe (DSM) with one update
# a round, then all four recipes with three. The KL to the start is measured but not
# used ($\beta = 0$), so that the recipes compare.
#
# **Predict.** In which of the five is the clip share 0? In which is it largest? Do the
# greedy programs gain as much as the sampled ones?

# %% tags=["nbval-ignore-output"]
from minicoder.alignment.iterative import Phases
from minicoder.alignment.rewards import Rewards
from minicoder.alignment.rollouts import Rollouts, Sampling
from minicoder.alignment.updates import Updates

ROUNDS = 8


def reinforce(recipe, updates, lr=5e-4):
    """Rounds of 8 questions with 16 answers each; curves of all updates, and scores."""
    coder = copy.deepcopy(start)
    rollouts = Rollouts(coder, tokenizer, sandbox, Rewards(tokenizer), pool,
                        Sampling(prompts=8, group=16, new_tokens=48), RECIPES[recipe])
    rounds = Updates(rollouts, Phases(Path(), coder, tokenizer, start, None, [], 0),
                     updates)
    noted = optimise(coder, rounds, Plan(ROUNDS * updates, lr, 2, weight_decay=0.0))
    return noted, measure(coder)


RUNS = {"DSM, 1 update": ("deepseek-math", 1), "DSM": ("deepseek-math", 3),
        "V2": ("deepseek-v2", 3), "Dr. GRPO": ("dr-grpo", 3), "DAPO": ("dapo", 3)}
curves = {}
for name in ("DSM, 1 update", "DSM"):
    curves[name], scores[name] = reinforce(*RUNS[name])
first = curves["DSM, 1 update"][0]
print(f"first update: loss {abs(first['loss']):.4f}, gradient "
      f"{first['grad_norm']:.2f}, answers of {first['length']:.0f} tokens on average")

# %% tags=["nbval-ignore-output"]
for name in ("V2", "Dr. GRPO", "DAPO"):
    curves[name], scores[name] = reinforce(*RUNS[name])
for name, row in scores.items():
    print(f"{name:<14}" + "   ".join(f"{k} {percent(v)}" for k, v in row.items()))

# %% tags=["nbval-ignore-output"]
def gain(name, what):
    """Points that a run added, in shares of 1."""
    return (sum(scores[name][what]) - sum(scores["start"][what])) / len(held_out)


assert abs(first["loss"]) < 1e-3 and first["grad_norm"] > 1e-2
assert all(m["clip_share"] == 0 for m in curves["DSM, 1 update"])
for name in ("DSM", "V2", "Dr. GRPO", "DAPO"):
    shares = [m["clip_share"] for m in curves[name]]
    assert max(shares[::3]) < 1e-3 < max(shares)  # never in a round's first update
    assert max(m["clip_share"] for m in curves["V2"]) >= max(shares)
gains = {what: sum(gain(name, what) for name in RUNS) / len(RUNS)
         for what in ("pass@1", "pass@8", "greedy")}
largest = {name: max(m["kl"] for m in curves[name]) for name in RUNS}
print("mean gain of the five runs, points:",
      {what: round(100 * value) for what, value in gains.items()})
print("largest KL within a round:", {n: round(k, 2) for n, k in largest.items()})
assert min(gain(name, "pass@1") for name in RUNS) > 0.02 and gains["pass@1"] > 0.08
best = max(sum(scores[name]["pass@1"]) for name in RUNS) / len(held_out)
before = sum(scores["start"]["greedy"]) / len(held_out)
print(f"best pass@1 after GRPO {best:.2f}, greedy before it {before:.2f}")
assert best < before
assert all(curve[0]["kl"] < 1e-5 for curve in curves.values())

# %% tags=["nbval-ignore-output"]
INK = {"DSM, 1 update": ("base", ":"), "DSM": ("grpo", "-"), "V2": ("math", "-"),
       "Dr. GRPO": ("code", "--"), "DAPO": ("sft", "-.")}
figure, panels = plt.subplots(1, 3, figsize=(9.6, 3.1))
for name, (ink, dash) in INK.items():
    each = RUNS[name][1]
    for axes, key, part in zip(panels, ("pass", "kl", "clip_share"), (
            slice(0, None, each), slice(0, None, each), slice(None)), strict=True):
        values = [100 * m[key] if key != "kl" else m[key] for m in curves[name]][part]
        axes.plot([(n + 1) * ROUNDS / len(values) for n in range(len(values))], values,
                  dash, color=colours[ink], linewidth=1.6, label=name)
for axes, title in zip(panels, ("Reward: % that pass", "KL to the start, nats",
                                "Clipped, % of what has a ratio"), strict=True):
    axes.set(xlabel="round", ylim=(0, None))
    axes.set_title(title, fontsize=10)
label_lines(panels[2], gap=0.09)
plt.show()

# %% [markdown]
# **Explain.** Read it with the asserts.
#
# - DSM's first loss is 0 and its gradient is not. The reward rises.
# - With one update nothing is ever clipped, nor in the first update of any round. After
#   that some per cent of the *tokens* are. In V2 it is *answers*, and in the first
#   rounds many of them: a product of some 28 ratios soon leaves 0.8 to 1.2. They have
#   no gradient, so V2's later updates learn from fewer answers. Eight rounds show no
#   harm in it.
# - All five sample better. The order of those with three updates is noise: one seed, 64
#   questions, intervals that overlap. (The one with a single update took a third of the
#   steps.)
# - KL is 0 in the first round and stays small. It is read at the first update of each
#   round, where the answers are the policy's own. Later in the round they are the old
#   policy's: $x$ can get large at tokens that were pushed down since, and $k_3$ jumps.
# - **It sharpens.** Sampling gains far more points than greedy decoding and pass@8 do.
#   These began near 90 %, so they had little room (section 7 has more). But no run
#   samples as well as the start decoded greedily: what was likeliest before has become
#   likelier still. That is useful, yet these are no new skills.
#   DeepSeekMath found the like (§5.2): reinforcement lifts Maj@K, the majority's
#   answer, and not Pass@K.
#
# **Change one thing.** Take `lr=5e-3` in `reinforce("deepseek-math", 3)`. Print `pass`,
# `groups_kept` and `m.get("entropy")` of each update: where no group teaches there is
# no entropy to print. What does a policy look like that went too far?
#
# ## 7. Three seeds of the demo
#
# `benchmarks/learning.py` runs the whole demo with three seeds. The stage before is
# SFT, the one after it GRPO.
#
# **Predict.** Sampled programs gain about 30 points. What do greedy ones gain?

# %% tags=["nbval-ignore-output"]
learning = read_json(Path("../benchmarks/results/learning.json"))
for seed, run in learning["seeds"].items():
    row = {r["name"]: r for r in run["rows"]}
    points = {what: 100 * (row["grpo"][what]["value"] - row["sft"][what]["value"])
              for what in ("pass@1", "greedy", "pass@8")}
    print(f"seed {seed}: " + ", ".join(
        f"{what} {100 * row['sft'][what]['value']:.0f} % {value:+.0f} points"
        for what, value in points.items()))
    assert points["pass@1"] > 10 and points["greedy"] < points["pass@1"] / 2

# %% [markdown]
# **Explain.** The same picture: it sharpens. A headline with pass@1 alone would sell
# this as 30 points of skill. Print greedy and pass@k beside it, always.
#
# Does GRPO only ever sharpen? `benchmarks/grpo.py` reinforces two starts on three
# seeds: one that knows the right programs, and one whose SFT was stopped early.
#
# **Predict.** For which of them does greedy gain?

# %%
measured = read_json(Path("../benchmarks/results/grpo.json"))
for kind, run in (("learn", "long"), ("weak", "one update")):
    for seed, runs in measured[kind].items():
        moved = ", ".join(
            what + " →".join(f" {100 * runs[run][when][what]['value']:.0f}"
                              for when in ("before", "after")) + " %"
            for what in ("sampled", "greedy"))
        print(f"{kind:<6}seed {seed}: {moved}")

# %% [markdown]
# **Explain.** The good start has nothing left to teach its greedy choice: it stays
# within 3 points. The weak start gains on all three seeds, sampled and greedy: here
# GRPO does teach. More steps of SFT may have taught the same; that was not compared.
# The good start, round by round:
#
# ![Three panels on three seeds: the share of sampled programs that pass rises, the
# entropy of a token falls, and held-out pass@1 rises when sampled while greedy stays as
# it was.](../figures/sharpen-light.svg)
#
# ## What you keep
#
# 1. The group is the baseline: an advantage is a reward compared with the other answers
#    to the same question, and a group that agrees teaches nothing.
# 2. DeepSeekMath's loss is 0 in a round's first update, but for the KL, and its
#    gradient is not; clipping acts from the second update on; so watch the reward, the
#    gradient and the groups that teach.
# 3. "GRPO" names at least four losses; say which one you ran, and print greedy and
#    pass@k beside pass@1 to see whether it taught or sharpened.
#
# ## What could go wrong
#
# You have reproduced it in section 2: "the loss is 0, so nothing learns" (trl issue
# 2703, open-r1 issue 239). The check that catches the real failure is `alive`: a
# gradient above 0, in groups whose rewards differ. In the library's metrics these are
# `grad_norm` and `groups_kept`.
#
# ## References
#
# - DeepSeekMath, arXiv 2402.03300: §4.1 eq. 3 and 4, §4.1.3 process supervision, §4.1.4
#   iterative GRPO, §4.2 settings, §5.2 what reinforcement changes.
# - DeepSeek-V2, arXiv 2405.04434, §4.2, eq. 32–34. DeepSeek-Coder-V2, arXiv 2406.11931,
#   §3.5.2.
# - Dr. GRPO, arXiv 2503.20783. DAPO, arXiv 2503.14476, §3.1–3.4 and eq. 13.
# - trl, issue 2703. open-r1, issue 239.
# - The library: `minicoder/alignment/objectives.py` (the formulas), `rollouts.py`,
#   `updates.py`, `rewards.py`; its tests hold losses and gradients against trl's.
