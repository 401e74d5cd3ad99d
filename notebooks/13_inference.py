# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 13 · Inference
#
# A trained model writes one token after the other, and for each of them it looks back
# at all that was said. What it keeps of the past is the *cache*, and moving the cache
# through memory soon costs more than computing. This lesson builds decoding with a
# cache, then moves two matrices of MLA, and the cache shrinks 57 times. Batches,
# sampling and streaming follow.
#
# - **You will be able to** *decide* whether a step waits for arithmetic or for memory;
#   *prove* that cached, absorbed and padded decoding say what the plain model says;
#   *compute* the bytes of a cache and the probabilities that a token is drawn from.
# - **You need first:** lesson 00; lesson 04 (MLA and rotary positions) helps, and each
#   formula that we need of it is repeated.
# - **Time:** 5 seconds on one quiet CPU core; 40 minutes to read, 30 minutes for the
#   exercises.
# - **Paper:** DeepSeek-V2 (arXiv 2405.04434) §2.1, table 1, appendix C.
#   DeepSeek-Coder-V2 takes the architecture as it is (arXiv 2406.11931, §3.2).
#
# Letters, as in the library: $B$ texts, $T$ new tokens (queries), $S$ tokens in the
# cache (keys), $H$ heads. Widths in both released models: content of a key $N = 128$,
# its rotary part $R = 64$, latent $L = 512$, value $V = 128$.

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
import time

import matplotlib.pyplot as plt
import torch
from torch.testing import assert_close

from minicoder.config import PRESETS, parameter_count, preset
from minicoder.errors import UserError
from minicoder.model.generate import choose, generate, left_pad, stream
from minicoder.model.mla import MLA, LatentCache
from minicoder.model.rope import rope_table, rotate
from minicoder.model.transformer import MiniCoder
from minicoder.show.check import check, hint, solution  # noqa: F401
from minicoder.show.slider import frame_slider
from minicoder.show.style import label_lines, use_style

torch.set_num_threads(1)  # small matrices: a second thread would cost, not help
torch.set_grad_enabled(False)  # nothing is trained here
colours = use_style()
full, lite = PRESETS["full_236b"], PRESETS["lite_16b"]

# %% [markdown]
# ## 1. Two jobs: prefill and decode
#
# To answer, a model first reads the prompt, all its tokens in one pass: *prefill*. Then
# it writes: *decode*, one pass for each token, because token 2 cannot be computed
# before token 1 is known. The matrices are the same, and yet these are two jobs.
#
# A card (GPU) has two limits: how many operations it computes per second, and how many
# bytes it moves between its memory and its arithmetic units. Which one binds depends on
# the **arithmetic intensity**: operations per byte moved. Our example is an H800: at
# most 990 TFLOP/s in bf16 (a FLOP is one multiplication or addition, so a multiply-add
# is 2), and 3,000 GB/s, the best rate that FlashMLA, DeepSeek's decoding kernel,
# reports for it. (3,350 GB/s is the memory's own limit.)
#
# **Predict.** A matrix of $5120 \times 1536$ numbers, 2 bytes each, meets one token.
# How many operations does each moved byte allow? And how many must it allow, so that
# the arithmetic units never wait?

# %%
PEAK, RATE = 990e12, 3000e9  # FLOP/s and byte/s of the example card
ridge = PEAK / RATE


def intensity(tokens, inner=5120, outer=1536):
    """FLOP per byte of (tokens, inner) @ (inner, outer), 2 bytes a number."""
    flop = 2 * tokens * inner * outer
    return flop / (2 * (inner * outer + tokens * (inner + outer)))


print(f"the card is busy from {ridge:.0f} FLOP per byte on")
for tokens in (1, 32, 512, 4096):
    found = intensity(tokens)
    print(f"{tokens:5} tokens: {found:6.1f} FLOP per byte, at most "
          f"{min(1, found / ridge):6.1%} of the peak")

# %%
x = torch.logspace(-1, 4, 200).tolist()
figure, axes = plt.subplots(figsize=(6.4, 3))
axes.loglog(x, [min(PEAK, RATE * i) / 1e12 for i in x], color=colours["muted"])
for tokens, name in ((1, "decode, 1 text"), (64, "decode, 64 texts"),
                     (4096, "prefill, 4,096 tokens")):
    i = intensity(tokens)
    axes.plot(i, min(PEAK, RATE * i) / 1e12, "o", color=colours["after"], markersize=8)
    left = tokens == 4096
    axes.annotate(name, (i, min(PEAK, RATE * i) / 1e12), xytext=(9, -14 - 6 * left),
                  textcoords="offset points", color=colours["after"],
                  ha="center" if left else "left")
axes.set(xlabel="FLOP per byte", ylabel="TFLOP/s at most", ylim=(0.2, 3000),
         title="Decode waits for memory, prefill for arithmetic")
plt.show()

# %% [markdown]
# **Explain.** Such a picture is a *roofline*, and its corner, here at 330 FLOP per
# byte, is the *ridge*. With one token, each weight is moved (2 bytes) for one
# multiply-add (2 FLOP): intensity 1, and 99.7 % of the arithmetic waits. In prefill a
# weight serves thousands of tokens. Decoding many texts at once, a *batch*, is the
# remedy for weights. It is none for the cache: each text has its own.
#
# **Change one thing.** From how many tokens on does this matrix reach the ridge? Solve
# `intensity(tokens) >= ridge` by trying. Why are they more than 330? (From 458:
# what goes in and comes out is moved as well, not the weights alone.)
#
# ## 2. Without a cache, everything is computed again
#
# We need a model. This one is small and its weights are random, which is enough: all
# that follows is about equality, in float64, where rounding errors are below
# $10^{-12}$.
#
# **Predict.** The prompt has 6 tokens and we want 5 more. The plain way reads the whole
# text for each new token. How many tokens does the model read in all?

