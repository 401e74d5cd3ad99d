"""A budget for people: tables, what was assumed, and what was left out."""

from __future__ import annotations

from minicoder.config import ModelConfig, Real, parameter_count
from minicoder.scale import flops
from minicoder.scale.devices import NODE, PAPER_HOURS, paper_utilisation
from minicoder.scale.plan import PREFILL, USABLE, Budget
from minicoder.scale.schedules import SOURCES

UNMODELLED = (
    "uneven loads of experts: one that many tokens choose needs more memory and time",
    "fragments, communication buffers and CUDA's own memory beyond the tenth set aside",
    "latencies, switches shared with others, slow nodes, failures and restarts",
    "overlap: traffic is hidden behind arithmetic as far as that lasts, in whatever "
    "order", "data loading, checkpoints, evaluation",
    "what GPUs send one another while they serve",
    "context parallelism and losses in pieces, which minicoder does not have")


def gib(count: Real) -> str:
    """Bytes for people."""
    return (f"{count / 2**30:,.2f} GiB" if count < 2**40
            else f"{count / 2**40:,.2f} TiB")


def flop(count: Real) -> str:
    """FLOPs for people."""
    return f"{count / 1e9:,.1f} G" if count >= 1e9 else f"{count / 1e6:,.2f} M"


def flags(b: Budget) -> str:
    """The layout, as `plan` and `pretrain` take it."""
    axes = " ".join(f"--{axis} {getattr(b.layout, axis)}" for axis in (
        "pipeline", "replicate", "shard", "tensor", "expert"))
    return axes + (f" --pipeline-schedule {b.layout.pipeline_schedule}"
                   if b.layout.pipeline > 1 else "")


def command(model: str, b: Budget) -> str:
    """How to start it; for serving, see cluster/."""
    work, layout = b.work, b.layout
    if work.purpose == "serve":
        return (f"vllm serve FOLDER --tensor-parallel-size {layout.tensor} "
                f"--pipeline-parallel-size {layout.pipeline} "
                f"--data-parallel-size {layout.readers} "
                + ("--enable-expert-parallel " if layout.expert > 1 else "")
                + f"--max-model-len {work.context}")
    each = max(n for n in range(1, NODE + 1) if layout.world % n == 0)
    steps = round(work.tokens / b.step_tokens)
    return (f"torchrun --nnodes {layout.world // each} --nproc-per-node {each} "
            f"-m minicoder pretrain --model {model} --out base --shards pack "
            f"--tokenizer tokenizer --steps {steps} --batch {work.rows} "
            f"--accumulate {work.rounds} --precision {work.precision}"
            + (" --recompute " if work.recompute else " ")
            + flags(b))


def memory_table(b: Budget) -> list[str]:
    """GiB of a process of the first two stages, of the last, and of the fullest."""
    names = [name for name in vars(b.stages[0])
             if any(getattr(stage, name) for stage in b.stages)]
    lines = [f"{'GiB a process':<14}" + "".join(f"{n:>12}" for n in (*names, "total"))]
    last = len(b.stages) - 1
    for number in sorted({0, min(1, last), b.worst, last}):
        stage = b.stages[number]
        cells = [getattr(stage, name) for name in names] + [stage.total]
        title = f"stage {number} of {last + 1}"
        lines.append(f"{title:<14}" + "".join(f"{c / 2**30:>12.2f}" for c in cells))
    return [*lines, f"usable {gib(b.usable)}: {gib(abs(b.over))} "
            + ("are missing" if b.over > 0 else "are left")]


def traffic_table(b: Budget) -> list[str]:
    """What a process of the first stage sends in a step, by axis."""
    lines = [f"{axis:<20}{gib(count):>14}  {b.wires[axis]:>8.2f} s if nothing hid it"
             for axis, count in b.sent.items()]
    if b.copies:
        lines.append("a token goes to " + ", ".join(
            f"{n:.2f} processes {how}" for how, n in b.copies.items()))
    return lines


