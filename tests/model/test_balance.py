"""Three balance losses and token dropping: the paper's sums, one after the other."""

from dataclasses import replace

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from miniatures import LITE, SHAPES, random_model

from minicoder.errors import UserError
from minicoder.model.balance import (
    Balance,
    Dropping,
    communication_balance_loss,
    device_balance_loss,
    drop_tokens,
    expert_balance_loss,
    expert_load,
)
from minicoder.model.moe import MoE, Routing

DEVICES, LIMIT = 4, 2


def layer_of(config, seed: int = 0) -> MoE:
    return random_model(config, torch.float64, seed).model.layers[1].mlp


def tokens(batch: int, length: int, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, LITE.hidden_size, generator=generator,
                       dtype=torch.float64)


def routing_of(layer: MoE, x: torch.Tensor) -> Routing:
    seen: list[Routing] = []
    layer(x, seen)
    return seen[0]


def decided(experts: list[int], scores: torch.Tensor) -> Routing:
    chosen = torch.tensor(experts)[:, None]
    return Routing(scores, chosen, scores.gather(1, chosen))


# --- the losses


def test_expert_loss_of_the_extremes():
    """4 experts, 1 chosen: all to one with certainty is 4, all alike is 1."""
    certain = torch.eye(4)[[0] * 8]
    assert expert_balance_loss(decided([0] * 8, certain), 1).item() == 4
    fair = decided([0, 1, 2, 3] * 2, torch.full((8, 4), 0.25))
    assert expert_balance_loss(fair, 1).item() == 1
    assert expert_load(fair).tolist() == [0.25] * 4


def test_device_loss_forgives_what_happens_inside_a_device():
    """Experts 0 and 2 do all the work, one on each of two devices."""
    routing = decided([0, 2] * 4, torch.tensor([[.5, 0, .5, 0]]).expand(8, 4))
    assert expert_balance_loss(routing, 1).item() == 2
    assert device_balance_loss(routing, 1, devices=2).item() == 1
    lame = decided([0, 1] * 4, torch.tensor([[.5, .5, 0, 0]]).expand(8, 4))
    assert device_balance_loss(lame, 1, devices=2).item() == 2


def test_communication_counts_a_token_once_for_each_device():
    """Both chosen experts on one device are one visit; on two devices, two visits."""
    scores = torch.full((4, 4), 0.25)
    near, far = (Routing(scores, torch.tensor(e), torch.full((4, 2), 0.25)) for e in (
        [[0, 1], [2, 3], [0, 1], [2, 3]], [[0, 2], [1, 3], [0, 3], [1, 2]]))
    for routing, loss in ((near, 0.5), (far, 1.0)):
        assert expert_balance_loss(routing, 1).item() == 1
        assert communication_balance_loss(routing, 1, 2, limit=2).item() == loss


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(sorted(SHAPES)), st.integers(1, 3), st.integers(1, 10),
       st.integers(0, 99))
def test_losses_equal_the_loops(shape, batch, length, seed):
    layer, x = layer_of(SHAPES[shape], seed), tokens(batch, length, seed)
    with torch.no_grad():
        routing = routing_of(layer, x)
        found = (expert_balance_loss(routing, batch),
                 device_balance_loss(routing, batch, DEVICES),
                 communication_balance_loss(routing, batch, DEVICES, LIMIT))
        expected = oracles.balance_losses(layer.gate, x, DEVICES, LIMIT)
    assert [value.item() for value in found] == pytest.approx(expected, rel=1e-12)


def test_balance_is_counted_in_each_sequence():
    """Two sequences, each to an expert of its own: even together, uneven alone."""
    apart = decided([0] * 4 + [1] * 4, torch.eye(2)[[0] * 4 + [1] * 4])
    assert expert_balance_loss(apart, 1).item() == 1
    assert expert_balance_loss(apart, 2).item() == 2


def test_gradients_flow_through_the_scores_alone():
    """d loss / d score = f / T in each sequence: the counts have no gradient."""
    layer, x = layer_of(LITE), tokens(2, 10)
    routing = routing_of(layer, x)
    gradient, = torch.autograd.grad(expert_balance_loss(routing, 2), routing.scores)
    for number, part in enumerate(routing.experts.chunk(2)):
        counts = torch.bincount(part.flatten(), minlength=LITE.n_routed_experts)
        share = counts * LITE.n_routed_experts / LITE.num_experts_per_tok / 10
        torch.testing.assert_close(gradient[number * 10], share.double() / 10 / 2)
    for loss in (device_balance_loss(routing, 2, DEVICES),
                 communication_balance_loss(routing, 2, DEVICES, LIMIT)):
        gradient, = torch.autograd.grad(loss, routing.scores, retain_graph=True)
        by_device = gradient.view(2, 10, DEVICES, -1)
        assert (by_device == by_device[:, :1, :, :1]).all()  # alike within a device
        assert gradient.unique().numel() > 1


# --- their factors


FACTORS = dict(expert=0.003, device=0.05, communication=0.02, devices=4, limit=3)


