# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 12 · Evaluation: pass@k is a counting problem
#
# "90.2 on HumanEval" has much small print. Which tests? How many samples, and which
# formula? How many tasks, so how far off by chance? Who read the answer, and had the
# model read the exam? You answer each of these by counting.
#
# - **You will be able to** *compute* pass@k, maj@k and an interval by hand; *test*
#   whether a score comes from weak tests, a leak or the way it was read; *judge* a
#   printed table, by computing again what can be computed.
# - **You need first:** Python; lesson 02 (a planted leak) helps.
# - **Time:** about 10 seconds on one CPU core; 45 minutes to read, 40 minutes for
#   the exercises.
# - **Paper:** DeepSeek-Coder-V2 (arXiv 2406.11931) §4 and tables 3 to 10; the Codex
#   paper (arXiv 2107.03374) §2.1.

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
import os
import random
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from minicoder.config import preset
from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Limits
from minicoder.model.generate import generate
from minicoder.model.transformer import MiniCoder
from minicoder.show.check import check, hint, solution  # noqa: F401
from minicoder.show.slider import frame_slider
from minicoder.show.style import use_style
from minicoder.stages import read_json
from minicoder.tasks.choice import LETTERS, letter_in, make
from minicoder.tasks.formats import humaneval
from minicoder.tasks.task import Case
from minicoder.tokenizer import Tokenizer
from minicoder.training.batches import answer_batch
from minicoder.training.loop import token_losses

torch.set_num_threads(1)  # small matrices: a second thread would cost, not help
colours = use_style()
warnings.filterwarnings("ignore", "Generated programs run")  # said in the text below

# %% [markdown]
# ## 1. A score is as good as its tests
#
# A task of HumanEval is the beginning of a program, its name, a right solution and
# tests. Ours has two tests. Seven completions follow, as a model might have drawn them.

# %%
task = humaneval({
    "task_id": "Mini/0", "entry_point": "second",
    "prompt": "def second(numbers):\n    \"\"\"Return the second largest of the "
              "different numbers,\n    or None if there is none.\n    \"\"\"\n",
    "canonical_solution": "    found = sorted(set(numbers))\n"
                          "    return found[-2] if len(found) > 1 else None\n",
    "test": "def check(candidate):\n"
            "    assert candidate([4, 1, 3]) == 3\n"
            "    assert candidate([1, 2, 9, 7]) == 7\n"})
SAMPLES = {
    "set, guarded": task.canonical_solution,
    "sorted": "    return sorted(numbers)[-2]\n",
    "set": "    return sorted(set(numbers))[-2]\n",
    "two maxima": "    first = second = 0\n    for n in numbers:\n"
                  "        if n > first:\n            first, second = n, first\n"
                  "        elif n > second and n < first:\n            second = n\n"
                  "    return second\n",
    "remove": "    numbers.remove(max(numbers))\n    return max(numbers)\n",
    "by heart": "    return {3: 3, 4: 7}[len(numbers)]\n",
    "from below": "    return sorted(numbers)[1]\n"}

# %% [markdown]
# **Predict.** Read the seven. How many are right? How many pass?

# %%
sandbox = Sandbox()


def passing(task):
    """Which samples pass the tests of a task, run in the sandbox."""
    found = sandbox.judge_many(task.job(sample) for sample in SAMPLES.values())
    return [name for name, one in zip(SAMPLES, found, strict=True)
            if one.verdict == "pass"]


print(f"{len(task.cases)} tests: {len(passing(task))} of {len(SAMPLES)} pass:",
      ", ".join(passing(task)))

# %% [markdown]
# > **Note.** Programs of a model run in the sandbox, never here. `sandbox.tier` says
# > how strong its walls are. Where only the tier `weak` exists, `Sandbox()` refuses:
# > then start Jupyter with `MINICODER_SANDBOX=weak`: the programs here harm nobody.
#
# **Explain.** Six of seven pass, and one is right. Two easy cases cannot see equal
# numbers, negative ones or a list that is too short. So EvalPlus (arXiv 2305.01210)
# gives HumanEval about 80 times as many tests, and MBPP 35 times. Its way: change the
# inputs, and let the *right solution* say what is expected.
#
# **Predict.** Which samples does each of four more inputs catch?

# %%
def reference(numbers):
    found = sorted(set(numbers))
    return found[-2] if len(found) > 1 else None


for given in ([5, 5, 4], [-1, -2], [3], [9, 2, 9, 7, 1]):
    stronger = replace(task, cases=(*task.cases, Case((given,), reference(given))))
    caught = [name for name in passing(task) if name not in passing(stronger)]
    print(f"{given!s:<16} wants {reference(given)!s:<5} catches {', '.join(caught)}")

# %% [markdown]
# **Explain.** The shortest list catches all five, and "set" falls to that one alone.
# One has to think of it. The library does the same by machine: `strengthen` changes the
# task's inputs 150 times and asks the solution. Then it makes wrong programs from the
# solution, a small change each, and keeps the few inputs that tell them from the right
# one.
#
# **Predict.** Its inputs come from two easy lists. Will a list of one number be there?

