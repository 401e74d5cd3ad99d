# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 00 · A coder in five minutes
#
# This lesson builds a whole code model in one sitting, from raw source files to a coder
# trained with reinforcement learning. Each part is small and none is faked. You keep a
# map: every later lesson enlarges one place on it.
#
# - **You will be able to** *name* the stages of a code model and what each hands on;
#   *predict* what a number in the configuration does to parameters and cache; *compute*
#   bits per byte, the infilling order and GRPO's advantages by hand.
# - **You need first:** Python, and one neural network that you have trained.
# - **Time:** about two minutes on one quiet CPU core; 35 minutes to read, 15 minutes
#   for the exercises.
# - **Paper:** DeepSeek-Coder-V2 (arXiv 2406.11931), §2 data, §3 training, §4
#   evaluation.
#
# The same functions make the larger run of `make demo`. In both, data walks one way:
#
# | stage | gets | gives | paper |
# |---|---|---|---|
# | corpus | folders of files | filtered documents | §2 |
# | tokenizer | documents | a vocabulary | §2 |
# | pack | documents, vocabulary | rows of tokens, some shuffled for infilling | §3.1 |
# | pre-training | rows | a base model, which continues text | §3.1–3.3 |
# | SFT | base model, answered tasks | a model that answers | §3.5.1 |
# | GRPO | that model, a sandbox for programs | more right answers | §3.5.2 |
# | evaluation | models, held-out tasks | pass@1 with an interval | §4 |
#
# SFT is supervised fine-tuning; GRPO is group relative policy optimization. The demo
# has three more stages: a longer context, a reward model, and measurements of the base
# model. The whole way, with the command of each stage:
#
# ![A flow chart of the whole system: sources, documents, tokenizer, packed rows, base
# model, longer context, SFT, feedback, reward model, GRPO, evaluation. Each box names
# its command and its lesson; GRPO runs in a loop with the
# sandbox.](../figures/system-light.svg)

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
import tempfile
import warnings
from collections import Counter
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from minicoder.show.check import check, hint, solution  # noqa: F401
from minicoder.show.slider import frame_slider
from minicoder.show.style import use_style
from minicoder.stages import read_json, read_jsonl

torch.set_num_threads(1)  # small matrices: a second thread would cost, not help
colours = use_style()
folder = tempfile.TemporaryDirectory()  # fresh each time, removed with the kernel
run = Path(folder.name)


def do(stage, name, *inputs, **settings):
    """Run a stage into run/name, print the finding that it notes, return its folder."""
    with redirect_stdout(StringIO()):  # its own line tells seconds, which always differ
        stage(run / name, *inputs, **settings)
    print(read_json(run / name / "made_by.json")["headline"])
    return run / name


# %% [markdown]
# ## 1. Corpus: a chain of small rules
#
# A stage is a function from files to files. The first one reads what your own Python
# installation ships: its standard library, the packages that this course needs, and
# their documentation. Nothing is downloaded.
#
# **Predict.** Which removes more bytes: rules that look at one file (too long lines,
# generated code), or the search for duplicates?

# %% tags=["nbval-ignore-output"]
from minicoder.data.corpus import build_corpus, read_documents

corpus = do(build_corpus, "corpus", scale=0.1)
rules = [rule for rule in read_json(corpus / "funnel.json")["rules"]
         if rule["documents_removed"]]
for rule in rules:
    print(f"{rule['documents_removed']:5} documents, {rule['bytes_removed']:9,} bytes"
          f"  {rule['rule']}")
twins = sum(rule["bytes_removed"] for rule in rules if "duplicate" in rule["rule"])
alone = sum(rule["bytes_removed"] for rule in rules) - twins
print(f"rules for one file {alone:,} bytes, search for duplicates {twins:,}")
kept = read_json(corpus / "funnel.json")["kept"]
assert all(part["documents"] > 10 for part in kept.values()) and len(rules) >= 3

# %%
largest = sorted(rules, key=lambda rule: rule["bytes_removed"])[-8:]
figure, axes = plt.subplots()
axes.barh([rule["rule"] for rule in largest],
          [rule["bytes_removed"] / 1000 for rule in largest], color=colours["bad"])