def test_factors_weigh_the_losses():
    routing = routing_of(layer_of(LITE), tokens(2, 9))
    expected = (0.003 * expert_balance_loss(routing, 2)
                + 0.05 * device_balance_loss(routing, 2, 4)
                + 0.02 * communication_balance_loss(routing, 2, 4, 3))
    torch.testing.assert_close(Balance(**FACTORS).loss(routing, 2), expected)
    lite = Balance(**FACTORS | dict(device=0.0, communication=0.0, devices=1,
                                  limit=1))
    torch.testing.assert_close(lite.loss(routing, 2),
                               0.003 * expert_balance_loss(routing, 2))


@pytest.mark.parametrize("name", FACTORS)
def test_no_factor_has_a_silent_default(name):
    """Megatron-Bridge 5165: a field was absent, and the coefficient became 0."""
    with pytest.raises(TypeError, match=name):
        Balance(**{k: v for k, v in FACTORS.items() if k != name})


@pytest.mark.parametrize("changes, message", [
    ({"expert": -1.0}, "factor expert = -1.0"),
    ({"device": float("nan")}, "factor device = nan"),
    ({"limit": 0}, "limit = 0"), ({"limit": 5}, "devices, 4")])
def test_factors_out_of_range_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        Balance(**FACTORS | changes)


def test_experts_that_cannot_be_dealt_out_are_refused():
    routing = routing_of(layer_of(LITE), tokens(1, 4))
    with pytest.raises(UserError, match="8 experts.*devices = 3"):
        Balance(**FACTORS | {"devices": 3}).loss(routing, 1)


def test_dropping_refuses_them_too():
    """Or the experts of the last device would never be looked at."""
    routing = routing_of(layer_of(LITE), tokens(1, 4))
    for devices in (3, 16):
        with pytest.raises(UserError, match=f"8 experts.*devices = {devices}"):
            drop_tokens(routing, devices, 1.0, torch.zeros(4, dtype=torch.bool))


# --- dropping


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(sorted(SHAPES)), st.integers(1, 12), st.integers(0, 99),
       st.sampled_from([0.25, 0.5, 1.0, 1.5, 4.0]), st.sampled_from([1, 2, 4, 8]))
def test_dropping_equals_the_loop(shape, length, seed, capacity, devices):
    layer, x = layer_of(SHAPES[shape], seed), tokens(2, length, seed)
    routing = routing_of(layer, x)
    spared = torch.tensor([seed % 2 == 0, False]).repeat_interleave(length)
    found = drop_tokens(routing, devices, capacity, spared)
    kept = (found.weights > 0)
    assert kept.tolist() == oracles.kept_visits(
        routing.scores.tolist(), routing.experts.tolist(), devices, capacity,
        spared.tolist())
    assert torch.equal(found.weights[kept], routing.weights[kept])
    assert kept[spared].all()
    room = int(capacity * routing.experts.numel() / devices)
    device = routing.experts // (LITE.n_routed_experts // devices)
    for d in range(devices):
        mine = device == d
        assert (kept & mine).sum() <= max(room, (mine & spared[:, None]).sum())


def test_room_for_all_drops_nothing():
    routing = routing_of(layer_of(LITE), tokens(2, 9))
    none = torch.zeros(18, dtype=torch.bool)
    assert torch.equal(drop_tokens(routing, 4, 4.0, none).weights, routing.weights)
    assert torch.equal(drop_tokens(routing, 4, 0.01, ~none).weights, routing.weights)


def test_a_layer_drops_while_it_trains_and_never_after():
    layer, x = layer_of(LITE), tokens(2, 20)
    whole = layer.train()(x)
    layer.drop = Dropping(devices=4, capacity=0.5, spared=0.0)
    seen: list[Routing] = []
    fewer = layer(x, seen)
    assert not torch.allclose(fewer, whole)
    torch.testing.assert_close(layer.eval()(x), whole)
    assert (seen[0].weights > 0).all()  # the losses see what was asked for
    dropped = drop_tokens(seen[0], 4, 0.5, torch.zeros(40, dtype=torch.bool))
    with torch.no_grad():
        expected = layer.experts(x.flatten(0, 1), dropped).view_as(x)
        torch.testing.assert_close(fewer, expected + layer.shared_experts(x))


def test_about_the_spared_share_of_sequences_is_never_dropped():
    draw = torch.Generator().manual_seed(0)
    drop = Dropping(devices=2, capacity=1e-9, spared=0.1, generator=draw)
    scores = torch.full((4000, 4), 0.25)
    routing = Routing(scores, torch.zeros(4000, 1, dtype=torch.long),
                      torch.full((4000, 1), 0.25))
    kept = drop(routing, sequences=2000).weights.view(2000, 2) > 0
    assert torch.equal(kept[:, 0], kept[:, 1])  # a sequence is spared as a whole
    assert 0.08 < kept.double().mean().item() < 0.12


@pytest.mark.parametrize("wrong", [(0, 1.0, 0.1), (8, 0.0, 0.1), (8, 1.0, 1.1)])
def test_dropping_out_of_range_is_refused(wrong):
    with pytest.raises(UserError, match="allowed are"):
        Dropping(*wrong)


def test_a_dropped_visit_teaches_neither_expert_nor_router():
    layer, x = layer_of(replace(LITE, n_shared_experts=None)).train(), tokens(1, 6)
    layer.drop = Dropping(devices=1, capacity=1e-9, spared=0.0)
    layer(x).sum().backward()
    assert all(not p.grad.any() for p in layer.parameters())
