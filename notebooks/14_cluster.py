# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 14 · Cluster: memory, traffic, bubbles
#
# 235.7 billion parameters lie on no single machine, so many processes share them. Each
# way to share pays out of one of three budgets: **memory** (what must lie here),
# **traffic** (what must travel) and **bubbles** (who waits). You count all three by
# hand. Then four real processes train on your machine and give one process's numbers.
#
# - **You will be able to** *count* what a process holds, sends and waits for; *write*
#   the all-to-all of expert parallelism; *plan* the 236B for a cluster, and say why a
#   plan is refused.
# - **You need first:** lessons 04, 05 and 07 (MLA, experts, AdamW).
# - **Time:** 45 seconds on two quiet cores; 45 minutes to read, 35 minutes for the
#   exercises.
# - **Paper:** DeepSeek-V2 (arXiv 2405.04434) §2.2.2–2.2.4, §3.1.3, §3.2.3.

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
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

os.environ |= {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}  # for those that we start
import ipywidgets
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from minicoder.config import parameter_count, preset
from minicoder.errors import UserError
from minicoder.model.transformer import MiniCoder
from minicoder.model.weights import read_header
from minicoder.show.check import check, hint, solution  # noqa: F401
from minicoder.show.slider import frame_slider
from minicoder.show.style import use_style
from minicoder.stages import read_json, read_jsonl, stage

torch.set_num_threads(1)  # small matrices: a second thread would cost, not help
colours = use_style()
folder = tempfile.TemporaryDirectory()  # fresh each time, removed with the kernel
work = Path(folder.name)

# %% [markdown]
# ## 1. Memory: 16 bytes a parameter
#
# AdamW in float32 keeps four numbers for each parameter: the weight, its gradient and
# two moments (lesson 07). That is 16 bytes. $P$ processes that read different rows
# would all hold the same 16 bytes. **ZeRO** (zero redundancy optimizer) deals them out,
# in three steps:
#
# | | dealt out | bytes a parameter and process |
# |---|---|---|
# | copies: DDP, distributed data parallel | nothing | $16$ |
# | ZeRO-1 | moments | $8 + 8/P$ |
# | ZeRO-2 | and gradients | $4 + 12/P$ |
# | ZeRO-3, **FSDP**, fully sharded data parallel | and weights | $16/P$ |
#
# **Predict.** How many GB are 16 bytes for each of 235.7 billion parameters? What must
# a GPU of 80 GB hold of them when 64 share, with ZeRO-1 and with FSDP?

# %%
full = preset("full_236b")
N = parameter_count(full)


def gb(count):
    return f"{count / 1e9:,.1f} GB"


print(f"{N:,} parameters, 16 bytes each: {gb(16 * N)}")
for P in (8, 64, 256, 2048):
    print(f"{P:>5} processes: ZeRO-1 {gb((8 + 8 / P) * N):>10}, "
          f"ZeRO-2 {gb((4 + 12 / P) * N):>8}, FSDP {gb(16 * N / P):>8}")

# %% [markdown]
# **Explain.** ZeRO-1 and ZeRO-2 never come below 8 and 4 bytes a parameter: 943 GB of
# weights do not fit, however many GPUs there are. (The paper used ZeRO-1, *after* 16
# stages and 8 shares of the experts had cut the model; section 6.)
#
# Is $16 N / P$ what our library holds? `holdings` counts the numbers of one process by
# the library's own rules; its tests compare it with real shards, to the last one.

# %%
from minicoder.parallel.layout import Layout
from minicoder.scale.placement import holdings

for P, E in ((64, 1), (256, 1), (2048, 1), (2048, 8)):
    numbers, _ = holdings(full, Layout(expert=E).of(P), rank=0)
    print(f"{P:>5} processes, experts in {E}: rank 0 holds {gb(16 * numbers)}, "
          f"the formula says {gb(16 * N / P)}")
assert math.isclose(numbers, N / P, rel_tol=0.02)

# %% [markdown]
# **Explain.** To the last digit, until the third line: twelve times too much. A stack
# of experts is $160 \times 3072 \times 5120$ numbers, and 2,048 divides none of the
# three. So of each stack 160 processes get an expert, and 1,888 get nothing. A formula
# says $N/P$; a planner must know shapes. Dealt out to 8 first, 20 experts each, nearly
# all divides.
#
# FSDP has a price. A weight of which I hold a part cannot multiply. So before a unit (a
# layer) runs, its weights are *gathered* from all, and after it dropped again. While it
# is there, it is whole, and so is its gradient.
#
# **Predict.** One layer of the 236B has 160 experts. How many GB are its weights in
# bfloat16 (2 bytes) and its gradients in float32 (4)? And if 8 processes deal out the
# experts, and each keeps its 20?

# %%
layer = parameter_count(full) - parameter_count(replace(full, num_hidden_layers=59))
expert = 3 * full.hidden_size * full.moe_intermediate_size
experts = full.n_routed_experts * expert
print(f"a layer: {layer:,} parameters, {experts / layer:.0%} of them in experts")
print(f"gathered whole: {gb(6 * layer)}")
print(f"with 20 of the experts: {gb(6 * (layer - experts * 7 / 8))}")

