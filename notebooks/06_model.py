# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 06 · The model: one class, from 0.3 million to 235.7 billion
#
# This lesson puts the parts together. One class, `MiniCoder`, is the pocket model of
# this page with 0.3 million parameters, and with other numbers in its configuration it
# is the released model with 235,741,434,880. You write its forward pass by hand, count
# its parameters to the unit, and open its file byte by byte.
#
# - **You will be able to** *count* the total and the activated parameters of such a
#   model from its configuration; *estimate* the operations that a token costs; *read* a
#   checkpoint by hand and say what is wrong with a broken one.
# - **You need first:** lesson 04 (MLA) and lesson 05 (MoE). Both are used as boxes
#   here.
# - **Time:** about 5 seconds on one quiet CPU core; 40 minutes to read, 40 minutes for
#   the exercises.
# - **Paper:** DeepSeek-V2 (arXiv 2405.04434), §2 architecture, §3.1.2 sizes of the
#   236B, appendix B sizes of Lite. DeepSeek-Coder-V2 (arXiv 2406.11931), §3.2 and
#   table 2.
#
# The two released sizes are called **Lite** (16B) and **236B**. The letters of this
# page: B batch, T positions, D hidden size, V vocabulary, L layers.

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
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from minicoder.config import PRESETS, ModelConfig, RopeScaling, parameter_count, preset
from minicoder.show.check import check, hint, solution  # noqa: F401
from minicoder.show.slider import frame_slider
from minicoder.show.style import label_lines, use_style

torch.set_num_threads(1)  # small matrices: a second thread would cost, not help
colours = use_style()
folder = tempfile.TemporaryDirectory()  # fresh each time, removed with the kernel
place = Path(folder.name)

# %% [markdown]
# ## 1. The whole model on one page
#
# A model of this family has three parts: a table that turns each token into a vector, a
# stack of equal *blocks*, and a matrix that turns vectors into scores of the next token
# (*logits*).
#
# ```text
# tokens                     (B, T)       numbers from 0 to V - 1
#   embed_tokens             (B, T, D)    look up one row per token
#   L blocks, each:
#     x = x + self_attn(input_layernorm(x))             MLA, lesson 04
#     x = x + mlp(post_attention_layernorm(x))          SwiGLU in layer 0, then MoE
#   norm                     (B, T, D)
#   lm_head                  (B, T, V)    one logit per token of the vocabulary
# ```
#
# The names are those of the released files. The norm stands *before* each part
# (pre-norm), so that the sum `x` runs through the model untouched from the first line
# to the last. Lessons 04 and 05 built MLA and MoE. Two boxes are left: the norm and
# SwiGLU.
#
# ### RMSNorm: the length goes, the direction stays
#
# $$
# \text{RMSNorm}(x) = w \cdot \frac{x}{\sqrt{\frac{1}{D} \sum_i x_i^2 + \varepsilon}}
# $$
#
# **Predict.** The vector is (3, 4) and the weight $w$ is 1. What comes out? And what
# comes out for (30, 40)?

# %%
def rms_norm_by_hand(x, weight, eps):
    mean_square = x.square().mean(-1, keepdim=True)  # (9 + 16) / 2 = 12.5
    return weight * (x / (mean_square + eps).sqrt())


for numbers in ([3.0, 4.0], [30.0, 40.0], [1.0, 3.0]):
    x = torch.tensor(numbers, dtype=torch.float64)
    normed = rms_norm_by_hand(x, 1.0, 1e-6)
    print(numbers, "->", [round(n, 3) for n in normed.tolist()],
          f" sum of squares {normed.square().sum():.3f}")

# %% [markdown]
# **Explain.** $\sqrt{12.5} = 3.536$ and $3 / 3.536 = 0.849$. Ten times the input gives
# the same output. Whatever comes in, $D$ numbers with a mean square of 1 go out, and
# the squares add up to $D$. (Zeros stay zeros: that is what $\varepsilon = 10^{-6}$
# is for.) Nothing is subtracted: (1, 3) keeps its mean, LayerNorm would make (-1, 1) of
# it.
#
# The formula leaves two things open that decide whether you get the released model's
# bits: *in which type* the division is done, and *when* the weight is multiplied.
#
# **Predict.** A vector holds 300 and 300, in float16. The largest float16 number is
# 65,504. What does the formula give if all of it is computed in float16? And in bf16:
# does it matter whether the result is rounded after the weight, or before it?

# %%
half = torch.tensor([300.0, 300.0], dtype=torch.float16)
print("all in float16:     ", rms_norm_by_hand(half, 1.0, 1e-6).tolist())
print("divided in float32: ", rms_norm_by_hand(half.float(), 1.0, 1e-6).tolist())

x, weight = torch.tensor([3.0, 4.0]).bfloat16(), torch.tensor([1.5, 1.5]).bfloat16()
unit = rms_norm_by_hand(x.float(), 1.0, 1e-6)  # 0.8485, 1.1314
print("weight, then bf16:  ", (weight.float() * unit).bfloat16().tolist())
print("bf16, then weight:  ", (weight * unit.bfloat16()).tolist())

# %% [markdown]
# **Explain.** $300^2 = 90{,}000$ is infinite in float16, and a number divided by
# infinity is 0. So the quotient is computed in float32.
#
# The last two lines differ in one number by one bf16 step, 0.0078. The released code
# goes back to bf16 *first* and multiplies the weight *then*. Another order is no
# mathematical error. It only gives other bits than the checkpoint's authors had.
#
# ### Exercise 1 · RMSNorm as released (easy, important, 8 minutes)
#
# Write the norm so that it works in float16 and bf16 and rounds when the released code
# rounds. `hint("model.rms_norm")` helps, more with every call.

