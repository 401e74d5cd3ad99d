"""How many times faster than transformers the model is, from the results of the race.

    python figures/speed.py [--results benchmarks/results/speed-cpu.json]

Writes figures/speed-light.svg and figures/speed-dark.svg.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import tyro
from matplotlib.figure import Figure

from minicoder.show.style import save_svg
from minicoder.stages import read_json

ROOT = Path(__file__).parents[1]
PARTS = ("prefill", "decode", "training")


def main(results: Path = ROOT / "benchmarks/results/speed-cpu.json") -> None:
    """Draw both modes."""
    found = read_json(results)
    rows = [row for part in PARTS for row in found["parts"][part]
            if row["peer"].startswith("transformers")]
    best, least = (pick(rows, key=lambda row: row["ratio"]) for pick in (max, min))
    finding = (f"{least['ratio']:.2f} to {best['ratio']:.1f} times as fast as "
               "transformers; the longer the context, the more")

    def draw(colours: dict[str, str]) -> Figure:
        figure, axes = plt.subplots(figsize=(7.4, 0.32 * len(rows) + 1.2))
        for place, row in enumerate(rows):
            ahead = row["ratio"] >= 1
            axes.barh(place, row["ratio"] - 1, left=1, height=0.62,
                      color=colours["after" if ahead else "before"])
            axes.annotate(f"{row['ratio']:.2f}", (row["ratio"], place), va="center",
                          ha="left" if ahead else "right", fontsize=9,
                          xytext=(4 if ahead else -4, 0), textcoords="offset points")
        axes.axvline(1, color=colours["ink"], linewidth=1)
        axes.set(xscale="log", xlim=(0.7, 2 * best["ratio"]), ylim=(len(rows), -1),
                 xlabel="times the speed of transformers, same weights (logarithmic)",
                 yticks=range(len(rows)), yticklabels=[row["what"] for row in rows])
        axes.set_xticks([1, 2, 5, 10], ["1", "2", "5", "10"])
        axes.minorticks_off()
        axes.grid(axis="y", visible=False)
        figure.suptitle(finding, x=0.01, ha="left", fontsize=12, fontweight="bold")
        return figure

    alt = finding + ". " + "; ".join(
        f"{row['what']}: {row['ratio']:.2f}" for row in rows) + "."
    for path in save_svg(draw, ROOT / "figures" / "speed", alt):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    tyro.cli(main)
