"""Speed and memory of the model beside transformers' DeepseekV2, same weights.

    python benchmarks/speed.py [--quick]
        [--only mla moe prefill decode training documents load]

The contenders take turns, round by round; a ratio is of medians, and above 1 ours is
faster. On a CPU the clock is the process's own time on one thread, which neighbours on
the machine disturb least; waiting for a disk is not on that clock. The peer runs at its
best: sdpa and grouped experts; in prefill its loop over them where that is faster, and
the MoE layer races against both. Writes
benchmarks/results/speed-DEVICE.json and .md, which figures/speed.py draws.
"""

from __future__ import annotations

import gc
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
import transformers
import tyro
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from minicoder.config import ModelConfig, parameter_count, preset
from minicoder.model.documents import find_documents
from minicoder.model.mla import MLA, LatentCache
from minicoder.model.moe import MLP, MoE, Routing
from minicoder.model.rope import rope_table
from minicoder.model.transformer import MiniCoder
from minicoder.stages import write_json
from minicoder.training.optimizer import adamw

RESULTS = Path(__file__).parent / "results"
SHAPES = {
    "tiny": preset(
        "toy", vocab_size=4096, hidden_size=256, num_hidden_layers=6, kv_lora_rank=128,
        qk_nope_head_dim=64, qk_rope_head_dim=32, v_head_dim=64, intermediate_size=1024,
        moe_intermediate_size=128, n_routed_experts=32, num_experts_per_tok=6,
        n_shared_experts=2, max_position_embeddings=16384),
    "small": preset(
        "toy", vocab_size=8192, hidden_size=512, num_hidden_layers=8,
        num_attention_heads=8, kv_lora_rank=256, qk_nope_head_dim=64,
        qk_rope_head_dim=32, v_head_dim=64, intermediate_size=2048,
        moe_intermediate_size=192, n_routed_experts=64, num_experts_per_tok=6,
        n_shared_experts=2, max_position_embeddings=16384)}
LITE = preset("lite_16b")
Contenders = dict[str, Callable[[], object]]
Row = dict[str, object]


def pick() -> torch.device:
    """CUDA where there is one, else the CPU with one thread."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    torch.set_num_threads(1)
    return torch.device("cpu")


DEVICE = pick()


def clock() -> float:
    """Seconds: of this process on a CPU, of the wall once a GPU has caught up."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def race(contenders: Contenders, rounds: int) -> dict[str, float]:
    """Median milliseconds of each contender; they take turns, after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            start = clock()
            run()
            if turn:
                times[name].append(1000 * (clock() - start))
    return {name: median(values) for name, values in times.items()}


def row(what: str, unit: str, scale: float, found: dict[str, float]) -> Row:
    """One line of the table; `scale` turns milliseconds into `unit`."""
    mine, name = found.pop("minicoder"), min(found, key=found.__getitem__)
    other = found[name]
    line = {"what": what, "unit": unit, "ours": round(scale / mine, 1),
            "peer": name, "theirs": round(scale / other, 1),
            "ratio": round(other / mine, 2)}
    print(f"{what:<44} {line['ours']:>10,.1f} {line['theirs']:>10,.1f} {unit:<8}"
          f"{line['ratio']:>7.2f} × {name}", flush=True)
    return line


@contextmanager
def twins(config: ModelConfig) -> Iterator[tuple[MiniCoder, nn.Module]]:
    """The same random weights in both implementations, the peer's at its fastest."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        MiniCoder(config).save_pretrained(Path(folder))
        ours = MiniCoder.from_pretrained(Path(folder), DEVICE)
        theirs = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, attn_implementation="sdpa",
            experts_implementation="grouped_mm").to(DEVICE)
    tokens = torch.randint(config.vocab_size, (1, 64), device=DEVICE)
    with torch.no_grad():  # no race between models that differ
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=1e-3,
                                   atol=1e-4)
    yield ours, theirs
    gc.collect()


def prompt(config: ModelConfig, batch: int, length: int) -> Tensor:
    draw = torch.Generator().manual_seed(length)
    return torch.randint(config.vocab_size, (batch, length), generator=draw).to(DEVICE)