# %% tags=["nbval-ignore-output"]
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) * weight over the last axis.

    The quotient is computed in float32; x, weight and the result share one type.
    """
    ...


check("model.rms_norm", rms_norm)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
#     wide = x.float()
#     unit = wide / (wide.square().mean(-1, keepdim=True) + eps).sqrt()
#     return weight * unit.type_as(x)
# ```
#
# </details>
#
# ### SwiGLU: one matrix opens, one carries, one brings back
#
# Each feed-forward part has three matrices. `gate_proj` and `up_proj` widen, their
# products are multiplied number by number, and `down_proj` narrows again:
#
# $$
# \text{SwiGLU}(x) = W_\text{down} \, \big( \text{silu}(W_\text{gate}\, x) \cdot
# W_\text{up}\, x \big), \qquad \text{silu}(a) = a / (1 + e^{-a})
# $$
#
# **Predict.** "Which matrix is the gate?" is a frequent question, because other code
# calls them `w1`, `w2`, `w3`. Does it matter if you confuse gate and up?

# %%
from minicoder.model.moe import MLP
from minicoder.model.norm import RMSNorm


def silu(a):
    return a / (1 + torch.exp(-a))


def swiglu(x, gate, up, down):
    return (silu(x @ gate.T) * (x @ up.T)) @ down.T


gate, up, down = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0),
                             dtype=torch.float64)
x = torch.eye(8, dtype=torch.float64)[:2]
mlp, norm = MLP(8, 8).double(), RMSNorm(8, eps=1e-6).double()
mlp.load_state_dict({"gate_proj.weight": gate, "up_proj.weight": up,
                     "down_proj.weight": down})
assert_close(swiglu(x, gate, up, down), mlp(x), rtol=1e-12, atol=1e-12)
assert_close(rms_norm_by_hand(gate, norm.weight, 1e-6), norm(gate), rtol=1e-12, atol=0)
print("silu of -2, 0, 2:", [round(silu(torch.tensor(a)).item(), 3)
                            for a in (-2.0, 0.0, 2.0)])
swapped = (swiglu(x, up, gate, down) - mlp(x)).abs().max() / mlp(x).abs().max()
print(f"gate and up confused: off by {swapped:.1f} times the largest output")

# %% [markdown]
# **Explain.** It matters: only the gate goes through silu. In the inference code that
# DeepSeek published for V3, `w1` is the gate, `w3` is up and `w2` is down. Gate and up
# have the same shape, so that no loader can notice the confusion.
#
# **Change one thing.** Compare `swiglu(10 * x, gate, up, down)` with the output for
# `x`, number by number. Which factors do you see? Which one factor would it be without
# silu, for `((x @ gate.T) * (x @ up.T)) @ down.T`? (Sixteen different ones, some even
# negative; without silu it is 100.)
#
# Both functions equal the library's modules to 1e-12. From here on we may use those.
#
# ## 2. The forward pass is a loop
#
# Here is the pocket model. It has every part of the released one: MLA, a dense first
# layer, routed and shared experts. Its hidden size is 64, its vocabulary 512.
#
# **Predict.** Six tokens go in. Which shapes leave the embedding, a block and the head?

# %%
from minicoder.model.rope import rope_table
from minicoder.model.transformer import MiniCoder

POCKET = preset(
    "toy", vocab_size=512, hidden_size=64, num_hidden_layers=3, kv_lora_rank=32,
    qk_nope_head_dim=16, qk_rope_head_dim=16, v_head_dim=16, intermediate_size=176,
    moe_intermediate_size=32, n_routed_experts=8, num_experts_per_tok=2)
torch.manual_seed(0)
model = MiniCoder(POCKET).double()
tokens = torch.randint(512, (1, 6), generator=torch.Generator().manual_seed(1))
print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
for layer, block in enumerate(model.model.layers):
    print(f"layer {layer}: {type(block.self_attn).__name__}, then "
          f"{type(block.mlp).__name__}")

# %%
@torch.no_grad()
def forward_by_hand(tokens):
    def norm(x, module):
        return rms_norm_by_hand(x, module.weight, 1e-6)

    # cosines and sines of positions 0 to T - 1, in the type of the last argument
    rope = rope_table(POCKET, 0, tokens.shape[1], model.lm_head.weight)
    x = model.model.embed_tokens.weight[tokens]
    shapes = [x.shape]
    for block in model.model.layers:
        x = x + block.self_attn(norm(x, block.input_layernorm), rope)
        x = x + block.mlp(norm(x, block.post_attention_layernorm))
        shapes.append(x.shape)
    logits = norm(x, model.model.norm) @ model.lm_head.weight.T
    print(*(tuple(shape) for shape in [*shapes, logits.shape]), sep=" -> ")
    return logits


with torch.no_grad():
    assert_close(forward_by_hand(tokens), model(tokens), rtol=1e-12, atol=1e-12)
print("the loop by hand equals the library's model")

# %% [markdown]
# **Explain.** The head is a matrix of its own. In many models it is the embedding
# again; here `tie_word_embeddings` is false, so the file holds two tables of the same
# shape, each with its own numbers.
#
# Layer 0 has a plain SwiGLU in place of experts (`first_k_dense_replace = 1`). The
# reason is in the DeepSeekMoE paper, §5.1.2: the balance among experts converged
# slowest in the first layer.
#
# **Change one thing.** Set `first_k_dense_replace=2` in `POCKET` and run this section
# again. Has the model more parameters now, or fewer? (Fewer, 247,840: the one dense
# SwiGLU is smaller than nine experts.) Set it back after that.
#
# ## 3. Two checks before the first step
#
# A model that was never trained can be tested already. The first test is *causality*.
#
# **Predict.** Eight tokens go in, then the token at position 5 is replaced. At which
# positions do the logits change?

# %%
tokens = torch.randint(512, (1, 8), generator=torch.Generator().manual_seed(2))
other, replaced = tokens.clone(), 5
other[0, replaced] = (other[0, replaced] + 1) % 512
with torch.no_grad():
    change = (model(tokens) - model(other)).abs().amax(-1)[0]
print("position  " + "".join(f"{position:>7}" for position in range(8)))
print("changed by" + "".join(f"{c:>7.3f}" for c in change.tolist()))
assert (change[:replaced] < 1e-12).all() and (change[replaced:] > 1e-6).all()

# %% [markdown]
# **Explain.** A later token never changes an earlier logit. If it did, the model would
# see the answer while it trains, its loss would be far too low, and it would write
# nonsense. `tests/model/test_transformer.py` tries the same with drawn models, lengths
# and places.
#
# **Change one thing.** Set `replaced = 0`. Does the logit of any position stay?
#
# The second test is *the loss at step 0*.
#
# **Predict.** The `toy` preset has $V = 4096$ tokens, $D = 128$ and random weights.
# What is its loss in nats per token? Is it higher or lower if the random weights are
# larger?

# %%
drawn = torch.Generator().manual_seed(3)
tokens = torch.randint(4096, (4, 257), generator=drawn)
print(f"ln 4096 = {math.log(4096):.2f}")
for std in (0.006, 0.02, 0.06):
    torch.manual_seed(0)
    toy = MiniCoder(preset("toy", initializer_range=std)).double()
    with torch.no_grad():
        logits = toy(tokens[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).item()
    told = math.log(4096) + 128 * std**2 / 2
    print(f"std {std:<5}  loss {loss:.2f}   ln V + D std²/2 = {told:.2f}")
    assert abs(loss - told) < 0.03

# %% [markdown]
# **Explain.** The final norm gives $D$ numbers with mean square 1. The head multiplies
# them by weights of standard deviation $\sigma$, so each logit is a normal draw with
# variance $D\sigma^2$. Such logits are sure of wrong tokens, and that costs
# $D\sigma^2/2$ nats above $\ln V$. Loss and formula differ by up to 0.02 here: that is
# the chance of 1,024 drawn tokens.
#
# For the 236B, $D$ = 5,120 and $\ln 102400 = 11.54$. With $\sigma = 0.006$, the value
# of DeepSeek-V2 §3.1.2, the extra is 0.09 nats. With 0.02, which stands in the released
# `config.json`, it would be 1.02. A loss at step 0 far away from this sum points to a
# bug in the data, in the initialisation or in a scale.
#
# ## 4. Count every parameter of `toy` by hand
#
# **Predict.** The `toy` preset has 4 layers of hidden size 128, 16 routed experts in
# each of three, all 64 wide, and a vocabulary of 4,096. Where are most of its
# parameters: embedding and head, attention, or experts?

# %%
by_hand = {
    "embedding and head": 2 * 4096 * 128,
    "q_proj: 4 heads, each 32 + 32 wide": 4 * (128 * 4 * 64),
    "kv_a: latent 64 and rotary key 32": 4 * (128 * 96),
    "kv_a_layernorm": 4 * 64,
    "kv_b: latent to keys and values": 4 * (64 * 4 * (32 + 32)),
    "o_proj: values to hidden": 4 * (4 * 32 * 128),
    "two norms a layer and the final one": 4 * 2 * 128 + 128,
    "layer 0: dense SwiGLU, 352 wide": 3 * 128 * 352,
    "layers 1-3: 16 routed experts, 64 wide": 3 * 16 * (3 * 128 * 64),
    "layers 1-3: 1 shared expert": 3 * (3 * 128 * 64),
    "layers 1-3: router": 3 * (128 * 16),
}
for name, count in by_hand.items():
    print(f"{name:<40}{count:>10,}")
total = sum(by_hand.values())
print(f"{'together':<40}{total:>10,}")
assert total == parameter_count(PRESETS["toy"]) == sum(
    p.numel() for p in MiniCoder.outline(PRESETS["toy"]).parameters())

# %% [markdown]
# **Explain.** Routed experts 43 %, embedding and head 38 %, attention 11 %. A small
# model spends much on its vocabulary. Nothing has a bias, and rotary positions have no
# parameters.
#
# With letters: $n$ heads, query and key width $d_n + d_r$ (content and rotary part),
# value width $d_v$, latent $r_c$, query latent $r_q$, dense width $F$, expert width
# $E$, $N_s$ shared and $N_r$ routed experts.
#
# | part | parameters |
# |---|---|
# | attention of a layer | exercise 2 |
# | norms of a layer | $2D$ |
# | dense SwiGLU | $3DF$ |
# | experts and router of a layer | $3DE(N_r + N_s) + D N_r$ |
# | embedding, head, final norm | $2VD + D$ |
#
# ### Exercise 2 · the attention of one layer (medium, important, 12 minutes)
#
# Fill the first line: write it as a function of the configuration. The tensors of MLA
# are enough to derive it, and the list for `toy` above has all but one case: when
# `q_lora_rank` is not None, as in the 236B, the queries are compressed like keys and
# values, through a latent with a norm. The other fields are `hidden_size`,
# `num_attention_heads`, `qk_nope_head_dim`, `qk_rope_head_dim`, `v_head_dim` and
# `kv_lora_rank`; `c.qk_head_dim` is $d_n + d_r$.

# %% tags=["nbval-ignore-output"]
def attention_parameters(c: ModelConfig) -> int:
    """Numbers in the attention of one layer, the norms of its latents included."""
    ...


check("model.attention_parameters", attention_parameters)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def attention_parameters(c: ModelConfig) -> int:
#     heads, query = c.num_attention_heads, c.qk_head_dim
#     if c.q_lora_rank is None:
#         count = c.hidden_size * heads * query
#     else:
#         count = c.q_lora_rank * (c.hidden_size + 1 + heads * query)
#     count += c.hidden_size * (c.kv_lora_rank + c.qk_rope_head_dim) + c.kv_lora_rank
#     count += c.kv_lora_rank * heads * (c.qk_nope_head_dim + c.v_head_dim)
#     return count + heads * c.v_head_dim * c.hidden_size
# ```
#
# With letters, the queries have $D\,n(d_n+d_r)$ in Lite and
# $D\,r_q + r_q + r_q\,n(d_n+d_r)$ in the 236B. The rest has
# $D(r_c+d_r) + r_c + r_c\,n(d_n+d_v) + n\,d_v D$.
#
# </details>
#
# ## 5. The released models, to the unit
#
# The 236B needs 439 GiB. Its *outline* needs almost nothing: on PyTorch's `meta` device
# a tensor has a shape and a type, but no numbers. `MiniCoder.outline` builds the real
# class there, and `released` gives the name of each tensor in the checkpoint.
#
# **Predict.** In how many tensors is the 236B stored: about 500, 3,000 or 30,000?

# %%
from minicoder.model.checkpoint import released

NAMES = ("lite_16b", "full_236b")
sizes = {name: {tensor: t.numel() for tensor, t in
                released(MiniCoder.outline(PRESETS[name]))} for name in PRESETS}
ROWS = {"attention of one layer": ".layers.1.self_attn.",
        "one routed expert": ".layers.1.mlp.experts.0.",
        "shared experts of one layer": ".layers.1.mlp.shared_experts.",
        "router of one layer": ".layers.1.mlp.gate.",
        "dense SwiGLU of layer 0": ".layers.0.mlp.",
        "embedding (and the head again)": "embed_tokens",
        "all routed experts": ".experts.", "total": ""}
print(f"{'':<32}{'Lite':>16}{'236B':>18}")
for row, part in ROWS.items():
    lite, full = (sum(n for tensor, n in sizes[name].items() if part in tensor)
                  for name in NAMES)
    print(f"{row:<32}{lite:>16,}{full:>18,}")
print(f"{'tensors':<32}{len(sizes[NAMES[0]]):>16,}{len(sizes[NAMES[1]]):>18,}")
print(f"{'GiB in bf16':<32}{2 * lite / 2**30:>16.2f}{2 * full / 2**30:>18.1f}")
assert (lite, full) == (15_706_484_224, 235_741_434_880)
assert all(sum(sizes[n].values()) == parameter_count(PRESETS[n]) for n in PRESETS)

# %% [markdown]
# **Explain.** Lite's total and its number of tensors equal, to the unit, a public dump
# of the files of DeepSeek-V2-Lite-Chat: 15,706,484,224 parameters in 5,291 tensors. It
# is the same architecture. The 236B has 29,102 tensors, because each of the 160 experts
# of each of 59 layers is stored as three matrices: 28,320 of them.
#
# A parameter is called *activated* if a given token uses it. A token goes through 6
# of the 160 routed experts, and through everything else.
#
# ### Exercise 3 · activated parameters (medium, important, 10 minutes)
#
# `parameter_count(c)` gives the total. `c.is_moe(layer)` says whether a layer has
# experts: in a model without any, `n_routed_experts` is None and no layer has them. The
# other fields are `num_experts_per_tok`, `hidden_size` and `moe_intermediate_size`.
# Embedding and head both count here.

# %% tags=["nbval-ignore-output"]
def activated(c: ModelConfig) -> int:
    """Parameters that one token uses, the embedding and the head included."""
    ...


check("model.activated", activated)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def activated(c: ModelConfig) -> int:
#     expert = 3 * c.hidden_size * c.moe_intermediate_size
#     idle = sum((c.n_routed_experts - c.num_experts_per_tok) * expert
#                for layer in range(c.num_hidden_layers) if c.is_moe(layer))
#     return parameter_count(c) - idle
# ```
#
# </details>
#
# **Predict.** The paper calls the models "16B / 2.4B" and "236B / 21B"
# (DeepSeek-Coder-V2, table 2). Which rule gives both 2.4 and 21: with embedding and
# head, without one of them, or without both? Ask your function: one of the two tables
# has 0.21 billion numbers in Lite and 0.52 in the 236B.

# %%
print(f"{'in billions':<32}{'Lite':>8}{'236B':>8}")
tables = {name: PRESETS[name].vocab_size * PRESETS[name].hidden_size for name in NAMES}
used = {name: parameter_count(PRESETS[name], activated=True) for name in NAMES}
for rule, times in (("activated, all", 0), ("minus the input embedding", 1),
                    ("minus embedding and head", 2)):
    lite, full = (used[name] - times * tables[name] for name in NAMES)
    print(f"{rule:<32}{lite / 1e9:>8.2f}{full / 1e9:>8.2f}")

# %% [markdown]
# **Explain.** Only "minus the input embedding" fits both: 2.45 (2.4B when cut after one
# digit) and 20.85 (21B). The papers do not state their rule; this one reproduces their
# numbers. It makes sense: of the embedding a token reads one row, which costs no
# multiplication, and the head is a real matrix product.
#
# Where are the parameters?

# %%
INK = {"routed experts": "grpo", "attention": "sft", "dense and shared": "code",
       "embedding, head": "math", "routers, norms": "base"}


def kind(tensor):
    if ".mlp.gate." in tensor or "norm" in tensor:
        return "routers, norms"
    if ".experts." in tensor:
        return "routed experts"
    if ".mlp." in tensor:
        return "dense and shared"
    return "attention" if "self_attn" in tensor else "embedding, head"


shares = {name: {k: sum(n for tensor, n in held.items() if kind(tensor) == k)
                 / sum(held.values()) for k in INK} for name, held in sizes.items()}
print(f"{'% of all':<18}" + "".join(f"{name:>12}" for name in ("toy", *NAMES)))
for k in INK:
    print(f"{k:<18}" + "".join(
        f"{100 * shares[name][k]:>12.2f}" for name in ("toy", *NAMES)))

# %%
figure, axes = plt.subplots(figsize=(7.2, 3.3))
left = dict.fromkeys(shares, 0.0)
for part, ink in INK.items():
    for row, name in enumerate(shares):
        share = 100 * shares[name][part]
        axes.barh(row, share, left=left[name], color=colours[ink], height=0.7,
                  edgecolor=colours["paper"])
        if share > 7:
            axes.text(left[name] + share / 2, row, f"{share:.0f}", ha="center",
                      va="center", color=colours["paper"], fontsize=9)
        left[name] += share
for place_x, (part, ink) in zip((0, 21, 35, 59, 83), INK.items(), strict=True):
    axes.text(place_x, -0.75, part, color=colours[ink], fontweight="bold", fontsize=9)
axes.set(yticks=range(len(shares)), yticklabels=shares, ylim=(5.5, -1.1), xlim=(0, 100),
         xlabel="% of all parameters",
         title=f"{100 * shares['full_236b']['routed experts']:.1f} % of the 236B "
               "are routed experts")
axes.grid(visible=False)
plt.show()

# %% [markdown]
# **Explain.** From toy to 236B the same class changes its nature: the vocabulary
# shrinks from 38 % to 0.4 %, and the routed experts grow from 43 % to 94.5 %.
# (`ablation_1b` is dense: it has no experts.) The 236B in one picture:
#
# ![Left, tokens go through the embedding, dense layer 0, layers 1 to 59, a norm and the
# head. Middle, one block: to the sum x are added MLA of a norm of x, then MoE of a norm
# of x. Right, the parameters by part: routed experts have nearly all of
# them.](../figures/model-light.svg)
#
# **Predict.** Take the 236B and change only the number of routed experts. How fast does
# the total grow, and how fast do the activated parameters?

# %%
COUNTS = (16, 40, 80, 120, 160, 200, 240, 320)
grown = {n: [parameter_count(preset("full_236b", n_routed_experts=n), activated=a) / 1e9
             for a in (False, True)] for n in COUNTS}
figure, axes = plt.subplots(figsize=(6.4, 2.8))
for column, (label, ink) in enumerate((("total", "before"), ("activated", "after"))):
    axes.plot(COUNTS, [both[column] for both in grown.values()], "o-", label=label,
              color=colours[ink])
axes.set(xlabel="routed experts in a layer (released: 160)", ylim=(0, None),
         ylabel="billions of parameters", xticks=COUNTS,
         title="More experts: the total grows, a token's part does not")
label_lines(axes)
plt.show()
print(f"16 experts: {grown[16][0]:.1f} B, a token uses {grown[16][1]:.2f} B;  "
      f"320: {grown[320][0]:.1f} B, a token uses {grown[320][1]:.2f} B")

# %% tags=["nbval-ignore-output"]
def draw_count(n):
    whole, part = grown[n]
    expert = 59 * 3 * 5120 * 1536 / 1e9  # one routed expert in each of 59 layers
    figure, axes = plt.subplots(figsize=(6.4, 2.2))
    for row, (experts, everything) in enumerate(((n, whole), (6, part))):
        axes.barh(row, everything - experts * expert, color=colours["sft"])
        axes.barh(row, experts * expert, left=everything - experts * expert,
                  color=colours["grpo"])
        axes.text(everything + 6, row, f"{everything:.1f} B", va="center")
    axes.set(yticks=(0, 1), yticklabels=("total", "a token uses"), ylim=(1.6, -0.6),
             xlim=(0, 540), xlabel="billions of parameters, routed experts in orange",
             title=f"{n} experts: a token uses {100 * part / whole:.0f} %")
    axes.grid(axis="y", visible=False)
    return figure


frame_slider([draw_count(n) for n in COUNTS],
             [f"{n} routed experts: {grown[n][0]:.1f} B in all, a token uses "
              f"{grown[n][1]:.2f} B" for n in COUNTS], name="experts-count", start=4)

# %% [markdown]
# **Explain.** The total grows by 1.4 billion for every expert more in each layer. The
# activated part grows by one row of the router, $D$ = 5,120 numbers a layer. So a
# mixture of experts buys parameters almost without operations. It pays in memory.
#
# **Change one thing.** Give it 4 shared experts (`n_shared_experts=4`). By how much
# does the activated part grow, and why so much more than by 160 further routed experts?
# (By 2.78 billion against 0.05: every token uses a shared expert.)
#
# ## 6. FLOPs: what a token costs
#
# A matrix of $m \times n$ numbers times a vector takes $m n$ multiplications and as
# many additions: **2 FLOPs per parameter**. Attention adds work that has no parameters:
# each query is compared with all keys before it. Per token of a forward pass:
#
# $$
# \underbrace{2\,(\text{activated} - V D)}_\text{matrices} \;+\;
# \underbrace{L \, n \, \big(2 (d_n + d_r) + 2 d_v\big) \cdot
# \text{keys}}_\text{attention}
# $$
#
# **Predict.** Is the first part exact? PyTorch can count the operations of every matrix
# product that really runs. Which parameters are in `activated` and in no matrix
# product?

# %%
from torch.utils.flop_counter import FlopCounterMode

tokens = torch.randint(512, (1, 32), generator=torch.Generator().manual_seed(4))
with torch.no_grad(), FlopCounterMode(display=False) as counter:
    model(tokens)
counted = counter.get_flop_counts()["Global"][torch.ops.aten.mm] / 32
norms = sum(p.numel() for p in model.parameters() if p.dim() == 1)
matrices = parameter_count(POCKET, activated=True) - norms - 512 * 64
print(f"counted by torch {counted:,.0f} FLOPs a token, 2 x {matrices:,} = "
      f"{2 * matrices:,}; norms hold {norms:,} parameters")
assert counted == 2 * matrices

# %% [markdown]
# **Explain.** Exact but for the norms' weights, which multiply number by number: 544 in
# the pocket model, and below 0.01 % of what a token uses in the 236B. `mm` is the
# product of a matrix with rows. The weighted sum of the experts' outputs is left out,
# it is as small. The attention itself runs in one fused kernel, which this counter does
# not see on a CPU. So we count it by formula.

# %%
def flops(c, keys):
    """FLOPs of a token's forward pass: matrices, and attention to `keys` positions."""
    matrices = 2 * (parameter_count(c, activated=True) - c.vocab_size * c.hidden_size)
    each = 2 * c.qk_head_dim + 2 * c.v_head_dim
    return matrices, c.num_hidden_layers * c.num_attention_heads * each * keys


