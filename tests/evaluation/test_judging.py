"""Judges whose bias is known, and strengths against another way to find them."""

import random

import pytest
import torch

from minicoder.errors import UserError
from minicoder.evaluation.judging import (
    bradley_terry,
    compare,
    credit_in,
    expected_win_rate,
    judge_of,
    rating_in,
    single_scores,
)

QUESTIONS = [f"question {i}" for i in range(400)]
GOOD, BAD = ["good"] * 400, ["bad"] * 400


def fair(question, first, second):
    return 0.5 if first == second else float(first == "good")


def biased(skill, place, seed=0):
    """Sees the better answer with chance `skill`; else takes the first with `place`."""
    draw = random.Random(seed)

    def judge(question, first, second):
        if first != second and draw.random() < skill:
            return fair(question, first, second)
        return float(draw.random() < place)

    return judge


def test_a_fair_judge_is_believed():
    found = compare(fair, QUESTIONS, GOOD, BAD)
    assert found["win_rate"]["value"] == 1 and found["first_place"]["value"] == 0.5
    assert compare(fair, QUESTIONS, GOOD, GOOD)["win_rate"]["value"] == 0.5
    assert found["undecided"] == 0


@pytest.mark.parametrize("place", [0.0, 1.0])
def test_a_judge_of_places_alone_is_worth_nothing(place):
    found = compare(lambda *_: place, QUESTIONS, GOOD, BAD)
    assert found["win_rate"]["value"] == 0.5 and found["undecided"] == 1
    assert found["one_order"]["value"] == found["first_place"]["value"] == place


def test_swapping_cancels_a_known_bias():
    """Skill 0.4, and the rest to the first place: 0.4 + 0.6 × ½ in the mean."""
    found = compare(biased(0.4, 1.0), QUESTIONS, GOOD, BAD)
    assert found["win_rate"]["low"] < 0.7 < found["win_rate"]["high"]
    assert found["one_order"]["value"] == 1                 # what one order would say
    assert found["first_place"]["low"] < 0.8 < found["first_place"]["high"]
    level = compare(biased(0.4, 0.9), QUESTIONS, GOOD, GOOD)
    assert level["win_rate"]["low"] < 0.5 < level["win_rate"]["high"]
    assert level["one_order"]["low"] > 0.8


def test_intervals_hold_the_truth_about_95_times_in_100():
    held = 0
    for seed in range(60):
        found = compare(biased(0.4, 0.8, seed), QUESTIONS[:60], GOOD[:60], BAD[:60])
        held += found["win_rate"]["low"] <= 0.7 <= found["win_rate"]["high"]
    assert held >= 50


@pytest.mark.parametrize(("text", "credit"), [
    ("So: [[A>>B]]", 1), ("[[B>A]]", 0), ("first [[A>B]], no: [[A=B]]", 0.5),
    ("[[A<B]]", 0), ("[[B<<A]]", 1)])
def test_verdicts_in_words(text, credit):
    assert credit_in(text) == credit


@pytest.mark.parametrize("text", ["A is better", "[[A>A]]", "[[C>B]]", ""])
def test_no_verdict_is_no_tie(text):
    with pytest.raises(UserError, match="no verdict"):
        credit_in(text)


def test_a_model_as_a_judge_sees_both_answers_in_their_order():
    prompts = []

    def model(prompt):
        prompts.append(prompt)
        first, second = prompt.index("good"), prompt.index("bad")
        return "[[A>B]]" if first < second else "[[B>A]]"

    found = compare(judge_of(model), ["q {x}"], ["good"], ["bad"])
    assert found["win_rate"]["value"] == 1 and "q {x}" in prompts[0]


def test_single_ratings():
    assert rating_in("fine [[7]] or rather [[7.5]]") == 7.5
    found = single_scores(lambda p: "[[9]]" if "good" in p else "[[2]]", ["a", "b"],
                          ["good", "bad"])
    assert found["value"] == 5.5 and found["n"] == 2
    lowest = single_scores(lambda p: "[[1]]", ["a"] * 9, ["bad"] * 9)
    assert lowest["low"] == lowest["value"] == 1 < lowest["high"] < 5
    for text in ("seven", "[[0]]", "[[11]]"):
        with pytest.raises(UserError, match="no rating"):
            rating_in(text)


def test_two_players_have_a_closed_form():
    found = bradley_terry({("a", "b"): 30.0, ("b", "a"): 10.0})
    assert found["a"] - found["b"] == pytest.approx(torch.tensor(3.0).log().item())
    assert expected_win_rate(found, "a", "b") == pytest.approx(0.75)


def test_strengths_equal_a_logistic_regression():
    draw, names = random.Random(0), "abcde"
    credits = {(i, j): draw.choice([0.5, 1, 3, 7.5, 20])
               for i in names for j in names if i != j and draw.random() < 0.9}
    found = bradley_terry(credits)
    s = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    steps = torch.optim.LBFGS([s], max_iter=500, tolerance_grad=1e-12,
                              tolerance_change=0, line_search_fn="strong_wolfe")

    def loss():
        steps.zero_grad()
        value = -sum(c * torch.nn.functional.logsigmoid(
            s[names.index(i)] - s[names.index(j)]) for (i, j), c in credits.items())
        value.backward()
        return value

    steps.step(loss)
    wanted = (s - s.mean()).tolist()
    assert [found[name] for name in names] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("credits", [
    {("a", "b"): 5.0, ("b", "a"): 0.0},                       # a never lost
    {("a", "b"): 1.0, ("b", "a"): 1.0, ("c", "d"): 1.0, ("d", "c"): 1.0}])
def test_strengths_without_bound_are_refused(credits):
    with pytest.raises(UserError, match="No finite strengths"):
        bradley_terry(credits)


def test_a_credit_out_of_range():
    with pytest.raises(UserError, match="from 0 to 1"):
        compare(lambda *_: 2.0, ["q"], ["a"], ["b"])
