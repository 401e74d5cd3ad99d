"""The exercises of lesson 06, the model, with the mistakes that they catch."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minicoder.config import PRESETS, ModelConfig, parameter_count
from minicoder.show.check import Rule, exercise

TOY, LITE, FULL = (PRESETS[name] for name in ("toy", "lite_16b", "full_236b"))
Answer = Callable[..., Any]


def _mistake(message: str, config: ModelConfig, wrong: Answer) -> Rule:
    """The rule that an answer must not give the number that `wrong` gives."""
    return Rule(message, lambda answer: answer(config) != wrong(config), wrong)


HALF = torch.tensor([300.0, 300.0], dtype=torch.float16)
BRAIN = torch.tensor([3.0, 4.0], dtype=torch.bfloat16)
ONE = torch.ones(2)


def _near(found: Tensor, wanted: list[Any]) -> bool:
    return torch.allclose(found.double(), torch.tensor(wanted).double(), rtol=1e-4)


def _once(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return rms_norm(x.float(), weight.float(), eps).type_as(x)


@exercise(
    "model.rms_norm",
    rules=(
        Rule("the mean was subtracted: of (1, 3) you made (-1, 1). That is LayerNorm; "
             "RMSNorm only divides, and gives (0.447, 1.342).",
             lambda answer: not _near(answer(torch.tensor([1.0, 3.0]), ONE, 0.0),
                                      [-1, 1]),
             lambda x, weight, eps: weight * (x - x.mean(-1, keepdim=True)) / (
                 x.var(-1, correction=0, keepdim=True) + eps).sqrt()),
        Rule("(3, 4) became (0.6, 0.8): you divided by the length 5. Divide by the "
             "root of the *mean* square, 3.536: the result has length √2.",
             lambda answer: not _near(answer(torch.tensor([3.0, 4.0]), ONE, 0.0),
                                      [0.6, 0.8]),
             lambda x, weight, eps: weight * x / (
                 x.square().sum(-1, keepdim=True) + eps).sqrt()),
        Rule("every row has its own root mean square: take the mean over the last axis "
             "and keep that axis (keepdim=True).",
             lambda answer: _near(answer(torch.tensor([[3.0, 4.0], [30.0, 40.0]]), ONE,
                                         0.0), [[0.84853, 1.13137]] * 2),
             lambda x, weight, eps: weight * x / (x.square().mean() + eps).sqrt()),
        Rule("eps belongs into the root: with eps = 0.5, (3, 4) is divided by "
             "√(12.5 + 0.5) = 3.606, not by √12.5 + 0.5 = 4.036.",
             lambda answer: _near(answer(torch.tensor([3.0, 4.0]), ONE, 0.5),
                                  [0.83205, 1.10940]),
             lambda x, weight, eps: weight * x / (
                 x.square().mean(-1, keepdim=True).sqrt() + eps)),
        Rule("the result has another dtype than x: float16 in, float16 out.",
             lambda answer: answer(HALF, ONE.half(), 1e-6).dtype == torch.float16,
             lambda x, weight, eps: _once(x.float(), weight, eps)),
        Rule("(300, 300) in float16 became 0: its square, 90,000, is above float16's "
             "largest number, 65,504. Go to float32 before you square.",
             lambda answer: _near(answer(HALF, ONE.half(), 1e-6), [1, 1]),
             lambda x, weight, eps: weight * x / (
                 x.square().mean(-1, keepdim=True) + eps).sqrt()),
        Rule("the cast comes too late: bf16 (3, 4) with weight 1.5 must give 1.703125 "
             "at the end, and you give 1.695312. The quotient goes back to bf16 "
             "*before* the weight multiplies it, as in the released code.",
             lambda answer: answer(BRAIN, 1.5 * ONE.bfloat16(), 0.0)[1] == 1.703125,
             _once),
    ),
    hints=("The mean of the squares, over the last axis; add eps; take the root.",
           "x.float() before the square, .type_as(x) after the division.",
           "weight * quotient.type_as(x): the product is in the type of x."),
)
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) * weight; the quotient in float32 (arXiv 1910.07467)."""
    wide = x.float()
    unit = wide / (wide.square().mean(-1, keepdim=True) + eps).sqrt()
    return weight * unit.type_as(x)


