"""Phases: the reference follows, the reward model learns with replay."""

import copy
import shutil

import pytest
import torch
from small import new_coder

from minicoder.alignment import iterative
from minicoder.alignment.chat import answer_tokens
from minicoder.alignment.feedback import Sample, read_samples
from minicoder.alignment.iterative import Phases
from minicoder.alignment.reward_model import RewardModel, row, score_all


def sample(tokenizer, number, verdict):
    text = f"def f(a):\n    return {number}"
    return Sample(f"t/{number}", "Do it.", answer_tokens(text, tokenizer), text + "\n",
                  verdict, "", 0, 4)


@pytest.fixture
def fresh(tokenizer):
    return [sample(tokenizer, n, v) for n, v in enumerate(
        ("pass", "fail", "error", "pass", "harness_error"))]


def phases(folder, tokenizer, old=(), seed=3):
    coder = new_coder(tokenizer, seed=4)
    return Phases(folder, coder, tokenizer, new_coder(tokenizer, seed=5),
                  RewardModel(new_coder(tokenizer, seed=6)), old, seed)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(
        one.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_phase_makes_the_policy_the_reference_and_teaches_the_judge(
        tokenizer, fresh, tmp_path):
    made = phases(tmp_path, tokenizer)
    before = copy.deepcopy(made.judge)
    made.enter(0, fresh)
    assert same(before, made.judge) and list(tmp_path.iterdir()) == []
    made.enter(1, fresh)
    assert same(made.reference, made.coder) and not same(before, made.judge)
    rows = [row(s, tokenizer) for s in fresh[:4]]
    gap = [score_all(judge, rows)[[0, 3]].mean() - score_all(judge, rows)[[1, 2]].mean()
           for judge in (before, made.judge)]
    assert gap[1] > gap[0] + 1e-4   # what passes scores higher than before
    assert read_samples(tmp_path / "1") == fresh[:4]


def test_a_run_that_goes_on_finds_its_phase(tokenizer, fresh, tmp_path):
    made = phases(tmp_path, tokenizer)
    made.enter(1, fresh)
    (tmp_path / "2.tmp").mkdir()    # a kill while the next one was written
    other = phases(tmp_path, tokenizer)
    other.coder = new_coder(tokenizer, seed=9)  # the policy has moved on
    other.enter(1, [])
    assert same(made.reference, other.reference) and same(made.judge, other.judge)
    other.enter(2, fresh[:2])
    assert same(other.reference, other.coder)
    late = phases(tmp_path, tokenizer)  # killed before it entered the phase
    late.coder = new_coder(tokenizer, seed=9)
    shutil.rmtree(tmp_path / "2")
    late.enter(2, fresh[:2])
    assert same(late.judge, other.judge)
    assert {p.name for p in tmp_path.iterdir()} == {"1", "2"}


def test_a_tenth_of_each_batch_is_old(tokenizer, fresh, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(iterative, "fit",
                        lambda *given, **how: calls.append((given, how)))
    old = [sample(tokenizer, 8, "fail")]
    made = phases(tmp_path, tokenizer, old)
    made.enter(1, fresh)
    made.enter(2, fresh[:1])
    (first, how), (second, then) = calls
    assert first[2] == fresh[:4] and how["old"] == old and how["replay"] == 0.1
    assert second[2] == fresh[:1] and then["old"] == [*old, *fresh[:4]]
    assert how["seed"] != then["seed"]
    made.enter(3, [])   # nothing new was judged: the judge stays as it is
    assert len(calls) == 2 and (tmp_path / "3" / "judge").is_dir()
