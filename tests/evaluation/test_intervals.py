"""Intervals against published values and what they promise."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicoder.evaluation.intervals import bootstrap, student, student_t, wilson


@pytest.mark.parametrize(("successes", "trials", "low", "high"), [
    (81, 263, 0.2553, 0.3662),      # Newcombe 1998, table I, method 3
    (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
    (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)])
def test_wilson_s_published_values(successes, trials, low, high):
    found = wilson(successes, trials)
    assert found["value"] == successes / trials and found["n"] == trials
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_shares_within_1_96_errors(pair):
    successes, trials = pair
    found = wilson(*pair)
    assert 0 <= found["low"] <= found["value"] + 1e-12
    assert found["value"] - 1e-12 <= found["high"] <= 1
    for end in (found["low"], found["high"]):     # the equation that defines the ends
        if 1e-9 < end < 1 - 1e-9:
            error = math.sqrt(end * (1 - end) / trials)
            assert abs(found["value"] - end) / error == pytest.approx(1.959964, 1e-5)
    mirrored = wilson(trials - successes, trials)
    assert mirrored["low"] == pytest.approx(1 - found["high"], abs=1e-12)


def test_nothing_tried_is_nothing_known():
    assert wilson(0, 0) == {"value": 0.0, "low": 0.0, "high": 1.0, "n": 0}


def test_bootstrap_of_many_is_the_normal_interval():
    draw = random.Random(0)
    values = [draw.gauss(3, 2) for _ in range(400)]
    found, mean = bootstrap(values), sum(values) / 400
    error = math.sqrt(sum((v - mean) ** 2 for v in values)) / 400
    assert found["value"] == pytest.approx(mean) and found["n"] == 400
    assert found["low"] == pytest.approx(mean - 1.96 * error, abs=0.15 * error)
    assert found["high"] == pytest.approx(mean + 1.96 * error, abs=0.15 * error)


def test_bootstrap_of_three_by_hand():
    # means of three draws from 0, 0, 3: 0 with (2/3)^3 and 3 with 1/27, above 2.5 %
    found = bootstrap([0.0, 0.0, 3.0])
    assert (found["value"], found["low"], found["high"]) == (1, 0, 3)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_bootstrap_of_equal_outcomes_is_not_certain(value):
    assert bootstrap([value] * 20) == wilson(round(20 * value), 20)
    assert 0.1 < bootstrap([value] * 20)["high"] - bootstrap([value] * 20)["low"]


def test_bootstrap_is_repeatable_and_certain_of_constants():
    values = [0.0, 1.0, 0.5, 0.25]
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap([0.3] * 9) == {"value": pytest.approx(0.3), "n": 9,
                                    "low": pytest.approx(0.3),
                                    "high": pytest.approx(0.3)}


@pytest.mark.parametrize(("freedom", "share", "errors"), [  # printed tables of t
    (1, 0.95, 12.706), (2, 0.95, 4.303), (3, 0.95, 3.182), (4, 0.95, 2.776),
    (9, 0.95, 2.262), (10, 0.95, 2.228), (30, 0.95, 2.042), (120, 0.95, 1.980),
    (1, 0.99, 63.657), (2, 0.99, 9.925), (5, 0.99, 4.032), (2, 0.9, 2.920)])
def test_student_s_printed_table(freedom, share, errors):
    assert student_t(freedom, share) == pytest.approx(errors, abs=6e-4)


def test_an_interval_of_three_seeds_by_hand():
    found = student([1.0, 2.0, 3.0])    # standard deviation 1, so 4.3027 / √3 each way
    assert (found["value"], found["n"]) == (2.0, 3)
    assert found["high"] - 2 == pytest.approx(2 - found["low"])
    assert found["high"] - 2 == pytest.approx(4.30265 / math.sqrt(3), abs=1e-4)
    assert student([0.5, 0.5])["low"] == student([0.5, 0.5])["high"] == 0.5
    with pytest.raises(ValueError):
        student([1.0])


def test_t_intervals_of_three_hold_the_mean_95_times_in_100():
    draw, held = random.Random(0), 0
    for _ in range(2000):
        found = student([draw.gauss(7, 2) for _ in range(3)])
        held += found["low"] < 7 < found["high"]
    assert held / 2000 == pytest.approx(0.95, abs=0.015)
