# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 10 · Compiler feedback and the reward model
#
# A program can be run. No other text that a model writes answers for itself like that,
# and reinforcement learning lives on it. But a verdict is only as good as the process
# that reaches it and the tests behind it. DeepSeek-Coder-V2 therefore trains a *model*
# of the verdicts. You take both apart: a verdict is noisy; a model of verdicts is
# smoother, and can be hacked.
#
# - **You will be able to** *tell* a compile error, a crash, a wrong answer and a
#   time-out apart, and keep a program from forging its verdict; *compute* how often a
#   few tests lie; *train* a reward model two ways, measure it, and find out when it is
#   being hacked.
# - **You need first:** lesson 00 (the sandbox); logistic regression; processes and
#   their exit status.
# - **Time:** about 20 seconds on two CPU cores; 40 minutes to read, 45 minutes for
#   the exercises.
# - **Paper:** DeepSeek-Coder-V2 (arXiv 2406.11931) §3.5.2 and fig. 3; DeepSeek-V2
#   (arXiv 2405.04434) §4.2.

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
import signal  # noqa: F401  exercise 2
import subprocess
import sys
import warnings
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F  # noqa: F401  exercise 3

from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Limits
from minicoder.show.check import check, hint, solution  # noqa: F401
from minicoder.show.style import label_lines, use_style
from minicoder.stages import read_json

torch.set_num_threads(1)  # small matrices: a second thread would cost, not help
colours = use_style()
warnings.filterwarnings("ignore", "Generated programs run")  # said in the text below
sandbox = Sandbox()

# %% [markdown]
# The sandbox locks programs in as well as this machine can; `sandbox.tier` says how
# well. Where it cannot at all, the line above stops and says so.
#
# ## 1. Six ways to end
#
# The task: read two numbers, print their sum. Five programs, run the plain way, each
# for at most 5 seconds on the input `1 2`. All that we get from outside is a *status*
# and what was printed.
#
# **Predict.** Which of them end with status 0?

# %%
PROGRAMS = {
    "right": "a, b = map(int, input().split())\nprint(a + b)",
    "wrong answer": "a, b = map(int, input().split())\nprint(a * b)",
    "compile error": "a, b = map(int, input().split()\nprint(a + b)",
    "run-time error": "a, b = map(int, input().split())\nprint(a / (b - 2))",
    "time-out": "while True:\n    pass"}
for name, program in PROGRAMS.items():
    try:
        end = subprocess.run([sys.executable, "-I", "-c", program], input=b"1 2",
                             capture_output=True, timeout=5)
        print(f"{name:<15} status {end.returncode}, printed {end.stdout.decode()!r}")
    except subprocess.TimeoutExpired:
        print(f"{name:<15} no status: it was still running")

# %% [markdown]
# **Explain.** Two: also the wrong one. Status 0 says that a program came to its end.
# And the two errors have the same status, though one of them never ran. So a verdict
# has steps: compile, then run, each with its limits, and only then compare.
#
# The library does it, in the sandbox. The output that is wanted never enters it.
#
# **Predict.** Its words are `pass`, `fail`, `error`, `crash`, `timeout` and
# `syntax_error`. Which program gets which, and which word is left over?

# %%
from minicoder.execution.programs import judge_stdin

TESTS, FAST = [("1 2", "3"), ("2 2", "4")], Limits(cpu_s=1)
for name, program in PROGRAMS.items():
    result = judge_stdin(sandbox, "python", {"main.py": program.encode()}, TESTS, FAST)
    print(f"{name:<15} {result.verdict:<13} {result.passed} of {result.total} tests")

# %% [markdown]
# **Explain.** Five words for five ends; only `pass` is a success. The wrong program
# passes the test `2 2`, too: 2 + 2 = 2 · 2. Keep that in mind until section 4. Left
# over is `crash`, the end by a signal. Python programs hardly get one; C programs do.

# %% tags=["nbval-ignore-output"]
from minicoder.execution.languages import absent

READ = '#include <stdio.h>\nint main() { int a, b; scanf("%d %d", &a, &b); '
IN_C = {
    "right": (READ + 'printf("%d", a + b); }', "pass"),
    "wrong answer": (READ + 'printf("%d", a * b); }', "fail"),
    "compile error": (READ + 'printf("%d", a + c); }', "syntax_error"),
    "run-time error": (READ + "volatile int *p = 0; return *p; }", "crash"),
    "time-out": (READ + "for (volatile int i = 0; ; i++); }", "timeout")}
if absent("c"):
    print(f"Not run: this machine lacks the Debian package {absent('c')[0]}.")
else:
    for name, (program, wanted) in IN_C.items():
        found = judge_stdin(sandbox, "c", {"main.c": program.encode()}, TESTS, FAST)
        print(f"{name:<15} {found.verdict:<13} {found.message[:60]}")
        assert found.verdict == wanted

# %% [markdown]
# **Explain.** The messages are the *compiler feedback*: which line, which name, which
# signal. Here we keep the verdict alone, as the paper does: 1 or 0.
#
# **Change one thing.** Give `FAST` a `cpu_s` of 0.01, then 0.005, then 0.003, and run
# both cells each time. Which programs change their verdict, and which one never does?
# (You are near what it costs to start Python. The limit is CPU time, not time on the
# clock: a busy machine changes little.)
#
# ### Exercise 1 · the verdict parser (easy, important, 10 minutes)

