"""60/10/30, whatever the documents' sizes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicoder.data.mixture import SHARES, Mixture, passes


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(["code", "math", "text", "more"]),
                       st.floats(0.05, 1), min_size=1), st.randoms())
def test_every_count_stays_near_its_aim(shares, draw):
    mixture, longest = Mixture(shares), 100
    for _ in range(150):
        mixture.add(mixture.next(), draw.randint(1, longest))
        total = sum(mixture.drawn.values())
        for kind, aim in mixture.aims.items():
            assert abs(mixture.drawn[kind] - aim * total) <= longest * len(shares)


def test_shares_come_true_within_one_per_cent():
    mixture = Mixture()
    for step in range(3000):
        mixture.add(mixture.next(), 1 + step * 7919 % 300)
    assert mixture.shares() == pytest.approx(SHARES, abs=0.01)
    assert sum(mixture.shares().values()) == pytest.approx(1)


def test_an_empty_mixture_has_drawn_nothing():
    assert Mixture().shares() == {"code": 0, "math": 0, "text": 0}


def test_passes_give_the_papers_repetitions():
    # 6T tokens at 60/10/30 from 1,170B of code and 221B of math (Coder-V2 §2)
    seen = passes({"code": 1.170, "math": 0.221}, 6, {"code": 0.6, "math": 0.1})
    assert seen == pytest.approx({"code": 3.1, "math": 2.7}, abs=0.05)