# %%
torch.manual_seed(0)
config = preset("toy", vocab_size=96, hidden_size=64, q_lora_rank=48,
                initializer_range=0.125)  # 1 / sqrt(64): activations stay near 1
model = MiniCoder(config).double().eval()


def uncached(prompt, new):
    """The likeliest continuation, the plain way, and how many tokens were read."""
    tokens, count = list(prompt), 0
    for _ in range(new):
        count += len(tokens)
        tokens.append(model(torch.tensor([tokens]))[0, -1].argmax().item())
    return tokens[len(prompt):], count


_, count = uncached([3, 1, 4, 1, 5, 9], new=5)
print(f"tokens read: {count}")
for p, n in ((6, 5), (1000, 500)):
    print(f"prompt {p}, new {n}: without a cache {n * p + n * (n - 1) // 2:,}, "
          f"with one {p + n - 1:,}")

# %% [markdown]
# **Explain.** 6 + 7 + 8 + 9 + 10 = 40, and in general $nP + n(n-1)/2$ for a prompt of
# $P$ tokens and $n$ new ones. But attention is causal: a later token changes nothing of
# what was computed for an earlier one. So keep that, and read each token once: 6 + 4 =
# 10, for nobody reads the last one that is written.
#
# What exactly do we keep? Take one head, three tokens, and for each of them the query
# $q = (\ln 2, 0)$. It has scores $(\ln 2, 0, \ln 2)$ with the keys below (we leave out
# the scale), so its weights go as $2 : 1 : 2$.

# %%
keys = torch.tensor([[1, 0], [0, 1], [1, 1]]).double()
values = torch.tensor([10, 20, 30]).double()
queries = torch.tensor([[math.log(2), 0]] * 3).double()

scores = (queries @ keys.T).masked_fill(~torch.ones(3, 3).tril().bool(), -math.inf)
whole = scores.softmax(-1) @ values  # all three tokens at once, causal

cached_keys, cached_values = [], []  # one token after the other
for t in range(3):
    cached_keys.append(keys[t])
    cached_values.append(values[t])
    weights = (torch.stack(cached_keys) @ queries[t]).softmax(0)
    print([round(w, 2) for w in weights.tolist()])
    assert_close(weights @ torch.stack(cached_values), whole[t])
print(f"result of the third token: {whole[2]:.1f}")

# %% [markdown]
# $0.4 \cdot 10 + 0.2 \cdot 20 + 0.4 \cdot 30 = 20$. Old *keys and values* are read
# again and again. Old *queries* are not, so nobody caches them.
#
# In a whole model each layer has a cache. What is cached of a token in MLA is one
# vector, which `to_cache` makes: the latent and the rotary key, here 64 + 32 = 96
# numbers. Here is the model with a cache that we carry ourselves, a list with one
# tensor per layer. `run` goes through the layers and asks our `attend` in each of them;
# `expanded` is attention that makes keys and values from what is cached (section 4).
# The new token must be rotated by its true position, so `read` is told where it
# `start`s.

# %%
def read(tokens, start, cache):
    """Logits of `tokens`, which stand at start, start + 1, ..., and a longer cache."""
    like, longer = model.lm_head.weight, []  # float64, so the rotation is too
    rope = rope_table(config, start, start + len(tokens), like)

    def attend(layer, attention, x):
        old = cache[layer:layer + 1]  # nothing, when the cache is empty
        longer.append(torch.cat([*old, attention.to_cache(x, rope)], dim=1))
        return attention.expanded(x, longer[layer], rope)

    hidden = model.model.run(torch.tensor([tokens]), attend)
    return model.lm_head(hidden)[0], longer


text = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]
whole, cache = model(torch.tensor([text]))[0], []
for t, token in enumerate(text):
    logits, cache = read([token], t, cache)
    assert_close(logits[0], whole[t], rtol=0, atol=1e-12)
print(f"{len(text)} tokens, one by one: logits equal to 1e-12;",
      f"cache of a layer {tuple(cache[0].shape)}")

# %% [markdown]
# Two mistakes make wrong text without any error message: a position that is off by one,
# and a cache that is not passed on.
#
# **Predict.** Logits of this model spread by about 1. Which mistake moves them more?

# %%
_, past = read(text[:-1], 0, [])
for name, start, kept in (("right", 11, past), ("position off by one", 12, past),
                          ("cache not passed on", 11, [])):
    logits, _ = read(text[-1:], start, kept)
    print(f"{name:<20} largest error {(logits[0] - whole[-1]).abs().max():.2f}")

# %% [markdown]
# **Explain.** Without the past the last token is a one-token text, so all is wrong. A
# wrong position is worse in another way: the text looks nearly right, so nobody
# searches.
#
# ### Exercise 1 · greedy decoding with a cache (medium, important, 8 minutes)
#
# *Greedy* means: always the likeliest token. `step` below reads tokens and returns the
# likeliest next one, with a longer cache. `hint("inference.greedy")` helps, more with
# every call.

# %% tags=["nbval-ignore-output"]
def step(tokens, start, cache):
    logits, longer = read(tokens, start, cache)
    return logits[-1].argmax().item(), longer


def greedy(step, prompt: list[int], new: int) -> list[int]:
    """The `new` likeliest tokens after `prompt`: it in one step, then one token a step.

    step(tokens, start, cache) reads tokens that stand at positions start, start + 1,
    ... behind those in `cache`, a list that begins as []; it returns the likeliest next
    token and a longer cache.
    """
    ...