@torch.no_grad()
def prefill(rounds: int) -> list[Row]:
    """Reading a prompt into an empty cache; logits of its last token."""
    rows = []
    for shape, config in SHAPES.items():
        with twins(config) as (ours, theirs):
            for length in (512, 2048):
                tokens = prompt(config, 1, length)

                def mine(tokens: Tensor = tokens, ours: MiniCoder = ours) -> Tensor:
                    cache = LatentCache(ours.config, ours.lm_head.weight, 1,
                                        tokens.shape[1])
                    return ours.lm_head(ours.model.prefill(tokens, cache)[:, -1])

                def other(how: str, t: Tensor = tokens, m: nn.Module = theirs) -> None:
                    m.set_experts_implementation(how)
                    m(t, use_cache=True, logits_to_keep=1)

                found = race({
                    "minicoder": mine, "transformers": lambda o=other: o("grouped_mm"),
                    "transformers, its loop": lambda o=other: o("eager")}, rounds)
                theirs.set_experts_implementation("grouped_mm")
                rows.append(row(f"prefill {length:,}, {shape}", "tok/s", 1000 * length,
                                found))
    return rows


def decoders(ours: MiniCoder, theirs: nn.Module, tokens: Tensor, steps: int
             ) -> Contenders:
    """Write `steps` tokens behind the same prompt, again and again."""
    length = tokens.shape[1]
    cache = LatentCache(ours.config, ours.lm_head.weight, len(tokens), length + steps)
    for chunk in tokens.split(1024, dim=1):
        ours.model.prefill(chunk, cache)
    past = None
    for chunk in tokens.split(1024, dim=1):
        past = theirs(chunk, past_key_values=past, use_cache=True,
                      logits_to_keep=1).past_key_values
    new = tokens[:, :1]

    def mine() -> None:
        for _ in range(steps):
            ours.lm_head(ours.model.decode(new, cache)[:, -1])
        cache.length = length

    def other() -> None:
        for _ in range(steps):
            theirs(new, past_key_values=past, use_cache=True)
        past.crop(-steps)

    return {"minicoder": mine, "transformers": other}


@torch.no_grad()
def decode(rounds: int) -> list[Row]:
    """One token after the other, at growing contexts."""
    rows = []
    for shape, config in SHAPES.items():
        cases = [(1, 512, 8), (1, 2048, 6), (1, 8192, 3), (32, 512, 2)]
        with twins(config) as (ours, theirs):
            for batch, length, steps in cases:
                found = race(decoders(ours, theirs, prompt(config, batch, length),
                                      steps), rounds)
                rows.append(row(f"decode, batch {batch}, context {length:,}, {shape}",
                                "tok/s", 1000 * steps * batch, found))
    return rows


