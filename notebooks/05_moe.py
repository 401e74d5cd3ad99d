# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 05 · Mixture of experts
#
# A model stores what it knows in its feed-forward networks. More of them know more, and
# each token pays for all of them. A *mixture of experts* (MoE) breaks this link: a
# layer has many small networks, the *experts*, and a *router* sends each token to a
# few. This lesson builds the layer of DeepSeek-V2, which its authors call
# *DeepSeekMoE*, from its router to the losses that keep all experts busy.
#
# - **You will be able to** *compute* by hand which experts a token gets and with what
#   weights; *write* the dispatch that sorts tokens by expert, runs them and un-sorts;
#   *predict* the three balance losses of a routing.
# - **You need first:** lesson 00, softmax, top-k, and indexing in torch.
# - **Time:** 10 seconds on one quiet CPU core; 40 minutes to read, 26 minutes for the
#   exercises.
# - **Paper:** DeepSeekMoE (arXiv 2401.06066) §3; DeepSeek-V2 (arXiv 2405.04434) §2.2,
#   eq. 20–31. DeepSeek-Coder-V2 takes both as they are (arXiv 2406.11931, §3.2).
#
# Letters, as in the library: $M$ tokens, $D$ numbers in each, $E$ routed experts, $K$
# of them chosen for a token.

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
import math
from time import perf_counter

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from minicoder.config import PRESETS, preset
from minicoder.show.check import check, hint, solution  # noqa: F401
from minicoder.show.slider import frame_slider
from minicoder.show.style import use_style

torch.set_num_threads(1)  # small matrices: a second thread would cost, not help
colours = use_style()


def rounded(values, digits=3):
    """A tensor as nested lists of rounded numbers."""
    if values.dim() > 1:
        return [rounded(row, digits) for row in values]
    return [round(value, digits) for value in values.tolist()]


# %% [markdown]
# ## 1. Why experts: store much, use little
#
# One expert is a small feed-forward network (FFN) of the kind *SwiGLU*,
# `down(silu(gate(u)) * up(u))`: three matrices of $D$ times the expert's width. To
# the token's vector $u$ the layer adds the *routed* experts that the router chose, each
# with a weight $g_i$, and the *shared* experts, which serve every token (DeepSeek-V2
# eq. 20):
#
# $$
# h' = u + \sum_{s} \text{FFN}_s(u)
#      + \sum_{i \,\in\, \text{chosen}} g_i \,\text{FFN}_i(u)
# $$
#
# **Predict.** A layer of the largest model has 160 routed and 2 shared experts. A token
# uses 6 routed ones and both shared ones. Which share of the layer's parameters works
# for it? And how many *teams* of 2 experts do 16 experts make, how many teams of 8 do
# 64?

# %%
print(f"{'one MoE layer':<14}{'stored':>15}{'used by a token':>17}{'share':>8}")
for name in ("lite_16b", "full_236b"):
    c = PRESETS[name]
    expert = 3 * c.hidden_size * c.moe_intermediate_size
    router = c.hidden_size * c.n_routed_experts
    stored = (c.n_routed_experts + c.n_shared_experts) * expert + router
    used = (c.num_experts_per_tok + c.n_shared_experts) * expert + router
    print(f"{name:<14}{stored:>15,}{used:>17,}{used / stored:>8.1%}")
print(f"2 of 16 experts: {math.comb(16, 2):,} teams; "
      f"8 of 64, each a quarter as wide: {math.comb(64, 8):,} teams")

# %% [markdown]
# **Explain.** Work follows the third column, memory follows the second: all experts
# must be stored, because the next token may choose any of them. DeepSeekMoE adds two
# ideas to older mixtures (§3):
#
# - *Fine-grained experts* (§3.1). Cut each expert into four of a quarter of the width,
#   and choose four times as many. Parameters and work stay; the number of teams grows
#   from 120 to 4.4 billion.
# - *Shared experts* (§3.2). What every token needs is learnt once, in experts that
#   always run, and not again in each routed one.
#
# **Change one thing.** How many teams are 6 of 160, and how many digits has the number?
#
# ## 2. The router: softmax first, then the best K
#
# The router is one matrix, with one row for each expert. Its products with the token
# become *scores* by a softmax over **all** experts. The best $K$ scores are the weights
# $g_i$, as they are: they are not divided by their sum (`norm_topk_prob` is false in
# both released configurations).
#
# Here are the scores of one token for 8 experts. They add up to 1.
#
# **Predict.** Which three experts does the token get, and what do the weights sum to?

# %%
SCORES = torch.tensor([[.20, .02, .05, .18, .15, .14, .16, .10]], dtype=torch.float64)
weights, experts = SCORES.topk(3)
print("experts", experts[0].tolist(), "weights", rounded(weights[0]),
      "sum", round(weights.sum().item(), 2))
late = SCORES.log()[0, experts[0]].softmax(0)  # softmax over the chosen alone
print("softmax after top-k:", rounded(late), "=", rounded(weights[0] / weights.sum()))
print("times 16, as in the 236B:", rounded(16 * weights[0], 2))

