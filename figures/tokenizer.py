"""From a line of code to token ids: bytes, words by rule, tokens by merges.

    python figures/tokenizer.py

Writes figures/tokenizer-light.svg and figures/tokenizer-dark.svg. The vocabulary is
learnt here, from the sources of the pinned package einops, so the ids are real.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import regex
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from minicoder.data.languages import language_of
from minicoder.data.sources import read
from minicoder.data.standard import package_files, packages
from minicoder.show.style import save_svg
from minicoder.tokenizer import PATTERN, Tokenizer

FIGURES = Path(__file__).parent
SIZE, EARLY = 1024, 40  # tokens in the vocabulary; merges of the third row
LINE = "    return reshaped_list[16]\n"
FINDING = "Rules cut the line into words, merges join bytes inside them"
ALT = (
    f"The line of Python '{LINE.rstrip()}' in four rows. First its bytes, each in a "
    "box. Then the words that the rules cut: three of the four leading spaces are one "
    "word, the fourth belongs to return; digits and the line break stand alone. Then "
    f"the tokens after {EARLY} merges, and the tokens of the whole vocabulary of "
    f"{SIZE:,} with their ids. No token crosses a cut between words.")


def learn() -> Tokenizer:
    """A vocabulary of `SIZE` tokens from the Python sources of einops."""
    found = packages(["einops"])["einops"]
    files = [one for one in package_files("einops", found)
             if language_of(one.path).name == "Python"]
    return Tokenizer.train(
        (one.text for one in read(files, lambda left_out: None)), SIZE)


def rows(tokenizer: Tokenizer) -> list[tuple[str, list[str], list[int]]]:
    """What each row is called, its pieces, and their ids where they are told."""
    early = Tokenizer(tokenizer.tokens[:256 + EARLY], tokenizer.merges[:EARLY])
    ids = tokenizer.encode(LINE)
    words = regex.findall(PATTERN, LINE)
    return [
        (f"{len(LINE)} bytes", list(LINE), []),
        (f"{len(words)} words,\ncut by rules", words, []),
        (f"{len(early.encode(LINE))} tokens\nafter {EARLY} merges",
         [early.decode([i]) for i in early.encode(LINE)], []),
        (f"{len(ids)} tokens after\n{len(tokenizer.merges)} merges,\nand their ids",
         [tokenizer.decode([i]) for i in ids], ids)]


def strip(axes: Axes, y: float, pieces: list[str], ids: list[int],
          colours: dict[str, str], kind: str) -> None:
    """One row of boxes; `kind` is the colour of their fill."""
    left = 0
    for place, piece in enumerate(pieces):
        axes.add_patch(FancyBboxPatch(
            (left + 0.06, y - 0.26), len(piece) - 0.12, 0.52, linewidth=1.1,
            boxstyle="round,pad=0,rounding_size=0.12", edgecolor=colours["muted"],
            facecolor=colours[kind]))
        for shift, character in enumerate(piece):
            blank = character in " \n"
            axes.text(left + shift + 0.5, y,
                      {" ": "·", "\n": "↵"}.get(character, character), ha="center",
                      va="center", family="DejaVu Sans Mono", fontsize=11,
                      color=colours["paper"] if kind == "after" else
                      colours["muted" if blank else "ink"])
        if ids:
            axes.text(left + len(piece) / 2, y - 0.46, str(ids[place]), ha="center",
                      va="center", fontsize=8.5, color=colours["after"])
        left += len(piece)


def draw(colours: dict[str, str]) -> Figure:
    """Four rows, from bytes to ids, and the cuts that no token crosses."""
    figure, axes = plt.subplots(figsize=(9.2, 3.5))
    table = rows(learn())
    heights = [3.2 - row for row in range(len(table))]
    for (name, pieces, ids), y, kind in zip(
            table, heights, ("panel", "paper", "panel", "after"), strict=True):
        axes.text(-0.3, y, name, fontsize=9.5, color=colours["muted"], va="center",
                  ha="right", linespacing=1.25)
        strip(axes, y, pieces, ids, colours, kind)
    cut = 0
    for word in table[1][1][:-1]:
        cut += len(word)
        axes.plot([cut, cut], [heights[-1] - 0.34, heights[1] + 0.34], ":",
                  color=colours["grpo"], linewidth=1.4, zorder=0)
    axes.set(xlim=(-5, len(LINE) + 0.1), ylim=(-0.4, 3.6))
    axes.axis("off")
    figure.suptitle(FINDING, x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.supxlabel("· space    ↵ line break    dotted: cuts that no token crosses",
                     fontsize=9, color=colours["muted"])
    return figure


def main() -> None:
    """Draw both modes."""
    for path in save_svg(draw, FIGURES / "tokenizer", ALT):
        print(path)


if __name__ == "__main__":
    main()