check("inference.greedy", greedy)

# %% [markdown]
# When it is right, `uncached(text, 5)[0] == greedy(step, text, 5)` is true.
#
# <details><summary>Solution</summary>
#
# ```python
# def greedy(step, prompt: list[int], new: int) -> list[int]:
#     token, cache = step(prompt, 0, [])
#     answer = [token]
#     while len(answer) < new:
#         token, cache = step([token], len(prompt) + len(answer) - 1, cache)
#         answer.append(token)
#     return answer
# ```
#
# </details>
#
# ## 3. The cache of MLA, and its bytes
#
# Per token, layer and text, the cache keeps (DeepSeek-V2, table 1; $d_h = 128$ is the
# width of a head):
#
# | attention | numbers | why |
# |---|---|---|
# | MHA, multi-head | $2 H d_h$ | a key and a value for each head |
# | GQA, $G$ groups | $2 G d_h$ | heads of a group share them |
# | MQA, multi-query | $2 d_h$ | all heads share them |
# | MLA | $L + R$ | one latent and one rotary key, for all heads |
#
# **Predict.** The 236B has 128 heads and 60 layers. How many GiB does one text of
# 131,072 tokens take with MHA, at 2 bytes a number? And with MLA?

# %%
def cached_numbers(c, groups=8):
    """Numbers in the cache per token, all layers, for four kinds of attention."""
    layers, head = c.num_hidden_layers, c.v_head_dim
    return {"MHA": layers * 2 * c.num_attention_heads * head,
            f"GQA-{groups}": layers * 2 * groups * head, "MQA": layers * 2 * head,
            "MLA": layers * (c.kv_lora_rank + c.qk_rope_head_dim)}


for name, c in (("236B", full), ("Lite", lite)):
    for kind, n in cached_numbers(c).items():
        print(f"{name} {kind:<6}{n:>10,} numbers, {2 * n:>10,} bytes a token,"
              f"{2 * n * 131_072 / 2**30:8.2f} GiB for 131,072")
n = cached_numbers(full)
print(f"MHA / MLA = {n['MHA'] / n['MLA']:.1f}, MLA = GQA with "
      f"{n['MLA'] / (n['GQA-8'] / 8):.2f} groups")
with torch.device("meta"):  # shapes without memory
    cache = LatentCache(full, torch.empty(0), batch=1, capacity=131_072)
assert cache.buffer.numel() == n["MLA"] * 131_072

# %% [markdown]
# **Explain.** 57 times less than its *MHA twin*, a model with the same layers and heads
# that stores every key and value. The twin is a formula: nobody trained it. The two
# models that DeepSeek-V2 did train for comparison have other shapes, 860.2K against
# 34.6K numbers a token, 25 times (table 9). For the small pair, 110.6K against 15.6K,
# the twin is exact: $27 \cdot 2 \cdot 16 \cdot 128 = 110{,}592$.
#
# ### A famous bug: the formula without layers
#
# A published "from scratch" book's code told 7.8 GB where 480 GiB is true: what MHA
# would cache in the 236B for its window of 128K. The factor for layers was missing:

# %%
tokens = 128_000  # with this reading of "128K" the told number comes out
told = 2 * full.num_attention_heads * full.v_head_dim * 2 * tokens
print(f"told  {told / 2**30:6.1f} GiB")
print(f"true  {told * full.num_hidden_layers / 2**30:6.1f} GiB for 128,000 tokens")
print(f"true  {2 * n['MHA'] * 131_072 / 2**30:6.1f} GiB for 131,072 tokens")
omitted = full.cache_width * 131_072  # the same mistake for MLA, in numbers
print(f"the cache that was allocated above holds {cache.buffer.numel() / omitted:.0f} "
      "times what such a formula says")
assert cache.buffer.numel() == full.num_hidden_layers * omitted
free = 8 * 80e9 - 2 * parameter_count(full)  # 8 cards of 80 GB, weights in bf16
print("texts of 32,768 tokens beside the weights:",
      {kind: int(free / (2 * n[kind] * 32_768)) for kind in ("MHA", "MLA")})

# %% [markdown]
# The check that catches it: allocate a cache, here on the `meta` device, and count.
#
# The last line is why a cache matters to those who pay: with MHA 8 cards serve one such
# text at a time, with MLA they serve many (an upper bound; other memory is not
# counted). DeepSeek-V2 reports 5.76 times the generation throughput of DeepSeek 67B and
# a cache 93.3 % smaller (§1), with weights in FP8 (8 bits) and about 6 bits a cached
# number (§3.2.3).
#
# ### Exercise 2 · bytes of a cache (easy, important, 4 minutes)

# %% tags=["nbval-ignore-output"]
def cache_bytes(c, batch: int, tokens: int, size: int) -> int:
    """Bytes of MLA's cache for `batch` texts of `tokens` tokens; `size` per number.

    c: a ModelConfig, such as full or lite above.
    """
    ...


check("inference.cache_bytes", cache_bytes)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def cache_bytes(c, batch: int, tokens: int, size: int) -> int:
#     return c.num_hidden_layers * batch * tokens * c.cache_width * size
# ```
#
# </details>
#
# ### How a cache grows
#
# `torch.cat` in our `read` allocates a new cache and copies the old one for every
# token. The library allocates more than it needs and doubles when it is full.
#
# **Predict.** One row is what one token leaves. Writing 10,000 of them, one by one, how
# many rows does `torch.cat` copy? And doubling, which begins with room for 64?

