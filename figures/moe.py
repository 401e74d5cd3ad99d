"""One DeepSeekMoE layer of the 236B, drawn with a token that it routes.

    python figures/moe.py

Writes figures/moe-light.svg and figures/moe-dark.svg. The scores are drawn at random;
which groups and experts they choose is decided by the library's own router.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from minicoder.config import preset
from minicoder.model.moe import Router
from minicoder.show.style import save_svg

FIGURES = Path(__file__).parent
C = preset("full_236b")
WIDTH = C.n_routed_experts // C.n_group  # experts of one group
LEFT, RIGHT, SHARED, ROUTED = 2.0, 10.6, 4.2, 1.5  # places on the drawing
OUT = RIGHT + 0.6  # left edge of the sum


def decide() -> tuple[torch.Tensor, list[int], list[int]]:
    """Random scores of a token, the experts and the groups that the router keeps."""
    generator = torch.Generator().manual_seed(5)
    router = Router(preset("full_236b", hidden_size=C.n_routed_experts))
    router.weight.data = torch.eye(C.n_routed_experts)
    with torch.no_grad():
        routing = router(1.3 * torch.randn(1, C.n_routed_experts, generator=generator))
        eligible = router.limited(routing.scores)[0].view(C.n_group, -1).amax(-1)
    return (routing.scores[0], routing.experts[0].tolist(),
            eligible.nonzero().flatten().tolist())


def box(axes: Axes, x: float, y: float, size: tuple[float, float], ink: str,
        text: str = "") -> None:
    """A rounded outline around the centre (x, y), with a text inside."""
    width, height = size
    axes.add_patch(FancyBboxPatch(
        (x - width / 2, y - height / 2), width, height, linewidth=1.3, edgecolor=ink,
        facecolor="none", boxstyle="round,pad=0,rounding_size=0.08"))
    axes.text(x, y, text, ha="center", va="center", color=ink, fontsize=9.5)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], ink: str,
          bend: str = "arc3") -> None:
    """A line with a head."""
    axes.annotate("", end, start, arrowprops=dict(
        arrowstyle="-|>", color=ink, linewidth=1.3, shrinkA=0, shrinkB=0,
        connectionstyle=bend))


def groups(axes: Axes, colours: dict[str, str]) -> None:
    """The 8 groups of 20 experts: framed the kept ones, filled the chosen experts."""
    scores, experts, kept = decide()
    step = (RIGHT - LEFT) / C.n_group
    for group in range(C.n_group):
        x, alive = LEFT + (group + 0.5) * step, group in kept
        box(axes, x, ROUTED, (0.94 * step, 1.75), colours["sft" if alive else "rule"])
        members = range(group * WIDTH, (group + 1) * WIDTH)
        inks = [colours["grpo" if e in experts else "sft" if alive else "rule"]
                for e in members]
        axes.scatter(
            [x + (place % 4 - 1.5) * 0.23 for place in range(WIDTH)],
            [ROUTED + (2 - place // 4) * 0.31 for place in range(WIDTH)], s=42,
            linewidths=0.9, edgecolors=inks, facecolors=[
                ink if e in experts else "none"
                for e, ink in zip(members, inks, strict=True)])
        best = f"{scores[members.start:members.stop].max().item():.3f}"
        axes.text(x, ROUTED - 1.05, best.lstrip("0"), ha="center", va="center",
                  fontsize=8.5, color=colours["sft" if alive else "muted"])
        if alive:
            arrow(axes, (x, ROUTED + 0.89), (OUT, 2.9), colours["grpo"],
                  "angle,angleA=90,angleB=180,rad=4")


def shared(axes: Axes, colours: dict[str, str]) -> None:
    """The shared experts, side by side in the flow, from the token to the sum."""
    for number in range(C.n_shared_experts):
        y = SHARED + 0.4 - 0.8 * number
        arrow(axes, (1.2, y), (LEFT + 0.3, y), colours["code"])
        box(axes, LEFT + 1.2, y, (1.8, 0.58), colours["code"], f"shared {number + 1}")
        arrow(axes, (LEFT + 2.1, y), (OUT, y), colours["code"])
    axes.plot([0.95, 1.2, 1.2, 1.2], [SHARED, SHARED, SHARED + 0.4, SHARED - 0.4],
              color=colours["code"], linewidth=1.3)
    axes.text(LEFT + 2.5, SHARED, "for every token, weight 1", color=colours["code"],
              fontsize=9, va="center")


def draw(colours: dict[str, str]) -> Figure:
    """The layer from the token at the left to its output at the right."""
    figure, axes = plt.subplots(figsize=(8.6, 3.9))
    ink, routed = colours["ink"], colours["sft"]
    axes.text(0.05, SHARED, "token u", va="center", color=ink, fontweight="bold")
    shared(axes, colours)
    arrow(axes, (0.45, SHARED - 0.22), (0.45, ROUTED + 0.35), routed)
    box(axes, 0.72, ROUTED, (1.35, 0.7), routed, "router")
    arrow(axes, (1.4, ROUTED), (LEFT, ROUTED), routed)
    groups(axes, colours)
    axes.text(0.05, ROUTED - 1.05, "best score", color=routed, va="center",
              fontsize=8.5)
    axes.text(LEFT, ROUTED - 1.42, "The 3 groups with the best single score stay; the "
              "6 best experts in them run.", color=routed, fontsize=9, va="center")
    axes.text(LEFT + 4.9, 3.03, "weight: 16 × score", color=colours["grpo"], fontsize=9)
    box(axes, OUT + 0.4, 3.75, (0.8, 2.1), ink, "sum")
    axes.set(xlim=(0, OUT + 0.85), ylim=(ROUTED - 1.6, SHARED + 0.75))
    axes.set_title(f"A token runs {C.n_shared_experts} shared and "
                   f"{C.num_experts_per_tok} of {C.n_routed_experts} routed experts, "
                   f"from {C.topk_group} of {C.n_group} groups")
    axes.axis("off")
    return figure


def main() -> None:
    """Draw both modes."""
    alt = ("One MoE layer of the 236B model. A token goes through 2 shared experts "
           "with weight 1, and to a router that scores 160 routed experts in 8 groups "
           "of 20, one group a device. The 3 groups with the best single score stay; "
           "the 6 best experts in them run, each weighted by 16 times its score. All "
           "outputs are summed.")
    for path in save_svg(draw, FIGURES / "moe", alt):
        print(path)


if __name__ == "__main__":
    main()
