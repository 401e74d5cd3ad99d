"""Training and decoding on a GPU: how much of its arithmetic and bandwidth is used.

    python benchmarks/gpu.py                   # 80 GB or more
    python benchmarks/gpu.py --preset toy --steps 2 --out runs/gpu   # a trial, anywhere

Trains `small` and `lite_16b` with 4 of its 27 layers, in bfloat16 and compiled, as
`pretrain --precision bfloat16 --compile` does; decodes with `lite_16b`, whole, in
bfloat16 from random weights, and with its 4 layers at batch 64. Writes gpu.json and
gpu.md into --out (benchmarks/results).

Utilisation is the FLOPs that a model needs (minicoder.scale.flops: 6 for each activated
parameter of a matrix and token, and causal attention; PaLM, arXiv 2204.02311, appendix
B) times tokens a second, over the peak: what an 8,192 x 8,192 product in bfloat16
reaches here, and the data sheet's where minicoder.scale.devices has it. Memory stands
beside the plan's.
"""

from __future__ import annotations

import gc
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
import tyro

from minicoder.config import PRESETS, ModelConfig, parameter_count
from minicoder.model.mla import LatentCache
from minicoder.model.transformer import MiniCoder
from minicoder.parallel.economy import prepare
from minicoder.parallel.layout import Layout
from minicoder.scale import flops
from minicoder.scale.devices import DEVICES
from minicoder.scale.plan import Work, plan
from minicoder.stages import peak_memory, reset_peak_memory, write_json
from minicoder.training.loop import pick_device, token_losses
from minicoder.training.optimizer import adamw

RESULTS = Path(__file__).parent / "results"
DEVICE = pick_device()
CUDA = DEVICE.type == "cuda"
LOW = torch.bfloat16
Row = dict[str, str | int | float]


def seconds(run: Callable[[], object], rounds: int, warm: int = 3) -> float:
    """Median time of a call, once the device has caught up."""
    times = []
    for turn in range(rounds + warm):
        if CUDA:
            torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        if CUDA:
            torch.cuda.synchronize()
        if turn >= warm:
            times.append(time.perf_counter() - began)
    return median(times)


def peaks() -> dict[str, float]:
    """FLOP and bytes a second of this device: a matrix product, a copy."""
    size, count = (8192, 2**30) if CUDA else (256, 2**24)
    a, b = (torch.randn(size, size, device=DEVICE, dtype=LOW) for _ in range(2))
    source = torch.ones(count, device=DEVICE, dtype=LOW)
    target = torch.empty_like(source)
    return {"flops": 2 * size**3 / seconds(lambda: a @ b, 20),
            "bytes": 2 * source.nbytes / seconds(lambda: target.copy_(source), 20)}


def train(name: str, config: ModelConfig, batch: int, length: int, steps: int,
          limits: dict[str, float]) -> Row:
    """Tokens a second of a training step, and the most memory that it took."""
    gc.collect()
    torch.manual_seed(0)
    model = MiniCoder(config).to(DEVICE).train()
    prepare(model, "bfloat16", compiled=True)
    optimizer = adamw(model, 1e-4)
    tokens = torch.randint(config.vocab_size, (batch, length + 1), device=DEVICE)

    def step() -> None:
        token_losses(model, tokens[:, :-1], tokens[:, 1:]).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()      # compiles, and makes the optimizer's state
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
    reset_peak_memory()
    speed = batch * length / seconds(step, steps)
    memory = (torch.cuda.max_memory_allocated() / 2**30 if CUDA
              else peak_memory() / 1024)
    reached = speed * flops.training(config, length)
    planned = plan(config, Layout().of(1), Work(context=length, rows=batch)).stages[0]
    return {"what": f"training, {name}, {batch} x {length:,}", "tokens/s": round(speed),
            "TFLOP/s": reached / 1e12, "of the product": reached / limits["flops"],
            "GiB": memory, "GiB planned": planned.total / 2**30} | (
        {"of the data sheet": reached / limits["sheet"]} if "sheet" in limits else {})