# %%
cache, sizes = LatentCache(config, model.lm_head.weight, batch=1, capacity=64), []
row = torch.zeros(1, 1, config.cache_width).double()
for _ in range(10_000):
    cache.append(0, row)  # into layer 0
    cache.length += 1
    if cache.buffer.shape[2] not in sizes:
        sizes.append(cache.buffer.shape[2])
print("capacity:", *sizes)
print(f"copied by doubling {sum(sizes[:-1]):,}, by torch.cat {10_000 * 9_999 // 2:,}")

try:
    # no token is -1, so no text ends early
    generate(model, [[3, 1, 4]] * 4, 5, end=-1, cache_budget=50_000)
except UserError as error:
    print(error)

# %% [markdown]
# **Explain.** Doubling copies fewer than 2 rows for each one written, however long the
# text; `torch.cat` copies half the square of the length. The price is spare room. If
# the length is known, one allocation suffices: `generate` takes room for prompt and
# answer at the start. So it knows the bytes before it begins, and refuses what exceeds
# a `cache_budget`: 4 texts of 3 + 5 tokens, 4 layers, 96 numbers of 8 bytes are 98,304.
#
# ### Bytes per decoded token
#
# One decoding step of $B$ texts moves the weights once, shared among the texts, and the
# cache of each text, all layers. So a token costs
#
# $$
# \text{bytes} = \frac{\text{weights read}}{B}
# + 2 \cdot \text{numbers per token} \cdot S
# $$
#
# The weights read grow with the batch, because other texts need other experts. If each
# token drew its 6 of 160 experts evenly and at random, $B$ tokens would touch
# $160\,(1 - (1 - 6/160)^B)$ of them in a layer. All three lines take MLA's weights, so
# that only the caches differ.
#
# **Predict.** From 1 text to 64, at 32K tokens of context: how many times fewer bytes
# does a token move with MHA? And with MLA? Then move the slider over the batch.

# %% tags=["nbval-ignore-output"]
def weights_read(c, batch):
    """Bytes of weights that a step of `batch` texts moves, 2 bytes a number."""
    expert = 3 * c.hidden_size * c.moe_intermediate_size
    layers = c.num_hidden_layers - c.first_k_dense_replace
    once = parameter_count(c) - layers * c.n_routed_experts * expert
    once -= c.vocab_size * c.hidden_size  # of the embedding, only rows are read
    miss = 1 - c.num_experts_per_tok / c.n_routed_experts
    return 2 * (once + layers * c.n_routed_experts * (1 - miss ** batch) * expert)


def moved(kind, batch, context):
    """GB per decoded token of the 236B with this kind of attention."""
    return (weights_read(full, batch) / batch + 2 * n[kind] * context) / 1e9


LINE = {"MHA": ("before", "-"), "GQA-8": ("before", "--"), "MLA": ("after", "-")}


def draw_moved(batch):
    contexts = [2 ** e for e in range(9, 18)]
    figure, axes = plt.subplots(figsize=(6.4, 2.8))
    for kind, (ink, style) in LINE.items():
        axes.loglog(contexts, [moved(kind, batch, s) for s in contexts], label=kind,
                    color=colours[ink], linestyle=style)
    axes.axhline(weights_read(full, batch) / batch / 1e9, color=colours["muted"],
                 linestyle=":", linewidth=1)
    axes.text(512, weights_read(full, batch) / batch / 1.2e9, "weights alone",
              color=colours["muted"], va="top", fontsize=9)
    axes.set(xlabel="context in tokens", ylabel="GB per decoded token", ylim=(3, 900),
             title=f"Batch {batch}: at 32K tokens MHA moves "
                   f"{moved('MHA', batch, 32768):.0f} GB, MLA "
                   f"{moved('MLA', batch, 32768):.0f}")
    axes.set_xticks([512, 4096, 32768, 131072], ["512", "4K", "32K", "128K"])
    axes.minorticks_off()
    label_lines(axes, gap=0.1)
    return figure


BATCHES = (1, 2, 4, 8, 16, 32, 64)
frame_slider([draw_moved(b) for b in BATCHES],
             [f"batch {b}: at 32K tokens MHA moves {moved('MHA', b, 32768):.0f} GB a "
              f"token, MLA {moved('MLA', b, 32768):.0f} GB" for b in BATCHES],
             name="bytes-per-token", start=3)

# %% [markdown]
# The still picture says the same for one context, 32,768 tokens:

# %%
assert round(weights_read(full, 1)) == 2 * 20_851_512_320  # the activated parameters
figure, axes = plt.subplots(figsize=(6.4, 2.8))
for kind, (ink, style) in LINE.items():
    axes.plot(BATCHES, [moved(kind, b, 32_768) for b in BATCHES], marker="o",
              label=kind, color=colours[ink], linestyle=style)
axes.set_xscale("log", base=2)
axes.set_yscale("log")
axes.set(xlabel="texts decoded at once", ylabel="GB per decoded token", ylim=(5, 300),
         title="A batch shares weights, never the cache: MHA hardly gains")
axes.set_xticks(BATCHES, BATCHES)
axes.minorticks_off()
label_lines(axes)
plt.show()
for b in (1, 64):
    print(f"batch {b}: " + ", ".join(f"{k} {moved(k, b, 32_768):.1f} GB" for k in LINE))

