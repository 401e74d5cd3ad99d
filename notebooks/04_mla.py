# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 04 · MLA: cache a latent, not the heads
#
# To write one token, a language model looks back at all tokens before it. What it keeps
# of them, the *cache*, fills the memory of a server before anything else does.
# DeepSeek's answer is multi-head latent attention (MLA). You build it here from the
# attention that you know, head by head, and prove that your version is the library's.
#
# - **You will be able to** *compute* the cache of a model in bytes for four kinds of
#   attention; *explain* why rotary positions need a key of their own; *derive* the form
#   of MLA that reads the cache without expanding it.
# - **You need first:** lesson 00, attention (query, key, value, softmax) seen once, and
#   products of small matrices.
# - **Time:** about 5 seconds on one CPU core; 40 minutes to read, 35 minutes for the
#   exercises.
# - **Paper:** DeepSeek-V2 (arXiv 2405.04434) §2.1, §3.1.4, table 1, appendix C.
#   DeepSeek-Coder-V2 (arXiv 2406.11931) takes MLA over unchanged, §3.2.

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

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from minicoder.config import PRESETS, ModelConfig, parameter_count, preset
from minicoder.show.check import check, hint, solution  # noqa: F401
from minicoder.show.slider import frame_slider
from minicoder.show.style import label_lines, use_style

torch.set_num_threads(1)  # small matrices: a second thread would cost, not help
torch.set_grad_enabled(False)  # nothing is trained in this lesson
colours = use_style()
GiB = 2**30


def numbers(*shape, seed):
    """Random float64 numbers, the same on every machine."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draw, dtype=torch.float64)


def seen(scores):
    """Blank out what a token may not see: every later token."""
    return scores.masked_fill(~torch.ones_like(scores).tril().bool(), -math.inf)


# %% [markdown]
# ## 1. What a cache is
#
# Attention gives each token a *query*, a *key* and a *value*. A token compares its
# query with the keys of all tokens up to itself, and sums their values with the softmax
# of those scores as weights. In **multi-head attention (MHA)** every head has its own
# queries, keys and values. Two cheaper forms let heads share keys and values:
#
# - **grouped-query attention (GQA):** the heads of a group share one key and one value;
# - **multi-query attention (MQA):** all heads share one key and one value.
#
# The code below is all three. Positions enter by **RoPE** (rotary position embedding):
# two neighbouring numbers are one complex number, which is turned by an angle that
# grows with the position.

# %%
from minicoder.model.attention import GQA, KVCache
from minicoder.model.rope import rope_table, rotate

HEADS, WIDTH, T = 4, 6, 8  # four heads of six numbers, eight tokens


def turn(x, rope):
    """RoPE: turn the pairs (x0, x1), (x2, x3), … by their angles."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * torch.complex(*rope)).flatten(-2)


def shared_heads(layer, x, rope):
    """GQA of x (T, D), one query head after the other."""
    q, k, v = (w(x).view(len(x), -1, WIDTH).unbind(1) for w in (
        layer.q_proj, layer.k_proj, layer.v_proj))
    outputs = []
    for i in range(HEADS):
        g = i * layer.groups // HEADS  # the group of head i
        scores = turn(q[i], rope) @ turn(k[g], rope).T / WIDTH**0.5
        outputs.append(seen(scores).softmax(-1) @ v[g])
    return layer.o_proj(torch.cat(outputs, -1))


# %% [markdown]
# **Predict.** Each of four heads has keys and values of 6 numbers, and what later
# tokens need of a token is kept. How many numbers is that with four groups (MHA), two
# groups, and one (MQA)?

# %%
x = numbers(T, 24, seed=1)
# cosines and sines of the angles at positions 0 to T - 1, in the number type of x
rope = rope_table(preset("toy", qk_rope_head_dim=WIDTH), 0, T, x)
torch.testing.assert_close(turn(x[:, :6], rope), rotate(x[:, :6], rope))
for name, groups in (("MHA", 4), ("GQA", 2), ("MQA", 1)):
    torch.manual_seed(groups)
    layer = GQA(24, HEADS, groups, WIDTH).double()
    torch.testing.assert_close(shared_heads(layer, x, rope), layer(x[None], rope)[0],
                               rtol=0, atol=1e-12)
    print(f"{name}: keys of {groups} × {WIDTH} numbers, as many for values: "
          f"{layer.cache_width} per token")

# %% [markdown]
# **Explain.** Our loop equals the library's `GQA`, so from here on we may use that. It
# keeps $2 \cdot \text{groups} \cdot \text{width}$ numbers per token.
#
# Why keep them at all? A later token never changes the key or the value of an earlier
# one. So when token 8 is written, those of tokens 1 to 7 can be *remembered*: this is
# the **KV cache**. Queries are not kept, because nobody asks for an old query again.
#
# **Predict.** Eight tokens are written one after the other. How many keys are computed
# without a cache, and how many with one?

# %%
made = []  # how many rows of keys each call computes
counter = layer.k_proj.register_forward_hook(
    lambda _, given, keys: made.append(keys.shape[-2]))
again = [layer(x[None, :t + 1], [part[:t + 1] for part in rope])[:, -1:]
         for t in range(T)]  # without a cache: the whole text for each new token
without = sum(made)
cache, written = KVCache(x, layers=1, batch=1, width=layer.cache_width), []
for t in range(T):
    now, angles = x[None, t:t + 1], [part[t:t + 1] for part in rope]
    cached = cache.append(0, layer.to_cache(now, angles))  # one new row
    written.append(layer.expanded(now, cached, angles))
    cache.length += 1