axes.set_xlabel("kB removed")
axes.set_title(f'The rule "{largest[-1]["rule"]}" costs most: '
               f'{largest[-1]["bytes_removed"] / 1000:,.0f} kB')
axes.grid(axis="y", visible=False)
plt.show()

# %% [markdown]
# **Explain.** An installed package is there once, so copies are few; folders full of
# forks are another matter (lesson 02). Each rule has a reason and a price. A few files
# are held out *after* the search for duplicates: no close copy of a test file is
# trained on.
#
# **Change one thing.** Print `largest[-1]["why"]` and `largest[-1]["example"]`. Do you
# agree with the rule? Later, point `build_corpus` at your own code:
# `folders=[Path("my/project")]`.
#
# ## 2. Tokenizer: white space is syntax
#
# The model reads numbers. Byte-pair encoding starts from the 256 bytes, and again and
# again makes the most frequent pair of neighbours a new token.
#
# **Predict.** Into how many tokens does the line below fall? It has 39 bytes, 8 of them
# spaces of indentation.

# %% tags=["nbval-ignore-output"]
from minicoder.data.vocabulary import train_tokenizer
from minicoder.tokenizer import EOS, Tokenizer

words = do(train_tokenizer, "tokenizer", corpus, vocabulary=2048, megabytes=0.5)
tokenizer = Tokenizer.load(words)

line = "        for name in sorted(self.names):"
tokens = [tokenizer.decode([token]) for token in tokenizer.encode(line)]
assert "".join(tokens) == line and tokens[0] == " " * 7
print(tokens)

# %%
figure, axes = plt.subplots(figsize=(6.4, 1.7))
place = 0
for number, token in enumerate(tokens):
    axes.barh(0, len(token), left=place, height=0.8, edgecolor=colours["paper"],
              linewidth=2, color=colours["sft" if number % 2 else "code"])
    axes.text(place + len(token) / 2, 0, token.replace(" ", "·"), ha="center",
              va="center", color=colours["paper"], family="monospace", fontsize=9)
    place += len(token)
axes.set_title(f"{len(line.encode())} bytes become {len(tokens)} tokens")
axes.axis("off")
plt.show()

# %% [markdown]
# **Explain.** Frequent things get short names. Seven spaces are one token, and the
# eighth belongs to the word behind it.
#
# A *control token* is no text. One of them, for example, says "the document ends
# here". It has a name, but a user who types that name gets ordinary tokens:

# %%
ids = tokenizer.encode(EOS)
print("the end token as text of a user:", tokenizer.decode(ids))
print("is one of its tokens the end token?", tokenizer.eos in ids)

# %% [markdown]
# **Change one thing.** Train with `vocabulary=1024` into another folder. Which tokens
# of the line split? Does the indentation?
#
# ## 3. Fill in the middle: a shuffle teaches infilling
#
# A language model reads from left to right, so it never sees what stands *behind* the
# cursor. The remedy is a shuffle: cut the text into prefix, middle and suffix, and
# write the middle last. Move the slider.

# %% tags=["nbval-ignore-output"]
PIECES = {"prefix": "def area(r):\n", "middle": "    pi = 3.14159\n",
          "suffix": "    return pi * r ** 2\n"}
INK = {"prefix": "code", "middle": "grpo", "suffix": "sft"}
STEPS = [
    ("1. the file, as it was written", ["prefix", "middle", "suffix"]),
    ("2. two cuts; the middle is taken out", ["prefix", "hole", "suffix"]),
    ("3. prefix, suffix, middle: now the middle sees both sides",
     ["begin", "prefix", "hole", "suffix", "end", "middle", "eos"]),
    ("4. to infill, give all but the middle: the model writes it",
     ["begin", "prefix", "hole", "suffix", "end"])]


def draw_pieces(title, order):
    figure, axes = plt.subplots(figsize=(6.4, 2.6))
    for row, name in enumerate(order):
        text = PIECES.get(name, f"<fim {name}>" if name != "eos" else "<eos>")
        ink = colours[INK.get(name, "base")]
        axes.text(0.02, -row, text.rstrip("\n"), family="monospace", color=ink,
                  va="center", fontsize=11)
        axes.text(0.98, -row, name if name in PIECES else "special token", color=ink,
                  ha="right", va="center", fontsize=9)
    axes.set(xlim=(0, 1), ylim=(-6.6, 0.6), title=title)
    axes.axis("off")
    return figure


