"""Learning rates: both schedules at the points that define them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicoder.training.schedule import cosine, rate, steps_down


@pytest.mark.parametrize(("step", "share"), [
    (0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (60, 0.55), (110, 0.1)])
def test_cosine_at_the_points_that_define_it(step, share):
    assert cosine(step, 110, 4e-4, 10) == pytest.approx(4e-4 * share)


@given(st.integers(1, 500), st.integers(0, 50), st.floats(0, 1))
def test_cosine_rises_then_falls_between_floor_and_peak(steps, warmup, floor):
    rates = [cosine(step, steps, 2.0, warmup, floor) for step in range(steps)]
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert all(0 < rate <= 2 + 1e-12 for rate in rates[:warmup])
    assert all(2 * floor - 1e-12 <= rate <= 2 + 1e-12 for rate in rates[warmup:])


@pytest.mark.parametrize(("step", "times"), [(0, 0), (59, 0), (60, 1), (89, 1), (90, 2),
                                             (99, 2)])
def test_steps_down_at_60_and_90_per_cent(step, times):
    assert steps_down(step, 100, 2.4e-4, 0) == pytest.approx(2.4e-4 * 0.316 ** times)


def test_steps_down_warms_up_first():
    assert steps_down(1, 100, 1.0, 4) == 0.5
    assert [steps_down(step, 100, 1.0, 4) for step in (3, 4)] == [1, 1]


@pytest.mark.parametrize(("schedule", "step", "share"), [
    ("cosine", 60, 0.55), ("cosine", 110, 0.1), ("steps", 59, 1), ("steps", 66, 0.316),
    ("steps_lite", 66, 1), ("steps_lite", 88, 0.316), ("steps_lite", 99, 0.316 ** 2),
    ("steps", 4, 0.5), ("steps_lite", 4, 0.5), ("cosine", 4, 0.5)])
def test_a_schedule_by_name(schedule, step, share):
    assert rate(schedule, step, 110, 4e-4, 10, 0.1) == pytest.approx(4e-4 * share)