counter.remove()
torch.testing.assert_close(torch.cat(written, 1), torch.cat(again, 1),
                           rtol=0, atol=1e-12)
print(f"without a cache {without} keys, with one {sum(made) - without}; "
      "the outputs are the same")

# %% [markdown]
# **Explain.** $1 + 2 + \dots + 8 = 36$ keys against 8. The cache turns a square into a
# line, and it pays with memory.
#
# **Change one thing.** Set `T = 100` in the first cell of this section, and run its
# three cells again. Which two numbers do you expect? (Then set it back to 8.)
#
# ## 2. Four caches: table 1 of DeepSeek-V2
#
# The paper counts the numbers that one token leaves in all $l$ layers. $n_h$ is the
# number of heads, $n_g$ of groups, $d_h$ the width of a head. MLA keeps a **latent** of
# $d_c$ numbers and one **rotary key** of $d_h^R$ numbers, which sections 3 and 4
# explain. A configuration calls them `kv_lora_rank` and `qk_rope_head_dim`; $d_h$ is
# `v_head_dim`, and $l$ is `num_hidden_layers`.
#
# | mechanism | numbers per token |
# |---|---|
# | MHA | $2\,n_h d_h l$ |
# | GQA | $2\,n_g d_h l$ |
# | MQA | $2\,d_h l$ |
# | MLA | $(d_c + d_h^R)\,l$ |
#
# **Predict.** In both released models $d_h = 128$, $d_c = 512$ and $d_h^R = 64$. How
# many GQA groups would cost as much as MLA?

# %%
CONTEXT = 131_072  # 128K tokens, the window of DeepSeek-Coder-V2


def table_1(c, groups=8):
    """Numbers per token in all layers; the table leaves the number of groups open."""
    pair = 2 * c.v_head_dim  # a key and a value of d_h numbers
    widths = {"MHA": c.num_attention_heads * pair,
              f"GQA, {groups} groups": groups * pair,
              "MQA": pair,
              "MLA": c.kv_lora_rank + c.qk_rope_head_dim}
    return {name: width * c.num_hidden_layers for name, width in widths.items()}


for model in ("lite_16b", "full_236b"):
    c = PRESETS[model]
    print(f"{model}: {c.num_attention_heads} heads, {c.num_hidden_layers} layers")
    for name, kept in table_1(c).items():
        print(f"  {name:<14}{kept:>10,} numbers {2 * kept:>10,} bytes in bf16"
              f"{2 * kept * CONTEXT / GiB:>8.2f} GiB at 128K tokens")
print("MLA costs as much as GQA with", (512 + 64) / (2 * 128), "groups")

# %% [markdown]
# **Explain.** MLA takes 15,552 and 34,560 numbers per token; the paper's table 9 rounds
# them to 15.6K and 34.6K. The other rows are twins on paper: the released model with
# another attention. (The large MHA model that the authors did train for table 9 has
# another shape, and keeps 860.2K.) The 236B and its twins on one axis:
#
# ![A dot for each way on a logarithmic axis of numbers cached per token: MHA 1,966,080,
# GQA with 8 groups 122,880, MLA 34,560, MQA 15,360.](../figures/cache-light.svg)
#
# ### Why it limits serving
#
# The weights of the 236B in bf16 need 8 cards of 80 GB (README of DeepSeek-Coder-V2).
# What they leave free belongs to the caches of all users who are being served.
#
# **Predict.** With MHA, how many users can read 128K tokens each at the same time?

# %%
c = PRESETS["full_236b"]
weights = 2 * parameter_count(c)  # bytes; a number in bf16 has two
free = 8 * 80e9 - weights
print(f"weights {weights / GiB:.1f} GiB, free {free / GiB:.1f} GiB on 8 cards of 80 GB")
for name, kept in table_1(c).items():
    size = 2 * kept * CONTEXT
    print(f"{name:<14}{size / GiB:>7.2f} GiB for a user: {int(free // size):>2} users")
one_layer = 2 * 128 * 128 * 2 * 128_000  # keys and values of 128 heads, two bytes
print(f"MHA without the factor for layers, 128,000 tokens: {one_layer / GiB:.1f} GiB")

# %% [markdown]
# **Explain.** One user's MHA cache would be larger than the model. These counts are
# upper bounds, since a server needs memory for other things as well. (DeepSeek's own
# service of V2 went further: weights in FP8, about 6 bits per cached number, §3.2.3.)
# And each new token reads the whole cache once, so a small cache also makes writing
# faster: lesson 13.
#
# **Change one thing.** Let each user have 4,096 tokens: write `2 * kept * 4096` for
# `size`. Predict the users with MHA first, from the 480 GiB above.
#
# The last line is a **famous bug**. A published "from scratch" book told 7.8 GB for MHA
# at 128K tokens. Its formula lacks the number of layers; the truth is 480 GiB. (Our
# reading of its number: one of 60 layers, 128,000 tokens, GiB called GB.) Wrong by 60
# and still plausible, which is why you compute it yourself now.
#
# ### Exercise 1 · the cache in bytes (easy, important, 7 minutes)
#
# `hint("mla.cache_bytes")` helps, more with every call.

# %% tags=["nbval-ignore-output"]
def cache_bytes(config: ModelConfig, tokens: int, groups: int | None = None) -> int:
    """Bytes of the cache in bf16 for one text of so many tokens, all layers together.

    groups: None for MLA, else GQA with so many groups of width config.v_head_dim.
    """
    ...