for name in NAMES:
    weights, seen = flops(PRESETS[name], 2048.5)  # the mean over 4,096 positions
    equal = weights / flops(PRESETS[name], 1)[1]
    print(f"{name:<10} matrices {weights / 1e9:5.2f} GFLOP, attention "
          f"{seen / 1e9:5.2f}, together {(weights + seen) / 1e9:5.2f};  "
          f"equal at {equal:,.0f} keys")

# %% [markdown]
# **Explain.** Over a text of 4,096 tokens a token sees 2,048.5 keys on average. One
# token of the 236B then costs 51.8 GFLOP forward. The backward pass costs twice that,
# so a training token takes 155 GFLOP. Code that fills the whole square of scores, the
# masked half too, takes 185.5.
#
# From about 8,500 keys on, attention costs the 236B more than all its matrices.
# The model reads up to 128K tokens (lesson 08). This formula holds for keys and values
# of every head; the absorbed form of lesson 13 does more arithmetic per key and reads
# far less memory.
#
# **Change one thing.** At how many keys do the two parts meet if `num_attention_heads`
# is 64? Use `preset("full_236b", num_attention_heads=64)`. (At 13,590, not at twice as
# many: the matrices shrink as well.)
#
# ## 7. The checkpoint: names, shapes, bytes
#
# A checkpoint is a folder: `config.json`, and the weights in the *safetensors* format.
# We write the pocket model in bf16.
#
# **Predict.** In memory the eight experts of a layer are stacked into one tensor, so
# that one call runs them all. Are they one tensor in the file?

