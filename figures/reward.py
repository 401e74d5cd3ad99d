"""Our figure 3: GRPO with the raw verdict, with a reward model and with all tests.

    python figures/reward.py [--results benchmarks/results/reward.json]

The paper's own curves, read off, are in figures/feedback.py. Writes
figures/reward-light.svg and figures/reward-dark.svg.
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
REWARDS = {"all": ("all tests", "good", "-", "s"),
           "visible": ("raw verdict", "grpo", "--", "o"),
           "model": ("reward model", "sft", "-.", "D")}


def curves(found: dict, reward: str, key: str) -> tuple[list[int], list[list[float]]]:
    """Steps, and the values in per cent of each seed."""
    runs = [seed["study"]["runs"][reward] for seed in found["seeds"]]
    return [point["step"] for point in runs[0]], [
        [100 * point[key] for point in run] for run in runs]


def means(found: dict, reward: str, key: str) -> list[float]:
    """Over the seeds, in per cent."""
    return [fmean(points) for points in zip(*curves(found, reward, key)[1],
                                            strict=True)]


def finding(found: dict) -> str:
    """The sentence to remember, with its two numbers."""
    gain = {reward: round(line[-1] - line[0]) for reward in REWARDS
            for line in [means(found, reward, "pass@1")]}
    word = "worse" if gain["model"] < gain["visible"] else "better"
    return (f"In our small setting a reward model teaches {word} than the raw "
            f"verdict:\n{gain['model']:+d} against {gain['visible']:+d} points of true "
            f"pass@1, and {gain['all']:+d} from all tests").replace("-", "−")


def panel(axes: Axes, found: dict, key: str, colours: dict[str, str]) -> None:
    """A line for each reward, the seeds as small marks."""
    for reward, (name, colour, dash, mark) in REWARDS.items():
        steps, runs = curves(found, reward, key)
        axes.plot(steps, means(found, reward, key), dash, color=colours[colour],
                  label=name)
        for run in runs:
            axes.plot(steps, run, mark, color=colours[colour], markersize=4,
                      alpha=0.55)
    axes.set(xticks=steps, xlim=(-1.5, steps[-1] + 1.5), xlabel="GRPO step",
             ylim=(10, 90))


def main(results: Path = ROOT / "benchmarks/results/reward.json") -> None:
    """Draw both modes."""
    found = read_json(results)
    heads = {"pass@1": "what is true: held-out pass@1, all tests, %",
             "reward": "what it was told: its own reward, %"}

    def draw(colours: dict[str, str]) -> Figure:
        figure, row = plt.subplots(1, 2, figsize=(9.2, 4.1), sharey=True)
        for axes, (key, head) in zip(row, heads.items(), strict=True):
            panel(axes, found, key, colours)
            axes.set_title(head, fontsize=10.5)
        figure.suptitle(finding(found), x=0.01, ha="left", fontsize=12,
                        fontweight="bold")
        for axes in row:
            label_lines(axes, gap=0.08)
        return figure

    told = "; ".join(
        f"{name}: true " + " to ".join(
            f"{value:.0f}" for value in means(found, reward, "pass@1"))
        + ", own reward " + " to ".join(
            f"{value:.0f}" for value in means(found, reward, "reward"))
        for reward, (name, *_) in REWARDS.items())
    steps = ", ".join(map(str, curves(found, "all", "pass@1")[0]))
    alt = (f"{finding(found)}. Two panels of lines over steps {steps} of GRPO, means "
           f"of {len(found['seeds'])} seeds with the seeds as marks. Left true pass@1, "
           f"right each run's own reward, in per cent. {told}.")
    for path in save_svg(draw, ROOT / "figures" / "reward", alt.replace("\n", " ")):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    tyro.cli(main)