check("mla.cache_bytes", cache_bytes)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def cache_bytes(config: ModelConfig, tokens: int, groups: int | None = None) -> int:
#     if groups is None:
#         width = config.kv_lora_rank + config.qk_rope_head_dim
#     else:
#         width = 2 * groups * config.v_head_dim
#     return width * config.num_hidden_layers * tokens * 2
# ```
#
# </details>
#
# **Predict.** The slider changes the number of heads in a model with 60 layers and
# heads of 128 numbers. Which of the four lines move?

# %% tags=["nbval-ignore-output"]
LOOK = {"MHA": ("before", "-"), "GQA, 8 groups": ("before", "--"),
        "MQA": ("before", ":"), "MLA": ("after", "-")}
lengths = [1024 * 2**i for i in range(8)]
counts = (8, 16, 32, 64, 128)


def cache_GiB(heads, tokens):
    """Each mechanism's cache in GiB."""
    kept = table_1(preset("full_236b", num_attention_heads=heads))
    return {name: 2 * n * tokens / GiB for name, n in kept.items()}


def draw_cache(heads):
    figure, axes = plt.subplots(figsize=(6.4, 3.0))
    last = cache_GiB(heads, CONTEXT)
    for name, (ink, line) in LOOK.items():
        axes.plot(lengths, [cache_GiB(heads, n)[name] for n in lengths], line,
                  color=colours[ink], label=name)
    axes.hlines(80e9 / GiB, 1024, lengths[-2], color=colours["bad"], linewidth=1)
    axes.text(1024, 92, "one card of 80 GB", color=colours["bad"], fontsize=9)
    axes.set(xscale="log", yscale="log", ylim=(0.02, 900), ylabel="GiB",
             xlabel="tokens in the context", xticks=lengths[::2] + lengths[-1:],
             title=f"{heads} heads: MHA needs {last['MHA']:.0f} GiB at 128K, "
             f"MLA {last['MLA']:.1f}")
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda n, _: f"{n / 1024:.0f}K")
    axes.yaxis.set_major_formatter("{x:g}")
    label_lines(axes, gap=0.09)
    return figure


frame_slider([draw_cache(heads) for heads in counts],
             [f"{heads} heads" for heads in counts], name="mla-cache", start=4)

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.0))
for name, (ink, line) in LOOK.items():
    axes.plot(counts, [cache_GiB(heads, CONTEXT)[name] for heads in counts], line,
              color=colours[ink], label=name)
axes.set(xlabel="heads", ylabel="GiB at 128K tokens", xticks=counts, ylim=(0, 500),
         title="Of the four caches, only MHA's grows with the heads")
label_lines(axes, gap=0.09)
plt.show()
assert all(len({cache_GiB(h, CONTEXT)[name] for h in counts}) == 1
           for name in LOOK if name != "MHA")

# %% [markdown]
# **Explain.** Three of four do not grow with the heads; with 8 heads, MHA and GQA with
# 8 groups are the same. Why, then, is MQA not the end of the story? Because sharing
# keys and values costs quality, and MLA lost none of it in the authors' comparisons on
# MMLU, a test of knowledge (in %; DeepSeek-V2 tables 8 and 9):
#
# | model | trained on | MMLU | cache, numbers per token |
# |---|---|---|---|
# | dense 7B with MQA, GQA-8, MHA | 1.33T tokens | 37.9, 41.2, 45.2 | not printed |
# | small MoE with MHA, MLA | 1.33T tokens | 48.7, 50.0 | 110.6K, 15.6K |
# | large MoE with MHA, MLA | 420B tokens | 57.5, 59.0 | 860.2K, 34.6K |
#
# Not every test agrees: on C-Eval the small MoE fell from 51.6 to 50.9.
#
# ## 3. The latent: two numbers that become eight
#
# GQA saves by having fewer keys. MLA keeps a key and a value *for every head*, and
# saves by making all of them from one short vector, the latent:
#
# $$
# c^{KV} = W^{DKV} h, \qquad k^C_i = W^{UK}_i\, c^{KV}, \qquad v_i = W^{UV}_i\, c^{KV}
# $$
#
# $h$ is the token's hidden state and $i$ the head. $D$ stands for *down* and $U$ for
# *up*; the $C$ at a key says that it carries content, not position.
#
# **Predict.** Compute $c^{KV}$ and the key of head 1 by hand before you run the cell.

# %%
h = torch.tensor([1., 2., 0., 1.])
W_DKV = torch.tensor([[1., 0., 1., 1.],
                      [0., 1., 0., -1.]])           # 4 numbers down to 2
W_UK = torch.tensor([[[1., 0.], [0., 1.]],          # head 0
                     [[1., 1.], [1., -1.]]])        # head 1
W_UV = torch.tensor([[[2., 0.], [0., 2.]],
                     [[1., 0.], [0., 1.]]])
c = W_DKV @ h
print("cached:", c.tolist())
for i in range(2):
    print(f"head {i}: key {(W_UK[i] @ c).tolist()}, value {(W_UV[i] @ c).tolist()}")

# %% [markdown]
# **Explain.** Two numbers are kept and eight are used: a key and a value of two numbers
# for each of two heads. There is a price. The eight numbers, written down for many
# tokens, can only have as many independent directions, the **rank**, as the latent has
# numbers.
#
# **Predict.** Here $h$ has 4 numbers. What rank do latents of 1, 2, 4 and 6 numbers
# reach?

