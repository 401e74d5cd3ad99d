"""Numbers cached per token by MHA, GQA, MQA and MLA (DeepSeek-V2, table 1).

    python figures/cache.py

Writes figures/cache-light.svg and figures/cache-dark.svg. Widths are those of the
library's own attention, at the 236B's sizes; how well each works is V2's word.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from minicoder.config import PRESETS
from minicoder.model.attention import GQA
from minicoder.show.style import save_svg

FIGURES = Path(__file__).parent
C = PRESETS["full_236b"]
LAYERS, HEADS, GROUPS, WINDOW = C.num_hidden_layers, C.num_attention_heads, 8, 131_072


def cached() -> dict[str, int]:
    """Numbers a token leaves in all layers, by way; nothing is allocated."""
    with torch.device("meta"):
        widths = {name: GQA(C.hidden_size, HEADS, groups, C.v_head_dim).cache_width
                  for name, groups in (
                      ("MHA", HEADS), (f"GQA, {GROUPS} groups", GROUPS), ("MQA", 1))}
    widths["MLA"] = C.cache_width
    return {name: LAYERS * width for name, width in widths.items()}


CACHED = cached()
VERDICT = dict(zip(CACHED, ("strong", "moderate", "weak", "stronger than MHA"),
                   strict=True))
LESS, MLA_GROUPS = CACHED["MHA"] / CACHED["MLA"], CACHED["MLA"] / CACHED["MQA"]
FINDING = (f"MLA caches {LESS:.0f} times less than MHA, as little as "
           f"GQA with {MLA_GROUPS:g} groups")


def gib(name: str) -> float:
    """The cache of a whole window in bf16, in GiB."""
    return 2 * CACHED[name] * WINDOW / 2**30


ALT = (f"{FINDING}. A dot for each way on a logarithmic axis of numbers cached per "
       f"token, {LAYERS} layers of {HEADS} heads: " + "; ".join(
           f"{name} {number:,}, {gib(name):.1f} GiB for {WINDOW:,} tokens in bf16, "
           f"called {VERDICT[name]} by DeepSeek-V2" for name, number in CACHED.items())
       + ".")


def draw(colours: dict[str, str]) -> Figure:
    """One line for each way; MLA stands out by colour, weight and mark."""
    figure, axes = plt.subplots(figsize=(7.6, 3.3))
    for place, (name, number) in enumerate(CACHED.items()):
        own = name == "MLA"
        ink = colours["after" if own else "before"]
        axes.plot([1e3, number], [-place] * 2, color=ink, linewidth=3 if own else 1.5)
        axes.plot(number, -place, "D" if own else "o", color=ink, markersize=8)
        axes.annotate(f"{number:,}\n{gib(name):.1f} GiB at 128K", (number, -place),
                      xytext=(11, 0), textcoords="offset points", va="center",
                      color=ink, fontweight="bold" if own else "normal")
    axes.set(xscale="log", xlim=(4e3, 1.6e7), ylim=(-3.6, 0.5),
             yticks=[-place for place in range(len(CACHED))],
             yticklabels=[f"{name}\n{VERDICT[name]}" for name in CACHED],
             xticks=[1e4, 1e5, 1e6], xlabel="numbers cached per token, all layers "
             "(logarithmic); 128K tokens in bf16;\nthe words are DeepSeek-V2's")
    axes.set_xticklabels(["10 thousand", "100 thousand", "1 million"])
    axes.minorticks_off()
    axes.grid(axis="y", visible=False)
    figure.suptitle(FINDING, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def main() -> None:
    """Draw both modes."""
    for path in save_svg(draw, FIGURES / "cache", ALT):
        print(path)


if __name__ == "__main__":
    main()