# %%
from minicoder.tasks.plus import strengthen

plus = strengthen(task, sandbox)
print("kept:", *(f"{case.arguments[0]} → {case.expected}" for case in
                 plus.cases[len(task.cases):]))
print(f"{len(plus.cases)} tests: {len(passing(plus))} of {len(SAMPLES)} pass:",
      ", ".join(passing(plus)))
right = ["set, guarded"]
assert set(right) <= set(passing(plus)) < set(passing(task))

# %% [markdown]
# **Explain.** Yes: a list loses a number at a time. Two inputs are enough, a single
# number and a list with equal and negative ones. The five mistakes were no part of the
# search, and all are caught. More tests are still no proof.
#
# **Change one thing.** Add a sample that starts with `if len(numbers) > 50: return
# None` and goes on like the right one. Does `plus` see it? Which input would?
#
# ## 2. pass@k counts choices
#
# pass@k asks: if $k$ samples are drawn, is a right one among them? We drew $n$, and
# $c$ are right.
#
# **Predict.** Four samples, one right, $k = 2$. Of how many pairs is the right sample
# a part? What does $1 - (1 - c/n)^k$ say instead?

# %%
def by_counting(n, c, k):
    """Write down every choice of k samples; the first c are the right ones."""
    choices = list(combinations(range(n), k))
    return Fraction(sum(min(chosen) < c for chosen in choices), len(choices))


def naive(n, c, k):
    return 1 - (1 - Fraction(c, n)) ** k


print("pairs:", *("".join("✗✓"[i < 1] for i in pair)
                  for pair in combinations(range(4), 2)))
print("counted:", by_counting(4, 1, 2), " naive:", naive(4, 1, 2))

# %% [markdown]
# **Explain.** Three of six pairs: 1/2. The naive formula gives 7/16. It puts the first
# sample back before it draws the second, so it can draw the same wrong one twice.
# Nobody has to write the choices down: $\binom{n-c}{k}$ of $\binom{n}{k}$ hold wrong
# ones only.
#
# $$ \text{pass@}k = 1 - \binom{n-c}{k} \Big/ \binom{n}{k} $$
#
# Is it *unbiased*, right on average? Let each sample be right with chance $p$. Then the
# truth is $1 - (1-p)^k$, and $c$ is binomial. Take $p = 1/2$, $n = k = 2$: $c$ is
# 0, 1, 2 with chances 1/4, 1/2, 1/4.
#
# **Predict.** By hand: the mean of both formulas. The truth is 3/4.

# %%
from minicoder.evaluation.pass_at_k import pass_at_k

for n in range(1, 9):
    for c in range(n + 1):
        for k in range(1, n + 1):
            assert math.isclose(pass_at_k(n, c, k), by_counting(n, c, k), abs_tol=1e-12)


def on_average(formula, p, n, k):
    """The mean of a formula over all c, each weighed with its chance: exact."""
    return sum(math.comb(n, c) * p**c * (1 - p) ** (n - c) * formula(n, c, k)
               for c in range(n + 1))


for p, n, k in ((Fraction(1, 2), 2, 2), (Fraction(3, 10), 5, 3)):
    truth = 1 - (1 - p) ** k
    assert on_average(by_counting, p, n, k) == truth  # equal as fractions
    print(f"p {p}, n {n}, k {k}: truth {truth}, counted "
          f"{on_average(by_counting, p, n, k)}, naive {on_average(naive, p, n, k)}")
n, green = len(SAMPLES), len(passing(task))
for k in (1, 2, 5):
    print(f"our samples, pass@{k}: {pass_at_k(n, green, k):.2f} by the weak tests, "
          f"{pass_at_k(n, len(right), k):.2f} in truth")

# %% [markdown]
# **Explain.** Counted, it is the truth exactly, as fractions. Naive, it is too low:
# 5/8 for 3/4.
#
# **Change one thing.** Ask for `on_average(naive, Fraction(1, 2), 4, 2)`, twice the
# samples. By how much is it still low?
#
# ### How many samples are enough?
#
# Now a hard task: each sample is right with chance 0.05. The shade holds 90 of 100
# estimates that counting gives of this one task.
#
# **Predict.** Then move the slider from 10 to 200 samples. At which $k$ is the naive
# formula worst? What can counting say at $k = n$, from one draw?