# %%
tokens = numbers(100, 4, seed=2)  # 100 hidden states of 4 numbers
for width in (1, 2, 4, 6):
    down, up = numbers(width, 4, seed=3), numbers(8, width, seed=4)
    keys_values = tokens @ down.T @ up.T
    print(f"latent of {width}: {tuple(keys_values.shape)} keys and values, "
          f"rank {torch.linalg.matrix_rank(keys_values)}")

# %% [markdown]
# **Explain.** A latent as wide as $h$ loses nothing, and a wider one adds nothing. The
# 236B goes ten times below that: $h$ has 5,120 numbers, the latent 512, and $128 \cdot
# (128 + 128) = 32{,}768$ numbers per token and layer are made from it. The table above
# says that this was enough. Training can choose *which* 512 directions to keep, and all
# heads may use all of them.
#
# ## 4. Why positions need a key of their own
#
# Here is the hope. Write the score of a query with a key, and put the matrices
# together:
#
# $$
# q_i \cdot k_i = (W^{UQ}_i c^Q)^\top (W^{UK}_i c^{KV})
#   = (c^Q)^\top \underbrace{(W^{UQ}_i)^\top W^{UK}_i}_{\text{one matrix}}\; c^{KV}
# $$
#
# $c^Q$ is what queries are made from. The matrix in the middle does not depend on
# positions, so a query can meet the *latent* itself and no key is ever made. But RoPE
# turns the query at position $t$ by $R_t$ and the key at position $s$ by $R_s$:
#
# $$
# (R_t W^{UQ}_i c^Q)^\top (R_s W^{UK}_i c^{KV})
#   = (c^Q)^\top\, (W^{UQ}_i)^\top R_{s-t}\, W^{UK}_i\; c^{KV}
# $$
#
# **Predict.** Let one position be a quarter turn. How many different matrices stand in
# the middle when the key lies 0, 1, 2 or 3 positions back?

# %%
quarter = torch.tensor([[0., -1.], [1., 0.]])  # turns (x, y) to (-y, x)
W_UQ = torch.eye(2)
for back in range(4):
    turned = torch.linalg.matrix_power(quarter.T, back)  # R with s - t = -back
    middle = (W_UQ.T @ turned @ W_UK[1]).int().tolist()
    print(f"{back} back: the matrix in the middle is {middle}")

# %% [markdown]
# **Explain.** Each distance has its own matrix. With real angles no two of 131,072
# distances agree. What was folded at one step would be wrong at the next, so the keys
# of all earlier tokens would have to be made again for each new token (§2.1.3).
#
# The way out is **decoupled RoPE**: the content parts are never turned, and the
# positions get a few numbers of their own. Each head has a small rotary query $q^R_i$.
# The token has *one* rotary key $k^R$, which all heads share. It does not come from the
# latent but from $h$, by a matrix of its own, $W^{KR}$:
#
# $$
# q_i = [\,q^C_i\,;\,q^R_i\,], \qquad k_i = [\,k^C_i\,;\,k^R\,], \qquad
# q_i \cdot k_i = q^C_i \cdot k^C_i + q^R_i \cdot k^R
# $$
#
# **Predict.** The cell joins the parts at positions $t = 2$ and $s = 1$, then moves
# both by 10. Then it moves $s$ alone. Which of the two products change, and when?

# %%
q_C, k_C = torch.tensor([1., 2.]), torch.tensor([3., 1.])
q_R, k_R = torch.tensor([1., 0.]), torch.tensor([2., 1.])
for t, s in ((2, 1), (12, 11), (2, 0)):
    now = torch.linalg.matrix_power(quarter, t) @ q_R
    then = torch.linalg.matrix_power(quarter, s) @ k_R
    joined = torch.cat((q_C, now)) @ torch.cat((k_C, then))
    assert joined == q_C @ k_C + now @ then
    print(f"t = {t:>2}, s = {s:>2}: content {q_C @ k_C:.0f} + rotary {now @ then:.0f} "
          f"= {joined:.0f}")

# %% [markdown]
# **Explain.** Content ignores positions, and the rotary part sees only their distance.
# So the first product is free to be folded again. This is the whole layer; part 3 of
# the drawing is the subject of section 7:
#
# ![Three diagrams of multi-head latent attention. Top: a token's hidden state becomes
# queries, and leaves a latent with 512 numbers and a rotary key with 64 in the cache,
# shared by all heads. Bottom left, expanded: two matrices make keys and values of every
# head from each latent. Bottom right, absorbed: one of these matrices is applied to the
# query, the heads read the cache itself, and the other matrix comes after the weighted
# sum.](../figures/mla-light.svg)
#
# The 236B makes its queries from a latent too ($W^{DQ}$, 1,536 numbers). Lite takes
# them straight from $h$ (appendix B). Queries are not cached, so this changes no cache.
# Both latents pass through a normalisation (RMSNorm, §3.1.2) before they go up.
#
# ### Exercise 2 · find a head's two parts (easy, 5 minutes)
#
# In the released checkpoint the queries of all heads lie in one long row, head after
# head. Inside a head the content comes first. The content part is called *nope*: no
# positional embedding.

# %% tags=["nbval-ignore-output"]
def split_query(q: Tensor, head: int, nope: int, rotary: int) -> tuple[Tensor, Tensor]:
    """The content part and the rotary part of one head, from the row of all heads.

    q: (heads * (nope + rotary),); nope, rotary: how many numbers each part has.
    """
    ...


