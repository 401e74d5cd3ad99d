"""The shape of a model: the released field names, presets, and counts made from them.

Sources: config.json of DeepSeek-Coder-V2(-Lite), DeepSeek-V2 paper §3.1.2, appendix B.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, no_type_check

from minicoder.errors import UserError

Real = int | float  # JSON writes 40 and means 40.0

@no_type_check  # ModelConfig checks it, with a message for people
@dataclass(frozen=True)
class RopeScaling:
    """The released `rope_scaling`: YaRN's settings (arXiv 2309.00071), or "linear",
    position interpolation (arXiv 2306.15595): a factor alone, both mscales 0."""

    factor: Real
    original_max_position_embeddings: int | None = None
    beta_fast: Real = 32
    beta_slow: Real = 1
    mscale: Real = 1.0
    mscale_all_dim: Real = 1.0
    type: str = "yarn"


@no_type_check  # __post_init__ checks it
@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the shapes and the arithmetic of a model.

    Field names are those of the released `config.json`. Raises `UserError` when the
    numbers do not fit together.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    intermediate_size: int
    moe_intermediate_size: int
    n_routed_experts: int | None
    num_experts_per_tok: int
    n_shared_experts: int | None
    q_lora_rank: int | None = None
    first_k_dense_replace: int = 1
    topk_method: str = "greedy"
    n_group: int = 1
    topk_group: int = 1
    norm_topk_prob: bool = False
    routed_scaling_factor: Real = 1.0
    rms_norm_eps: Real = 1e-6
    initializer_range: Real = 0.02
    max_position_embeddings: int = 4096
    rope_theta: Real = 10000.0
    rope_scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        for names, allowed, holds in _RULES:
            for name in names.split():
                value = getattr(self, name)
                if not holds(value, self):
                    raise UserError(f"Configuration field {name} = {value!r} is not "
                                    f"allowed: {allowed}.")

    @property
    def qk_head_dim(self) -> int:
        """Width of one head's query and key: content part plus rotary part."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def cache_width(self) -> int:
        """Numbers cached per token and layer: latent plus rotary key."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    def is_moe(self, layer: int) -> bool:
        """Whether `layer` holds experts; the first layers are dense."""
        return self.n_routed_experts is not None and layer >= self.first_k_dense_replace

    def to_json(self) -> dict[str, Any]:
        """The content of a `config.json` that transformers opens."""
        values = asdict(self) | _FIXED | {
            "num_key_value_heads": self.num_attention_heads}
        if self.n_routed_experts is None:  # transformers knows no null here
            values["first_k_dense_replace"] = self.num_hidden_layers
            del values["n_routed_experts"], values["n_shared_experts"]
        if (s := self.rope_scaling) is not None and s.type == "linear":
            values["rope_scaling"] = {"type": "linear", "factor": s.factor}
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any], source: str | Path = "config.json"
                  ) -> ModelConfig:
        """Read a released `config.json`; fields that cannot matter are passed over."""
        _refuse_other_architectures(values, source)
        known = {f.name for f in fields(cls)}
        chosen = {k: v for k, v in values.items() if k in known and v is not None}
        chosen = {"n_routed_experts": None, "n_shared_experts": None} | chosen
        if chosen.get("topk_method") == "gready":  # mis-spelled in the released code
            chosen["topk_method"] = "greedy"
        try:
            return cls(**(chosen | _read_rope(values)))
        except (TypeError, UserError) as error:
            raise UserError(f"{source}: {str(error).rstrip('.')}.") from None

    @classmethod
    def load(cls, folder: Path) -> ModelConfig:
        """Read `folder/config.json`."""
        path = Path(folder) / "config.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} cannot be read: {error}.") from None
        if not isinstance(values, dict):
            raise UserError(f"{path} holds a {type(values).__name__}, not an object.")
        return cls.from_json(values, path)


# what every released configuration has in common and our code takes for granted
_FIXED: dict[str, Any] = {
    "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2",
    "attention_bias": False, "attention_dropout": 0.0, "hidden_act": "silu",
    "moe_layer_freq": 1, "scoring_func": "softmax", "tie_word_embeddings": False,
    "pretraining_tp": 1, "use_cache": True,
}


def _refuse_other_architectures(values: dict[str, Any], source: str | Path) -> None:
    for key in ("model_type", "attention_bias", "hidden_act", "moe_layer_freq",
                "scoring_func", "tie_word_embeddings"):
        if key in values and values[key] != _FIXED[key]:
            raise UserError(f"{source}: {key} = {values[key]!r}, and minicoder knows "
                            f"only {_FIXED[key]!r}.")


def _read_rope(values: dict[str, Any]) -> dict[str, Any]:
    """The rotary fields, from `rope_scaling` or transformers 5's `rope_parameters`."""
    found = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if not isinstance(found, dict):
        raise UserError(f"rope_scaling = {found!r} is not an object.")
    theta = found.get("rope_theta", values.get("rope_theta", 10000.0))
    kind = found.get("rope_type", found.get("type"))
    if not found or kind == "default":
        return {"rope_theta": theta, "rope_scaling": None}
    if kind not in ("yarn", "linear"):
        raise UserError(f"rope_scaling.type = {kind!r}, not 'yarn' or 'linear'.")
    names = {f.name for f in fields(RopeScaling)} - {"type"}
    # where the file does not say it, the released code leaves the softmax scale alone
    given = {"mscale_all_dim": 0.0} | ({"mscale": 0.0} if kind == "linear" else {})
    given |= {k: found[k] for k in names & found.keys() if found[k] is not None}
    return {"rope_theta": theta, "rope_scaling": RopeScaling(**given, type=kind)}


