"""60/10/30, whatever the documents' sizes."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicoder.data.mixture import CODE, SHARES, UNIQUE, Mixture, budget, passes

kinds = st.dictionaries(st.sampled_from(["code", "math", "text", "more"]),
                        st.floats(0.05, 1), min_size=1)


@settings(max_examples=40, deadline=None)
@given(kinds, st.randoms())
def test_every_count_stays_near_its_aim(shares, draw):
    mixture, longest = Mixture(shares), 100
    for _ in range(150):
        mixture.add(mixture.next(), draw.randint(1, longest))
        total = sum(mixture.drawn.values())
        for kind, aim in mixture.aims.items():
            above = mixture.drawn[kind] - aim * total
            assert -longest * (len(shares) - 1) - 1e-6 <= above <= longest + 1e-6


@settings(max_examples=8, deadline=None)
@given(st.lists(st.floats(0.05, 1), min_size=1, max_size=3), st.integers(60, 333),
       st.integers(0, 99))
def test_any_100_000_tokens_are_mixed_within_one_per_cent(parts, longest, seed):
    shares, draw = dict(zip("abc", parts, strict=False)), random.Random(seed)
    mixture, history = Mixture(shares), [dict.fromkeys(shares, 0)]
    while sum(mixture.drawn.values()) < 150_000:
        mixture.add(mixture.next(), draw.randint(max(1, longest // 2), longest))
        history.append(dict(mixture.drawn))
    end = 0
    for start in range(0, len(history), 7):
        while end < len(history) and sum(history[end].values()) - sum(
                history[start].values()) < 100_000:
            end += 1
        if end == len(history):
            break
        window = {k: history[end][k] - history[start][k] for k in shares}
        for kind, aim in mixture.aims.items():
            assert abs(window[kind] / sum(window.values()) - aim) <= 0.01
    assert start > 0


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


def test_the_paper_s_budget_adds_up():
    assert sum(CODE.values()) == UNIQUE["code"] == 1170     # 821 + 185 + 70 + 94
    rows = {part: (unique, drawn, times) for part, unique, drawn, times in budget()}
    assert list(rows) == [*CODE, "code", "math"]
    assert sum(rows[part][1] for part in CODE) == pytest.approx(3600)
    assert rows["code"] == pytest.approx((1170, 3600, 3.08), rel=0.001)
    assert rows["math"] == pytest.approx((221, 600, 2.71), rel=0.002)
    assert rows["high-quality GitHub code"][2] == rows["code"][2]
    half = budget(3000, {"code": 0.3, "math": 0.1})
    assert half[-2][1:] == pytest.approx((1170, 900, 900 / 1170))
