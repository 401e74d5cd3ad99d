"""At real size: single layers of the 236B, forward and backward, within a budget.

Not run here: the whole 236B, whose weights alone take 439 GiB.
"""

import gc
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from minicoder.config import PRESETS, parameter_count
from minicoder.model.mla import MLA, LatentCache
from minicoder.model.moe import MoE, Routing
from minicoder.model.rope import rope_table
from minicoder.model.transformer import MiniCoder
from minicoder.stages import peak_memory, reset_peak_memory

FULL = PRESETS["full_236b"]
EXPERT, SHARED, ROUTER, ATTENTION = 23_592_960, 47_185_920, 819_200, 149_227_520
GIB = 2**30


def memory_free() -> float:
    """GiB that this machine could still give, where Linux tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0.0
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return kilobytes["MemAvailable"] / 2**20


def real(layer: type[nn.Module]) -> nn.Module:
    """A bf16 layer of the 236B whose weights are cheap to make and repeat seldom."""
    with torch.device("meta"):
        built = layer(FULL)
    built = built.to(torch.bfloat16).to_empty(device="cpu")
    row = torch.randn(FULL.hidden_size * 6, generator=torch.Generator().manual_seed(0))
    for parameter in built.parameters():
        flat = parameter.data.view(-1)
        width = parameter.shape[-1]
        for start in range(0, len(flat), 2**24):
            part = flat[start:start + 2**24]
            shift = start // 2**24 % 997  # no two pieces are alike
            pattern = row[shift:shift + 4099].mul(width ** -0.5).bfloat16()
            part.copy_(pattern.repeat(-(-len(part) // 4099))[:len(part)])
        if parameter.ndim == 1:
            flat.fill_(1)
    return built


def test_the_whole_outline_is_built_on_any_machine():
    model = MiniCoder.outline(FULL)
    assert sum(p.numel() for p in model.parameters()) == 235_741_434_880
    with torch.device("meta"):
        cache = LatentCache(FULL, torch.empty(0), 1, 131_072)
    assert 2 * cache.buffer.numel() / GIB == pytest.approx(8.44, abs=0.005)


def test_the_layers_add_up_to_the_formula():
    with torch.device("meta"):
        counts = {layer: sum(p.numel() for p in layer(FULL).parameters())
                  for layer in (MoE, MLA)}
    assert counts[MoE] == 160 * EXPERT + SHARED + ROUTER
    assert counts[MLA] == ATTENTION
    fewer = parameter_count(replace(FULL, num_hidden_layers=59))
    assert parameter_count(FULL) - fewer == counts[MoE] + counts[MLA] + 2 * 5120


@pytest.mark.slow
def test_attention_of_the_236b_forward_and_backward():
    layer, length = real(MLA), 24
    x = torch.randn(1, length, FULL.hidden_size).bfloat16().requires_grad_()
    rope = rope_table(FULL, 0, length, x)
    out = layer(x, rope)
    out.float().square().mean().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in layer.parameters())
    assert x.grad.any() and out.std() > 0
    with torch.no_grad():  # bf16 has 8 bits: the other way round, near is all there is
        other = layer.absorbed(x, layer.to_cache(x, rope), rope)
    error = (other - out).float().abs().max() / out.float().abs().max()
    assert error < 0.05


@pytest.mark.slow
@pytest.mark.skipif(memory_free() < 17, reason=(
    "weights and gradients of one MoE layer of the 236B take 14.2 GiB; "
    f"{memory_free():.0f} GiB are free, 17 are asked for"))
def test_a_moe_layer_of_the_236b_forward_and_backward():
    """3.8 billion parameters in bf16: as many bytes of gradients, and little beside."""
    gc.collect()
    reset_peak_memory()
    before = peak_memory() * 2**20
    layer = real(MoE)
    x = torch.randn(1, 12, FULL.hidden_size,
                    generator=torch.Generator().manual_seed(1)).bfloat16()
    seen: list[Routing] = []
    layer(x, seen).float().square().mean().backward()
    planned = 2 * 2 * (160 * EXPERT + SHARED + ROUTER)  # weights, gradients; 2 bytes
    measured = peak_memory() * 2**20 - before
    print(f"planned {planned / GIB:.2f} GiB, measured {measured / GIB:.2f} GiB")
    assert 0.98 * planned < measured < 1.1 * planned + GIB
    used = seen[0].experts.unique()
    groups = (seen[0].experts // 20).sort(dim=1).values
    assert all(len(row.unique()) <= 3 for row in groups)  # a token goes to 3 devices
    grads = layer.experts.down_proj.grad
    assert all(grads[e].any() for e in used.tolist())
    idle = [e for e in range(160) if e not in used.tolist()]
    assert idle and not grads[idle[0]].any()