check("mla.split_query", split_query)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def split_query(q: Tensor, head: int, nope: int, rotary: int
#                 ) -> tuple[Tensor, Tensor]:
#     start = head * (nope + rotary)
#     return q[start:start + nope], q[start + nope:start + nope + rotary]
# ```
#
# </details>
#
# ## 5. One scale for both parts
#
# The dot product of two random vectors of $n$ numbers has a spread of about $\sqrt n$.
# Scores are divided by it, so that the softmax is neither flat nor a single peak. The
# joined query has $128 + 64 = 192$ numbers, so MLA divides the *sum* by $\sqrt{192}$.
#
# **Famous bug: two scales.** The code of the same book divides the content by
# $\sqrt{128}$ and the rotary part by $\sqrt{64}$.
#
# **Predict.** Key A wins by content (products 30 + 0), key B by position (10 + 18). Who
# gets more weight, with one scale and with two?

# %%
content = torch.tensor([30., 10.])  # q·k of keys A and B, before scaling
rotary = torch.tensor([0., 18.])
for name, scores in {
        "one scale": (content + rotary) / 192**0.5,
        "two scales": content / 128**0.5 + rotary / 64**0.5}.items():
    a, b = scores.softmax(0)
    print(f"{name:<10} scores {scores[0]:.2f} and {scores[1]:.2f}, "
          f"weights A {a:.0%}, B {b:.0%}")

# %% [markdown]
# **Explain.** Beside the content, two scales let the rotary part weigh $\sqrt{128/64} =
# 1.41$ times more than the model was trained with, and here another token wins. No
# shape is wrong and nothing crashes.
#
# A second factor belongs here. To read 128K tokens the models use **YaRN** (lesson 08),
# which slows part of the rotation and sharpens the softmax. The sharpening multiplies
# query and key by $g$, so the score by $g^2$. The factor is 40, for a window that grew
# from 4,096 to 163,840 positions, and mscale is a number in the configuration:
#
# $$
# g = 0.1 \cdot \text{mscale} \cdot \ln(\text{factor}) + 1, \qquad
# \text{scale} = \frac{g^2}{\sqrt{192}}
# $$
#
# **Predict.** Lite's mscale is 0.707, and $\ln 40 = 3.69$. By how much does $g^2$ raise
# a score?

# %%
plain = 192**-0.5
for model in ("lite_16b", "full_236b"):
    scaling = PRESETS[model].rope_scaling
    g = 0.1 * scaling.mscale_all_dim * math.log(scaling.factor) + 1
    print(f"{model:<10} mscale {scaling.mscale_all_dim:<5} g = {g:.4f}, "
          f"g² = {g * g:.4f}, scale {plain:.5f} -> {plain * g * g:.5f}")

# %% [markdown]
# **Explain.** Lite's scores grow by 59 %, so a program that leaves $g^2$ out is far
# from the model. (The 236B's mscale is read from its checkpoint when one is loaded. The
# value 1.0 in our preset is probable and unverified.)
#
# ### Exercise 3 · the score of one head (medium, important, 8 minutes)

# %% tags=["nbval-ignore-output"]
def score(content_q: Tensor, content_k: Tensor, rotary_q: Tensor, rotary_k: Tensor,
          g: float) -> Tensor:
    """The scaled score of one query and one key, the rotary parts already turned.

    content_*: (N,); rotary_*: (R,); g: YaRN's factor above, 1.0 without YaRN.
    """
    ...


check("mla.score", score)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def score(content_q: Tensor, content_k: Tensor, rotary_q: Tensor, rotary_k: Tensor,
#           g: float) -> Tensor:
#     width = len(content_q) + len(rotary_q)
#     return (content_q @ content_k + rotary_q @ rotary_k) * g * g / width ** 0.5
# ```
#
# </details>
#
# ## 6. The whole layer, head by head
#
# Now the real thing, small: Lite's layer with 4 heads, and with random weights. The
# widths all differ, so that no two can be confused. First, what each token leaves in
# the cache: the latent after its norm, and the rotary key after its turn. The
# checkpoint has $W^{DKV}$ and $W^{KR}$ in one matrix, `kv_a_proj_with_mqa`: $L$ rows
# for the latent, then $R$ rows for the rotary key (*mqa*, because all heads share it).
# The norm divides by the root of the mean square and multiplies by learned weights.
#
# **Predict.** The latent has 16 numbers, the rotary key 8, and there are 4 heads. How
# many numbers does each token leave?

# %%
from minicoder.model.mla import MLA, LatentCache

L, N, R, V = 16, 12, 8, 10  # latent, nope, rotary and value width
small = preset("lite_16b", hidden_size=32, num_attention_heads=HEADS, kv_lora_rank=L,
               qk_nope_head_dim=N, qk_rope_head_dim=R, v_head_dim=V)


def random_weights(module, seed):
    """Weights that keep the size of what passes; the norms' weights are near 1."""
    for place, p in enumerate(module.parameters()):
        noise = numbers(*p.shape, seed=100 * seed + place)
        p.data = 1 + 0.3 * noise if p.dim() == 1 else noise / p.shape[-1]**0.5
    return module


def rows(layer, x, rope, turn=turn):
    """What each token leaves in the cache: (T, L + R)."""
    c, k_R = (x @ layer.kv_a_proj_with_mqa.weight.T).split([L, R], -1)
    rms = (c.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return torch.cat((c / rms * layer.kv_a_layernorm.weight, turn(k_R, rope)), -1)


layer = random_weights(MLA(small).double(), seed=5)
x = numbers(T, 32, seed=6)
rope = rope_table(small, 0, T, x)
torch.testing.assert_close(rows(layer, x, rope), layer.to_cache(x[None], rope)[0],
                           rtol=0, atol=1e-12)
print(f"{T} tokens leave {tuple(rows(layer, x, rope).shape)}: {L} + {R} numbers each")

# %% [markdown]
# Then each head makes its keys and values from these rows. `kv_b_proj` holds $W^{UK}$
# and $W^{UV}$: for each head $N$ rows for the key, then $V$ rows for the value.
#
# **Predict.** In the code below, where do the heads meet the same numbers, and where
# does each have its own?

# %%
g = 0.1 * 0.707 * math.log(40) + 1


def by_hand(layer, x, rope, turn=turn, scale=g * g / (N + R)**0.5):
    """MLA of x (T, D), one head after the other (DeepSeek-V2 eq. 37-47)."""
    c, k_R = rows(layer, x, rope, turn).split([L, R], -1)
    outputs = []
    for i in range(HEADS):
        q = x @ layer.q_proj.weight[i * (N + R):(i + 1) * (N + R)].T
        up = layer.kv_b_proj.weight[i * (N + V):(i + 1) * (N + V)]
        k, v = c @ up[:N].T, c @ up[N:].T
        scores = q[:, :N] @ k.T + turn(q[:, N:], rope) @ k_R.T
        outputs.append(seen(scores * scale).softmax(-1) @ v)
    return torch.cat(outputs, -1) @ layer.o_proj.weight.T


right = layer(x[None], rope)[0]
torch.testing.assert_close(by_hand(layer, x, rope), right, rtol=0, atol=1e-12)
print("our MLA is the library's, to 1e-12")

# %% [markdown]
# **Explain.** All heads read the same latents `c` and rotary keys `k_R`. The queries
# and the rows `up` are each head's own.
#
# ### Two bugs that the first token cannot see
#
# **Rotate-half on interleaved pairs.** The checkpoint pairs neighbours: (0, 1), (2, 3).
# Much code pairs the halves instead, here with eight numbers (0, 4), (1, 5). Both are
# RoPE, each for its own weights. It is the classic bug of a first port.
#
# **The scale without mscale².** That is section 5's $g^2$. transformers left it out
# until pull request 47435 of July 2026; use 5.15.1 or later.
#
# **Predict.** How large is the error of each bug at position 0?

# %%
def turn_halves(x, rope):
    """RoPE for weights that pair number m with number m + R/2."""
    cos, sin = (torch.cat((part, part), -1) for part in rope)
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


def error(found):
    """Largest error at each position, as a share of the largest output."""
    return (found - right).abs().amax(-1) / right.abs().max()


order = [0, 2, 4, 6, 1, 3, 5, 7]  # even places first: then halves are neighbours
errors = {
    "rotate-half": error(by_hand(layer, x, rope, turn=turn_halves)),
    "scale lacks mscale²": error(by_hand(layer, x, rope, scale=(N + R)**-0.5)),
    "rotate-half, reordered": error(by_hand(
        layer, x, rope, turn=lambda x, rope: turn_halves(x[..., order], rope)))}
for name, e in errors.items():
    print(f"{name:<23} position 0: {e[0].abs():.3f}, worst later: {e[1:].max():.3f}")

# %%
figure, axes = plt.subplots(figsize=(6.4, 3.0))
for (name, e), line in zip(list(errors.items())[:2], ("-", "--"), strict=True):
    axes.plot(range(T), 100 * e, line, marker="o", color=colours["bad"], label=name)
axes.set(xlabel="position", ylabel="error in % of the largest output", xticks=range(T),
         ylim=(-2, None), title="At position 0 both bugs are invisible")
label_lines(axes, gap=0.1)
plt.show()
assert max(e[0] for e in errors.values()) < 1e-12

# %% [markdown]
# **Explain.** At position 0 every angle is 0, and a softmax over one key is 1 whatever
# the scale. A test on one token passes both bugs. The third line of the output is the
# repair: put even places first, in queries and keys alike, and rotate-half gives the
# right scores.
#
# **Change one thing.** Give `by_hand` the scale `g / (N + R)**0.5`, with $g$ in place
# of $g^2$. How much of the second error is left?
#
# ## 7. Absorption: read the cache without expanding it
#
# `by_hand` makes keys and values for all heads from each row of the cache. Training
# does so, because all queries come at once. To write *one* token, it would expand the
# whole cache for a single query. Move two matrices instead (§2.1.2):
#
# $$
# q^C_i \cdot (W^{UK}_i c_s) = \underbrace{\big((W^{UK}_i)^\top q^C_i\big)}_{\tilde q_i}
# \cdot\, c_s, \qquad
# \sum_s p_s\, (W^{UV}_i c_s) = W^{UV}_i \Big(\sum_s p_s\, c_s\Big)
# $$
#
# The left rule holds because $a \cdot (Mb) = (M^\top a) \cdot b$; the right one because
# a matrix may be applied after a sum. The softmax stays where it was, between the two.
#
# **Predict.** Take head 1 of section 3, the latents (2, 1) and (0, 1), and the query
# (1, 2). What is $\tilde q$, and what are the two scores?

# %%
latents = torch.tensor([[2., 1.], [0., 1.]])
query, p = torch.tensor([1., 2.]), torch.tensor([0.25, 0.75])
keys, values = latents @ W_UK[1].T, latents @ W_UV[1].T
folded = W_UK[1].T @ query
print("keys", keys.tolist(), "-> scores", (keys @ query).tolist())
print("folded query", folded.tolist(), "-> scores", (latents @ folded).tolist())
print("sum of values", (p @ values).tolist(), "= W_UV applied to the sum of latents",
      (W_UV[1] @ (p @ latents)).tolist())

# %% [markdown]
# ### Exercise 4 · absorb (hard, important, 15 minutes)
#
# One head and one query. Read the cached rows as they are; the check also looks whether
# you make keys or values of all tokens on the way.

# %% tags=["nbval-ignore-output"]
def absorb(content: Tensor, rotary: Tensor, up: Tensor, cached: Tensor,
           scale: float) -> Tensor:
    """One head's output (V,) for one query, from the cached rows alone.

    content: (N,) and rotary: (R,), the query's parts, the rotary one already turned.
    up: (N + V, L), the head's rows of kv_b_proj: W^UK, then W^UV.
    cached: (S, L + R), a latent and a rotary key for each of S tokens.
    scale: what the sum of both parts of a score is multiplied by.
    """
    ...


check("mla.absorb", absorb)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def absorb(content: Tensor, rotary: Tensor, up: Tensor, cached: Tensor,
#            scale: float) -> Tensor:
#     up_k, up_v = up[:len(content)], up[len(content):]
#     latent, rotary_keys = cached.split([up.shape[1], len(rotary)], dim=-1)
#     folded = up_k.T @ content
#     scores = (latent @ folded + rotary_keys @ rotary) * scale
#     return up_v @ (scores.softmax(dim=-1) @ latent)
# ```
#
# </details>
#
# For all heads and tokens it is one line more: the folded query and the rotary query
# are joined, and meet the rows of the cache as if these were keys, all heads the same
# rows. In decoding, MLA *is* multi-query attention with keys of $L + R$ numbers.

# %%
def absorbed_by_hand(layer, x, rope):
    """The same layer, without a key or a value of any head."""
    cached, outputs = rows(layer, x, rope), []
    for i in range(HEADS):
        q = x @ layer.q_proj.weight[i * (N + R):(i + 1) * (N + R)].T
        up = layer.kv_b_proj.weight[i * (N + V):(i + 1) * (N + V)]
        q = torch.cat((q[:, :N] @ up[:N], turn(q[:, N:], rope)), -1)  # folded
        weights = seen(q @ cached.T * layer.scale).softmax(-1)
        outputs.append(weights @ cached[:, :L] @ up[N:].T)
    return torch.cat(outputs, -1) @ layer.o_proj.weight.T


library = layer.absorbed(x[None], layer.to_cache(x[None], rope), rope)[0]
torch.testing.assert_close(absorbed_by_hand(layer, x, rope), right, rtol=0, atol=1e-12)
torch.testing.assert_close(library, right, rtol=0, atol=1e-12)
print("ours, the library's absorbed and its expanded form agree to 1e-12")

# %% [markdown]
# ### What it costs
#
# Absorbed, nothing is made for each head *and* each token, so little memory is touched.
# Arithmetic is another matter.
#
# **Predict.** For one query, one key and one head of the released models: how many
# multiply-adds with keys and values at hand ($N + R = 192$, $V = 128$), and how many in
# the latent space ($L = 512$, $R = 64$)?

# %%
from torch.utils.flop_counter import FlopCounterMode


def multiply_adds(*factors):
    """Counted while torch works: one product (T, n) @ (n, S) after the other."""
    with FlopCounterMode(display=False) as counter:
        for a, b in factors:
            torch.zeros(a) @ torch.zeros(b)
    return counter.get_total_flops() // 2  # it counts a multiply-add as two


S = 1000
naive = multiply_adds(((1, 192), (192, S)), ((1, S), (S, 128)))
latent = multiply_adds(((1, 576), (576, S)), ((1, S), (S, 512)))
expand = multiply_adds(((S, 512), (512, 256)))
fold = multiply_adds(((1, 128), (128, 512)), ((1, 512), (512, 128)))
print(f"query, key and head: {naive // S} with keys and values at hand, "
      f"{latent // S:,} absorbed")
print(f"to expand one row for one head: {expand // S:,}; to fold one query: {fold:,}")

# %% [markdown]
# **Explain.** With keys and values, a pair costs $192 + 128 = 320$ multiply-adds,
# absorbed $576 + 512 = 1{,}088$: that is 3.4 times more. But whoever keeps latents and
# wants keys must expand each of $S$ rows, for 131,072 multiply-adds a head. For $T$ new
# tokens:
#
# $$
# \underbrace{320\,T S + 131{,}072\,S}_{\text{latents, expanded again}}
# \quad\text{or}\quad
# \underbrace{1088\,T S + 131{,}072\,T}_{\text{absorbed}}
# $$

# %%
S, ways = 4096, {}
new = range(1, 1025)
ways["expanded again"] = ("before", [320 * t * S + 131_072 * S for t in new])
ways["absorbed"] = ("after", [1088 * t * S + 131_072 * t for t in new])
cheaper = sum(a < b for a, b in zip(ways["absorbed"][1], ways["expanded again"][1],
                                    strict=True))
figure, axes = plt.subplots(figsize=(6.4, 3.0))
for name, (ink, cost) in ways.items():
    axes.plot(new, [n / 1e6 for n in cost], color=colours[ink], label=name)
axes.axvline(cheaper, color=colours["muted"], linewidth=1, linestyle=":")
axes.set(xscale="log", yscale="log", xlabel="new tokens at a time",
         ylabel="million multiply-adds a head",
         title=f"With {S:,} rows, absorbing is cheaper up to {cheaper} new tokens")
axes.xaxis.set_major_formatter("{x:g}")
axes.yaxis.set_major_formatter("{x:g}")
label_lines(axes, gap=0.1)
plt.show()
print(f"cheaper up to {cheaper} new tokens; for very long caches {131_072 / 768:.1f}")

# %% [markdown]
# So the library has both: `expanded` to train and to read a prompt, `absorbed` to write
# token after token. Arithmetic is not time; lesson 13 measures that.
#
# **Change one thing.** Set `S = 100` in the cell. Why does the crossing move to the
# left?
#
# ## 8. The cache, exactly
#
# A whole small model with three layers writes six tokens, one at a time, through
# `absorbed`. `LatentCache` is all that it remembers.
#
# **Predict.** How many numbers are that, with latents of 16 and rotary keys of 8?

# %%
from minicoder.model.transformer import MiniCoder

tiny = preset("lite_16b", vocab_size=101, num_hidden_layers=3, hidden_size=32,
              num_attention_heads=HEADS, kv_lora_rank=L, qk_nope_head_dim=N,
              qk_rope_head_dim=R, v_head_dim=V, intermediate_size=40,
              moe_intermediate_size=24, n_routed_experts=8, num_experts_per_tok=3)
model = random_weights(MiniCoder(tiny).double().eval(), seed=7).model
text = torch.tensor([[5, 17, 3, 99, 42, 8]])
cache = LatentCache(tiny, model.norm.weight, batch=1, capacity=6)
steps = [model.decode(text[:, t:t + 1], cache) for t in range(6)]
torch.testing.assert_close(torch.cat(steps, 1), model(text), rtol=0, atol=1e-12)
layers, batch, length, width = cache.buffer.shape
print(f"{layers} layers, {batch} text, {length} tokens, "
      f"{width} = {L} + {R} numbers each: {cache.buffer.numel()} in all")
print(f"MHA with {HEADS} heads of {V} would keep {2 * HEADS * V} of each token")

# %% [markdown]
# **Explain.** Token by token equals the whole text at once, and the cache holds exactly
# `kv_lora_rank + qk_rope_head_dim` numbers per token and layer. No size in it mentions
# the heads.
#
# **Famous bug: a rotary key for every head.** The same book's code gives each head its
# own $k^R$. It runs and it can be trained, and the cache grows with the heads again.
#
# **Predict.** How many numbers would a token of the 236B leave in a layer, in place of
# 576?

# %%
for name in ("lite_16b", "full_236b"):
    c = PRESETS[name]
    wrong = c.kv_lora_rank + c.num_attention_heads * c.qk_rope_head_dim
    print(f"{name:<10} one key {c.cache_width}, a key per head {wrong:,}: "
          f"{wrong / c.cache_width:.1f} times the cache")
greedy = torch.zeros(1, 1, L + HEADS * R, dtype=torch.float64)  # a row of the bug
try:
    cache.append(0, greedy)
except RuntimeError:
    print(f"caught: a row of {greedy.shape[-1]} numbers does not fit into {width}")

# %% [markdown]
# ## What you keep
#
# 1. A cache costs numbers per token and layer, times layers, tokens and bytes; MLA
#    keeps 576 numbers where the 236B with MHA would keep 32,768.
# 2. All heads share one latent, which is content and never turned, and one rotary key,
#    which is position; their two products are added first and scaled once, with
#    mscale².
# 3. $W^{UK}$ can move to the query and $W^{UV}$ behind the sum, because no rotation
#    stands between them and the latent: more arithmetic a pair, and nothing to expand.
#
# ## What could go wrong
#
# The native DeepSeek-V2 of transformers cached the *expanded* keys and values in
# versions 4.54.0 to 5.14.1: the outputs are the same as with latents, and no memory is
# saved. A test of outputs cannot see that. Test the size of the cache as well, as
# section 8 does. From 5.15.1 on it caches the latent and expands it at each step; it
# does not absorb.
#
# ## Where to go next
#
# - Lesson 08 explains YaRN, and why the scale needs mscale².
# - Lesson 13 goes on with decoding: bytes and time per token, many texts at once.
# - The library: `minicoder/model/attention.py` and `minicoder/model/mla.py`. In
#   `tests/model/test_mla.py` several bugs of this lesson are tests that must notice
#   them.
#
# ## References
#
# - DeepSeek-V2, arXiv 2405.04434: §2.1 and appendix C MLA, table 1 caches, §3.1.2
#   norms, §3.1.4 YaRN, tables 8 and 9 ablations, appendix B Lite.
# - DeepSeek-Coder-V2, arXiv 2406.11931: §3.2 architecture, §3.4 long context.
# - Vaswani et al., arXiv 1706.03762: MHA, §3.2. Shazeer, arXiv 1911.02150: MQA. Ainslie
#   et al., arXiv 2305.13245: GQA, §2.2.
# - Su et al., arXiv 2104.09864: RoPE, §3. Peng et al., arXiv 2309.00071: YaRN, §3.