def _mla(**other: Answer) -> Answer:
    """The count of one layer's attention, right but for the parts that are replaced."""
    parts: dict[str, Answer] = {
        "queries": lambda c: c.hidden_size * c.num_attention_heads * c.qk_head_dim
        if c.q_lora_rank is None else _compressed(c),
        "norms": lambda c: (c.q_lora_rank or 0) + c.kv_lora_rank,
        "down": lambda c: c.hidden_size * c.cache_width,
        "up": lambda c: c.kv_lora_rank * c.num_attention_heads * (
            c.qk_nope_head_dim + c.v_head_dim),
        "out": lambda c: c.num_attention_heads * c.v_head_dim * c.hidden_size,
    } | other
    return lambda c: sum(part(c) for part in parts.values())


def _compressed(c: ModelConfig) -> int:
    queries = c.num_attention_heads * c.qk_head_dim
    return (c.q_lora_rank or 0) * (c.hidden_size + queries)


@exercise(
    "model.attention_parameters",
    rules=(
        _mistake("80,214,528 too many in the 236B: its queries are compressed. Not "
                 "hidden to heads, but hidden to 1,536, and 1,536 to heads.", FULL,
                 _mla(queries=lambda c: c.hidden_size * c.num_attention_heads
                      * c.qk_head_dim)),
        Rule("Lite has q_lora_rank = None: one matrix from hidden to heads, with "
             "6,291,456 numbers, makes its queries. Yours does not count it.",
             lambda answer: answer(LITE) > 8_000_000,
             _mla(queries=_compressed)),
        _mistake("8,388,608 are missing in the 236B: W_UV. kv_b_proj makes the keys' "
                 "content *and* the values from the latent.", FULL,
                 _mla(up=lambda c: c.kv_lora_rank * c.num_attention_heads
                      * c.qk_nope_head_dim)),
        _mistake("2,048 are missing in the 236B: the norms of the two latents, 1,536 "
                 "and 512 weights.", FULL, _mla(norms=lambda c: 0)),
        _mistake("83,886,080 are missing in the 236B: o_proj, from the values of all "
                 "heads back to hidden.", FULL, _mla(out=lambda c: 0)),
        _mistake("41,615,360 too many in the 236B: the rotary key exists once, not "
                 "once a head.", FULL, _mla(down=lambda c: c.hidden_size * (
                     c.kv_lora_rank + c.num_attention_heads * c.qk_rope_head_dim))),
        Rule("one layer must have 77,888 (toy), 13,763,072 (Lite) and 149,227,520 "
             "(236B) numbers in its attention.",
             lambda answer: [answer(c) for c in (TOY, LITE, FULL)] == [
                 77_888, 13_763_072, 149_227_520],
             _mla(bias=lambda c: c.hidden_size)),
    ),
    hints=("A matrix has rows times columns, a norm its width. There are no biases.",
           "Queries: one matrix when q_lora_rank is None, else two and a norm.",
           "kv_a_proj_with_mqa: hidden to latent and rotary key. kv_b_proj: latent to "
           "the heads' keys and values. o_proj: the heads' values to hidden."),
)
def attention_parameters(c: ModelConfig) -> int:
    """Numbers in the attention of one layer, the norms of its latents included."""
    heads, query = c.num_attention_heads, c.qk_head_dim
    if c.q_lora_rank is None:
        count = c.hidden_size * heads * query
    else:
        count = c.q_lora_rank * (c.hidden_size + 1 + heads * query)
    count += c.hidden_size * (c.kv_lora_rank + c.qk_rope_head_dim) + c.kv_lora_rank
    count += c.kv_lora_rank * heads * (c.qk_nope_head_dim + c.v_head_dim)
    return count + heads * c.v_head_dim * c.hidden_size


def _used(missing: int) -> Answer:
    """Right for models without experts, and otherwise `missing` parameters short."""
    return lambda c: parameter_count(c, activated=True) - (
        0 if c.n_routed_experts is None else missing)


