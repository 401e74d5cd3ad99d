"""Four ways to read 16 times further: needles found, and bits per byte by position.

    python figures/context.py [--results benchmarks/results/context.json]

Writes figures/context-light.svg and figures/context-dark.svg.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import matplotlib.pyplot as plt
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minicoder.show.style import label_lines, save_svg
from minicoder.stages import read_json

ROOT = Path(__file__).parents[1]
WAYS = {"yarn": ("YaRN", "after", "-"), "linear": ("linear", "sft", "--"),
        "ntk": ("NTK", "grpo", "-."), "none": ("none", "before", ":")}
MOMENTS = {"before": "stretched, not trained", "after": "after the same training"}


def needles(found: dict, way: str, when: str) -> list[float]:
    """Share found by length, over depths and seeds, in per cent."""
    grids = [seed[way][when]["needle"] for seed in found["seeds"].values()]
    return [100 * fmean(row[column] for grid in grids for row in grid)
            for column in range(len(found["lengths"]))]


def bits(found: dict, way: str, when: str) -> list[float]:
    """Bits per byte by bucket of positions, over seeds."""
    runs = [seed[way][when]["bits"] for seed in found["seeds"].values()]
    return [fmean(column) for column in zip(*runs, strict=True)]


def finding(found: dict) -> str:
    """The sentence to remember: both measures at the longest length, untrained."""
    seen, cost = ({way: of(found, way, "before")[-1] for way in WAYS}
                  for of in (needles, bits))
    most, least = max(WAYS, key=seen.__getitem__), min(WAYS, key=cost.__getitem__)
    times = found["lengths"][-1] // found["window"]
    best = (f"{WAYS[most][0]} sees furthest and reads best" if most == least else
            f"{WAYS[most][0]} sees furthest, {WAYS[least][0]} reads best")
    each = "; ".join(f"{name} {seen[way]:.0f} %, {cost[way]:.2f} bits"
                     for way, (name, _, _) in WAYS.items())
    return f"{best} at {times} times the window, untrained\n{each} per byte"


def panel(axes: Axes, found: dict, when: str, what: str, colours: dict[str, str]
          ) -> None:
    """One measure at one moment: a line per way, the trained window marked."""
    places = found["lengths"] if what == "needle" else found["edges"][1:]
    for way, (name, colour, dash) in WAYS.items():
        values = (needles if what == "needle" else bits)(found, way, when)
        axes.plot(places, values, dash, color=colours[colour], label=name,
                  marker="o", markersize=3)
    axes.axvline(found["window"], color=colours["rule"], linewidth=1.2)
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{place:,}" for place in places])
    axes.minorticks_off()
    label_lines(axes, gap=0.09)
    head = "needles found, %" if what == "needle" else "bits per byte at a position"
    axes.set_title(f"{head}: {MOMENTS[when]}", fontsize=10)
    if what == "needle":
        axes.set_ylim(-3, 105)
        axes.set_xlabel("length in tokens")
    else:
        axes.set_xlabel("position, up to so many tokens")


def main(results: Path = ROOT / "benchmarks/results/context.json") -> None:
    """Draw both modes."""
    found = read_json(results)

    def draw(colours: dict[str, str]) -> Figure:
        figure, axes = plt.subplots(2, 2, figsize=(9.2, 6.2))
        for row, what in zip(axes, ("needle", "bits"), strict=True):
            for place, when in zip(row, MOMENTS, strict=True):
                panel(place, found, when, what, colours)
            low, high = (pick(place.get_ylim()[end] for place in row)
                         for end, pick in ((0, min), (1, max)))
            for place in row:
                place.set_ylim(low, high)
        figure.suptitle(finding(found), x=0.01, ha="left", fontsize=12,
                        fontweight="bold")
        return figure

    told = "; ".join(
        f"{WAYS[way][0]} {phrase} finds "
        + ", ".join(f"{value:.0f} % at {length:,}" for length, value in zip(
            found["lengths"], needles(found, way, when), strict=True))
        for way in WAYS for when, phrase in MOMENTS.items())
    alt = (f"{finding(found).replace(chr(10), ': ')}. The model was trained on {found['window']} tokens. "
           f"Needles by length in tokens: {told}. Below, bits per byte by position.")
    for path in save_svg(draw, ROOT / "figures" / "context", alt):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    tyro.cli(main)