frame_slider([draw_pieces(*step) for step in STEPS], [title for title, _ in STEPS],
             name="fim-shuffle", start=2)

# %% [markdown]
# The still picture shows step 3, the order that is trained: PSM, for
# *prefix, suffix, middle*. The library makes it so:

# %%
from minicoder.data.fim import fim_tokens, infill_prompt

shuffled = fim_tokens(PIECES["prefix"], PIECES["middle"], PIECES["suffix"], tokenizer)
print(tokenizer.decode(shuffled))

# %% [markdown]
# ### Exercise 1 · the order (easy, important, 3 minutes)
#
# Write the same order as text. `hint("tour.psm")` helps, more with every call.

# %% tags=["nbval-ignore-output"]
from minicoder.tokenizer import FIM_BEGIN, FIM_END, FIM_HOLE  # noqa: F401


def psm(prefix: str, suffix: str, middle: str) -> str:
    """The document in the order in which it is trained, with its special tokens."""
    ...


check("tour.psm", psm)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def psm(prefix: str, suffix: str, middle: str) -> str:
#     return FIM_BEGIN + prefix + FIM_HOLE + suffix + FIM_END + middle + EOS
# ```
#
# </details>
#
# The next stage cuts all documents into rows of 128 tokens, mixes code, math and text
# 60/10/30 as the paper does, and shuffles half of the pieces of code.

# %% tags=["nbval-ignore-output"]
from minicoder.data.packing import pack

rows = do(pack, "pack", corpus, words, sequence_length=128, tokens=200_000,
          fim_rate=0.5)
assert abs(read_json(rows / "pack.json")["shares"]["code"] - 0.6) < 0.03

# %% [markdown]
# ## 4. The model: one class, from 2.8 million to 235.7 billion
#
# Two ideas make the architecture. **DeepSeekMoE**: each layer has many small
# feed-forward networks (*experts*), and a token uses only a few of them. **MLA**
# (multi-head latent attention): to write the next token, a model keeps numbers of all
# tokens before it (the *cache*). MLA keeps one short vector per token and layer, not
# keys and values of every head.
#
# **Predict.** The largest model has 235.7 billion parameters, and a router picks 6 of
# 160 experts for a token in each layer. How many parameters does one token use?

# %%
from minicoder.config import PRESETS, parameter_count

print(f"{'preset':<12}{'parameters':>16}{'used by a token':>17}{'cache':>8}{'MHA':>11}")
cache = {}
for name, c in PRESETS.items():
    latent = c.num_hidden_layers * c.cache_width
    heads = c.num_hidden_layers * 2 * c.num_attention_heads * c.v_head_dim
    cache[name] = {"MLA": latent, "MHA": heads}
    print(f"{name:<12}{parameter_count(c):>16,}"
          f"{parameter_count(c, activated=True):>17,}{latent:>8,}{heads:>11,}")

# %% [markdown]
# The last two columns count numbers in the cache per token: with MLA, and with ordinary
# attention (MHA: a key and a value for each head). Is the formula right? Build every
# model as an outline, shapes without memory, and count.

# %%
from minicoder.model.transformer import MiniCoder

for name, c in PRESETS.items():
    counted = sum(p.numel() for p in MiniCoder.outline(c).parameters())
    assert counted == parameter_count(c), name
print("The formula equals the built model, to the unit, for", ", ".join(PRESETS))
c = PRESETS["full_236b"]
layers = c.num_hidden_layers - c.first_k_dense_replace  # the first has no experts
routed = layers * c.n_routed_experts * 3 * c.hidden_size * c.moe_intermediate_size
used = routed * c.num_experts_per_tok // c.n_routed_experts
everybody = parameter_count(c) - routed  # what every token uses
assert used + everybody == parameter_count(c, activated=True)
print(f"236B: {used / 1e9:.1f} of {routed / 1e9:.1f} billion in routed experts, "
      f"and {everybody / 1e9:.1f} that every token uses")

