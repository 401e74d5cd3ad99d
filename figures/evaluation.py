"""Two ways in which a score misleads: a biased formula, and too few tasks.

    python figures/evaluation.py

Writes figures/evaluation-light.svg and figures/evaluation-dark.svg.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minicoder.evaluation.intervals import wilson
from minicoder.evaluation.pass_at_k import pass_at_k
from minicoder.evaluation.results import REPORTED, reported
from minicoder.show.style import save_svg

FIGURES = Path(__file__).parent
P, K, SAMPLES = 0.05, 10, (10, 15, 20, 30, 50, 75, 100, 150, 200)
TRUTH = 1 - (1 - P) ** K
MODEL = "DeepSeek-Coder-V2-Instruct"
TASKS = {  # name: table, column, number of tasks (facts of the benchmarks)
    "AIME 2024": ("mathematics", "AIME 2024 (of 30)", 30),
    "Aider": ("repair", "Aider", 133),
    "HumanEval": ("code", "Python", 164),
    "Defects4J": ("repair", "Defects4J", 238),
    "SWE-bench Lite": ("repair", "SWE-bench Lite", 300),
    "USACO": ("contests", "USACO", 307),
    "CRUXEval-O": ("understanding", "CRUXEval-O-COT", 800)}


def naive(n: int, c: int, k: int) -> float:
    """pass@k as if samples were put back."""
    return 1 - (1 - c / n) ** k


def average(formula: Callable[[int, int, int], float], n: int) -> float:
    """What a formula gives on average over the number of right samples."""
    return sum(math.comb(n, c) * P**c * (1 - P) ** (n - c) * formula(n, c, K)
               for c in range(n + 1))


def intervals() -> dict[str, dict[str, float]]:
    """Wilson's interval of each score, from the count that its share stands for."""
    found = {}
    for name, (table, column, tasks) in TASKS.items():
        value = float(reported()[table].column(column)[MODEL])
        solved = value if column.endswith("(of 30)") else value / 100 * tasks
        found[name] = wilson(round(solved), tasks)
    return found


LOW = [average(naive, n) for n in SAMPLES]
COUNTED = [average(pass_at_k, n) for n in SAMPLES]
SPANS = intervals()
FINDING = (f"Few samples: the naive pass@{K} reads {100 * LOW[0]:.0f} % where "
           f"{100 * TRUTH:.0f} are true. Few tasks: 4 of AIME's 30 may be "
           f"{100 * SPANS['AIME 2024']['low']:.0f} % or "
           f"{100 * SPANS['AIME 2024']['high']:.0f} %")
ALT = (
    f"Two panels. Left: mean of two estimates of pass@{K}, where each sample is right "
    f"with chance {P}, for {SAMPLES[0]} to {SAMPLES[-1]} samples. Counting gives "
    f"{100 * TRUTH:.1f} % throughout; 1 - (1 - c/n)^k rises to it from below, from "
    f"{100 * LOW[0]:.1f} at {SAMPLES[0]} to {100 * LOW[-1]:.1f} at {SAMPLES[-1]}. "
    f"Right: scores of {MODEL}, {REPORTED}, with 95 % intervals computed from the "
    "number of tasks: " + "; ".join(
        f"{name} {100 * one['value']:.1f} ({100 * one['low']:.1f} to "
        f"{100 * one['high']:.1f}) of {one['n']}" for name, one in SPANS.items()) + ".")


def draw_formulas(axes: Axes, colours: dict[str, str]) -> None:
    """Both formulas against the number of samples."""
    for values, ink, name, shift in ((COUNTED, "good", "counted: the truth", (0, 8)),
                                     (LOW, "bad", "naive", (24, -12))):
        axes.plot(SAMPLES, [100 * v for v in values], "o-", color=colours[ink],
                  markersize=3.5)
        axes.annotate(name, (50, 100 * values[4]), shift, color=colours[ink],
                      textcoords="offset points", fontweight="bold", ha="center")
    axes.set(xscale="log", xticks=(10, 20, 50, 100, 200), ylim=(27, 43),
             xlabel="samples of each task", ylabel=f"mean estimate of pass@{K}, %")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()


def draw_intervals(axes: Axes, colours: dict[str, str]) -> None:
    """A score and its interval on each line, few tasks on top."""
    for place, one in enumerate(SPANS.values()):
        low, value, high = (100 * one[key] for key in ("low", "value", "high"))
        axes.plot([low, high], [-place] * 2, color=colours["after"], linewidth=3,
                  alpha=0.55, solid_capstyle="butt")
        axes.plot(value, -place, "o", color=colours["after"], markersize=5)
        axes.text(high + 2, -place, f"{low:.0f} to {high:.0f}", va="center",
                  color=colours["muted"], fontsize=9)
    axes.set(yticks=[-place for place in range(len(SPANS))], xlim=(0, 112),
             yticklabels=[f"{name}, {one['n']} tasks" for name, one in SPANS.items()],
             xlabel=f"score of {MODEL} in %,\n{REPORTED}; bars: 95 % intervals, ours")
    axes.grid(axis="y", visible=False)


def draw(colours: dict[str, str]) -> Figure:
    """The formulas left, the intervals right."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.0),
                                         width_ratios=(1, 1.2))
    draw_formulas(left, colours)
    draw_intervals(right, colours)
    figure.suptitle(FINDING.replace("true. ", "true.\n"), x=0.01, ha="left",
                    fontsize=12, fontweight="bold")
    return figure


def main() -> None:
    """Draw both modes."""
    for path in save_svg(draw, FIGURES / "evaluation", ALT):
        print(path.name)


if __name__ == "__main__":
    main()
