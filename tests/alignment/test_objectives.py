"""The formulas of GRPO: published vectors, one token after the other, trl's loss."""

import math
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import oracles
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor
from torch.autograd import gradcheck
from trl import GRPOTrainer

from minicoder.alignment.objectives import (
    RECIPES,
    advantages,
    clip_share,
    grpo_loss,
    k3,
    overlong_penalty,
    step_advantages,
    token_weights,
)

MATH = RECIPES["deepseek-math"]
ROWS, LENGTH = 5, 7


def batch(seed, spread=0.4):
    """Log-probabilities of answers of 1 to 7 tokens, new, old and reference."""
    draw = torch.Generator().manual_seed(seed)

    def noise():
        return torch.randn(ROWS, LENGTH, generator=draw, dtype=torch.float64)

    old = -noise().abs() - 0.1
    sizes = torch.randint(1, LENGTH + 1, (ROWS, 1), generator=draw)
    starts = (torch.rand(ROWS, 1, generator=draw) * (LENGTH - sizes + 1)).long()
    columns = torch.arange(LENGTH)
    mask = (columns >= starts) & (columns < starts + sizes)
    new = (old + spread * noise()).requires_grad_()
    return new, old, old + spread * noise(), noise()[:, 0], mask


def test_advantages_of_the_published_vectors():
    found = advantages(tensor([[1., 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]]))
    assert found[0].tolist() == pytest.approx([1, -1, -1, 1], abs=1e-5)
    assert found[1:].count_nonzero() == 0


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=16),
       st.floats(0.5, 8), st.floats(-5, 5))
def test_advantages_are_centred_and_blind_to_scale(rewards, scale, shift):
    group = tensor([rewards], dtype=torch.float64)
    found = advantages(group)
    assert found.sum().abs() < 1e-5
    if group.std(correction=0) > 0.01:
        assert torch.allclose(advantages(group * scale + shift), found, atol=1e-3)
        assert found.std(correction=0) == pytest.approx(1, abs=1e-3)


def test_an_answer_without_a_verdict_takes_no_part():
    found = advantages(tensor([[1., math.nan, 0, 0, 1], [math.nan] * 5]))
    assert found[0].tolist() == pytest.approx([1, 0, -1, -1, 1], abs=1e-5)
    assert found[1].count_nonzero() == 0


def test_groups_do_not_see_each_other():
    rewards = tensor([[1., 0, 0], [9, 9, 8]])
    alone = [advantages(row[None])[0] for row in rewards]
    assert torch.equal(advantages(rewards), torch.stack(alone))


def test_k3_of_the_published_vectors():
    found = k3(tensor([1, 2, 0.5], dtype=torch.float64).log())
    assert found.tolist() == pytest.approx([0, 0.306853, 0.193147], abs=1e-6)


@given(st.floats(-5, 5))
def test_k3_is_never_negative(log_ratio):
    assert k3(tensor(log_ratio, dtype=torch.float64)) >= 0


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10 ** 6), st.sampled_from([0.05, 0.2]),
       st.sampled_from([0.0, 0.04, 1.0]))
def test_loss_and_gradient_equal_those_of_the_loop(seed, clip, beta):
    new, old, reference, advantage, mask = batch(seed)
    loss = grpo_loss(new, old, reference, advantage, mask,
                     replace(MATH, clip=clip, clip_high=clip, beta=beta))
    (gradient,) = torch.autograd.grad(loss, new)
    slow = oracles.grpo_loss(list(new), old, reference, advantage.tolist(),
                             mask.tolist(), clip, beta)
    (expected,) = torch.autograd.grad(slow, new)
    assert loss.item() == pytest.approx(slow.item(), abs=1e-12)
    assert torch.allclose(gradient, expected, atol=1e-12)
    assert gradient[~mask].count_nonzero() == 0


def test_without_a_reference_there_is_no_kl():
    new, old, _, advantage, mask = batch(1)
    slow = oracles.grpo_loss(list(new), old, None, advantage.tolist(), mask.tolist(),
                             0.2, 0.04)
    found = grpo_loss(new, old, None, advantage, mask, replace(MATH, beta=0.04))
    assert found.item() == pytest.approx(slow.item())


def test_the_gradient_is_that_of_small_differences():
    new, old, reference, advantage, mask = batch(2, spread=0.05)    # nothing is clipped
    wide = replace(MATH, clip=0.9, clip_high=0.9, beta=0.1)
    assert gradcheck(lambda x: grpo_loss(x, old, reference, advantage, mask, wide), new)


def test_at_ratio_one_the_loss_is_zero_and_its_gradient_is_not():
    old = torch.full((4, 3), -1.5)
    new, mask = old.clone().requires_grad_(), torch.ones(4, 3, dtype=torch.bool)
    advantage = advantages(tensor([[1., 0, 0, 1]]))[0]
    loss = grpo_loss(new, old, old, advantage, mask)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    # what is pushed up falls in the loss: -advantage / (answers * tokens)
    assert torch.allclose(new.grad, -advantage[:, None].expand(4, 3) / 12)