# %%
chosen = ("toy", "lite_16b", "full_236b")
figure, axes = plt.subplots(figsize=(6.4, 2.8))
for shift, kind, ink in ((0.2, "MHA", "before"), (-0.2, "MLA", "after")):
    values = [cache[name][kind] for name in chosen]
    axes.barh([y + shift for y in range(3)], values, height=0.36, color=colours[ink])
    for y, value in enumerate(values):
        axes.text(value * 1.1, y + shift, f"{kind} {value:,}", va="center",
                  color=colours[ink], fontsize=9.5)
times = cache["full_236b"]["MHA"] / cache["full_236b"]["MLA"]
axes.set(xscale="log", yticks=range(3), yticklabels=chosen, xlim=(100, 3e7),
         xlabel="numbers cached per token (logarithmic)",
         title=f"MLA shrinks the largest cache {times:.0f} times")
axes.grid(axis="y", visible=False)
plt.show()

# %% [markdown]
# **Explain.** The largest model uses 21.4 of its 235.7 billion parameters for a token,
# 9 %. That is more than 6/160, because attention, the token tables and two experts a
# layer that are not picked (*shared* ones) serve every token. And the cache does not
# grow with the number of heads: all 128 share one latent vector of 512 numbers and one
# key of 64 numbers for the position, in each of 60 layers.
#
# **Change one thing.** `from minicoder.config import preset`, then `preset("full_236b",
# kv_lora_rank=256)`: what happens to `cache_width`, and what to the number of
# parameters?
#
# ## 5. Pre-training: predict the next token
#
# We train the `toy` preset from random weights. The loss is measured in *nats per
# token*.
#
# **Predict.** Before the first step all 2,048 tokens are about equally likely. What is
# the loss? (Natural logarithm of 2,048.)

# %% tags=["nbval-ignore-output"]
from minicoder.training.pretrain import pretrain

base = do(pretrain, "pretrain", rows, words, model="toy", steps=150, warmup=20,
          recall=0, middles=0)
logged = read_jsonl(base / "metrics.jsonl")
losses = [step["language_loss"] for step in logged]
assert abs(losses[0] - 7.6) < 0.8 and losses[-1] < 6.2

# %%
load = torch.tensor(logged[-1]["expert_load"])  # one row a layer, one column an expert
fair = load * load.shape[1]
figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.2))
left.plot([step["step"] for step in logged], losses, color=colours["base"])
left.set(xlabel="step", ylabel="nats per token", ylim=(0, None),
         title=f"The loss falls to {losses[-1]:.1f}")
picture = right.imshow(fair, vmin=0, aspect="auto")
right.set(xlabel="expert", ylabel="MoE layer", xticks=range(0, 16, 5),
          yticks=range(len(fair)), yticklabels=range(1, len(fair) + 1),
          title=f"Busiest expert: {fair.max():.1f} × its share")
right.grid(visible=False)
figure.colorbar(picture, ax=right, label="× fair share")
plt.show()

# %% [markdown]
# **Explain.** The loss starts at about $\ln 2048 = 7.6$, since random weights know
# nothing, and falls fast. The right picture shows the traffic among the
# experts. Without a *balance loss* a few of them could take most of it (lesson 07).
#
# Nats per token cannot be compared between tokenizers. **Bits per byte** can, even with
# `gzip`.
#
# ### Exercise 2 · bits per byte (easy, important, 5 minutes)

# %% tags=["nbval-ignore-output"]
import math  # noqa: E402, F401


def bits_per_byte(nll: float, tokens: int, size: int) -> float:
    """Bits that a model needs for a byte of text.

    nll: mean loss in nats per token; tokens, size: length of the text in both units.
    """
    ...


check("tour.bits_per_byte", bits_per_byte)

# %% [markdown]
# <details><summary>Solution</summary>
#
# All tokens together cost `nll * tokens` nats, one bit is $\ln 2$ nats, and all bytes
# share the sum:
#
# $$
# \text{bits per byte} = \frac{\text{nll} \cdot \text{tokens}}{\ln 2 \cdot \text{bytes}}
# $$
#
# ```python
# def bits_per_byte(nll: float, tokens: int, size: int) -> float:
#     return nll * tokens / math.log(2) / size
# ```
#
# </details>
#
# **Predict.** Who describes held-out code in fewer bits: `gzip`, or our model after so
# few steps?