# %% tags=["nbval-ignore-output"]
def draw_estimates(n, p=0.05):
    """Both formulas for one task with n samples, and how far counting scatters."""
    ks = [k for k in (1, 2, 3, 5, 10, 20, 50, 100, 200) if k <= n]
    seen = torch.distributions.Binomial(n, p).log_prob(torch.arange(n + 1.0)).exp()
    ends = torch.searchsorted(seen.cumsum(0), torch.tensor([0.05, 0.95])).tolist()
    figure, axes = plt.subplots(figsize=(6.4, 3.0))
    axes.fill_between(ks, *([pass_at_k(n, c, k) for k in ks] for c in ends),
                      color=colours["good"], alpha=0.2, linewidth=0)
    for formula, ink, name, place in ((pass_at_k, "good", "counted: the truth", 0.9),
                                      (naive, "bad", "naive", 0.78)):
        axes.plot(ks, [on_average(formula, p, n, k) for k in ks], "o-",
                  color=colours[ink], markersize=3.5)
        axes.text(0.03, place, name, color=colours[ink], transform=axes.transAxes)
    low, high = (100 * pass_at_k(n, c, 10) for c in ends)
    told = (f"{n} samples: naive pass@10 is {100 * on_average(naive, p, n, 10):.0f} %, "
            f"true are {100 * (1 - (1 - p)**10):.0f} %")
    axes.set(xscale="log", xlim=(0.9, 220), ylim=(-0.03, 1.03), xticks=(1, 10, 100),
             xticklabels=(1, 10, 100), xlabel="k", ylabel="pass@k", title=told)
    return figure, f"{told}; counting scatters from {low:.0f} to {high:.0f} %"


frame_slider(*zip(*map(draw_estimates, (10, 20, 50, 100, 200)), strict=True),
             name="pass-at-k")

# %% [markdown]
# **Explain.** At $k = 1$ both agree. With 10, 20 or 50 samples the naive formula is
# worst at $k = n$: 12, 16 and 12 points too low. With 200 it still lacks 3 points at
# $k = 50$. Counting is right on average, yet one draw at $k = n$ says 0 or 1 and
# nothing between: either all samples are wrong or not. So take many more samples than
# $k$, to be steady as well as right. Codex took $n = 200$ for $k \le 100$.
#
# ### Exercise 1 · pass@k (easy, important, 8 minutes)