@pytest.mark.parametrize(("log_ratio", "advantage", "clipped"), [
    (math.log(1.3), 1.0, True), (math.log(1.3), -1.0, False),
    (math.log(0.7), 1.0, False), (math.log(0.7), -1.0, True),
    (math.log(1.19), 1.0, False), (math.log(0.81), -1.0, False)])
def test_clipping_acts_beyond_epsilon_where_there_is_more_to_gain(
        log_ratio, advantage, clipped):
    new = tensor([[log_ratio]], requires_grad=True)
    loss = grpo_loss(new, torch.zeros(1, 1), None, tensor([advantage]),
                     torch.ones(1, 1, dtype=torch.bool))
    loss.backward()
    assert (new.grad.item() == 0) == clipped
    ratio = math.exp(log_ratio)
    bounded = min(max(ratio, 0.8), 1.2) if clipped else ratio
    assert loss.item() == pytest.approx(-advantage * bounded)


def test_each_answer_counts_the_same_whatever_its_length():
    mask = tensor([[1, 0, 0, 0], [1, 1, 1, 1]]).bool()
    new = torch.zeros(2, 4, requires_grad=True)
    grpo_loss(new, torch.zeros(2, 4), None, torch.ones(2), mask).backward()
    assert new.grad.sum(1).tolist() == pytest.approx([-0.5, -0.5])


class Peer(GRPOTrainer):
    """trl's own `_compute_loss`, on log-probabilities that are given."""

    def __init__(self, how, length, level="token"):
        self.loss_type = {"answer": "grpo", "token": "dapo", "constant": "dr_grpo"}[
            how.average]
        self.importance_sampling_level, self.beta = level, how.beta
        self.epsilon_low, self.epsilon_high = how.clip, how.clip_high
        self.args = SimpleNamespace(use_bias_correction_kl=False, delta=None,
                                    steps_per_generation=1)
        self.aux_loss_enabled = self.use_vllm = self._entropy_bonus_enabled = False
        self.top_entropy_quantile, self.off_policy_mask_threshold = 1.0, None
        self.current_gradient_accumulation_steps = 1
        self.max_completion_length = length
        self.model, self.accelerator = torch.nn.Identity(), Accelerator(cpu=True)
        self._metrics = {"train": defaultdict(list)}

    def _get_per_token_logps_and_entropies(self, model, *_, **__):
        return model, torch.zeros_like(model), None

    def loss(self, new, old, reference, advantage, mask):
        rows = torch.zeros(len(mask), 1, dtype=torch.long)
        return self._compute_loss(new, {
            "prompt_ids": rows, "prompt_mask": rows, "completion_ids": mask.long(),
            "completion_mask": mask.long(), "advantages": advantage,
            "old_per_token_logps": old, "ref_per_token_logps": reference,
            "num_items_in_batch": mask.sum()})


def same(ours, theirs, new):
    """Loss and gradient are equal to the last digits of float64."""
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-12)
    mine, other = (torch.autograd.grad(loss, new)[0] for loss in (ours, theirs))
    assert torch.allclose(mine, other, atol=1e-12) and mine.abs().max() > 1e-3


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10 ** 6), st.sampled_from(["deepseek-math", "dr-grpo", "dapo"]),
       st.sampled_from([0.0, 0.04, 1.0]), st.booleans())
def test_loss_and_gradient_equal_trls(seed, recipe, beta, of_tokens):
    new, old, reference, advantage, mask = batch(seed)
    if of_tokens:
        advantage = advantage[:, None] * torch.linspace(1, 2, LENGTH)
    how = replace(RECIPES[recipe], beta=beta)
    peer = Peer(how, LENGTH)
    ours = grpo_loss(new, old, reference if beta else None, advantage, mask, how)
    same(ours, peer.loss(new, old, reference, advantage, mask), new)
    noted = peer._metrics["train"]
    assert clip_share(new, old, advantage, mask, how) == pytest.approx(
        noted["clip_ratio/region_mean"][0], abs=1e-6)
    if beta:
        assert k3(reference - new)[mask].mean().item() == pytest.approx(noted["kl"][0])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10 ** 6))
def test_v2s_ratio_is_of_the_whole_answer_where_gspos_is_its_geometric_mean(seed):
    new, old, reference, advantage, mask = batch(seed, spread=0.1)
    how = RECIPES["deepseek-v2"]
    peer = Peer(how, LENGTH, level="sequence")
    each = mask.sum(1, keepdim=True)
    same(grpo_loss(new / each, old / each, None, advantage, mask, how),
         peer.loss(new, old, None, advantage, mask), new)
    one = mask & (mask.cumsum(1) == 1)  # answers of one token: no difference is left
    how = replace(how, beta=0.04)
    peer = Peer(how, LENGTH, level="sequence")
    same(grpo_loss(new, old, reference, advantage, one, how),
         peer.loss(new, old, reference, advantage, one), new)


