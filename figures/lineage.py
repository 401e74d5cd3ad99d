"""The papers behind DeepSeek-Coder-V2 and what each handed on.

Run: python figures/lineage.py → figures/lineage-light.svg and lineage-dark.svg
Source: DeepSeek-Coder-V2 §2, §3.2-3.5, DeepSeek-V2 §2, §3.1, §4.2; months by arXiv.
"""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from minicoder.show.style import save_svg

FIGURES = Path(__file__).parent
FINDING = "Coder-V2 is V2 trained further, by Coder's and Math's recipes for data"
ALT = (
    "A drawing of six models of January to June 2024. DeepSeek LLM hands its "
    "tokenizer and layer details to DeepSeek-V2, DeepSeekMoE its experts and balance "
    "losses. V2 adds multi-head latent attention and hands the whole architecture and"
    " a checkpoint of 4.2 trillion tokens to DeepSeek-Coder-V2. DeepSeek-Coder hands "
    "it filters, infilling and code instructions; DeepSeekMath hands it recall from "
    "the web and math instructions, and GRPO by way of V2.")
BOXES = {  # name: (x, y, what it is)
    "DeepSeek LLM": (12, 46, "Jan 2024 · 2401.02954"),
    "DeepSeekMoE": (12, 33, "Jan 2024 · 2401.06066"),
    "DeepSeekMath": (12, 18, "Feb 2024 · 2402.03300"),
    "DeepSeek-Coder": (12, 5, "Jan 2024 · 2401.14196"),
    "DeepSeek-V2": (56, 39.5, "May 2024 · 2405.04434\nMLA"),
    "DeepSeek-Coder-V2": (89, 11.5, "Jun 2024 · 2406.11931\n338 languages, 128K")}
ARROWS = (  # from, to, what is handed on, where its words stand
    ("DeepSeek LLM", "DeepSeek-V2", "tokenizer, RMSNorm, SwiGLU", (35.5, 47.2)),
    ("DeepSeekMoE", "DeepSeek-V2", "experts, balance losses", (33.5, 39.3)),
    ("DeepSeekMath", "DeepSeek-V2", "GRPO", (37.5, 25.5)),
    ("DeepSeekMath", "DeepSeek-Coder-V2", "web recall, math instructions", (50, 18.8)),
    ("DeepSeek-Coder", "DeepSeek-Coder-V2",
     "filters, infilling, code instructions", (50, 4.6)),
    ("DeepSeek-V2", "DeepSeek-Coder-V2", "architecture,\n4.2T-token checkpoint,\nGRPO",
     (87, 27.5)))
WIDTH, HEIGHT = 22, 10


def draw(colours: dict[str, str]) -> Figure:
    """Six boxes from left to right in time, six arrows."""
    figure, axes = plt.subplots(figsize=(9.2, 4.6))
    axes.set(xlim=(0, 101), ylim=(-1, 52))
    axes.axis("off")
    for name, (x, y, about) in BOXES.items():
        last = name == "DeepSeek-Coder-V2"
        axes.add_patch(FancyBboxPatch(
            (x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT, linewidth=1.2, zorder=2,
            boxstyle="round,pad=0,rounding_size=1.2", edgecolor=colours["after"],
            facecolor=colours["after" if last else "panel"]))
        ink = colours["paper" if last else "ink"]
        lines = about.count("\n")
        axes.text(x, y + 1 + 1.2 * lines, name, ha="center", va="center", fontsize=10,
                  fontweight="bold", color=ink, zorder=3)
        axes.text(x, y - 2 - 0.2 * lines, about, ha="center", va="center", fontsize=8.5,
                  color=colours["paper" if last else "muted"], zorder=3)
    for start, end, words, (x, y) in ARROWS:
        (x0, y0, _), (x1, y1, _) = BOXES[start], BOXES[end]
        down = start == "DeepSeek-V2"
        tail = (x0 + WIDTH / 2, y0)
        head = (x1, y1 + HEIGHT / 2) if down else (
            x1 - WIDTH / 2, y1 + (y0 - y1) * 0.25)
        axes.annotate("", head, tail, arrowprops={
            "arrowstyle": "-|>", "color": colours["muted"], "linewidth": 1.3,
            "shrinkA": 0, "shrinkB": 1,
            "connectionstyle": "angle,angleA=0,angleB=90,rad=6" if down else "arc3"})
        axes.text(x, y, words, fontsize=9, color=colours["ink"], va="center",
                  ha="right" if down else "center", linespacing=1.3)
    figure.suptitle(FINDING, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def main() -> None:
    """Draw both modes."""
    for path in save_svg(draw, FIGURES / "lineage", ALT):
        print(path)


if __name__ == "__main__":
    main()
