"""Rounds: what is drawn, what is kept of it, and what every token counts."""

import json
import math
from dataclasses import replace

import pytest
import torch

from minicoder.alignment import rollouts as module
from minicoder.alignment.objectives import RECIPES, advantages
from minicoder.alignment.rewards import Rewards
from minicoder.alignment.rollouts import Rollouts, Round, Sampling

pytestmark = pytest.mark.filterwarnings("ignore:Generated programs run")
MATH = RECIPES["deepseek-math"]


@pytest.fixture
def make(coder, tokenizer, sandbox, tasks):
    def build(objective=MATH, pool=tasks, **how):
        how = {"prompts": 3, "group": 4, "temperature": 1.1, "new_tokens": 40} | how
        return Rollouts(coder, tokenizer, sandbox, Rewards(tokenizer), pool,
                        Sampling(**how), objective)
    return build


@pytest.fixture
def number(make):
    """A round with groups that agree and groups that do not."""
    return next(n for n in range(60) if 0 < (make().sample(n)[1].std(1) > 0).sum() < 3)


def test_rounds_follow_number_and_seed(make):
    found, rewards = make().sample(4)
    again, _ = make().sample(4)
    assert found == again and len(found) == 12
    assert rewards.flatten().tolist() == [float(s.right) for s in found]
    assert len({s.task_id for s in found}) == 3
    assert found[0].task_id == found[3].task_id != found[4].task_id
    assert found != make().sample(5)[0] and found != make(seed=1).sample(4)[0]


def test_groups_that_agree_are_left_out_but_counted(make, number):
    rollouts = make()
    whole, rewards = rollouts.sample(number)
    kept, everything = rollouts(number)
    spread = [set(row.tolist()) == {0.0, 1.0} for row in rewards]
    assert everything == whole
    assert kept.samples == [s for i, s in enumerate(whole) if spread[i // 4]]
    assert kept.noted == {
        "reward": pytest.approx(rewards.mean().item()),
        "pass": pytest.approx(rewards.mean().item()), "groups": 3,
        "solved": pytest.approx((rewards.sum(1) > 0).float().mean().item()),
        "groups_kept": sum(spread),
        "length": sum(len(s.tokens) for s in whole) / 12}
    lengths = [len(s.tokens) for s in kept.samples]
    assert kept.weight.tolist() == pytest.approx([1 / (12 * n) for n in lengths])
    assert torch.equal(kept.advantage.view(-1, 4), advantages(rewards)[spread])
    with_kl, _ = make(replace(MATH, beta=0.04))(number)
    assert with_kl.samples == whole     # their distance to the reference counts


def fake(monkeypatch, right):
    """Sampling whose verdicts are told: `right(task, call)` for each group."""
    calls = []

    def judge(model, tokenizer, tasks, sandbox, samples, heat, new, draw):
        calls.append(len(tasks))
        return [module.Sample(t.task_id, t.question, [5] * (4 + 8 * i), "", v, "", 0, 1)
                for t in tasks for i, v in enumerate(right(t, len(calls)))]

    monkeypatch.setattr(module, "sample_and_judge", judge)
    return calls


def test_dynamic_sampling_goes_on_until_the_batch_is_full(make, monkeypatch):
    # one group in three has a signal: two prompts a time need more than one try
    calls = fake(monkeypatch, lambda t, n: ["pass", "fail"] if n == 3 else ["pass"] * 2)
    dapo = replace(RECIPES["dapo"], overlong=False)
    kept, everything = make(dapo, prompts=2, group=2, tries=3)(0)
    assert calls == [2, 2, 2] and len(everything) == 12 and len(kept.samples) == 4
    assert kept.noted["groups"] == 6 and kept.noted["groups_kept"] == 2
    assert kept.weight.tolist() == pytest.approx([1 / (4 + 12 + 4 + 12)] * 4)
    calls.clear()
    kept, _ = make(dapo, prompts=2, group=2, tries=2)(0)   # the bound on tries
    assert calls == [2, 2] and kept.samples == [] and kept.weight.tolist() == []
    calls.clear()
    make(MATH, prompts=2, group=2, tries=3)(0)
    assert calls == [2]


def test_answers_near_the_limit_lose_reward(make, monkeypatch):
    fake(monkeypatch, lambda t, n: ["pass", "pass", "fail"])  # 4, 12 and 20 tokens
    kept, _ = make(RECIPES["dapo"], prompts=1, group=3, new_tokens=20)(0)
    wanted = advantages(torch.tensor([[1.0, 1.0, -1.0]]))   # from 16 to 20: down to -1
    assert torch.allclose(kept.advantage, wanted[0])


def test_an_answer_without_a_verdict_takes_no_part(make, monkeypatch):
    fake(monkeypatch, lambda t, n: ["pass", "harness_error", "fail"])
    kept, _ = make(prompts=1, group=3)(0)
    assert kept.advantage.tolist() == pytest.approx([1, 0, -1], abs=1e-5)
    assert kept.noted["reward"] == kept.noted["pass"] == 0.5


def test_process_supervision_gives_every_token_its_own(make):
    kept, _ = make(supervision="process")(4)
    longest = max(len(s.tokens) for s in kept.samples)
    assert kept.advantage.shape == (len(kept.samples), longest)
    assert (kept.advantage.diff(dim=1) != 0).any()


@pytest.mark.parametrize("supervision", ["outcome", "process"])
def test_a_round_comes_back_from_json_to_the_last_bit(make, number, supervision):
    kept, _ = make(supervision=supervision)(number)
    kept.old = torch.randn(len(kept.samples), 9) * math.pi
    back = Round.restored(json.loads(json.dumps(kept.state())), torch.device("cpu"))
    assert back.samples == kept.samples and back.noted == kept.noted
    for name in ("advantage", "weight", "old"):
        ours, theirs = getattr(kept, name), getattr(back, name)
        assert torch.equal(ours, theirs) and ours.dtype == theirs.dtype