# %% [markdown]
# **Explain.** 24 GB for a moment, for one layer; and its weights travel twice, for the
# way there and the way back, as those of all 60 layers do. Yet a token uses 6 of the
# 160 experts. So experts stay where they are, and tokens travel to them: **expert
# parallelism**.
#
# What FSDP does *not* divide: activations. They grow with the rows that a process
# reads, and with the number of layers. Lesson 04's famous bug was a memory formula that
# forgot the layers (7.8 GB told, 480 GiB true). The next exercise catches it again.
#
# ### Exercise 1 · the peak of FSDP (easy, important, 8 minutes)

# %% tags=["nbval-ignore-output"]
def fsdp_peak(units: list[int], processes: int) -> float:
    """Bytes of a process at the worst moment, all in float32.

    units: parameters of each unit of FSDP. What lies there for good is dealt out.
    Beside it lies, whole, the unit that runs: its weights and gradients. A process
    that is alone (processes = 1) has it whole already.
    """
    ...


check("cluster.fsdp_peak", fsdp_peak)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def fsdp_peak(units, processes):
#     state = 16 * sum(units) / processes
#     return state + 8 * max(units) if processes > 1 else state
# ```
#
# </details>
#
# ## 2. Traffic: the all-to-all by hand
#
# Four "devices" in one process: each is an entry of a list. There are 8 experts, two a
# device; each device has 4 tokens, and a token goes to 3 experts, which its router
# takes from the 2 best devices (*device-limited routing*, §2.2.2).

# %%
SIZES = dict(
    vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
    kv_lora_rank=8, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8,
    intermediate_size=32, moe_intermediate_size=8, n_routed_experts=8,
    num_experts_per_tok=3, topk_method="group_limited_greedy", n_group=4, topk_group=2,
    initializer_range=0.3)


def new_model():
    """The same random weights each time, in float64."""
    torch.manual_seed(0)
    return MiniCoder(preset("toy", **SIZES)).double()


moe = new_model().model.layers[1].mlp
draw = torch.Generator().manual_seed(1)
x = torch.randn(16, 16, generator=draw, dtype=torch.float64)
with torch.no_grad():
    routing = moe.gate(x)
xs, chosen, weights = (part.chunk(4) for part in (x, routing.experts, routing.weights))
for t, e in enumerate(chosen[0].sort().values.tolist()):
    print(f"device 0, token {t}: experts {e} on devices {sorted({i // 2 for i in e})}")

# %% [markdown]
# Expert $e$ lives on device $e // 2$. Five steps: **route** (done), **count** who goes
# where, **send**, **run**, **send back** and add.
#
# **Predict.** A token with two experts on one device: is it sent there once or twice?

# %%
def run_expert(e, rows):
    """SwiGLU of one expert (lesson 05)."""
    gate, up = (rows @ moe.experts.gate_up_proj[e].T).chunk(2, dim=-1)
    return (F.silu(gate) * up) @ moe.experts.down_proj[e].T


def run_device(d, rows, experts, weights):
    """The weighted sum of those of a row's experts that live on device d."""
    out = torch.zeros_like(rows)
    for e in (2 * d, 2 * d + 1):
        share = (weights * (experts == e)).sum(1, keepdim=True)
        out += share * run_expert(e, rows)
    return out


