"""Multi-head latent attention of the 236B: what is cached, made from it, and moved.

    python figures/mla.py

Writes figures/mla-light.svg and figures/mla-dark.svg. Matrices have the names and the
shapes of the released checkpoint; the shapes are read off the library's own layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from minicoder.config import PRESETS
from minicoder.model.mla import MLA
from minicoder.show.style import save_svg

FIGURES = Path(__file__).parent
C = PRESETS["full_236b"]
HEADS, LATENT, ROTARY = C.num_attention_heads, C.kv_lora_rank, C.qk_rope_head_dim
NOPE, VALUE, CACHED = C.qk_nope_head_dim, C.v_head_dim, C.cache_width
EXPANDED = C.qk_head_dim + VALUE            # multiply-adds for a query, key and head
ABSORBED = CACHED + LATENT
with torch.device("meta"):
    SHAPES = {name.removesuffix(".weight"): tuple(weight.shape)
              for name, weight in MLA(C).named_parameters()}
FINDING = "MLA caches a latent, not the heads; to decode, two matrices change place"
ALT = (
    "Three diagrams of multi-head latent attention with the 236B's matrices. Top: the "
    f"hidden state h of a token, {C.hidden_size:,} numbers, becomes the queries of "
    f"{HEADS} heads through q_a_proj, q_a_layernorm and q_b_proj, {NOPE} numbers of "
    f"content and {ROTARY} rotary ones each. kv_a_proj_with_mqa makes what is cached, "
    f"once for all heads: a normalised latent c^KV of {LATENT} and a rotary key k^R of "
    f"{ROTARY}. Bottom left, expanded: the two halves of kv_b_proj, "
    f"W^UK and W^UV, make a key and a value of {NOPE} for each head from each latent; "
    f"{EXPANDED} multiply-adds for a query, key and head. Bottom right, absorbed: W^UK "
    f"is applied to the query, which grows from {NOPE} to {LATENT} numbers, the heads "
    "read the cache itself, and W^UV comes after the weighted sum of latents; "
    f"{ABSORBED:,} multiply-adds, and no keys or values are made.")


@dataclass(frozen=True)
class Pen:
    """Draws boxes and arrows in one panel."""

    axes: Axes
    colours: dict[str, str]

    def box(self, x: float, y: float, width: float, text: str, kind: str = "thing",
            height: float = 6.0) -> None:
        """Centred at (x, y). `kind`: thing, heads (one a head: stacked), cached,
        matrix (of the checkpoint), moved (a matrix of each head)."""
        face, edge, ink = {
            "thing": ("panel", "muted", "ink"), "heads": ("panel", "muted", "ink"),
            "cached": ("after", "after", "paper"), "matrix": ("paper", "sft", "sft"),
            "moved": ("paper", "grpo", "grpo")}[kind]
        for back in (1, 0.5, 0) if kind in ("heads", "moved") else (0,):
            self.axes.add_patch(FancyBboxPatch(
                (x - width / 2 + back, y - height / 2 + back), width, height,
                boxstyle="round,pad=0,rounding_size=0.8", linewidth=1.2,
                facecolor=self.colours[face], edgecolor=self.colours[edge]))
        self.axes.text(x, y, text, ha="center", va="center", fontsize=9.5,
                       color=self.colours[ink], linespacing=1.3)

    def arrow(self, *points: tuple[float, float]) -> None:
        """A line through the points with a head at its end."""
        ink = self.colours["muted"]
        for start, end in zip(points[:-2], points[1:-1], strict=True):
            self.axes.plot(*zip(start, end, strict=True), color=ink, linewidth=1.2)
        self.axes.annotate("", points[-1], points[-2], arrowprops={
            "arrowstyle": "-|>", "color": ink, "linewidth": 1.2, "shrinkA": 0,
            "shrinkB": 0})

    def note(self, x: float, y: float, text: str, ink: str = "muted", **more) -> None:
        """Small words."""
        self.axes.text(x, y, text, color=self.colours[ink], va="center",
                       **({"fontsize": 9, "ha": "center", "linespacing": 1.3} | more))

    def matrix(self, x: float, y: float, width: float, name: str, symbol: str) -> None:
        """A matrix of the checkpoint: its name, the paper's symbol and its shape."""
        rows, columns = SHAPES[name]
        self.box(x, y, width, "", "matrix", 7)
        self.note(x, y + 1.6, name, "sft", family="monospace")
        self.note(x, y - 1.7, f"{symbol}   ({rows:,} × {columns:,})", "sft")


