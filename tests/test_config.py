"""Configurations: released fields, counts to the unit, and what bad ones get."""

import json
from dataclasses import replace

import pytest

from minicoder.config import (
    PRESETS,
    ModelConfig,
    RopeScaling,
    parameter_count,
    preset,
)
from minicoder.errors import UserError

BAD = [  # field, value, and a word of the message
    ("vocab_size", 0, "above 0"), ("vocab_size", "4096", "whole number"),
    ("hidden_size", 128.0, "whole number"), ("hidden_size", True, "whole number"),
    ("num_hidden_layers", -1, "above 0"), ("num_attention_heads", None, "above 0"),
    ("kv_lora_rank", 0, "above 0"), ("qk_nope_head_dim", 0, "above 0"),
    ("v_head_dim", [32], "above 0"), ("intermediate_size", 0, "above 0"),
    ("moe_intermediate_size", 0, "above 0"), ("num_experts_per_tok", 0, "above 0"),
    ("max_position_embeddings", 0, "above 0"),
    ("q_lora_rank", 0, "null"), ("q_lora_rank", "none", "null"),
    ("n_shared_experts", -1, "null"), ("first_k_dense_replace", None, "0 or more"),
    ("qk_rope_head_dim", 7, "even"), ("qk_rope_head_dim", 0, "even"),
    ("n_routed_experts", 3, "num_experts_per_tok"),
    ("n_routed_experts", 16.0, "num_experts_per_tok"),
    ("topk_method", "noaux_tc", "greedy"), ("topk_method", None, "greedy"),
    ("n_group", 0, "divisor"), ("n_group", None, "divisor"),
    ("topk_group", 2, "n_group"), ("topk_group", 0, "n_group"),
    ("norm_topk_prob", 1, "true or false"),
    ("routed_scaling_factor", 0, "above 0"), ("rope_theta", float("inf"), "above 0"),
    ("rms_norm_eps", float("nan"), "above 0"), ("initializer_range", "x", "above 0"),
    ("rope_scaling", {"factor": 40}, "factor"),
    ("rope_scaling", RopeScaling(0.5, 4096), "factor"),
    ("rope_scaling", RopeScaling(40, 4096, beta_fast=1, beta_slow=1), "beta_fast"),
    ("rope_scaling", RopeScaling(40, 0), "above 0"),
    ("rope_scaling", RopeScaling(40), "original_max_position_embeddings"),
    ("rope_scaling", RopeScaling("40", 4096), "numbers"),
    ("rope_scaling", RopeScaling(40, 4096, type="dynamic"), "'yarn'.*'linear'"),
    ("rope_scaling", RopeScaling(40, type="linear"), "'linear' with a factor alone"),
    ("rope_scaling", RopeScaling(0.9, mscale=0, mscale_all_dim=0, type="linear"),
     "at least 1"),
]


@pytest.mark.parametrize("field, value, word", BAD)
def test_a_bad_field_is_named(field, value, word):
    with pytest.raises(UserError, match=rf"(?s)field {field} = .*{word}"):
        preset("toy", **{field: value})


@pytest.mark.parametrize("n_group, topk_group, fits", [
    (4, 1, True), (8, 2, True), (8, 1, False), (5, 1, False), (16, 3, False)])
def test_groups_hold_enough_experts(n_group, topk_group, fits):
    change = dict(topk_method="group_limited_greedy", n_group=n_group,
                  topk_group=topk_group)  # of 16 experts, 4 are chosen
    if fits:
        assert preset("toy", **change).n_group == n_group
    else:
        with pytest.raises(UserError, match="field n_group"):
            preset("toy", **change)


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip(name):
    config = PRESETS[name]
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_an_unknown_preset_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"lite_16b.*Did you mean 'lite_16b'\?"):
        preset("lite16b")


def test_a_preset_takes_changes():
    assert preset("toy", vocab_size=77) == replace(PRESETS["toy"], vocab_size=77)


# DeepSeek-Coder-V2's tables: total, and what one token uses with embedding and head
COUNTS = {"lite_16b": (15_706_484_224, 2_661_150_208),
          "full_236b": (235_741_434_880, 21_375_800_320),
          "nano": (10_010_240, 5_586_560),
          "small": (97_399_104, 36_057_408)}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name):
    config = PRESETS[name]
    assert (parameter_count(config), parameter_count(config, activated=True)
            ) == COUNTS[name]


