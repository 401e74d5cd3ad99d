"""The planner's numbers beside what is there: shards, autograd, a trace, the paper.

    python benchmarks/plan.py

Writes benchmarks/results/plan.json and .md. Everything is counted, nothing timed, so
that any machine gives the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from minicoder.config import ModelConfig, preset
from minicoder.model.moe import Router
from minicoder.model.transformer import MiniCoder
from minicoder.parallel.economy import Precision, prepare
from minicoder.parallel.layout import Layout
from minicoder.scale.activations import Keeping
from minicoder.scale.devices import PAPER_HOURS, paper_utilisation
from minicoder.scale.dry_run import dealt, dry_run, fake_team, planned_of
from minicoder.scale.placement import holdings
from minicoder.scale.plan import Work, plan
from minicoder.stages import write_json, write_text
from minicoder.training.loop import token_losses

RESULTS = Path(__file__).parent / "results"
WHOLE = preset("full_236b")
PAPER = Layout(16, 1, 32, 1, 8, "ZBVZeroBubble")    # DeepSeek-V2 §3.1.3
LAYOUTS = (
    Layout(1, 1, 64, 1, 8), Layout(4, 1, 16, 1, 8), Layout(8, 2, 4, 2, 8),
    Layout(8, 1, 16, 2, 32, "ZBVZeroBubble"), Layout(16, 1, 16, 1, 16), PAPER,
    Layout(16, 2, 4, 8, 32), Layout(8, 1, 24, 4, 32, "Interleaved1F1B"),
    Layout(32, 1, 32, 1, 16), Layout(1, 1, 1024, 1, 8), Layout(16, 2, 64, 1, 32),
    Layout(1, 1, 2048, 1, 1), Layout(16, 1, 16, 8, 32))
TRACED = (      # and whether activations are computed again
    (Layout(1, 1, 512, 1, 8), True), (Layout(16, 1, 32, 1, 8), True), (PAPER, False),
    (Layout(8, 1, 16, 4, 32), True), (Layout(16, 1, 16, 8, 32), True))
Row = dict[str, object]


def ranks(layout: Layout) -> list[int]:
    """Processes of every stage, at both ends of the stage's other axes."""
    each = layout.world // layout.pipeline
    return sorted({stage * each + inner for stage in range(layout.pipeline)
                   for inner in (0, each // 2, each - 1)})


def shards() -> Iterator[Row]:
    """Numbers and tensors that `parallelize` leaves, and those of the plan."""
    for layout in LAYOUTS:
        wrong, most, tried = 0, 0, ranks(layout)
        tried = tried[::max(1, len(tried) // 12)] + tried[-1:]
        for rank in tried:
            with fake_team(layout, rank) as team:
                own = [p.to_local().numel() for p in
                       dealt(WHOLE, team, Work())[0].parameters()]
            found, most = (sum(own), len(own)), max(most, sum(own))
            wrong += found != holdings(WHOLE, layout, rank)
        yield {"layout": described(layout), "processes": layout.world,
               "looked at": len(tried), "differ": wrong, "most GiB of weights":
               round(4 * most / 2**30, 3)}
        print(described(layout), wrong, flush=True)


def described(layout: Layout) -> str:
    """The axes that are more than one."""
    axes = [f"{axis} {size}" for axis in ("pipeline", "replicate", "shard", "tensor",
                                          "expert")
            if (size := getattr(layout, axis)) > 1]
    return ", ".join(axes) + (f", {layout.pipeline_schedule}"
                              if layout.pipeline > 1 else "")


def kept(config: ModelConfig, rows: int, length: int, precision: Precision,
         recompute: bool) -> int:
    """Bytes that autograd keeps of a forward pass, without weights."""
    model = MiniCoder(config)
    if precision == "bfloat16":     # as FSDP gathers them
        for part in (*model.model.layers, model.lm_head):
            part.bfloat16()
        for module in model.modules():
            if isinstance(module, Router):
                module.float()
    prepare(model, precision, recompute)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    stored: dict[int, torch.Tensor] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        if x.untyped_storage().data_ptr() not in weights:
            stored[x.untyped_storage().data_ptr()] = x  # its address stays taken
        return x

    tokens = torch.randint(config.vocab_size, (rows, length))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        token_losses(model, tokens, tokens).mean()
    return sum(x.untyped_storage().nbytes() for x in stored.values())


def activations() -> Iterator[Row]:
    """What autograd keeps of whole small models, and the plan."""
    for name in ("toy", "nano", "small"):
        config = preset(name)
        for rows, length in ((2, 64), (1, 256), (4, 128)):
            for precision in ("float32", "bfloat16"):
                for recompute in (False, True):
                    if precision == "bfloat16" and length > 64:
                        continue    # hardly any CPU multiplies it
                    found = kept(config, rows, length, precision, recompute)
                    keep = Keeping(config, Layout().of(1),
                                   4 if precision == "float32" else 2, 0.0)
                    each = keep.head + sum(
                        keep.layer(config.is_moe(layer), recompute)
                        for layer in range(config.num_hidden_layers))
                    yield {"preset": name, "rows x tokens": f"{rows} x {length}",
                           "precision": precision, "recompute": recompute,
                           "MiB kept": round(found / 2**20, 2), "planned is off by":
                           f"{each * rows * length / found - 1:+.2%}"}


def traces() -> Iterator[Row]:
    """A microbatch of 4,096 tokens through process 0 of the whole 236B."""
    for layout, recompute in TRACED:
        work = Work(rounds=9216 // layout.readers, recompute=recompute)
        budget = plan(WHOLE, layout, work)
        trace = dry_run(WHOLE, layout, work)
        found = trace.found
        for name, planned in planned_of(WHOLE, budget).items():
            yield {"layout": described(layout), "recompute": recompute, "what": name,
                   "traced": f"{found[name]:,.0f}", "planned is off by":
                   f"{planned / found[name] - 1:+.3%}",
                   "calls": trace.calls.get(name, "")}
        print(described(layout), "traced", flush=True)


def paper() -> Iterator[Row]:
    """DeepSeek-V2's own figures, and what the planner makes of them."""
    budget = plan(WHOLE, PAPER, Work(rounds=288, tokens=1e12))
    yield {"figure": "H800-hours for 1T tokens (§3.2.3)", "paper": "172.8K",
           "planned": f"{budget.gpu_hours / 1e3:.1f}K: bubble {budget.bubble:.1%} and "
           f"stages of 3 and 4 layers ({budget.imbalance:.2f}) on top"}
    yield {"figure": "tokens a second and GPU", "paper": "1,607 (from it)",
           "planned": f"{1e12 / PAPER_HOURS / 3600:,.0f}"}
    yield {"figure": "share of the peak, all keys counted", "paper": "30 % (from it)",
           "planned": f"{paper_utilisation(False):.1%}; {paper_utilisation():.1%} of "
           "what causal attention needs"}
    work = Work("serve", 131072, 1)
    eight, four = (plan(WHOLE, Layout(1, 1, 1, n, n), work) for n in (8, 4))
    memory = eight.stages[0]
    yield {"figure": "serving in bfloat16 takes 8 x 80 GB (README)", "paper": "8",
           "planned": f"8: {memory.total / 2**30:.1f} of {eight.usable / 2**30:.1f} "
           f"GiB usable, cache of 128K {memory.cache / 2**30:.2f}; 4: "
           f"{four.stages[0].total / 2**30:.1f}, too much"}
    for name, layout, again in (
            ("as in §3.1.3", PAPER, False),
            ("the same, 1F1B, activations again", Layout(16, 1, 32, 1, 8), True)):
        found = plan(WHOLE, layout, Work(rounds=288, recompute=again))
        yield {"figure": f"16 stages x 8 experts' processes on 512 GPUs, {name}",
               "paper": "trained", "planned":
               f"{found.stages[found.worst].total / 2**30:.1f} of "
               f"{found.usable / 2**30:.1f} GiB usable"}


PARTS = {"Weights of real shards (full_236b)": shards,
         "Activations that autograd keeps": activations,
         "One process of the whole 236B, traced": traces,
         "The paper's figures": paper}
NOTES = {
    shards: "Meta tensors made by `parallelize` in a fake process group: numbers and "
            "tensors of processes of all stages. `differ` counts those that the plan "
            "has not to the last one. Optimizer state is 8 bytes a number and 4 a "
            "tensor.",
    activations: "Bytes of all storages that autograd saves, without weights.",
    traces: "FakeTensorMode, one microbatch of 4,096 tokens, forward and back; bytes "
            "are what a ring sends. The all-to-all is rounded to whole tokens.",
    paper: "Without recomputation this model keeps more than such a GPU has, and "
           "schedules that put off gradients of weights do not allow it here; how "
           "DeepSeek's own trainer saves memory is not known in detail."}


def table(rows: list[Row]) -> list[str]:
    """Rows as Markdown."""
    names = list(rows[0])
    return [f"| {' | '.join(names)} |", "|" + "---|" * len(names),
            *(f"| {' | '.join(str(row[name]) for name in names)} |" for row in rows)]


def main() -> None:
    """Run all parts and write what came out."""
    torch.manual_seed(0)
    found = {title: list(part()) for title, part in PARTS.items()}
    write_json(RESULTS / "plan.json", found)
    lines = ["# The planner's numbers, checked", "",
             f"Made by `python benchmarks/plan.py`, torch {torch.__version__}."]
    for (title, rows), part in zip(found.items(), PARTS.values(), strict=True):
        lines += ["", f"## {title}", "", NOTES[part], "", *table(rows)]
    write_text(RESULTS / "plan.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