with torch.no_grad():
    goes = [[(e // 2 == d).any(1).nonzero().flatten() for d in range(4)]
            for e in chosen]                                    # count
    leaving = [[(xs[s][who], chosen[s][who], weights[s][who])
                for who in goes[s]] for s in range(4)]          # one box a pair
    arriving = [[leaving[s][d] for s in range(4)] for d in range(4)]    # ALL-TO-ALL
    answers = [[run_device(d, *box) for box in arriving[d]] for d in range(4)]
    back = [[answers[d][s] for d in range(4)] for s in range(4)]        # and again
    outs = [torch.zeros_like(part) for part in xs]
    for s in range(4):
        for who, rows in zip(goes[s], back[s], strict=True):
            outs[s].index_add_(0, who, rows)
    torch.testing.assert_close(torch.cat(outs), moe.experts(x, routing),
                               rtol=0, atol=1e-12)
print("rows from device s (down) to device d (right):")
print(torch.tensor([[len(who) for who in row] for row in goes]))
print("the four devices give what one layer gives, to 1e-12")

# %% [markdown]
# **Explain.** An all-to-all is a transposition: box $(s, d)$ becomes box $(d, s)$. A
# row travels *once*, with its experts and weights, and the device sends one *sum* back.
#
# **Predict.** 16 tokens choose 48 experts. How many rows leave if each visit is a row?
# If a token goes once to each device? If its own device does not count?

# %%
def count(routing, devices, sources):
    """Rows by visit; rows by device; and of those the ones that leave home."""
    each = routing.scores.shape[1] // devices
    device = routing.experts // each
    once = F.one_hot(device, devices).amax(1)
    own = once[torch.arange(len(once)), torch.arange(len(once)) // sources].sum()
    return device.numel(), once.sum().item(), (once.sum() - own).item()


free = replace(preset("toy", **SIZES), topk_method="greedy")
gate = type(moe.gate)(free).double()
gate.load_state_dict(moe.gate.state_dict())
with torch.no_grad():
    for name, one in (("best 3 of all", gate(x)), ("of 2 devices", routing)):
        visits, once, away = count(one, 4, 4)
        print(f"{name:<14} {visits} visits, {once} rows once a device, {away} leave")
assert once <= 2 * 16
counted = [visits, once, away]  # the four processes below must count the same

# %% [markdown]
# For the 236B: 160 experts on 8 devices, 6 chosen, from at most 3 devices. Scores are
# random here. A trained router has favourites and its own averages; 6 and 3 are bounds.
#
# **Predict.** To how many devices does a token go, free and limited?

# %%
from minicoder.scale.traffic import devices_reached

reach = {"each visit": 6, "once a device, free": devices_reached(full, 8, False),
         "once, from 3 devices": devices_reached(full, 8)}
for name, devices in reach.items():
    # there and back, 7 of 8 leave home; 5,120 numbers of 2 bytes; 59 layers
    megabytes = devices * 7 / 8 * 2 * 2 * full.hidden_size * 59 / 1e6
    print(f"{name:<22}{devices:.2f} devices, {megabytes:.1f} MB a token forward")
assert abs(reach["once a device, free"] - 8 * (1 - (7 / 8) ** 6)) < 0.1
assert reach["once, from 3 devices"] <= 3

# %% [markdown]
# **Explain.** Half of the traffic is gone, for two reasons: a token goes once, and to
# 3 devices at most. The limit also *bounds* it: no token can need more.
#
# ### Exercise 2 · the exchange (medium, important, 15 minutes)

# %% tags=["nbval-ignore-output"]
def exchange(xs: list, experts: list, devices: list, each: int) -> list:
    """Send tokens to the devices of their experts and add up what comes back.

    xs[s]: tokens (M, D) of device s; experts[s]: theirs, (M, K), without weights here.
    Expert e lives on device e // each. devices[d](rows, experts) gives for each row the
    sum over its experts that live on d. Call each once; a row goes once to a device.
    """
    ...


check("cluster.exchange", exchange)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def exchange(xs, experts, devices, each):
#     outs = [torch.zeros_like(x) for x in xs]
#     for home, device in enumerate(devices):
#         who = [(chosen // each == home).any(1).nonzero().flatten()
#                for chosen in experts]
#         rows = torch.cat([x[w] for x, w in zip(xs, who, strict=True)])
#         chosen = torch.cat([e[w] for e, w in zip(experts, who, strict=True)])
#         back = device(rows, chosen).split([len(w) for w in who])
#         for out, w, part in zip(outs, who, back, strict=True):
#             out.index_add_(0, w, part)
#     return outs
# ```
#
# </details>
#
# Now with four real processes. `torchrun` starts the script four times and tells each
# its number; `gather_team` lets them find each other, and `spread_experts` deals the
# experts out. (The second half of the script belongs to section 3.)

# %%
SCRIPT = '''
import json, sys
from dataclasses import asdict
from pathlib import Path
import torch
from minicoder.config import preset
from minicoder.model.transformer import MiniCoder
from minicoder.parallel.experts import spread_experts, traffic
from minicoder.parallel.layout import Layout, gather_team, team_of
from minicoder.parallel.tensor import cut_heads, entering

work, sizes = Path(sys.argv[1]), json.loads(sys.argv[2])

def new_model():
    torch.manual_seed(0)
    return MiniCoder(preset("toy", **sizes)).double()

with gather_team(Layout(expert=4), torch.device("cpu")) as team, torch.no_grad():
    model, draw = new_model(), torch.Generator().manual_seed(1)
    spread_experts(model, team)
    x = torch.randn(16, 16, generator=draw, dtype=torch.float64)
    own, moe = x.chunk(4)[team.rank], model.model.layers[1].mlp
    found = {"out": moe.experts(own, moe.gate(own)).tolist(),
             "experts here": len(moe.experts.down_proj.to_local()),
             "traffic": asdict(traffic(model)[0])}
    mesh = team_of(Layout(tensor=4), team.device).dense["tensor"]
    for way in ("right", "bug"):
        model = new_model()
        cut_heads(model, mesh)
        attention = model.model.layers[1].self_attn
        if way == "bug":    # the latent's gradient is summed, the rotary key's is not
            del attention.to_cache
            plain = attention.to_cache
            def to_cache(x, rope):
                latent, key = plain(x, rope).split([8, 4], dim=-1)
                return torch.cat((entering(latent, mesh), key), dim=-1)
            attention.to_cache = to_cache
        with torch.enable_grad():
            logits = model(torch.arange(24).view(2, 12))
            loss = logits.square().mean()
            loss.backward()
        found[way] = {"loss": loss.item(), "gradient":
                      attention.kv_a_proj_with_mqa.weight.grad.tolist()}
    (work / f"process-{team.rank}.json").write_text(json.dumps(found))
'''

# %%
def torchrun(processes, *arguments):
    """Start a program in so many processes, and wait for them."""
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone",
         "--nproc-per-node", str(processes), *map(str, arguments)],
        cwd=work, capture_output=True, text=True, timeout=240)


(work / "script.py").write_text(SCRIPT)
done = torchrun(4, "script.py", work, json.dumps(SIZES))
assert done.returncode == 0, done.stderr[-2000:]
found = [read_json(work / f"process-{rank}.json") for rank in range(4)]
real = torch.tensor([one["out"] for one in found], dtype=torch.float64)
torch.testing.assert_close(real, torch.stack(outs), rtol=0, atol=1e-12)
sent = [one["traffic"] for one in found]
print("experts in each process:", [one["experts here"] for one in found])
print("rows once a device:", sum(one["copies"] for one in sent),
      "| leave:", sum(one["away_copies"] for one in sent),
      "| visits:", sum(one["visits"] for one in sent))
assert [sum(one[key] for one in sent) for key in (
    "visits", "copies", "away_copies")] == counted

# %% [markdown]
# **Explain.** Nobody holds more than two experts, and the outputs are those of one
# process. The library's counter says what you counted.
#
# ## 3. The trap of averages
#
# Sharing goes wrong quietly: nothing crashes, and the loss falls. Three traps.
#
# **Predict.** Process A has three answer tokens with loss 1, process B one token with
# loss 5. What is the mean loss of a token? What is the mean of the two means?

# %%
A, B = torch.ones(3), torch.tensor([5.0])
true = torch.cat((A, B)).mean()
naive = (A.mean() + B.mean()) / 2
share = (len(A) + len(B)) / 2   # tokens of a process, on average
fixed = (A.sum() / share + B.sum() / share) / 2
print(f"mean of all {true:.0f}, mean of means {naive:.0f}, "
      f"sums over the same share {fixed:.0f}")
assert fixed == true

# %% [markdown]
# **Explain.** Rows of pre-training are alike long, so there a mean of means is right.
# Where counts differ, all must divide by the *same* number. (Lesson 07 met the same bug
# in a loop over parts of a step.)
#
# Second trap: gradients are *averaged* over the processes that read rows. But an expert
# that lives in one process alone has gathered the tokens of all four: its gradient is a
# sum already, and there is nobody to average with. It must still be divided by 4.
#
# **Predict.** Suppose that we forget to. Which weights show it after one step: those of
# SGD, or those of AdamW?

# %%
for kind in (torch.optim.SGD, torch.optim.AdamW):
    after = []
    for factor in (1, 4):
        weight = nn.Parameter(torch.ones(1))
        optimizer = kind([weight], lr=0.1, weight_decay=0.0)
        weight.grad = torch.tensor([0.5 * factor])
        optimizer.step()
        after.append(round(weight.item(), 4))
    print(f"{kind.__name__:<6} right {after[0]}, four times the gradient {after[1]}")

# %% [markdown]
# **Explain.** AdamW divides a constant factor away: the loss curve looks healthy. But
# clipping measures all gradients together (lesson 07): the experts count four times in
# it, and all others are shortened. So compare *gradients*, not losses. (`parallelize`
# divides by the number of readers.)
#
# Third trap, a **real bug**. Tensor parallelism deals out the heads. The rotary key of
# MLA belongs to all heads (lesson 04), so every process computes it. With one number
# each: head $h$ gives $q_h k$.
#
# **Predict.** $q = (2, 3)$ and the loss is $2k + 3k$. What is its slope in $k$? What
# does the process with the first head say, and the one with the second?

# %%
k = torch.tensor(1.0, requires_grad=True)
(2 * k + 3 * k).backward()
own = []
for q in (2.0, 3.0):
    copy = torch.tensor(1.0, requires_grad=True)
    (q * copy).backward()
    own.append(copy.grad.item())
print(f"slope {k.grad:.0f}; the two processes say {own}, their sum {sum(own):.0f}")

# %% [markdown]
# **Explain.** Each process sees its own heads: 2, 3. The sum is right, so somebody has
# to sum. For the *latent* the matrix behind it does that: its outputs are dealt out by
# heads (*column-parallel*), and on the way back it adds up the gradients of its input.
# The rotary key goes around that matrix. Megatron-LM lacked the sum (issue 1699, July
# 2025; a repair, pull request 6839, was under review in August 2026).
#
# The script of section 2 made it: four processes, one head each.
#
# **Predict.** Is the loss of the buggy run wrong? Do the processes notice?

# %%
model = new_model()
loss = model(torch.arange(24).view(2, 12)).square().mean()
loss.backward()
whole = model.model.layers[1].self_attn.kv_a_proj_with_mqa.weight.grad
for way in ("right", "bug"):
    each = torch.tensor([one[way]["gradient"] for one in found], dtype=torch.float64)
    gap = (each - whole).abs().amax((0, 2)) / whole.abs().amax()
    drift = (each - each[0]).abs().amax() / whole.abs().amax()
    same = all(math.isclose(one[way]["loss"], loss.item()) for one in found)
    print(f"{way:<6}loss right: {same}"
          f" | latent's rows right: {(gap[:8] < 1e-9).all().item()}"
          f" | key's rows right: {(gap[8:] < 1e-9).all().item()}"
          f" | all processes agree: {(drift < 1e-9).item()}")

# %% [markdown]
# **Explain.** The loss is right. The key's gradient is wrong, and *differs* between
# processes: after one step, four copies of "the same" matrix are four matrices. Two
# tests catch it: gradients against one process, and equality of what should be copies.
#
# **Change one thing.** In the script, sum the key's gradient and not the latent's:
# `torch.cat((latent, entering(key, mesh)), dim=-1)`. Run that cell, the next one and
# this one again. Which rows are wrong now? (The latent's. The loss is right as before.)
#
# ## 4. Bubbles: who waits
#
# A **pipeline** deals out layers: stage 1 waits for stage 0. So rows are cut into $m$
# microbatches. Going forward takes 1, going back 2: one for the gradient of the input,
# one for that of the weights. Only the first is waited for. Three orders of work:
#
# - **GPipe**: all forward, then all back.
# - **1F1B**: one forward, one back, as soon as that is possible.
# - **Zero bubble** (arXiv 2401.10241): as 1F1B, and weights' gradients fill the gaps.
#
# **Predict.** With $p = 4$ stages and $m = 8$: which share of a step does each wait?

# %%
COST = {"F": 1, "B": 2, "I": 1, "W": 1}  # I and W: the two parts of B


def order(stage, p, m, way):
    """What a stage does in turn; weights' gradients come where there is a gap."""
    ahead = m if way == "GPipe" else min(m, p - stage)
    work = [("F", i) for i in range(ahead)]
    for i in range(m):
        work.append(("I" if way == "zero bubble" else "B", i))
        if ahead + i < m:
            work.append(("F", ahead + i))
    return work


def play(p, m, way):
    """Blocks (stage, kind, start) of a step, and its length."""
    queues, late = [order(s, p, m, way) for s in range(p)], [[] for _ in range(p)]
    free, done, blocks, now = [0] * p, {}, [], 0

    def ready(s, kind, i):
        if kind == "F":
            return done.get(("F", s - 1, i), math.inf) if s else 0
        return done.get((kind, s + 1, i) if s < p - 1 else ("F", s, i), math.inf)

    while any(queues) or any(late):
        for s in range(p):
            if free[s] > now:
                continue
            if queues[s] and ready(s, *queues[s][0]) <= now:
                kind, i = queues[s].pop(0)
            elif late[s]:
                kind, i = "W", late[s].pop(0)
            else:
                continue
            free[s] = done[kind, s, i] = now + COST[kind]
            blocks.append((s, kind, now))
            late[s] += [i] * (kind == "I")
        now += 1
    return blocks, max(free)


WAYS = ("GPipe", "1F1B", "zero bubble")
WORK = COST["F"] + COST["B"]    # of a stage, for a microbatch
for way in WAYS:
    counted = {}
    for p, m in ((4, 8), (4, 32), (16, 64)):
        blocks, length = play(p, m, way)
        waiting = length - WORK * m
        put_off = COST["W"] if way == "zero bubble" else 0
        assert waiting == (p - 1) * (WORK - 2 * put_off)
        counted[p, m] = f"p {p}, m {m}: {waiting / length:.1%}"
    print(f"{way:<12}", " | ".join(counted.values()))

# %%
def draw_step(m, p=4):
    inks = {"F": "sft", "B": "grpo", "I": "grpo", "W": "code"}
    figure, rows = plt.subplots(3, 1, figsize=(7.2, 4.6), sharex=True)
    for axes, way in zip(rows, WAYS, strict=True):
        blocks, length = play(p, m, way)
        for s, kind, start in blocks:
            axes.barh(s, COST[kind] - 0.08, left=start, height=0.8,
                      color=colours[inks[kind]])
        axes.set_title(f"{way}: waits {1 - WORK * m / length:.1%}", fontsize=10)
        axes.set(yticks=range(p), ylim=(p - 0.4, -0.6), ylabel="stage")
        axes.grid(False)
    rows[-1].set_xlabel("time in forward passes: blue forward, orange back, "
                        "green weights' gradients")
    return figure


MANY = (4, 8, 16)
frame_slider([draw_step(m) for m in MANY],
             [f"{m} microbatches in 4 stages wait: " + ", ".join(
                 f"{way} {1 - WORK * m / play(4, m, way)[1]:.0%}" for way in WAYS)
              for m in MANY], name="cluster-bubbles", start=1)

# %% [markdown]
# **Explain.** GPipe and 1F1B wait equally long, $(p-1)/(m+p-1)$ of a step. 1F1B keeps
# the activations of at most $p$ microbatches, GPipe those of all $m$: there it wins.
# Zero bubble waits $(p - 1)(F + B - 2W)$ in place of $(p - 1)(F + B)$: a third here.
# (That holds where $W$ is just as long as the shorter of $F$ and $B - W$.) It pays
# in memory, since activations stay until the weights' gradients are made.
#
# **Change one thing.** Who *recomputes* drops activations and makes them again on the
# way back, which then takes longer: `"B": 3, "I": 2`. Does the formula, which the cell
# asserts, still hold? Is what is left still a third? (It holds. A half is left, 6 of
# 12.)
#
# ![Three schedules of a pipeline of 4 stages and 6 microbatches: GPipe and 1F1B take
# 27 forward passes, the zero-bubble one 21.](../figures/cluster-light.svg)
#
# The library's pipeline runs PyTorch's schedules; its planner knows their formulas.
# `ZBVZeroBubble` gives each process two half stages in a V, and halves the wait again.

# %%
from minicoder.scale.schedules import bubble as planned

for p, m in ((4, 8), (16, 576)):
    shares = {way: planned(Layout(p, shard=1, pipeline_schedule=way), m)
              for way in ("GPipe", "1F1B", "ZBVZeroBubble")}
    assert math.isclose(shares["1F1B"], (p - 1) / (m + p - 1))
    print(f"p {p}, m {m}: " + ", ".join(f"{w} {s:.1%}" for w, s in shares.items()))

# %% [markdown]
# ### Exercise 3 · the bubble (medium, useful, 10 minutes)

# %% tags=["nbval-ignore-output"]
def bubble(p: int, m: int, forward: float, backward: float, weights: float) -> float:
    """The share of a step that a stage of a pipeline waits.

    weights: the part of `backward` that is put off into gaps; 0 for 1F1B.
    """
    ...


check("cluster.bubble", bubble)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def bubble(p, m, forward, backward, weights):
#     waiting = (p - 1) * (forward + backward - 2 * weights)
#     return waiting / (waiting + m * (forward + backward))
# ```
#
# </details>
#
# ## 5. Four processes train as one
#
# Now the real command. First a tiny corpus, a tokenizer and rows of 64 tokens.

# %%
from minicoder.data.corpus import write_documents
from minicoder.data.packing import pack
from minicoder.data.sources import Document
from minicoder.tokenizer import Tokenizer


def text(kind, draw):
    a, b = draw.randrange(99), draw.randrange(99)
    return {"code": f"def f{a}(x):\n    return x + {b}\n",
            "math": f"{a} + {b} is big.\n",
            "text": f"The {draw.choice(['fox', 'bird'])} sees {a} trees.\n"}[kind]


draw = random.Random(0)
documents = [
    Document("".join(text(kind, draw) for _ in range(draw.randrange(3, 12))),
             f"{kind}{i}", "Python", kind, "made here", "MIT")
    for kind, number in (("code", 60), ("math", 12), ("text", 40))
    for i in range(number)]
with redirect_stdout(StringIO()):   # stages tell their minutes
    with stage(work / "corpus", "data", {}) as run:
        write_documents(documents, run.work)
    with stage(work / "tokenizer", "tokenizer", {}) as run:
        Tokenizer.train([one.text for one in documents], 270).save(run.work)
    pack(work / "pack", work / "corpus", work / "tokenizer", 64, 20_000)
made = read_json(work / "pack" / "pack.json")
print(f"{sum(made['tokens'].values()):,} tokens, in rows of 64")

# %% [markdown]
# Two layouts, for a model of 1.8 million parameters. A layout is a few flags of the
# same command:
#
# | run | processes | flags |
# |---|---|---|
# | `alone` | 1 | none: no torchrun |
# | `heads` | 4 | `--shard 2 --tensor 2 --expert 4` |
# | `stages` | 4 | `--pipeline 2 --expert 2` (so `--shard 2`) |
#
# Each process of `heads` has half of the heads and 4 of the 16 experts, and FSDP deals
# the rest out. `stages` has 2 stages of 2 processes.
#
# **Predict.** Float32 adds in another order in each. In how many digits do the losses
# agree after 12 steps?

# %%
SAME = ("--shards pack --tokenizer tokenizer --steps 12 --batch 8 --accumulate 2 "
        "--warmup 2 --lr 1e-3 --recall 0 --middles 0").split()
HEADS = "--shard 2 --tensor 2 --expert 4".split()
STAGES = "--pipeline 2 --expert 2".split()


def losses(name):
    """The losses of steps 0, 10 and 11, which the run has logged."""
    return [line["loss"] for line in read_jsonl(work / name / "metrics.jsonl")]


alone = subprocess.run(
    [sys.executable, "-m", "minicoder", "pretrain", "--out", "alone", *SAME],
    cwd=work, capture_output=True, text=True)
assert alone.returncode == 0, alone.stderr[-2000:]
heads = torchrun(4, "-m", "minicoder", "pretrain", "--out", "heads", *SAME, *HEADS)
assert heads.returncode == 0, heads.stderr[-2000:]
for name in ("alone", "heads"):
    made = read_json(work / name / "made_by.json")["device"]
    print(f"{name:<8}on {made:<8}loss", ", ".join(f"{v:.3f}" for v in losses(name)))
torch.testing.assert_close(losses("heads"), losses("alone"), rtol=1e-4, atol=0)

# %% [markdown]
# **Explain.** In four, and the cell asserts it: sums in another order differ in their
# last bits only.
#
# Now `stages`, and one of its four processes dies in step 8: SIGKILL, as from a node
# that loses power. The script is the command plus that death; and it keeps a checkpoint
# after every step, not every 30 seconds.
#
# **Predict.** What do the other three do? What is on disk?

# %%
(work / "mortal.py").write_text('''
import os, signal, sys
from minicoder.__main__ import main
from minicoder.training import loop

loop.SECONDS_BETWEEN_CHECKPOINTS = -1.0
step = loop.one_step

def one_step(*args):
    if args[4] == 8 and os.environ["RANK"] == "2":
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*args)

loop.one_step = one_step
sys.exit(main(sys.argv[1:]))
''')
killed = torchrun(4, "mortal.py", "pretrain", "--out", "stages", *SAME, *STAGES)
print("torchrun ended well:", killed.returncode == 0, "| finished:",
      (work / "stages").exists())
newest = max((work / "stages.partial" / "state").glob("step-*"))
parts = sorted(newest.glob("shards-*.safetensors"))
numbers = [sum(entry.stop - entry.start for entry in read_header(path).values()) // 4
           for path in parts]
N_TOY = sum(v.numel() for v in load_file(work / "alone/model.safetensors").values())
print(f"{newest.name}: {len(parts)} files with {sum(numbers) / N_TOY:.2f} numbers a "
      f"parameter, {[f'{n / sum(numbers):.0%}' for n in numbers]} of them each")
assert killed.returncode != 0 and len(parts) == 4

# %% [markdown]
# **Explain.** torchrun ends them all. On disk lies the checkpoint of the last whole
# step, in four files: weights and two moments, so three numbers a parameter, and each
# process wrote its own part. Nobody ever held the whole.
#
# The cluster has now only two processes to give. The same command, with another layout:
#
# **Predict.** Can two processes with half of the heads each go on from four files of
# two stages? And what will the loss be at the end?

# %%
again = torchrun(2, "-m", "minicoder", "pretrain", "--out", "stages", *SAME,
                 "--tensor", "2")
assert again.returncode == 0, again.stderr[-2000:]
print("stages  on", read_json(work / "stages" / "made_by.json")["device"], "  loss",
      ", ".join(f"{v:.3f}" for v in losses("stages")))
torch.testing.assert_close(losses("stages"), losses("alone"), rtol=1e-4, atol=0)
one = load_file(work / "alone" / "model.safetensors")
for name in ("heads", "stages"):
    other = load_file(work / name / "model.safetensors")
    assert other.keys() == one.keys()
    norm = sum(v.square().sum() for v in one.values()) ** 0.5
    gap = sum((other[key] - v).square().sum() for key, v in one.items()) ** 0.5 / norm
    assert gap < 1e-4
    print(f"{name}: final weights within 1e-4 of those of one process")

# %% [markdown]
# **Explain.** A checkpoint knows each tensor's whole shape and which part lies in which
# file. Who loads asks for *its* part. So the layout is no property of a run: it may
# change at any restart.
#
# ## 6. The plan of the 236B
#
# The paper (§3.1.3): 16 stages, experts on 8 devices, ZeRO-1, no tensor parallelism,
# H800s, 8 a node; a zero-bubble schedule. It names no number of GPUs. It names a cost:
# **172.8K GPU-hours for 1T tokens** (§3.2.3).
#
# **Predict.** How many tokens a second and GPU is that? A token costs about 155 GFLOP
# there and back; an H800 does 989 TFLOP/s at best. Which share does it reach?

# %%
from minicoder.scale import flops
from minicoder.scale.devices import paper_utilisation

speed = 1e12 / (172.8e3 * 3600)
work_of_token = flops.training(full, 4096)
print(f"{speed:,.0f} tokens a second and GPU, {work_of_token / 1e9:.0f} GFLOP each: "
      f"{speed * work_of_token / 989e12:.0%} of the peak")
assert math.isclose(speed * work_of_token / 989e12, paper_utilisation())
activated = parameter_count(full, activated=True)
print(f"of that 6 x {activated / 1e9:.1f} G = {6 * activated / 1e9:.0f} GFLOP by the "
      "rule of thumb, which knows no attention and counts the embedding")

# %% [markdown]
# **Explain.** A quarter. The planner takes this share as its anchor. So that its hours
# come *near* the paper's is no proof. What it adds are the three budgets: what is
# computed twice, who waits, and what fits.

# %%
from minicoder.scale.plan import Work, plan


def paper_plan(gpus, way, recompute):
    """16 stages x 8-way experts, the rest of the GPUs as shards; 1T tokens."""
    layout = Layout(16, expert=8, pipeline_schedule=way).of(gpus)
    # 9,216 rows a step (lesson 07), dealt out, and a microbatch is one of them
    job = Work(rounds=9216 // layout.readers, recompute=recompute, tokens=1e12)
    return plan(full, layout, job)


CHOICES = {"zero bubble": ("ZBVZeroBubble", False), "1F1B": ("1F1B", False),
           "1F1B, recompute": ("1F1B", True)}
for name, choice in CHOICES.items():
    b = paper_plan(256, *choice)
    need, room = b.stages[b.worst].total / 2**30, b.usable / 2**30
    print(f"{name:<16}{need:>4.0f} GiB of {room:.0f}, bubble {b.bubble:.1%}, "
          f"{b.gpu_hours / 1e3:.0f}K GPU-hours, "
          f"{b.gpu_hours / 172.8e3:.2f} times the paper's")
fits = {name: paper_plan(256, *choice).over <= 0 for name, choice in CHOICES.items()}
assert fits == {"zero bubble": False, "1F1B": False, "1F1B, recompute": True}

# %% [markdown]
# **Explain.** Our library would need 1F1B and recomputing (a quarter more work) to fit.
# The paper recomputes "a portion of the operators" (§3.1.3), and does not say which.
# Weights differ, too: between steps ours are dealt out, but during a step a pipeline
# keeps them and their gradients whole (`buffers` below). And 60 layers in 16 stages are
# uneven: some have 4, some 3, and the last makes the logits beside its 3. All wait for
# the slowest. Without recomputing that is the last, with it those with 4: logits are
# not computed again. So the hours grow by 18 % and not by a quarter.
#
# Move the slider: which part shrinks with more GPUs, and which does not? (`working` is
# what one layer needs for a moment.)

# %%
PARTS = {"parameters": "sft", "gradients": "before", "optimizer": "math",
         "buffers": "text", "activations": "grpo", "working": "bad"}


def draw_plan(gpus):
    figure, axes = plt.subplots(figsize=(6.8, 3.0))
    for row, choice in enumerate(CHOICES.values()):
        b, left = paper_plan(gpus, *choice), 0
        for part, ink in PARTS.items():
            size = getattr(b.stages[b.worst], part) / 2**30
            axes.barh(row, size, left=left, height=0.6, color=colours[ink],
                      label=part if row == 0 else None)
            left += size
        axes.text(max(left, b.usable / 2**30) + 3, row, f"{left:.0f}", va="center",
                  fontsize=9)
    axes.axvline(b.usable / 2**30, color=colours["bad"], linestyle="--", linewidth=1.2)
    axes.set(yticks=range(3), yticklabels=CHOICES, xlim=(0, 235),
             xlabel="GiB of the fullest process; dashed: usable of 80 GB",
             title=f"{gpus} GPUs: activations do not care how many there are")
    axes.grid(axis="y", visible=False)
    axes.legend(ncols=3, fontsize=8, loc="upper right")
    return figure


GPUS = (128, 256, 512, 1024, 2048)
frame_slider([draw_plan(gpus) for gpus in GPUS],
             [f"{gpus} GPUs as 16 stages: memory of the fullest process, by part"
              for gpus in GPUS], name="cluster-plan", start=1)

# %% [markdown]
# With a kernel, plan your own (the pictures above say the same without one):

# %% tags=["nbval-ignore-output"]
def your_plan(gpus, pipeline, expert, recompute, context):
    """In a sentence or two, what a plan gives."""
    try:
        layout, rows = Layout(pipeline, expert=expert).of(gpus), 9216 * 4096 // context
        b = plan(full, layout, Work(context=context, rows=rows, tokens=1e12,
                                    rounds=rows // layout.readers, recompute=recompute))
    except UserError as error:
        return f"refused: {error}"
    parts = ", ".join(f"{part} {size / 2**30:.1f}" for part, size in vars(
        b.stages[b.worst]).items() if size)
    return (f"<b>{'fits' if b.over <= 0 else 'does not fit'}</b>: GiB of the fullest "
            f"process: {parts}.<br>Bubble {b.bubble:.1%}, {b.gpu_hours / 1e3:,.0f}K "
            "GPU-hours for 1T tokens.")


room = {"width": "auto", "max_width": "20rem"}  # on a phone, too
choices = {name: ipywidgets.Dropdown(options=options, value=value, description=name,
                                     layout=room)
           for name, options, value in (
               ("gpus", [64, 128, 256, 512, 1024], 256), ("pipeline", [1, 4, 16], 16),
               ("expert", [1, 8, 32], 8), ("recompute", [False, True], True),
               ("context", [4096, 32768], 4096))}
answer = ipywidgets.HTML()


def update(_=None):
    answer.value = your_plan(**{name: one.value for name, one in choices.items()})


for one in choices.values():
    one.observe(update, "value")
update()
ipywidgets.VBox([*choices.values(), answer])

# %% [markdown]
# **Predict.** 32 GPUs of 80 GB, 2,560 GB together, for a model with 3,772 GB of state.
# What should a planner say?

# %%
from minicoder.scale.planning import plan_cluster

try:
    with redirect_stdout(StringIO()):   # the whole account; run it without this line
        plan_cluster("full_236b", gpus=32)
except UserError as error:
    refused = str(error)
first, *proposed = refused.splitlines()
print(first.split(";")[0] + ".")
for line in proposed:
    print(line.split(" (")[0])
assert proposed and all(" fits: --gpus " in line for line in proposed)

# %% [markdown]
# It refuses with the parts that are too large, and names plans that do fit. The same
# from a shell: `python -m minicoder plan full_236b --gpus 32`.
#
# ## 7. Where it really runs
#
# *No cluster was at hand: nothing of this section was run at full size.* `cluster/` has
# launch files for SLURM (`slurm.sh`), Kubernetes and a node of 8 GPUs. One file of
# settings is edited (`full_236b.env`), each node is looked at before it takes part, and
# a run goes on from its newest checkpoint after a failure. They start the very command
# of section 5. For speed at scale, `minicoder/scale/titan.py` makes **torchtitan**'s
# `deepseek_v3` a DeepSeek-V2; it was tried with small weights on a CPU. A finished
# folder is what **vLLM** and **SGLang** read (`cluster/serve.sh`); the 236B in bfloat16
# needs 8 GPUs of 80 GB. For GRPO on many GPUs, `minicoder/scale/rewards.py` gives
# **verl** and TRL our sandboxed reward. Times of section 6 are estimates, and name
# their assumptions.
#
# ## What you keep
#
# 1. A process pays in memory ($16 N / P$, plus what is gathered, plus activations that
#    more GPUs don't shrink), in traffic and in waiting; each axis trades one for
#    another.
# 2. Expert parallelism is route, count, send, run, send back: a token goes once to a
#    device, and in the 236B to 3 devices at most.
# 3. Many processes are right when gradients and weights equal one process's; a right
#    loss proves nothing.
#
# ## What could go wrong
#
# Issue 1699, section 3's bug, was open for over a year: the loss is right, and training
# goes on. The cure is delicate: a review of the repair warns that with sequence
# parallelism (tokens are dealt out, too) the sum is made elsewhere already, and would
# be made twice. In another engine (AReno, pull request 496) the latent was summed twice
# and the key once. So compare gradients with one process's, for *every* combination of
# axes.
#
# ## References
#
# - DeepSeek-V2, arXiv 2405.04434: §2.2.2 device-limited routing, §2.2.3–2.2.4 balance
#   and dropping, §3.1.3 infrastructure, §3.2.3 cost.
# - Rajbhandari et al., arXiv 1910.02054: ZeRO. Zhao et al., arXiv 2304.11277: FSDP.
# - Shoeybi et al., arXiv 1909.08053 §3: heads and widths dealt out.
# - Huang et al., arXiv 1811.06965: GPipe. Narayanan et al., arXiv 2104.04473 §2.2:
#   1F1B. Qi et al., arXiv 2401.10241: zero bubble.
# - NVIDIA/Megatron-LM, issue 1699 and pull request 6839; inclusionAI/AReno, pull
#   request 496: the rotary key's gradient.
# - The library: `minicoder/parallel/` (`layout.py`, `experts.py`, `tensor.py`,
#   `parallelize.py`, `pipeline.py`, `shards.py`), `minicoder/scale/plan.py`.
