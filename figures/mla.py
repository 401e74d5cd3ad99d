"""Multi-head latent attention: what is cached, what is computed, what moves.

    python figures/mla.py

Writes figures/mla-light.svg and figures/mla-dark.svg.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from minicoder.show.style import save_svg

FIGURES = Path(__file__).parent
FINDING = "MLA caches a latent, not the heads; to decode, two matrices change place"
ALT = (
    "Two diagrams of multi-head latent attention, left expanded, right absorbed. In "
    "both, a token's hidden state h leaves two things in the cache, shared by all "
    "heads: the latent c^KV with 512 numbers and one rotary key k^R with 64. Expanded: "
    "W^UK and W^UV make a key and a value of 128 numbers for each head from each "
    "latent. Absorbed: W^UK is applied to the query instead, which grows from 128 to "
    "512 numbers, the heads read the cache itself, and W^UV comes after the weighted "
    "sum of latents.")
EARLIER, NOW = 38.0, 10.0  # where the two columns stand


@dataclass(frozen=True)
class Pen:
    """Draws boxes and arrows in one panel of 50 by 72 units."""

    axes: Axes
    colours: dict[str, str]

    def card(self, x: float, y: float, width: float, face: str, edge: str,
             height: float = 6.0) -> None:
        """One rounded rectangle around (x, y)."""
        self.axes.add_patch(FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, linewidth=1.2,
            boxstyle="round,pad=0,rounding_size=1", facecolor=self.colours[face],
            edgecolor=self.colours[edge]))

    def box(self, x: float, y: float, width: float, text: str, kind: str = "one",
            height: float = 6.0) -> None:
        """`kind`: one (a thing), heads (one a head: stacked), cached or moved."""
        face, edge, ink = {
            "one": ("panel", "muted", "ink"), "heads": ("panel", "muted", "ink"),
            "cached": ("after", "after", "paper"),
            "moved": ("paper", "grpo", "grpo")}[kind]
        for back in (1.4, 0.7) if kind in ("heads", "moved") else ():
            self.card(x + back, y + back, width, face, edge, height)
        self.card(x, y, width, face, edge, height)
        self.axes.text(x, y, text, ha="center", va="center", fontsize=9.5,
                       color=self.colours[ink], linespacing=1.25)

    def arrow(self, start: tuple[float, float], end: tuple[float, float],
              label: str = "", side: float = 1.0) -> None:
        """An arrow upward, its matrix written beside it (side 1: right, -1: left)."""
        self.axes.annotate("", end, start, arrowprops={
            "arrowstyle": "-|>", "color": self.colours["muted"], "linewidth": 1.2,
            "shrinkA": 0, "shrinkB": 0})
        x, y = (start[0] + end[0]) / 2 + side * 0.9, (start[1] + end[1]) / 2
        self.axes.text(x, y, label, color=self.colours["muted"], fontsize=9,
                       va="center", ha="left" if side > 0 else "right")


def both(pen: Pen, title: str) -> None:
    """What the two ways have in common: inputs, queries, the cache."""
    pen.axes.set(xlim=(-1, 51), ylim=(0, 72))
    pen.axes.axis("off")
    pen.axes.set_title(title, fontsize=10, color=pen.colours["muted"], pad=0)
    pen.box(NOW, 3, 18, "$h_t$, this token", height=5)
    pen.box(EARLIER, 3, 25, "$h_s$, each token up to $t$", height=5)
    pen.arrow((4.5, 5.5), (4.5, 15), "$W^{DQ}$, norm\n$W^{QR}$, RoPE")
    pen.arrow((16, 5.5), (16, 15), "$W^{DQ}$, norm\n$W^{UQ}$")
    pen.arrow((32, 5.5), (32, 15), "$W^{DKV}$\nnorm", side=-1)
    pen.arrow((46, 5.5), (46, 15), "$W^{KR}$\nRoPE", side=-1)
    pen.box(4.5, 18, 9, "$q^R_i$\n64", "heads")
    pen.box(16, 18, 9, "$q^C_i$\n128", "heads")
    pen.box(32, 18, 14, "latent $c^{KV}$\n512", "cached")
    pen.box(46, 18, 8, "$k^R$\n64", "cached")
    pen.arrow((4.5, 22.5), (4.5, 46))
    pen.arrow((46, 21), (46, 46))


def expanded(pen: Pen) -> None:
    """Keys and values of each head are made from the latent."""
    both(pen, "expanded: training, reading a prompt")
    pen.arrow((16, 22.5), (16, 46))
    for x, matrix, result in ((27.3, "UK", "$k^C_i$\n128"), (37, "UV", "$v_i$\n128")):
        pen.arrow((x, 21), (x, 25.5))
        pen.box(x, 28, 7.4, f"$W^{{{matrix}}}_i$", "moved", height=5)
        pen.arrow((x, 32), (x, 35))
        pen.box(x, 38, 7.4, result, "heads")
        pen.arrow((x, 42.5), (x, 46))
    pen.box(25, 50, 48, r"softmax$\,(\,($"
            r"$q^C_i \cdot k^C_i + q^R_i \cdot k^R)\cdot$scale$\,)$" "\n"
            r"$\rightarrow$ weighted sum of the values $v_i$", "heads", height=8)
    pen.arrow((25, 55.5), (25, 70), "$W^O$, all heads together")


def absorbed(pen: Pen) -> None:
    """The query comes into the latent space and the sum leaves it."""
    both(pen, "absorbed: writing one token after the other")
    pen.arrow((16, 22.5), (16, 25.5))
    pen.box(16, 28, 9, "$(W^{UK}_i)^\\top$", "moved", height=5)
    pen.arrow((16, 32), (16, 35))
    pen.box(16, 38, 9, "$\\tilde q_i$\n512", "heads")
    pen.arrow((16, 42.5), (16, 46))
    pen.arrow((32, 21), (32, 46), "read as keys\nand as values")
    pen.box(25, 50, 48, r"softmax$\,(\,(\tilde q_i \cdot c^{KV} + q^R_i \cdot k^R)"
            r"\cdot$scale$\,)$" "\n"
            r"$\rightarrow$ weighted sum of the latents $c^{KV}$", "heads", height=8)
    pen.arrow((25, 55.5), (25, 58.5))
    pen.box(25, 61, 9, "$W^{UV}_i$", "moved", height=5)
    pen.arrow((25, 65), (25, 70), "$W^O$, all heads together")


def draw(colours: dict[str, str]) -> Figure:
    """Both panels and the legend below them."""
    figure, panels = plt.subplots(1, 2, figsize=(9.2, 6.2))
    for axes, way in zip(panels, (expanded, absorbed), strict=True):
        way(Pen(axes, colours))
    figure.suptitle(FINDING, x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.supxlabel(
        "filled: cached, one for all heads    grey stacks: one for each head $i$, not "
        "cached    orange: matrices that move", fontsize=9, color=colours["muted"])
    return figure


def main() -> None:
    """Draw both modes."""
    for path in save_svg(draw, FIGURES / "mla", ALT):
        print(path)


if __name__ == "__main__":
    main()