def project(pen: Pen) -> None:
    """What a token's hidden state becomes: queries, and a row of the cache."""
    pen.axes.set(xlim=(0, 100), ylim=(0, 27))
    pen.box(5, 13.5, 9, f"$h_t$\n{C.hidden_size:,}", height=8)
    pen.note(0.5, 25.5, "1  both ways: from a token to its queries and its row of the "
             "cache", ha="left", fontweight="bold", fontsize=10)
    for y, to in ((20, 12), (6, 12)):
        pen.arrow((5, 17.5 if y > 13 else 9.5), (5, y), (to, y))
    pen.matrix(22.5, 20, 21, "q_a_proj", "$W^{DQ}$")
    pen.arrow((33, 20), (36, 20))
    pen.box(42.5, 20, 13, "q_a_layernorm", height=5)
    pen.arrow((49, 20), (52, 20))
    pen.matrix(63, 20, 22, "q_b_proj", "$W^{UQ}, W^{QR}$")
    pen.matrix(24.5, 6, 25, "kv_a_proj_with_mqa", "$W^{DKV}, W^{KR}$")
    pen.box(52, 9, 14, "kv_a_layernorm", height=4.5)
    for start, y, end in ((74, 22.3, 87.5), (37, 9, 45), (59, 9, 66)):
        pen.arrow((start, y), (end, y))
    pen.arrow((74, 17), (77, 17))
    pen.box(80, 17, 6, "RoPE", height=4)
    pen.arrow((83, 17), (87.5, 17))
    pen.arrow((37, 3), (49, 3))
    pen.box(52, 3, 6, "RoPE", height=4)
    pen.arrow((55, 3), (90.5, 3))
    pen.box(92.5, 22.4, 10, f"$q^C_i$  {NOPE}", "heads", 3.8)
    pen.box(92.5, 16.4, 10, f"$q^R_i$  {ROTARY}", "heads", 3.8)
    pen.box(82.3, 9, 32.6, f"latent $c^{{KV}}$  {LATENT}", "cached", 4.5)
    pen.box(94.6, 3, 8, f"$k^R$  {ROTARY}", "cached", 4.5)
    pen.note(73.2, 5.2, f"cached for a token and layer: {CACHED} numbers", "after",
             fontweight="bold")


def inputs(pen: Pen, title: str) -> None:
    """The head of a lower panel: what comes from above."""
    pen.axes.set(xlim=(0, 50), ylim=(0, 46))
    pen.note(0.5, 44.5, title, ha="left", fontweight="bold", fontsize=10)
    pen.box(5.5, 38, 8.5, f"$q^C_i$  {NOPE}", "heads", 4.4)
    pen.box(45, 38, 8.5, f"$k^R$  {ROTARY}", "cached", 4.4)
    pen.box(16.5, 38, 8.5, f"$q^R_i$  {ROTARY}", "heads", 4.4)
    pen.box(31, 38, 16.5, f"latents $c^{{KV}}$  {LATENT}", "cached", 4.4)
    pen.arrow((16.5, 35.8), (16.5, 18.5))
    pen.arrow((45, 35.8), (45, 18.5))


def finish(pen: Pen, cost: int) -> None:
    """All heads' outputs side by side go through o_proj."""
    pen.matrix(24.5, 4.8, 22, "o_proj", "$W^O$")
    pen.note(36.4, 4.8, f"{cost:,} multiply-adds\nfor a query, a key\nand a head",
             ha="left")


