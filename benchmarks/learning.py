"""What the demo learns, on three seeds, and what FIM training is worth.

    python benchmarks/learning.py [--seeds 0 1 2] [--out runs/learning]

The whole demo is run on the first seed; the others repeat SFT, GRPO and evaluation on
its base model with other tasks, bugs, orders and samples (--whole runs the whole demo
on each). A twin of the base model differs in one thing: it is packed with FIM rate 0.
Interrupted, it goes on. Writes benchmarks/results/learning.json and learning.md.
"""

from __future__ import annotations

import platform
from pathlib import Path

import tyro

from minicoder.alignment.grpo import grpo
from minicoder.alignment.sft import sft
from minicoder.data.packing import pack
from minicoder.demo import WINDOW, demo
from minicoder.evaluation.compression import bits_per_byte
from minicoder.evaluation.evaluate import evaluate
from minicoder.evaluation.infilling import exact_match, single_line_holes
from minicoder.evaluation.language import held_out_texts
from minicoder.model.transformer import MiniCoder
from minicoder.stages import MADE_BY, read_json, write_json
from minicoder.tokenizer import Tokenizer
from minicoder.training.pretrain import pretrain

RESULTS = Path(__file__).parent / "results"


def score(value: dict[str, float]) -> str:
    """41.2 % (38.0–44.1)."""
    return (f"{100 * value['value']:.1f} % "
            f"({100 * value['low']:.1f}–{100 * value['high']:.1f})")


def twins(run: Path, seed: int, holes: int = 1000) -> dict[str, dict]:
    """Infilling and compression of the base model and of its twin without FIM."""
    plain = run / "twin"
    base = read_json(run / "pretrain" / MADE_BY)["settings"]
    packed = read_json(run / "pack" / MADE_BY)["settings"]
    pack(plain / "pack", run / "corpus", run / "tokenizer", sequence_length=WINDOW,
         tokens=packed["tokens"], fim_rate=0.0, seed=seed)
    pretrain(plain / "pretrain", plain / "pack", run / "tokenizer",
             steps=base["steps"], warmup=base["warmup"],
             recall=base["recall"], middles=base["middles"], seed=seed)
    texts = held_out_texts(run / "corpus", "code", 400_000)
    tokenizer = Tokenizer.load(run / "tokenizer")
    found = {}
    for name, folder in (("FIM 0.5", run / "pretrain"), ("no FIM", plain / "pretrain")):
        model = MiniCoder.from_pretrained(folder)
        scores = exact_match(model, tokenizer, single_line_holes(texts, holes, seed=1))
        scores.pop("examples")
        found[name] = scores | {"bits_per_byte": bits_per_byte(
            model, tokenizer, texts, WINDOW)}
    return found


def table(found: dict) -> str:
    """The results as a page of Markdown."""
    lines = ["# What the demo learns", "",
             f"Made by `python benchmarks/learning.py`, {found['machine']}. Scores "
             "with 95 % intervals; programs are sampled at temperature 1 unless "
             "greedy. All seeds start from the base model of the first, unless --whole "
             "was said; tasks, bugs, orders and samples are their own.", "",
             "| seed | model | pass@1, sampled | pass@1, greedy | pass@8 |",
             "|---|---|---|---|---|"]
    for seed, run in found["seeds"].items():
        lines += [f"| {seed} | {row['name']} | {score(row['pass@1'])} | "
                  f"{score(row['greedy'])} | {score(row['pass@8'])} |"
                  for row in run["rows"]]
    lines += ["", "| seed | bits per byte, code | gzip -9 | xz -9 | lines infilled "
              "| from the prefix alone | minutes |", "|---|---|---|---|---|---|---|"]
    for seed, run in found["seeds"].items():
        if (base := run.get("language")) is None:
            continue
        lines.append(
            f"| {seed} | {base['bits_per_byte']['code']:.3f} | "
            f"{base['gzip']['code']:.3f} | {base['xz']['code']:.3f} | "
            f"{score(base['infilling']['fim'])} | "
            f"{score(base['infilling']['prefix_only'])} | {run['minutes']:.1f} |")
    lines += ["", "The same base model with and without FIM training, single held-out "
              "lines, exact match:", "",
              "| trained with | seeing both sides | from the prefix alone "
              "| bits per byte, left to right |", "|---|---|---|---|"]
    lines += [f"| {name} | {score(row['fim'])} | {score(row['prefix_only'])} | "
              f"{row['bits_per_byte']:.3f} |" for name, row in found["twins"].items()]
    return "\n".join(lines) + "\n"


def aligned(run: Path, base: Path, seed: int) -> None:
    """SFT, GRPO and evaluation of another seed, with the settings of the first."""
    def again(name: str) -> dict:
        made = read_json(base / name / MADE_BY)["settings"]
        drop = ("model", "models", "names", "reward_model", "seed")
        return {k: v for k, v in made.items() if k not in drop} | {"seed": seed}

    model = base / "extend"
    sft(run / "sft", model, **again("sft"))
    grpo(run / "grpo", run / "sft", **again("grpo"))
    evaluate((model, run / "sft", run / "grpo"), run / "evaluate",
             names=("base", "sft", "grpo"), **again("evaluate"))


def main(seeds: tuple[int, ...] = (0, 1, 2), out: Path = Path("runs/learning"),
         effort: float = 1.0, whole: bool = False) -> None:
    """Run every seed and write what came out."""
    found: dict = {"machine": f"{platform.machine()}, Python "
                              f"{platform.python_version()}", "seeds": {}}
    first = out / f"seed-{seeds[0]}"
    for seed in seeds:
        run = out / f"seed-{seed}"
        if whole or seed == seeds[0]:
            demo(run, seed, effort)
        else:
            aligned(run, first, seed)
        made = [read_json(p) for p in sorted(run.glob(f"*/{MADE_BY}"))]
        found["seeds"][str(seed)] = {
            "rows": read_json(run / "evaluate/scores.json")["rows"],
            "minutes": sum(m["seconds"] for m in made) / 60,
            "peak_mib": max(m["peak_mib"] for m in made)}
        if (run / "language").exists():
            found["seeds"][str(seed)] |= {
                "needle": read_json(run / "language/needle.json"),
                "language": {
                    k: v for k, v in read_json(run / "language/scores.json").items()
                    if k != "examples"}}
    found["twins"] = twins(first, seeds[0])
    write_json(RESULTS / "learning.json", found)
    (RESULTS / "learning.md").write_text(table(found), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    tyro.cli(main)