def _whole(value: Any, least: int = 1) -> bool:
    return type(value) is int and value >= least


def _above_zero(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


def _groups_fit(c: ModelConfig) -> bool:
    if c.topk_method == "greedy" or c.n_routed_experts is None:
        return True
    per_group, rest = divmod(c.n_routed_experts, c.n_group)
    return rest == 0 and c.num_experts_per_tok <= c.topk_group * per_group


def _scaling_fits(s: Any) -> bool:
    if not isinstance(s, RopeScaling) or not _above_zero(s.factor) or s.factor < 1:
        return False
    if s.type == "linear":
        return s.mscale == s.mscale_all_dim == 0
    return (s.type == "yarn" and s.beta_fast > s.beta_slow and all(map(_above_zero, (
                s.beta_fast, s.beta_slow, s.original_max_position_embeddings)))
            and all(v == 0 or _above_zero(v) for v in (s.mscale, s.mscale_all_dim)))


# fields, what is allowed, and the test of a field's value within its configuration
_RULES: tuple[tuple[str, str, Callable[[Any, ModelConfig], bool]], ...] = (
    ("vocab_size hidden_size num_hidden_layers num_attention_heads kv_lora_rank "
     "qk_nope_head_dim v_head_dim intermediate_size moe_intermediate_size "
     "num_experts_per_tok max_position_embeddings",
     "a whole number above 0", lambda v, c: _whole(v)),
    ("initializer_range rms_norm_eps rope_theta routed_scaling_factor",
     "a number above 0", lambda v, c: _above_zero(v)),
    ("first_k_dense_replace", "a whole number, 0 or more", lambda v, c: _whole(v, 0)),
    ("n_shared_experts", "a whole number, 0 or more, or null",
     lambda v, c: v is None or _whole(v, 0)),
    ("q_lora_rank", "a whole number above 0, or null for no query compression",
     lambda v, c: v is None or _whole(v)),
    ("norm_topk_prob", "true or false", lambda v, c: isinstance(v, bool)),
    ("qk_rope_head_dim", "an even number above 0, because pairs of numbers are rotated",
     lambda v, c: _whole(v) and v % 2 == 0),
    ("topk_method", "'greedy' or 'group_limited_greedy'",
     lambda v, c: v in ("greedy", "group_limited_greedy")),
    ("n_routed_experts", "at least num_experts_per_tok, or null for a dense model",
     lambda v, c: v is None or _whole(v, c.num_experts_per_tok)),
    ("topk_group", "1 to n_group",
     lambda v, c: _whole(v) and (not _whole(c.n_group) or v <= c.n_group)),
    ("n_group", "a divisor of n_routed_experts whose topk_group groups hold at least "
     "num_experts_per_tok experts", lambda v, c: _whole(v) and _groups_fit(c)),
    ("rope_scaling",
     "of type 'yarn' with original_max_position_embeddings, numbers above 0, a factor "
     "of at least 1, and beta_fast above beta_slow; or 'linear' with a factor alone",
     lambda v, c: v is None or _scaling_fits(v)),
)

_YARN_40 = RopeScaling(factor=40, original_max_position_embeddings=4096)
_LITE = ModelConfig(
    vocab_size=102400, hidden_size=2048, num_hidden_layers=27, num_attention_heads=16,
    kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128,
    intermediate_size=10944, moe_intermediate_size=1408, n_routed_experts=64,
    num_experts_per_tok=6, n_shared_experts=2, max_position_embeddings=163840,
    rope_scaling=replace(_YARN_40, mscale=0.707, mscale_all_dim=0.707))
_TOY = ModelConfig(
    vocab_size=4096, hidden_size=128, num_hidden_layers=4, num_attention_heads=4,
    kv_lora_rank=64, qk_nope_head_dim=32, qk_rope_head_dim=32, v_head_dim=32,
    intermediate_size=352, moe_intermediate_size=64, n_routed_experts=16,
    num_experts_per_tok=4, n_shared_experts=1, max_position_embeddings=256,
    initializer_range=0.03)  # learns faster than with 0.02 or 0.06

PRESETS: dict[str, ModelConfig] = {
    # ours, for a laptop: the architecture is the released one, the sizes are not
    "toy": _TOY,
    "nano": replace(
        _TOY, hidden_size=256, num_hidden_layers=6, qk_rope_head_dim=16,
        intermediate_size=704, moe_intermediate_size=96, n_shared_experts=2,
        max_position_embeddings=1024, initializer_range=0.04),
    "small": replace(
        _TOY, vocab_size=8192, hidden_size=512, num_hidden_layers=9,
        num_attention_heads=8, q_lora_rank=192, kv_lora_rank=128, qk_nope_head_dim=64,
        v_head_dim=64, intermediate_size=1408, moe_intermediate_size=192,
        n_routed_experts=32, num_experts_per_tok=6, n_shared_experts=2,
        topk_method="group_limited_greedy", n_group=8, topk_group=3,
        max_position_embeddings=4096, initializer_range=0.03),
    # the paper does not describe its 1B ablation model: here DeepSeek-Coder-1.3B's
    # sizes (arXiv 2401.14196, table 2) with MLA in place of its attention
    "ablation_1b": replace(
        _LITE, vocab_size=32000, num_hidden_layers=24, intermediate_size=5504,
        first_k_dense_replace=24, n_routed_experts=None, n_shared_experts=None,
        max_position_embeddings=4096, rope_scaling=None),
    "lite_16b": _LITE,
    # mscale 1.0 is probable and unverified: the checkpoint's own config decides
    "full_236b": replace(
        _LITE, hidden_size=5120, num_hidden_layers=60, num_attention_heads=128,
        q_lora_rank=1536, intermediate_size=12288, moe_intermediate_size=1536,
        n_routed_experts=160, topk_method="group_limited_greedy", n_group=8,
        topk_group=3, routed_scaling_factor=16.0, rope_scaling=_YARN_40),
}


def preset(name: str, **changes: Any) -> ModelConfig:
    """A named configuration, with fields replaced on request."""
    if name not in PRESETS:
        near = get_close_matches(name, PRESETS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"There is no preset {name!r}; choose one of "
                        f"{', '.join(PRESETS)}.{hint}")
    return replace(PRESETS[name], **changes)


def parameter_count(c: ModelConfig, activated: bool = False) -> int:
    """Number of parameters, or of those that one token uses (embedding and head too).

    Formulas: facts of the released checkpoint's tensor shapes, DeepSeek-V2 §2.
    """
    hidden, heads = c.hidden_size, c.num_attention_heads
    width = heads * c.qk_head_dim
    attention = (hidden * width if c.q_lora_rank is None
                 else hidden * c.q_lora_rank + c.q_lora_rank + c.q_lora_rank * width)
    attention += hidden * c.cache_width + c.kv_lora_rank
    attention += c.kv_lora_rank * heads * (c.qk_nope_head_dim + c.v_head_dim)
    attention += heads * c.v_head_dim * hidden
    total = 2 * c.vocab_size * hidden + hidden
    for layer in range(c.num_hidden_layers):
        total += attention + 2 * hidden
        if not c.is_moe(layer):
            total += 3 * hidden * c.intermediate_size
            continue
        experts = c.num_experts_per_tok if activated else c.n_routed_experts
        experts += c.n_shared_experts or 0
        total += 3 * hidden * c.moe_intermediate_size * experts
        total += hidden * c.n_routed_experts
    return total
