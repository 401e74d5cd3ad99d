"""The whole model from tokens to logits, and where its parameters are.

    python figures/model.py

Counts the 236B's outline and writes figures/model-light.svg and figures/model-dark.svg.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minicoder.config import PRESETS
from minicoder.model.checkpoint import released
from minicoder.model.transformer import MiniCoder
from minicoder.show.style import save_svg

FIGURES = Path(__file__).parent
C = PRESETS["full_236b"]
EXPERTS = (f"{C.n_shared_experts} shared, {C.num_experts_per_tok} of "
           f"{C.n_routed_experts}")
INK = {"routed experts": "grpo", "attention": "sft", "shared and dense": "code",
       "embedding, head": "math", "routers, norms": "base"}


def kind(tensor: str) -> str:
    """The part of the model that a tensor of the checkpoint belongs to."""
    if ".mlp.gate." in tensor or "norm" in tensor:
        return "routers, norms"
    if ".experts." in tensor:
        return "routed experts"
    if ".mlp." in tensor:
        return "shared and dense"
    return "attention" if "self_attn" in tensor else "embedding, head"


def count() -> dict[str, int]:
    """Parameters of the 236B by part."""
    parts = dict.fromkeys(INK, 0)
    for name, tensor in released(MiniCoder.outline(C)):
        parts[kind(name)] += tensor.numel()
    return parts


def box(axes: Axes, centre: tuple[float, float], text: str, ink: str, paper: str,
        width: float = 2.3) -> None:
    """A box with its name."""
    x, y = centre
    axes.add_patch(plt.Rectangle((x - width / 2, y - 0.36), width, 0.72, edgecolor=ink,
                                 facecolor=paper, linewidth=1.6))
    axes.text(x, y, text, ha="center", va="center", color=ink, fontsize=8.5)


def arrow(axes: Axes, start: tuple[float, float], stop: tuple[float, float], ink: str,
          bend: str = "arc3") -> None:
    """An arrow from `start` to `stop`."""
    axes.annotate("", stop, start, arrowprops={
        "arrowstyle": "-|>", "color": ink, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0,
        "mutation_scale": 9, "connectionstyle": bend})


def model(axes: Axes, colours: dict[str, str]) -> None:
    """The column on the left: the whole model, from the bottom to the top."""
    muted, panel = colours["muted"], colours["panel"]
    last = C.num_hidden_layers - 1
    rows = [("embed_tokens", "math"), ("layer 0: dense", "ink"), ("layer 1", "ink"),
            (f"layers 2 to {last - 1}", "ink"), (f"layer {last}", "ink"),
            ("norm", "base"), ("lm_head", "math")]
    for y, (text, ink) in enumerate(rows, start=1):
        box(axes, (1.3, 1.15 * y), text, colours[ink], panel)
        arrow(axes, (1.3, 1.15 * y - 0.79), (1.3, 1.15 * y - 0.36), muted)
    arrow(axes, (1.3, 8.41), (1.3, 8.84), muted)
    for y, text in ((0.12, "tokens (B, T)"), (9.06, f"logits (B, T, {C.vocab_size})")):
        axes.text(1.3, y, text, ha="center", va="center", color=muted, fontsize=8.5)


def block(axes: Axes, colours: dict[str, str]) -> None:
    """The middle: one block opened; the sum x runs straight through."""
    muted, ink, x, trunk = colours["muted"], colours["ink"], 5.6, 3.75
    axes.add_patch(plt.Rectangle((3.2, 1.15), 5.4, 6.45, facecolor="none",
                                 edgecolor=colours["rule"], linewidth=1.2))
    for y in (4.24, 4.96):  # from layer 59 to the opened block
        axes.plot([2.45, 3.2], [5.75 + (y - 4.6), 7.6 if y > 4.6 else 1.15],
                  color=colours["rule"], linewidth=1)
    arrow(axes, (trunk, 0.7), (trunk, 8.1), ink)
    parts = (("input_layernorm", "base", 2.2), ("self_attn: MLA", "sft", 3.3),
             ("post_attention_layernorm", "base", 5.1),
             (f"mlp: MoE, {EXPERTS}", "grpo", 6.2))
    for text, name, y in parts:
        box(axes, (x + 0.75, y), text, colours[name], colours["panel"], 3.5)
    for low in (2.2, 5.1):
        arrow(axes, (trunk, low), (x - 1.0, low), muted)
        arrow(axes, (x + 0.75, low + 0.36), (x + 0.75, low + 0.74), muted)
        arrow(axes, (x + 0.75, low + 1.46), (trunk + 0.17, low + 1.95), muted,
              "angle,angleA=90,angleB=0,rad=0")
        axes.text(trunk, low + 1.95, "+", ha="center", va="center", color=ink,
                  fontsize=11, fontweight="bold", bbox={
                      "boxstyle": "circle,pad=0.12", "facecolor": colours["panel"],
                      "edgecolor": ink})
    axes.text(trunk + 0.2, 0.75, f"x (B, T, {C.hidden_size})", color=muted,
              fontsize=8.5, va="center")


def shares(axes: Axes, parts: dict[str, int], colours: dict[str, str]) -> None:
    """The bar on the right: parameters by part; labels keep a distance of 10.5."""
    whole, low, label = sum(parts.values()), 0.0, 0.0
    for name, number in parts.items():
        share = 100 * number / whole
        axes.bar(0, share, bottom=low, width=0.8, color=colours[INK[name]])
        middle = low + share / 2
        label = middle if low == 0 else max(label + 10.5, middle - 14)
        axes.plot([0.4, 0.55], [middle, label], linewidth=0.8,
                  color=colours[INK[name]])
        axes.text(0.6, label, f"{name}\n{number / 1e9:.2f} B, {share:.2f} %",
                  color=colours[INK[name]], va="center", fontsize=8.5)
        low += share
    axes.set(xlim=(-0.5, 2.6), ylim=(0, 125))
    axes.axis("off")


def main() -> None:
    """Draw both modes."""
    parts = count()
    whole, experts = sum(parts.values()), parts["routed experts"]
    finding = (f"Of {whole / 1e9:.1f} billion parameters, {experts / whole:.1%} are "
               "routed experts").replace("%", " %")

    def draw(colours: dict[str, str]) -> Figure:
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.8, 4.7),
                                             width_ratios=(2.5, 1))
        model(left, colours)
        block(left, colours)
        left.set(xlim=(0, 8.7), ylim=(-0.1, 9.3))
        left.axis("off")
        shares(right, parts, colours)
        figure.suptitle(finding, x=0.01, ha="left", fontsize=12, fontweight="bold")
        return figure

    listed = ", ".join(f"{name} {n / 1e9:.2f} billion" for name, n in parts.items())
    alt = (f"{finding} in the 236B. Left: tokens go through embed_tokens, layer 0 with "
           f"a dense feed-forward part, layers 1 to {C.num_hidden_layers - 1}, a norm "
           "and lm_head to logits. Middle: one block opened; to the sum x are added "
           f"self_attn (MLA) of input_layernorm of x, then mlp (MoE, {EXPERTS} routed) "
           f"of post_attention_layernorm of x. Right: parameters by part, {listed}.")
    for path in save_svg(draw, FIGURES / "model", alt):
        print(path.name)


if __name__ == "__main__":
    main()
