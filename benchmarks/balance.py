"""What the balance losses buy: loads of experts, devices and wires, and their price.

    python benchmarks/balance.py [--run runs/demo] [--seeds 0 1 2] [--out runs/balance]

The demo's base model with its 16 experts dealt out to 8 devices, at most 3 a token,
reads the rows of a demo run: without balance losses, with V2's factor on experts, and
with all three of V2's factors (§3.1.2). A seed decides the first weights and the order
of the rows. Loads are measured afterwards on rows that no step has read. Interrupted,
it goes on. Writes benchmarks/results/balance.json and balance.md.
"""

from __future__ import annotations

import platform
from pathlib import Path
from statistics import fmean

import torch
import tyro
from torch import Tensor

from minicoder.config import preset
from minicoder.data.packing import Shards
from minicoder.model.balance import Balance, chosen
from minicoder.model.transformer import MiniCoder
from minicoder.stages import read_json, write_json
from minicoder.tokenizer import Tokenizer, padded
from minicoder.training.loop import Plan, train
from minicoder.training.objective import Objective, rows_loss

RESULTS = Path(__file__).parent / "results"
DEVICES, LIMIT, LAST = 8, 3, 20     # LAST: steps that the closing losses are a mean of
WAYS = {"no loss": (0.0, 0.0, 0.0), "experts": (0.003, 0.0, 0.0),
        "all three": (0.003, 0.05, 0.02)}
PLACES = ("experts", "devices", "wires")


def loads(model: MiniCoder, rows: Tensor) -> dict[str, list[list[float]]]:
    """Of each layer with experts: visits of experts and of devices, and tokens that
    devices receive, each over its fair share."""
    seen: list = []
    with torch.no_grad():
        model.eval().model(rows[:, :-1], seen)
    found: dict[str, list[list[float]]] = {place: [] for place in PLACES}
    for routing in seen:
        visits = chosen(routing).unflatten(1, (DEVICES, -1))
        for place, load in zip(PLACES, (
                visits.sum(0).flatten(), visits.sum((0, 2)), visits.amax(2).sum(0)),
                strict=True):
            found[place].append(
                [round(x, 4) for x in (load / load.mean()).tolist()])
    return found


def one(out: Path, run: Path, way: str, seed: int, steps: int, batch: int) -> dict:
    """Train once, and measure on the rows behind those that training read."""
    kept = out / "scores.json"
    if kept.exists():
        return read_json(kept)
    words, rows = Tokenizer.load(run / "tokenizer"), Shards(run / "pack")
    torch.manual_seed(seed)
    model = MiniCoder(preset(
        "toy", vocab_size=padded(words.vocab_size), n_group=DEVICES, topk_group=LIMIT,
        max_position_embeddings=rows.sequence_length,
        topk_method="group_limited_greedy"))
    read = Objective(model, Balance(*WAYS[way], devices=DEVICES, limit=LIMIT),
                     rows.bos, words.fim_begin)
    out.mkdir(parents=True, exist_ok=True)
    log = train(model, rows_loss(read, rows, batch, seed),
                Plan(steps, lr=4e-3, warmup=50, log_every=1), out, f"{way}, {seed}")
    found = {
        "loads": loads(model, torch.cat([
            rows.batch(step, batch, seed) for step in range(steps, steps + 8)])),
        "busiest": [round(fmean(line["max_over_mean"]), 4) for line in log],
        "loss": round(fmean(line["language_loss"] for line in log[-LAST:]), 4)}
    write_json(kept, found)
    return found


def busiest(found: dict, way: str, place: str) -> list[float]:
    """The busiest over its fair share, mean over layers, of each seed."""
    return [fmean(max(layer) for layer in seed[way]["loads"][place])
            for seed in found["seeds"].values()]


def page(found: dict) -> str:
    """The results as Markdown."""
    def cell(values: list[float]) -> str:
        return f"{fmean(values):.2f} ({min(values):.2f}–{max(values):.2f})"

    rows = [f"| {way} | {' | '.join(f'{a:g}' for a in alphas)} | " + " | ".join(
        cell(busiest(found, way, place)) for place in PLACES) + " | " + cell(
            [seed[way]["loss"] for seed in found["seeds"].values()]) + " |"
        for way, alphas in WAYS.items()]
    return "\n".join([
        "# What the balance losses buy", "",
        f"Made by `python benchmarks/balance.py`, {found['machine']}. Seeds "
        f"{', '.join(found['seeds'])} (first weights, order of rows), {found['steps']} "
        f"steps of {found['batch']} rows of {found['row']} tokens; 16 experts on "
        f"{DEVICES} devices, a token visits 4 of them on at most {LIMIT}. The busiest "
        "over its fair share, mean over layers, on rows that no step has read; the "
        f"language loss in nats is the mean of the last {LAST} steps. Means of the "
        "seeds, the least and the most in brackets.", "",
        "| run | α experts | α devices | α wires | busiest expert | busiest device | "
        "busiest wire | language loss |", "|" + "---|" * 8, *rows, ""])


def main(run: Path = Path("runs/demo"), seeds: tuple[int, ...] = (0, 1, 2),
         out: Path = Path("runs/balance"), steps: int = 200, batch: int = 8) -> None:
    """Run every seed and write what came out, after each."""
    found: dict = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "devices": DEVICES, "limit": LIMIT, "steps": steps, "batch": batch,
        "row": Shards(run / "pack").sequence_length, "factors": WAYS, "seeds": {}}
    for seed in seeds:
        found["seeds"][str(seed)] = {
            way: one(out / f"{seed}-{way.replace(' ', '-')}", run, way, seed, steps,
                     batch) for way in WAYS}
        write_json(RESULTS / "balance.json", found)
        (RESULTS / "balance.md").write_text(page(found), encoding="utf-8")
    print(page(found))


if __name__ == "__main__":
    tyro.cli(main)