# %%
torch.manual_seed(0)
model = MiniCoder(POCKET).bfloat16()
model.save_pretrained(place / "pocket")
print("files: ", *sorted(path.name for path in (place / "pocket").iterdir()))
print("in memory:")
for name, tensor in model.model.layers[1].mlp.state_dict().items():
    print(f"  {name:<35}{tuple(tensor.shape)}")
print("in the file (of the eight experts, the last):")
for name, tensor in released(model):
    if ".layers.1.mlp." in name and (".experts." not in name or ".experts.7." in name):
        print(f"  {name.removeprefix('model.layers.1.mlp.'):<35}{tuple(tensor.shape)}")

# %% [markdown]
# **Explain.** The file has the released layout: one expert after the other, each with
# three matrices, `gate_proj`, `up_proj`, `down_proj`. In memory gate and up lie on top
# of each other in `gate_up_proj`. `checkpoint.py` stacks on loading and unstacks on
# saving, by views, without a second copy of the model. The shared experts are *one*
# SwiGLU of $N_s$ times the width: two experts in Lite and the 236B, stored as one.
#
# Now open the file without any library. Safetensors is a short format:
#
# ```text
# 8 bytes       length of the header, a little-endian whole number
# length bytes  JSON: {name: {"dtype", "shape", "data_offsets": [start, stop]}, ...}
# the rest      the numbers of all tensors, one behind the other
# ```
#
# A JSON header cannot run code, as a pickle can. And one tensor can be read without the
# others.

