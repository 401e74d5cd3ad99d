r"""Votes on boxed answers: equivalent ones together, silent ones not at all."""

import pytest

from minicoder.evaluation.mathematics import majority
from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.words import make


def box(text):
    return rf"so \boxed{{{text}}}."


@pytest.mark.parametrize(("texts", "right", "k", "wanted"), [
    ([box("2"), box("3"), box("3")], [True, False, False], 3, 0),
    ([box("2"), box(r"\frac{1}{3}"), box("1/3")], [True, False, False], 3, 0),
    ([box("2"), box("3"), box("4")], [True, False, False], 3, 1 / 3),
    ([box("2"), "no idea", "2"], [True, False, False], 3, 1),      # they do not vote
    ([box("2"), box("3")], [True, False], 1, 0.5)])
def test_by_hand(texts, right, k, wanted):
    assert majority(texts, right, k) == pytest.approx(wanted)


@pytest.mark.filterwarnings("ignore:Generated programs run")
def test_right_is_what_the_task_calls_right():
    item = next(filter(None, map(make, range(99))))
    texts = [item.reference, box(f"{item.answer}1"), item.reference, "?"]
    with Sandbox(workers=1, allow_weak=True) as sandbox:
        right = [item.grade(text, sandbox).verdict == "pass" for text in texts]
    assert right == [True, False, True, False]
    assert majority(texts, right, 4) == 1
