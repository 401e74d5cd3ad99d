"""Calibration against slow counts, and Platt's fit against its own optimum."""

import math
from itertools import pairwise

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits

from minicoder.alignment.calibration import calibration, cross_fitted, platt


@settings(max_examples=30)
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
    chances = [1 / (1 + math.exp(-s)) for s in scores]
    assert found["log_loss"] == pytest.approx(-sum(
        math.log(p if r else 1 - p) for p, r in zip(chances, right, strict=True)) / n)
    observed = sum(b["observed"] * b["n"] for b in found["bins"])
    assert observed == pytest.approx(sum(right), abs=1e-12)
    predicted = sum(b["predicted"] * b["n"] for b in found["bins"])
    assert predicted == pytest.approx(sum(chances), abs=1e-12)
    assert found["ece"] == pytest.approx(sum(
        b["n"] / n * abs(b["predicted"] - b["observed"]) for b in found["bins"]))
    means = [b["predicted"] for b in found["bins"]]
    assert all(b >= a - 1e-15 for a, b in pairwise(means))  # equal but for rounding


def test_a_calibrated_judge_looks_calibrated():
    scores, right = verdicts(8000, 1, 0)
    found = calibration(scores, right)
    assert found["ece"] < 0.02
    for part in found["bins"]:
        assert part["observed"] == pytest.approx(part["predicted"], abs=0.05)
        assert part["n"] == 1000


def verdicts(n, scale, shift):
    """Random logits, and verdicts drawn with the chance that `scale`, `shift` make."""
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(n, generator=draw).double() * 2
    chance = (scale * scores + shift).sigmoid()
    return scores, (torch.rand(n, generator=draw).double() < chance).double()


def test_platt_finds_the_line_that_made_the_verdicts():
    scores, right = verdicts(8000, 0.5, -1)
    scale, shift = platt(scores, right)
    assert scale == pytest.approx(0.5, abs=0.05)
    assert shift == pytest.approx(-1, abs=0.1)
    target = torch.where(right == 1, 1 - 1 / (right.sum() + 2),
                         1 / ((1 - right).sum() + 2))
    line = torch.tensor([scale, shift], dtype=torch.double, requires_grad=True)
    binary_cross_entropy_with_logits(scores * line[0] + line[1], target).backward()
    assert line.grad.abs().max() < 1e-6     # the optimum, and the loss is convex
    before, after = calibration(scores, right), calibration(
        scores * scale + shift, right)
    assert after["ece"] < 0.03 < 0.1 < before["ece"]
    assert after["auc"] == pytest.approx(before["auc"])


def test_verdicts_that_scores_tell_apart_give_no_infinity():
    scale, shift = platt(torch.tensor([-1.0, 1.0]), torch.tensor([0.0, 1.0]))
    assert math.isfinite(scale) and math.isfinite(shift) and scale > 0
    assert all(map(math.isfinite, platt(torch.ones(3), torch.ones(3))))


def test_each_part_is_rescaled_by_the_other():
    scores, right = verdicts(400, 0.5, -1)
    fold = torch.arange(400) % 2 == 0
    found = cross_fitted(scores, right, fold)
    scale, shift = platt(scores[~fold], right[~fold])
    assert torch.allclose(found[fold], scores[fold] * scale + shift)
    changed = right.clone()
    changed[fold] = 1 - changed[fold]       # its own verdicts never touch a score
    assert torch.equal(cross_fitted(scores, changed, fold)[fold], found[fold])
    assert torch.equal(cross_fitted(scores, right, torch.ones(400).bool()), scores)
