"""Gradient spikes: judged at the border, never for ever, and remembered."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicoder.errors import UserError
from minicoder.training.spikes import FEWEST, WINDOW, Spikes


def fed(norms, factor=10.0):
    spikes = Spikes(factor)
    return spikes, [bool(spikes.judge(norm, step)) for step, norm in enumerate(norms)]


@pytest.mark.parametrize("norm, skipped", [(10.0, False), (10.001, True), (0.0, False),
                                           (math.inf, True), (math.nan, True)])
def test_the_border_is_the_factor_times_the_median(norm, skipped):
    spikes, before = fed([0.5, 1.0, 1.5] * 6)
    assert not any(before)
    assert bool(spikes.judge(norm, 18)) == skipped


def test_the_note_says_how_large_it_was():
    spikes, _ = fed([2.0] * FEWEST)
    assert spikes.judge(50.0, 0) == {
        "skipped": "the gradient's norm is 25.0 times the median"}
    assert spikes.judge(math.nan, 0) == {"skipped": "the gradient's norm is nan"}


@pytest.mark.parametrize("count, skipped", [(FEWEST - 1, False), (FEWEST, True)])
def test_too_few_steps_judge_nothing(count, skipped):
    spikes, _ = fed([1.0] * count)
    assert bool(spikes.judge(1e9, 0)) == skipped


def test_what_stays_large_is_no_spike_for_ever():
    _, found = fed([1.0] * WINDOW + [100.0] * WINDOW)
    assert found[:WINDOW] == [False] * WINDOW and found[WINDOW]
    assert sum(found) == WINDOW // 2 and not any(found[-WINDOW // 2:])


def test_a_norm_that_is_no_number_does_not_enter_the_median():
    spikes, _ = fed([1.0] * FEWEST + [math.nan, math.inf] * WINDOW)
    assert spikes.norms == [1.0] * FEWEST


def test_without_a_factor_only_what_is_no_number_stops():
    spikes, found = fed([1.0] * 50 + [1e9], factor=0.0)
    assert not any(found)
    with pytest.raises(UserError, match=r"gradient is inf at step 7; --spike 10"):
        spikes.judge(math.inf, 7)


@given(st.lists(st.floats(0, 100), max_size=2 * WINDOW), st.lists(st.floats(0, 1e4)))
def test_interrupted_it_judges_alike(before, after):
    spikes, _ = fed(before)
    other = Spikes(10.0)
    other.restore(json.loads(json.dumps(spikes.state())))
    assert [spikes.judge(n, 0) for n in after] == [other.judge(n, 0) for n in after]
    assert len(spikes.norms) <= WINDOW


@pytest.mark.parametrize("factor", [1.0, 0.5, -3.0, math.inf, math.nan])
def test_a_factor_that_makes_no_sense_is_refused(factor):
    with pytest.raises(UserError, match=r"--spike .* must be 0, or a number above 1"):
        Spikes(factor)