def assumptions(config: ModelConfig, b: Budget) -> list[str]:
    """Everything that the numbers stand on, with its source."""
    work, use = b.work, b.work.utilisation or paper_utilisation()
    order = b.layout.pipeline_schedule
    said = [
        f"{b.device.name}: {b.device.peak(work.precision) / 1e12:,.0f} TFLOP/s, "
        f"{b.device.node_link / 1e9:.0f} GB/s in a node of {NODE}, "
        f"{b.device.network / 1e9:.0f} GB/s beyond ({b.device.source})",
        f"{USABLE:.0%} of the memory is usable (ours)",
        f"utilisation {use:.3f} " + ("(given)" if work.utilisation else (
            f"while a GPU works: DeepSeek-V2 §3.2.3, {PAPER_HOURS / 1e3} K H800-hours "
            "for 1T tokens, in products that causal attention needs; "
            f"{paper_utilisation(False):.2f} if all keys are counted; smaller models "
            "reach less")),
        f"price {work.price:g} dollars a GPU-hour (2: DeepSeek-V3 table 1)",
        "experts loaded evenly; routing of random scores"]
    if work.purpose == "serve":
        return [*said, f"weights and cache in {work.low} bytes a number; prompts are "
                f"read {PREFILL} tokens at once; only heads, widths and experts are "
                "dealt out"]
    return [
        *said, f"{b.step_tokens:,} tokens a step (36M: DeepSeek-V2 §3.1.2), "
        f"{work.tokens:,.0f} in all (6T: Coder-V2 §3.3)",
        "each axis sends as a ring does, over the slowest of its links; axes lie in a "
        "node from the inside out: tensor, shard, replicate, pipeline (ours)",
        "weights, gradients and moments float32, as `parallelize` keeps them; "
        "residuals too", f"{order}: idle {SOURCES[order]}" if b.layout.pipeline > 1
        else "no pipeline",
        "going back takes twice the FLOPs of going forward; stages wait for the "
        f"busiest, which works {b.imbalance:.2f} times the mean",
        "all activations that autograd keeps of this model, counted tensor by tensor"]


def account(model: str, config: ModelConfig, b: Budget) -> str:
    """The whole plan as text."""
    work, layout = b.work, b.layout
    parts = flops.forward(config, work.context)
    biggest = sorted(parts.items(), key=lambda part: -part[1])
    what = "a step" if work.purpose == "train" else "reading the prompts"
    lines = [
        f"{model}: {parameter_count(config):,} parameters, "
        f"{parameter_count(config, activated=True):,} of them for a token; "
        f"{layout.world} x {b.device.name}", f"{flags(b)}", "", *memory_table(b), "",
        f"{what}: {work.rows} rows of {work.context:,} = {b.step_tokens:,} tokens"
        + (f", in {work.rounds} microbatches a reader" if work.purpose == "train"
           else ""), *traffic_table(b), "",
        f"FLOPs a token: {flop(b.flops_per_token)} needed, "
        f"{flop(b.executed_per_token)} executed; forward: "
        + ", ".join(f"{name} {flop(n)}" for name, n in biggest)]
    if layout.pipeline > 1 and work.purpose == "train":
        lines.append(f"bubble {b.bubble:.2%} of a step")
    digits = 2 if b.step_seconds > 1 else 6
    lines.append(f"{what} takes {b.step_seconds:,.{digits}f} s: {b.speed:,.0f} tokens "
                 "a second and GPU")
    if work.purpose == "train":
        lines.append(f"{work.tokens:,.0f} tokens: {b.gpu_hours:,.0f} GPU-hours, "
                     f"{b.gpu_hours / layout.world / 24:,.1f} days, "
                     f"{b.cost:,.0f} dollars")
    else:
        read = max(stage.parameters + stage.cache for stage in b.stages)
        lines.append("a step of decoding that reads all weights and the whole cache "
                     f"takes {1e3 * read / b.device.bandwidth:,.1f} ms or more")
    lines += ["", "Assumed:", *(f"  {line}" for line in assumptions(config, b)), "",
              "Not modelled:", *(f"  {line}" for line in UNMODELLED)]
    if b.over <= 0:
        lines += ["", "Start:" if work.purpose == "serve" else
                  "Start (cluster/*.env have rates, warm-up and balance too):",
                  f"  {command(model, b)}"]
    return "\n".join(lines)
