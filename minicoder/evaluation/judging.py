"""Answers compared by a judge, in both orders: MT-Bench and Arena-Hard in kind.

A judge is any function of texts: a person, a program, a model. Judges of every kind
prefer a place: so each pair is shown twice, the order swapped, and the mean of both
counts (arXiv 2306.05685 §3.4). A judge that only looks at the place gives 50 %.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean

from minicoder.errors import UserError
from minicoder.evaluation.intervals import bootstrap

# question, answer shown first, answer shown second -> credit of the first, 0 to 1
Judge = Callable[[str, str, str], float]
CREDITS = {">>": 1.0, ">": 1.0, "=": 0.5, "<": 0.0, "<<": 0.0}
PAIR_PROMPT = (
    "Two assistants answered the same question. Judge by correctness first, then by "
    "helpfulness; length and order do not count. Reason step by step, and end with one "
    "of [[A>>B]], [[A>B]], [[A=B]], [[B>A]], [[B>>A]].\n\n[Question]\n{question}\n\n"
    "[Answer of A]\n{first}\n\n[Answer of B]\n{second}\n")
SINGLE_PROMPT = (
    "Rate the answer to the question from 1, useless, to 10, perfect. Explain, and end "
    "with the rating as [[7]].\n\n[Question]\n{question}\n\n[Answer]\n{answer}\n")


def credit_in(text: str) -> float:
    """The credit of answer A in a judge's words: its last [[A>B]].

    Raises `UserError` when there is none: a judge that did not judge is no tie.
    """
    found = re.findall(r"\[\[([AB])(>>|>|=|<|<<)([AB])\]\]", text)
    if not found or found[-1][0] == found[-1][2]:
        raise UserError(f"The judge gave no verdict such as [[A>B]]: {text[-80:]!r}.")
    credit = CREDITS[found[-1][1]]
    return credit if found[-1][0] == "A" else 1 - credit


def rating_in(text: str) -> float:
    """The last rating from 1 to 10, as [[7]] or [[7.5]]; `UserError` if there is none.
    """
    found = re.findall(r"\[\[(\d+(?:\.\d+)?)\]\]", text)
    if not found or not 1 <= float(found[-1]) <= 10:
        raise UserError(f"The judge gave no rating from [[1]] to [[10]]: "
                        f"{text[-80:]!r}.")
    return float(found[-1])


def judge_of(model: Callable[[str], str]) -> Judge:
    """A judge that asks a model, given as a function from prompt to answer."""
    return lambda question, first, second: credit_in(model(PAIR_PROMPT.format(
        question=question, first=first, second=second)))


def single_scores(model: Callable[[str], str], questions: Sequence[str],
                  answers: Sequence[str]) -> dict[str, float]:
    """Mean rating from 1 to 10 with its interval, each answer alone (MT-Bench)."""
    found = bootstrap([
        (rating_in(model(SINGLE_PROMPT.format(question=question, answer=answer))) - 1)
        / 9 for question, answer in zip(questions, answers, strict=True)])
    return found | {end: 1 + 9 * found[end] for end in ("value", "low", "high")}


def compare(judge: Judge, questions: Sequence[str], ours: Sequence[str],
            theirs: Sequence[str]) -> dict:
    """Win rate of `ours`, each question judged in both orders, ties half.

    `first_place` is the credit of whatever stood first: 0.5 for a judge without bias of
    position. `one_order` is the win rate had `ours` always stood first. `undecided` is
    the share of questions whose two orders contradict each other. Intervals are
    bootstraps over questions, whose two orders stay together.
    """
    pairs = []
    for question, own, other in zip(questions, ours, theirs, strict=True):
        pair = judge(question, own, other), judge(question, other, own)
        if not all(0 <= credit <= 1 for credit in pair):
            raise UserError(f"A judge's credit must lie from 0 to 1, not {pair}.")
        pairs.append(pair)
    return {
        "win_rate": bootstrap([(a + 1 - b) / 2 for a, b in pairs]),
        "one_order": bootstrap([a for a, _ in pairs]),
        "first_place": bootstrap([(a + b) / 2 for a, b in pairs]),
        "undecided": fmean(float((a - 0.5) * (b - 0.5) > 0) for a, b in pairs)}


def bradley_terry(credits: dict[tuple[str, str], float]) -> dict[str, float]:
    """Strengths with P(i beats j) = 1 / (1 + exp(s_j - s_i)), their mean 0.

    `credits[i, j]` is what i won against j, ties half to each. The maximum of the
    likelihood, by the iteration of Hunter (2004), as Arena-Hard ranks (arXiv
    2406.11939). Raises `UserError` when it has no maximum: a group that never lost to
    the rest, or never met it.
    """
    names = sorted({name for pair in credits for name in pair})
    met: dict[tuple[str, str], float] = defaultdict(float)
    for (one, other), credit in credits.items():
        met[one, other] += credit
        met[other, one] += credit
    for start in names:     # who can be reached over wins; must be everybody
        reached, queue = {start}, [start]
        while queue:
            one = queue.pop()
            more = {b for (a, b), won in credits.items() if a == one and won} - reached
            reached, queue = reached | more, queue + sorted(more)
        if len(reached) < len(names):
            raise UserError(f"No finite strengths: {', '.join(sorted(reached))} won "
                            "nothing from the others. Judge more questions.")
    strength = dict.fromkeys(names, 1.0)
    won = {one: sum(c for (a, _), c in credits.items() if a == one) for one in names}
    for _ in range(10_000):
        new = {one: won[one] / sum(met[one, other] / (strength[one] + strength[other])
                                   for other in names if met[one, other])
               for one in names}
        scale = math.exp(fmean(map(math.log, new.values())))
        new = {name: value / scale for name, value in new.items()}
        moved = max(abs(math.log(new[name] / strength[name])) for name in names)
        strength = new
        if moved < 1e-10:
            break
    return {name: math.log(value) for name, value in strength.items()}


def expected_win_rate(strengths: dict[str, float], name: str, baseline: str) -> float:
    """The chance that `name` beats `baseline`: Arena-Hard's score."""
    return 1 / (1 + math.exp(strengths[baseline] - strengths[name]))
