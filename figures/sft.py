"""SFT: which tokens of a conversation are learnt, and what packing saves.

    python figures/sft.py

Writes figures/sft-light.svg and figures/sft-dark.svg.
"""

from __future__ import annotations

import random
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minicoder.alignment.chat import chat_tokens
from minicoder.show.style import save_svg
from minicoder.tokenizer import BOS, EOS, Tokenizer

FIGURES = Path(__file__).parent
TALK = [{"role": "user", "content": "Write half."},
        {"role": "assistant", "content": "def half(a):\n    return a / 2"},
        {"role": "user", "content": "Thanks!"},
        {"role": "assistant", "content": "You are welcome."}]
# of these words alone, so that each is one token and easy to read
TOKENIZER = Tokenizer.train([f"{m['role'].title()}: {m['content']}" for m in TALK] * 9,
                            311)
TOKENS, LEARNT = chat_tokens(TALK, TOKENIZER)
ROW, COUNT = 96, 16
LENGTHS = sorted(random.Random(3).choices((8, 14, 22, 40, 64, 90), k=COUNT),
                 reverse=True)


def first_fit() -> list[list[int]]:
    """The conversations in rows, the longest first."""
    rows: list[list[int]] = []
    for length in LENGTHS:
        row = next((r for r in rows if sum(r) + length <= ROW), None)
        if row is None:
            rows.append(row := [])
        row.append(length)
    return rows


PACKED = first_fit()
WASTE = {"padded": 1 - sum(LENGTHS) / (COUNT * LENGTHS[0]),
         "packed": 1 - sum(LENGTHS) / (len(PACKED) * max(map(sum, PACKED)))}
FINDING = "SFT learns the answers and their ends, and packs what it reads"
ALT = (
    f"Top: a conversation of two turns as {len(TOKENS)} tokens; the "
    f"{sum(LEARNT)} of both answers and of their two ends are filled, the questions "
    f"and the words User and Assistant are not. Below: {COUNT} conversations of 8 to "
    f"{LENGTHS[0]} tokens. Padded to the longest they are {COUNT} rows, "
    f"{WASTE['padded']:.0%} of them padding; packed they are {len(PACKED)} rows, "
    f"{WASTE['packed']:.0%} padding, and no conversation sees another.")


def tokens(axes: Axes, colours: dict[str, str]) -> None:
    """The conversation as boxes, filled where it is learnt."""
    x, y = 0.0, 0
    for token, known in zip(TOKENS, LEARNT, strict=True):
        text = TOKENIZER.decode([token])
        text = {BOS: "BOS", EOS: "EOS"}.get(text, text).replace("\n", "↵")
        width = len(text) + 0.9
        if x + width > 76:
            x, y = 0.0, y - 1
        axes.barh(y, width - 0.3, left=x, height=0.78,
                  color=colours["grpo" if known else "panel"])
        axes.text(x + width / 2 - 0.15, y, text.replace(" ", "·"), ha="center",
                  va="center", family="monospace", fontsize=9,
                  color=colours["paper" if known else "ink"])
        x += width
    axes.set(xlim=(0, 76), ylim=(y - 0.6, 0.6))
    axes.set_title(f"{sum(LEARNT)} of {len(TOKENS)} tokens count in the loss",
                   fontsize=10.5, pad=6)
    axes.axis("off")


def rows(axes: Axes, colours: dict[str, str], name: str, made: list[list[int]]) -> None:
    """Rows of conversations; what is left of a row is padding."""
    width = max(map(sum, made))
    axes.barh(range(len(made)), width, height=0.8, color=colours["rule"])
    for y, parts in enumerate(made):
        x = 0
        for i, length in enumerate(parts):
            axes.barh(y, length, left=x, height=0.8, edgecolor=colours["paper"],
                      color=colours[("after", "sft", "code")[i % 3]])
            x += length
    axes.set(ylim=(COUNT - 0.4, -0.6), xlim=(0, ROW))
    axes.set_title(f"{name}: {len(made)} rows, {WASTE[name]:.0%} padding",
                   fontsize=10.5, pad=6)
    axes.axis("off")


def draw(colours: dict[str, str]) -> Figure:
    """The conversation on top, the two batches below."""
    figure = plt.figure(figsize=(7.6, 4.8))
    top, bottom = figure.subfigures(2, 1, height_ratios=(2, 3))
    for part in (figure, top, bottom):
        part.set_facecolor("none")
    tokens(top.subplots(), colours)
    left, right = bottom.subplots(1, 2)
    rows(left, colours, "padded", [[length] for length in LENGTHS])
    rows(right, colours, "packed", PACKED)
    figure.suptitle(FINDING, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def main() -> None:
    """Draw both modes."""
    for path in save_svg(draw, FIGURES / "sft", ALT):
        print(path)


if __name__ == "__main__":
    main()