# %%
data = (place / "pocket" / "model.safetensors").read_bytes()
length = int.from_bytes(data[:8], "little")
header = json.loads(data[8:8 + length])
print("metadata:", header.pop("__metadata__"), " tensors:", len(header))
entry = header["model.norm.weight"]
print("model.norm.weight:", entry)
start, stop = (8 + length + offset for offset in entry["data_offsets"])
print("first bytes:", data[start:start + 6].hex(" "))
row = torch.frombuffer(bytearray(data[start:stop]), dtype=torch.bfloat16)
print("numbers:", row[:3].tolist())
assert torch.equal(row, model.model.norm.weight)
numbers = sum(math.prod(entry["shape"]) for entry in header.values())
assert numbers == parameter_count(POCKET) and len(data) == 8 + length + 2 * numbers

# %% [markdown]
# **Explain.** `80 3f` is 1.0 in bf16, lowest byte first. The last `assert` is the whole
# truth about the size: 8 bytes, the header, and 2 bytes for each of 269,856 parameters.
#
# ### Exercise 4 · read a header (medium, 10 minutes)
#
# `data_offsets` count from the end of the header. Give places in the *file*.

# %% tags=["nbval-ignore-output"]
def read_header(data: bytes) -> dict[str, tuple[list[int], int, int]]:
    """Shape, first byte and byte behind the last, for each tensor's name.

    data: a whole safetensors file. Bytes are counted from the start of the file.
    """
    ...


