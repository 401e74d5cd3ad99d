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

from minicoder.evaluation.intervals import wilson
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
    """The sentence to remember, at the longest length and without training.

    Ways whose share of needles cannot be told from the best one's all still see (their
    95 % intervals overlap); the one of them with the fewest bits per byte reads best.
    """
    seen, cost = ({way: of(found, way, "before")[-1] for way in WAYS}
                  for of in (needles, bits))
    asked = len(found["seeds"]) * len(found["depths"]) * found["trials"]
    interval = {way: wilson(round(seen[way] * asked / 100), asked) for way in WAYS}
    low = interval[max(WAYS, key=seen.__getitem__)]["low"]
    see = [way for way in WAYS if interval[way]["high"] >= low]
    best = WAYS[min(see, key=cost.__getitem__)][0]
    names = " and ".join(WAYS[way][0] for way in see)
    each = "; ".join(f"{name} {seen[way]:.0f} %, {cost[way]:.2f}"
                     for way, (name, _, _) in WAYS.items())
    return (f"{found['lengths'][-1] // found['window']} times its window, "
            f"untrained: {names} still see, and {best} reads best\n"
            f"needles, bits per byte: {each}")


def panel(axes: Axes, found: dict, when: str, what: str, colours: dict[str, str]
          ) -> None:
    """One measure at one moment: a line per way, the trained window marked."""
    places = found["lengths"] if what == "needle" else found["edges"][1:]
    for way, (name, colour, dash) in WAYS.items():
        values = (needles if what == "needle" else bits)(found, way, when)
        axes.plot(places, values, dash, color=colours[colour], label=name,
                  marker="o", markersize=3)
    axes.axvline(found["window"], color=colours["muted"], linewidth=1, dashes=(4, 3))
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{place:,}" for place in places])
    axes.minorticks_off()
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
                label_lines(place, gap=0.09)    # now that places are final
                place.text(found["window"] * 1.07, 0.03, "longer than trained →",
                           transform=place.get_xaxis_transform(), fontsize=9,
                           color=colours["muted"])
        figure.suptitle(finding(found), x=0.01, ha="left", fontsize=12,
                        fontweight="bold")
        return figure

    told = "; ".join(
        f"{WAYS[way][0]} {phrase} finds "
        + ", ".join(f"{value:.0f} % at {length:,}" for length, value in zip(
            found["lengths"], needles(found, way, when), strict=True))
        for way in WAYS for when, phrase in MOMENTS.items())
    alt = (f"{': '.join(finding(found).splitlines())}. The model was trained on "
           f"{found['window']} tokens. Needles by length in tokens: {told}. "
           "Below, bits per byte by position.")
    for path in save_svg(draw, ROOT / "figures" / "context", alt):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    tyro.cli(main)
