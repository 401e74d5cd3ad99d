"""Heads and widths in several processes give one process's numbers and gradients."""

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from dealt import team_in
from miniatures import FULL, LITE, random_model, random_tokens
from torch.distributed.tensor import DTensor

from minicoder.errors import UserError
from minicoder.model.mla import LatentCache
from minicoder.parallel.layout import Layout
from minicoder.parallel.tensor import cut_heads

WIDE = {name: replace(config, num_hidden_layers=2) for name, config in (
    ("lite", LITE), ("full", FULL))}


def differences(name):
    """To the whole model: logits, logits after a cache, and gradients by name."""
    mesh = team_in(Layout(tensor=dist.get_world_size())).dense["tensor"]
    tokens = random_tokens(WIDE[name], 2, 9)
    whole, cut = random_model(WIDE[name]), random_model(WIDE[name])
    cut_heads(cut, mesh)
    expected, out = whole(tokens), cut(tokens)
    for logits in (expected, out):
        logits.square().mean().backward()
    found = {"logits": (out - expected).abs().max().item()}
    cache = LatentCache(WIDE[name], whole.lm_head.weight, batch=2)
    with torch.no_grad():
        parts = [cut.model.prefill(part, cache) for part in tokens.split(5, 1)]
    prefilled = cut.lm_head(torch.cat(parts, 1))
    found["prefill"] = (prefilled - expected).abs().max().item()
    for name, p in whole.named_parameters():
        own = cut.get_parameter(name).grad
        own = own.full_tensor() if isinstance(own, DTensor) else own
        found[name] = (own - p.grad).abs().max().item()
    dealt = [p for p in cut.parameters() if isinstance(p, DTensor)]
    return found, sum(p.to_local().numel() for p in dealt), sum(
        p.numel() for p in dealt)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("name", WIDE)
def test_heads_and_widths_are_dealt_out(gang, size, name):
    for found, dealt, whole in gang(size).run(differences, name):
        assert max(found.values()) < 1e-12, found
        assert dealt * size == whole


@pytest.mark.parametrize("changes, words", [
    ({"intermediate_size": 41}, "--tensor 2 must divide intermediate_size = 41"),
    ({"n_shared_experts": 1, "moe_intermediate_size": 25},
     "must divide n_shared_experts x moe_intermediate_size = 25")])
def test_widths_that_cannot_be_dealt_out_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        Layout(tensor=2).check(replace(LITE, **changes))
