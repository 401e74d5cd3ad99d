"""Why YaRN: four ways of reading 16 times further, before and after a little training.

    python benchmarks/context.py [--run runs/demo] [--seeds 0 1 2] [--out runs/context]

The base model of a demo run reads 128 tokens; some more steps at that length, with
needles, come first. Each way stretches it by 32 to be read at 16 times its window, as
the paper stretches by 40 what it trains at 32 times: YaRN, position interpolation
(linear), a larger base (NTK), nothing. Each is measured so, and after the same training
in two stages, 512 and then 2,048 tokens a row, as many tokens a step. A seed decides
the order of the rows, the needles to learn and those to find; the base is one.
Interrupted, it goes on. Writes benchmarks/results/context.json and context.md.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import get_args

import torch
import tyro

from minicoder.data.packing import pack
from minicoder.evaluation.language import DEPTHS, held_out_texts
from minicoder.evaluation.needle import needle_grid
from minicoder.evaluation.position import bits_by_position
from minicoder.model.rope import Way
from minicoder.model.transformer import MiniCoder
from minicoder.stages import read_json, write_json
from minicoder.tokenizer import Tokenizer
from minicoder.training.long_context import extend, stretch

RESULTS = Path(__file__).parent / "results"
FACTOR, ROWS = 32, (512, 2048)
RIVALS = (128, 512)     # lengths at which the straw has rival letters, too
LENGTHS = (64, 128, 256, 512, 1024, 2048)
EDGES = (0, 64, 128, 256, 512, 1024, 2048)
WAYS: tuple[Way, ...] = get_args(Way)


def measure(model: MiniCoder, tokenizer: Tokenizer, texts: list[str], seed: int,
            trials: int, files: int) -> dict:
    """Needles over lengths and depths, with and without rivals; bits by position."""
    straw = "\n".join(texts)
    long = [t for t in texts if len(tokenizer.encode(t)) >= EDGES[-1]][:files]
    return {
        "needle": needle_grid(model, tokenizer, straw, LENGTHS, DEPTHS, trials, seed),
        "rivals": needle_grid(model, tokenizer, straw, RIVALS, DEPTHS, trials, seed,
                              rivals=True),
        "bits": bits_by_position(model, tokenizer, long, EDGES), "files": len(long)}


def mean(grid: list[list[float]], column: int) -> float:
    """The share found over all depths of a length."""
    return sum(row[column] for row in grid) / len(grid)


def table(found: dict, what: str, heads: tuple[int, ...]) -> list[str]:
    """Means over the seeds (least and most in brackets): a row per way and moment."""
    lines = [f"| way | | {' | '.join(f'{h:,}' for h in heads)} |",
             "|---|---|" + "---|" * len(heads)]
    for way in WAYS:
        for when in ("before", "after"):
            runs = [seed[way][when] for seed in found["seeds"].values()]
            cells = []
            for column in range(len(heads)):
                if what == "bits":
                    shown, form = [run["bits"][column] for run in runs], "{:.2f}"
                else:
                    shown = [100 * mean(run[what], column) for run in runs]
                    form = "{:.0f} %"
                spread = (f" ({min(shown):.3g}–{max(shown):.3g})"
                          if len(shown) > 1 else "")
                cells.append(form.format(sum(shown) / len(shown)) + spread)
            lines.append(f"| {way} | {when} | {' | '.join(cells)} |")
    return lines


def page(found: dict) -> str:
    """The results as Markdown."""
    first = next(iter(found["seeds"].values()))["yarn"]["before"]
    return "\n".join([
        "# Reading 16 times further", "",
        f"Made by `python benchmarks/context.py`, {found['machine']}. Seeds "
        f"{', '.join(found['seeds'])} (order of rows, needles to learn and to find), "
        f"one base model ({found['sharpen']} steps more on its own rows of "
        f"{found['window']} tokens), {found['trials']} needles for each of "
        f"{len(DEPTHS)} depths; "
        "the mean, and the least and the most of the seeds. \"After\" is "
        f"{found['steps']} steps on rows of 512 tokens and as many on rows of 2,048, "
        f"2,048 tokens a step and as many of needles, learning rate {found['lr']:g}. "
        f"All ways stretch by {found['factor']}.",
        "", "Needles found, by length in tokens, in straw without other lone capital "
        "letters (chance: 4 %):", "", *table(found, "needle", LENGTHS), "",
        "The same where the straw has lone capital letters, which rival the answer:",
        "", *table(found, "rivals", RIVALS), "",
        f"Bits per byte by position, up to so many tokens, {first['files']} held-out "
        "files of code:", "", *table(found, "bits", EDGES[1:]), ""])


def one_seed(run: Path, first: Path, out: Path, seed: int, steps: int, lr: float,
             trials: int, files: int) -> dict:
    """All ways, before and after, with what was measured kept on disk."""
    texts = held_out_texts(run / "corpus", "code", 600_000)
    tokenizer, base = MiniCoder.with_tokenizer(first, torch.device("cpu"))
    found: dict = {}
    for way in WAYS:
        place, model = out / f"seed-{seed}" / way, first
        for stage, length in enumerate(ROWS):
            model = extend(place / str(length), model, out / f"rows-{length}",
                           factor=1 if stage else FACTOR, way=way, steps=steps, lr=lr,
                           seed=seed)
        kept = place / "scores.json"
        if not kept.exists():
            after = MiniCoder.from_pretrained(model)
            scores = {
                when: measure(coder, tokenizer, texts, seed, trials, files)
                for when, coder in (("before", stretch(base, FACTOR, way=way)),
                                    ("after", after))}
            write_json(kept, scores)
        found[way] = read_json(kept)
    return found


def main(run: Path = Path("runs/demo"), seeds: tuple[int, ...] = (0, 1, 2),
         out: Path = Path("runs/context"), sharpen: int = 60, steps: int = 16,
         lr: float = 1e-3, trials: int = 6, files: int = 12) -> None:
    """Run every seed and write what came out, after each."""
    first = extend(out / "base", run / "pretrain", run / "pack", factor=1, way="none",
                   steps=sharpen, lr=lr)
    for length in ROWS:
        pack(out / f"rows-{length}", run / "corpus", run / "tokenizer",
             sequence_length=length, tokens=300_000)
    found: dict = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "factor": FACTOR, "window": read_json(run / "pretrain" / "config.json")[
            "max_position_embeddings"], "lengths": LENGTHS, "depths": DEPTHS,
        "edges": EDGES, "sharpen": sharpen, "steps": steps, "lr": lr, "trials": trials,
        "seeds": {}}
    for seed in seeds:
        found["seeds"][str(seed)] = one_seed(
            run, first, out, seed, steps, lr, trials, files)
        write_json(RESULTS / "context.json", found)
        (RESULTS / "context.md").write_text(page(found), encoding="utf-8")
    print(page(found))


if __name__ == "__main__":
    tyro.cli(main)
