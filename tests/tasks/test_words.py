"""Word problems: worked solutions are right, GSM8K's file is read."""

import json
import os
import re
from fractions import Fraction
from pathlib import Path

import pytest

from minicoder.errors import UserError
from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.families import split_of
from minicoder.tasks.words import SUFFIX, make, read_gsm8k

UNOPENED = object.__new__(Sandbox)  # nothing may run
SHARED = Path(os.environ.get(
    "MINICODER_BENCHMARKS", Path(__file__).parents[3] / "shared/data"))
gsm8k = pytest.mark.skipif(not (SHARED / "gsm8k").exists(),
                           reason="GSM8K is not on this disk")


def value(answer):
    """The number that a made answer writes."""
    return Fraction(re.sub(r"(-?)\\frac\{(\d+)\}\{(\d+)\}", r"\1\2/\3", answer))


@pytest.mark.parametrize("index", range(60))
def test_answers_solve_their_problems(index):
    item = make(index)
    got, text = value(item.answer), item.problem
    numbers = [int(n) for n in re.findall(r"[-+]?\d+", re.sub(r"\^2|\^\{|from 1|000|999"
                                                             r"|r\^2|s\^2", " ", text))]
    if item.difficulty == 1:
        assert got == numbers[0] * numbers[1] - numbers[2]
    elif item.difficulty == 2:
        n, price, off, parts = numbers
        assert got == Fraction(n * price * (100 - off), 100 * parts)
    elif item.difficulty == 3:
        a, b, c, d = numbers
        assert a * got + b == c * got + d
    elif item.difficulty == 4:
        b, c = numbers[:2]
        assert got == b * b - 2 * c
    elif "remainder" in text:
        assert item.answer == f"{pow(*numbers[:3]):03d}"
    else:
        n, a, b = numbers[:3]
        count = sum((i % a == 0) != (i % b == 0) for i in range(1, n + 1))
        assert item.answer == f"{count:03d}"


def test_only_the_boxed_answer_counts():
    item = make(0)
    right, wrong = item.answer, str(int(item.answer) + 1)
    assert item.question.endswith(SUFFIX)
    for answer, verdict in (
            (rf"\boxed{{{right}}}", "pass"), (rf"\boxed{{{right}.0}}", "pass"),
            (rf"\boxed{{{right} apples}}", "pass"), (right, "fail"), ("", "fail"),
            (rf"\boxed{{{right}}} \boxed{{{wrong}}}", "fail"),
            (rf"\boxed{{{right}, {wrong}}}", "fail"), (rf"\boxed{{{wrong}}}", "fail"),
            (rf"\boxed{{{right} or {wrong}}}", "fail"), (r"\boxed{" * 10**5, "fail")):
        assert item.grade(answer, UNOPENED).verdict == verdict, answer


@pytest.mark.parametrize(("line", "message"), [
    ({"question": "q", "answer": "5"}, "field 'answer' must end with '#### '"),
    ({"question": "q", "answer": "#### "}, "field 'answer' must end with '#### '"),
    ({"answer": "#### 5"}, "field 'question' must be text, not empty, found nothing")])
def test_a_broken_line_is_named(tmp_path, line, message):
    path = tmp_path / "gsm8k.jsonl"
    path.write_text(json.dumps(line))
    with pytest.raises(UserError, match=f"line 1: {message}"):
        read_gsm8k(path)


@gsm8k
@pytest.mark.parametrize(("part", "count"), [("test", 1319), ("train", 7473)])
def test_every_answer_of_gsm8k_equals_itself_in_a_box(part, count):
    items = read_gsm8k(SHARED / f"gsm8k/{part}.jsonl.gz")
    assert len(items) == count
    for item in items[::1 if part == "test" else 20]:
        assert Fraction(item.answer.replace(",", "")) is not None
        assert item.grade(item.reference, UNOPENED).verdict == "pass"
        other = rf"\boxed{{{Fraction(item.answer.replace(',', '')) + 1}}}"
        assert item.grade(other, UNOPENED).verdict == "fail"


def test_the_same_problem_in_other_words_is_on_its_side():
    """Sides of an equation, two divisors, boxes and what is in each, exchanged."""
    sides = {}
    for index in range(8_000):
        problem = make(index).problem
        numbers = re.findall(r"[-+]?\d+", problem.partition(". The answer")[0])
        if problem.startswith("Solve"):
            key = "equation", frozenset([(*numbers[:2],), (*numbers[2:],)])
        elif "fills" in problem:
            key = "boxes", frozenset(numbers[:2]), numbers[2]
        elif "How many integers" in problem:
            key = "divisors", numbers[1], frozenset(numbers[2:])
        else:
            continue
        sides.setdefault(key, []).append(index)
    twins = [found for found in sides.values() if len(found) > 1]
    assert len(twins) > 50
    assert all(len({split_of("words", i) for i in found}) == 1 for found in twins)