# %% tags=["nbval-ignore-output"]
def verdict(compiled: bool, status: int, timed_out: bool, output: str, wanted: str
            ) -> str:
    """The verdict: syntax_error, timeout, crash, error, fail or pass.

    status: as subprocess has it, negative for a signal. wanted: the right output.
    """
    ...


check("feedback.verdict", verdict)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def verdict(compiled, status, timed_out, output, wanted):
#     if not compiled:
#         return "syntax_error"
#     if timed_out:
#         return "timeout"
#     if status:
#         return "crash" if status < 0 else "error"
#     return "pass" if output.split() == wanted.split() else "fail"
# ```
#
# </details>
#
# ## 2. Famous bug: processes that outlive their time-out
#
# Models write programs that start others. Here a shell starts `sleep`, and Python ends
# the shell after two seconds.
#
# **Predict.** How many processes are left?

# %%
MARK = "40.0625"  # seconds; nobody else sleeps for so long


def alive():
    """The numbers of the processes that sleep for MARK seconds."""
    if not Path("/proc/self").exists():  # macOS
        lines = subprocess.run(["ps", "-A", "-o", "pid=,args="], capture_output=True,
                               text=True).stdout.splitlines()
        return [int(x.split()[0]) for x in lines if x.endswith(f"sleep {MARK}")]
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it ended in between
            continue
        if words[:2] == [b"sleep", MARK.encode()]:
            found.append(int(path.parent.name))
    return found


try:
    subprocess.run(["sh", "-c", f"sleep {MARK}; true"], timeout=2)
except subprocess.TimeoutExpired:
    print("timed out; processes left:", len(alive()))
    assert alive()  # the bug
for number in alive():
    os.kill(number, 9)

# %% [markdown]
# **Explain.** `subprocess.run` ends the process that it started and no other. The
# verdict is right, and with every such sample the machine holds one process more.
# dllm's issue 108 is of this kind. `shell=True` brings it in unseen, and so does every
# program that calls `Popen`.
#
# **Predict.** The same inside the sandbox.

# %%
SPAWNS = f"""import subprocess
def solve(a):
    try:
        subprocess.Popen(["sleep", "{MARK}"])
    except OSError:  # some tiers let it start nothing
        pass
    while True:
        pass
"""
found = sandbox.judge(SPAWNS, [(([],), 0)], "solve", limits=FAST)
print(f"{found.verdict}; processes left: {len(alive())}")
assert found.verdict == "timeout" and not alive()

# %% [markdown]
# **Explain.** What a program starts lives in its namespace or its group and ends with
# it. The library's tests try harder: children that fork again, that ignore signals,
# that leave their group.
#
# ### Exercise 2 · a time-out that leaves nothing (medium, important, 12 minutes)

# %% tags=["nbval-ignore-output"]
def limited(command: list[str], seconds: float) -> str:
    """Run a command: "ended" or "timeout". Nothing that it started is left behind."""
    ...


check("feedback.limited", limited)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def limited(command, seconds):
#     process = subprocess.Popen(command, start_new_session=True)
#     try:
#         process.wait(seconds)
#         return "ended"
#     except subprocess.TimeoutExpired:
#         return "timeout"
#     finally:
#         try:
#             os.killpg(process.pid, signal.SIGKILL)
#         except ProcessLookupError:  # all of the group has ended by itself
#             pass
#         process.wait()
# ```
#
# A program that calls `setsid` still escapes from this one. A namespace holds it.
#
# </details>
#
# ## 3. Two processes, and why
#
# The commonest judge in training code: write the program and its tests into one file,
# run it, status 0 is a pass.
#
# **Predict.** The task is `solve(n)` = n². Which of these five does that judge pass?

# %%
SQUARES = [((2,), 4), ((3,), 9), ((-5,), 25)]
FORGED = {
    "right": "def solve(n):\n    return n * n",
    "wrong": "def solve(n):\n    return n + n",
    "leaves early": "import os\nos._exit(0)",
    "equal to everything": "class Any:\n    def __eq__(self, other):\n"
                           "        return True\ndef solve(n):\n    return Any()",
    "reads the tests": "import re, sys\ntext = open(sys.argv[0]).read()\n"
                       "wanted = re.findall('^assert.*== (.*)$', text, re.M)\n"
                       "def solve(n):\n    return int(wanted.pop(0))"}


def file_and_status(program, cases):
    """Program and tests in one file; status 0 is a pass."""
    tests = [f"assert solve({a[0]}) == {wanted}" for a, wanted in cases]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "judged.py"
        path.write_text("\n".join([program, *tests]), encoding="utf-8")
        end = subprocess.run([sys.executable, "-I", path], capture_output=True,
                             timeout=60)
    return "pass" if end.returncode == 0 else "fail"


for name, program in FORGED.items():
    found = sandbox.judge(program, SQUARES, "solve")
    print(f"{name:<20} file and status: {file_and_status(program, SQUARES)}   "
          f"two processes: {found.verdict:<6} {found.passed} of {found.total}")