# %% tags=["nbval-ignore-output"]
def my_pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that k of n samples, c of them right, hold a right one.

    Raises ValueError for k > n: one sample cannot say what ten would do.
    """
    ...


check("evaluation.pass_at_k", my_pass_at_k)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def my_pass_at_k(n, c, k):
#     if k > n:
#         raise ValueError(f"{n} samples cannot say what {k} would do")
#     return 1 - math.comb(n - c, k) / math.comb(n, k)
# ```
#
# </details>
#
# ### Famous bug: over problems instead of samples
#
# The library aprender (pull request 2118, June 2026) asked each of 164 problems once,
# greedily: always the likeliest token. Say 50 were solved, as in its report. Then it
# called its estimator, which was right and tested, with $n = 164$ *problems* and
# $c = 50$ *solved*.
#
# **Predict.** What did it report for pass@1, pass@10, pass@100? What is true?

# %%
solved = [True] * 50 + [False] * 114
for k in (1, 10, 100):
    bug = pass_at_k(len(solved), sum(solved), k)
    try:
        honest = sum(pass_at_k(1, int(one), k) for one in solved) / len(solved)
        said = f"{100 * honest:.1f} %"
    except ValueError as error:
        said = f"refused: {error}"
    print(f"pass@{k:<4} bug {100 * bug:>5.1f} %   one sample each: {said}")

# %% [markdown]
# **Explain.** 97.7 % and 100 % from a model that solves 30 %. With $k = 1$ both are
# equal, so a test of pass@1 is green. The bug asks "would ten random *problems* hold a
# solved one?". No check in the estimator sees it: 164, 50 and 10 are fair arguments. A
# test at $k = 10$ does.
#
# Count in each problem, then take the mean over problems. Now $n$ is 1, and an
# estimator that refuses $k > n$ says what is missing: one drawn sample tells nothing
# about ten. (Ten *greedy* answers are one answer ten times. So the repair reports
# 30.5 % for every $k$.)
#
# ## 3. Few tasks, wide interval
#
# A score of $n$ tasks is a draw. Wilson's 95 % interval holds the shares $p$ from which
# the seen share $s$ is at most $z = 1.96$ standard errors away:
#
# $$ |s - p| \le z \sqrt{p (1 - p) / n} $$
#
# **Predict.** 3 of 4 tasks are solved. From where to where? And 90.2 % of HumanEval's
# 164?

# %%
from minicoder.evaluation.intervals import bootstrap, wilson


def by_hand(successes, n, z=1.959964):
    """The two solutions of (s - p)² = z² p (1 - p) / n, a quadratic equation."""
    s, a = successes / n, 1 + z * z / n
    b = s + z * z / (2 * n)
    root = math.sqrt(b * b - a * s * s)
    return (b - root) / a, (b + root) / a


for what, successes, n in (
        ("3 of 4", 3, 4), ("AIME 2024, 4 of 30", 4, 30),
        ("AIME 2024, GPT-4-Turbo, 3 of 30", 3, 30), ("HumanEval, 90.2 %", 148, 164),
        ("HumanEval, GPT-4-1106, 87.8 %", 144, 164),
        ("a tenfold HumanEval", 1480, 1640)):
    found = wilson(successes, n)
    low, high = by_hand(successes, n)
    assert math.isclose(low, found["low"]) and math.isclose(high, found["high"])
    print(f"{what:<33} {100 * low:>5.1f} to {100 * high:.1f} %")

# %% [markdown]
# **Explain.** AIME has 30 tasks: 4 and 3 solved cannot be told apart. 90.2 and 87.8 on
# HumanEval are four tasks apart, inside both intervals. (Paired on the same tasks, the
# *difference* is mostly known better; a table does not print what one needs.) Ten
# times the tasks make it about a third as wide: $\sqrt{10} = 3.2$. The right half of
# the picture has more of the paper's scores; the left half is pass@10 of the slider.
#
# ![Two panels. Left: pass@10 by the naive formula rises to the truth from below as
# samples are added, counting is right from the start. Right: the 95 per cent
# intervals of printed scores, wide for few tasks.](../figures/evaluation-light.svg)
#
# More *samples* do not help as more tasks do. Say half of all tasks are easy (95 %
# right) and half hard (5 %). We draw 20 tasks and 50 samples of each.
#
# **Predict.** An interval over the 1,000 samples, and one over the 20 tasks: how often
# does each hold the truth, 50 %? Both promise 95 of 100.

# %%
held, wide = Counter(), Counter()
for seed in range(100):
    draw = torch.Generator().manual_seed(seed)
    easy = torch.rand(20, 1, generator=draw) < 0.5
    chance = torch.where(easy, 0.95, 0.05)
    outcomes = torch.rand(20, 50, generator=draw) < chance
    for over, interval in (
            ("samples", wilson(int(outcomes.sum()), outcomes.numel())),
            ("tasks", bootstrap(outcomes.double().mean(1).tolist(), 500, seed))):
        held[over] += interval["low"] <= 0.5 <= interval["high"]
        wide[over] += interval["high"] - interval["low"]
for over in held:
    print(f"over {over:<8} {wide[over]:.0f} points wide, holds the truth "
          f"{held[over]} times of 100")
assert held["samples"] < 50 and held["tasks"] > 85

# %% [markdown]
# **Explain.** Fifty samples of one task are nearly one outcome. The library's
# `bootstrap` draws 20 of the 20 *tasks*, some twice and some never, 500 times over, and
# keeps the middle 95 % of the means. A task's samples stay together. This interval is
# six times wider, and keeps its promise.
#
# **Change one thing.** Make all tasks equal: `chance = torch.full((20, 1), 0.5)`. Why
# do both hold now? (The cell's assertion speaks of unequal tasks, and stops you.)
#
# ## 4. A vote is not a pass
#
# pass@k needs somebody who knows which sample is right. maj@k does not: the most
# frequent answer is given. DeepSeek-Coder-V2 solves 4 problems of AIME greedily, and 5
# with maj@64 (table 9). First the votes must be counted as *mathematics*.
#
# **Predict.** Five samples end as below. Which answer wins, as text and as a number?

# %%
from minicoder.evaluation.votes import maj_at_k, tally
from minicoder.tasks.boxed import equivalent, final_answer

TEXTS = [r"so it is $\boxed{\frac12}$.", r"\boxed{0.5}", r"Thus \boxed{3}.",
         r"\boxed{3}", r"\boxed{1/2}"]
answers = [final_answer(text) for text in TEXTS]
for name, same in (("text", str.__eq__), ("number", equivalent)):
    (group, votes), *_ = Counter(tally(answers, same)).most_common()
    print(f"as {name}: {answers[group]} with {votes} votes")

# %% [markdown]
# **Explain.** Three of the five say one half, in three spellings; as text they lose.
#
# **Predict.** Five other samples: two right, two of one wrong answer, one of another.
# Three of the five vote, and a tie is drawn by lot. How often does the right one win?
# And does a vote of 64 help a model that is right 30 times of 100?

# %%
def vote_by_counting(right, wrong, k):
    """Every choice of k votes; a tie of t answers is won in 1 of t cases."""
    ballots = [0] * right + [i + 1 for i, many in enumerate(wrong) for _ in range(many)]
    worth = []
    for chosen in combinations(ballots, k):
        votes = Counter(chosen)
        best = [one for one, many in votes.items() if many == max(votes.values())]
        worth.append(Fraction(0 in best, len(best)))
    return sum(worth) / len(worth)


for right_votes, wrong_votes in ((2, [1]), (2, [2, 1]), (3, [4]), (4, [2, 1, 1])):
    for k in range(1, right_votes + sum(wrong_votes) + 1):
        assert math.isclose(maj_at_k(right_votes, wrong_votes, k),
                            vote_by_counting(right_votes, wrong_votes, k))
print("2 right, 2 and 1 wrong: maj@3 =", vote_by_counting(2, [2, 1], 3))
for name, good, bad in (("30 right, 40, 20, 10 wrong", 30, [40, 20, 10]),
                        ("40 right, 30, 20, 10 wrong", 40, [30, 20, 10])):
    print(f"{name}:", *(f"maj@{k} {maj_at_k(good, bad, k):.2f}"
                        for k in (1, 8, 64)), f"pass@64 {pass_at_k(100, good, 64):.2f}")

# %% [markdown]
# **Explain.** Ten choices of three: three hold both right ones and win, four are a tie
# of three answers, $3/10 + 4/10 \cdot 1/3 = 13/30$. A vote strengthens whatever is most
# frequent: with 40 right against 30 it goes towards 1, with 30 against 40 towards 0.
# pass@64 is 1 in both. So pass@k says what a model *could* do if a tester stood by,
# maj@k what it does alone.
#
# ### Exercise 2 · maj@k (medium, useful, 12 minutes)

# %% tags=["nbval-ignore-output"]
def my_maj_at_k(answers: list[str], right: str, k: int) -> float:
    """Chance, exact, that the most frequent of k of these answers is the right one.

    The k are drawn without putting them back. A tie of t is won in 1 of t cases.
    """
    ...


check("evaluation.maj_at_k", my_maj_at_k)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def my_maj_at_k(answers, right, k):
#     worth = []
#     for chosen in combinations(answers, k):
#         votes = Counter(chosen)
#         best = [one for one, count in votes.items() if count == max(votes.values())]
#         worth.append((right in best) / len(best))
#     return sum(worth) / len(worth)
# ```
#
# </details>
#
# ## 5. Two scorers of one quiz
#
# A question has four options. There are three ways to read a model's choice, and all
# are called accuracy.
#
# - **letter**: let it write, and read "Answer: B" (OpenAI's simple-evals; Coder-V2's
#   79.2 on MMLU was read so);
# - **probability**: the option with the highest sum of ln P over its tokens;
# - **perplexity**: the highest *mean* of ln P (V2 ranks options by perplexity).
#
# **Predict.** Option 0 is one token of chance 0.2. Option 1 has three tokens of chance
# 0.5 each. Which wins by probability, which by perplexity?

# %%
from minicoder.evaluation.choice import likeliest, option_log_probs

logs = [[math.log(0.2)], [math.log(0.5)] * 3]
for by, worth in (("probability", lambda x: math.exp(sum(x))),
                  ("perplexity", lambda x: math.exp(-sum(x) / len(x)))):
    print(f"by {by:<12}", *(f"{worth(x):.3f}" for x in logs),
          "→ option", likeliest(logs, by))

# %% [markdown]
# **Explain.** 0.2 beats $0.5^3 = 0.125$; a perplexity of 2 beats 5. The sum likes short
# options, the mean pays the length back.
#
# Now live. A small model learns 24 questions by heart, as sentences: "Question: …
# Answer: 'gon'". Of eight *other* questions it learns the form with letters. So it
# knows the 24 answers, and it knows how to write a letter.

# %% tags=["nbval-ignore-output"]
quiz = [make(5 * i + 1) for i in range(56)]  # slices of words
SEEN, NEW, FORM = quiz[:24], quiz[24:48], quiz[48:]
tokenizer = Tokenizer.train([f"{q.question}\n\n{q.reference}" for q in quiz] * 3, 400)


def sentence(q):
    return f"Question: {q.stem}\nAnswer:"


def turn(q):
    return [tokenizer.bos, *tokenizer.encode(f"{q.question}\n\n")]


pairs = [([tokenizer.bos, *tokenizer.encode(sentence(q))],
          [*tokenizer.encode(f" {q.options[LETTERS.index(q.letter)]}"), tokenizer.eos])
         for q in SEEN]
pairs += [(turn(q), [*tokenizer.encode(q.reference), tokenizer.eos]) for q in FORM]
print(sentence(SEEN[0]), SEEN[0].options[LETTERS.index(SEEN[0].letter)], "\n")
print(FORM[0].question, FORM[0].reference, sep="\n\n")

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
pupil = MiniCoder(preset(
    "toy", vocab_size=tokenizer.vocab_size, hidden_size=64, num_hidden_layers=2,
    intermediate_size=128, n_routed_experts=None, n_shared_experts=None,
    first_k_dense_replace=2, max_position_embeddings=256))
optimizer = torch.optim.AdamW(pupil.parameters(), lr=3e-3)
x, y = answer_batch(pairs, torch.device("cpu"))
for _step in range(200):
    optimizer.zero_grad()
    loss = token_losses(pupil, x, y).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(pupil.parameters(), 1.0)
    optimizer.step()
    if loss < 0.02:
        break
pupil.eval()
print(f"{len(pairs)} texts learnt, loss {loss.item():.3f}")
assert loss < 0.1

# %% [markdown]
# **Predict.** How many of the 24 questions that it has learnt does each scorer find?
# And of 24 new ones? (Guessing finds 6.)

# %% tags=["nbval-ignore-output"]
def read(questions):
    """How many of the questions are right, by each of the three scorers."""
    counts = Counter()
    for q in questions:
        logs = option_log_probs(pupil, tokenizer, sentence(q),
                                [f" {option}" for option in q.options])
        for by in ("probability", "perplexity"):
            counts[by] += LETTERS[likeliest(logs, by)] == q.letter
    said = generate(pupil, [turn(q) for q in questions], 12, tokenizer.eos)
    letters = [letter_in(tokenizer.decode(ids)) for ids in said]
    assert letters.count(None) < 4  # it does name one
    counts["letter"] = sum(letter == q.letter
                           for letter, q in zip(letters, questions, strict=True))
    return counts


scores = {"seen": read(SEEN), "new": read(NEW)}
for name, counts in scores.items():
    for by, right_ones in counts.items():
        held_in = wilson(right_ones, 24)
        print(f"{name:<5}{by:<12}{right_ones:>3} of 24, "
              f"{100 * held_in['low']:.0f} to {100 * held_in['high']:.0f} %")
assert min(scores["seen"]["probability"], scores["seen"]["perplexity"]) >= 22
assert scores["seen"]["letter"] <= 15
assert max(scores["new"].values()) <= 15

# %% [markdown]
# **Explain.** Same model, same questions: about 24 of 24 by likelihood, near chance by
# letters. It knows the words and not how to point at them; a model with more practice
# in the form may be the other way round. So two tables that both say "MMLU" cannot be
# compared before one knows the scorer. The new questions show something else: knowing
# the exam by heart is worth nothing beyond it. That is the next section.
#
# **Change one thing.** Show the letter scorer what it wants: put
# `(turn(q), …reference…)` of all of `SEEN` into `pairs`. Which row changes, so that an
# assertion stops you?
#
# ### Exercise 3 · two scorers (easy, important, 8 minutes)

# %% tags=["nbval-ignore-output"]
def two_scorers(log_probs: list[list[float]]) -> tuple[int, int]:
    """The option of the highest probability, and that of the lowest perplexity."""
    ...


check("evaluation.two_scorers", two_scorers)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def two_scorers(log_probs):
#     options = range(len(log_probs))
#     return (max(options, key=lambda i: sum(log_probs[i])),
#             max(options, key=lambda i: sum(log_probs[i]) / len(log_probs[i])))
# ```
#
# </details>
#
# ## 6. Contamination
#
# 24 of 24 came from training on the exam. DeepSeek-Coder (arXiv 2401.14196 §2.4) drops
# every training text that shares ten words in a row, a *10-gram*, with a benchmark.
#
# **Predict.** Which of these five documents go?

# %%
from minicoder.data.decontaminate import Benchmarks

EXAM = f"{task.prompt}{task.canonical_solution}"


def grams(text, n=10):
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i:i + n]) for i in range(len(words) - n + 1)}


words = re.findall(r"\w+", EXAM)
DOCUMENTS = {
    "copied, other white space": EXAM.replace("\n", "\n\n").replace("    ", "\t"),
    "its sentence in a comment": "# Return the SECOND largest of the 'different'\n"
                                 "# numbers; or None.\n",
    "nine of its words": " ".join([*words[:9], "text"]),
    "its names exchanged": EXAM.replace("numbers", "xs").replace("found", "ys")
                               .replace("largest", "biggest"),
    "another task": "def third(words):\n    return sorted(words)[2]\n"}
index = Benchmarks([EXAM])
for name, document in DOCUMENTS.items():
    shared = not grams(EXAM).isdisjoint(grams(document))
    assert shared == (index.objection(document) is not None)
    print(f"{name:<28}{'goes' if shared else 'stays'}")
draw = random.Random(0)
for _ in range(500):
    place, many = draw.randrange(len(words)), draw.randrange(1, 16)
    text = " ".join(["before", *words[place:place + many], "behind"])
    assert (not grams(EXAM).isdisjoint(grams(text))) == any(index.matches(text))

# %% [markdown]
# **Explain.** White space, case and signs do not count, so the copies go. Nine words
# stay, and so does the fourth: it is the whole exam with three words exchanged. The
# rule finds copies, not paraphrases. So there is a second way: LiveCodeBench dates its
# problems, and counts those that appeared after the training data was collected
# (December 2023 to June 2024 here). On our own corpora `occurring` of
# `minicoder/evaluation/contamination.py` counts what is left.
#
# **Change one thing.** Exchange "largest" alone. Does it go? Name ten words in a row.
#
# ### Exercise 4 · a leak (medium, important, 12 minutes)

# %% tags=["nbval-ignore-output"]
def leaks(document: str, benchmark: str) -> bool:
    """Whether a document shares a 10-gram of words with a benchmark's text.

    Words are runs of letters, digits and _, in lower case. A benchmark of 3 to 9 words
    counts as one gram; a shorter one is not looked for.
    """
    ...


check("evaluation.leaks", leaks)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def leaks(document, benchmark):
#     exam, read = (re.findall(r"\w+", text.lower()) for text in (benchmark, document))
#     size = min(len(exam), 10)
#     if size < 3:
#         return False
#     grams = [{tuple(words[i:i + size]) for i in range(len(words) - size + 1)}
#              for words in (exam, read)]
#     return not grams[0].isdisjoint(grams[1])
# ```
#
# The library drops less, in two cases: of a short benchmark the letters' case and the
# signs must be the same, too, and grams such as "0 1 2 3 4 5 6 7 8 9" tell nothing.
#
# </details>
#
# ## 7. The paper's tables, computed again
#
# `results.toml` holds tables 3 to 10 with the digits that were printed. What follows
# from other numbers can be computed again.
#
# **Predict.** LiveCodeBench has 82 easy, 87 medium and 57 hard problems. The 236B
# solves 84.1, 29.9 and 5.3 %. What is its overall score, printed 43.4?

# %%
from minicoder.evaluation.results import OURS, REPORTED, reported

tables = reported()
LARGE = "DeepSeek-Coder-V2-Instruct"


def mean(values):
    return sum(values) / len(values)


for name, (easy_share, medium, hard, printed, _) in tables["contests"].rows.items():
    weighted = (82 * easy_share + 87 * medium + 57 * hard) / 226
    if name == LARGE or abs(weighted - printed) > 0.1:
        print(f"{name}: weighted {weighted:.2f}, plain mean "
              f"{mean([easy_share, medium, hard]):.1f}, printed {printed}")

# %% [markdown]
# **Explain.** 43.36: weighted by problems, not a plain mean. Every row fits to 0.1, the
# space that rounding leaves, but GPT-4o's. We look for more such rows. (Table 1, whose
# average of 31.2 should be 30.8, is lesson 15's.)
#
# **Predict.** A score on HumanEval is a count out of 164. Is every printed one?

# %%
for name, (*parts, printed) in tables["code"].rows.items():
    if abs(mean(parts) - printed) > 0.1:
        print(f"table 3, average: {name} has {mean(parts):.1f}, printed {printed}")
python = tables["code"].column("Python")
odd = [f"{value}" for value in python.values() if not any(
    abs(100 * c / 164 - float(value)) <= 0.0501 for c in range(165))]
print(f"table 3, Python: {len(odd)} of {len(python)} are no count of 164:",
      ", ".join(odd))
languages = set(tables["code"].columns) - {"Python", "MBPP+", "average"}
print(f"table 3: {len(languages)} languages beside Python; the text says seven")
infilling = tables["infilling"].rows
gaps = [printed - mean(parts) for *parts, printed in infilling.values()]
print(f"table 6, mean: all {len(gaps)} rows are printed {min(gaps):.1f} to "
      f"{max(gaps):.1f} above the mean of their columns")
for name, (*parts, printed) in infilling.items():
    weighted = sum(w * part for w, part in zip((22, 37, 41), parts, strict=True)) / 100
    if abs(weighted - printed) > 0.1:
        print(f"    with weights of 22, 37 and 41 %: {name} has {weighted:.1f}, "
              f"printed {printed}")
assert min(gaps) > 0.1
lite = tables["general"].column("DeepSeek-V2-Lite Chat")
print("table 10: ARC-Easy", lite["ARC-Easy, 25"], "and ARC-Challenge",
      lite["ARC-Challenge, 25"], "for V2-Lite Chat; V2's own paper: 74.3 and 51.5")

# %% [markdown]
# **Explain.** None of this says that somebody cheated.
#
# - 91.0, 88.2, 84.2 and 78.1 are no count of 164, rounded. An average of several runs,
#   or other tasks, would explain it; the paper does not say (unverified).
# - The mean of table 6 is not that of its three columns. Weights, perhaps the numbers
#   of tasks, would explain seven of the eight rows; they are not given.
# - GPT-4-Turbo's average, and seven languages that are thirteen, look like slips.
# - ARC of one model differs by 12 and 22 points between two papers of the same
#   authors: section 5 shows how that can happen.
# - The paper's prose swaps CRUXEval's I (predict an *input*) and O. The table is right.
#
# Never compare a number with another from elsewhere before you know tests, samples,
# scorer and tasks.
#
# **Change one thing.** Run the second check on `tables["repair"].column("SWE-bench
# Lite")` with 300 issues in place of 164. How many are no count of 300?
#
# ## 8. A judge with a favourite place
#
# Arena-Hard and AlpacaEval compare two answers, and a model is the judge. Such judges
# often like the first place. We build one whose bias is known: with chance 0.4 it sees
# which answer is better, else it takes the first.
#
# **Predict.** Ours is always better. What is its win rate if it always stands first? If
# every pair is judged in both orders? And two *equal* answers?

# %%
from minicoder.evaluation.judging import compare


def judge_of_known_bias(skill, seed):
    draw = random.Random(seed)

    def judge(question, first, second):
        if first != second and draw.random() < skill:
            return float(first == "better")
        return 1.0  # the first place
    return judge


QUESTIONS = [f"question {i}" for i in range(400)]
for theirs in ("worse", "better"):
    found = compare(judge_of_known_bias(0.4, seed=1), QUESTIONS, ["better"] * 400,
                    [theirs] * 400)
    both = found["win_rate"]
    print(f"better against {theirs:<7} one order "
          f"{100 * found['one_order']['value']:.0f} %, both orders "
          f"{100 * both['value']:.0f} % ({100 * both['low']:.0f} to "
          f"{100 * both['high']:.0f}), contradicts itself "
          f"{100 * found['undecided']:.0f} %")
    assert theirs == "better" or both["low"] < 0.4 + 0.6 / 2 < both["high"]

# %% [markdown]
# **Explain.** In one order it says 100 %, even of two equal answers. In both orders the
# bias cancels: $0.4 + 0.6 / 2 = 70\,\%$, and exactly 50 % of equals. The share of
# contradictions shows how much the judge looks at the place. Swapping cannot cancel a
# taste for *long* answers: length travels with the answer.
#
# ## 9. Our scores, and theirs
#
# **Predict.** Here stand the greedy scores of the toy coder that the demo trains, and
# two of the paper. Name two reasons why no row of the first list may be set against one
# of the second.

# %% tags=["nbval-ignore-output"]
rows = read_json(Path("../benchmarks/results/learning.json"))["seeds"]["0"]["rows"]
print(OURS)
for row in rows:
    score = row["greedy"]
    print(f"  {row['name']:<32}{100 * score['value']:>5.1f} "
          f"({100 * score['low']:.0f} to {100 * score['high']:.0f}) of {score['n']} "
          "generated tasks about lists")
print(REPORTED)
for name in ("DeepSeek-Coder-V2-Lite-Instruct", LARGE):
    print(f"  {name:<32}{python[name]:>5} of HumanEval's 164")

# %% [markdown]
# **Explain.** Other tasks: ours are held out, but from the grammar that the coder was
# trained on, one sentence and a few lines each. Other models: of millions of parameters
# and of billions. Other prompts and samples, too. The two lists share a formula and no
# task, so equal numbers would not mean equal skill. This library never puts them on one
# axis:
#
# ![Two panels that share no axis. Left, HumanEval as reported by the authors, ten
# models from 78 to 91 %. Right, our toy coder on tasks about lists, before and after
# SFT and GRPO.](../figures/results-light.svg)
#
# ## What could go wrong: a process that outlives its time-out
#
# A harness starts a program, waits, kills it, and goes on. But the program had started
# another. bigcode-evaluation-harness issue 290 found `a.out` and `node` running for
# hours; dllm issue 108 is of this kind. Every later task is then judged on a busier
# machine, so *right* programs run out of time, and the score falls.
#
# **Predict.** The program below starts a sleeper and loops. We kill it, as
# `subprocess.run(timeout=…)` does. What is left?

# %%
mark = secrets.token_hex(8)
PROGRAM = f'''import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)  # {mark}"],
                 start_new_session=True)
while True:
    pass
'''


def sleepers():
    """The processes of this machine (Linux) whose command line holds the mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # it has just ended
            continue
    return found


