from dataclasses import replace

import pytest

from benchmarks.plan import kept
from minicoder.config import preset
from minicoder.parallel.layout import Layout
from minicoder.scale.activations import Keeping

ALONE = Layout().of(1)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("name", "rows", "length"), [
    ("toy", 2, 64), ("nano", 1, 96), ("small", 3, 32)])
def test_as_much_as_autograd_keeps(name, rows, length, precision, recompute):
    config = preset(name, num_hidden_layers=3)
    keeping = Keeping(config, ALONE, 2 if precision == "bfloat16" else 4, 0.0)
    each = keeping.head + sum(keeping.layer(config.is_moe(layer), recompute)
                              for layer in range(3))
    found = kept(config, rows, length, precision, recompute)
    assert each * rows * length == pytest.approx(found, rel=0.01)


def test_models_without_a_part():
    dense = preset("ablation_1b", hidden_size=64, num_hidden_layers=2, vocab_size=96,
                   num_attention_heads=2, kv_lora_rank=16, intermediate_size=80,
                   qk_rope_head_dim=8)
    unshared = preset("toy", num_hidden_layers=2, n_shared_experts=0)
    for config in (dense, unshared):
        keeping = Keeping(config, ALONE, 4, 0.0)
        each = keeping.head + sum(
            keeping.layer(config.is_moe(layer), False) for layer in (0, 1))
        found = kept(config, 2, 32, "float32", False)
        assert each * 64 == pytest.approx(found, rel=0.02)


def test_heads_and_widths_are_shared_and_copies_cost():
    config = preset("full_236b")
    alone = Keeping(config, ALONE, 2, 0.0)
    cut = replace(alone, layout=Layout(1, 1, 1, 8, 8))
    heads = config.num_attention_heads * (
        4 * 2 * config.qk_head_dim + 4 + 2 * config.v_head_dim)
    assert alone.attention - cut.attention == heads * 7 / 8
    assert cut.moe < alone.moe
    sent = replace(alone, copies=3.0)
    assert sent.moe - alone.moe == 3 * (2 * config.hidden_size + 8 * 7)
