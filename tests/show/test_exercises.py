"""Every exercise from three sides: solution, stub, and each known wrong answer."""

import math
import sys

import pytest

from minicoder.show import exercises  # noqa: F401  registers them
from minicoder.show.check import EXERCISES, check, find, judge
from minicoder.show.exercises import tour

NAMES = sorted(EXERCISES)
WRONG = [(name, message) for name in NAMES for message in find(name).wrong]


def test_the_tour_has_its_exercises():
    assert {"tour.bits_per_byte", "tour.psm", "tour.advantages"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_passes(name):
    assert judge(name, find(name).answer) is None


@pytest.mark.parametrize("name", NAMES)
def test_the_shown_source_is_the_solution(name):
    scope = dict(vars(sys.modules[find(name).answer.__module__]))
    source = "from __future__ import annotations\n" + find(name).source
    exec(source, scope)
    assert judge(name, scope[find(name).answer.__name__]) is None


@pytest.mark.parametrize("name", NAMES)
def test_the_stub_fails_politely(name, capsys):
    def stub(*args):
        raise NotImplementedError

    check(name, stub)
    assert "not written yet" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "message"), WRONG)
def test_a_known_wrong_answer_gets_its_own_message(name, message):
    told = judge(name, find(name).wrong[message])
    assert told is not None and message in told


@pytest.mark.parametrize("name", NAMES)
def test_messages_differ_and_hints_exist(name):
    rules = find(name).rules
    assert len({rule.message for rule in rules}) == len(rules)
    assert len(find(name).hints) >= 2


def test_test_vectors_of_the_group_advantages():
    given = tour.advantages([1.0, 0.0, 0.0, 1.0])
    assert given == pytest.approx([1, -1, -1, 1], abs=1e-5)


def test_a_byte_costs_eight_bits_to_a_model_that_knows_nothing():
    assert tour.bits_per_byte(math.log(256), 7, 7) == pytest.approx(8)