# %% [markdown]
# **Explain.** Four of five: the judge believes what the accused says. No wall around
# the process helps, for the forgery happens inside. The cure is that program and tests
# share no process. The program's process gets arguments and sends back *plain data*;
# another one, which knows the results, compares.
#
# - `os._exit(0)`: the host counts answers, not statuses. None came, so it is a `crash`.
# - An object with its own `__eq__` is no plain data, so it does not cross.
# - There is no file with tests, and no memory with them either.
#
# Reinforcement learning finds such doors without looking for them: one forged pass
# among thousands of samples is the best-paid sample of all.
#
# **Change one thing.** Write a sixth program that passes the left judge: try `atexit`,
# `sys.excepthook`, or a subclass of `int`. Does the right one budge?
#
# ## 4. A verdict is noisy
#
# Now the process is sound, and the tests are few. The paper says that some of its
# prompts have few tests of poor coverage, so that the raw 0 or 1 is noisy. How noisy?
#
# By hand: a task has 5 tests, and a wrong program fails 2 of them. Show one test, drawn
# at random. It passes with chance 3/5. Show two: $\binom{3}{2} / \binom{5}{2} = 3/10$.
#
# We take 200 small tasks about lists, and for each its right program and up to five
# wrong ones, each with one plausible bug.
#
# **Predict.** With one test shown of 5 to 8, what share of the wrong programs passes?

# %%
from minicoder.tasks import lists
from minicoder.tasks.item import grade_many

SMALL = replace(lists.FAMILY, name="small", maps=lists.FAMILY.maps[:1],
                filters=lists.FAMILY.filters[:16], slices=lists.FAMILY.slices[:3])
draw = random.Random(0)
tasks = draw.sample([t for i in range(SMALL.size) if (t := SMALL.make(i))], 200)
programs = []
for task in tasks:
    bugs = SMALL.bugs(task)
    programs += [(task, p) for p in (
        task.canonical_solution, *draw.sample(bugs, min(5, len(bugs))))]
results = grade_many(*zip(*programs, strict=True), sandbox)
failed = [{number for number, _, _ in r.failures} for r in results]
right = torch.tensor([r.verdict == "pass" for r in results]).double()
assert [p == t.canonical_solution for t, p in programs] == right.bool().tolist()
print(tasks[0].prompt)
print(programs[1][1] + "fails tests", sorted(failed[1]), "of", len(tasks[0].cases))
print(f"\n{len(programs)} programs judged, {right.mean():.1%} right")

# %%
def passes(k):
    """Mean chance that a wrong program passes k of its task's tests."""
    return fmean(math.comb(r.total - len(bad), k) / math.comb(r.total, k)
                 for r, bad in zip(results, failed, strict=True) if bad)


SHARE = right.mean().item()
for k in range(1, 6):
    lie = passes(k)
    print(f"{k} shown: {lie:.0%} of the wrong programs pass; of all that pass, "
          f"{(1 - SHARE) * lie / (SHARE + (1 - SHARE) * lie):.0%} are wrong")
empty = fmean(1 not in bad for bad in failed if bad)
print(f"the first test alone, solve([]): {empty:.0%} pass")

# %% [markdown]
# **Explain.** The second number is Bayes' rule: wrong programs are many, so with one
# test most of the passes are false. And tests are not alike: the empty list, which
# everybody writes first, tells next to nothing.
#
# "All tests" is no truth, either; it is the best that we have here.
#
# The library hides tests with `hide`. The verdict by the shown ones follows from the
# list of the tests that failed, so we need not run anything again. Proof on 100:

# %%
from minicoder.alignment.feedback import hide

SHOWN = 1  # tests of each task


def shown_verdicts(k, seed):
    """1 for each program that passes the k tests that are shown, drawn by task."""
    bits = []
    for (task, _), bad in zip(programs, failed, strict=True):
        shown = hide(task, k, seed)[0].cases
        bits.append(not any(task.cases[n - 1] in shown for n in bad))
    return torch.tensor(bits).double()


again = grade_many([hide(t, SHOWN, 0)[0] for t, _ in programs[:100]],
                   [p for _, p in programs[:100]], sandbox)
seen = shown_verdicts(SHOWN, seed=0)
torch.testing.assert_close(
    seen[:100], torch.tensor([r.verdict == "pass" for r in again]).double())
print(f"{SHOWN} shown: {seen.mean():.0%} pass, {right.mean():.0%} are right")

# %% [markdown]
# **Explain.** On average over all draws 17 % + 83 % · 50 % = 58 % would pass; this is
# one draw of a test for each task, and it was a mild one. Training sees one draw, too.
#
# ## 5. A model of the verdicts
#
# A **reward model** reads prompt and program and gives one number, the *score*
# $r(q, o)$. It is trained on verdicts. Two losses are common, and the paper does not
# say which one it used (unverified):
#
# $$ \text{point-wise: } -y \ln \sigma(r) - (1 - y) \ln (1 - \sigma(r)), \qquad
# \text{pair-wise: } -\ln \sigma(r_{\text{pass}} - r_{\text{fail}}). $$
#
# Point-wise asks "does it pass?". Pair-wise asks "which of two programs for this prompt
# passes?".
#
# **Predict.** Point-wise: scores 2, 0, −1 with verdicts 1, 1, 0. Which one costs most?
# Pair-wise: winners 2 and 0, losers 1 and 1. Which pair costs
# $\ln(1 + e^{-1}) = 0.313$, and which $\ln(1 + e) = 1.313$?

