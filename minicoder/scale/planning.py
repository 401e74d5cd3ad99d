"""The command `plan`: a model, a cluster, and what the one needs of the other."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from minicoder.config import ModelConfig, Real, preset
from minicoder.errors import UserError, at_least
from minicoder.parallel.economy import Precision
from minicoder.parallel.layout import Layout
from minicoder.parallel.pipeline import SCHEDULES
from minicoder.scale.account import account, flags, gib
from minicoder.scale.devices import find_device
from minicoder.scale.plan import Budget, Purpose, Work, plan
from minicoder.scale.search import Choice, Wish, budgets, proposals

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}         # of tokens in rows
DECIMAL = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}  # of tokens read
BYTES = {"": 1, "B": 1, "MB": 1e6, "GB": 1e9, "TB": 1e12,
         "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
Schedule = Literal["auto", "GPipe", "1F1B", "Interleaved1F1B", "ZBVZeroBubble",
                   "DualPipeV"]


def quantity(flag: str, text: str, units: Mapping[str, Real]) -> Real:
    """`text` as a number, like 80GB or 128K; `UserError` when it is none above 0."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]*)", text.strip().lower())
    unit = match and match[2].upper()
    if match is None or unit not in units or not float(match[1]):
        known = ", ".join(u for u in units if u)
        raise UserError(f"--{flag} {text}: write a number above 0, alone or with one "
                        f"of {known}.")
    return float(match[1]) * units[unit]


def plan_cluster(
    model: Positional[str], gpus: int = 64, memory: str = "", context: str = "4K",
    pipeline: int = 0, replicate: int = 1, shard: int = 0, tensor: int = 0,
    expert: int = 0, pipeline_schedule: Schedule = "auto", batch: str = "",
    microbatches: int = 0, precision: Precision = "bfloat16",
    recompute: Choice = "auto", optimizer_state: int = 8, purpose: Purpose = "train",
    device: str = "h800", price_per_hour: float = 2.0, tokens: str = "6T",
    utilisation: float = 0.0, dry_run: bool = False,
    as_json: Annotated[bool, arg(name="json")] = False,
) -> None:
    """Say what training or serving a preset needs of a cluster; nothing is built.

      plan full_236b --gpus 512 --device h800

      plan full_236b --purpose serve --gpus 8 --context 128K

    What is not given is chosen, the cheapest that fits. A plan that does not fit is
    refused with status 2, and others that do are named.

    Args:
        model: preset (toy, nano, small, ablation_1b, lite_16b, full_236b).
        gpus: how many, eight to a node.
        memory: of each, like 80GB or 74.5GiB; that of --device when left out.
        context: tokens of a row, or of a sequence that is served; 4K is 4,096.
        pipeline: stages; 0: chosen, as for shard, tensor and expert.
        replicate: copies of the sharded weights.
        shard: processes that share each weight and read other rows.
        tensor: processes that share heads and widths.
        expert: processes that hold the experts of a layer together.
        pipeline_schedule: order in which the stages of a pipeline work.
        batch: tokens of a step, 36M if left out, as DeepSeek-V2; 4M is 4 x 2^20. For
            serving, tokens of all sequences at once: one sequence if left out.
        microbatches: parts that a reader's rows are read in; 0: chosen.
        precision: what matrices are multiplied in; weights stay float32.
        recompute: compute activations again.
        optimizer_state: bytes a parameter; AdamW in float32 has 8.
        purpose: train or serve.
        device: h800, h100, h200 or a100.
        price_per_hour: dollars of a GPU-hour; 2 is what DeepSeek-V3's report takes.
        tokens: to be read in all; 6T is 6 x 10^12.
        utilisation: share of the peak while a GPU works; 0: as in DeepSeek-V2's
            training.
        dry_run: trace one process of the plan too, on fake tensors.
        as_json: print the numbers for machines.
    """
    config, chip = preset(model), find_device(device)
    at_least(1, gpus=gpus, replicate=replicate)
    at_least(0, pipeline=pipeline, shard=shard, tensor=tensor,
             expert=expert, microbatches=microbatches, price_per_hour=price_per_hour)
    if not 0 <= utilisation <= 1:
        raise UserError(f"--utilisation {utilisation}: allowed is 0 to 1.")
    room = quantity("memory", memory, BYTES) if memory else None
    length = int(quantity("context", context, UNITS))
    step = batch or ("36M" if purpose == "train" else str(length))
    work = Work(purpose, length, rows_of(step, length), max(1, microbatches), precision,
                recompute == "yes", optimizer_state,
                quantity("tokens", tokens, DECIMAL), utilisation or None,
                price_per_hour)
    wanted = Layout(pipeline, replicate, shard, tensor, expert,
                    "" if pipeline_schedule == "auto" else pipeline_schedule)
    wish = Wish(gpus, wanted, recompute, microbatches)
    found = budgets(config, work, wish, chip, room)
    if not found:
        plan(config, wanted_layout(wanted, gpus), work, chip, room)   # says why not
        raise UserError(
            f"No layout of {gpus} GPUs deals out {rows} rows like this: change --batch "
            "or leave more axes to be chosen.")
    best = found[0]
    print(answer(model, config, best, dry_run and best.over <= 0, as_json))
    if best.over > 0:
        raise UserError(refusal(best, wish, proposals(config, work, wish, chip, room)))