def bytes_per_step(c: ModelConfig, batch: int, context: int) -> float:
    """What decoding one token for each text must read: weights used, latent cache."""
    unused = 0.0
    if c.n_routed_experts:  # the share of experts that no token of the batch chose
        share = (1 - c.num_experts_per_tok / c.n_routed_experts) ** batch
        layers = sum(map(c.is_moe, range(c.num_hidden_layers)))
        unused = (share * layers * c.n_routed_experts * 3 * c.hidden_size
                  * c.moe_intermediate_size)
    weights = parameter_count(c) - unused - c.vocab_size * c.hidden_size
    return LOW.itemsize * (
        weights + batch * context * c.num_hidden_layers * c.cache_width)


@torch.no_grad()
def decode(name: str, config: ModelConfig, cases: list[tuple[int, int]], steps: int,
           limits: dict[str, float]) -> list[Row]:
    """Milliseconds a token after a cache of random numbers, beside the least it reads.
    """
    gc.collect()
    model = MiniCoder.outline(config).to(LOW).to_empty(device=DEVICE).eval()
    for weight in model.parameters():   # never two copies of the model
        weight.normal_(0, 0.02) if weight.ndim > 1 else weight.fill_(1)
    rows = []
    for batch, context in cases:
        cache = LatentCache(config, model.lm_head.weight, batch, context + 1)
        new = torch.randint(config.vocab_size, (batch, 1), device=DEVICE)

        def step(cache: LatentCache = cache, new: torch.Tensor = new,
                 context: int = context) -> None:
            cache.length = context
            model.lm_head(model.model.decode(new, cache)[:, -1])

        taken = seconds(step, steps)
        floor = bytes_per_step(config, batch, context) / limits["bytes"]
        rows.append({"what": f"decode, {name}, batch {batch}, context {context:,}",
                     "tokens/s": round(batch / taken, 1), "ms": 1000 * taken,
                     "ms of reading": 1000 * floor, "of the bandwidth": floor / taken})
    return rows


def machine() -> dict[str, str]:
    """Names and versions of what was measured."""
    found = {"torch": torch.__version__, "python": platform.python_version(),
             "device": platform.machine()}
    if CUDA:
        driver = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, check=True).stdout.split()[0]
        found |= {"device": torch.cuda.get_device_name(), "driver": driver,
                  "cuda": str(torch.version.cuda)}
    return found


def page(found: dict, rows: list[Row]) -> str:
    """The results as a page of Markdown."""
    lines = ["# On a GPU", "", "Made by `python benchmarks/gpu.py`: "
             + ", ".join(f"{k} {v}" for k, v in found["machine"].items())
             + f". A product reaches {found['limits']['flops'] / 1e12:,.1f} TFLOP/s, a "
             f"copy {found['limits']['bytes'] / 1e9:,.0f} GB/s; the script has the "
             "formulas.", ""]
    for kind in ("training", "decode"):
        part = [row for row in rows if str(row["what"]).startswith(kind)]
        names = list(part[0])
        lines += ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
        lines += ["| " + " | ".join(
            f"{100 * v:.0f} %" if n.startswith("of ") else
            f"{v:,.4g}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int)
            else v for n, v in row.items()) + " |" for row in part]
        lines.append("")
    return "\n".join(lines)


def main(preset: str = "", steps: int = 20, out: Path = RESULTS) -> None:
    """Measure and write.

    Args:
        preset: train and decode with this one alone, on short texts.
        steps: training steps and decoded tokens that are timed.
        out: folder for gpu.json and gpu.md.
    """
    lite, found = PRESETS["lite_16b"], {"machine": machine()}
    limits = found["limits"] = peaks()
    for name, gpu in DEVICES.items():
        if name in found["machine"]["device"].lower():
            limits["sheet"] = gpu.bfloat16
    cut = replace(lite, num_hidden_layers=4)
    training = [("small", PRESETS["small"], 8, 4096),
                ("lite_16b, 4 layers", cut, 4, 4096)]
    decoding = [("lite_16b", lite, [(1, 4096), (1, 65536)]),
                ("lite_16b, 4 layers", cut, [(64, 4096), (64, 16384), (64, 65536)])]
    if preset:
        training = [(preset, PRESETS[preset], 2, 128)]
        decoding = [(preset, PRESETS[preset], [(1, 64), (4, 128)])]
    rows = []
    for row in (*(train(*case, steps, limits) for case in training), *(
            row for case in decoding for row in decode(*case, steps, limits))):
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()},
              flush=True)
        rows.append(row)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "gpu.json", found | {"rows": rows})
    (out / "gpu.md").write_text(page(found, rows), encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
