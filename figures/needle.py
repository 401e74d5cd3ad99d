"""A needle in a haystack by length and depth, before and after extension.

    python figures/needle.py [--results benchmarks/results/context.json]

Figure 2 of DeepSeek-Coder-V2, of our small model: its window is 128 tokens, and YaRN
stretches it by 32. Writes figures/needle-light.svg and figures/needle-dark.svg.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import matplotlib.pyplot as plt
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minicoder.show.style import save_svg
from minicoder.stages import read_json

ROOT = Path(__file__).parents[1]
PANELS = {"as it was trained": ("none", "before"),
          "stretched by YaRN, untrained": ("yarn", "before"),
          "YaRN and a little training": ("yarn", "after")}
Grid = list[list[float]]


def shares(found: dict, way: str, when: str) -> Grid:
    """Per cent found, a row for each depth: the mean over seeds."""
    grids = [seed[way][when]["needle"] for seed in found["seeds"].values()]
    return [[100 * fmean(cell) for cell in zip(*rows, strict=True)]
            for rows in zip(*grids, strict=True)]


def finding(found: dict, grids: dict[str, Grid]) -> str:
    """The sentence to remember: needles at the longest length."""
    bare, untrained, _ = (fmean(row[-1] for row in grid) for grid in grids.values())
    return (f"At {found['lengths'][-1] // found['window']} times its window a model "
            f"finds {bare:.0f} % of needles, and {untrained:.0f} % once YaRN "
            "stretches it")


def panel(axes: Axes, found: dict, grid: Grid, colours: dict[str, str]) -> None:
    """Tinted cells with their numbers, as `style`'s tests keep readable."""
    for y, row in enumerate(grid):
        for x, share in enumerate(row):
            for ink, alpha in (("panel", 1.0), ("after", 0.45 * share / 100)):
                axes.add_patch(Rectangle((x - 0.47, y - 0.46), 0.94, 0.92, linewidth=0,
                                         color=colours[ink], alpha=alpha))
            axes.text(x, y, f"{share:.0f}", ha="center", va="center", fontsize=9.5,
                      color=colours["ink"])
    inside = sum(length <= found["window"] for length in found["lengths"])
    axes.axvline(inside - 0.5, color=colours["ink"], linewidth=1.4, linestyle="--")
    axes.text(inside - 0.4, -0.62, "longer than trained →", fontsize=9,
              color=colours["muted"], va="bottom")
    axes.set(xlim=(-0.5, len(found["lengths"]) - 0.5), ylim=(len(grid) - 0.5, -1.15),
             xticks=range(len(found["lengths"])), yticks=range(len(grid)))
    axes.set_xticklabels([f"{length:,}" for length in found["lengths"]], fontsize=8.5)
    axes.set_yticklabels([f"{depth:.0%}" for depth in found["depths"]])
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)


def main(results: Path = ROOT / "benchmarks/results/context.json") -> None:
    """Draw both modes."""
    found = read_json(results)
    grids = {title: shares(found, *key) for title, key in PANELS.items()}

    def draw(colours: dict[str, str]) -> Figure:
        figure, row = plt.subplots(1, 3, figsize=(9.6, 3.7), sharey=True)
        for axes, (title, grid) in zip(row, grids.items(), strict=True):
            panel(axes, found, grid, colours)
            axes.set_title(title, fontsize=10.5, pad=4)
        row[0].set_ylabel("depth of the needle")
        row[1].set_xlabel("length in tokens (in a cell: % found of "
                          f"{found['trials'] * len(found['seeds'])} needles)")
        figure.suptitle(finding(found, grids), x=0.01, ha="left", fontsize=12,
                        fontweight="bold")
        return figure

    told = "; ".join(
        f"{title}, " + ", ".join(
            f"{length:,}: {fmean(row[i] for row in grid):.0f} %"
            for i, length in enumerate(found["lengths"]))
        for title, grid in grids.items())
    alt = (f"{finding(found, grids)}. Three heat maps of the share of needles found, "
           f"by depth of the needle and length of the text. The window in training was "
           f"{found['window']} tokens. Means over the {len(found['depths'])} depths by "
           f"length: {told}.")
    for path in save_svg(draw, ROOT / "figures" / "needle", alt):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    tyro.cli(main)
