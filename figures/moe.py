"""One DeepSeekMoE layer of the 236B, drawn with a token that it routes.

    python figures/moe.py

Writes figures/moe-light.svg and figures/moe-dark.svg. The logits are drawn at random;
the scores, the groups and experts they choose and the weights are those of the
library's own router. Matrices have the released checkpoint's names and shapes.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from minicoder.config import preset
from minicoder.model.moe import MoE, Router, Routing
from minicoder.show.style import save_svg

FIGURES = Path(__file__).parent
C = preset("full_236b")
EACH = C.n_routed_experts // C.n_group      # experts of one group, which is one device
LEFT, STEP, BASE, TALL = 13.5, 9.75, 27.0, 13.0     # the groups of bars
with torch.device("meta"):
    LAYER = MoE(C)


def decide() -> tuple[Routing, list[int]]:
    """A token's routing, and its groups, the one with the best expert first."""
    generator = torch.Generator().manual_seed(5)
    router = Router(preset("full_236b", hidden_size=C.n_routed_experts))
    router.weight.data = torch.eye(C.n_routed_experts)
    with torch.no_grad():
        routing = router(1.3 * torch.randn(1, C.n_routed_experts, generator=generator))
        best = router.limited(routing.scores).view(C.n_group, EACH).amax(-1)
    return routing, best.argsort(descending=True)[:C.topk_group].tolist()


ROUTING, KEPT = decide()
SCORES = ROUTING.scores[0].tolist()
CHOSEN = dict(sorted(zip(ROUTING.experts[0].tolist(), ROUTING.weights[0].tolist(),
                         strict=True)))
