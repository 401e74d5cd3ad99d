"""What GRPO does to a model that knows the answers already: it stops guessing.

    python figures/sharpen.py [--results benchmarks/results/grpo.json]

Writes figures/sharpen-light.svg and figures/sharpen-dark.svg.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minicoder.show.style import save_svg
from minicoder.stages import read_json

ROOT = Path(__file__).parents[1]
WINDOW = 8      # rounds of the running mean
DASHES = ("-", "--", "-.")


def finding(runs: dict[str, dict]) -> str:
    """The sentence to remember: points gained by sampling and by the greedy answer."""
    gains = {kind: sorted(round(100 * (run["after"][kind]["value"]
                                       - run["before"][kind]["value"]))
                          for run in runs.values()) for kind in ("sampled", "greedy")}
    low, high = gains["greedy"][0], gains["greedy"][-1]
    return (f"GRPO sharpens: sampled answers gain {gains['sampled'][0]} to "
            f"{gains['sampled'][-1]} points, greedy ones {low:+d} to "
            f"{high:+d}").replace("-", "−")


def curve(axes: Axes, runs: dict[str, dict], key: str, ink: str, percent: bool
          ) -> None:
    """Each round thin, and the mean of the last rounds, a line style for each seed."""
    for dash, (seed, run) in zip(DASHES, runs.items(), strict=True):
        values = [100 * v if percent else v for v in run[key]]
        mean = [sum(part) / len(part) for part in (
            values[max(0, i + 1 - WINDOW):i + 1] for i in range(len(values)))]
        axes.plot(values, color=ink, alpha=0.16, linewidth=0.8)
        axes.plot(mean, dash, color=ink, linewidth=1.8, label=f"seed {seed}")
    axes.set(xlabel=f"round (lines: mean of {WINDOW})", ylim=(0, None))


def ends(axes: Axes, runs: dict[str, dict], colours: dict[str, str]) -> None:
    """Held-out scores before and after: sampled filled, greedy hollow."""
    for kind, ink, mark, fill in (("greedy", "before", "D", False),
                                  ("sampled", "grpo", "o", True)):
        for run in runs.values():
            values = [100 * run[when][kind]["value"] for when in ("before", "after")]
            axes.plot((0, 1), values, marker=mark, color=colours[ink], linewidth=1.2,
                      markersize=6, markerfacecolor=None if fill else "none")
    axes.text(0.42, 99.5, "greedy", color=colours["before"], fontweight="bold",
              ha="center")
    axes.text(0.5, 58, "sampled", color=colours["grpo"], fontweight="bold")
    axes.set(xlim=(-0.25, 1.25), ylim=(0, 107), xticks=(0, 1))
    axes.set_xticklabels(("before", "after"))
    axes.grid(axis="x", visible=False)


def main(results: Path = ROOT / "benchmarks/results/grpo.json") -> None:
    """Draw both modes."""
    runs = {seed: found["long"] for seed, found in read_json(results)["learn"].items()}

    def draw(colours: dict[str, str]) -> Figure:
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9.6, 3.7),
                                                     width_ratios=(1.2, 1.2, 0.9))
        curve(left, runs, "pass", colours["grpo"], percent=True)
        left.set_ylim(0, 107)
        left.legend(loc="lower right", fontsize=9, labelcolor=colours["muted"])
        curve(middle, runs, "entropy", colours["grpo"], percent=False)
        ends(right, runs, colours)
        for axes, head in zip((left, middle, right), (
                "samples that pass, %", "entropy of a token, nats",
                "held-out pass@1, %"), strict=True):
            axes.set_title(head, fontsize=10.5)
        figure.suptitle(finding(runs), x=0.01, ha="left", fontsize=12,
                        fontweight="bold")
        return figure

    told = "; ".join(
        f"seed {seed}: sampled {100 * run['before']['sampled']['value']:.0f} to "
        f"{100 * run['after']['sampled']['value']:.0f}, greedy "
        f"{100 * run['before']['greedy']['value']:.0f} to "
        f"{100 * run['after']['greedy']['value']:.0f}, entropy "
        f"{run['entropy'][0]:.2f} to {run['entropy'][-1]:.2f}"
        for seed, run in runs.items())
    rounds = len(next(iter(runs.values()))["pass"])
    alt = (f"{finding(runs)}. Three panels: the share of sampled programs that pass "
           f"and the entropy of a token over {rounds} rounds, and held-out pass@1 in "
           f"per cent before and after. {told}.")
    for path in save_svg(draw, ROOT / "figures" / "sharpen", alt):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    tyro.cli(main)
