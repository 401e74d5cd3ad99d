"""YaRN's ramp: the wave of each pair against the window, before and after.

    python figures/yarn.py

Writes figures/yarn-light.svg and figures/yarn-dark.svg.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from minicoder.config import PRESETS
from minicoder.model.rope import frequencies, ramp_bounds
from minicoder.show.style import save_svg

FIGURES = Path(__file__).parent
C = PRESETS["lite_16b"]
SCALING = C.rope_scaling
LOW, HIGH = ramp_bounds(C, SCALING)
BEFORE, AFTER = (2 * math.pi / frequencies(c) for c in (
    replace(C, rope_scaling=None), C))
STRETCH = AFTER / BEFORE
FINDING = (f"YaRN keeps pairs 0 to {LOW}, stretches {HIGH} to {len(AFTER) - 1} by "
           f"{SCALING.factor}, and blends between")
ALT = (
    f"Two panels over the {len(AFTER)} pairs of the released models. Top: the "
    f"wavelength in tokens on a logarithmic axis, from {BEFORE[0]:.1f} to "
    f"{BEFORE[-1]:,.0f} before and to {AFTER[-1]:,.0f} after YaRN, with a line at the "
    f"first window, 4,096 tokens, and at the new one, 163,840. Both curves agree up "
    f"to pair {LOW} and part from there. Bottom: by how much each wave is stretched, "
    f"1 up to pair {LOW}, {STRETCH[16]:.2f} at pair 16, {SCALING.factor} from pair "
    f"{HIGH} on.")


def draw(colours: dict[str, str]) -> Figure:
    """Wavelengths above, stretching below, the blend shaded in both."""
    figure, (waves, stretch) = plt.subplots(
        2, 1, figsize=(7.6, 5.4), sharex=True, height_ratios=(3, 2))
    pairs = range(len(AFTER))
    for values, ink, name in ((BEFORE, "before", "before"), (AFTER, "after", "YaRN")):
        waves.plot(pairs, values, "o-", color=colours[ink], markersize=3.5)
        waves.text(len(AFTER) - 0.6, values[-1], name, color=colours[ink],
                   fontweight="bold", va="center")
    for window, text in ((4096, "first window, 4,096"),
                         (163_840, "new window, 163,840")):
        waves.axhline(window, color=colours["muted"], linewidth=1, linestyle="--")
        waves.text(0, window * 1.25, text, color=colours["muted"], fontsize=9)
    waves.set(yscale="log", ylabel="tokens for one turn", xlim=(-0.7, 34.5))
    stretch.plot(pairs, STRETCH, "o-", color=colours["after"], markersize=3.5)
    stretch.set(yscale="log", yticks=[1, 2, 5, 10, 20, 40], ylabel="stretched by",
                xlabel="pair m: fast waves left, slow ones right")
    stretch.minorticks_off()
    stretch.yaxis.set_major_formatter("{x:g}×")
    for axes in (waves, stretch):
        axes.axvspan(LOW, HIGH, color=colours["panel"], zorder=0)
    for x, text in ((LOW / 2, "kept"), ((LOW + HIGH) / 2, "blended"),
                    (28, "stretched")):
        stretch.text(x, 28 if x < HIGH else 20, text, ha="center",
                     color=colours["muted"], fontsize=9.5)
    figure.suptitle(FINDING, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def main() -> None:
    """Draw both modes."""
    for path in save_svg(draw, FIGURES / "yarn", ALT):
        print(path)


if __name__ == "__main__":
    main()
