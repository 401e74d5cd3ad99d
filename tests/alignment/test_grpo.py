"""GRPO: the vectors, the loss against one token after the other, and one real run."""

import json
import math
import shutil
from dataclasses import replace

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import new_coder
from torch import tensor
from torch.autograd import gradcheck

from minicoder.alignment.chat import prompt_tokens
from minicoder.alignment.feedback import sample_and_judge
from minicoder.alignment.grpo import (
    Rollouts,
    advantages,
    grpo,
    grpo_loss,
    grpo_step,
    k3,
)
from minicoder.alignment.reward_model import RewardModel
from minicoder.errors import UserError
from minicoder.training.batches import answer_batch, answer_logprobs

pytestmark = pytest.mark.filterwarnings("ignore:Generated programs run")
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
    loss = grpo_loss(new, old, reference, advantage, mask, clip, beta)
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
    found = grpo_loss(new, old, None, advantage, mask, 0.2, beta=0.04)
    assert found.item() == pytest.approx(slow.item())


def test_the_gradient_is_that_of_small_differences():
    new, old, reference, advantage, mask = batch(2, spread=0.05)    # nothing is clipped
    assert gradcheck(lambda x: grpo_loss(x, old, reference, advantage, mask, 0.9, 0.1),
                     new)


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
                     torch.ones(1, 1, dtype=torch.bool), clip=0.2)
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


@pytest.fixture(scope="module")
def rollout(coder, tokenizer, tasks, sandbox):
    """Samples of memorised and unknown tasks; the second group agrees with itself."""
    samples = sample_and_judge(coder, tokenizer, tasks[2:5], sandbox, 4, 1.0, 40,
                               torch.Generator().manual_seed(3))
    return samples, tensor([[1., 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]])


def test_a_step_leaves_out_groups_that_agree(coder, tokenizer, rollout):
    samples, rewards = rollout
    loss, noted = grpo_step(coder, None, tokenizer, *rollout, 0.2, 0.0)
    assert noted["groups_kept"] == 2 and noted["reward"] == pytest.approx(0.25)
    assert noted["pass"] == pytest.approx(sum(s.right for s in samples) / 12)
    assert noted["length"] == sum(len(s.tokens) for s in samples) / 12
    assert noted["clip_share"] == noted["kl"] == 0
    kept = [0, 1, 2, 3, 8, 9, 10, 11]
    tokens, targets = answer_batch(
        [(prompt_tokens(samples[i].prompt, tokenizer), samples[i].tokens)
         for i in kept], torch.device("cpu"))
    new, mask = answer_logprobs(coder, tokens, targets)
    slow = oracles.grpo_loss(
        list(new), new.detach(), None, advantages(rewards).flatten()[kept].tolist(),
        mask.tolist(), 0.2, 0.0)
    ours, theirs = (torch.autograd.grad(x, coder.lm_head.weight)[0]
                    for x in (loss, slow))
    assert torch.allclose(ours, theirs, atol=1e-6) and ours.abs().max() > 1e-4
    lame = [replace(s, verdict="harness_error") if i == 8 else s
            for i, s in enumerate(samples)]
    without = rewards.clone()
    without[2, 0] = math.nan
    _, noted = grpo_step(coder, None, tokenizer, lame, without, 0.2, 0.0)
    assert noted["reward"] == pytest.approx(3 / 11) and noted["groups_kept"] == 2
    assert noted["pass"] == pytest.approx(
        sum(s.right for i, s in enumerate(samples) if i != 8) / 11)
    nothing, _ = grpo_step(coder, None, tokenizer, samples, torch.ones(3, 4), 0.2, 0.0)
    assert nothing is None


def test_a_reference_adds_its_kl(coder, tokenizer, rollout):
    plain, _ = grpo_step(coder, None, tokenizer, *rollout, 0.2, 0.5)
    same, noted = grpo_step(coder, coder, tokenizer, *rollout, 0.2, 0.5)
    assert noted["kl"] == 0 and same.item() == pytest.approx(plain.item(), abs=1e-6)
    other = new_coder(tokenizer, seed=1)
    loss, noted = grpo_step(coder, other, tokenizer, *rollout, 0.2, 0.5)
    assert noted["kl"] > 0.1 and loss.item() > plain.item() + 0.01


def test_an_update_makes_the_better_answers_likelier(tokenizer, tasks, sandbox):
    coder = new_coder(tokenizer)
    samples = sample_and_judge(coder, tokenizer, tasks[:1], sandbox, 6, 1.0, 8,
                               torch.Generator().manual_seed(0))
    rewards = tensor([[1., 0, 0, 0, 0, 1]])
    pairs = [(prompt_tokens(s.prompt, tokenizer), s.tokens) for s in samples]
    tokens, targets = answer_batch(pairs, torch.device("cpu"))
    before = answer_logprobs(coder, tokens, targets)[0].sum(1)
    optimizer = torch.optim.SGD(coder.parameters(), lr=0.5)
    for _ in range(3):
        loss, _ = grpo_step(coder, None, tokenizer, samples, rewards, 0.2, 0.0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    rise = (answer_logprobs(coder, tokens, targets)[0].sum(1) - before).tolist()
    assert min(rise[0], rise[5]) > max(rise[1:5])


def test_rollouts_follow_step_and_seed(coder, tokenizer, sandbox):
    def rollouts(seed, judge=None):
        return Rollouts(coder, tokenizer, sandbox, judge, "lists", 3, 2, 2, 0.7, seed)
    samples, rewards = rollouts(0)(4)
    assert (samples, rewards.tolist()) == (rollouts(0)(4)[0],
                                           [[float(s.right) for s in samples[:2]],
                                            [float(s.right) for s in samples[2:]]])
    assert samples != rollouts(0)(5)[0] and samples != rollouts(1)(4)[0]
    assert samples[0].task_id == samples[1].task_id != samples[2].task_id
    judge = RewardModel(new_coder(tokenizer))
    judge.score.bias.data.fill_(math.log(3))    # a judge that always says 3 to 1
    _, rewards = rollouts(0, judge)(4)
    assert torch.allclose(rewards, torch.full((2, 2), 0.75))


def test_the_stage_reinforces_what_passes(taught, tmp_path):
    # the pool of seed -1 is what the model learnt: some programs pass from the start
    out = grpo(tmp_path / "grpo", taught, tasks=4, steps=2, prompts=4, group=4,
               temperature=1.2, lr=2e-3, warmup=1, seed=-1, beta=0.01)
    lines = [json.loads(line)
             for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in lines] == list(range(2))
    assert all(m["pass"] == pytest.approx(m["reward"]) for m in lines)
    assert 0 < lines[0]["pass"] < 1
    assert max(m["groups_kept"] for m in lines) > 0
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-6) and lines[-1]["kl"] > 0
    assert "chat_template" in (out / "tokenizer_config.json").read_text()
    old, new = ((folder / "model.safetensors").read_bytes() for folder in (taught, out))
    assert old != new


def test_a_judge_model_must_be_named(taught, tmp_path):
    with pytest.raises(UserError, match="needs --reward-model"):
        grpo(tmp_path / "grpo", taught, judge="model")
    shutil.copytree(taught, tmp_path / "no_judge")
    with pytest.raises(UserError, match="holds no reward model"):
        grpo(tmp_path / "grpo", taught, tmp_path / "no_judge", "model", steps=1)