check("model.read_header", read_header)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def read_header(data: bytes) -> dict[str, tuple[list[int], int, int]]:
#     length = int.from_bytes(data[:8], "little")
#     header = json.loads(data[8:8 + length])
#     header.pop("__metadata__", None)
#     places = {}
#     for name, entry in header.items():
#         start, stop = entry["data_offsets"]
#         places[name] = entry["shape"], 8 + length + start, 8 + length + stop
#     return places
# ```
#
# </details>
#
# Large models are cut into several files, *shards*, with an index that names the file
# of each tensor.
#
# **Predict.** A shard holds at most $2^{33}$ bytes. Lite has 31,412,968,448. How many
# shards are that, and how large is the last one?

# %%
shards = [0]
for n in sizes["lite_16b"].values():  # a new shard when a tensor does not fit
    if shards[-1] + 2 * n > 2**33:
        shards.append(0)
    shards[-1] += 2 * n
print("Lite in GB:", [f"{size / 1e9:.2f}" for size in shards])

model.save_pretrained(place / "cut", shard_bytes=200_000)
index = json.loads((place / "cut" / "model.safetensors.index.json").read_text())
for file in sorted(set(index["weight_map"].values())):
    print(file, list(index["weight_map"].values()).count(file), "tensors")
opened = MiniCoder.from_pretrained(place / "cut")
for name, tensor in model.state_dict().items():
    assert torch.equal(tensor, opened.state_dict()[name])
