"""What harnesses contain of the hostile suite, and how many wrong programs they pass.

    python figures/attacks.py

Reads benchmarks/results/attacks.json, writes figures/attacks-light.svg and -dark.svg.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from minicoder.execution.isolation import TIERS
from minicoder.show.style import save_svg
from minicoder.stages import read_json

ROOT = Path(__file__).parents[1]


def draw(finding: str, rows: dict[str, Any], total: int, colours: dict[str, str]
         ) -> Figure:
    """A bar for each harness: contained, and passed though wrong."""
    figure, axes = plt.subplots(figsize=(8.6, 3.6))
    names = [f"tier {name}" if name in TIERS else name for name in rows]
    for place, row in enumerate(rows.values()):
        axes.barh(-place, row["contained"], 0.62, color=colours["good"])
        axes.barh(-place, total - row["contained"], 0.62, left=row["contained"],
                  color="none", edgecolor=colours["rule"])
        if row["passed"]:
            axes.barh(-place, -row["passed"], 0.62, left=total, color=colours["bad"])
        axes.text(row["contained"] - 1, -place, row["contained"], ha="right",
                  va="center", color=colours["paper"], fontweight="bold")
        axes.text(total + 2, -place, f"{row['passed']} passed though wrong",
                  va="center", color=colours["bad" if row["passed"] else "muted"])
    axes.set(yticks=[-place for place in range(len(names))], yticklabels=names,
             xlim=(0, total), xlabel=f"filled: contained, of {total} bad programs\n"
             "empty: did harm, left traces or broke the harness")
    axes.grid(axis="y", visible=False)
    figure.suptitle(finding, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def main() -> None:
    """Draw both modes."""
    found = read_json(ROOT / "benchmarks/results/attacks.json")
    rows = found["summary"]
    total = sum(n for group, n in found["programs"].items() if group != "right")
    tiers = [rows[tier] for tier in TIERS[:-1] if tier in rows]
    usual = [row for name, row in rows.items() if name not in TIERS]
    most = max(row["passed"] for row in usual)
    passed = max(row["passed"] for row in tiers)  # of those with walls
    ours = f"{passed} pass" if passed else "none passes"
    finding = (f"Usual checks pass up to {most} of {total} bad programs; behind walls "
               f"{ours}")
    alt = (f"{finding}. One bar for each harness, contained of {total}, then wrong "
           "ones passed: " + "; ".join(f"{name} {row['contained']}, {row['passed']}"
                                       for name, row in rows.items()) + ".")
    for path in save_svg(partial(draw, finding, rows, total), ROOT / "figures/attacks",
                         alt):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
