"""What a group teaches: advantages by the share that passes, and the chance of any.

    python figures/grpo.py

Writes figures/grpo-light.svg and figures/grpo-dark.svg.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from minicoder.alignment.objectives import advantages
from minicoder.show.style import save_svg

FIGURES = Path(__file__).parent
GROUP = 16
PASSED = range(1, GROUP)
REWARDS = torch.tensor([[1.0] * k + [0.0] * (GROUP - k) for k in PASSED])
PUSHES = {spread: advantages(REWARDS, spread)[:, [0, -1]] for spread in (True, False)}
SIZES = {4: "--", 16: "-", 64: "-."}
FINDING = "A rare success counts most, and a group that agrees teaches nothing"


def chance(p: torch.Tensor, group: int) -> torch.Tensor:
    """That `group` answers, each right with chance p, do not all agree."""
    return 1 - p ** group - (1 - p) ** group


ALT = (
    f"Two panels. Left: the advantage of a right and of a wrong answer in a group of "
    f"{GROUP}, over how many of them pass. With GRPO a lone right answer gets "
    f"{PUSHES[True][0, 0]:+.2f} and the others {PUSHES[True][0, 1]:+.2f}; with half of "
    f"them right it is +1 and -1; a lone wrong one gets {PUSHES[True][-1, 1]:+.2f}. "
    f"With Dr. GRPO, which does not divide by the deviation, both stay between -1 and "
    f"1. Right: the chance that a group holds a right and a wrong answer, over the "
    f"chance of one answer, for groups of 4, 16 and 64. It is 0 at both ends; where "
    f"one answer in a hundred is right it is {chance(torch.tensor(0.01), 4):.2f}, "
    f"{chance(torch.tensor(0.01), 16):.2f} and {chance(torch.tensor(0.01), 64):.2f}.")


def draw(colours: dict[str, str]) -> Figure:
    """Advantages left, chances right."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.7))
    for column, ink in ((0, "good"), (1, "bad")):
        left.plot(PASSED, PUSHES[True][:, column], "o-", color=colours[ink],
                  markersize=3.5)
        left.plot(PASSED, PUSHES[False][:, column], "--", color=colours[ink],
                  linewidth=1.2)
    for x, y, text, ink in ((2.2, 2.75, "right", "good"), (10.5, -3.3, "wrong", "bad"),
                            (4.2, 0.18, "Dr. GRPO", "muted")):
        left.text(x, y, text, color=colours[ink], fontweight="bold", fontsize=9.5)
    left.axhline(0, color=colours["muted"], linewidth=0.8)
    left.set(xlabel=f"of {GROUP} answers pass", ylabel="advantage",
             xticks=(1, 4, 8, 12, 15))
    p = torch.cat((torch.zeros(1), torch.logspace(-3, -0.0001, 200)))
    p = torch.cat((p[p <= 0.5], 1 - p[p <= 0.5].flip(0)))
    for size, dash in SIZES.items():
        right.plot(p, chance(p, size), dash, color=colours["grpo"])
    for x, y, text in ((0.2, 0.5, "4"), (0.155, 0.86, "16"), (0.07, 1.03, "64")):
        right.text(x, y, text, color=colours["grpo"], fontweight="bold", fontsize=9.5)
    right.set(xlabel="chance that one answer is right", ylim=(0, 1.12),
              ylabel="chance that the group teaches")
    right.text(0.5, 0.08, "size of the group", color=colours["grpo"], ha="center",
               fontsize=9.5)
    figure.suptitle(FINDING, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def main() -> None:
    """Draw both modes."""
    for path in save_svg(draw, FIGURES / "grpo", ALT):
        print(path)


if __name__ == "__main__":
    main()
