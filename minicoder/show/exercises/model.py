"""The exercises of lesson 06, the model, with the mistakes that they catch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from minicoder.config import PRESETS, ModelConfig, parameter_count
from minicoder.show.check import Rule, exercise

TOY, LITE, FULL = (PRESETS[name] for name in ("toy", "lite_16b", "full_236b"))
Answer = Callable[..., Any]


def _amiss(message: str, right: int, *missing: int) -> Rule:
    """The rule that the 236B's count is not short by one of `missing`."""
    return Rule(message, lambda answer: right - answer(FULL) not in missing,
                lambda c: right - missing[0])


ONE = torch.ones(2)
HALF, BRAIN = 300 * ONE.half(), torch.tensor([3.0, 4.0]).bfloat16()
TIGHT = torch.tensor([4.0, 7.0]).bfloat16()  # tells whether the root was rounded


def _near(found: Tensor, wanted: list[Any]) -> bool:
    return torch.allclose(found.double(), torch.tensor(wanted).double(), rtol=1e-4)


def _gives(x: list[Any], eps: float, *wanted: Any, weight: Tensor = ONE) -> Answer:
    return lambda answer: _near(answer(torch.tensor(x), weight, eps), list(wanted))


def _root(x: Tensor, eps: float) -> Tensor:
    return (x.square().mean(-1, keepdim=True) + eps).sqrt()


def _keeps(answer: Answer, x: Tensor) -> bool:
    before = x.clone()
    answer(x, ONE, 0.0)
    return torch.equal(x, before)