# %% tags=["nbval-ignore-output"]
from minicoder.evaluation import compression

model = MiniCoder.from_pretrained(base)
texts = [d.text for d in read_documents(corpus, "heldout", ["code"])][:8]
ours = compression.bits_per_byte(model, tokenizer, texts, window=128)
print(f"our model {ours:.2f} bits per byte, "
      f"gzip -9 {compression.gzip_bits_per_byte(texts):.2f}, a plain file 8.00")
assert 1 < ours < 5

# %% [markdown]
# The two are close. `gzip` starts anew with each file; our model has learnt from other
# files, but only briefly. The demo trains ten times as long on more text and leaves
# `gzip` behind. Here is what our model writes. It continues, and it infills:

# %% tags=["nbval-ignore-output"]
from minicoder.model.generate import generate


def write(prompt: list[int], new_tokens: int) -> str:
    """The likeliest continuation."""
    (answer,) = generate(model, [prompt], new_tokens, end=tokenizer.eos)
    return tokenizer.decode(answer)


start = "import os\nimport "
hole = infill_prompt("for i in range(10):\n", "print(total)\n", tokenizer)
print(start + write([tokenizer.bos, *tokenizer.encode(start)], 16))
print("--- the line that the model puts between `for ...` and `print(total)`:")
print(write(hole, 16))

# %% [markdown]
# No program yet: what is frequent comes first, such as quotes, digits and indentation,
# and often in a loop. Meaning takes more steps, more data and more parameters.
#
# ## 6. SFT: learn to answer
#
# A base model continues text. To make it *answer*, we show it requests with programs.
# Our tasks are one sentence and one line of Python, so that a small model has a chance.
# Each has tests.

# %%
from minicoder.tasks.families import family_of, sample_tasks

held_out = sample_tasks("lists", 40, "heldout", seed=1)
task = held_out[0]
print(task.prompt, task.canonical_solution, sep="\n\n")
for case in task.cases[:3]:
    print(f"solve({case.arguments[0]}) must be {case.expected}")

# %% [markdown]
# Half of the programs that we show are right, the others have a plausible bug, as code
# from the web has. So SFT teaches to write programs, and not yet to prefer right ones.
#
# **Predict.** After SFT, what share of the sampled programs will run without an error,
# and what share will pass all tests?

# %% tags=["nbval-ignore-output"]
from minicoder.alignment.sft import sft

tuned = do(sft, "sft", base, steps=200, tasks=3000, lr=4e-3)
assert read_jsonl(tuned / "metrics.jsonl")[-1]["language_loss"] < 1.5

# %% [markdown]
# Is a program right? We run it, locked in: the sandbox bounds time, memory and output,
# hides your files and the network, and compares the results on the outside, where the
# program cannot reach. Here it judges three programs that we know:

# %%
from minicoder.execution.sandbox import Sandbox

warnings.filterwarnings("ignore", "Generated programs run")  # said in the text below
sandbox = Sandbox()  # sandbox.tier says how strong its walls are
for title, program in {
        "right": task.canonical_solution,
        "plausible": family_of("lists").bugs(task)[0],
        "cut off": "def solve(a:\n"}.items():
    result = task.grade(program, sandbox)
    print(f"{title:<10}{result.verdict:<13}{result.passed} of {result.total} cases")

# %% [markdown]
# > **Note.** On Linux the walls are namespaces or Landlock; before they are used,
# > programs that try to escape must fail. Where there are no such walls, as on macOS,
# > `Sandbox()` refuses: `Sandbox(allow_weak=True)` bounds a program, and no more.
# > `python -m minicoder sandbox doctor` shows what your machine offers.
#
# Now programs that our model sampled, with their verdicts:

# %% tags=["nbval-ignore-output"]
from minicoder.alignment.feedback import sample_and_judge

samples = sample_and_judge(
    MiniCoder.from_pretrained(tuned), tokenizer, held_out, sandbox, samples=4,
    generator=torch.Generator().manual_seed(0))
verdicts = Counter(sample.verdict for sample in samples)
for verdict in ("pass", "fail"):
    for sample in [s for s in samples if s.verdict == verdict][:1]:
        print(f"{sample.prompt}\n{sample.program}→ {verdict} {sample.message}\n")