def expanded(pen: Pen) -> None:
    """Keys and values of each head are made from the latents."""
    inputs(pen, "2  expanded: to train, to read a prompt")
    pen.arrow((5.5, 35.8), (5.5, 18.5))
    for x, matrix, result, size in ((26.5, "UK", "$k^C_i$", NOPE),
                                    (35, "UV", "$v_i$", VALUE)):
        pen.arrow((x, 35.8), (x, 33.6))
        pen.box(x, 30.6, 6.6, f"$W^{{{matrix}}}_i$", "moved", 4.4)
        pen.arrow((x, 28.4), (x, 26.2))
        pen.box(x, 23.2, 6.6, f"{result}  {size}", "heads", 4.4)
        pen.arrow((x, 21), (x, 18.5))
    pen.box(24.5, 14.3, 47, r"softmax$\,(\,(q^C_i \cdot k^C_i + q^R_i \cdot k^R)\cdot$"
            r"scale$\,)$" "\n" r"$\rightarrow$ weighted sum of the values $v_i$",
            "heads", 8)
    pen.arrow((25, 10.2), (25, 8.4))
    finish(pen, EXPANDED)


def absorbed(pen: Pen) -> None:
    """The query comes into the latent space and the sum leaves it."""
    inputs(pen, "3  absorbed: to write one token after the other")
    pen.arrow((5.5, 35.8), (5.5, 33.6))
    pen.box(5.5, 30.6, 8.5, "$(W^{UK}_i)^\\top$", "moved", 4.4)
    pen.arrow((5.5, 28.4), (5.5, 26.2))
    pen.box(5.5, 23.2, 8.5, f"$\\tilde q_i$  {LATENT}", "heads", 4.4)
    pen.arrow((5.5, 21), (5.5, 18.5))
    pen.arrow((31, 35.8), (31, 18.5))
    pen.note(32, 27, "read as they\nare, as keys\nand as values\nof all heads",
             ha="left")
    pen.box(24.5, 14.3, 47, r"softmax$\,(\,(\tilde q_i \cdot c^{KV} + q^R_i \cdot k^R)"
            r"\cdot$scale$\,)$" "\n"
            r"$\rightarrow$ weighted sum of the latents $c^{KV}$", "heads", 8)
    pen.arrow((7, 10.2), (7, 7.1))
    pen.box(7, 4.4, 8, "$W^{UV}_i$", "moved", 4.4)
    pen.arrow((12.3, 4.8), (13.5, 4.8))
    finish(pen, ABSORBED)


def draw(colours: dict[str, str]) -> Figure:
    """The projections above, the two ways side by side below."""
    figure = plt.figure(figsize=(9.6, 7.7), layout="none")
    for way, place in ((project, (0.01, 0.62, 0.98, 0.32)),
                       (expanded, (0.01, 0.075, 0.475, 0.52)),
                       (absorbed, (0.515, 0.075, 0.475, 0.52))):
        axes = figure.add_axes(place)
        axes.axis("off")
        way(Pen(axes, colours))
    figure.suptitle(FINDING, x=0.01, ha="left", fontsize=12, fontweight="bold")
    rows, columns = SHAPES["kv_b_proj"]
    figure.supxlabel(
        "filled: cached, one for all heads      stacks: one for each of "
        f"{HEADS} heads $i$, not cached\norange: the halves of kv_b_proj "
        f"({rows:,} × {columns}), {NOPE} rows of $W^{{UK}}_i$ and {VALUE} of "
        "$W^{UV}_i$ a head: they change place", fontsize=9, color=colours["muted"])
    return figure


def main() -> None:
    """Draw both modes."""
    for path in save_svg(draw, FIGURES / "mla", ALT):
        print(path)


if __name__ == "__main__":
    main()