# %%
from minicoder.alignment.reward_model import pairwise_loss, pointwise_loss

scores, bits = torch.tensor([2.0, 0.0, -1.0]), torch.tensor([1.0, 1.0, 0.0])
costs = [-math.log(1 / (1 + math.exp(-s if y else s)))
         for s, y in zip(scores.tolist(), bits.tolist(), strict=True)]
print("point-wise", [round(c, 4) for c in costs], "mean", round(fmean(costs), 4))
torch.testing.assert_close(pointwise_loss(scores, bits), torch.tensor(fmean(costs)))

winners, losers = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0])
costs = [math.log(1 + math.exp(b - a))
         for a, b in zip(winners.tolist(), losers.tolist(), strict=True)]
print("pair-wise ", [round(c, 4) for c in costs], "mean", round(fmean(costs), 4))
torch.testing.assert_close(pairwise_loss(winners, losers), torch.tensor(fmean(costs)))

# %% [markdown]
# ### Exercise 3 · the pair-wise loss (easy, important, 8 minutes)

# %% tags=["nbval-ignore-output"]
def pairwise(winners: torch.Tensor, losers: torch.Tensor) -> torch.Tensor:
    """The mean of −ln sigma(winner − loser) over pairs of one prompt each."""
    ...


check("feedback.pairwise", pairwise)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def pairwise(winners, losers):
#     return -F.logsigmoid(winners - losers).mean()
# ```
#
# </details>
#
# Where does the score come from? In the library from a coder: the head for words is
# taken off, and one row of weights reads the hidden state of the *last* token, which
# has seen all others (DeepSeek-V2 §4.2 starts from the fine-tuned chat model).
#
# **Predict.** The row starts at zero. What does a new reward model say of any program,
# and what does it cost, point-wise?

# %%
from minicoder.alignment.reward_model import RewardModel, scored_batch
from minicoder.config import preset
from minicoder.model.transformer import MiniCoder

torch.manual_seed(0)
judge = RewardModel(MiniCoder(preset("toy", vocab_size=64, num_hidden_layers=2))).eval()
batch, last = scored_batch([[1, 5, 9, 2], [1, 7, 2]], torch.device("cpu"))
with torch.no_grad():
    print("new:", judge(batch, last).tolist(), f"cost {math.log(2):.3f} = ln 2")
    judge.score.weight.normal_(generator=torch.Generator().manual_seed(0))
    hidden = judge.coder.model(batch)
    by_hand = torch.stack([hidden[0, 3] @ judge.score.weight[0],
                           hidden[1, 2] @ judge.score.weight[0]])
    torch.testing.assert_close(judge(batch, last), by_hand)
    alone = judge(*scored_batch([[1, 7, 2]], torch.device("cpu")))
    torch.testing.assert_close(judge(batch, last)[1:], alone)  # padding is not read
print("read at columns", last.tolist())

# %% [markdown]
# A transformer needs many thousands of verdicts before it can match "above 3" with
# `x > 3`. Here we take a smaller body and keep losses and measures. Let
# $q_i = 1$ if piece $i$ (a word, or two in a row) is in the prompt, and $p_j = 1$ if
# piece $j$ is in the program.
#
# $$ r = b + \sum_{ij} q_i W_{ij} p_j $$
#
# So $W_{ij}$ says how well a piece of program fits a piece of prompt. It learns on 150
# prompts and is tested on 50 others.

# %%
def pieces(text):
    """The words and signs of a text, and each two in a row."""
    words = re.findall(r"\w+|[^\w\s]+", text)
    return {*words, *map(" ".join, zip(words, words[1:], strict=False))}


def table(texts):
    """A number for each piece of these texts."""
    found = dict.fromkeys(x for t in texts for x in sorted(pieces(t)))
    return {piece: i for i, piece in enumerate(found)}


def rows(texts, numbers):
    """A row of 0 and 1 for each text; pieces without a number are not seen."""
    out = torch.zeros(len(texts), len(numbers), dtype=torch.float64)
    for i, text in enumerate(texts):
        out[i, [numbers[x] for x in pieces(text) if x in numbers]] = 1
    return out


def body(program):
    return program.split("return")[1]


held = {t.task_id for t in tasks[150:]}
test = torch.tensor([t.task_id in held for t, _ in programs])
prompts, bodies = [t.prompt for t, _ in programs], [body(p) for _, p in programs]
Q_PIECES, P_PIECES = (table(x for x, h in zip(xs, test, strict=True) if not h)
                      for xs in (prompts, bodies))
Q, P = rows(prompts, Q_PIECES), rows(bodies, P_PIECES)
print(f"{len(Q_PIECES)} pieces of prompts, {len(P_PIECES)} of programs; "
      f"{int((~test).sum())} programs to learn from, {int(test.sum())} to test on")

