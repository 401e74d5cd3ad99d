"""What the authors report, and what is measured here: side by side, not on one axis.

    python figures/results.py [--scores benchmarks/results/learning.json]

Writes figures/results-light.svg and figures/results-dark.svg.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minicoder.evaluation.results import OURS, REPORTED, reported
from minicoder.show.style import save_svg
from minicoder.stages import read_json

ROOT = Path(__file__).parents[1]
NAMES = {"base": "base", "sft": "after SFT", "grpo": "after GRPO"}


def authors() -> dict[str, str]:
    """HumanEval of every model of table 3, the lowest first, as printed."""
    column = reported()["code"].column("Python")
    return {name: str(column[name]) for name in sorted(column, key=column.__getitem__)}


def ours(found: dict) -> dict[str, list[float]]:
    """Greedy pass@1 in per cent and its interval, of scores.json or a study's seed."""
    rows = next(iter(found["seeds"].values())) if "seeds" in found else found
    return {row["name"]: [100 * row["greedy"][key] for key in ("value", "low", "high")]
            for row in rows["rows"]}


def draw_authors(axes: Axes, column: dict[str, str], colours: dict[str, str]) -> None:
    """A bar for each model, the paper's own marked."""
    for place, (name, value) in enumerate(column.items()):
        own = name.startswith("DeepSeek-Coder-V2")
        axes.barh(place, float(value), 0.64,
                  color=colours["after" if own else "before"])
        axes.text(float(value) - 1, place, value, ha="right", va="center",
                  color=colours["paper"], fontsize=8.5)
    axes.set(yticks=range(len(column)), yticklabels=column, xlim=(0, 100),
             xlabel="HumanEval, greedy pass@1 in %")
    axes.set_title(REPORTED, fontsize=10.5)
    axes.grid(axis="y", visible=False)


def draw_ours(axes: Axes, rows: dict[str, list[float]], colours: dict[str, str]
              ) -> None:
    """A bar for the toy model after each stage, with its interval."""
    for place, (name, (value, low, high)) in enumerate(rows.items()):
        axes.barh(-place, value, 0.5, color=colours.get(name, colours["after"]))
        axes.plot([low, high], [-place] * 2, color=colours["ink"], linewidth=1.2)
        axes.text(high + 2, -place, f"{value:.0f}", va="center", fontsize=9)
    axes.set(yticks=[-place for place in range(len(rows))], xlim=(0, 100),
             yticklabels=[NAMES.get(name, name) for name in rows],
             xlabel="tasks about lists, greedy pass@1 in %\n"
                    "(lines: 95 % intervals)")
    axes.set_title(OURS.replace(", other", ",\nother"), fontsize=10.5)
    axes.grid(axis="y", visible=False)


def main(scores: Path = ROOT / "benchmarks/results/learning.json") -> None:
    """Draw both modes."""
    column, rows = authors(), ours(read_json(scores))

    def draw(colours: dict[str, str]) -> Figure:
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.2),
                                             width_ratios=(1.3, 1))
        draw_authors(left, column, colours)
        draw_ours(right, rows, colours)
        figure.suptitle("Two measurements, two kinds of tasks: bars left and right "
                        "cannot be compared", x=0.01, ha="left", fontsize=12,
                        fontweight="bold")
        return figure

    theirs = "; ".join(f"{name} {column[name]}" for name in reversed(column))
    own = "; ".join(f"{NAMES.get(name, name)} {value:.0f} ({low:.0f} to {high:.0f})"
                    for name, (value, low, high) in rows.items())
    alt = (f"Left, {REPORTED}, HumanEval in per cent: {theirs}. Right, {OURS}, "
           f"held-out tasks about lists in per cent: {own}.")
    for path in save_svg(draw, ROOT / "figures" / "results", alt):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    tyro.cli(main)
