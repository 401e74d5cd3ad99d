"""The README's picture: what one run of `make demo` learnt.

    python figures/demo.py [--run runs/demo]

Reads the run's own files and writes figures/demo-light.svg and figures/demo-dark.svg.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minicoder.show.style import save_svg
from minicoder.stages import read_json, read_jsonl

FIGURES = Path(__file__).parent
NAMES = {"base": "base", "sft": "after SFT", "grpo": "after GRPO"}


def scores(axes: Axes, rows: list[dict], colours: dict[str, str]) -> None:
    """Sampled and greedy pass@1 of each model, with intervals."""
    for place, row in enumerate(rows):
        for shift, key, fill in ((-0.2, "pass@1", True), (0.2, "greedy", False)):
            value = row[key]
            colour = colours[row["name"]]
            axes.bar(place + shift, 100 * value["value"], 0.36, edgecolor=colour,
                     color=colour if fill else "none", linewidth=1.5)
            axes.errorbar(
                place + shift, 100 * value["value"], color=colours["ink"], capsize=2,
                linewidth=1, yerr=[[100 * (value["value"] - value["low"])],
                                   [100 * (value["high"] - value["value"])]])
            axes.annotate(f"{100 * value['value']:.0f}",
                          (place + shift, 100 * value["high"]), ha="center",
                          xytext=(0, 3), textcoords="offset points", fontsize=9)
    axes.set_xticks(range(len(rows)), [NAMES[row["name"]] for row in rows])
    axes.set_ylim(0, 112)
    axes.set_yticks(range(0, 101, 25))
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("held-out tasks solved, %")
    axes.set_title("filled: sampled, outlined: greedy", fontsize=9.5, fontweight=400,
                   color=colours["muted"])


def curve(axes: Axes, metrics: list[dict], colours: dict[str, str]) -> None:
    """Share of sampled programs that pass, step by step of GRPO."""
    steps, passed = [m["step"] for m in metrics], [100 * m["pass"] for m in metrics]
    mean = [sum(passed[max(0, i - 4):i + 1]) / len(passed[max(0, i - 4):i + 1])
            for i in range(len(passed))]
    axes.plot(steps, passed, color=colours["grpo"], alpha=0.3, linewidth=1)
    axes.plot(steps, mean, color=colours["grpo"])
    axes.set_ylim(0, 112)
    axes.set_yticks(range(0, 101, 25))
    axes.set_xlabel("GRPO step")
    axes.set_title("sampled programs that pass their tests, %", fontsize=9.5,
                   fontweight=400, color=colours["muted"])


def main(run: Path = Path("runs/demo")) -> None:
    """Draw both modes."""
    rows = read_json(run / "evaluate" / "scores.json")["rows"]
    metrics = read_jsonl(run / "grpo" / "metrics.jsonl")
    shares = {row["name"]: 100 * row["pass@1"]["value"] for row in rows}
    finding = (f"{shares['base']:.0f} % of sampled programs are right, "
               f"{shares['sft']:.0f} % after SFT, {shares['grpo']:.0f} % after GRPO")

    def draw(colours: dict[str, str]) -> Figure:
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.4), width_ratios=(
            1, 1.1))
        scores(left, rows, colours)
        curve(right, metrics, colours)
        figure.suptitle(finding, x=0.01, ha="left", fontsize=12, fontweight="bold")
        return figure

    alt = (f"{finding}. Left: pass@1 on held-out tasks with 95 % intervals, sampled "
           "and greedy. Right: the share of sampled programs that pass, over the steps "
           "of GRPO.")
    for path in save_svg(draw, FIGURES / "demo", alt):
        print(path)


if __name__ == "__main__":
    tyro.cli(main)
