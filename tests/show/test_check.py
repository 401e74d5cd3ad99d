"""The machinery of the exercises: politeness, hints in order, the broken rule."""

import pytest

from minicoder.errors import UserError
from minicoder.show import check as machinery
from minicoder.show.check import Rule, check, exercise, hint, judge, solution


@pytest.fixture(autouse=True)
def sample(monkeypatch):
    """An exercise about doubling, in a registry of its own."""
    monkeypatch.setattr(machinery, "EXERCISES", {})
    monkeypatch.setattr(machinery, "_hints_given", machinery.Counter())

    @exercise("t.double", hints=("add", "x + x"), rules=(
        Rule("keeps its argument.", lambda f: f(3) != 3, lambda x: x),
        Rule("is not twice.", lambda f: f(3) == 6, lambda x: x * x)))
    def double(x: int) -> int:
        """Twice x."""
        return 2 * x

    return double


def test_a_right_answer_passes(sample, capsys):
    check("t.double", sample)
    assert capsys.readouterr().out == "✓ t.double: right, all 2 rules hold.\n"


def test_the_first_broken_rule_is_named_and_a_hint_offered(capsys):
    check("t.double", lambda x: x)
    assert capsys.readouterr().out == (
        '✗ t.double: keeps its argument.\n  hint("t.double") helps.\n')


def raises(x):
    raise NotImplementedError


@pytest.mark.parametrize("stub", (
    raises, None, ..., lambda x: None, lambda x: ...), ids=repr)
def test_a_stub_fails_politely(stub, capsys):
    check("t.double", stub)
    assert capsys.readouterr().out.startswith("… t.double: not written yet.")


def test_an_exception_in_the_answer_is_feedback():
    told = judge("t.double", lambda x: x / 0)
    assert told.startswith("your code stopped with ZeroDivisionError: division by zero")
    assert told.endswith("tried on this: keeps its argument.")


def test_an_exception_without_a_text_is_told_by_its_name_alone():
    def silent(x):
        raise ValueError

    assert judge("t.double", silent) == (
        "your code stopped with ValueError. It was tried on this: keeps its argument.")


def test_a_value_can_be_an_answer_too():
    machinery.EXERCISES["t.seven"] = machinery.Exercise(
        "t.seven", (Rule("is not 7.", lambda x: x == 7, 8),), (), 7, "7\n")
    assert judge("t.seven", 7) is None and judge("t.seven", 8) == "is not 7."
    with pytest.raises(NotImplementedError):
        judge("t.seven", ...)


def test_hints_come_one_by_one_and_then_the_solution(capsys):
    for _ in range(3):
        hint("t.double")
    assert capsys.readouterr().out.splitlines() == [
        "Hint 1 of 2: add", "Hint 2 of 2: x + x",
        'No more hints. solution("t.double") shows one way.']


def test_the_solution_is_shown_without_the_rules(capsys):
    solution("t.double")
    assert capsys.readouterr().out == (
        'def double(x: int) -> int:\n    """Twice x."""\n    return 2 * x\n')


@pytest.mark.parametrize("ask", (hint, solution, lambda name: check(name, 1)))
def test_an_unknown_name_is_a_clear_error(ask):
    with pytest.raises(UserError, match="no exercise 't.duble'; there is t.double"):
        ask("t.duble")
