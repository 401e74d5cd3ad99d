"""A pipeline's step in three orders of work: who waits, and for how long.

    python figures/cluster.py

Writes figures/cluster-light.svg and figures/cluster-dark.svg. Every block is played
through: a stage starts when what it needs is there.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from minicoder.show.style import save_svg

FIGURES = Path(__file__).parent
STAGES, MICROBATCHES = 4, 6
COST = {"F": 1, "B": 2, "I": 1, "W": 1}     # I and W: the two halves of B
WAYS = ("GPipe", "1F1B", "zero bubble")
Block = tuple[int, str, int, int]   # stage, kind, microbatch, start


def order(stage: int, way: str) -> list[tuple[str, int]]:
    """What a stage does in turn, but for what only fills gaps."""
    m = MICROBATCHES
    ahead = m if way == "GPipe" else min(m, STAGES - stage)
    work = [("F", i) for i in range(ahead)]
    for i in range(m):
        work.append(("I" if way == "zero bubble" else "B", i))
        if ahead + i < m:
            work.append(("F", ahead + i))
    return work


def play(way: str) -> tuple[list[Block], int]:
    """The blocks of a step, and how long it takes."""
    queues = [order(stage, way) for stage in range(STAGES)]
    late: list[list[int]] = [[] for _ in range(STAGES)]
    free, done, blocks, now = [0] * STAGES, {}, [], 0

    def ready(s: int, kind: str, i: int) -> float:
        if kind == "F":
            return done.get(("F", s - 1, i), math.inf) if s else 0
        return done.get((kind, s + 1, i) if s < STAGES - 1 else ("F", s, i), math.inf)

    while any(queues) or any(late):
        for s in range(STAGES):
            if free[s] > now:
                continue
            if queues[s] and ready(s, *queues[s][0]) <= now:
                kind, i = queues[s].pop(0)
            elif late[s]:
                kind, i = "W", late[s].pop(0)
            else:
                continue
            free[s] = done[kind, s, i] = now + COST[kind]
            blocks.append((s, kind, i, now))
            late[s] += [i] * (kind == "I")
        now += 1
    return blocks, max(free)


STEPS = {way: play(way) for way in WAYS}
WAITS = {way: 1 - 3 * MICROBATCHES / length for way, (_, length) in STEPS.items()}
FINDING = (f"Put the weights' gradients into the gaps, and a stage waits "
           f"{WAITS['zero bubble']:.0%} of a step, not {WAITS['1F1B']:.0%}")
ALT = (
    f"Three timelines of {STAGES} pipeline stages and {MICROBATCHES} microbatches. "
    "GPipe runs all forward passes, then all backward passes; 1F1B takes turns and "
    f"needs as long, {STEPS['1F1B'][1]} forward passes, of which each stage waits "
    f"{WAITS['1F1B']:.0%}. The zero-bubble schedule fills gaps with the gradients of "
    f"weights and ends after {STEPS['zero bubble'][1]}, waiting "
    f"{WAITS['zero bubble']:.0%}.")


def draw(colours: dict[str, str]) -> Figure:
    """One timeline above the other, on one clock."""
    inks = {"F": colours["sft"], "B": colours["grpo"], "I": colours["grpo"],
            "W": colours["code"]}
    figure, rows = plt.subplots(3, 1, figsize=(8.4, 5.6), sharex=True)
    longest = max(length for _, length in STEPS.values())
    for axes, way in zip(rows, WAYS, strict=True):
        blocks, length = STEPS[way]
        axes.barh(range(STAGES), length, height=0.86, color=colours["panel"])
        for s, kind, i, start in blocks:
            full = kind in "BI"     # fill and dots tell them apart too, not ink alone
            axes.barh(s, COST[kind] - 0.12, left=start + 0.06, height=0.76,
                      facecolor=inks[kind] if full else "none", edgecolor=inks[kind],
                      linewidth=1.2, linestyle=":" if kind == "W" else "-")
            axes.text(start + COST[kind] / 2, s, str(i + 1), ha="center", va="center",
                      fontsize=8.5, color=colours["paper"] if full else inks[kind])
        axes.text(length + 0.3, STAGES / 2 - 0.5, f"{length} long\nwaits "
                  f"{WAITS[way]:.0%}", va="center", color=colours["ink"], fontsize=9.5)
        axes.set_title(way, fontsize=10.5)
        axes.set(yticks=range(STAGES), ylim=(STAGES - 0.45, -0.55), ylabel="stage",
                 xlim=(0, longest + 4))
        axes.grid(False)
    rows[-1].set_xlabel("time in forward passes")
    keys = (("F", "outlined: forward"), ("B", "filled: back"),
            ("W", "dotted: weights' gradients, put off"))
    for place, (kind, name) in zip((0.11, 0.335, 0.49), keys, strict=True):
        rows[0].text(place, 1.09, name, transform=rows[0].transAxes, color=inks[kind],
                     fontweight="bold", fontsize=9.5)
    figure.suptitle(FINDING, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def main() -> None:
    """Draw both modes."""
    for path in save_svg(draw, FIGURES / "cluster", ALT):
        print(path)


if __name__ == "__main__":
    main()