assert opened.config == POCKET
print("read back: the same configuration and the same bits")

# %% [markdown]
# **Explain.** DeepSeek-Coder-V2-Lite is stored as 4 files of 8.59, 8.59, 8.59 and 5.64
# GB. Our rule gives nearly that; where exactly to cut is a matter of taste.
#
# ### Does another library open it?
#
# A round trip through our own code proves little: two equal mistakes cancel. So the
# tests let the library `transformers` open what we write, and open what `transformers`
# writes. It is not needed for this course, therefore the code is only text here:
#
# ```python
# from transformers import AutoModelForCausalLM
#
# model.save_pretrained(folder)
# other = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
# error = (model(tokens) - other(tokens).logits).abs().max()
#
# other.save_pretrained(folder)                 # and the way back
# model = MiniCoder.from_pretrained(folder)
# ```
#
# `tests/model/test_transformer.py` does this for models like Lite and like the 236B, in
# two sizes, with and without YaRN, on texts of 17 and 80 tokens. The largest difference
# seen, over the largest logit, is 6e-6 in float32 and 9e-15 in float64.
# `tests/model/test_checkpoint.py` compares all names and shapes with the released
# tables, and demands that `transformers` finds every tensor and no other.
#
# **Change one thing.** Save with `shard_bytes=50_000`. How many files are there, and
# why are some of them larger than 50,000 bytes? (11. A tensor is never cut, and two
# have 65,536 bytes; a header comes on top.)
#
# ## 8. The wrong checkpoint
#
# **Predict.** We damage the file in three places: a missing head, a bias that no such
# model has, a norm of the wrong width. How many error messages do you want?

# %%
import shutil

from safetensors.torch import load_file, save_file

from minicoder.errors import UserError


def damaged(change):
    """A copy of the pocket checkpoint after `change` edited its tensors."""
    shutil.copytree(place / "pocket", place / "damaged", dirs_exist_ok=True)
    tensors = load_file(place / "pocket" / "model.safetensors")
    change(tensors)
    save_file(tensors, place / "damaged" / "model.safetensors")
    return place / "damaged"


def break_three(tensors):
    del tensors["lm_head.weight"]
    tensors["model.layers.1.mlp.gate.bias"] = torch.zeros(8).bfloat16()
    tensors["model.norm.weight"] = torch.ones(63).bfloat16()


try:
    MiniCoder.from_pretrained(damaged(break_three))
except UserError as error:
    print(str(error).replace(str(place), "..."))