assert verdicts.total() == 160 and len(verdicts) > 1

# %%
names = [name for name, _ in verdicts.most_common()]
shares = [100 * verdicts[name] / verdicts.total() for name in names]
figure, axes = plt.subplots(figsize=(6.4, 2.6))
axes.barh(names[::-1], shares[::-1], color=[
    colours["good" if name == "pass" else "bad"] for name in names[::-1]])
axes.set(xlabel="% of 160 sampled programs",
         title=f"After SFT, {verdicts['pass'] / 1.6:.0f} % of the programs pass")
axes.grid(axis="y", visible=False)
plt.show()

# %% [markdown]
# **Explain.** Most programs run: the form was learnt. Of those that run, about half are
# right, just as in what the model was shown. It copies its teacher, mistakes included.
#
# ## 7. GRPO: the group is the baseline
#
# Reinforcement learning needs to know: better than *what*? GRPO samples a group of
# programs for the same request. The reward is 1 if all tests pass, else 0. Then each
# reward is compared with its own group:
#
# $$
# A_i = \frac{r_i - \text{mean}(r)}{\text{std}(r)}
# $$
#
# Here std is the square root of the mean squared gap to the mean.
#
# **Predict.** What are the advantages of a group with rewards 1, 0, 0, 1? And of a
# group in which all programs pass? Answer before you read on.
#
# ### Exercise 3 · advantages (medium, important, 7 minutes)

# %% tags=["nbval-ignore-output"]
def advantages(rewards: list[float]) -> list[float]:
    """GRPO's advantage of each sample in one group."""
    ...


check("tour.advantages", advantages)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def advantages(rewards: list[float]) -> list[float]:
#     mean = sum(rewards) / len(rewards)
#     gaps = [reward - mean for reward in rewards]
#     std = math.sqrt(sum(gap * gap for gap in gaps) / len(gaps))
#     return [gap / (std + 1e-6) for gap in gaps]
# ```
#
# </details>
#
# ### What could go wrong: "the loss is 0, so nothing learns"
#
# Many people stopped a GRPO run for this reason (trl issue 2703, open-r1 issue 239).
# The loss *is* 0: advantages of a group add up to 0, and in the first update the new
# and the old policy are the same. Its gradient is not 0:

# %%
from minicoder.alignment import grpo as library

advantage = library.advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0]]))[0]
old = torch.full((4, 3), -1.0)  # log-probabilities: 4 programs of 3 tokens
new = old.clone().requires_grad_()
loss = library.grpo_loss(new, old, None, advantage, mask=old < 0)
loss.backward()
print("advantages", [round(a, 3) for a in advantage.tolist()])
print(f"loss {abs(loss.item()):.3f}, gradient per token of each program",
      [round(g, 3) for g in new.grad[:, 0].tolist()])

# %% [markdown]
# A step against this gradient makes programs 1 and 4 likelier, and 2 and 3 less likely.
#
# **Predict.** We now take 8 steps with 12 requests of 8 programs each. Does the
# share of programs that pass rise evenly?

# %% tags=["nbval-ignore-output"]
reinforced = do(library.grpo, "grpo", tuned, steps=8, prompts=12, group=8,
                lr=6e-4, warmup=2)
curve = read_jsonl(reinforced / "metrics.jsonl")
passed = [100 * step["pass"] for step in curve]
assert all(abs(step.get("loss", 0)) < 0.1 for step in curve)

# %%
half = len(passed) // 2
early, late = sum(passed[:half]) / half, sum(passed[-half:]) / half
figure, axes = plt.subplots()
axes.plot(range(1, len(passed) + 1), passed, "o-", color=colours["grpo"])
axes.hlines([early, late], [1, len(passed) - half + 1], [half, len(passed)],
            color=colours["muted"], linestyle=":")
axes.set(xlabel="GRPO step", ylabel="% of programs that pass", ylim=(0, None),
         xticks=range(1, len(passed) + 1),
         title=f"Passing programs: {early:.0f} % in the first half, "
               f"{late:.0f} % in the second")
plt.show()