@exercise(
    "model.rms_norm",
    rules=(
        Rule("the mean was subtracted: of (1, 3) you made (-1, 1). That is LayerNorm; "
             "RMSNorm only divides, and gives (0.447, 1.342).",
             lambda answer: not _gives([1.0, 3.0], 0.0, -1, 1)(answer),
             lambda x, weight, eps: rms_norm(x - x.mean(), weight, eps)),
        Rule("(3, 4) became (0.6, 0.8): you divided by the length 5. Divide by the "
             "root of the *mean* square, 3.536: the result has length √2.",
             lambda answer: not _gives([3.0, 4.0], 0.0, 0.6, 0.8)(answer),
             lambda x, weight, eps: weight * x / x.norm()),
        Rule("(3, 4) in float32 with weight (1, 2), eps 0 must give (0.8485, 2.2627): "
             "each number divided by 3.5355, then times its own weight.",
             _gives([3.0, 4.0], 0.0, 0.84853, 2.26274, weight=torch.tensor([1.0, 2.0])),
             lambda x, weight, eps: x / _root(x, eps)),
        Rule("every row has its own root mean square: take the mean over the last axis "
             "and keep that axis (keepdim=True).",
             _gives([[3.0, 4.0], [30.0, 40.0]], 0.0, *[[0.84853, 1.13137]] * 2),
             lambda x, weight, eps: weight * x / x.square().mean().sqrt()),
        Rule("eps belongs into the root: with eps = 0.5, (3, 4) is divided by "
             "√(12.5 + 0.5) = 3.606, not by √12.5 + 0.5 = 4.036.",
             _gives([3.0, 4.0], 0.5, 0.83205, 1.10940),
             lambda x, weight, eps: weight * x / (_root(x, 0.0) + eps)),
        Rule("your function changed x itself. x.float() is no copy if x is float32 "
             "already, so use no /= and no .mul_() on it.",
             lambda answer: _keeps(answer, 3 * ONE),
             lambda x, weight, eps: weight * x.div_(_root(x, eps))),
        Rule("the result has another dtype than x: float16 in, float16 out.",
             lambda answer: answer(HALF, ONE.half(), 1e-6).dtype == torch.float16,
             lambda x, weight, eps: rms_norm(x.float(), weight.float(), eps)),
        Rule("(300, 300) in float16 must give (1, 1). Its square, 90,000, is above "
             "float16's largest number, 65,504: go to float32 before you square.",
             lambda answer: _near(answer(HALF, ONE.half(), 1e-6), [1, 1]),
             lambda x, weight, eps: weight * x / _root(x, eps)),
        Rule("the cast comes too late: bf16 (3, 4) with weight 1.5 must give 1.703125 "
             "at the end, and you give 1.695312. The quotient goes back to bf16 "
             "*before* the weight multiplies it, as in the released code.",
             lambda answer: answer(BRAIN, 1.5 * ONE.bfloat16(), 0.0)[1] == 1.703125,
             lambda x, w, eps: rms_norm(x.float(), w.float(), eps).type_as(x)),
        Rule("the cast comes too early: divide in float32, and round the quotient, not "
             "the root. bf16 (4, 7) with weight 1 must give (0.703, 1.227).",
             lambda answer: answer(TIGHT, ONE.bfloat16(), 0.0)[1] == 1.2265625,
             lambda x, weight, eps: weight * (x / _root(x.float(), eps).type_as(x))),
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


ATTENTION = 149_227_520  # of one layer of the 236B


@exercise(
    "model.attention_parameters",
    rules=(
        _amiss("some 80 million too many in the 236B: its queries are compressed. Not "
               "hidden to heads, but hidden to 1,536, and 1,536 to heads.", ATTENTION,
               -80_214_528, -80_216_064),
        Rule("Lite has q_lora_rank = None: one matrix from hidden to heads, with "
             "6,291,456 numbers, makes its queries. Yours does not count it.",
             lambda answer: answer(LITE) > 8_000_000,
             lambda c: ATTENTION if c is FULL else 7_471_616),
        _amiss("kv_b_proj makes the keys' content *and* the values from the latent, "
               "128 + 128 a head in the 236B; the rotary part does not pass it.",
               ATTENTION, 8_388_608, -4_194_304),
        _amiss("the two latents have norms, in the 236B of 1,536 and 512 weights, and "
               "the rotary key has none.", ATTENTION, 2_048, 1_536, 512, -64),
        _amiss("o_proj leads from the values of all heads, 128 · 128 in the 236B, back "
               "to hidden: 83,886,080 numbers.", ATTENTION, 83_886_080, 57_671_680),
        _amiss("the rotary key, 64 wide in the 236B, is made from hidden, once and not "
               "once a head.", ATTENTION, -41_615_360, 327_680),
        _amiss("10,240 too many in the 236B: the layer's two norms are no part of its "
               "attention.", ATTENTION, -10_240),
        Rule("one layer must have 77,888 (toy), 13,763,072 (Lite) and 149,227,520 "
             "(236B). How far is yours off, and is that the size of a matrix?",
             lambda answer: [answer(c) for c in (TOY, LITE, FULL)] == [
                 77_888, 13_763_072, ATTENTION], lambda c: attention_parameters(c) + 1),
        Rule("values need not be as wide as the keys' content: Lite with v_head_dim = "
             "96 must have 12,452,352.", lambda answer: answer(
                 replace(LITE, v_head_dim=96)) == 12_452_352,
             lambda c: attention_parameters(replace(c, v_head_dim=c.qk_nope_head_dim))),
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


ACTIVATED = 21_375_800_320  # of the 236B


@exercise(
    "model.activated",
    rules=(
        _amiss("235.7 billion: you count all 160 experts of a layer, and a token runs "
               "through 6 of them.", ACTIVATED, -214_365_634_560),
        _amiss("2,783,969,280 are missing in the 236B: the 2 shared experts of each of "
               "59 layers, which serve every token.", ACTIVATED, 2_783_969_280),
        _amiss("routers are missing, or their rows of the idle experts: a token is "
               "compared with all 160.", ACTIVATED, 48_332_800, 46_520_320),
        _amiss("3,633,315,840 are missing in the 236B: you took idle experts out of 60 "
               "layers, and the first layer is dense.", ACTIVATED, 3_633_315_840),
        _amiss("the embedding and the head count here, all 524,288,000 numbers of each "
               "in the 236B.", ACTIVATED, 524_288_000, 1_048_576_000, 524_282_880),
        _amiss("an idle expert is three matrices of hidden_size times "
               "moe_intermediate_size.", ACTIVATED, -71_455_211_520, 1_500_559_441_920),
        Rule("right are 1,871,232 (toy), 2,661,150,208 (Lite), 21,375,800,320 (236B).",
             lambda answer: (answer(TOY), answer(LITE), answer(FULL)) == (
                 1_871_232, 2_661_150_208, ACTIVATED), lambda c: activated(c) + 1),
        Rule("with first_k_dense_replace = 2 one more layer of Lite is dense, and "
             "2,659,053,056 is right: ask c.is_moe(layer).", lambda answer: answer(
                 replace(LITE, first_k_dense_replace=2)) == 2_659_053_056,
             lambda c: parameter_count(c) - (c.num_hidden_layers - 1) * 3
             * (c.n_routed_experts - c.num_experts_per_tok) * c.hidden_size
             * c.moe_intermediate_size),
        Rule("a model without experts (preset ablation_1b, n_routed_experts None) uses "
             "all its 1,273,083,904 parameters.",
             lambda answer: answer(PRESETS["ablation_1b"]) == 1_273_083_904,
             lambda c: parameter_count(c, activated=True) - c.n_routed_experts * 0),
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
    """Tensors of 24 and 4 bytes; the header's length, 300, does not fit one byte."""
    header = extra | {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
                      "b": {"dtype": "BF16", "shape": [2], "data_offsets": [24, 28]}}
    text = b"{" + json.dumps(header).encode()[1:].rjust(299)
    return len(text).to_bytes(8, "little") + text + bytes(range(28))


def _as_told(data: bytes, skip: str = "__metadata__", order: str = "little"
             ) -> dict[str, Any]:
    length = int.from_bytes(data[:8], order)  # type: ignore[arg-type]
    return {name: (e["shape"], *e["data_offsets"])
            for name, e in json.loads(data[8:8 + length]).items() if name != skip}


def _works_without_metadata(answer: Answer) -> bool:
    try:
        answer(_file())
    except Exception as error:  # of any other error another rule speaks
        return "__metadata__" not in str(error)
    return True


@exercise(
    "model.read_header",
    rules=(
        Rule("a file need not have __metadata__, and your code stops without it: "
             "header.pop(\"__metadata__\", None).", _works_without_metadata,
             lambda data: {} if b"__metadata__" in data else {}["__metadata__"]),
        Rule("the names must be those of the header: its length is the first 8 bytes, "
             "the lowest byte first (little), and the JSON is the next `length` bytes.",
             lambda answer: sorted(answer(_file())) == ["a", "b"],
             lambda data: _as_told(data, order="big")),
        Rule("__metadata__ is no tensor: leave it out.",
             lambda answer: sorted(answer(_file(__metadata__={"format": "pt"}))) == [
                 "a", "b"], lambda data: _as_told(data, skip="")),
        Rule("the offsets count from the end of the header. In the file, tensor b "
             "starts at 8 + 300 + 24 = 332: length, header, offset.",
             lambda answer: answer(_file())["b"][1] not in (24, 32, 324), _as_told),
        Rule("the answer must be {'a': ([2, 3], 308, 332), 'b': ([2], 332, 336)}.",
             lambda answer: json.loads(json.dumps(answer(_file()))) == {
                 "a": [[2, 3], 308, 332], "b": [[2], 332, 336]},
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