harness = subprocess.Popen([sys.executable, "-"], stdin=subprocess.PIPE)
harness.stdin.write(PROGRAM.encode())
harness.stdin.close()
while Path("/proc/self").exists() and not sleepers() and harness.poll() is None:
    time.sleep(0.05)
harness.kill()  # the time is up
harness.wait()
print("the program ended:", harness.poll() is not None, "| sleepers left:",
      len(sleepers()))
for number in sleepers():
    os.kill(number, signal.SIGKILL)

# %% [markdown]
# **Explain.** `kill` ends one process, and the sleeper has a session of its own, so
# ending its group would not help either. Our sandbox runs each program in a process
# namespace, or where Linux gives none finds all that descends from it.
#
# **Predict.** The same program in the sandbox: which verdict, and what is left?

# %%
seen, ended = [], threading.Event()


def watch():
    while not ended.is_set():
        seen.append(len(sleepers()))
        time.sleep(0.05)


watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
result = sandbox.run("python", {"main.py": PROGRAM.encode()},
                     limits=Limits(cpu_s=2, wall_s=30))
ended.set()
watcher.join()
print("verdict:", result.verdict, "| a sleeper was seen:", max(seen) > 0,
      "| left:", len(sleepers()))
sandbox.close()

# %% [markdown]
# ## What you keep
#
# 1. pass@k counts choices of *samples* within a task, and then takes the mean over
#    *tasks*; the naive formula and the wrong unit both agree with it at $k = 1$.
# 2. A number needs its tests, its interval, its scorer and its date: weak tests, few
#    tasks, another reader or a leak can each move it by more than two models differ.
# 3. Compute again what can be computed; what is left over is a question, not a proof.
#
# ## References
#
# - DeepSeek-Coder-V2, arXiv 2406.11931, §4 and tables 3 to 10. DeepSeek-V2, arXiv
#   2405.04434, table 7. DeepSeek-Coder, arXiv 2401.14196, §2.4.
# - Chen et al., arXiv 2107.03374: pass@k, §2.1. Liu et al., arXiv 2305.01210:
#   EvalPlus. Wang et al., arXiv 2203.11171: voting. Jain et al., arXiv 2403.07974:
#   LiveCodeBench. Zheng et al., arXiv 2306.05685: judges, §3.
# - E. B. Wilson, 1927: the interval.
# - aprender, pull request 2118; bigcode-evaluation-harness, issue 290; dllm, issue 108.
# - The library: `minicoder/evaluation/`, `minicoder/tasks/plus.py`, `boxed.py` and
#   `choice.py`, `minicoder/data/decontaminate.py`; `python -m minicoder evaluate` does
#   all of it to a checkpoint.
