"""Experts in several processes do what they do in one, and what travels is counted."""

from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from dealt import team_in
from miniatures import FULL, LITE, random_model

from minicoder.model.moe import Experts, Routing
from minicoder.parallel.experts import Traffic, spread_experts, traffic
from minicoder.parallel.layout import Layout

KINDS = ("random", "random", "one expert", "idle process", "no tokens", "dropped",
         "limited")
D, E, K = LITE.hidden_size, LITE.n_routed_experts, LITE.num_experts_per_tok


def model_of(kind):
    return random_model(replace(FULL if kind == "limited" else LITE,
                                num_hidden_layers=2))


def tokens_of(kind, rank, seed):
    """x and routing of one process; float64, leaves."""
    draw = torch.Generator().manual_seed(100 * seed + rank)
    many = 0 if kind == "no tokens" and rank == 1 else 7 + 2 * rank
    x = torch.randn(many, D, generator=draw, dtype=torch.float64)
    if kind == "limited":
        routing = model_of(kind).model.layers[1].mlp.gate(x)
        return x.requires_grad_(), routing.experts, (
            routing.weights.detach().requires_grad_())
    scores = torch.rand(many, E, generator=draw, dtype=torch.float64)
    if kind == "idle process":
        scores[:, E // 2:] = 0
    experts = scores.topk(K).indices
    if kind == "one expert":
        experts = torch.full((many, 1), 5)
    weights = torch.rand(experts.shape, generator=draw, dtype=torch.float64)
    if kind == "dropped":
        weights[torch.rand(weights.shape, generator=draw) < 0.4] = 0
        weights[0] = 0     # a token that goes nowhere
    return x.requires_grad_(), experts, weights.requires_grad_()


def by_hand(all_experts, all_weights, rank, processes):
    """Traffic of a process, token by token."""
    def trips(source):
        for chosen, weights in zip(all_experts[source].tolist(),
                                   all_weights[source].tolist(), strict=True):
            homes = [e // (E // processes) for e, w in zip(chosen, weights, strict=True)
                     if w]
            yield homes, set(homes)

    own = list(trips(rank))
    away = sum(len(to - {rank}) for _, to in own)
    back = sum(rank in to for source in range(processes) if source != rank
               for _, to in trips(source))
    k = all_experts[rank].shape[1]
    return Traffic(sum(len(to) for _, to in own), sum(len(homes) for homes, _ in own),
                   away, sum(h != rank for homes, _ in own for h in homes),
                   away * (8 * (D + k) + 8 * k) + back * 8 * D)


def differences(kind, seed):
    """To one process with everybody's tokens: outputs, gradients, counts."""
    team = team_in(Layout(expert=dist.get_world_size()))
    given = [tokens_of(kind, rank, seed) for rank in range(team.layout.world)]
    whole: Experts = model_of(kind).model.layers[1].mlp.experts
    x, experts, weights = (torch.cat(parts).detach() for parts in zip(
        *given, strict=True))
    x.requires_grad_(), weights.requires_grad_()
    expected = whole(x, Routing(weights.new_zeros(len(x), E), experts, weights))
    expected.square().sum().backward()

    model = model_of(kind)
    spread_experts(model, team)
    dealt = model.model.layers[1].mlp.experts
    own, chosen, own_weights = given[team.rank]
    out = dealt(own, Routing(own_weights.new_zeros(len(own), E), chosen, own_weights))
    out.square().sum().backward()
    start = sum(len(g[0]) for g in given[:team.rank])
    part = slice(start, start + len(own))
    alive = weights[part] != 0  # of what is not sent nobody says the gradient
    pairs = [(out, expected[part]), (own.grad, x.grad[part]),
             (own_weights.grad * alive, weights.grad[part] * alive)]
    pairs += [(p.grad.full_tensor(), whole.get_parameter(name).grad)
              for name, p in dealt.named_parameters()]
    counted = by_hand([g[1] for g in given], [g[2] for g in given], team.rank,
                      team.layout.world)
    gaps = [((a - b).abs() / b.abs().max().clamp(min=1)).max().item()
            for a, b in pairs if a.numel()]
    return gaps, (traffic(model)[0], counted, len(own))


@pytest.mark.parametrize("size", [2, 4])
def test_dealt_out_experts_are_those_of_one_process(gang, size):
    for seed, kind in enumerate(KINDS):
        for gaps, (counted, expected, tokens) in gang(size).run(
                differences, kind, seed):
            assert max(gaps) < 1e-12, (kind, gaps)
            assert counted == expected, kind
            if kind == "limited" and size == 4:  # a group of experts a process
                assert counted.copies <= FULL.topk_group * tokens


def test_traffic_adds_up():
    one = Traffic(1, 2, 3, 4, 5)
    assert sum([one, one], Traffic()) == Traffic(2, 4, 6, 8, 10)
    assert traffic(random_model(LITE)) == []    # nothing is dealt out