# %%
def train(loss_of):
    """W and b that make the loss small, with a little weight decay."""
    w = torch.zeros(Q.shape[1], P.shape[1], dtype=torch.float64, requires_grad=True)
    b = torch.zeros((), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([w, b], max_iter=40, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        loss = loss_of(((Q @ w) * P).sum(1) + b) + 0.003 * w.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    return w.detach(), b.detach()


def score(model, q=Q, p=P):
    return ((q @ model[0]) * p).sum(1) + model[1]

# %% [markdown]
# **Predict.** All models learn from *one shown test* a task. Judged by all tests, can a
# model be better than the verdicts that it learnt from?
#
# Two measures. *AUC* is the chance that a right program scores above a wrong one, of
# any prompts. *In the group*: the same for programs of one prompt. That is what GRPO
# will ask (lesson 11).

# %% tags=["nbval-ignore-output"]
by_task = defaultdict(list)
for i, (task, _) in enumerate(programs):
    by_task[task.task_id].append(i)


def pairs_of(bits, groups):
    """Numbers of a passing and a failing program, for all pairs of a prompt."""
    return torch.tensor([(i, j) for g in groups for i in g if bits[i]
                         for j in g if not bits[j]]).T


good, bad = pairs_of(seen, [g for t, g in by_task.items() if t not in held])
pointwise = train(lambda s: pointwise_loss(s[~test], seen[~test]))
pairwise_model = train(lambda s: pairwise_loss(s[good], s[bad]))
print(f"{len(good)} pairs to learn from")

# %% tags=["nbval-ignore-output"]
from minicoder.alignment.calibration import calibration


def measured(scores):
    """AUC, and the share of pairs in the group that stand right (ties: half)."""
    i, j = pairs_of(right, [by_task[t] for t in sorted(held)])
    ahead = scores[i] - scores[j]
    return (calibration(scores[test], right[test])["auc"],
            ((ahead > 0).double() + 0.5 * (ahead == 0)).mean().item())


kinds = {"the shown verdict": 4 * seen - 2, "point-wise model": score(pointwise),
         "pair-wise model": score(pairwise_model),
         "verdict, then model": score(pointwise) - 50 * (1 - seen)}
found = {name: measured(s) for name, s in kinds.items()}
for name, (auc, group) in found.items():
    print(f"{name:<20} AUC {auc:.2f}   in the group {group:.2f}")
raw, point, pair, both = found.values()
assert point[1] > raw[1] + 0.06 and pair[1] > raw[1] + 0.06
assert both[0] > max(raw[0], point[0]) and pair[0] < point[0]

# %% [markdown]
# **Explain.** Yes. A wrong program passes its one test by luck; its bug is met again at
# other prompts, where luck went the other way. The model averages over them, and what
# is left is the bug. That is the paper's argument: a model trained on verdicts is more
# robust than the single verdict, and generalises better.
#
# The pair-wise model never compared programs of two prompts. So its scores mean little
# across prompts (lower AUC), and in the group it is as good. And the two can be joined:
# a failed test is no luck, so believe it; where the test passed, ask the model.
#
# **Change one thing.** Set `SHOWN` in section 4 to 2 and run on from there to here. Who
# gains more in the group, the verdict or the model? Then set it back and run again.
#
# ## 6. Smoother, and calibrated to what it saw
#
# **Predict.** Draw other tests to show. For what share of the programs does the verdict
# flip? By how much does the model's chance move?

# %% tags=["nbval-ignore-output"]
other = shown_verdicts(SHOWN, seed=1)
retrained = train(lambda s: pointwise_loss(s[~test], other[~test]))
flips = (seen - other)[test].abs().mean().item()
moves = (score(pointwise).sigmoid() - score(retrained).sigmoid())[test].abs()
print(f"verdict: {flips:.0%} flip, so it moves by {flips:.2f} on average")
print(f"model:   its chance moves by {moves.mean():.2f} on average, and by more than "
      f"a half for {(moves > 0.5).double().mean():.0%}")
if SHOWN == 1:
    assert moves.mean() < 0.9 * flips and (moves > 0.5).double().mean() < 0.85 * flips

# %% [markdown]
# With one shown test the model is the smoother judge. With two (run this with `SHOWN`
# set to 2) the verdict itself is steadier, and the lead almost goes.
#
# Is a chance of 0.7 right in 7 of 10 cases? Sort the programs by the model's chance
# into eight bins, and count. ECE, the expected calibration error, is the mean distance
# from the diagonal. A model that learnt from few verdicts is too sure of itself; two
# numbers mend that, a scale and a shift of the scores (Platt), fitted to the shown
# verdicts of one half of the test prompts and used on the other.
#
# **Predict.** Counted by the shown test, and counted by all tests: which curve is near
# the diagonal, and on which side is the other?

# %% tags=["nbval-ignore-output"]
from minicoder.alignment.calibration import cross_fitted

half = {t.task_id for t in tasks[175:]}
fold = torch.tensor([t.task_id in half for t, _ in programs])[test]
scaled = cross_fitted(score(pointwise)[test], seen[test], fold)
plain_ece = calibration(score(pointwise)[test], seen[test])["ece"]
figure, axes = plt.subplots(figsize=(5.6, 3.8))
ece = {}
for name, bits, ink in (("by the shown test", seen, "before"),
                        ("by all tests", right, "after")):
    curve = calibration(scaled, bits[test])
    ece[name] = curve["ece"]
    axes.plot(*zip(*((b["predicted"], b["observed"]) for b in curve["bins"]),
                   strict=True), "o-", color=colours[ink], markersize=4, label=name)
axes.plot((0, 1), (0, 1), "--", color=colours["muted"], linewidth=1)
axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="the model's chance of a pass",
         ylabel="share that passes",
         title="Calibrated to the tests that it saw,\nnot to the truth")
label_lines(axes)
plt.show()
print(f"ECE by the shown test: {plain_ece:.2f} raw, {ece['by the shown test']:.2f} "
      f"rescaled; by all tests: {ece['by all tests']:.2f}")
assert ece["by the shown test"] < plain_ece
assert ece["by all tests"] > 2 * ece["by the shown test"]

# %% [markdown]
# **Explain.** The model learnt the chance to pass *one random test*. All tests are
# harder to pass, so it promises too much, however it is rescaled: nothing in its data
# could tell it. The *order* of the scores is what helps; their height is that of the
# tests.
#
# ## 7. Figure 3 in small
#
# The paper's figure 3 trains one policy with each reward. For a small world the end of
# such training is known: among all policies at the same distance (KL divergence) from
# the start, the reward is highest for
#
# $$ \pi(o) \propto \pi_{\text{start}}(o) \, e^{\eta\, r(o)}, $$
#
# with a pressure $\eta$. Start: every program of a prompt is equally likely. Then raise
# the pressure and count with *all* tests.
#
# **Predict.** Where does the raw signal end? It cannot tell a right program from a
# wrong one that passed its test.

# %% tags=["nbval-ignore-output"]
PRESSURES = (0, 0.5, 1, 2, 3, 5, 8, 12, 20, 40, 80)


def pushed(reward, truth, groups):
    """KL from the start in nats and true pass share, for each pressure."""
    line = []
    for pressure in PRESSURES:
        chance = [(pressure * reward[g]).softmax(0) for g in groups]
        line.append((fmean((c * (c * len(c)).clamp_min(1e-300).log()).sum().item()
                           for c in chance),
                     fmean((c @ truth[g]).item()
                           for c, g in zip(chance, groups, strict=True))))
    return line


groups = [by_task[t] for t in sorted(held)]
rewards = {"raw signal": (seen, "grpo"),
           "reward model": (score(pointwise).sigmoid(), "sft"),
           "all tests": (right, "base")}
lines = {name: pushed(r, right, groups) for name, (r, _) in rewards.items()}
figure, axes = plt.subplots(figsize=(6.2, 3.6))
for name, (_, ink) in rewards.items():
    axes.plot(*zip(*lines[name], strict=True), "o-", color=colours[ink], markersize=3.5,
              label=name)
    print(f"{name:<13} true pass share {lines[name][0][1]:.2f} → "
          f"{lines[name][-1][1]:.2f}")
axes.set(xlabel="distance from the start, nats", ylabel="true pass share", ylim=(0, 1),
         title="The raw signal stops early, the model goes on")
label_lines(axes)
plt.show()
assert lines["raw signal"][-1][1] < lines["reward model"][-1][1] < 1

# %% [markdown]
# **Explain.** The raw signal ends where all programs that passed their test are equally
# likely; it has nothing more to say. (Section 4 found 29 % right among all that pass;
# here every prompt counts the same.) The model still tells some of them apart. This is
# the shape of the paper's claim, in a world where the model has an easy task. Now two
# real trainings. First the paper's, read off its plot (approximate; pass@1, 50 to 600
# steps):
#
# | set | fine-tuned | raw signal: range, last | reward model: range, last |
# |---|---|---|---|
# | LeetCode | 0.140 | 0.117–0.164, 0.141 | 0.164–0.227, 0.203 |
# | LeetCode-zh | 0.100 | 0.086–0.133, 0.110 | 0.117–0.172, 0.141 |
#
# Then our own: `benchmarks/reward.py` trains a transformer as reward model and a policy
# with GRPO, on three seeds, with one shown test.

# %% tags=["nbval-ignore-output"]
study = read_json(Path("../benchmarks/results/reward.json"))
seeds = study["seeds"]
print(f"{len(seeds)} seeds, {study['visible']} shown test, {study['steps']} steps")
judges = [s["study"]["judges"] for s in seeds]
for key, name in (("visible", "the shown verdict"), ("model", "the reward model"),
                  ("both", "verdict, then model")):
    print(f"{name:<28} AUC by all tests", [round(j[f"{key}_auc"], 2) for j in judges])
for key, name in (("visible", "raw signal"), ("model", "reward model"),
                  ("refreshed", "reward model, refreshed"), ("all", "all tests")):
    runs = [s["study"]["runs"][key] for s in seeds]
    print(f"{name:<28} pass@1", [f"{r[0]['pass@1']:.2f} → {r[-1]['pass@1']:.2f}"
                                 for r in runs])


def gain(key):
    return fmean(s["study"]["runs"][key][-1]["pass@1"]
                 - s["study"]["runs"][key][0]["pass@1"] for s in seeds)


assert gain("all") > gain("visible") > 0 > gain("model")
assert all(j["both_auc"] > j["visible_auc"] > j["model_auc"] for j in judges)

# %% [markdown]
# **Explain.** Ours comes out the other way round. The raw signal raises the true
# pass@1 on every seed, all tests raise it more, and the reward model *lowers* it on
# average; training it again on the way (refreshed) does not mend that. The first three
# lines say why. A model helps if it orders programs better than the verdicts that it
# learnt from. In section 5 it did. Here it learnt from some 1,600 verdicts in a world
# where one sign decides, and it does worse than one test. The policy follows its
# errors.
#
# ![Two panels over 24 steps of GRPO on three seeds. Left, true pass@1: training on all
# tests rises most, on the raw verdict less, on the reward model it falls. Right, each
# run's own reward: all rise.](../figures/reward-light.svg)
#
# So the paper's figure is no law. It is a measurement with about 40k prompts of code
# and mathematics, a far larger model (it does not say which), and tests whose weakness
# we do not know. Measure your judge before you train on it; that is cheap. And here
# too, verdict and model *together* beat either; we have not trained on that.
#
# ![Left: share of wrong programs that pass one to five random tests, near 50 % for one.
# Right: the paper's figure 3, read off: pass@1 of the raw signal and of the reward
# model.](../figures/feedback-light.svg)
#
# ## 8. Hacked
#
# A reward is what you measure, not what you mean. First the verdict. Show the empty
# list alone, and let programs be stubs:

# %%
from minicoder.alignment.hacking import exploits

task = next(t for t in tasks if t.prompt.startswith("Return the sum of the even")
            and t.cases[0].expected == 0)
first = task.cases[1]
STUBS = {
    "honest": task.canonical_solution,
    "constant": "def solve(a):\n    return 0\n",
    "table": f"def solve(a):\n    return {{{tuple(first.arguments[0])}: "
             f"{first.expected}}}.get(tuple(a), 0)\n",
    "one branch": f"def solve(a):\n    return {first.expected} if a else 0\n"}
two_shown = replace(task, cases=task.cases[:2])
print(task.prompt)
for name, program in STUBS.items():
    one, two, whole = (t.grade(program, sandbox).verdict for t in (
        replace(task, cases=task.cases[:1]), two_shown, task))
    print(f"{name:<11} 1 shown: {one}   2 shown: {two}   all: {whole}   named: "
          f"{', '.join(exploits(program, task, sandbox)) or '-'}")

# %% [markdown]
# **Explain.** `exploits` names two of three. The last one holds no list of the tests
# and is not constant. A list of known tricks is never whole. The alarm that needs no
# list is the **gap**: programs that pass what is shown and fail what is hidden.
#
# Now the model. It reads text, and text can be added.
#
# **Predict.** We take wrong programs that the model dislikes and add a *comment*, word
# by word, each time the word that lifts the score most. The program does what it did.
# What becomes of its score?

# %% tags=["nbval-ignore-output"]
WORDS = [piece for piece in P_PIECES if " " not in piece]


def score_of(model, prompt, texts):
    q = rows([prompt], Q_PIECES).expand(len(texts), -1)
    return score(model, q, rows([body(t) for t in texts], P_PIECES))


def stuffed(model, prompt, program, words=6):
    """The program with the comment that the model likes best, found greedily."""
    text = program.rstrip() + "  #"
    for _ in range(words):
        tries = [f"{text} {word}" for word in WORDS]
        text = tries[score_of(model, prompt, tries).argmax()]
    return text + "\n"


hacks = {}
for group in groups:
    prompt = programs[group[0]][0].prompt
    wrong = [i for i in group if not right[i]]
    worst = min(wrong, key=lambda i: score(pointwise)[i].item())
    hacks[worst] = stuffed(pointwise, prompt, programs[worst][1])
before = score(pointwise)[list(hacks)].sigmoid()
after = torch.cat([score_of(pointwise, programs[i][0].prompt, [text])
                   for i, text in hacks.items()]).sigmoid()
verdicts = grade_many([programs[i][0] for i in hacks], hacks.values(), sandbox)
i, text = next(iter(hacks.items()))
print(programs[i][0].prompt, text, sep="\n")
others = score(pointwise)[test].sigmoid()
print(f"{len(hacks)} programs: the model's chance {before.mean():.2f} → "
      f"{after.mean():.2f} (of all programs {others.mean():.2f}), that pass all tests: "
      f"{sum(r.verdict == 'pass' for r in verdicts)}")
assert after.mean() > before.mean() + 0.2 and after.median() > others.median()
assert not any(r.verdict == "pass" for r in verdicts)

# %% [markdown]
# **Explain.** The worst program of each prompt now looks better than most, and not one
# passes. The model never learnt what runs; it learnt what right programs look like.
#
# **Predict.** Put one such program into each group and raise the pressure again. What
# does the curve of the reward model do?

# %% tags=["nbval-ignore-output"]
all_right = torch.cat([right, torch.zeros(len(hacks), dtype=torch.float64)])
all_scores = torch.cat([score(pointwise).sigmoid(), after])
wider = [[*g, len(programs) + n] for n, g in enumerate(groups)]
plain = [" ".join(re.sub(r"#.*", "", t).split()) for t in hacks.values()]
cleaned = torch.cat([score_of(pointwise, programs[i][0].prompt, [t])
                     for i, t in zip(hacks, plain, strict=True)]).sigmoid()
cases = {"honest programs": (lines["reward model"], "sft"),
         "with exploits": (pushed(all_scores, all_right, wider), "bad"),
         "comments taken out": (pushed(torch.cat([score(pointwise).sigmoid(), cleaned]),
                                       all_right, wider), "good")}
figure, axes = plt.subplots(figsize=(6.2, 3.6))
for name, (line, ink) in cases.items():
    axes.plot(*zip(*line, strict=True), "o-", color=colours[ink], markersize=3.5,
              label=name)
axes.set(xlabel="distance from the start, nats", ylabel="true pass share", ylim=(0, 1),
         title="The same reward model, hacked and mended")
label_lines(axes)
plt.show()
hacked, mended = cases["with exploits"][0], cases["comments taken out"][0]
best = max(share for _, share in hacked)
print(f"with exploits: best {best:.2f}, at full pressure {hacked[-1][1]:.2f}; "
      f"comments taken out: {mended[-1][1]:.2f}")
assert hacked[-1][1] < best - 0.02 and mended[-1][1] > hacked[-1][1] + 0.1

# %% [markdown]
# **Explain.** This is *over-optimisation*: a little pressure helps, more of it buys
# what the model likes and the tests do not. From inside nothing is wrong, the reward
# rises all the way. Three guards:
#
# - keep tests that no reward sees, and watch the gap;
# - take out of the input what cannot run (the third curve), and stay near the start:
#   that is GRPO's KL term;
# - train the model again on what the policy writes now (DeepSeekMath §4.1.4).
#
# DAPO (§2.4) goes the other way and takes the verdict alone, because learnt rewards get
# hacked. With weak tests the verdict is hacked, too. In our study GRPO got a policy
# that had seen a few stubs (`return 0`), and of each task only the tests that want 0,
# two or more.
#
# **Predict.** What share of its programs is constant, before and after 24 steps?

# %% tags=["nbval-ignore-output"]
for row in seeds:
    for when in ("before", "after"):
        found = row["hacking"][when]
        names = ", ".join(f"{n} {x:.0%}" for n, x in found["exploits"].items())
        print(f"seed {row['seed']} {when:<7} shown {found['visible']:.0%}, all "
              f"{found['true']:.0%}, named: {names or '-'}")
    old, new = row["hacking"]["before"], row["hacking"]["after"]
    assert new["visible"] > 1.5 * old["visible"] and new["true"] < 0.05
    assert new["exploits"]["constant"] > 0.5 > old["exploits"]["constant"]

# %% [markdown]
# **Explain.** Shown to the reward, every seed is a success: the pass share more than
# doubles. By all tests hardly any program was right, and no more are now. `exploits`
# names most of what was learnt, *constant*, also in disguise: on the last seed the
# commonest program is `sum(x - x for x in …)`. It does not name all: on two seeds some
# programs pass what is shown, fail the rest, and have no name. The gap still shows.
#
# ### Exercise 4 · find the exploit (medium, important, 15 minutes)
#
# You are the policy now. Two tests are shown. Be paid in full, do nothing of the task,
# and do not be named.

# %% tags=["nbval-ignore-output"]
def solve(a: list[int]) -> int:
    """Pass both shown tests of "the sum of the even numbers in a" and no hidden one.

    Shown: solve([]) == 0 and solve([-3, -8, -1, -6, -5]) == -14.
    """
    ...


check("feedback.exploit", solve)
sandbox.close()  # to go back, run the second cell again

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def solve(a):
#     return -14 if a else 0
# ```
#
# Which third test would you show, so that this costs more than the honest program?
#
# </details>
#
# ## What you keep
#
# 1. A verdict has steps and limits, and program and tests must not share a process, or
#    the program writes its own verdict.
# 2. With one or two tests many passes are false; a model of the verdicts averages that
#    luck away if it can learn the task, and is worse than one test if it cannot.
# 3. What can be measured can be hacked, verdict and model alike: hide tests, and watch
#    the gap.
#
# ## What could go wrong
#
# The sandbox itself fails now and then: no memory left on the host, a worker dead. Its
# verdict is then `harness_error`, which is nobody's fault. Counted as 0 it teaches the
# model that good programs are bad, on busy machines only; that point came up in the
# review of NeMo Gym's pull request 2015. `Sample.judged` says which verdicts are about
# the program, and training leaves out the others.
#
# ## References
#
# - DeepSeek-Coder-V2, arXiv 2406.11931, §3.5.2 and fig. 3. DeepSeek-V2, arXiv
#   2405.04434, §4.2. DeepSeekMath, arXiv 2402.03300, §4.1.4.
# - Guo et al., arXiv 1706.04599: calibration, §2. Gao et al., arXiv 2210.10760:
#   over-optimisation of reward models. DAPO, arXiv 2503.14476, §2.4.
# - dllm, issue 108: a bug of the kind of section 2. human-eval, issue 67; EvalPlus,
#   issue 306: forged passes.
# - The library: `minicoder/execution/`, `minicoder/alignment/feedback.py`,
#   `reward_model.py`, `calibration.py`, `hacking.py`; `benchmarks/reward.py`.