# %% [markdown]
# **Explain.** At batch 64 MHA still moves 79 % of what it moved at batch 1, because
# nearly all of it is cache. MLA moves a fifth: its cache is so small that sharing the
# weights pays. Eight groups move 14.8 GB where MLA moves 9.0, and pay in quality: with
# 7B models GQA scored 41.2 on MMLU and MHA 45.2 (DeepSeek-V2, table 8). The large MLA
# model scored 59.0 against MHA's 57.5 (table 9).
#
# **Change one thing.** In `moved`, give the cache 6 bits a number, as DeepSeek-V2 was
# deployed: replace `2 *` by `0.75 *`. Whose line falls most, and does the order change?
# (That of MHA, which is nearly all cache. The order stays.)
#
# ## 4. Absorb: move two matrices
#
# A small cache has a catch. Attention wants a key and a value for each head, and the
# cache holds neither. MLA makes them from the latent: $k = W^{UK} c$ and
# $v = W^{UV} c$. Doing so for all $S$ tokens in each step (*expanding*) would cost more
# than it saves. But a score is a product of three, and we may choose where to begin:
#
# $$
# q^\top (W^{UK} c) = (W^{UK\top} q)^\top c
# $$
#
# The left side makes a key from each cached latent, the right side makes one new query.
# In the same way $\sum_s p_s\,(W^{UV} c_s) = W^{UV} \sum_s p_s c_s$: one product behind
# the sum instead of $S$ products before it. This is the *absorbed* form (§2.1.2).
#
# **Predict.** $W = \begin{pmatrix} 1 & 2 \\ 0 & 1 \end{pmatrix}$, $c = (3, 1)$,
# $q = (2, 1)$. Compute $q^\top (W c)$ and $(W^\top q)^\top c$.

# %%
W = torch.tensor([[1, 2], [0, 1]])
c, q = torch.tensor([3, 1]), torch.tensor([2, 1])
print(f"key {(W @ c).tolist()}, score {q @ (W @ c)}")
print(f"new query {(W.T @ q).tolist()}, score {(W.T @ q) @ c}")

# %% [markdown]
# Now with all heads, with the rotary part, in a layer of our model. The rotary part
# needs no moving: its key is cached as it is. (Could it stand inside $W^{UK} c$? No: a
# rotation that depends on the position would stand between $q$ and $W^{UK}$, §2.1.3.)
# `kv_b_proj` holds both matrices of all heads: of each head $N$ rows of $W^{UK}$, then
# $V$ rows of $W^{UV}$. `attention.scale` is $1 / \sqrt{N + R}$.

# %%
attention = model.model.layers[1].self_attn
x = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(1)).double()
rope = rope_table(config, 0, 9, x)

cached = attention.to_cache(x, rope)  # (2, 9, L + R): no heads in it
latent, key_rotary = cached.split([config.kv_lora_rank, config.qk_rope_head_dim], -1)
up = attention.kv_b_proj.weight.unflatten(0, (config.num_attention_heads, -1))
up_key, up_value = up.split([config.qk_nope_head_dim, config.v_head_dim], 1)
content, rotary = attention.queries(x, rope)  # (2, H, 9, N) and (2, H, 9, R)

content = torch.einsum("bhtn,hnl->bhtl", content, up_key)  # moved: to the query
scores = torch.einsum("bhtl,bsl->bhts", content, latent)
scores += torch.einsum("bhtr,bsr->bhts", rotary, key_rotary)
causal = torch.ones(9, 9).tril().bool()
p = (scores * attention.scale).masked_fill(~causal, -math.inf).softmax(-1)
mixed = torch.einsum("bhts,bsl->bthl", p, latent)
heads = torch.einsum("bthl,hvl->bthv", mixed, up_value)  # moved: behind the sum
mine = attention.o_proj(heads.flatten(2))

for way in (attention.absorbed, attention.expanded):
    assert_close(mine, way(x, cached, rope), rtol=0, atol=1e-12)
print("by hand = absorbed = expanded, to 1e-12")

# %% [markdown]
# The whole model has both ways as well: `prefill` expands, `decode` absorbs, and both
# write into the same cache. So a prompt may come in several calls (*chunked prefill*: a
# long one need not hold up other users, and fewer scores exist at a time), and tokens
# may follow one by one.

# %%
tokens = torch.randint(96, (2, 24), generator=torch.Generator().manual_seed(2))
whole = model.model(tokens)  # hidden states, without any cache
for name, sizes in {"prefill in one call": [24], "in three": [10, 10, 4],
                    "prefill 16, decode 8 by one": [16] + [1] * 8,
                    "decode 8 by three": [3] * 8}.items():
    cache, parts = LatentCache(config, whole, batch=2, capacity=4), []
    for chunk in tokens.split(sizes, dim=1):
        way = model.model.prefill if chunk.shape[1] > 3 else model.model.decode
        parts.append(way(chunk, cache))
    assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-12)
    print(f"{name:<28} {cache.length} tokens cached, equal to 1e-12")

# %% [markdown]
# ## 5. Arithmetic against bytes
#
# Absorbing is not free. A head's query has 128 + 64 numbers, and 512 + 64 after the
# move.
#
# **Predict.** For one query and one cached token, in one head, how many multiply-adds
# do the score and the weighted sum take, expanded (key and value are there already) and
# absorbed (the query is moved already)?
#
# ### Exercise 3 · absorb or expand (medium, important, 10 minutes)
#
# Count the multiply-adds of one layer from the queries and the cached latents to the
# heads' results. Expanded makes keys and values from *all* latents first. The
# projections before and after are the same in both ways and do not count.

# %% tags=["nbval-ignore-output"]
def multiply_adds(c, keys: int, queries: int) -> tuple[int, int]:
    """Multiply-adds of one layer, all heads: (expanded, absorbed).

    Every query sees every key. Widths: c.qk_nope_head_dim (N), c.qk_rope_head_dim (R),
    c.v_head_dim (V), c.kv_lora_rank (L); heads: c.num_attention_heads.
    """
    ...