def test_parameter_counts_of_a_tiny_model():
    """Two layers, small enough to add up by hand."""
    config = ModelConfig(
        vocab_size=512, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16,
        intermediate_size=176, moe_intermediate_size=32, n_routed_experts=8,
        num_experts_per_tok=2, n_shared_experts=1)
    assert parameter_count(config) == 189_312
    assert parameter_count(config, activated=True) == 152_448


@pytest.mark.parametrize("name, width", [("lite_16b", 15_552), ("full_236b", 34_560)])
def test_cache_of_one_token(name, width):
    config = PRESETS[name]
    assert config.cache_width * config.num_hidden_layers == width  # V2, table 9


def test_the_released_files_differ_from_ours_in_ways_that_do_not_matter():
    values = PRESETS["lite_16b"].to_json() | {
        "topk_method": "gready", "n_group": None, "topk_group": None,
        "aux_loss_alpha": 0.001, "seq_aux": True, "ep_size": 1, "bos_token_id": 100000,
        "torch_dtype": "bfloat16", "auto_map": {"AutoConfig": "x.Y"}}
    assert ModelConfig.from_json(values) == PRESETS["lite_16b"]


def test_both_ways_of_writing_the_rotary_settings():
    values = PRESETS["lite_16b"].to_json()
    scaling = values.pop("rope_scaling")
    theta = values.pop("rope_theta")
    new = values | {"rope_parameters": scaling | {
        "rope_theta": theta, "rope_type": "yarn"}}
    assert ModelConfig.from_json(new) == PRESETS["lite_16b"]
    plain = {"rope_theta": 5e5, "rope_type": "default"}
    config = ModelConfig.from_json(values | {"rope_parameters": plain})
    assert (config.rope_theta, config.rope_scaling) == (5e5, None)


@pytest.mark.parametrize("change, message", [
    ({"model_type": "llama"}, "model_type = 'llama'.*'deepseek_v2'"),
    ({"scoring_func": "sigmoid"}, "scoring_func"),
    ({"tie_word_embeddings": True}, "tie_word_embeddings"),
    ({"vocab_size": None}, "vocab_size"),
    ({"hidden_size": "wide"}, "field hidden_size = 'wide'"),
    ({"rope_scaling": {"type": "dynamic", "factor": 2}}, "'dynamic'.*'yarn'.*'linear'"),
    ({"rope_scaling": {"type": "linear"}}, "factor"),
    ({"rope_scaling": {"type": "linear", "factor": 2, "mscale_all_dim": 1}},
     "'linear' with a factor alone"),
    ({"rope_scaling": {"type": "yarn"}}, "factor"),
    ({"rope_scaling": [1]}, "rope_scaling"),
    ({"rope_scaling": {"type": "yarn", "factor": "40",
                       "original_max_position_embeddings": 4096}}, "rope_scaling"),
])
def test_a_bad_file_is_refused_by_name(change, message):
    values = PRESETS["toy"].to_json() | change
    with pytest.raises(UserError, match=rf"(?s)^some/config\.json: .*{message}"):
        ModelConfig.from_json(values, "some/config.json")


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", "\xff", "[" * 100_000, '{"vocab_size": ' + "9" * 5000 + "}"])
def test_a_file_that_is_no_configuration(tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"config\.json"):
        ModelConfig.load(tmp_path)


def test_a_folder_without_configuration(tmp_path):
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        ModelConfig.load(tmp_path)


def test_position_interpolation_is_written_as_released_code_reads_it():
    """A factor alone; mscale_all_dim would change the softmax scale of the peer."""
    scaling = RopeScaling(16, mscale=0.0, mscale_all_dim=0.0, type="linear")
    config = preset("toy", rope_scaling=scaling)
    values = json.loads(json.dumps(config.to_json()))
    assert values["rope_scaling"] == {"type": "linear", "factor": 16}
    assert ModelConfig.from_json(values) == config


def test_nulls_of_a_file_are_defaults():
    values = PRESETS["lite_16b"].to_json()
    values["rope_scaling"] |= {"beta_fast": None, "mscale": None,
                               "mscale_all_dim": None}
    found = ModelConfig.from_json(values).rope_scaling
    assert (found.beta_fast, found.mscale, found.mscale_all_dim) == (32, 1.0, 0.0)
