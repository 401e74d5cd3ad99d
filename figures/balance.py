"""Which experts are busy, with and without balance losses: a map of loads.

    python figures/balance.py [--results benchmarks/results/balance.json]

Writes figures/balance-light.svg and figures/balance-dark.svg.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import matplotlib.pyplot as plt
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minicoder.show.style import label_lines, save_svg
from minicoder.stages import read_json

ROOT = Path(__file__).parents[1]
INKS = {"no loss": ("bad", ":"), "experts": ("before", "--"),
        "all three": ("good", "-")}     # the runs, by the losses that they had
WINDOW = 10     # steps of the running mean
SEED, LAYER, FULL = "0", -1, 3.0    # what the map shows, and the load of full colour


def busiest(found: dict, way: str, place: str) -> float:
    """The busiest over its fair share, mean over layers and seeds."""
    return fmean(max(layer) for seed in found["seeds"].values()
                 for layer in seed[way]["loads"][place])


def finding(found: dict) -> str:
    """The sentence to remember, with the price in the language loss."""
    before, after = (busiest(found, way, "devices") for way in ("no loss", "all three"))
    price = fmean(seed["all three"]["loss"] - seed["no loss"]["loss"]
                  for seed in found["seeds"].values())
    return (f"Three balance losses take the busiest device from {before:.1f} to "
            f"{after:.1f} times its share;\nthe language loss moves by {price:+.2f} "
            "nats").replace("-", "−")


def load_map(axes: Axes, found: dict, colours: dict[str, str]) -> None:
    """Loads of the last layer's experts; gaps part the devices."""
    each = len(found["seeds"][SEED]["no loss"]["loads"]["experts"][LAYER]
               ) // found["devices"]
    middle: dict[int, list[float]] = {}
    for y, way in enumerate(INKS):
        loads = found["seeds"][SEED][way]["loads"]["experts"][LAYER]
        for e, load in enumerate(loads):
            x = e + 0.35 * (e // each)
            middle.setdefault(e // each, []).append(x)
            for ink, alpha in (("panel", 1.0), ("after", 0.45 * min(1, load / FULL))):
                axes.add_patch(Rectangle((x - 0.47, y - 0.44), 0.94, 0.88, linewidth=0,
                                         color=colours[ink], alpha=alpha))
            axes.text(x, y, f"{load:.1f}", ha="center", va="center", fontsize=9,
                      color=colours["ink"])
    axes.set(xlim=(-0.6, x + 0.6), ylim=(len(INKS) - 0.5, -0.5),
             xticks=[fmean(xs) for xs in middle.values()], yticks=range(len(INKS)),
             xlabel=f"device, with {each} experts each")
    axes.set_xticklabels(middle)
    axes.set_yticklabels(INKS)
    axes.set_title("load of each expert over its fair share, last layer, seed "
                   f"{SEED}", fontsize=10.5)
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)


def over_time(axes: Axes, found: dict, colours: dict[str, str]) -> None:
    """The busiest expert, step by step, mean over seeds and layers."""
    for way, (ink, dash) in INKS.items():
        runs = [seed[way]["busiest"] for seed in found["seeds"].values()]
        values = [fmean(step) for step in zip(*runs, strict=True)]
        axes.plot(range(WINDOW - 1, len(values)), [
            fmean(values[i:i + WINDOW]) for i in range(len(values) - WINDOW + 1)],
            dash, color=colours[ink], label=way)
    axes.set(xlabel=f"step (mean of {WINDOW})", ylim=(1, None))
    axes.set_title("busiest expert over fair share", fontsize=10.5)


def by_place(axes: Axes, found: dict, colours: dict[str, str]) -> None:
    """The busiest expert, device and wire after training."""
    places = ("experts", "devices", "wires")
    for shift, (way, (ink, _)) in zip((-0.27, 0, 0.27), INKS.items(), strict=True):
        for x, place in enumerate(places):
            value = busiest(found, way, place)
            axes.bar(x + shift, value - 1, 0.25, bottom=1, color=colours[ink])
            axes.text(x + shift, value + 0.03, f"{value:.1f}", ha="center", fontsize=9,
                      color=colours[ink])
    axes.set(xticks=range(len(places)), ylim=(1, None),
             xlabel=f"bars from left: {', '.join(INKS)}")
    axes.set_xticklabels(places)
    axes.set_title("busiest of each, after training", fontsize=10.5)
    axes.grid(axis="x", visible=False)


def main(results: Path = ROOT / "benchmarks/results/balance.json") -> None:
    """Draw both modes."""
    found = read_json(results)

    def draw(colours: dict[str, str]) -> Figure:
        figure, panels = plt.subplot_mosaic([["map", "map"], ["time", "place"]],
                                            figsize=(9.2, 5.8), height_ratios=(1, 1.3))
        load_map(panels["map"], found, colours)
        over_time(panels["time"], found, colours)
        by_place(panels["place"], found, colours)
        figure.suptitle(finding(found), x=0.01, ha="left", fontsize=12,
                        fontweight="bold")
        label_lines(panels["time"], gap=0.1)
        return figure

    told = "; ".join(
        f"{way}: " + ", ".join(f"{place} {busiest(found, way, place):.1f}"
                               for place in ("experts", "devices", "wires"))
        for way in INKS)
    alt = (f"{finding(found)}. Top: a map of the loads of the last layer's experts on "
           f"{found['devices']} devices, a row for each run. Below: the busiest expert "
           "over the steps, and the busiest expert, device and wire after training, "
           f"over their fair shares, means of {len(found['seeds'])} seeds. {told}.")
    for path in save_svg(draw, ROOT / "figures" / "balance", alt.replace("\n", " ")):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    tyro.cli(main)
