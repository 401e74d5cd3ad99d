"""How often few tests are wrong, and what the paper's two reward signals taught.

    python figures/feedback.py

Left: bugs of generated tasks, run here on all tests. Right: figure 3 of
DeepSeek-Coder-V2 (arXiv 2406.11931), read off the plot, so approximate.
Writes figures/feedback-light.svg and figures/feedback-dark.svg.
"""

from __future__ import annotations

from math import comb
from pathlib import Path
from statistics import fmean

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from minicoder.show.style import save_svg
from minicoder.tasks.families import FAMILIES, sample_tasks
from minicoder.tasks.grammar import outcome

FIGURES = Path(__file__).parent
COUNTS, TASKS = (1, 2, 3, 4, 5), 200
INKS = {"lists": "code", "strings": "math", "dicts": "text"}
MARKS = {"lists": "o", "strings": "D", "dicts": "s"}
PAPER = {  # set: (fine-tuned, raw (low, high, last), reward model (low, high, last))
    "LeetCode": (0.140, (0.117, 0.164, 0.141), (0.164, 0.227, 0.203)),
    "LeetCode-zh": (0.100, (0.086, 0.133, 0.110), (0.117, 0.172, 0.141))}


def lies(family: str) -> list[float]:
    """Chance in per cent that a wrong program passes k tests drawn at random."""
    failing = [(len(task.cases), sum(
        outcome(bug, case.arguments[0]) != case.expected for case in task.cases))
        for task in sample_tasks(family, TASKS, "train", seed=0)
        for bug in FAMILIES[family].bugs(task)]
    return [100 * fmean(comb(n - bad, k) / comb(n, k) for n, bad in failing)
            for k in COUNTS]


LIES = {family: lies(family) for family in INKS}
LOW, HIGH = (pick(line[0] for line in LIES.values()) for pick in (min, max))
FINDING = (f"One test passes {LOW:.0f} to {HIGH:.0f} % of wrong programs; "
           "in the paper\na model of such verdicts teaches more than they do")
ALT = (
    "Two panels. Left: share of wrong programs that pass one to five tests drawn at "
    "random from a task's own 5 to 8, for three families of generated tasks: "
    + "; ".join(f"{name} {', '.join(f'{x:.0f}' for x in line)} %"
                for name, line in LIES.items())
    + ". Right: the paper's figure 3, read off approximately, pass@1 during "
    "reinforcement learning. " + "; ".join(
        f"{name}: fine-tuned {start:.3f}" + "".join(
            f", {word} {low:.3f} to {high:.3f}, last {last:.3f}"
            for word, (low, high, last) in (("raw compiler signal", raw),
                                            ("reward model", model)))
        for name, (start, raw, model) in PAPER.items()) + ".")


def draw(colours: dict[str, str]) -> Figure:
    """The lies of few tests beside the paper's two signals."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.9))
    for name, line in LIES.items():
        left.plot(COUNTS, line, f"{MARKS[name]}-", color=colours[INKS[name]],
                  markersize=5)
    for y, name in zip((53, 49, 45), ("dicts", "lists", "strings"), strict=True):
        left.plot(1.55, y + 1, MARKS[name], color=colours[INKS[name]], markersize=5)
        left.text(1.7, y, name, color=colours[INKS[name]], fontweight="bold")
    left.set(xlim=(0.8, 5.1), ylim=(0, 60), xticks=COUNTS, xlabel="tests shown",
             ylabel="wrong programs that pass, %")
    for row, (start, raw, model) in enumerate(PAPER.values()):
        for shift, (low, high, last), ink, word in (
                (0.15, raw, "grpo", "raw signal"), (-0.15, model, "sft",
                                                    "reward model")):
            y = 1 - row + shift
            right.plot((low, high), (y, y), color=colours[ink], linewidth=5,
                       solid_capstyle="butt", alpha=0.45)
            right.plot(last, y, "o", color=colours[ink])
            right.annotate(word, (high, y), xytext=(6, 0), textcoords="offset points",
                           va="center", color=colours[ink], fontweight="bold")
        right.plot((start, start), (0.65 - row, 1.35 - row), "--",
                   color=colours["muted"], linewidth=1)
        right.text(start, 1.4 - row, "fine-tuned", ha="center", fontsize=9,
                   color=colours["muted"])
    right.set(yticks=(1, 0), yticklabels=PAPER, ylim=(-0.5, 1.6), xlim=(0.07, 0.32),
              xlabel="pass@1 over 50 to 600 steps (range, dot: last)")
    right.grid(axis="y", visible=False)
    figure.suptitle(FINDING, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def main() -> None:
    """Draw both modes."""
    for path in save_svg(draw, FIGURES / "feedback", ALT):
        print(path)


if __name__ == "__main__":
    main()