# %% [markdown]
# **Explain.** One, and it lists all three kinds. Names and shapes are compared before
# the first number is read, so that a wrong file costs seconds and never leaves a model
# that is filled by half. Also refused are files that are cut off, numbers that are not
# finite, and a `config.json` that describes a far larger model than the weights beside
# it.
#
# ### Famous bug: the default that is mis-spelled
#
# The configuration code shipped with the released checkpoints has the default
# `topk_method = "gready"` (reported as discussion 7 of Lite-Instruct's page). The real
# `config.json` files set the field, so nobody notices. A file that was written with the
# default carries the slip on. A loader that knows only `greedy` stops there; one that
# compares with `== "greedy"` and else takes groups would route wrongly, in silence.

# %%
values = json.loads((place / "pocket" / "config.json").read_text())
read = ModelConfig.from_json(values | {"topk_method": "gready"})
print("from a file:", read.topk_method)
for wrong in ("gready", "top_k"):
    try:
        replace(POCKET, topk_method=wrong)
    except UserError as error:
        print("ours:", error)

# %% [markdown]
# The one slip that is known is accepted from files. Anything else is named.
#
# ### Famous bug: every shape is right, and the model is wrong
#
# Some mistakes no loader can see. YaRN (lesson 08) stretches the rotary positions *and*
# multiplies the softmax scale, by 1.59 with Lite's `mscale` of 0.707. The second part
# was missing in `transformers` until pull request 47435 (July 2026): versions 4.54.0 to
# 5.14.1 that were inspected lack it, 5.15.1 and later have it. A test that compared
# with one of those versions would have "proved" the bug.
#
# **Predict.** At which position of a text is the error invisible? Beside it we make a
# second silent mistake, our own and not a reported one: we transpose `o_proj` in the
# file. It is square in Lite, 2048 by 2048, as in our pocket model, 64 by 64. Where does
# that one show?

# %%
yarn = RopeScaling(factor=40, original_max_position_embeddings=4096, mscale=0.707,
                   mscale_all_dim=0.707)
torch.manual_seed(0)
model = MiniCoder(replace(POCKET, rope_scaling=yarn, initializer_range=0.2)).double()
model.save_pretrained(place / "pocket")
tokens = torch.randint(512, (1, 33), generator=torch.Generator().manual_seed(5))


def transpose(tensors):
    name = "model.layers.1.self_attn.o_proj.weight"
    tensors[name] = tensors[name].T.contiguous()


no_mscale = MiniCoder.from_pretrained(place / "pocket")
for block in no_mscale.model.layers:
    block.self_attn.scale = POCKET.qk_head_dim ** -0.5
turned = MiniCoder.from_pretrained(damaged(transpose))
with torch.no_grad():
    right = model(tokens)
    for title, wrong in (("without mscale²", no_mscale), ("o_proj turned", turned)):
        error = ((wrong(tokens) - right).abs().amax(-1) / right.abs().max())[0]
        print(f"{title:<17}" + "".join(
            f"  position {p}: {error[p]:.3f}" for p in (0, 1, 4, 32)))
        assert error[0] < 1e-12 if wrong is no_mscale else error[0] > 1e-2

# %% [markdown]
# **Explain.** Both models load without a word. Position 0 has one key, and a softmax
# over one key is 1 whatever the scale: the first bug is invisible there, and visible
# from the next token on. A test with a one-token prompt passes. That is why the tests
# compare *logits, at many positions, with an independent implementation*.
#
# For the 236B `mscale` is 1.0 in our preset, which is probable and unverified: it is
# read from the checkpoint, never assumed.
#
# ## What you keep
#
# 1. The model is an embedding, $L$ times "norm, MLA, add, norm, SwiGLU or MoE, add", a
#    norm and a head; only the numbers of the configuration tell the pocket model from
#    the 236B.
# 2. Almost all of the 235,741,434,880 parameters are routed experts (94.5 %), a token
#    uses 20.85 billion without the input embedding, and each of those costs 2 FLOPs.
# 3. A checkpoint is 8 bytes, a JSON header and numbers; names and shapes can be checked
#    before loading, and everything else only by comparing logits with somebody else's
#    model.
#
# ## What could go wrong
#
# - In `transformers`, for about a year: the port of this model lacked `mscale²`, so
#   that the attention's logits were 1.59 times too small with an `mscale` of 0.707, and
#   1.87 times with 1.0. No name and no shape tells of such an error. Compare logits
#   with the source's own code first, and train or measure later.
# - In a table: "activated parameters" with or without the embedding, or without both.
#   Lite is a model of 2.66, 2.45 or 2.24 billion. Say which rule you use.
#
# ## Where to go next
#
# - Lesson 07 trains this model and shows what the experts do without a balance loss.
# - Lesson 08 stretches its window with YaRN, lesson 13 makes it write fast.
# - The code: `minicoder/model/transformer.py`, `norm.py`, `checkpoint.py` and
#   `weights.py`; the counts are in `minicoder/config.py`.
#
# ## References
#
# - DeepSeek-V2, arXiv 2405.04434: §2.1 MLA, §2.2 DeepSeekMoE, §3.1.2 the 236B, appendix
#   B Lite.
# - DeepSeek-Coder-V2, arXiv 2406.11931: §3.2 architecture, table 2 sizes.
# - DeepSeekMoE, arXiv 2401.06066: §5.1.2 why the first layer is dense.
# - Zhang and Sennrich, arXiv 1910.07467: RMSNorm. Shazeer, arXiv 2002.05202: SwiGLU.
# - transformers, pull request 47435: the missing `mscale`.