DEVICES = len({expert // EACH for expert in CHOSEN})
FINDING = (f"A token runs {C.n_shared_experts} shared and {len(CHOSEN)} of "
           f"{C.n_routed_experts} routed experts, and travels to {DEVICES} of "
           f"{C.n_group} devices")
ALT = (
    f"One MoE layer of the 236B model. A token u of {C.hidden_size:,} numbers goes "
    f"through {C.n_shared_experts} shared experts with weight 1, and to the router "
    f"mlp.gate, whose softmax scores {C.n_routed_experts} routed experts: bars in "
    f"{C.n_group} groups of {EACH}, one group a device. The {C.topk_group} groups with "
    "the best single score stay, "
    + ", ".join(f"device {kept} with {max(SCORES[kept * EACH:(kept + 1) * EACH]):.3f}"
                for kept in KEPT)
    + f"; the {len(CHOSEN)} best experts in them run, each weighted by "
    f"{C.routed_scaling_factor:g} times its score: "
    + ", ".join(f"expert {e} {weight:.2f}" for e, weight in CHOSEN.items())
    + ". All outputs are summed.")


def shape(matrix: torch.Tensor, halves: int = 1) -> str:
    """(1,536 × 5,120), of one of the halves that are stacked in it."""
    rows, columns = matrix.shape[-2:]
    return f"({rows // halves:,} × {columns:,})"


def box(axes: Axes, x: float, y: float, size: tuple[float, float], ink: str,
        text: str = "", **font) -> None:
    """A rounded outline around the centre (x, y), with a text inside."""
    width, height = size
    axes.add_patch(FancyBboxPatch(
        (x - width / 2, y - height / 2), width, height, linewidth=1.3, edgecolor=ink,
        facecolor="none", boxstyle="round,pad=0,rounding_size=0.8"))
    axes.text(x, y, text, ha="center", va="center", color=ink,
              **({"fontsize": 9.5, "linespacing": 1.35} | font))


def arrow(axes: Axes, ink: str, *points: tuple[float, float]) -> None:
    """A line through the points with a head at its end."""
    axes.plot(*zip(*points[:-1], strict=True), color=ink, linewidth=1.3)
    axes.annotate("", points[-1], points[-2], arrowprops={
        "arrowstyle": "-|>", "color": ink, "linewidth": 1.3, "shrinkA": 0,
        "shrinkB": 0})


def place(expert: int) -> float:
    """Where the bar of an expert stands."""
    group, inside = divmod(expert, EACH)
    return LEFT + group * STEP + 0.75 + (inside + 0.5) * (STEP - 1.5) / EACH


def groups(axes: Axes, colours: dict[str, str]) -> None:
    """A bar for each score: filled the chosen, framed the kept groups."""
    top = max(SCORES)
    for group in range(C.n_group):
        rank = KEPT.index(group) + 1 if group in KEPT else 0
        ink, x = colours["sft" if rank else "muted"], LEFT + (group + 0.5) * STEP
        axes.add_patch(FancyBboxPatch(
            (x - STEP / 2 + 0.3, BASE - 0.6), STEP - 0.6, TALL + 2.4, facecolor="none",
            linewidth=1.6 if rank else 0.9, linestyle="-" if rank else ":",
            edgecolor=ink, boxstyle="round,pad=0,rounding_size=0.6"))
        members = range(group * EACH, (group + 1) * EACH)
        for e in members:
            axes.add_patch(Rectangle(
                (place(e) - 0.16, BASE), 0.32, SCORES[e] / top * TALL, linewidth=0.5,
                facecolor=colours["grpo"] if e in CHOSEN else "none",
                edgecolor=colours["grpo"] if e in CHOSEN else ink))
        best = f"{max(SCORES[e] for e in members):.3f}".lstrip("0")
        said = f"{best}: " + (("1st", "2nd", "3rd")[rank - 1] if rank else "out")
        axes.text(x, BASE + TALL + 2.6, f"device {group}\n{said}", ha="center",
                  color=ink, fontsize=9, fontweight="bold" if rank else "normal")


def chosen(axes: Axes, colours: dict[str, str]) -> None:
    """The experts that run, each with its weight, and their way to the sum."""
    ink, y, wide = colours["grpo"], 13.5, 11.2
    spread = [LEFT + 4 + i * 13.2 for i in range(len(CHOSEN))]
    for x, (e, weight) in zip(spread, CHOSEN.items(), strict=True):
        axes.plot([place(e), place(e), x], [BASE - 0.6, BASE - 3.4, y + 3], color=ink,
                  linewidth=0.9)
        box(axes, x, y, (wide, 6), ink,
            f"experts.{e}\n× {weight:.2f}", fontsize=9)
        axes.plot([x, x], [y - 3, y - 4.6], color=ink, linewidth=1.3)
    arrow(axes, ink, (spread[0], y - 4.6), (96, y - 4.6), (96, 31.5))


def draw(colours: dict[str, str]) -> Figure:
    """The layer from the token at the left to its output at the right."""
    figure, axes = plt.subplots(figsize=(9.6, 6.0))
    ink, green, blue = colours["ink"], colours["code"], colours["sft"]
    box(axes, 5, 52.5, (8.5, 7), ink, f"token $u$\n{C.hidden_size:,}")
    arrow(axes, green, (9.4, 52.5), (14.2, 52.5))
    up, down = LAYER.shared_experts.up_proj.weight, LAYER.shared_experts.down_proj
    box(axes, 44, 52.5, (59, 7), green,
        f"shared_experts: {C.n_shared_experts} in one MLP, for every token, weight 1\n"
        f"gate_proj, up_proj {shape(up)}    down_proj {shape(down.weight)}")
    arrow(axes, green, (73.5, 52.5), (96, 52.5), (96, 40.5))
    arrow(axes, blue, (5, 48.9), (5, 40))
    axes.text(11.8, BASE + TALL + 2.6, "best\nscore", ha="right", fontsize=9,
              color=colours["muted"])
    box(axes, 6, 33.5, (11, 13), blue, f"router\nmlp.gate\n{shape(LAYER.gate.weight)}\n"
        "softmax\nin float32", fontsize=8.8)
    arrow(axes, blue, (11.6, 33.5), (LEFT + 0.2, 33.5))
    groups(axes, colours)
    chosen(axes, colours)
    box(axes, 96, 36, (6.5, 9), ink, "sum")
    arrow(axes, ink, (99.3, 36), (103, 36))
    one = LAYER.experts
    axes.text(0.5, 4.6, f"The {C.topk_group} groups with the best single score stay; "
              f"the {len(CHOSEN)} best experts in them run. Weight: "
              f"{C.routed_scaling_factor:g} × score, not renormalised.",
              color=colours["ink"], fontsize=9.5)
    axes.text(0.5, 0.8, f"Each expert: down_proj {shape(one.down_proj)} · [ silu("
              f"gate_proj $u$) ⊙ up_proj $u$ ], both "
              f"{shape(one.gate_up_proj, 2)}", color=colours["grpo"], fontsize=9.5)
    axes.set(xlim=(0, 103.5), ylim=(-0.6, 56.5))
    axes.axis("off")
    figure.suptitle(FINDING, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def main() -> None:
    """Draw both modes."""
    for path in save_svg(draw, FIGURES / "moe", ALT):
        print(path)


if __name__ == "__main__":
    main()
