"""What the new corpus gains at matched tokens, by language, and what else is compared.

    python figures/ablation.py [--results benchmarks/results/ablation.json]

Writes figures/ablation-light.svg and figures/ablation-dark.svg.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import matplotlib.pyplot as plt
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minicoder.show.style import save_svg
from minicoder.stages import read_json

ROOT = Path(__file__).parents[1]
SHORT = ("matched, 1×", "matched, 2×", "unmatched,\nnew 2× − old 1×",
         "tokens alone,\nold corpus", "tokens alone,\nnew corpus")  # in GAINS' order

MARKS = {True: "s", False: "o"}     # whether a language is in both corpora


def matched(found: dict) -> dict[str, list[float]]:
    """New 1× minus old 1× in bits per byte: of each language, seed by seed."""
    def bits(corpus: str, seed: int, language: str) -> float:
        run = next(r for r in found["runs"] if (
            r["corpus"], r["times"], r["seed"]) == (corpus, 1, seed))
        pairs = [(b, one["bytes"]) for b, one in zip(
            run["bits"], found["exam"], strict=True) if one["language"] == language]
        return sum(b for b, _ in pairs) / sum(size for _, size in pairs)

    gains = {language: [bits("new", seed, language) - bits("old", seed, language)
                        for seed in found["settings"]["seeds"]]
             for language in found["groups"]["all"]}
    return dict(sorted(gains.items(), key=lambda item: fmean(item[1])))


def finding(found: dict) -> str:
    """The sentence to remember, whichever way it came out; all seeds must agree."""
    gains, groups = matched(found), found["groups"]
    better = [name for name in groups["added"] if max(gains[name]) < 0]
    worse = [name for name in groups["both"] if min(gains[name]) > 0]
    return (f"Equal tokens, every seed: the new corpus is better at {len(better)} of "
            f"{len(groups['added'])} languages that only it has,\nand worse at "
            f"{len(worse)} of the {len(groups['both'])} that both have"
            + (f": {' and '.join(worse)}" if worse else ""))


def by_language(axes: Axes, found: dict, colours: dict[str, str]) -> None:
    """A row for each language: the mean, and the seeds behind it."""
    gains = matched(found)
    for place, (language, values) in enumerate(gains.items()):
        ink = colours["before" if language in found["groups"]["both"] else "after"]
        axes.barh(place, fmean(values), height=0.62, color=ink, alpha=0.55)
        axes.plot(values, [place] * len(values), color=ink, markersize=3.5,
                  marker=MARKS[language in found["groups"]["both"]], linestyle="none")
    axes.axvline(0, color=colours["ink"], linewidth=1)
    axes.set(yticks=range(len(gains)), yticklabels=gains, ylim=(len(gains), -1),
             xlabel="bits per byte, new 1× − old 1×\n(left of 0: the new corpus is "
                    "better; marks: seeds)")
    for label, language in zip(axes.get_yticklabels(), gains, strict=True):
        label.set_color(colours[
            "before" if language in found["groups"]["both"] else "after"])
    axes.grid(axis="y", visible=False)


def by_comparison(axes: Axes, found: dict, colours: dict[str, str]) -> None:
    """The five comparisons, for languages of both corpora and for added ones."""
    for place, row in enumerate(found["gains"].values()):
        for shift, group, ink in ((-0.16, "both", "before"), (0.16, "added", "after")):
            value = row[group]
            axes.plot([value["low"], value["high"]], [place + shift] * 2, linewidth=2,
                      color=colours[ink])
            axes.plot(value["value"], place + shift, MARKS[group == "both"],
                      color=colours[ink], markersize=5)
    axes.axvline(0, color=colours["ink"], linewidth=1)
    axes.set(yticks=range(len(SHORT)), yticklabels=SHORT, ylim=(len(SHORT) - 0.4, -0.6),
             xlabel="bits per byte, mean over languages\n(95 % intervals over "
                    f"{len(found['settings']['seeds'])} seeds)")
    for x, text, ink in ((0.0, "■ languages of both", "before"),
                         (0.53, "● only in the new", "after")):
        axes.text(x, 1.01, text, color=colours[ink], transform=axes.transAxes,
                  fontsize=9.5, fontweight="bold", va="bottom")
    axes.grid(axis="y", visible=False)


def main(results: Path = ROOT / "benchmarks/results/ablation.json") -> None:
    """Draw both modes."""
    found = read_json(results)

    def draw(colours: dict[str, str]) -> Figure:
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.9),
                                             width_ratios=(1, 1.05))
        by_language(left, found, colours)
        by_comparison(right, found, colours)
        figure.suptitle(finding(found), x=0.01, ha="left", fontsize=12,
                        fontweight="bold")
        return figure

    rows = "; ".join(f"{name} {fmean(values):+.2f}"
                     for name, values in matched(found).items())
    gains = "; ".join(
        f"{name}: {row['both']['value']:+.2f} for languages of both corpora, "
        f"{row['added']['value']:+.2f} for those only in the new"
        for name, row in found["gains"].items())
    alt = (f"{finding(found)}. Left, bits per byte of the new corpus minus the old at "
           f"1×: {rows}. Right, means over languages with intervals: {gains}.")
    for path in save_svg(draw, ROOT / "figures" / "ablation", alt.replace("\n", " ")):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    tyro.cli(main)
