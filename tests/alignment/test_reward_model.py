"""The reward model: losses by hand, scores that survive the disk, verdicts learnt."""

import json
import math
import random
from itertools import pairwise

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import new_coder

from minicoder.alignment.chat import prompt_tokens
from minicoder.alignment.feedback import Sample, read_samples
from minicoder.alignment.reward_model import (
    RewardModel,
    calibration,
    pairwise_loss,
    pointwise_loss,
    reward,
    score_all,
    scored_batch,
    split_by_prompt,
)
from minicoder.errors import UserError

ROWS = [[5, 6, 7, 8], [9], [1, 2, 3, 4, 5, 6, 7], [8, 8]]


@pytest.fixture
def judge(tokenizer):
    """A reward model whose head is not zero."""
    model = RewardModel(new_coder(tokenizer))
    torch.nn.init.normal_(model.score.weight)
    torch.nn.init.constant_(model.score.bias, 0.5)
    return model.eval()


def test_losses_by_hand():
    zero, two = torch.zeros(1), torch.tensor([2.0])
    one = torch.ones(1)
    assert pointwise_loss(zero, one).item() == pytest.approx(math.log(2))
    assert pointwise_loss(two, one).item() == pytest.approx(0.126928)
    assert pointwise_loss(two, 1 - one).item() == pytest.approx(2.126928)
    assert pairwise_loss(zero, zero).item() == pytest.approx(math.log(2))
    assert pairwise_loss(two, zero).item() == pytest.approx(0.126928)
    assert pairwise_loss(zero, two).item() == pytest.approx(2.126928)
    both = pairwise_loss(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]))
    assert both.item() == pytest.approx((0.126928 + 2.126928) / 2)
    assert pairwise_loss(torch.tensor([-900.0]), zero).item() == pytest.approx(900)


def test_a_new_head_is_indifferent(tokenizer):
    model = RewardModel(new_coder(tokenizer))
    assert score_all(model, ROWS).tolist() == [0, 0, 0, 0]


def test_the_score_is_read_off_the_last_token(judge):
    for row, score in zip(ROWS, score_all(judge, ROWS), strict=True):
        hidden = judge.coder.model(torch.tensor([row]))[0, -1]
        assert score.item() == pytest.approx(
            (hidden @ judge.score.weight[0] + 0.5).item(), abs=1e-5)


def test_padding_and_batches_change_no_score(judge):
    tokens, last = scored_batch(ROWS, torch.device("cpu"))
    assert tokens.shape == (4, 7) and last.tolist() == [3, 0, 6, 1]
    alone = torch.cat([score_all(judge, [row]) for row in ROWS])
    for batch in (1, 3, 128):
        assert torch.allclose(score_all(judge, ROWS, batch), alone, atol=1e-5)


def test_saving_and_loading_keeps_the_scores(judge, tokenizer, base, tmp_path):
    judge.save(tmp_path, tokenizer)
    again = RewardModel.load(tmp_path, torch.device("cpu"))
    assert torch.equal(score_all(again, ROWS), score_all(judge, ROWS))
    with pytest.raises(UserError, match="holds no reward model"):
        RewardModel.load(base, torch.device("cpu"))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from([-3.0, -1.0, 0.0, 0.5, 0.75, 2.0]),
                          st.booleans()), min_size=1, max_size=40))
def test_calibration_equals_the_slow_count(pairs):
    scores, right = [s for s, _ in pairs], [r for _, r in pairs]
    found = calibration(torch.tensor(scores), torch.tensor(right).float(), bins=4)
    n = len(pairs)
    assert found["n"] == n == sum(b["n"] for b in found["bins"])
    assert found["base_rate"] == pytest.approx(sum(right) / n)
    assert found["accuracy"] == pytest.approx(
        sum((s > 0) == r for s, r in pairs) / n)
    if 0 < sum(right) < n:
        assert found["auc"] == pytest.approx(oracles.auc(scores, right))
    else:
        assert found["auc"] == 0.5
    observed = sum(b["observed"] * b["n"] for b in found["bins"])
    assert observed == pytest.approx(sum(right), abs=1e-12)
    predicted = sum(b["predicted"] * b["n"] for b in found["bins"])
    assert predicted == pytest.approx(sum(1 / (1 + math.exp(-s)) for s in scores),
                                      abs=1e-12)
    means = [b["predicted"] for b in found["bins"]]
    assert all(b >= a - 1e-15 for a, b in pairwise(means))  # equal but for rounding


def test_a_calibrated_judge_looks_calibrated():
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(8000, generator=draw) * 2
    right = (torch.rand(8000, generator=draw) < scores.sigmoid()).float()
    for part in calibration(scores, right)["bins"]:
        assert part["observed"] == pytest.approx(part["predicted"], abs=0.05)
        assert part["n"] == 1000


def test_all_of_a_prompt_s_samples_are_on_one_side(judged):
    samples = read_samples(judged)
    for seed in range(5):
        learn, test = split_by_prompt(samples, 0.34, seed)
        ours, theirs = ({s.task_id for s in part} for part in (learn, test))
        assert not ours & theirs and (len(ours), len(theirs)) == (4, 2)
        assert len(learn) + len(test) == len(samples)
    assert split_by_prompt(samples, 0.34, 0) == split_by_prompt(samples, 0.34, 0)


@pytest.fixture(scope="module")
def toy(tmp_path_factory, judged, tokenizer):
    """Verdicts that one token decides: a program is right if it says `sum`."""
    folder, draw = tmp_path_factory.mktemp("toy") / "feedback", random.Random(0)
    folder.mkdir()
    (folder / "made_by.json").write_bytes((judged / "made_by.json").read_bytes())
    with (folder / "samples.jsonl").open("w") as file:
        for i in range(60):
            right = draw.random() < 0.5
            program = f"def solve(a):\n    return {'sum' if right else 'max'}(a)\n"
            sample = Sample(f"lists/{i}", f"Task {draw.randrange(99)}.",
                            tokenizer.encode(program), program,
                            "pass" if right else "fail", "", 0, 1)
            file.write(json.dumps(vars(sample)) + "\n")
    return folder


def test_it_learns_verdicts_that_can_be_told_apart(base, toy, tokenizer, tmp_path):
    out = reward(tmp_path / "reward", base, toy, steps=25, batch=16, lr=3e-2, warmup=3)
    found = json.loads((out / "calibration.json").read_text())
    assert found["auc"] > 0.95 and found["accuracy"] > 0.7 and found["n"] == 12
    judge = RewardModel.load(out, torch.device("cpu"))
    good, bad = ([*prompt_tokens("Task 3.", tokenizer), *tokenizer.encode(
        f"def solve(a):\n    return {name}(a)\n")] for name in ("sum", "max"))
    better, worse = score_all(judge, [good, bad]).tolist()
    assert better > worse + 1
