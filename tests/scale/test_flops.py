import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from minicoder.config import preset
from minicoder.model.transformer import MiniCoder
from minicoder.parallel.economy import recompute
from minicoder.scale import flops
from minicoder.scale.dry_run import FLOPS
from minicoder.training.loop import token_losses

T = 48
ops = torch.ops.aten


def counted(config, back):
    """torch's own count of a token, by operation."""
    model, tokens = MiniCoder(config), torch.randint(config.vocab_size, (2, T))
    with FlopCounterMode(display=False, custom_mapping=FLOPS) as counter:
        loss = token_losses(model, tokens, tokens).mean()
        if back:
            loss.backward()
    return {str(op).removeprefix("aten."): n / tokens.numel()
            for op, n in counter.get_flop_counts()["Global"].items()}


@pytest.mark.parametrize("name", ["toy", "nano", "small"])
def test_as_many_as_torch_counts(name):
    config = preset(name, num_hidden_layers=3)
    parts, found = flops.forward(config, T, causal=False), counted(config, back=False)
    core, routed = parts.pop("attention"), parts.pop("routed experts")
    assert found["mm"] == sum(parts.values())
    # values are padded to the width of keys, which the model itself does not need
    padded = 2 * config.qk_head_dim / (config.qk_head_dim + config.v_head_dim)
    attended = found["_scaled_dot_product_flash_attention_for_cpu"]
    assert attended == pytest.approx(core * padded)
    grown = found.get("_grouped_mm", 0.0)
    assert grown == routed
    back = counted(config, back=True)
    assert back["mm"] == 3 * sum(parts.values()) and back["_grouped_mm"] == 3 * grown


def test_causal_attention_needs_half():
    config = preset("toy")
    each = [flops.forward(config, 100, causal) for causal in (True, False)]
    pairs = sum(query + 1 for query in range(100)) / 100 ** 2
    assert each[0]["attention"] == pytest.approx(each[1]["attention"] * pairs)


def test_what_others_count_of_the_236b():
    # torchtitan's formula gives 185.5 GFLOP a token at 4,096
    found = flops.training(preset("full_236b"), 4096, causal=False)
    assert found == pytest.approx(185.5e9, rel=1e-3)


@pytest.mark.parametrize("name", ["toy", "small"])
def test_recomputation_as_torch_counts_it(name):
    config = preset(name, num_hidden_layers=3)
    model, tokens = MiniCoder(config), torch.randint(config.vocab_size, (2, T))
    recompute(model)
    with FlopCounterMode(display=False, custom_mapping=FLOPS) as counter:
        token_losses(model, tokens, tokens).mean().backward()
    counts = counter.get_flop_counts()["Global"]
    found = (counts[ops.mm] + counts[ops._grouped_mm]) / tokens.numel()
    attention = flops.forward(config, T, causal=False)["attention"]
    planned = flops.executed(config, 1, 2, True, T, recompute=True, causal=False)
    assert planned - 4 * attention == pytest.approx(found)


def test_what_tensor_processes_do_twice():
    config = preset("full_236b")
    one, eight = (flops.executed(config, 1, 59, True, 4096, n) for n in (1, 8))
    assert one == pytest.approx(flops.training(config, 4096))
    twice = 2 * 5120 * (60 * (1536 + 576) + 59 * 160 + 102400)
    assert 8 * eight - one == pytest.approx(7 * 3 * twice)
