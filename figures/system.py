"""The whole system: from raw source code to a coder trained with GRPO.

    python figures/system.py

Writes figures/system-light.svg and figures/system-dark.svg. Every stage has the name
of its command; the paper's sizes are those that the library knows.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from minicoder.__main__ import COMMANDS
from minicoder.config import PRESETS, parameter_count
from minicoder.data.mixture import CODE, SHARES, TRAINED, UNIQUE
from minicoder.show.style import save_svg

FIGURES = Path(__file__).parent
FULL, LITE = PRESETS["full_236b"], PRESETS["lite_16b"]
WINDOW = FULL.rope_scaling.original_max_position_embeddings
TRAINED_TO = 131_072    # tokens of the second stage of extension (Coder-V2, §3.4)
WIDE, HIGH = 21.5, 14.5
STAGES = {  # command: (column, row, colour, title, what the paper has, lessons)
    "data": (0, 0, "code", "corpus",
             f"{next(iter(CODE))},\n{UNIQUE['code']:,}B tokens in all", "02"),
    "tokenizer": (1, 0, "code", "tokenizer",
                  f"byte pairs; embedding\nof {FULL.vocab_size:,} rows", "01"),
    "pack": (2, 0, "code", "packing",
             f"{'/'.join(f'{share * 100:.0f}' for share in SHARES.values())} code, "
             "math,\ntext; fill in the middle", "03"),
    "pretrain": (3, 0, "base", "pre-training",
                 f"MLA + MoE, next token\n{TRAINED / 1000:g}T more tokens",
                 "04–07"),
    "extend": (3, 1, "base", "long context",
               f"YaRN: {WINDOW // 1024}K to {TRAINED_TO // 1024}K", "08"),
    "sft": (2, 1, "sft", "instruction tuning", "learns answers alone", "09"),
    "feedback": (1, 1, "grpo", "compiler feedback",
                 "programs run in a\nsandbox: pass or fail", "10"),
    "reward": (0, 1, "grpo", "reward model", "learns the verdicts", "10"),
    "grpo": (0, 2, "grpo", "GRPO", "the group of samples\nis the baseline", "11"),
    "evaluate": (2, 2, "after", "evaluation", "pass@k on held-out tasks", "12"),
    "complete": (3, 2, "after", "use", "complete, infill, chat", "13"),
}
BILLIONS = [f"{count / 1e9:.3g}B" for count in (
    parameter_count(LITE), parameter_count(FULL))]
FINDING = (f"From raw source code to a coder in {len(STAGES)} commands; at the end its "
           "own programs teach it")
ALT = (
    "A flow chart of the whole system, as for the models of "
    f"{' and '.join(BILLIONS)} parameters: " + ", then ".join(
        f"{title} ({detail})".replace("\n", " ")
        for _, _, _, title, detail, _ in STAGES.values())
    + ". GRPO runs in a loop: the model samples programs, the sandbox runs them, their "
    "rewards change the model. Each box names its command and its lesson.")


def spot(name: str) -> tuple[float, float]:
    """The centre of a stage's box."""
    column, row, *_ = STAGES[name]
    return 12 + column * 26, 50 - row * 20.5


def stage(axes: Axes, name: str, colours: dict[str, str]) -> None:
    """A box: title, what happens, command and lesson."""
    x, y = spot(name)
    *_, ink, title, detail, lesson = STAGES[name]
    axes.add_patch(FancyBboxPatch(
        (x - WIDE / 2, y - HIGH / 2), WIDE, HIGH, linewidth=1.5,
        facecolor=colours["panel"], edgecolor=colours[ink],
        boxstyle="round,pad=0,rounding_size=1"))
    axes.text(x, y + 4.6, title, ha="center", va="center", fontsize=11,
              fontweight="bold", color=colours[ink])
    axes.text(x, y + 0.3, detail, ha="center", va="center", fontsize=9,
              color=colours["ink"], linespacing=1.25)
    axes.text(x - WIDE / 2 + 1, y - 5.2, name, va="center", fontsize=9,
              family="monospace", color=colours["muted"])
    axes.text(x + WIDE / 2 - 1, y - 5.2, f"lesson{'s' * (len(lesson) > 2)} {lesson}",
              ha="right", va="center", fontsize=9, color=colours["muted"])


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], ink: str
          ) -> None:
    """From one point to another."""
    axes.annotate("", end, start, arrowprops={
        "arrowstyle": "-|>", "color": ink, "linewidth": 1.5, "shrinkA": 0,
        "shrinkB": 0, "mutation_scale": 12})


def link(axes: Axes, one: str, two: str, ink: str) -> None:
    """From the side of one box to the side of the next."""
    (x, y), (to_x, to_y) = spot(one), spot(two)
    if y == to_y:
        side, low = (WIDE if to_x > x else -WIDE) / 2, 5.2 * (one == "grpo")
        arrow(axes, (x + side, y - low), (to_x - side, y - low), ink)
    else:
        arrow(axes, (x, y - HIGH / 2), (to_x, to_y + HIGH / 2), ink)


def loop(axes: Axes, colours: dict[str, str]) -> None:
    """GRPO and what judges it, between its box and the next stage's."""
    (x, y), ink = spot("grpo"), colours["grpo"]
    edge, left, right = x + WIDE / 2, 33.5, 48.5
    axes.add_patch(FancyBboxPatch(
        (left, y - 2.4), right - left, HIGH / 2 + 2.4, linewidth=1.5, linestyle="--",
        facecolor="none", edgecolor=ink, boxstyle="round,pad=0,rounding_size=1"))
    axes.text((left + right) / 2, y + 2.4, "sandbox, tests,\nreward model",
              ha="center", va="center", fontsize=9, color=ink, linespacing=1.25)
    for height, start, end, word in ((4.2, edge, left, "samples"),
                                     (-0.2, left, edge, "rewards")):
        arrow(axes, (start, y + height), (end, y + height), ink)
        axes.text((edge + left) / 2, y + height + 0.5, word, ha="center", fontsize=9,
                  color=ink)


def draw(colours: dict[str, str]) -> Figure:
    """Three rows: there, back, and there again."""
    figure, axes = plt.subplots(figsize=(9.6, 5.4))
    for name in STAGES:
        stage(axes, name, colours)
    names = list(STAGES)
    for one, two in zip(names[:-1], names[1:], strict=True):
        link(axes, one, two, colours["muted"])
    loop(axes, colours)
    axes.set(xlim=(0.8, 101.2), ylim=(1, 58))
    axes.axis("off")
    figure.suptitle(FINDING, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def main() -> None:
    """Draw both modes; a stage that is no command is refused."""
    if strange := STAGES.keys() - COMMANDS.keys():
        raise ValueError(f"no command of minicoder: {', '.join(sorted(strange))}")
    for path in save_svg(draw, FIGURES / "system", ALT):
        print(path)


if __name__ == "__main__":
    main()