@exercise(
    "model.activated",
    rules=(
        _mistake("235.7 billion: you count all 160 experts of a layer, and a token "
                 "runs through 6 of them.", FULL, parameter_count),
        _mistake("2,783,969,280 are missing in the 236B: the 2 shared experts of each "
                 "of 59 layers, which serve every token.", FULL, _used(2_783_969_280)),
        _mistake("48,332,800 are missing in the 236B: the 59 routers.", FULL,
                 _used(48_332_800)),
        _mistake("3,633,315,840 are missing in the 236B: you took idle experts out of "
                 "60 layers, and the first layer is dense.", FULL,
                 _used(3_633_315_840)),
        _mistake("524,288,000 are missing in the 236B: count the embedding and the "
                 "head.", FULL, _used(524_288_000)),
        Rule("a model without experts (preset ablation_1b, n_routed_experts None) uses "
             "all its 1,273,083,904 parameters.",
             lambda answer: answer(PRESETS["ablation_1b"]) == 1_273_083_904,
             lambda c: parameter_count(c, activated=True) - c.n_routed_experts * 0),
        Rule("the activated parameters must be 1,871,232 (toy), 2,661,150,208 (Lite) "
             "and 21,375,800,320 (236B).",
             lambda answer: [answer(c) for c in (TOY, LITE, FULL)] == [
                 1_871_232, 2_661_150_208, 21_375_800_320], _used(1)),
    ),
    hints=("Begin with parameter_count(c) and take away what a token does not use.",
           "Idle are n_routed_experts - num_experts_per_tok experts in each MoE layer; "
           "c.is_moe(layer) says which layers those are.",
           "An expert has 3 · hidden_size · moe_intermediate_size parameters."),
)
def activated(c: ModelConfig) -> int:
    """Parameters that one token uses, the embedding and the head included."""
    expert = 3 * c.hidden_size * c.moe_intermediate_size
    idle = sum((c.n_routed_experts - c.num_experts_per_tok) * expert
               for layer in range(c.num_hidden_layers) if c.is_moe(layer))
    return parameter_count(c) - idle


def _file(**extra: dict[str, str]) -> bytes:
    """Two tensors of 24 and 4 bytes; the header has 150 bytes, 190 with metadata."""
    header = extra | {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
                      "b": {"dtype": "BF16", "shape": [2], "data_offsets": [24, 28]}}
    text = json.dumps(header).encode().ljust(190 if extra else 150)
    return len(text).to_bytes(8, "little") + text + bytes(range(28))


def _as_told(data: bytes, offset: int = 0, skip: str = "__metadata__",
             order: str = "little") -> dict[str, Any]:
    length = int.from_bytes(data[:8], order)  # type: ignore[arg-type]
    return {name: (e["shape"], *(n + offset for n in e["data_offsets"]))
            for name, e in json.loads(data[8:8 + length]).items() if name != skip}


@exercise(
    "model.read_header",
    rules=(
        Rule("the header cannot be read: its length is the first 8 bytes, the lowest "
             "byte first (little), and the JSON is the next `length` bytes.",
             lambda answer: set(answer(_file())) == {"a", "b"},
             lambda data: _as_told(data, order="big")),
        Rule("__metadata__ is no tensor: leave it out.",
             lambda answer: set(answer(_file(__metadata__={"format": "pt"}))) == {
                 "a", "b"},
             lambda data: _as_told(data, skip="")),
        Rule("the offsets of the JSON count from the end of the header. In the file, "
             "tensor b starts at 8 + 150 + 24 = 182, and you say 24.",
             lambda answer: answer(_file())["b"][1] != 24, _as_told),
        Rule("8 bytes too early: before the header stand the 8 bytes of its length.",
             lambda answer: answer(_file())["b"][1] != 174,
             lambda data: _as_told(data, 150)),
        Rule("the answer must be {'a': ([2, 3], 158, 182), 'b': ([2], 182, 186)}.",
             lambda answer: {name: (list(shape), *places) for name, (shape, *places)
                             in answer(_file()).items()} == {
                                 "a": ([2, 3], 158, 182), "b": ([2], 182, 186)},
             lambda data: {name: (shape[::-1], *places) for name, (shape, *places)
                           in read_header(data).items()}),
    ),
    hints=("int.from_bytes(data[:8], 'little') is the length of the JSON behind it.",
           "json.loads(data[8:8 + length]) gives each tensor's shape and data_offsets.",
           "Add 8 + length to both offsets."),
)
def read_header(data: bytes) -> dict[str, tuple[list[int], int, int]]:
    """Shape, first byte and byte behind the last, for each tensor's name.

    data: a whole safetensors file. Bytes are counted from the start of the file.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    places = {}
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        places[name] = entry["shape"], 8 + length + start, 8 + length + stop
    return places