def answer(model: str, config: ModelConfig, b: Budget, traced: bool, as_json: bool
           ) -> str:
    """The plan, and a trace of one process of it, for people or machines."""
    text, numbers = account(model, config, b), b.to_json()
    if traced:
        from minicoder.scale import dry_run as fake  # torch's own test tools
        trace = fake.dry_run(config, b.layout, b.work)
        text += "\n\n" + fake.account(config, trace, b)
        numbers["traced"] = trace.found
    return json.dumps(numbers) if as_json else text


def rows_of(step: str, length: int) -> int:
    """How many rows of `length` tokens a step has."""
    rows, rest = divmod(int(quantity("batch", step, UNITS)), length)
    if not rows or rest:
        raise UserError(f"--batch {step}: choose a multiple of the {length} tokens of "
                        "a row (--context).")
    return rows


def wanted_layout(wanted: Layout, gpus: int) -> Layout:
    """What was given, with 1 for what was not and the rest of the GPUs as shards."""
    one = replace(wanted, **{axis: getattr(wanted, axis) or 1 for axis in (
        "pipeline", "tensor", "expert")},
        pipeline_schedule=wanted.pipeline_schedule or SCHEDULES[1])
    return one.of(gpus)


def refusal(b: Budget, wish: Wish, instead: list[Budget]) -> str:
    """What is too large by how much, and flags that do, in the place of those given."""
    memory = b.stages[b.worst]
    largest = sorted(vars(memory).items(), key=lambda part: -part[1])[:3]
    said = (f"The plan does not fit: a process of stage {b.worst} needs "
            f"{gib(memory.total)}, {gib(b.over)} more than the {gib(b.usable)} that "
            "are usable; the largest parts are "
            + ", ".join(f"{name} {gib(size)}" for name, size in largest) + ".")
    if not instead:
        return said + " No other layout, number of GPUs or context tried does."
    for p in instead:
        said += (f"\n  fits: --gpus {p.layout.world} --context {p.work.context} "
                 + flags(p))
        if p.step_tokens != b.step_tokens:
            said += f" --batch {p.step_tokens}"
        if wish.recompute != "auto":
            said += f" --recompute {'yes' if p.work.recompute else 'no'}"
        if wish.rounds:
            said += f" --microbatches {p.work.rounds}"
        said += f" ({gib(p.stages[p.worst].total)}" + (
            f", {p.gpu_hours:,.0f} GPU-hours)" if p.work.purpose == "train" else ")")
    return said
