"""The corpus of DeepSeek-Coder-V2: where its tokens come from, how often each is seen.

    python figures/corpus.py

Writes figures/corpus-light.svg and figures/corpus-dark.svg. Heights are in proportion
to tokens; the numbers are those of `minicoder.data.mixture`.
"""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minicoder.data.mixture import CODE, SHARES, TRAINED, UNIQUE, passes
from minicoder.show.style import save_svg

FIGURES = Path(__file__).parent
SEEN = passes(UNIQUE, TRAINED, {kind: SHARES[kind] for kind in UNIQUE})
FINDING = (f"{UNIQUE['code']:,}B tokens of code are seen {SEEN['code']:.1f} times, "
           f"{UNIQUE['math']}B of mathematics {SEEN['math']:.1f} times")
ORIGINS = {"code in 338 languages": "GitHub: filters, near-duplicates",
           "code-related text": "Markdown, issues",
           "high-quality GitHub code": "GitHub: 2 rounds of recall",
           "web pages about code": "web: 3 rounds of recall"}
LEFT, RIGHT, WIDE = 5.0, 9.0, 0.55      # where the two columns stand
GAP, UNKNOWN = 330, 420                 # between kinds; height of what has no number
NAMES = {"code": "code", "math": "mathematics", "text": "natural language"}
ALT = (
    "Left, unique tokens. Code: " + "; ".join(
        f"{CODE[part]} billion {part} ({origin})" for part, origin in ORIGINS.items())
    + f"; together {UNIQUE['code']:,} billion. Mathematics: {UNIQUE['math']} billion "
    "from the web by three rounds of recall. Natural language: from DeepSeek-V2's "
    f"corpus, its size is not printed. Right, the {TRAINED:,} billion tokens of "
    "training, if the shares are shares of them: " + ", ".join(
        f"{share:.0%} or {share * TRAINED:,.0f} billion of {NAMES[kind]}"
        for kind, share in SHARES.items()) + ".")


def column(heights: list[float], middle: float, gap: float = GAP
           ) -> list[tuple[float, float]]:
    """(bottom, top) of blocks that stand on one another, the first one highest."""
    top = middle + (sum(heights) + gap * (len(heights) - 1)) / 2
    tops = [top - below - i * gap
            for i, below in enumerate(accumulate([0, *heights[:-1]]))]
    return [(t - height, t) for t, height in zip(tops, heights, strict=True)]


def ribbon(axes: Axes, left: tuple[float, float], right: tuple[float, float],
           ink: str) -> None:
    """A band from a block on the left to one on the right."""
    x = np.linspace(0, 1, 60)
    ease = x * x * (3 - 2 * x)
    low, high = (a + (b - a) * ease for a, b in zip(left, right, strict=True))
    axes.fill_between(LEFT + WIDE + x * (RIGHT - LEFT - WIDE), low, high, color=ink,
                      alpha=0.22, linewidth=0)


def code_parts(axes: Axes, block: tuple[float, float], colours: dict[str, str]) -> None:
    """The four parts of the code, told apart by lines, each with its origin."""
    bottom = block[1]
    for (part, origin), y in zip(
            ORIGINS.items(), np.linspace(block[1] - 60, block[0] - 560, 4),
            strict=True):
        bottom -= CODE[part]
        middle = bottom + CODE[part] / 2
        axes.plot([LEFT, LEFT + WIDE], [bottom] * 2, color=colours["paper"],
                  linewidth=1.2)
        axes.plot([LEFT - 0.55, LEFT - 0.06], [y, middle], color=colours["code"],
                  linewidth=0.8)
        axes.text(LEFT - 0.65, y, f"{CODE[part]}B {part}", ha="right", fontsize=9.5,
                  color=colours["code"], va="bottom", fontweight="bold")
        axes.text(LEFT - 0.65, y - 20, origin, ha="right", fontsize=8.5, va="top",
                  color=colours["muted"])


def draw(colours: dict[str, str]) -> Figure:
    """Unique tokens at the left, drawn tokens at the right."""
    figure, axes = plt.subplots(figsize=(8.6, 4.9))
    kinds = list(SHARES)
    unique = column([UNIQUE.get(kind, UNKNOWN) for kind in kinds], 3000, 1150)
    drawn = column([SHARES[kind] * TRAINED for kind in kinds], 3000)
    for kind, left, right in zip(kinds, unique, drawn, strict=True):
        ink, known = colours[kind], kind in UNIQUE
        ribbon(axes, left, right, ink)
        axes.bar(LEFT, left[1] - left[0], WIDE, left[0], align="edge", linewidth=1.2,
                 color=ink if known else "none", edgecolor=ink,
                 linestyle="-" if known else "--")
        axes.bar(RIGHT, right[1] - right[0], WIDE, right[0], align="edge", color=ink)
        axes.text(RIGHT + WIDE + 0.15, sum(right) / 2, f"{SHARES[kind]:.0%}\n"
                  f"{SHARES[kind] * TRAINED:,.0f}B\n{NAMES[kind]}", color=ink,
                  va="center", fontweight="bold", fontsize=9.5)
        said = f"× {SEEN[kind]:.1f}" if known else "× ?"
        axes.text((LEFT + WIDE + RIGHT) / 2, (sum(left) + sum(right)) / 4, said,
                  color=ink, ha="center", va="center", fontsize=12, fontweight="bold")
    code_parts(axes, unique[0], colours)
    for y, first, second, kind in (
            (sum(unique[1]) / 2, f"{UNIQUE['math']}B mathematics",
             "web: 3 rounds of recall", "math"),
            (sum(unique[2]) / 2, "natural language", "from DeepSeek-V2's corpus, size "
             "not printed", "text")):
        axes.text(LEFT - 0.65, y, first, ha="right", va="bottom", fontsize=9.5,
                  color=colours[kind], fontweight="bold")
        axes.text(LEFT - 0.65, y - 20, second, ha="right", va="top", fontsize=8.5,
                  color=colours["muted"])
    axes.text(LEFT + WIDE / 2, unique[0][1] + 130, f"unique\n{UNIQUE['code']:,}B code",
              ha="center", color=colours["ink"], fontsize=9)
    axes.text(RIGHT + WIDE / 2, drawn[0][1] + 130, f"trained on\n{TRAINED:,}B",
              ha="center", color=colours["ink"], fontsize=9)
    axes.text(LEFT + WIDE, drawn[2][0] - 60, "assumed: 60/10/30 are shares of the "
              "6,000B", fontsize=8.5, color=colours["muted"], va="top")
    axes.set(xlim=(0.6, 11.4), ylim=(drawn[2][0] - 320, drawn[0][1] + 700),
             title=FINDING)
    axes.axis("off")
    return figure


def main() -> None:
    """Draw both modes."""
    for path in save_svg(draw, FIGURES / "corpus", ALT):
        print(path)


if __name__ == "__main__":
    main()
