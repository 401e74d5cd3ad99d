"""DeepSeekMoE: sorted dispatch against a loop over everything, the router's rules."""

from dataclasses import replace

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from miniatures import FULL, LITE, SHAPES, random_model

from minicoder.model.moe import MoE, Router, Routing, grouped_linear


def layer_of(config, dtype=torch.float64, seed: int = 0) -> MoE:
    return random_model(config, dtype, seed).model.layers[1].mlp


def tokens(batch: int, length: int, dtype=torch.float64, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, LITE.hidden_size, generator=generator,
                       dtype=torch.float64).to(dtype)


def routing_of(layer: MoE, x: torch.Tensor) -> Routing:
    seen: list[Routing] = []
    layer(x, seen)
    return seen[0]


@settings(deadline=None, max_examples=20)
@given(shape=st.sampled_from(sorted(SHAPES)), normalised=st.booleans(),
       batch=st.integers(1, 3), length=st.integers(1, 20), seed=st.integers(0, 99))
def test_dispatch_equals_a_loop_over_tokens_and_experts(
        shape, normalised, batch, length, seed):
    config = replace(SHAPES[shape], norm_topk_prob=normalised)
    layer, x = layer_of(config, seed=seed), tokens(batch, length, seed=seed)
    with torch.no_grad():
        expected = oracles.moe(layer, x.flatten(0, 1)).view_as(x)
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_equal_those_of_the_loop(shape):
    layer = layer_of(SHAPES[shape])
    x = tokens(2, 6).requires_grad_()
    wanted = [x, *layer.parameters()]
    target = torch.randn(12, x.shape[-1], dtype=torch.float64)
    first, second = (torch.autograd.grad((out * target).sum(), wanted) for out in (
        layer(x).flatten(0, 1), oracles.moe(layer, x.flatten(0, 1))))
    torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("count", [1, 40])
def test_the_fast_kernel_equals_the_loop(count):
    """float32 runs through one grouped product; float64 has no such kernel."""
    exact = layer_of(FULL)
    fast = layer_of(FULL, torch.float32)
    x = tokens(1, count)
    wide = x.float().requires_grad_()
    x.requires_grad_()
    first, second = exact(x), fast(wide)
    torch.testing.assert_close(second.double(), first, rtol=0, atol=2e-5)
    for one, other in zip(
            torch.autograd.grad(first.square().sum(), [x, *exact.parameters()]),
            torch.autograd.grad(second.square().sum(), [wide, *fast.parameters()]),
            strict=True):
        scale = one.abs().max()
        torch.testing.assert_close(other.double() / scale, one / scale,
                                   rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("counts", [[0, 3, 0, 2], [5, 0, 0, 0], [0, 0, 0, 1]])
def test_grouped_linear_leaves_out_experts_that_nobody_chose(dtype, counts):
    x = torch.randn(sum(counts), 8).to(dtype)
    weight = torch.randn(4, 16, 8).to(dtype)
    found = grouped_linear(x, weight, torch.tensor(counts).cumsum(0))
    owner = torch.arange(4).repeat_interleave(torch.tensor(counts))
    expected = torch.stack([weight[e].double() @ row.double()
                            for e, row in zip(owner, x, strict=True)])
    tolerance = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 5e-2}[dtype]
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("width", [1, 3, 7])
def test_odd_widths_run_too(width):
    config = replace(LITE, moe_intermediate_size=width, hidden_size=width + 2)
    layer = layer_of(config, torch.float32)
    x = torch.randn(1, 5, width + 2)
    with torch.no_grad():
        torch.testing.assert_close(
            layer(x)[0], oracles.moe(layer, x[0]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_order_of_tokens_does_not_matter(shape):
    layer, x = layer_of(SHAPES[shape]), tokens(1, 15)
    order = torch.randperm(15)
    with torch.no_grad():
        torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order],
                                   rtol=0, atol=1e-12)


# --- the router


def route(scores: list[float], **changes) -> dict[int, float]:
    """What a router does with one token that has these softmax scores."""
    config = replace(LITE, hidden_size=len(scores), n_routed_experts=len(scores),
                     **changes)
    router = Router(config).double()
    router.weight.data = torch.eye(len(scores), dtype=torch.float64)
    with torch.no_grad():
        routing = router(torch.tensor([scores], dtype=torch.float64).log())
    return dict(zip(routing.experts[0].tolist(), routing.weights[0].tolist(),
                    strict=True))


SCORES = [.20, .02, .05, .18, .15, .14, .16, .10]  # the toy check: 4 groups of 2


def test_groups_limit_the_choice():
    limited = dict(topk_method="group_limited_greedy", n_group=4, topk_group=2)
    assert route(SCORES, **limited) == pytest.approx({0: .20, 3: .18, 2: .05})
    assert route(SCORES) == pytest.approx({0: .20, 3: .18, 6: .16})


def test_weights_are_scores_times_the_scaling_factor():
    assert route(SCORES, routed_scaling_factor=16.0) == pytest.approx(
        {0: 3.2, 3: 2.88, 6: 2.56})


def test_normalising_replaces_the_scaling_factor():
    """As in the released code, where the flag silently cancels the factor."""
    weights = route(SCORES, norm_topk_prob=True, routed_scaling_factor=16.0)
    assert weights == pytest.approx({0: .20 / .54, 3: .18 / .54, 6: .16 / .54})
    alone = route(SCORES, norm_topk_prob=True, routed_scaling_factor=16.0,
                  num_experts_per_tok=1)
    assert alone == pytest.approx({0: 3.2})


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from(sorted(SHAPES)), st.booleans())
def test_choice_equals_the_slow_one(seed, shape, normalised):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(8, generator=generator).double().mul(2).softmax(0).tolist()
    c = replace(SHAPES[shape], norm_topk_prob=normalised)
    changes = {name: getattr(c, name) for name in (
        "topk_method", "n_group", "topk_group", "norm_topk_prob",
        "routed_scaling_factor")}
    assert route(scores, **changes) == pytest.approx(oracles.choose_experts(scores, c))


def test_bfloat16_is_routed_in_float32():
    """In bfloat16, 0.5 and 0.501 are one number and the lower index would win."""
    router = Router(replace(LITE, hidden_size=2, n_routed_experts=4,
                            num_experts_per_tok=1)).bfloat16()
    router.weight.data = torch.tensor(
        [[1, 0], [1, 2**-7], [1, 0], [-1, 0]]).bfloat16()
    routing = router(torch.tensor([[1, 2**-7]]).bfloat16())
    assert routing.scores.dtype == torch.float32
    assert routing.experts.tolist() == [[1]]


def test_no_shared_experts():
    layer = layer_of(replace(LITE, n_shared_experts=None))
    x = tokens(1, 4)
    assert layer.shared_experts is None
    with torch.no_grad():
        torch.testing.assert_close(layer(x)[0], oracles.moe(layer, x[0]),
                                   rtol=0, atol=1e-12)