# %% [markdown]
# **Explain.** The weights sum to .54. A router that is unsure gives small weights, so
# the routed part is quiet. A softmax *after* top-k would give weights that always sum
# to 1, the same as dividing by the sum, and this information would be lost.
#
# With 160 experts the scores are small. The 236B multiplies the weights by
# `routed_scaling_factor` = 16; Lite has 1.
#
# Now the library's router. Its matrix is the identity here, so the token *is* the
# logarithm of the scores, and the router finds the same.

# %%
from minicoder.model.moe import Router


def route(scores, **changes):
    """What the library's router does with tokens that have these scores."""
    count = scores.shape[1]
    router = Router(preset("toy", hidden_size=count, n_routed_experts=count,
                           **{"num_experts_per_tok": 3} | changes)).double()
    router.weight.data = torch.eye(count, dtype=torch.float64)
    with torch.no_grad():
        return router(scores.log())


routing = route(SCORES, routed_scaling_factor=16)
place = routing.experts.argsort()  # the library does not sort its choices
torch.testing.assert_close(routing.scores, SCORES)
assert routing.experts.gather(1, place).tolist() == [[0, 3, 6]]
print(rounded(routing.weights.gather(1, place), 2))

# %% [markdown]
# ### What could go wrong: a flag that cancels a factor
#
# `norm_topk_prob = true` looks harmless: "divide the weights by their sum". In the
# released remote code this is one branch and the scaling factor is the *other*.
#
# **Predict.** What do the weights sum to with this flag, and how much too quiet is the
# routed part then?

# %%
for flag in (False, True):
    routing = route(SCORES, routed_scaling_factor=16, norm_topk_prob=flag)
    factors = routing.weights / routing.scores.gather(1, routing.experts)
    test = "passes" if torch.allclose(factors, torch.tensor(16.).double()) else "FAILS"
    print(f"{flag!s:<6} the weights sum to {routing.weights.sum():.2f}, weight / score "
          f"is {factors.mean():>5.2f}: a test for 16 {test}")

# %% [markdown]
# **Explain.** 1 in place of 8.64, and nothing warns. The test in the last line is what
# catches it: divide a weight by its score. Our library does as the remote code, so that
# a checkpoint behaves as released. The code in transformers ignores the flag and always
# multiplies; with the flag false, all of them agree.
#
# ### Why the router works in float32
#
# The model computes in bfloat16, whose 8 significant bits make near neighbours equal.
# A tie between two experts is then broken by their place in the row, not by merit.
#
# **Predict.** Take 1,000 random tokens and 160 experts. For how many is there a tie
# between the sixth expert, which is in, and the seventh, which is out: for about 4, 40
# or 400?

# %%
pair = torch.tensor([0.500, 0.501])
print("in bfloat16", pair.bfloat16().tolist(), "best", pair.bfloat16().argmax().item(),
      "| in float32 best", pair.argmax().item())
draw = torch.Generator().manual_seed(0)
logits = torch.randn(1000, 160, generator=draw, dtype=torch.float64)
for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
    best = logits.softmax(-1).to(dtype).sort(dim=-1, descending=True).values
    print(f"{name:<9} ties at the border: {(best[:, 5] == best[:, 6]).sum().item()}")

# %% [markdown]
# **Explain.** In bfloat16, 4 tokens of 100 would get their sixth expert by index. The
# library lifts the token and the router's matrix to float32 first, as the released code
# does, and leaves float64 as it is.
#
# **Change one thing.** Take `(0.1 * logits).softmax(-1)`: at the start of training a
# router has no strong opinion yet. What happens to the number of ties?
#
# ## 3. Group-limited routing: few devices per token
#
# In training the 160 experts of a layer lie on 8 devices, 20 on each. A token whose 6
# experts lie on 6 devices must travel 6 times. So the 236B first chooses *groups*: each
# device is a group, ranked by its **best single expert**; the best 3 groups stay, and
# top-6 runs among their 60 experts (DeepSeek-V2 §2.2.2). With 3 or more groups the
# paper finds the quality about as good as without limit.
#
# **Predict.** The 8 scores from above in 4 groups of 2: `.20 .02 | .05 .18 | .15 .14 |
# .16 .10`. Keep 2 groups. Which three experts does the token get now?

# %%
grouped = SCORES.view(4, 2)
best = grouped.amax(-1)
survivors = best.topk(2).indices.sort().values
kept = torch.zeros(4, 1, dtype=torch.float64)
kept[survivors] = 1
weights, experts = (grouped * kept).view(-1).topk(3)
print("best of each group", rounded(best, 2), "→ groups", survivors.tolist())
print("experts", experts.tolist(), "weights", rounded(weights, 2))

