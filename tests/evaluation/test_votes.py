"""maj@k against all subsets, against simulation, and by hand."""

import random
from collections import Counter
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicoder.evaluation.votes import maj_at_k, tally


def votes(right, wrong, silent):
    return ([0] * right + [i + 1 for i, c in enumerate(wrong) for _ in range(c)]
            + [None] * silent)


def share_of_right(drawn):
    counted = Counter(v for v in drawn if v is not None)
    best = max(counted.values(), default=0)
    winners = [v for v, count in counted.items() if count == best]
    return Fraction(0 in winners, max(1, len(winners)))


@settings(max_examples=60)
@given(st.integers(0, 4), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 2),
       st.data())
def test_it_equals_the_share_of_all_subsets(right, wrong, silent, data):
    box = votes(right, wrong, silent)
    if not box:
        return
    k = data.draw(st.integers(1, len(box)))
    subsets = list(combinations(box, k))
    wanted = sum(map(share_of_right, subsets)) / len(subsets)
    assert maj_at_k(right, wrong, k, silent) == pytest.approx(float(wanted))


@pytest.mark.parametrize(("right", "wrong", "k", "silent", "wanted"), [
    (2, [1], 3, 0, 1), (1, [1], 2, 0, 0.5), (1, [1, 1], 3, 0, 1 / 3), (0, [3], 2, 0, 0),
    (1, [], 3, 2, 1),           # who says nothing does not vote
    (3, [7], 1, 0, 0.3),        # one vote is pass@1
    (40, [8, 8, 8], 64, 0, 1)])
def test_by_hand(right, wrong, k, silent, wanted):
    assert maj_at_k(right, wrong, k, silent) == pytest.approx(wanted)


def test_it_equals_a_simulation_at_64_votes():
    right, wrong, silent, draw = 40, [35, 20, 20, 5], 8, random.Random(0)
    box, k = votes(right, wrong, silent), 64
    found = sum(float(share_of_right(draw.sample(box, k))) for _ in range(4000)) / 4000
    assert maj_at_k(right, wrong, k, silent) == pytest.approx(found, abs=0.03)


@pytest.mark.parametrize("numbers", [(1, [1], 3, 0), (1, [1], 0, 0), (-1, [3], 1, 0)])
def test_numbers_that_make_no_sense(numbers):
    with pytest.raises(ValueError, match="need counts"):
        maj_at_k(*numbers)


def test_equal_answers_share_a_group():
    assert tally(["1/2", "3", "2/4", "0.5", "3"],
                 lambda a, b: Fraction(a) == Fraction(b)) == [0, 1, 0, 0, 1]
