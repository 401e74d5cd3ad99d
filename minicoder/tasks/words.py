r"""Word problems with one answer: GSM8K, MATH and AIME in kind, answers in \boxed{}."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Result
from minicoder.tasks.boxed import equivalent, final_answer
from minicoder.tasks.draw import Draw
from minicoder.tasks.item import compared
from minicoder.tasks.records import read_records, text_field

SIZE = 50_000
# Coder-V2, footnote 11: reason step by step, then box the answer
SUFFIX = r"Reason step by step, and put your final answer within \boxed{}."


@dataclass(frozen=True)
class WordProblem:
    """A problem, a worked solution and its answer."""

    task_id: str
    family: str
    problem: str
    solution: str
    answer: str
    difficulty: int = 2

    @property
    def question(self) -> str:
        """The user's turn: the problem, and how to answer."""
        return f"{self.problem}\n{SUFFIX}"

    @property
    def reference(self) -> str:
        """The worked solution, its answer boxed."""
        return f"{self.solution}\n\\boxed{{{self.answer}}}"

    def grade(self, answer: str, sandbox: Sandbox) -> Result:
        """Compares the last boxed answer; runs nothing."""
        found = final_answer(answer)
        right = found is not None and equivalent(found, self.answer)
        return compared(right, found, self.answer)


Story = tuple[str, str, Fraction | int]  # problem, solution, answer
NAMES = ("Mia", "Omar", "Lena", "Kofi", "Ana", "Ravi", "Yuki", "Tom")
THINGS = ("apples", "stamps", "books", "shells", "coins", "cards")


def _shared(draw: Draw) -> Story:
    who, what = draw.one(NAMES), draw.one(THINGS)
    k, each, lost = draw.number(3, 9), draw.number(4, 15), draw.number(2, 11)
    return (f"{who} fills {k} boxes with {each} {what} each and then gives away {lost} "
            f"{what}. How many {what} are left?",
            f"{k} * {each} = {k * each}. {k * each} - {lost} = {k * each - lost}.",
            k * each - lost)


def _shop(draw: Draw) -> Story:
    who, n, price = draw.one(NAMES), draw.number(3, 12), draw.number(2, 15) * 20
    off, paid = draw.one((5, 10, 15, 20, 25, 50)), draw.number(3, 9)
    full = n * price
    left = Fraction(full * (100 - off), 100)
    return (f"{who} buys {n} chairs at {price} euros each and gets {off} percent off "
            f"the whole. The rest is paid in {paid} equal parts. How many euros is one "
            "part?", f"{n} * {price} = {full}. {100 - off} percent of {full} is {left}."
            f" {left} / {paid} = {left / paid}.", left / paid)


def _linear(draw: Draw) -> Story:
    a, c = draw.some(range(2, 12), 2)
    b, d = draw.number(-15, 15), draw.number(-15, 15)
    x = Fraction(d - b, a - c)
    return (f"Solve {a}x {b:+d} = {c}x {d:+d} for x.",
            f"{a - c}x = {d - b}, so x = {d - b} / {a - c} = {x}.", x)


def _roots(draw: Draw) -> Story:
    p, q = draw.number(-40, 40), draw.number(1, 40)
    b, c = -(p + q), p * q
    value = p * p + q * q
    return (f"The roots of x^2 {b:+d}x {c:+d} = 0 are r and s. Find r^2 + s^2.",
            f"r + s = {-b} and rs = {c}. r^2 + s^2 = (r + s)^2 - 2rs = {b * b} - "
            f"{2 * c} = {value}.", value)


def _power(draw: Draw) -> Story:
    a, n, m = draw.number(2, 30), draw.number(20, 400), draw.number(101, 999)
    step, value = [], 1
    for bit in reversed(range(n.bit_length())):
        value = value * value * (a if n >> bit & 1 else 1) % m
        step.append(f"{a}^{n >> bit} leaves {value}")
    return (f"Find the remainder when {a}^{{{n}}} is divided by {m}. The answer is an "
            "integer from 000 to 999.", "; ".join(step) + ".", value)


def _lattice(draw: Draw) -> Story:
    n, a, b = draw.number(200, 999), *draw.some((3, 4, 5, 6, 7, 8, 9, 10, 11), 2)
    both = math.lcm(a, b)
    value = n // a + n // b - 2 * (n // both)
    return (f"How many integers from 1 to {n} are divisible by {a} or by {b}, but not "
            "by both? The answer is an integer from 000 to 999.",
            f"{n // a} are divisible by {a}, {n // b} by {b}, {n // both} by both, so "
            f"by {both}. {n // a} + {n // b} - 2 * {n // both} = {value}.", value)


# difficulty: 1 and 2 as in GSM8K, 3 and 4 as in MATH, 5 with AIME's three digits
STORIES: tuple[tuple[Callable[[Draw], Story], ...], ...] = (
    (_shared,), (_shop,), (_linear,), (_roots,), (_power, _lattice))


def _drawn(index: int) -> Story:
    draw = Draw("words", index)
    return draw.one(STORIES[index % 5])(draw)


def behaviour(index: int) -> str:
    """The worked solution's digits and signs, in whatever order the problem has them.

    Held-out problems have other numbers, and are of the same six kinds.
    """
    return "".join(sorted(_drawn(index)[1].replace("-", "")))


def make(index: int) -> WordProblem:
    """Problem number `index`."""
    problem, solution, answer = _drawn(index)
    difficulty, bottom = index % 5 + 1, answer.denominator
    shown = f"{'-' * (answer < 0)}\\frac{{{abs(answer.numerator)}}}{{{bottom}}}"
    shown = shown if bottom > 1 else str(answer.numerator)
    return WordProblem(f"words/{index}", "words", problem, solution,
                       shown.zfill(3) if difficulty == 5 else shown, difficulty)


def from_record(record: dict[str, Any], number: int) -> WordProblem:
    """A line of a GSM8K file; ValueError names the field that is wrong."""
    solution, mark, answer = text_field(record, "answer").rpartition("####")
    if not mark or not answer.strip():
        raise ValueError("field 'answer' must end with '#### ' and the number, found "
                         f"{record['answer'][-60:]!r}")
    return WordProblem(f"gsm8k/{number}", "gsm8k", text_field(record, "question"),
                       solution.strip(), answer.strip())


def read_gsm8k(path: Path) -> list[WordProblem]:
    """The problems of a GSM8K file; UserError names file and line."""
    return read_records(path, from_record)
