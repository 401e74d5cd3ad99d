"""Fill in the middle: what is read before the middle is written, in three orders.

    python figures/fim.py

Writes figures/fim-light.svg and figures/fim-dark.svg.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from minicoder.show.style import save_svg

FIGURES = Path(__file__).parent
FINDING = "Move the middle to the end, and it sees both sides"
ALT = (
    "Three rows of blocks, read from left to right. As written: prefix, middle, "
    "suffix; the middle sees the prefix alone. PSM, which DeepSeek trains: begin, "
    "prefix, hole, suffix, end, middle, EOS; the middle sees prefix and suffix. SPM: "
    "begin, hole, suffix, end, prefix, middle, EOS; the middle sees both too, and "
    "follows the prefix directly.")
CODE = {"prefix": "def area(a, b):", "middle": "key = a * b", "suffix": "return key"}
INK = {"prefix": "code", "middle": "grpo", "suffix": "sft"}
WIDTH = {"prefix": 20.0, "middle": 16.0, "suffix": 15.0}
ROWS = (
    ("as written", ("prefix", "middle", "suffix", "EOS"), "sees the prefix alone"),
    ("PSM", ("begin", "prefix", "hole", "suffix", "end", "middle", "EOS"),
     "sees prefix and suffix"),
    ("SPM", ("begin", "hole", "suffix", "end", "prefix", "middle", "EOS"),
     "sees both, and follows the prefix"))


def block(axes: Axes, colours: dict[str, str], x: float, y: float, name: str) -> float:
    """One piece or special token at x; returns where it ends."""
    piece = name in CODE
    width, ink = WIDTH.get(name, 6.6), colours[INK.get(name, "muted")]
    axes.add_patch(FancyBboxPatch(
        (x, y), width, 6, boxstyle="round,pad=0,rounding_size=0.8", linewidth=1.3,
        facecolor=ink if name == "middle" else colours["panel"], edgecolor=ink))
    axes.text(x + width / 2, y + 3, CODE.get(name, name), ha="center", va="center",
              color=colours["paper"] if name == "middle" else ink,
              fontsize=9,
              family="monospace" if piece else "sans-serif")
    return x + width


def draw(colours: dict[str, str]) -> Figure:
    """The three orders, one below the other."""
    figure, axes = plt.subplots(figsize=(9.2, 4.0))
    axes.set(xlim=(0, 97), ylim=(0, 51))
    axes.axis("off")
    for row, (title, names, sees) in enumerate(ROWS):
        x, y, known = 12.0, 38.0 - 17.5 * row, []
        axes.text(0, y + 3, title, va="center", fontweight="bold", fontsize=10.5)
        for name in names:
            end = block(axes, colours, x, y, name)
            if name == "middle":
                target = (x + end) / 2
                for start in known:     # each piece that was read before
                    axes.annotate("", (target, y + 6.4), (start, y + 6.4), arrowprops={
                        "arrowstyle": "-|>", "color": colours["grpo"],
                        "linewidth": 1.2, "connectionstyle":
                            f"arc3,rad={-5 / (target - start)}"})
                axes.text(target, y - 2.6, sees, ha="center", va="center", fontsize=9,
                          color=colours["grpo"])
            elif name in CODE:
                known.append((x + end) / 2)
            x = end + 1.2
    figure.suptitle(FINDING, x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.supxlabel("read from left to right; small boxes are special tokens",
                     fontsize=9, color=colours["muted"])
    return figure


def main() -> None:
    """Draw both modes."""
    for path in save_svg(draw, FIGURES / "fim", ALT):
        print(path)


if __name__ == "__main__":
    main()