def stepper(model: nn.Module, tokens: Tensor) -> Callable[[], None]:
    """A training step: forward, backward and fused AdamW, loss on every position."""
    optimizer = adamw(model.train(), 1e-4)

    def step() -> None:
        logits = model(tokens[:, :-1])
        logits = getattr(logits, "logits", logits)
        F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def training(rounds: int) -> list[Row]:
    """Training steps at growing lengths; both with the same optimizer."""
    rows = []
    for shape, config in SHAPES.items():
        with twins(config) as (ours, theirs):
            for batch, length in ((16, 128), (4, 512), (1, 2048)):
                tokens = prompt(config, batch, length + 1)
                found = race({"minicoder": stepper(ours, tokens),
                              "transformers": stepper(theirs, tokens)},
                             max(5, rounds // 2))
                rows.append(row(f"training step {batch} × {length:,}, {shape}",
                                "tok/s", 1000 * batch * length, found))
    return rows


def documents(rounds: int) -> list[Row]:
    """Rows of four documents of 256 tokens each, against a boolean mask.

    Attention with its projections, and the whole training step, forward and backward.
    """
    rows = []
    for shape, config in SHAPES.items():
        torch.manual_seed(0)
        model, tokens = MiniCoder(config).to(DEVICE), prompt(config, 1, 1025)
        inputs, bos = tokens[:, :-1], config.vocab_size - 1
        inputs[inputs == bos], inputs[:, ::256] = 0, bos
        number = (inputs == bos).cumsum(1)
        mask = (number[:, :, None] == number[:, None, :]).tril()
        rope = rope_table(config, 0, 1024, model.lm_head.weight)
        place = find_documents(inputs, bos)
        x = torch.randn(1, 1024, config.hidden_size, device=DEVICE)
        core = model.model.layers[0].self_attn
        head = tuple(part[:256] for part in rope)

        def step(hidden: Callable[[], Tensor], model: MiniCoder = model,
                 tokens: Tensor = tokens) -> None:
            logits = model.lm_head(hidden())
            F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
            model.zero_grad(set_to_none=True)

        def masked(model: MiniCoder = model, inputs: Tensor = inputs,
                   rope: tuple = rope, mask: Tensor = mask) -> Tensor:
            return model.model.run(inputs, lambda _, a, h: a(h, rope, mask))

        torch.testing.assert_close(model.model.packed(inputs, place), masked(),
                                   rtol=1e-3, atol=1e-4)
        for what, found in (
                ("attention", {
                    "minicoder": lambda a=core, x=x, r=head, p=place: a(
                        x.flatten(0, 1)[p.parts[0]], r).flatten(0, 1)[p.back].sum(
                        ).backward(),
                    "a boolean mask": lambda a=core, x=x, r=rope, m=mask: a(
                        x, r, m).sum().backward()}),
                ("training step", {
                    "minicoder": lambda s=step, m=model, i=inputs, p=place: s(
                        lambda: m.model.packed(i, p)),
                    "a boolean mask": lambda s=step, h=masked: s(h)})):
            rows.append(row(f"{what}, documents 4 × 256, {shape}", "tok/s", 1024e3,
                            race(found, rounds)))
    return rows


class WhereLoop(nn.Module):
    """The dispatch of most ports: for every expert, the tokens that chose it."""

    def __init__(self, layer: MoE) -> None:
        super().__init__()
        self.gate, self.shared = layer.gate, layer.shared_experts
        c = layer.gate.config
        self.experts = nn.ModuleList(
            MLP(c.hidden_size, c.moe_intermediate_size)
            for _ in range(c.n_routed_experts))
        for expert, both, down in zip(self.experts, layer.experts.gate_up_proj,
                                      layer.experts.down_proj, strict=True):
            gate, up = both.chunk(2)
            expert.gate_proj.weight.data = gate.detach().clone()
            expert.up_proj.weight.data = up.detach().clone()
            expert.down_proj.weight.data = down.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        routing: Routing = self.gate(flat)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            token, place = torch.where(routing.experts == number)
            weight = routing.weights[token, place, None]
            out.index_add_(0, token, expert(flat[token]) * weight)
        return out.view_as(x) + self.shared(x)


def moe(rounds: int) -> list[Row]:
    """One MoE layer of each shape, for one token and for many."""
    rows = []
    for config in SHAPES.values():
        with twins(replace(config, num_hidden_layers=2)) as (ours, theirs):
            layer, other = ours.model.layers[1].mlp, theirs.model.layers[1].mlp
            peers = {"transformers, its loop over stacked experts": other,
                     "transformers, grouped experts": other,
                     "a loop over modules": WhereLoop(layer).to(DEVICE)}
            for tokens, back in ((1, False), (2048, False), (512, True), (2048, True)):
                x = torch.randn(1, tokens, config.hidden_size, device=DEVICE)
                how = "forward + backward" if back else "forward"
                for name, peer in peers.items():
                    theirs.set_experts_implementation(
                        "eager" if "stacked" in name else "grouped_mm")
                    rows.append(row(
                        f"MoE {how}, {tokens:,} tokens, {config.n_routed_experts} "
                        "experts", "tok/s", 1000 * tokens,
                        race({"minicoder": passes(layer, x, back),
                              name: passes(peer, x, back)}, rounds)))
    return rows


def passes(layer: nn.Module, x: Tensor, back: bool) -> Callable[[], None]:
    """Forward through a layer, and backward too when `back`."""
    def run() -> None:
        with torch.set_grad_enabled(back):
            out = layer(x)
            if back:
                out.sum().backward()
                layer.zero_grad(set_to_none=True)

    return run


@torch.no_grad()
def mla(rounds: int) -> list[Row]:
    """Attention of one new token in a layer of lite_16b."""
    config = preset("lite_16b")
    torch.manual_seed(0)
    layer = MLA(config).to(DEVICE)
    rows = []
    for context in (512, 2048, 8192):
        x = torch.randn(1, 1, config.hidden_size, device=DEVICE)
        cached = torch.randn(1, context, config.cache_width, device=DEVICE)
        rope = rope_table(config, context - 1, context, x)
        heads, width = config.num_attention_heads, config.qk_head_dim
        keys, values = (torch.randn(1, heads, context, w, device=DEVICE)
                        for w in (width, config.v_head_dim))

        def expanded_cache(x: Tensor = x, rope: tuple = rope, k: Tensor = keys,
                           v: Tensor = values) -> Tensor:
            q = torch.cat(layer.queries(x, rope), dim=-1)
            scores = (q @ k.transpose(2, 3) * layer.scale).softmax(-1)
            return layer.o_proj((scores @ v).transpose(1, 2).flatten(2))

        ours = {"minicoder": lambda c=cached, x=x, r=rope: layer.absorbed(x, c, r)}
        for name, run in (
                ("expanding the latents again", lambda c=cached, x=x, r=rope:
                    layer.expanded(x, c, r)),
                ("a cache of keys and values", expanded_cache)):
            rows.append(row(f"MLA of one token, Lite layer, context {context:,}",
                            "tok/s", 1000, race(ours | {name: run}, rounds)))
    return rows


def load(rounds: int) -> list[Row]:
    """Opening and saving a checkpoint of 0.6 GB in float32."""
    torch.manual_seed(0)
    config, rows = SHAPES["small"], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = MiniCoder(config)
        model.save_pretrained(folder / "a")
        size = sum(p.nbytes for p in model.parameters()) / 2**20
        other = AutoModelForCausalLM.from_pretrained(folder / "a",
                                                     local_files_only=True)
        rows.append(row("save", "MiB/s", 1000 * size, race({
            "minicoder": lambda: model.save_pretrained(folder / "b"),
            "transformers": lambda: other.save_pretrained(folder / "c")},
            max(3, rounds // 3))))
        loaders: Contenders = {
            "minicoder": lambda: MiniCoder.from_pretrained(folder / "a"),
            "transformers": lambda: AutoModelForCausalLM.from_pretrained(
                folder / "a", local_files_only=True)}
        rows.append(row("load", "MiB/s", 1000 * size,
                        race(loaders, max(3, rounds // 3))))
        for who, how in (
                ("minicoder", "from minicoder.model.transformer import MiniCoder as M"),
                ("transformers",
                 "from transformers import DeepseekV2ForCausalLM as M")):
            rows.append({"what": f"peak memory of loading, {who}",
                         "unit": "× the model",
                         "ours": round(loading_peak(how, folder / "a") / size, 2)})
    return rows


def loading_peak(how: str, folder: Path) -> float:
    """MiB that a fresh process, which has freed nothing yet, grows by while loading."""
    code = f"""
{how}
from minicoder.stages import peak_memory, reset_peak_memory
reset_peak_memory()
before = peak_memory()
model = M.from_pretrained({str(folder)!r})
print(sum(p.sum().item() for p in model.parameters()))  # every page is touched
print(peak_memory() - before)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                         check=True)
    return float(out.stdout.split()[-1])


def bandwidth() -> float:
    """Bytes a second that one large copy reads and writes, as measured now."""
    a = torch.empty(2**30, dtype=torch.uint8, device=DEVICE)
    b = torch.empty_like(a)
    return 2 * a.nbytes / (race({"copy": lambda: b.copy_(a)}, 5)["copy"] / 1000)


@torch.no_grad()
def whole(rounds: int, config: ModelConfig = LITE, gpu_only: bool = True) -> list[Row]:
    """lite_16b whole on a GPU, random bf16 weights: absolute figures, no peer.

    `floor` is the time to read the weights that a batch uses and its cache once.
    """
    if gpu_only and DEVICE.type != "cuda":
        return []
    model = MiniCoder.outline(config).bfloat16().to_empty(device=DEVICE)
    for parameter in model.parameters():
        parameter.normal_(std=0.006) if parameter.ndim > 1 else parameter.fill_(1)
    rows, speed, new = [], bandwidth(), torch.zeros(1, 1, dtype=torch.long)
    active = parameter_count(config, activated=True) - config.vocab_size * (
        config.hidden_size)
    for batch in (1, 64):
        share = 1 if batch == 1 else parameter_count(config) / active
        for context in (4096, 65536):
            try:
                cache = LatentCache(config, model.lm_head.weight, batch, context + 1)
            except torch.OutOfMemoryError:
                print(f"batch {batch} at {context:,} tokens: its cache does not fit")
                continue
            cache.length = context
            tokens = new.expand(batch, 1).to(DEVICE)

            def step(cache: LatentCache = cache, tokens: Tensor = tokens) -> None:
                model.lm_head(model.model.decode(tokens, cache)[:, -1])
                cache.length -= 1

            took = race({"decode": step}, rounds)["decode"]
            moved = 2 * active * share + cache.buffer.nbytes
            rows.append({"what": f"whole, decode, batch {batch}, context {context:,}",
                         "unit": "tok/s", "ours": round(1000 * batch / took, 1),
                         "peer": "bandwidth floor", "theirs": round(
                             batch * speed / moved, 1),
                         "ratio": round(moved / speed / (took / 1000), 2)})
            del cache, step
        text = prompt(config, batch, 4096 if batch == 1 else 512)
        empty = LatentCache(config, model.lm_head.weight, *text.shape)

        def read(text: Tensor = text, empty: LatentCache = empty) -> None:
            empty.length = 0
            model.model.prefill(text, empty)

        took = race({"prefill": read}, rounds)["prefill"]
        rows.append({"what": f"whole, prefill {text.shape[1]:,}, batch {batch}",
                     "unit": "tok/s", "ours": round(1000 * text.numel() / took, 1)})
    return rows


def cache(rounds: int) -> list[Row]:
    """Numbers per token and layer, counted in the cache itself."""
    rows = []
    for name in ("tiny", "small"):
        config = SHAPES[name]
        found = LatentCache(config, torch.empty(0), 1, 10).buffer.numel() / 10
        each = found / config.num_hidden_layers
        expanded = config.num_attention_heads * (config.qk_head_dim + config.v_head_dim)
        assert each == config.kv_lora_rank + config.qk_rope_head_dim
        rows.append({"what": f"cache, numbers per token and layer, {name}",
                     "unit": "numbers", "ours": each, "peer": "keys and values",
                     "theirs": expanded, "ratio": round(expanded / each, 2)})
    return rows


PARTS: dict[str, Callable[[int], list[Row]]] = {
    "cache": cache, "mla": mla, "moe": moe, "prefill": prefill, "decode": decode,
    "training": training, "documents": documents, "load": load, "whole": whole}


def machine() -> dict[str, str]:
    """What the figures hang on."""
    cpu = next((line.split(":")[1].strip() for line in
                Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else cpu
    return {"device": name, "instructions": torch.backends.cpu.get_cpu_capability(),
            "threads": str(torch.get_num_threads()), "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version()}


def table(found: dict) -> str:
    """The results as a page of Markdown."""
    about = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    lines = ["# Speed and memory of the model", "",
             f"Made by `python benchmarks/speed.py`: {about}. float32, the same random "
             "weights on both sides; medians of contenders that take turns, on the "
             "process's own clock. A ratio above 1 says that minicoder is faster, or "
             "its cache smaller.", "",
             "| what | minicoder | peer | unit | ratio | peer is |",
             "|---|---|---|---|---|---|"]
    for line in (line for name in PARTS for line in found["parts"].get(name, [])):
        theirs, ratio = line.get("theirs", ""), line.get("ratio", "")
        lines.append(f"| {line['what']} | {line['ours']:,} | {theirs} | {line['unit']} "
                     f"| {ratio} | {line.get('peer', '')} |")
    return "\n".join(lines) + "\n"


def main(only: tuple[str, ...] = tuple(PARTS), quick: bool = False) -> None:
    """Run the parts of the race and write what came out.

    Args:
        only: parts to run; the results of the others stay as they are, which holds
            for the same machine and versions alone.
        quick: three rounds in place of nine (training: five).
    """
    path = RESULTS / f"speed-{DEVICE.type}.json"
    parts = json.loads(path.read_text())["parts"] if path.exists() else {}
    for name in only:
        parts[name] = PARTS[name](3 if quick else 9)
        found = {"machine": machine(), "parts": parts}
        write_json(path, found)
        path.with_suffix(".md").write_text(table(found), encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