# %% [markdown]
# **Explain.** The curve is jagged, because each step asks twelve other requests, and
# some are easier. The printed line compares its first five steps with its last five,
# the picture its halves, and they need not agree: it is a poor thermometer. Section 8
# gives all models the same tasks. A group in which all programs pass, or none, teaches
# nothing: its advantages are 0 (`groups_kept` in the metrics counts the others).
#
# ## 8. Evaluation: no number stands alone
#
# **pass@1** is the chance that one sampled program passes all tests, on tasks that no
# stage has seen. The interval says where the true value probably lies (95 %), because
# we asked only 50 tasks.

# %% tags=["nbval-ignore-output"]
from minicoder.evaluation.evaluate import evaluate

stages = {"base": base, "sft": tuned, "grpo": reinforced}
scores = read_json(do(
    lambda out, *models, **settings: evaluate(models, out, **settings), "evaluate",
    *stages.values(), names=tuple(stages), limit=50, samples=4, new_tokens=64,
) / "scores.json")
pass_1 = {row["name"]: row["pass@1"] for row in scores["rows"]}
for name, found in pass_1.items():
    print(f"{name:<5} pass@1 {found['value']:4.0%}, 95 % interval "
          f"{found['low']:.0%} to {found['high']:.0%}")
assert pass_1["base"]["value"] < 0.02 < pass_1["sft"]["value"]
assert pass_1["grpo"]["high"] > pass_1["sft"]["value"]
sandbox.close()

# %%
figure, axes = plt.subplots(figsize=(6.4, 2.6))
for y, (name, found) in enumerate(pass_1.items()):
    axes.plot([100 * found["low"], 100 * found["high"]], [y, y], color=colours[name],
              linewidth=6, alpha=0.35, solid_capstyle="round")
    axes.plot(100 * found["value"], y, "o", color=colours[name], markersize=9)
apart = pass_1["grpo"]["low"] > pass_1["sft"]["high"]
axes.set(yticks=range(3), yticklabels=[*pass_1], ylim=(2.6, -0.6), xlim=(-2, 102),
         xlabel="pass@1 in %, with 95 % interval",
         title=f"SFT {100 * pass_1['sft']['value']:.0f} %, then GRPO "
               f"{100 * pass_1['grpo']['value']:.0f} %: the intervals "
               f"{'are apart' if apart else 'overlap'}")
axes.grid(axis="y", visible=False)
plt.show()

# %% [markdown]
# **Explain.** SFT teaches the form of an answer, and GRPO moves weight to programs that
# pass. If the two intervals overlap, this run is too short for a claim: the demo takes
# 30 steps of 144 programs, and 120 tasks. And one run is one run: another seed gives
# another distance (lesson 15).
#
# **Change one thing.** Ask for three times as many GRPO steps, in a new folder
# (`"grpo-long"`; a minute or two). As more programs pass, do more groups teach, or
# fewer?
#
# ## What you keep
#
# 1. A coder is a chain of stages, each a function from files to files: corpus,
#    tokenizer, packing, pre-training, SFT, GRPO, evaluation.
# 2. Two numbers decide what a large model costs to run, the parameters that a token
#    uses and the numbers that it leaves in the cache; MoE lowers the first and MLA the
#    second.
# 3. SFT teaches to answer, GRPO teaches to be right, and only programs that really ran,
#    with an interval beside the score, can tell you whether it worked.
#
# ## Where to go next
#
# - `make demo` runs all stages at full length and writes a report.
# - `.venv/bin/python -m minicoder --help` lists every stage as a command.
# - The code of each section has the section's name: `minicoder/data/fim.py`,
#   `minicoder/model/mla.py`, `minicoder/alignment/grpo.py`.
# - The lessons 01 to 15 enlarge one idea each; the first page of the site is their map.
#
# ## References
#
# - DeepSeek-Coder-V2, arXiv 2406.11931: §2 data, §3.1 infilling, §3.5 alignment, §4
#   evaluation.
# - DeepSeek-V2, arXiv 2405.04434: §2.1 MLA, table 1 cache, §2.2 DeepSeekMoE.
# - DeepSeekMath, arXiv 2402.03300: §4.1 GRPO.
# - Bavarian et al., arXiv 2207.14255: fill in the middle.
# - Sennrich et al., arXiv 1508.07909: byte-pair encoding.