# %% [markdown]
# **Explain.** Expert 6 (.16) is out, because group 3 ranks only third. Expert 2 (.05)
# is in, because it lives beside expert 3. That is the price: .43 instead of .54 in sum
# of weights. The gain: two devices to visit at most, whatever the scores are. The whole
# layer of the 236B, with a token that visits three devices:
#
# ![A mixture-of-experts layer. The token goes through 2 shared experts with weight 1,
# and to a router that scores 160 routed experts in 8 groups of 20, one group a device.
# The 3 groups with the best single score stay, and the 6 best experts in them run, each
# weighted by 16 times its score. All outputs are
# summed.](../figures/moe-light.svg)
#
# ### Exercise 1 · groups (medium, important, 8 minutes)
#
# Write it for many tokens at once. `hint("moe.group_limited")` helps.

# %% tags=["nbval-ignore-output"]
def group_limited(scores: torch.Tensor, groups: int, kept: int, k: int
                  ) -> torch.Tensor:
    """The k experts of each token, all from its `kept` best groups.

    scores: (M, E), above 0. Group g holds the experts g E/groups to (g+1) E/groups - 1.
    Returns the numbers of the experts, (M, k), in any order.
    """
    ...


check("moe.group_limited", group_limited)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def group_limited(scores: torch.Tensor, groups: int, kept: int, k: int
#                   ) -> torch.Tensor:
#     grouped = scores.unflatten(1, (groups, -1))
#     best = grouped.amax(-1).topk(kept, dim=-1).indices
#     keep = torch.zeros_like(grouped[..., 0]).scatter(1, best, 1.0)
#     return (grouped * keep[..., None]).flatten(1).topk(k, dim=-1).indices
# ```
#
# Multiplying by 0 is enough, because a softmax is never below 0.
#
# </details>
#
# **Predict.** How many of its 8 devices does a token of the 236B reach, on average and
# at most, with and without the limit? We ask the library's router, with random scores.

# %%
sizes = dict(num_experts_per_tok=6, n_group=8, topk_group=3)
for method in ("greedy", "group_limited_greedy"):
    chosen = route(logits.softmax(-1), topk_method=method, **sizes).experts
    devices = [len(set(row)) for row in (chosen // 20).tolist()]
    print(f"{method:<21} devices of a token: mean {sum(devices) / 1000:.2f}, "
          f"most {max(devices)}")

# %% [markdown]
# **Explain.** Without the limit 6 experts mostly fall on 4 or 5 devices, and sometimes
# on 6. With it a token nearly always uses all three that it may, and never a fourth.
#
# ## 4. Dispatch: sort, run, un-sort
#
# The slow way is a loop: each token asks each of its experts. A processor wants few
# large matrix products instead. So we turn the question around: each expert asks for
# its tokens.
#
# Four tokens hold one number each. Expert 0 multiplies by 10, expert 1 by 100, expert 2
# by 1,000, and all weights are one half.
#
# **Predict.** Write the 8 choices in one line. Which of them go to expert 1, and to
# which tokens do those belong?

# %%
x = torch.tensor([1., 2., 3., 4.])
experts = torch.tensor([[2, 0], [0, 1], [2, 1], [0, 2]])  # two for each token
chosen = experts.flatten()
order = chosen.argsort(stable=True)     # 1. sort the choices by expert
counts = chosen.bincount(minlength=3)   # 2. how many rows has each expert
tokens = order // 2                     # choice r belongs to token r // K
parts = x[tokens].split(counts.tolist())
rows = torch.cat([part * 10 ** (e + 1) for e, part in enumerate(parts)])  # 3. run
print("choices ", chosen.tolist(), "\norder   ", order.tolist())
print("tokens  ", tokens.tolist(), "  rows of each expert", counts.tolist())
print("results ", [int(row) for row in rows])
back = rows[order.argsort()].view(4, 2)  # 4. un-sort: the inverse of the order
print("per token", [[int(v) for v in row] for row in back],
      "\nsum of halves", (back * 0.5).sum(1).tolist())

# %% [markdown]
# **Explain.** Token 0 went to experts 2 and 0: $(1000 + 10)/2 = 505$. Each expert ran
# once, on a slice without gaps. `argsort` of an order is its inverse.
#
# **Change one thing.** Let token 3 choose experts 1 and 2. Predict `counts` and the
# last sum first.
#
# Now with real experts. First the dense loop: slow, and so plain that it is hard to get
# wrong. It serves as *oracle*, the answer that the fast way must equal.

# %%
from minicoder.model.moe import MoE

small = preset("toy", hidden_size=16, moe_intermediate_size=8, n_routed_experts=6,
               num_experts_per_tok=2, routed_scaling_factor=16)
draw = torch.Generator().manual_seed(1)
layer = MoE(small).double()
for parameter in layer.parameters():
    parameter.data = torch.randn(parameter.shape, generator=draw).double() / 4
x = torch.randn(1, 12, 16, generator=draw).double()


def run_expert(e, rows):
    """SwiGLU of routed expert e; the library stacks gate and up in one matrix."""
    gate, up = F.linear(rows, layer.experts.gate_up_proj[e]).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, layer.experts.down_proj[e])


def dense(x, weights):
    """Every expert on every token; weight 0 where it was not chosen. weights: (M, E)"""
    return sum(weights[:, e, None] * run_expert(e, x) for e in range(6))


# %%
with torch.no_grad():
    scores = F.linear(x[0], layer.gate.weight).softmax(-1)
    weights, experts = scores.topk(2)
    everywhere = torch.zeros_like(scores).scatter(1, experts, 16 * weights)
    oracle = x[0] + layer.shared_experts(x[0]) + dense(x[0], everywhere)  # eq. 20

    chosen = experts.flatten()
    order = chosen.argsort(stable=True)
    parts = x[0, order // 2].split(chosen.bincount(minlength=6).tolist())
    rows = torch.cat([run_expert(e, part) for e, part in enumerate(parts)])
    back = rows[order.argsort()].view(12, 2, 16)
    by_hand = (back * 16 * weights[..., None]).sum(1) + layer.shared_experts(x[0])
    torch.testing.assert_close(x[0] + by_hand, oracle, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(x)[0], by_hand, rtol=0, atol=1e-12)
print("Dense loop, sorted by hand and minicoder.model.moe.MoE agree to 1e-12.")

# %% [markdown]
# The layer returns the sum of the experts; the block around it adds $u$.
#
# ### Exercise 2 · dispatch (hard, important, 10 minutes)
#
# The check counts how often your experts are called and on how many rows.

# %% tags=["nbval-ignore-output"]
def dispatch(x: torch.Tensor, experts: torch.Tensor, weights: torch.Tensor,
             run: list) -> torch.Tensor:
    """Run each expert once on the rows that chose it; weighted sum per token.

    x: (M, D) tokens; experts, weights: (M, K), numbers of experts and their weights.
    run: one function per expert, from rows (n, D) to rows (n, D); n may be 0.
    Returns (M, D).
    """
    ...


check("moe.dispatch", dispatch)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def dispatch(x: torch.Tensor, experts: torch.Tensor, weights: torch.Tensor,
#              run: list) -> torch.Tensor:
#     chosen = experts.flatten()
#     order = chosen.argsort(stable=True)
#     counts = chosen.bincount(minlength=len(run)).tolist()
#     parts = x[order // experts.shape[1]].split(counts)
#     rows = torch.cat([expert(part) for expert, part in zip(run, parts, strict=True)])
#     rows = rows[order.argsort()].unflatten(0, experts.shape)
#     return (rows * weights[..., None]).sum(1)
# ```
#
# </details>
#
# ## 5. What a token costs
#
# **Predict.** The dense loop runs all $E$ experts on each token, the sorted dispatch
# $K$. What factor of work and of rows in memory is this for the 236B? And a batch:
# tokens choose 6 of 160 experts at random; how many experts must be read from memory
# for 1 token, for 10, for 100? (One token leaves an expert out with probability
# $1 - 6/160$, and $n$ tokens with the $n$-th power of that.)

# %%
print(f"rows per token: dense 160, sorted 6: {160 / 6:.1f} times less")
for count in (1, 10, 100):
    formula = 160 * (1 - (1 - 6 / 160) ** count)
    batches = torch.rand(200, count, 160, generator=draw).topk(6).indices  # at random
    counted = sum(batch.unique().numel() for batch in batches) / 200
    print(f"batch of {count:>3}: {6 * count:>3} rows, {formula:5.1f} experts read; "
          f"counted {counted:5.1f}")

# %% [markdown]
# **Explain.** Each row costs two operations for each of its expert's parameters. One
# token alone reads 6 experts, 100 tokens read nearly all of them, for about 4 rows
# each: a small batch is slow because of memory traffic, not because of arithmetic.
#
# The library's layer keeps $K$ rows for each token; in float32 and bfloat16 one
# `grouped_mm` call multiplies all slices with their matrices. Here are 64 experts, 6
# chosen, so 10.7 times less work; sorting costs a little. The times depend on your
# machine:

# %% tags=["nbval-ignore-output"]
wide = preset("toy", n_routed_experts=64, num_experts_per_tok=6, n_shared_experts=None)
fast = MoE(wide)
for parameter in fast.parameters():
    torch.nn.init.normal_(parameter, std=0.1, generator=draw)


def every_expert(x):
    """All 64 experts on all rows, as the dense loop has it."""
    gate, up = (x @ fast.experts.gate_up_proj.mT).chunk(2, dim=-1)
    return ((F.silu(gate) * up) @ fast.experts.down_proj.mT).sum(0)


many = torch.randn(2048, 128, generator=draw)
with torch.no_grad():
    for name, call in (("dense", lambda: every_expert(many)),
                       ("sorted", lambda: fast(many[None]))):
        call()  # the first call also prepares
        start = perf_counter()
        call()
        print(f"{name:<7}{1000 * (perf_counter() - start):6.0f} ms for 2,048 tokens")

# %% [markdown]
# ## 6. Three balance losses
#
# A router that is left alone can send most tokens to few experts. Those learn more and
# get even more; the others idle. And a training step waits for the busiest device. So
# the loss gets terms that push towards an even load.
#
# **Expert level** (eq. 23–25). For the $T$ tokens of one sequence,
#
# $$
# L = \sum_i f_i P_i, \qquad
# f_i = \frac{E}{K\,T}\,\#\{\text{tokens that chose } i\}, \qquad
# P_i = \frac1T \sum_t s_{i,t}
# $$
#
# $f_i$ is the load over the fair share: 1 when all is even. $P_i$ is the mean score.
#
# **Predict.** 4 tokens choose 2 of 4 experts. What is $L$ when the load and the scores
# are even? When all tokens choose experts 0 and 1 with scores of one half? When they
# all choose 0 and 1, although all scores are a quarter?

# %%
def expert_loss(scores, experts):
    """f, P and the expert-level loss of one sequence."""
    (tokens, count), chosen = scores.shape, experts.shape[1]
    f = F.one_hot(experts, count).sum((0, 1)) * count / chosen / tokens
    return f, scores.mean(0), (f * scores.mean(0)).sum()


flat = torch.full((4, 4), 0.25)
sure = torch.tensor([[.5, .5, 0, 0]]).repeat(4, 1)
spread, same = torch.tensor([[0, 1], [2, 3]] * 2), torch.tensor([[0, 1]] * 4)
for name, scores, experts in (("even", flat, spread), ("collapsed", sure, same),
                              ("on the verge", flat, same)):
    f, p, loss = expert_loss(scores, experts)
    print(f"{name:<13} f {f.tolist()}  P {p.tolist()}  loss {loss.item():.2f}")

# %% [markdown]
# **Explain.** Even is 1, collapsed is $E/K = 2$, which is the worst. The third line
# shows that the *value* alone tells little: with flat scores it is 1 for any load. What
# teaches is the gradient. A count has none, so $f$ is a constant, and
#
# $$
# \frac{\partial L}{\partial s_{i,t}} = \frac{f_i}{T}
# $$
#
# So an expert with twice its fair share is pushed down twice as hard as one with the
# fair share, and an idle one not at all:

# %%
scores = flat.clone().requires_grad_()
expert_loss(scores, same)[2].backward()
print("on the verge, gradient of each token's scores:", scores.grad[0].tolist())

# %% [markdown]
# **Device level** (eq. 26–28). What costs time is a busy *device*, and inside it the
# load may be uneven. For device $d$ let $f'_d$ be the **mean** of the $f_i$ of its
# experts, and $P'_d$ the **sum** of their $P_i$. Then $L = \sum_d f'_d P'_d$. Again it
# is 1 when all is even.
#
# ### Exercise 3 · the loss of the devices (medium, important, 8 minutes)
#
# You may start from `expert_loss`. With as many devices as experts the two are equal.
# The check tries the value and the gradient.

# %% tags=["nbval-ignore-output"]
def balance(scores: torch.Tensor, experts: torch.Tensor, devices: int
            ) -> torch.Tensor:
    """The device-level balance loss of one sequence, without its factor.

    scores: (T, E), softmax over all experts, with gradient; experts: (T, K), chosen.
    Device d holds the experts d E/devices to (d+1) E/devices - 1.
    """
    ...


check("moe.balance", balance)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def balance(scores: torch.Tensor, experts: torch.Tensor, devices: int
#             ) -> torch.Tensor:
#     tokens, count = scores.shape
#     f = F.one_hot(experts, count).sum((0, 1)) * count / experts.shape[1] / tokens
#     p = scores.mean(0)
#     return (f.view(devices, -1).mean(1) * p.view(devices, -1).sum(1)).sum()
# ```
#
# </details>
#
# **Communication** (eq. 29–31). The groups bound what a device *sends*. What it
# *receives* is counted in tokens, not in choices: a token travels once to a device,
# however many of its experts live there. If a token may reach at most `limit` devices
# (the paper's $M$),
#
# $$
# f''_d = \frac{\text{devices}}{\text{limit} \cdot T}\,\#\{\text{tokens sent to } d\},
# $$
#
# and the loss is $\sum_d f''_d P'_d$.
#
# **Predict.** Two devices hold two experts each; the limit is 2. All scores are even.
# First, half of the tokens choose both experts of device 0, half both of device 1.
# Second, each token chooses one expert of either device. Which of the three losses
# tells the two apart?

# %%
def three_losses(scores, experts, devices, limit):
    """The expert, device and communication loss of one sequence, in plain steps."""
    f, p, loss = expert_loss(scores, experts)
    p = p.view(devices, -1).sum(1)
    device = experts // (scores.shape[1] // devices)  # where each choice lives
    sent = torch.stack([(device == d).any(1).float().mean() for d in range(devices)])
    return torch.stack([loss, (f.view(devices, -1).mean(1) * p).sum(),
                        (devices / limit * sent * p).sum()])


from minicoder.model.balance import (
    communication_balance_loss,
    device_balance_loss,
    expert_balance_loss,
)
from minicoder.model.moe import Routing

apart = torch.tensor([[.5, 0, .5, 0]]).repeat(4, 1)
print(f"{'':<26}{'expert':>7}{'device':>8}{'communication':>15}")
for name, scores, chosen in (
        ("even, one device a token", flat, [[0, 1], [2, 3], [0, 1], [2, 3]]),
        ("even, two devices a token", flat, [[0, 2], [1, 3], [0, 3], [1, 2]]),
        ("one expert of each device", apart, [[0, 2]] * 4),
        ("both experts of device 0", sure, [[0, 1]] * 4)):
    routing = Routing(scores, torch.tensor(chosen), torch.ones(4, 2))
    losses = three_losses(scores, routing.experts, devices=2, limit=2)
    torch.testing.assert_close(losses, torch.stack([
        expert_balance_loss(routing, sequences=1),
        device_balance_loss(routing, sequences=1, devices=2),
        communication_balance_loss(routing, sequences=1, devices=2, limit=2)]))
    print(f"{name:<26}{losses[0]:>7.1f}{losses[1]:>8.1f}{losses[2]:>15.1f}")

# %% [markdown]
# **Explain.** The library agrees in all lines. Lines 1 and 2: only the communication
# loss sees that half the visits are saved. It is 1 when each token reaches as many
# devices as it may and they are used alike, and less when tokens stay nearer. Line 3:
# the device loss forgives what happens inside a device. In line 4, $f''$ is (1, 0) and
# $P'$ is (1, 0): 1 again. Device 0 receives every token once, as it does in line 2.
#
# **Change one thing.** What is the communication loss of line 1 with `limit=1`?
#
# The factors of the three, as DeepSeek-V2 was trained (§3.1.2, appendix B):
#
# | model | expert | device | communication |
# |---|---|---|---|
# | 236B | 0.003 | 0.05 | 0.02 |
# | Lite | 0.001 | – | – |
#
# Lite keeps all experts of a layer on one device and needs only the first. The released
# `config.json` says `aux_loss_alpha` 0.001 for *both*, and the public code has only the
# expert-level loss: who fine-tunes the 236B from its configuration gets a third of the
# paper's factor.
#
# ### What could go wrong: a factor that is silently 0
#
# In July 2026 the released configuration of DeepSeek-V3 had no `aux_loss_alpha` (older
# copies do). A training framework took the factor from this field, and it fell from
# 0.0001 to a default of 0, which skips the loss (Megatron-Bridge, pull request 5165).
# The unit test passed, because its own configuration had the field. Read it from such a
# file:

# %%
from minicoder.model.balance import Balance

released = {"n_routed_experts": 256}  # as shipped, in this respect
print("factor, read with a default:", released.get("aux_loss_alpha", 0.0))
try:
    Balance(device=0.0, communication=0.0, devices=1, limit=1)
except TypeError as error:
    print("Balance, without one:", str(error).split("() ")[1])
v2 = Balance(expert=0.003, device=0.05, communication=0.02, devices=2, limit=2)
print("all three of line 4 above:", round(v2.loss(routing, sequences=1).item(), 3))

# %% [markdown]
# `Balance` has no defaults: 0 must be written by somebody. The last number checks by
# hand: $0.003 \cdot 2 + 0.05 \cdot 2 + 0.02 \cdot 1 = 0.126$.
#
# ## 7. Token dropping: a ceiling per device
#
# The losses balance the load on average, not in each step. So while it trains, the 236B
# also has a ceiling: a device takes its fair share of visits (*capacity factor* 1.0);
# what is above is dropped, lowest scores first (§2.2.4). Nothing is dropped when the
# model is used, and so that it has seen this too, the tokens of about a tenth of the
# sequences are *spared*: never dropped.
#
# **Predict.** Experts 0 and 1 lie on device 0, experts 2 and 3 on device 1. 4 tokens
# choose one expert each: 0, 1, 0 and 3, with the scores .9, .5, .7 and .6. Which token
# is dropped? And when that token is spared?

# %%
from minicoder.model.balance import drop_tokens

chosen = torch.tensor([[0], [1], [0], [3]])
best = torch.tensor([[.9], [.5], [.7], [.6]])
scores = ((1 - best) / 3).repeat(1, 4).scatter(1, chosen, best)
routing = Routing(scores, chosen, best)
for spared in ([False] * 4, [False, True, False, False]):
    kept = drop_tokens(routing, devices=2, capacity=1.0, spared=torch.tensor(spared))
    print("spared", [t for t in range(4) if spared[t]], "weights",
          rounded(kept.weights[:, 0], 2))

# %% [markdown]
# **Explain.** 4 visits on 2 devices leave room for 2 each. Device 0 got three, and the
# weakest loses its expert: token 1 passes by on the residual connection and the shared
# experts. If it is spared, it takes its room first and token 2 must go. In training,
# `layer.drop = Dropping(devices=8, capacity=1.0, spared=0.1)` does this in a `MoE`; in
# `eval()` mode it does nothing.
#
# **Change one thing.** With which `capacity` is nothing dropped here?
#
# ## 8. Watch a router take sides
#
# A small model reads a few lines of Python letter by letter. Five of its six layers
# have 8 routed experts, of which a letter gets 2. The first layer is dense, as in the
# released models, because balance converges slowest there (DeepSeekMoE §5.1.2). It
# trains for 60 steps, once without balance loss and once with the factor 0.01, as
# DeepSeek's own small validation model (DeepSeekMoE §4.1.3).
#
# **Predict.** 1.0 is the fair load. Is the load of the idlest of all 40 experts nearer
# to 1, to one half or to 0 without the loss? And with it?

# %%
from minicoder.model.balance import expert_load
from minicoder.model.transformer import MiniCoder

TEXT = """def mean(values):
    return sum(values) / len(values)

def count(items, wanted):
    total = 0
    for item in items:
        if item == wanted:
            total += 1
    return total

def largest(values):
    best = values[0]
    for value in values[1:]:
        if value > best:
            best = value
    return best
"""
LETTERS = "\n" + "".join(map(chr, range(32, 127)))  # all that you may type
letters = torch.tensor([LETTERS.index(letter) for letter in TEXT])
tiny = preset("toy", vocab_size=len(LETTERS), hidden_size=48, num_hidden_layers=6,
              num_attention_heads=2, kv_lora_rank=24, qk_nope_head_dim=16,
              qk_rope_head_dim=8, v_head_dim=16, intermediate_size=96,
              moe_intermediate_size=24, n_routed_experts=8, num_experts_per_tok=2,
              initializer_range=0.1)


# %%
def train(factor, seed=0, steps=60):
    """A model trained on TEXT, and its last language loss in nats per letter."""
    torch.manual_seed(seed)
    model, draw = MiniCoder(tiny).double(), torch.Generator().manual_seed(1)
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        starts = torch.randint(len(letters) - 48, (8, 1), generator=draw)
        rows = letters[starts + torch.arange(49)]
        seen = []  # each MoE layer appends its Routing
        logits = model(rows[:, :-1], seen)
        loss = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        unbalanced = sum(expert_balance_loss(r, sequences=8) for r in seen)
        (loss + factor * unbalanced).backward()
        adam.step()
        adam.zero_grad()
    return model, loss.item()


# %% tags=["nbval-ignore-output"]
def routings(model, text=TEXT):
    """What each of the five MoE layers decides for the letters of `text`."""
    seen, places = [], [[LETTERS.index(letter) for letter in text]]
    with torch.no_grad():
        model.eval()(torch.tensor(places), seen)
    return seen


def load_map(model):
    """The load of 5 × 8 experts on TEXT, as multiples of the fair share."""
    return torch.stack([expert_load(routing) for routing in routings(model)]) * 8


models, maps = {}, {}
for factor in (0, 0.01):
    models[factor], loss = train(factor)
    maps[factor] = load_map(models[factor])
    print(f"factor {factor:<5} idlest expert {maps[factor].min():.2f}, busiest "
          f"{maps[factor].max():.2f} of its share, {loss:.2f} nats per letter")
assert maps[0].min() < 0.1 < maps[0.01].min() < 1 < maps[0.01].max() < maps[0].max()

# %%
figure, panels = plt.subplots(1, 2, figsize=(7.2, 2.9), sharey=True)
for axes, (factor, load) in zip(panels, maps.items(), strict=True):
    picture = axes.imshow(load, vmin=0, vmax=2.5, aspect="auto")
    for layer_, row in enumerate(load):
        for e, value in enumerate(row.tolist()):
            axes.text(e, layer_, f"{value:.1f}", ha="center", va="center", fontsize=8,
                      color="white" if value < 1.3 else "black")
    axes.set(xlabel="expert", xticks=range(8), yticks=range(5), yticklabels=range(1, 6),
             title=f"Factor {factor}: from {load.min():.1f} to {load.max():.1f}")
    axes.grid(visible=False)
panels[0].set_ylabel("MoE layer")
figure.colorbar(picture, ax=panels, label="× fair share")
plt.show()

# %% [markdown]
# **Explain.** The same weights at the start, the same rows: only the loss differs.
# Without it one expert here gets next to nothing; with it the idlest still has about a
# third of its share. Do not read the nats as a finding about quality: this is one seed
# and a text of a few lines.
#
# **Change one thing.** A factor of 1 must be better still, or not? Run
# `model, loss = train(1)` and look at `load_map(model)` and at `loss`.
#
# Which expert does each letter of a line get? Move the slider through the layers. The
# upper row is the expert with the larger weight. Letters that stood in the line before
# are bold.
#
# **Predict.** Does the same letter go to the same first expert each time? Chance alone
# would give 1 of 8.

# %%
LINE = "    return sum(values) / len(values)"  # or a line of your own
INKS = [colours[name] for name in (
    "sft", "grpo", "code", "math", "text", "ink", "after", "base")]
# where a letter stands that stood in the line before, and where it stood last
LAST = {t: LINE.rindex(letter, 0, t) for t, letter in enumerate(LINE)
        if letter != " " and letter in LINE[:t]}
ranked = []  # for each layer a row of first and a row of second experts
for routing in routings(models[0.01], TEXT + LINE):  # TEXT is what stands before
    place = routing.weights.argsort(dim=1, descending=True)
    ranked.append(routing.experts.gather(1, place)[-len(LINE):].T.tolist())


def draw_rows(axes, rows):
    """Coloured boxes with the number of an expert, one row for each list."""
    for y, row in enumerate(rows):
        for t, e in enumerate(row):
            axes.barh(y, 0.92, left=t - 0.46, height=0.86, color=INKS[e])
            axes.text(t, y, e, ha="center", va="center", fontsize=7.5,
                      color=colours["paper"])
    for t, letter in enumerate(LINE):
        axes.text(t, -0.85, letter.replace(" ", "·"), ha="center", family="monospace",
                  color=colours["ink" if t in LAST else "muted"],
                  weight="bold" if t in LAST else "normal")
    axes.set(xlim=(-0.6, len(LINE) - 0.4), ylim=(len(rows) - 0.5, -1.2), xticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


# %% tags=["nbval-ignore-output"]
frames, told = [], []
for number, rows in enumerate(ranked, start=1):
    figure, axes = plt.subplots(figsize=(6.4, 1.6))
    draw_rows(axes, rows)
    axes.set_yticks(range(2), ["first", "second"])
    again = sum(rows[0][t] == rows[0][last] for t, last in LAST.items())
    told.append(f"MoE layer {number}: {again} of {len(LAST)} letters go where they "
                "went last")
    axes.set_title(told[-1], fontsize=10.5)
    frames.append(figure)
frame_slider(frames, told, name="which-expert", start=0)

# %% [markdown]
# The still picture shows the first choice in all five layers.

# %% tags=["nbval-ignore-output"]
figure, axes = plt.subplots(figsize=(7.2, 2.4))
tops = [rows[0] for rows in ranked]
draw_rows(axes, tops)
axes.set_yticks(range(5), [f"layer {number}" for number in range(1, 6)])
again = sum(row[t] == row[last] for row in tops for t, last in LAST.items())
axes.set_title(f"{again} of {5 * len(LAST)} times a letter goes where it went last")
plt.show()
assert again > 5 * len(LAST) / 2  # chance alone would give about an eighth

# %% [markdown]
# **Explain.** Experts here specialise in letters and their surroundings, not in topics.
# The same letter mostly goes the same way, because its vector comes from the same
# embedding, and what attention has mixed in changes the choice sometimes.
#
# **Change one thing.** Write a line of your own code into `LINE` and run its three
# cells. Do capital letters and digits, which the model never read, go somewhere?
#
# ## 9. What could go wrong: a bias that leaks
#
# DeepSeek-V3, the next model, balances in another way: a *bias* for each expert is
# added to its score, raised when the expert idles and lowered when it is busy. The bias
# may decide only **who** is chosen. The weight stays the score without bias (arXiv
# 2412.19437, §2.1.2). A published "from scratch" book takes the weight from the biased
# score.
#
# **Predict.** Expert 4 idles, so its bias is .06. Who is chosen now, and with what
# weights?

# %%
bias = torch.zeros(8, dtype=torch.float64)
bias[4] = 0.06
experts = (SCORES + bias).topk(3).indices.sort().values
right = SCORES.gather(1, experts)
leaking = (SCORES + bias).gather(1, experts)
print("chosen", experts[0].tolist(), "instead of [0, 3, 6]")
for name, weights in (("right", right), ("leaking", leaking)):
    known = torch.isin(weights, SCORES).all().item()
    print(f"{name:<8}{rounded(weights[0], 2)}, expert 4 has {weights[0, 2] / .15:.1f} "
          f"times its score; all weights are scores: {known}")

# %% [markdown]
# An expert gets louder *because nobody wants it*. The last column is the assertion that
# catches it.
#
# DeepSeek-V2 and this library have no bias.
#
# ## What you keep
#
# 1. A softmax over all experts, the best K of the allowed groups, and the scores as
#    weights, not renormalised, times `routed_scaling_factor`: that is the router.
# 2. Sort the choices by expert, run each expert on its slice, un-sort by the inverse
#    order: the result equals the dense loop, at $K/E$ of its work.
# 3. A balance loss is load times mean score, for experts, devices or wires; the
#    gradient goes through the scores alone, and its factor must be written down.
#
# ## Where to go next
#
# - Lesson 06 puts the layer into the model and counts both released models to the unit;
#   lesson 07 trains with the three losses and counts the traffic jams without them.
# - `minicoder/model/moe.py` and `minicoder/model/balance.py` are this lesson as
#   library; `tests/oracles.py` has the slow loops.
#
# ## References
#
# - DeepSeekMoE, arXiv 2401.06066: §3.1 fine-grained experts, §3.2 shared experts,
#   §4.1.3 the small model, §5.1.2 the dense first layer.
# - DeepSeek-V2, arXiv 2405.04434: §2.2 the layer (eq. 20–22), §2.2.2 groups, §2.2.3 the
#   losses (eq. 23–31), §2.2.4 dropping, §3.1.2 factors, appendix B Lite.
# - DeepSeek-V3, arXiv 2412.19437: §2.1.2 the bias.
# - NVIDIA-NeMo/Megatron-Bridge, pull request 5165: the absent field.
