"""One visual style for figures, notebooks and the report.

A colour has one meaning everywhere, in a light and a dark variant. Every colour keeps a
contrast of at least 4.5 : 1 on its paper (WCAG 2.2 AA), and colours that are compared
with one another stay apart for colour-blind readers; the tests compute both.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PALETTE: dict[str, tuple[str, str]] = {  # name: (light, dark)
    "paper": ("#fcfcfa", "#14171c"),
    "panel": ("#f2f2ed", "#1d2128"),
    "rule": ("#d9d9d2", "#363c46"),
    "ink": ("#1b1e23", "#e9e7e2"),
    "muted": ("#5a616c", "#a5abb5"),
    "base": ("#626b77", "#a3adba"),
    "sft": ("#0066a8", "#5cb3ee"),
    "grpo": ("#b84a00", "#f2924b"),
    "code": ("#006b54", "#4fcfae"),
    "math": ("#74298c", "#c987e6"),
    "text": ("#8a5a00", "#e6c257"),
    "before": ("#666b73", "#9aa0a9"),
    "after": ("#3b389b", "#b3b0ff"),
    "good": ("#006d77", "#5fd0d8"),
    "bad": ("#b3261e", "#ff8a7a"),
}
COMPARED = (("base", "sft", "grpo"), ("code", "math", "text"), ("before", "after"),
            ("good", "bad"))


def use_style(dark: bool = False) -> dict[str, str]:
    """Set matplotlib to the project's look and return the colours of this mode."""
    colours = {name: pair[dark] for name, pair in PALETTE.items()}
    ink, muted = colours["ink"], colours["muted"]
    mpl.rcParams.update({
        "figure.figsize": (6.4, 3.6), "figure.dpi": 110, "savefig.dpi": 110,
        "figure.facecolor": colours["paper"], "savefig.facecolor": colours["paper"],
        "figure.constrained_layout.use": True,
        "axes.facecolor": "none", "axes.edgecolor": colours["rule"],
        "axes.spines.top": False, "axes.spines.right": False,
        "axes.titlelocation": "left", "axes.titlesize": 12.5, "axes.titlepad": 12,
        "axes.titleweight": "bold", "axes.titlecolor": ink, "axes.labelcolor": muted,
        "axes.labelsize": 10, "axes.grid": True, "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=[
            colours[name] for name in ("sft", "grpo", "code", "math", "text", "base")]),
        "grid.color": colours["rule"], "grid.linewidth": 0.6,
        "xtick.color": muted, "ytick.color": muted, "xtick.labelsize": 9.5,
        "ytick.labelsize": 9.5, "xtick.major.size": 0, "ytick.major.size": 0,
        "lines.linewidth": 2, "text.color": ink, "legend.frameon": False,
        "font.family": "sans-serif", "font.size": 10.5, "image.cmap": "cividis",
        "svg.fonttype": "path", "svg.hashsalt": "minicoder",
    })
    return colours


def label_lines(axes: Axes, gap: float = 0.07) -> None:
    """Write each line's label at its right end, in its colour, instead of a legend.

    `gap` is the least distance between two labels, as a share of the axes' height.
    """
    lines = [line for line in axes.get_lines() if not line.get_label().startswith("_")]
    to_share = axes.transData + axes.transAxes.inverted()
    ends = [to_share.transform((line.get_xdata()[-1], line.get_ydata()[-1]))
            for line in lines]
    height = float("-inf")
    for end, line in sorted(zip(ends, lines, strict=True), key=lambda pair: pair[0][1]):
        height = max(end[1], height + gap)
        axes.annotate(line.get_label(), (end[0], height), xycoords="axes fraction",
                      xytext=(6, 0), textcoords="offset points", va="center",
                      color=line.get_color(), fontweight="bold", annotation_clip=False)


def save_svg(
    figure: Callable[[dict[str, str]], Figure], path: Path, alt: str
) -> tuple[Path, Path]:
    """Write NAME-light.svg and NAME-dark.svg, the same bytes on every run.

    `figure` gets the colours of the mode and returns a figure whose title is its
    finding. The background is transparent; `alt` becomes the picture's description.
    """
    paths = []
    for mode in ("light", "dark"):
        with mpl.rc_context():
            drawn = figure(use_style(dark=mode == "dark"))
            out = path.with_name(f"{path.stem}-{mode}.svg")
            drawn.savefig(out, format="svg", transparent=True, metadata={"Date": None})
        mpl.pyplot.close(drawn)
        titles = [drawn.get_suptitle(), *(a.get_title("left") for a in drawn.axes)]
        title = next(filter(None, titles), alt)
        head, _, body = out.read_text(encoding="utf-8").partition("<svg ")
        first, _, rest = body.partition(">")
        text = (f'{head}<svg role="img" {first}>\n'
                f" <title>{html.escape(title)}</title>\n"
                f" <desc>{html.escape(alt)}</desc>{rest}")
        out.write_text(text, encoding="utf-8")
        paths.append(out)
    return paths[0], paths[1]
