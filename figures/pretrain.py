"""Three traffic jams of a mixture of experts, and which balance loss sees which.

    python figures/pretrain.py

Writes figures/pretrain-light.svg and figures/pretrain-dark.svg. Six tokens choose two
of six experts on three devices; the pushes are gradients of the library's losses.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from minicoder.model.balance import (
    chosen,
    communication_balance_loss,
    device_balance_loss,
    expert_balance_loss,
)
from minicoder.model.moe import Routing
from minicoder.show.style import save_svg

FIGURES = Path(__file__).parent
DEVICES = 3
FINDING = "No single balance loss sees all three traffic jams"
JAMS = {
    "expert jam": [[0, 2], [2, 4], [0, 4]] * 2,
    "device jam": [[0, 1]] * 3 + [[2, 4], [3, 5], [2, 5]],
    "wire jam": [[0, 1]] * 2 + [[2, 4], [3, 5], [2, 5], [3, 4]],
}


def counts(experts: list[list[int]]) -> tuple[list[Tensor], list[bool]]:
    """Visits of experts and devices, tokens received; and whether a loss pushes.

    A gradient that is the same for all scores moves no softmax.
    """
    scores = torch.full((len(experts), 6), 1 / 6, requires_grad=True)
    routing = Routing(scores, torch.tensor(experts), torch.ones(len(experts), 2))
    visits = chosen(routing).detach().view(len(experts), DEVICES, -1)
    losses = (expert_balance_loss, partial(device_balance_loss, devices=DEVICES),
              partial(communication_balance_loss, devices=DEVICES, limit=2))
    pushes = [torch.autograd.grad(loss(routing, 1), scores)[0] for loss in losses]
    return ([visits.sum(0).flatten(), visits.sum((0, 2)), visits.amax(2).sum(0)],
            [bool((p.amax() - p.amin()) > 1e-6) for p in pushes])


COUNTS = {name: counts(experts) for name, experts in JAMS.items()}
ALT = (
    "Nine bar charts. Columns are three ways in which six tokens choose two of six "
    f"experts on {DEVICES} devices, rows are visits of experts, visits of devices, and "
    "tokens sent to devices. A loss pushes only where its row is uneven. " + ". ".join(
        f"{name.capitalize()}: " + "; ".join(
            f"{what} {', '.join(f'{x:.0f}' for x in values.tolist())}"
            + (", its loss pushes" if seen else "")
            for what, values, seen in zip(("experts", "devices", "tokens received"),
                                          *found, strict=True))
        for name, found in COUNTS.items()) + ".")


def bars(axes: Axes, values: Tensor, seen: bool, colours: dict[str, str]) -> None:
    """One chart: the fair share as a line, the busiest in another colour."""
    fair, top = values.mean().item(), values.max().item()
    width = 6 / len(values)
    for place, value in enumerate(values.tolist()):
        ink = colours["bad" if value == top > fair else "before"]
        axes.bar((place + 0.5) * width, value, 0.8 * width, color=ink)
        axes.text((place + 0.5) * width, value + 0.2, f"{value:.0f}", ha="center",
                  color=colours["muted"], fontsize=9)
    axes.axhline(fair, color=colours["ink"], linewidth=1, linestyle=":")
    axes.set(xlim=(-0.1, 6.1), ylim=(0, 7.4), yticks=[], xticks=[
        (place + 0.5) * width for place in range(len(values))])
    axes.set_xticklabels(range(len(values)))
    axes.grid(visible=False)
    axes.text(6, 7.3, "this loss pushes" if seen else "nothing to push", ha="right",
              va="top", fontsize=9, fontweight="bold" if seen else "normal",
              color=colours["bad" if seen else "muted"])


def draw(colours: dict[str, str]) -> Figure:
    """A column for each jam, a row for each loss."""
    figure, panels = plt.subplots(3, 3, figsize=(8.6, 5.8), sharey=True)
    for column, (name, found) in enumerate(COUNTS.items()):
        for axes, values, seen in zip(panels[:, column], *found, strict=True):
            bars(axes, values, seen, colours)
        panels[0, column].set_title(name, fontsize=11, pad=8)
    for axes, label in zip(panels[:, 0], (
            "expert loss:\nvisits of experts", "device loss:\nvisits of devices",
            "communication loss:\ntokens received"),
            strict=True):
        axes.set_ylabel(label)
    for axes, place in zip(panels[:, 1], ("expert", "device", "device"), strict=True):
        axes.set_xlabel(place, fontsize=9, labelpad=1)
    figure.suptitle(FINDING, x=0.01, ha="left", fontsize=12.5, fontweight="bold")
    return figure


def main() -> None:
    """Draw both modes."""
    for path in save_svg(draw, FIGURES / "pretrain", ALT):
        print(path)


if __name__ == "__main__":
    main()