check("inference.multiply_adds", multiply_adds)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def multiply_adds(c, keys: int, queries: int) -> tuple[int, int]:
#     n, r, v = c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim
#     latent, pairs = c.kv_lora_rank, queries * keys
#     expanded = keys * latent * (n + v) + pairs * (n + r + v)
#     absorbed = queries * latent * (n + v) + pairs * (latent + r + latent)
#     return c.num_attention_heads * expanded, c.num_attention_heads * absorbed
# ```
#
# </details>
#
# Per pair, then: $128 + 64 + 128 = 320$ expanded, $512 + 64 + 512 = 1088$ absorbed, 3.4
# times more. Beside that, the two matrices: $512 \cdot (128 + 128) = 131{,}072$ for
# each *key* expanded, for each *query* absorbed. Where is the crossover?

# %%
def per_head(keys, queries):
    """Multiply-adds per head, (expanded, absorbed)."""
    return 131_072 * keys + 320 * queries * keys, (
        131_072 * queries + 1088 * queries * keys)


for keys in (1, 2, 100, 4096, 131_072):
    expanded, absorbed = per_head(keys, 1)
    print(f"decode, {keys:>7,} cached: expanding each step costs "
          f"{expanded / absorbed:6.2f} × absorbed")
for keys in (256, 4096, 131_072):
    best = max(t for t in range(1, keys) if per_head(keys, t)[1] < per_head(keys, t)[0])
    print(f"{keys:>7,} keys: absorbed is cheaper up to {best} queries")
print(f"limit {131_072 / (1088 - 320):.1f}; prompt of 4,096 at once: expanded costs "
      f"{per_head(4096, 4096)[0] / per_head(4096, 4096)[1]:.2f} × absorbed")

# %% [markdown]
# **Explain.** For one new token, absorbed wins from the second token of context on. For
# a whole prompt at once, expanded wins always, since each expanded key then serves many
# queries. In between, a chunk of up to about 170 queries on a long cache is cheaper
# absorbed. That is why the library has two methods and not a best one.
#
# There is a third way: expand once and cache the keys and values. It has fewer
# multiply-adds than both.
#
# **Predict.** How many bytes does it move per cached token and layer, with 128 heads?
# How many FLOP per byte is that, and how many has the absorbed form?

# %%
print("per cached token and layer of the 236B, one new token, 2 bytes a number:")
cost = {}
for way, macs, numbers in (("expanded, cached", 128 * 320, 128 * 320),
                           ("absorbed, latent", 128 * 1088, 576)):
    flop, size = 2 * macs, 2 * numbers
    cost[way] = max(flop / PEAK, size / RATE)
    print(f"{way}: {flop:>7,} FLOP, {size:>6,} bytes, {flop / size:5.1f} FLOP per byte,"
          f" {1e9 * cost[way]:6.3f} nanoseconds")
first, second = cost.values()
print(f"the example card (ridge {ridge:.0f}) is {first / second:.0f} times faster "
      f"absorbed; break-even is a card with {2 * 128 * 1088 / (2 * 128 * 320):.1f} "
      "FLOP per byte")

# %% [markdown]
# **Explain.** An expanded cache has intensity 1: the card waits for memory. All 128
# heads of the absorbed form read the *same* latent, so its intensity is 242, near the
# ridge: memory is busy, and arithmetic for 73 % of the time. (FlashMLA's notes see it
# on the border: the clock drops under load, to 865 TFLOP/s, so with 3,350 GB/s the
# ridge is 258. They round our 242 to $2 \cdot 128 = 256$ and count the case as bound by
# arithmetic.) Absorbed does 3.4 times the arithmetic and moves 71 times fewer bytes (71
# and not 57, because an expanded key of MLA has 64 rotary numbers beside its 128).
# Expanded would win only on a machine with less than 3.4 FLOP per byte.
#
# **Change one thing.** Lite has 16 heads. What is the intensity of its absorbed form?
# Does it wait for memory or for arithmetic? ($2 \cdot 16 \cdot 1088 / 1152 = 30$: for
# memory.)
#
# Formulas are not a clock. The next cell measures a small layer on your machine in
# CPU time, expand-each-step against absorbed. What it prints differs from machine to
# machine. Expect less than the formula says: each call has fixed costs, and the library
# sums all 576 numbers of a cached row and drops the 64 rotary ones, because the cache
# is one block.

# %% tags=["nbval-ignore-output"]
small = preset("toy", hidden_size=256, num_attention_heads=8, kv_lora_rank=128,
               qk_nope_head_dim=64, v_head_dim=64)
