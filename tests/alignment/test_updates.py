"""The updates of a round: against the slow loss, ratio 1, minibatches, going on."""

import json
from dataclasses import replace
from pathlib import Path

import oracles
import pytest
import torch
from small import new_coder
from torch import tensor

from minicoder.alignment.chat import prompt_tokens
from minicoder.alignment.feedback import sample_and_judge
from minicoder.alignment.iterative import Phases
from minicoder.alignment.objectives import RECIPES, advantages, token_weights
from minicoder.alignment.rollouts import Rollouts, Round, Sampling
from minicoder.alignment.updates import Updates

pytestmark = pytest.mark.filterwarnings("ignore:Generated programs run")
MATH = RECIPES["deepseek-math"]
REWARDS = tensor([[1.0, 0, 0, 1], [0, 1, 1, 1], [0, 1, 0, 0]])


@pytest.fixture
def found(coder, tokenizer, tasks, sandbox):
    """A round of memorised and unknown tasks, with rewards that are told."""
    samples = sample_and_judge(coder, tokenizer, tasks[2:5], sandbox, 4, 1.0, 40,
                               torch.Generator().manual_seed(3))
    lengths = tensor([len(s.tokens) for s in samples])
    return Round(samples, advantages(REWARDS).flatten(),
                 token_weights(lengths, MATH, 40), {"pass": 0.5})


class Told(Rollouts):
    """Rollouts that give a round which is there already."""

    def __init__(self, coder, tokenizer, found, how):
        self.coder, self.tokenizer, self.objective = coder, tokenizer, how
        self.found, self.sampling = found, Sampling(3, 4, seed=7)

    def __call__(self, number):
        return self.found, self.found.samples


def updates(coder, tokenizer, found=None, how=MATH, reference=None, **settings):
    """The updates of such a round."""
    phases = Phases(Path(), coder, tokenizer, reference, None, [], 0)
    return Updates(Told(coder, tokenizer, found, how), phases, **settings)


def slow(coder, tokenizer, found, reference=None, beta=0.0):
    """Loss of the whole round, one token after the other, through unpadded passes."""
    rows, before = [], []
    for s in found.samples:
        prompt, size = prompt_tokens(s.prompt, tokenizer), len(s.tokens)
        text = tensor([[*prompt, *s.tokens]])
        for model, kept in ((coder, rows), (reference, before)):
            if model is not None:
                logits = model(text)[0, len(prompt) - 1:-1].log_softmax(-1)
                kept.append(logits[range(size), s.tokens])
    return oracles.grpo_loss(
        rows, [r.detach() for r in rows], before or None, found.advantage.tolist(),
        [[True] * len(s.tokens) for s in found.samples], 0.2, beta)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_a_step_is_the_papers(coder, tokenizer, found, beta):
    reference = new_coder(tokenizer, seed=1) if beta else None
    made = updates(coder, tokenizer, found, replace(MATH, beta=beta), reference)
    loss, noted = made(0)
    wanted = slow(coder, tokenizer, found, reference, beta)
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    ours, theirs = (torch.autograd.grad(x, coder.lm_head.weight)[0]
                    for x in (loss, wanted))
    assert torch.allclose(ours, theirs, atol=1e-6) and ours.abs().max() > 1e-4
    assert noted["pass"] == 0.5 and noted["entropy"] > 0
    assert (noted["kl"] > 0.1) == bool(beta)


def test_with_one_update_the_loss_is_zero_its_gradient_not_and_nothing_is_clipped(
        coder, tokenizer, found):
    found.weight.fill_(1.0)     # each token's advantages cancel within a group only
    found.advantage = advantages(REWARDS).flatten() / tensor(
        [len(s.tokens) for s in found.samples])
    loss, noted = updates(coder, tokenizer, found)(0)
    assert loss.item() == pytest.approx(0, abs=1e-5) and noted["clip_share"] == 0
    (gradient,) = torch.autograd.grad(loss, coder.lm_head.weight)
    assert gradient.abs().max() > 1e-3


def test_with_several_updates_clipping_acts(tokenizer, tasks, found):
    coder = new_coder(tokenizer)
    made = updates(coder, tokenizer, found, updates=4)
    optimizer, shares = torch.optim.SGD(coder.parameters(), lr=3.0), []
    for step in range(4):
        loss, noted = made(step)
        shares.append(noted["clip_share"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert shares[0] == 0 and max(shares) > 0.05


def test_an_update_makes_the_better_answers_likelier(tokenizer, found):
    coder = new_coder(tokenizer)
    made = updates(coder, tokenizer, found)
    before = made.think(found, range(3))[0].sum(1).detach()
    optimizer = torch.optim.SGD(coder.parameters(), lr=0.5)
    for _ in range(3):
        made(0)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    rise = (made.think(found, range(3))[0].sum(1) - before).view(3, 4)
    gaps = [(row[rewards == 1].mean() - row[rewards == 0].mean()).item()
            for row, rewards in zip(rise, REWARDS, strict=True)]
    assert min(gaps) >= 0 and max(gaps) > 0.01  # a group of equal answers has no gap


def test_minibatches_are_parts_whose_losses_make_up_the_whole(coder, tokenizer, found):
    made = updates(coder, tokenizer, found, updates=3, minibatches=3)
    whole = updates(coder, tokenizer, found)(0)[0]
    parts = [made(step)[0] for step in range(3)]
    assert torch.stack(parts).mean().item() == pytest.approx(whole.item(), abs=1e-6)
    assert sorted(g for u in range(3) for g in made.dealt(0, u)) == [0, 1, 2]
    orders = {tuple(made.dealt(n, u)[0] for u in range(3)) for n in range(9)}
    assert len(orders) > 2
    none = torch.zeros(0)
    nothing = replace(found, samples=[], advantage=none, weight=none, old=None)
    loss, noted = updates(coder, tokenizer, nothing)(0)
    assert loss is None and noted == {"pass": 0.5, "kl": 0.0, "clip_share": 0.0}


def test_a_round_goes_on_in_its_middle(coder, tokenizer, found):
    made = updates(coder, tokenizer, found, updates=2)
    made(0)
    other = new_coder(tokenizer, seed=2)    # the policy has moved meanwhile
    resumed = updates(other, tokenizer, None, updates=2)
    resumed.restore(json.loads(json.dumps(made.state())))
    made.rollouts.coder = other
    assert made(1) == resumed(1) and made(1)[1]["clip_share"] > 0
