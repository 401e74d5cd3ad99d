"""AdamW: the paper's betas, and decay on matrices alone."""

import pytest
import torch
from miniatures import SHAPES, random_model
from torch import nn

from minicoder.training.optimizer import adamw


def test_the_paper_s_settings():
    optimizer = adamw(nn.Linear(2, 2), 1e-3)
    for group in optimizer.param_groups:
        assert group["betas"] == (0.9, 0.95) and group["lr"] == 1e-3
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1, 0]


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_every_parameter_is_there_once_and_only_gains_are_spared(config):
    model = random_model(config)
    decays = {p: g["weight_decay"] for g in adamw(model, 1e-3).param_groups
              for p in g["params"]}
    assert set(decays) == set(model.parameters())
    spared = {name for name, p in model.named_parameters() if decays[p] == 0}
    assert spared == {name for name, _ in model.named_parameters() if "norm" in name}


def test_without_a_gradient_s_direction_matrices_shrink_and_gains_stay():
    layer = nn.Linear(3, 3)
    before = [p.detach().clone() for p in layer.parameters()]
    optimizer = adamw(layer, lr=0.1, weight_decay=0.5)
    for p in layer.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert torch.allclose(layer.weight, before[0] * (1 - 0.1 * 0.5))
    assert torch.equal(layer.bias, before[1])


def test_one_step_by_hand():
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, 2.0)
    optimizer = adamw(layer, lr=0.01, weight_decay=0.1)
    for gradient in (4.0, 1.0):
        layer.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
    w = 2 * (1 - 0.001) - 0.01      # the first step goes the whole learning rate
    m = (0.9 * 0.1 * 4 + 0.1 * 1) / (1 - 0.9 ** 2)
    v = (0.95 * 0.05 * 16 + 0.05 * 1) / (1 - 0.95 ** 2)
    assert layer.weight.item() == pytest.approx(w * (1 - 0.001) - 0.01 * m / v ** 0.5,
                                                rel=1e-6)