layer, x = MLA(small), torch.zeros(1, 1, 256)
rows = []
for keys in (128, 512, 2048, 8192):
    latents, rope = torch.zeros(1, keys, small.cache_width), rope_table(small, 0, 1, x)
    best = {}
    for way in (layer.expanded, layer.absorbed) * 5:
        start = time.process_time()
        for _ in range(max(1, 2048 // keys)):
            way(x, latents, rope)
        spent = (time.process_time() - start) / max(1, 2048 // keys)
        best[way.__name__] = min(spent, best.get(way.__name__, math.inf))
    rows.append((keys, best["expanded"], best["absorbed"]))
    print(f"{keys:5} cached: expand each step {1e3 * rows[-1][1]:7.2f} ms, "
          f"absorbed {1e3 * rows[-1][2]:6.2f} ms")
assert rows[-1][1] > 2 * rows[-1][2]

# %% [markdown]
# ## 6. Batches of texts with different lengths
#
# A batch is one block of numbers, but prompts have different lengths. The short ones
# are filled up, *padded*, on the left, so that the newest token of each stands in the
# last column. Then a short text begins not at position 0 but later. Does that change
# what the model computes?
#
# A rotary position turns a pair of numbers by an angle that grows with the position,
# and a score is the product of two turned pairs. Let the angle be 30° a position.
#
# **Predict.** Query and key are both $(1, 0)$, at positions 5 and 3. What is the
# score? And at positions 105 and 103?

# %%
def turned(position, degrees=30):
    angle = math.radians(position * degrees)
    return torch.tensor([math.cos(angle), math.sin(angle)]).double()


for at, before in ((5, 3), (105, 103), (5, 4)):
    print(f"positions {at}, {before}: score {turned(at) @ turned(before):.3f}")

pair = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(3)).double()
early, late = (rotate(pair, rope_table(config, start, start + 6, pair))
               for start in (0, 100))
assert_close(early[0] @ early[1].T, late[0] @ late[1].T, rtol=0, atol=1e-12)
print("scores of 6 tokens at 0..5 and at 100..105: equal to 1e-12")

# %% [markdown]
# **Explain.** Only the difference of positions matters: $\cos(2 \cdot 30°) = 0.5$. That
# is also why our *position off by one* did harm: it moved one token and not the others.
#
# So a shifted row computes the same, if it does not see its padding. The mask says who
# sees whom: token $t$ sees $s$ if $s \le t$ and $s$ is no padding.

# %%
prompts = [[5, 6, 7, 8, 9], [1, 2], [3, 1, 4]]
tokens, padding = left_pad(prompts, torch.device("cpu"))
print(tokens.tolist(), "padding", padding.tolist())
columns = torch.arange(5)
seen = columns >= padding[:, None]  # (3, 5): true where a token stands
allowed = (columns[:, None] >= columns) & seen[:, None]  # (3, 5, 5)
mask = allowed | torch.eye(5).bool()  # a padded cell sees itself: see the next cell
cache = LatentCache(config, model.lm_head.weight, batch=3)
last = model.model.prefill(tokens, cache, mask)[:, -1]
for row, prompt in enumerate(prompts):
    alone = model.model(torch.tensor([prompt]))[0, -1]
    assert_close(last[row], alone, rtol=0, atol=1e-12)
print("each row of the batch = its prompt alone, to 1e-12")

# %% [markdown]
# ### A famous bug: a softmax over nothing
#
# In the row of prompt `[1, 2]` the first three cells are padding, in that of
# `[3, 1, 4]` the first two. Without `| torch.eye(5).bool()` they may see nothing at
# all. Nobody reads their results, so who cares?
#
# **Predict.** What is the softmax of $(-\infty, -\infty)$? And what is $0 \cdot$ that?

# %%
nothing = torch.tensor([-math.inf, -math.inf]).softmax(0)
print("softmax over nothing:", nothing.tolist())
values = torch.tensor([nothing[0], 3.0])  # layer 2 gets this padded cell's value
weights = torch.tensor([0.0, 1.0])  # and a real token gives it weight 0
print("0 · nan + 1 · 3 =", (weights @ values).item())

rows = ~allowed.any(-1)  # padded cells that would see nothing
print("cells that see nothing:", rows.sum().item(), "with the mask as it is above:",
      (~mask.any(-1)).sum().item())

# %% [markdown]
# **Explain.** NaN, *not a number*, survives a weight of 0. After one more layer every
# token of that row is NaN. (torch's own `scaled_dot_product_attention` answers zeros
# here in the version that this course pins; a softmax written by hand, as in section 4,
# answers NaN.) The cure costs nothing: a padded cell sees itself.
#
# ### Who is done leaves
#
# Texts end at different times, when the model writes its end token. A row that is done
# would cost as much as before, so `generate` takes it out of the batch. We count the
# rows that reach the output matrix in each step.
#
# **Predict.** Three texts may write 6 tokens; one of them ends with its third. How many
# rows has each step?

# %%
free_run = [uncached(prompt, 6)[0] for prompt in prompts]
end = free_run[1][2]  # what text 1 says in its third step plays the end token
rows = []
hook = model.lm_head.register_forward_hook(
    lambda module, inputs, output: rows.append(len(inputs[0])))
answers = generate(model, prompts, max_new_tokens=6, end=end)
hook.remove()
for answer, plain in zip(answers, free_run, strict=True):
    assert answer == (plain[:plain.index(end) + 1] if end in plain else plain)
assert generate(model, prompts, 6, end=-1, stop=lambda said: end in said) == answers
print("rows in each step:", rows)
print("answers have", [len(answer) for answer in answers], "tokens")

# %% [markdown]
# **Change one thing.** Let text 0 choose the end: `free_run[0][0]`. Who leaves when?
# (It leaves after one step. The others never say that token, and write all six.)
#
# The last `assert` uses `stop`: any rule over the tokens of an answer may end it.
# `stop_at(tokenizer, ["\n\n"])` makes one for texts, and looks at bytes: a stop string
# may begin inside one token and end inside another.
#
# ## 7. Sampling
#
# The likeliest token is one choice. To get several programs for one request, as
# reinforcement learning needs them, we draw. Two dials shape the draw.
#
# **Temperature** $\tau$: the logits are divided by $\tau$ before the softmax, so
# probabilities go as $p^{1/\tau}$. Below 1 the likely get likelier. Four tokens have
# probabilities 1/2, 1/4, 1/8, 1/8.
#
# **Predict.** At $\tau = 0.5$ they go as their squares. What are they?

# %%
logits = torch.tensor([4.0, 2.0, 1.0, 1.0]).log()
for tau in (2.0, 1.0, 0.5, 0.1):
    shares = (logits / tau).softmax(0).tolist()
    print(f"temperature {tau}: ", *(f"{share:.3f}" for share in shares))
print("16, 4, 1, 1 over 22:", *(f"{square / 22:.3f}" for square in (16, 4, 1, 1)))

# %% [markdown]
# **Top-p**: many unlikely tokens together are likely, and one of them spoils a program.
# So keep the smallest set of likeliest tokens whose probability reaches $p$, and divide
# by its sum. At temperature 1 and $p = 0.6$: 1/2 is less than 0.6, so 1/4 comes too.
# That makes 3/4, and the draw is from 2/3 and 1/3. **Top-k** is simpler: keep the $k$
# likeliest. With both, `choose` cuts by $k$ first.
#
# ### Exercise 4 · top-p (medium, useful, 8 minutes)

# %% tags=["nbval-ignore-output"]
def top_p(probabilities: list[float], p: float) -> list[float]:
    """Keep the smallest set of likeliest tokens whose sum reaches `p`; renormalise.

    p is above 0 and at most 1. A token that is cut off stays in the list, with
    probability 0. Of equal ones any may go.
    """
    ...


check("inference.top_p", top_p)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def top_p(probabilities: list[float], p: float) -> list[float]:
#     kept, reached = [0.0] * len(probabilities), 0.0
#     for place in sorted(range(len(kept)), key=lambda i: -probabilities[i]):
#         if reached < p:
#             kept[place] = probabilities[place]
#         reached += probabilities[place]
#     return [share / sum(kept) for share in kept]
# ```
#
# </details>
#
# The library's `choose` does all of it. At $\tau = 0.5$ and $p = 0.9$ two tokens remain
# (16/22 + 4/22 = 0.909), with 16/20 and 4/20; $k = 2$ leaves the same two. 20,000 draws
# must agree with that:

# %%
deviation = math.sqrt(0.8 * 0.2 / 20_000)  # of a share of 20,000 draws
print(f"one standard deviation is {deviation:.4f}")
for cut in ({"top_p": 0.9}, {"top_k": 2}):
    draws = choose(logits.expand(20_000, -1), temperature=0.5, **cut,
                   generator=torch.Generator().manual_seed(0))
    share = draws.bincount(minlength=4) / 20_000
    assert abs(share[0] - 0.8) < 4 * deviation
    print(cut, "tokens drawn:", draws.unique().tolist())

# %% [markdown]
# **Streaming** hands on each token as it is chosen. It is the same loop, written as a
# Python generator, so the same seed gives the same text:

# %%
def how(seed):
    return {"temperature": 1.0, "top_p": 0.95, "end": -1,
            "generator": torch.Generator().manual_seed(seed)}


once, again, other = (generate(model, prompts[:1], 8, **how(s))[0] for s in (0, 0, 1))
pieces = stream(model, prompts[0], 8, **how(0))
first = next(pieces)  # this ran the prefill and one choice, no more
print("same text: from the same seed", once == again, "| from another", once == other)
print("streamed:", [first, *pieces] == once)

# %% [markdown]
# **Explain.** A seed fixes the draws, not the meaning: another batch, order or step
# count shifts who gets which draw. The released V2 files set temperature 0.3 and top-p
# 0.95; what the file of Coder-V2 says is unverified.
#
# **Change one thing.** Ask `how` for temperature 0.01. Do two seeds still differ?
# (No: $p^{100}$ leaves one token, and there is nothing to draw.)
#
# The time to the first token is the prefill's, the time between tokens is the decode's:
# section 1's two jobs, as a user feels them.
#
# ## What you keep
#
# 1. Prefill waits for arithmetic and decode for memory, so what counts in decoding is
#    bytes: the weights, which a batch shares, and the cache, which it cannot share.
# 2. MLA caches 576 numbers a token and layer for all heads, and moving $W^{UK}$ to the
#    query and $W^{UV}$ behind the sum reads them without ever expanding: the same
#    result to $10^{-12}$, 57 times less cache than the MHA twin.
# 3. Absorbed costs 3.4 times the arithmetic per pair; it wins for one or a few new
#    tokens, and expanded wins for prompts.
#
# ## What could go wrong
#
# A latent in the paper is not a latent in the cache. `transformers` has DeepSeek-V2
# built in; its versions 4.54.0 to 5.14.1 cached the *expanded* keys and values, so MLA
# saved nothing. From 5.15.1 on it caches the latent, and expands all of it in each
# decoding step (checked up to 5.23.0). Look at the shape of what a cache holds, and
# count the multiply-adds of a step.
#
# ## Where to go next
#
# - `minicoder/model/generate.py` is the loop; `minicoder/model/mla.py` has both ways.
# - Lesson 14 plans the cluster on which such a model fits; lesson 11 uses samples of
#   one prompt, whose prefill is computed once.
#
# ## References
#
# - DeepSeek-V2, arXiv 2405.04434: §2.1 MLA, §2.1.2 absorbing, §2.1.3 decoupled rotary
#   keys, table 1 and table 9 cache, §3.2.3 deployment, appendix C all equations.
# - DeepSeek-Coder-V2, arXiv 2406.11931: §3.2 architecture.
# - Holtzman et al., arXiv 1904.09751: top-p. Fan et al., arXiv 1805.04833: top-k.
# - Su et al., arXiv 2104.09864: §3.2 rotary positions.
# - Shazeer, arXiv 1911.02150: §2.4 memory bandwidth of incremental decoding.
# - FlashMLA, README: up to 3,000 GB/s and 660 TFLOP/s in decoding on an H800; its notes
#   `docs/20250422-new-kernel-deep-dive.md`: 990 and 865 TFLOP/s, 3.35 TB/s.