def test_v2s_objective_by_hand():
    # two answers; log ratios add up to ln 1.1 and ln 2; x = pi_ref / pi = 2 and 0.5
    old = torch.zeros(2, 2)
    new = tensor([[math.log(1.1), 0.0], [math.log(4), math.log(0.5)]])
    reference = new + tensor([[math.log(2), 0.0], [0.0, math.log(0.5)]])
    how = replace(RECIPES["deepseek-v2"], beta=0.5)
    found = grpo_loss(new, old, reference, tensor([1.0, 1.0]), new > -9, how)
    gains = 1.1 - 0.5 * 0.306853, 1.2 - 0.5 * 0.193147
    assert found.item() == pytest.approx(-sum(gains) / 2, abs=1e-5)
    assert clip_share(new, old, tensor([1.0, 1.0]), new > -9, how) == 0.5


@pytest.mark.parametrize(("recipe", "shares"), [
    ("deepseek-math", [1 / 2, 1 / 2]), ("deepseek-v2", [1 / 2, 4 / 2]),
    ("dapo", [1 / 5, 4 / 5]), ("dr-grpo", [1 / 20, 4 / 20])])
def test_what_a_long_answer_counts(recipe, shares):
    mask = tensor([[1, 0, 0, 0], [1, 1, 1, 1]]).bool()
    new, how = torch.zeros(2, 4, requires_grad=True), RECIPES[recipe]
    weight = token_weights(mask.sum(1), how, limit=10)
    loss = grpo_loss(new, torch.zeros(2, 4), None, torch.ones(2), mask, how, weight)
    loss.backward()
    assert (-new.grad.sum(1)).tolist() == pytest.approx(shares)


def test_clip_higher_lets_rare_tokens_rise_further():
    new = tensor([[math.log(1.25), math.log(0.75)]])
    old, mask = torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool)
    for recipe, up, down in (("deepseek-math", 1.2, 0.8), ("dapo", 1.25, 0.8)):
        for sign, bound in ((1.0, up + 0.75), (-1.0, -(1.25 + down))):
            found = grpo_loss(new, old, None, tensor([sign]), mask, RECIPES[recipe])
            assert found.item() == pytest.approx(-bound / 2)


def test_the_gradient_of_a_policy_of_two_tokens():
    # p(a) = sigma(x), reward 1 for a: whatever x is, the group (a, b) gives -1/2
    for start in (-2.0, 0.0, 1.5):
        x = tensor(start, requires_grad=True)
        new = torch.stack((x, -x)).sigmoid().log()[:, None]
        mask = torch.ones(2, 1, dtype=torch.bool)
        value = advantages(tensor([[1.0, 0.0]]))[0]
        grpo_loss(new, new.detach(), None, value, mask).backward()
        assert x.grad.item() == pytest.approx(-0.5, abs=1e-5)


def test_dr_grpo_is_the_policy_gradient_over_all_groups_of_two():
    # E[reward] = p, its gradient p (1 - p); a baseline of one's own group takes 1/G
    x = tensor(0.7, requires_grad=True)
    p, how, total = torch.sigmoid(x).item(), RECIPES["dr-grpo"], 0.0
    for group in ((1, 1), (1, 0), (0, 1), (0, 0)):
        chance = math.prod(p if a else 1 - p for a in group)
        new = torch.stack([x if a else -x for a in group]).sigmoid().log()[:, None]
        value = advantages(tensor([group]).float(), spread=False)[0]
        loss = grpo_loss(new, new.detach(), None, value, new < 0, how)
        total += chance * torch.autograd.grad(loss, x)[0].item()
    assert total == pytest.approx(-p * (1 - p) / 2)


def test_without_the_spread_advantages_are_the_gaps():
    found = advantages(tensor([[1.0, 0, 0, 1], [0.25, math.nan, 0.75, 0.5]]), False)
    assert found.tolist() == [[0.5, -0.5, -0.5, 0.5], [-0.25, 0, 0.25, 0]]


def test_process_advantages_sum_the_steps_that_end_later():
    # two answers of 3 and 2 steps; five rewards, mean 0.4, spread sqrt(0.24)
    rewards = tensor([[[1.0, 0, 1], [0, 0, math.nan]]])
    ends = tensor([[[1, 2, 4], [0, 3, 0]]])
    found = step_advantages(rewards, ends, 5)[0] * math.sqrt(0.24)
    assert found[0].tolist() == pytest.approx([0.8, 0.8, 0.2, 0.6, 0.6], abs=1e-5)
    assert found[1].tolist() == pytest.approx([-0.8, -0.4, -0.4, -0.4, 0], abs=1e-5)
    assert step_advantages(torch.full((1, 2, 3), math.nan), ends, 5).eq(0).all()


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=9))
def test_one_step_at_the_end_is_outcome_supervision(rewards):
    group = tensor([rewards])
    found = step_advantages(group[..., None], torch.full((1, len(rewards), 1), 3), 4)
    assert torch.allclose(found, advantages(group)[..., None].expand(-1, -1, 4))


@pytest.mark.parametrize(("length", "penalty"), [
    (1, 0), (16384, 0), (18432, -0.5), (20480, -1), (30000, -1)])
def test_the_overlong_penalty_of_the_published_numbers(length, penalty):
    assert overlong_penalty(tensor(length), 20480, 4096).item() == penalty
