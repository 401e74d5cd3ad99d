"""The exercises of the lesson on ablations (notebook 15): averages, seeds, gains."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist, fmean, pstdev, stdev
from typing import Any

from minicoder.evaluation.intervals import student_t
from minicoder.show.check import Rule, exercise

Answer = Callable[..., Any]
Table = dict[str, tuple[list[float], float]]


def _same(given: Any, wanted: Any) -> bool:
    """Whether two tuples of numbers agree."""
    return len(given) == len(wanted) and all(
        math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
        for a, b in zip(given, wanted, strict=True))


# --- averages that cannot be those of their row

ROUNDED: Table = {
    "fine": ([1.0, 2.0], 1.5), "rounded": ([30.0, 30.1, 30.1, 30.1], 30.0),
    "too large": ([10.0, 20.0, 10.0, 20.0], 15.2), "too small": ([10.0, 20.0], 14.8)}


def _beyond(gap: float, sign: bool = False) -> Answer:
    """The rows whose average is further than `gap` from the printed one."""
    def answer(table: Table) -> list[str]:
        off = {name: printed - fmean(scores)
               for name, (scores, printed) in table.items()}
        return [name for name, by in off.items()
                if (by if sign else abs(by)) > gap + 1e-9]
    return answer


@exercise(
    "ablation.averages",
    rules=(
        Rule("return a list of the rows' names.",
             lambda answer: isinstance(answer(ROUNDED), list)
             and set(answer(ROUNDED)) <= set(ROUNDED),
             lambda table: len(table)),
        Rule("10 and 20 cannot average to 15.2: rounding moves the mean by 0.05 and "
             "its print by 0.05 more, 0.1 in all.",
             lambda answer: "too large" in answer(ROUNDED), _beyond(0.5)),
        Rule("10 and 20 cannot average to 14.8 either: an error has two directions.",
             lambda answer: "too small" in answer(ROUNDED), _beyond(0.1, True)),
        Rule("30.0 is possible for scores printed as 30.0, 30.1, 30.1 and 30.1: before "
             "they were rounded, each may have been 0.05 less.",
             lambda answer: "rounded" not in answer(ROUNDED), _beyond(0.05)),
        Rule("a row whose printed average is right was accused.",
             lambda answer: answer(ROUNDED) == ["too large", "too small"]
             and answer({"fine": ROUNDED["fine"]}) == [],
             lambda table: [name for name in table if name != "rounded"]),
    ),
    hints=("Compare statistics.fmean(scores) with the printed average.",
           "Every score may be off by 0.05, so their mean too; the printed average by "
           "0.05 more. Accuse where the gap is above 0.1 (and a little, for floats)."),
)
def impossible(table: dict[str, tuple[list[float], float]]) -> list[str]:
    """Names of the rows whose printed average no rounding can explain."""
    return [name for name, (scores, printed) in table.items()
            if abs(fmean(scores) - printed) > 0.1 + 1e-9]


# --- what doubled, and what was replaced

SCORES = {("old", 1): 30.0, ("new", 1): 36.0, ("new", 2): 37.5}


@exercise(
    "ablation.split",
    rules=(
        Rule("return three numbers: matched, tokens, unmatched.",
             lambda answer: len(answer(SCORES)) == 3,
             lambda scores: (scores["new", 2] - scores["old", 1],)),
        Rule("the matched gain compares equal tokens: new 1× minus old 1×, 6.0 here. "
             "You gave what new 2× has over old 1×.",
             lambda answer: not math.isclose(answer(SCORES)[0], 7.5),
             lambda s: (s["new", 2] - s["old", 1], s["new", 2] - s["new", 1],
                        s["new", 2] - s["old", 1])),
        Rule("the matched gain is new minus old: it is above 0 when the new corpus "
             "scores more.", lambda answer: answer(SCORES)[0] > 0,
             lambda s: (s["old", 1] - s["new", 1], s["new", 2] - s["new", 1],
                        s["new", 2] - s["old", 1])),
        Rule("the order is matched, tokens, unmatched: you began with new 2× − new 1×.",
             lambda answer: not math.isclose(answer(SCORES)[0], 1.5),
             lambda s: (s["new", 2] - s["new", 1], s["new", 1] - s["old", 1],
                        s["new", 2] - s["old", 1])),
        Rule("a gain is a difference in points, not a ratio: 36 − 30 is 6.0 here.",
             lambda answer: math.isclose(answer(SCORES)[0], 6.0),
             lambda s: (s["new", 1] / s["old", 1], s["new", 2] / s["new", 1],
                        s["new", 2] / s["old", 1])),
        Rule("the gain of tokens alone holds the corpus fixed: new 2× minus new 1×, "
             "1.5 here.", lambda answer: math.isclose(answer(SCORES)[1], 1.5),
             lambda s: (s["new", 1] - s["old", 1], s["new", 2] - s["old", 1],
                        s["new", 2] - s["old", 1])),
        Rule("the unmatched gain is the sum of the other two, 7.5 here.",
             lambda answer: math.isclose(answer(SCORES)[2], 7.5),
             lambda s: (s["new", 1] - s["old", 1], s["new", 2] - s["new", 1],
                        s["new", 1] - s["old", 1])),
    ),
    hints=("Each gain is one subtraction; two of the three change a single thing.",
           "matched: the corpus changes at 1×. tokens: 1× becomes 2× on the new one. "
           "unmatched: both change."),
)
def split(scores: dict[tuple[str, int], float]) -> tuple[float, float, float]:
    """The matched gain, the gain of tokens alone, and the unmatched gain."""
    old, new, doubled = scores["old", 1], scores["new", 1], scores["new", 2]
    return new - old, doubled - new, doubled - old


# --- the interval of a few seeds

SEEDS = [3.70, 3.76, 3.64]
OTHERS = (SEEDS, [1.0, 2.0], [1.0, 5.0, 2.0, 2.0, 9.0])


def _t(errors: Answer, spread: Answer = stdev, root: bool = True) -> Answer:
    def answer(values: list[float]) -> tuple[float, float]:
        n = len(values)
        half = errors(n) * spread(values) / (math.sqrt(n) if root else 1)
        return fmean(values) - half, fmean(values) + half
    return answer


def _is(wrong: Answer) -> Answer:
    """Whether an answer is not this wrong one."""
    return lambda answer: not _same(answer(SEEDS), wrong(SEEDS))


_normal = _t(lambda n: NormalDist().inv_cdf(0.975))
_rounded_normal = _t(lambda n: 1.96)
_population, _no_root = _t(lambda n: student_t(n - 1), pstdev), _t(
    lambda n: student_t(n - 1), root=False)
_three = _t(student_t)


@exercise(
    "ablation.t_interval",
    rules=(
        Rule("return two numbers, low and high, with the mean in the middle.",
             lambda answer: len(answer(SEEDS)) == 2
             and math.isclose(sum(answer(SEEDS)) / 2, fmean(SEEDS))
             and answer(SEEDS)[0] < answer(SEEDS)[1],
             lambda values: (fmean(values), student_t(len(values) - 1))),
        Rule("1.96 errors are for many seeds: three know their own spread badly, and "
             "need 4.30, which is student_t(2).",
             lambda answer: _is(_normal)(answer) and _is(_rounded_normal)(answer),
             _rounded_normal),
        Rule("three values have two degrees of freedom: one went into their mean.",
             _is(_three), _three),
        Rule("divide the squares by n − 1: statistics.stdev, not pstdev. The mean was "
             "fitted to these values, so they lie closer to it than to the truth.",
             _is(_population), _population),
        Rule("this is the spread of single seeds; their mean is steadier by √n.",
             _is(_no_root), _no_root),
        Rule("the interval of 3.70, 3.76 and 3.64 is 3.551 to 3.849: 4.30 standard "
             "errors s / √3 to each side of 3.70.",
             lambda answer: abs(answer(SEEDS)[0] - 3.551) < 1e-3,  # 3.849: by rule 1
             lambda values: (min(values), max(values))),
        Rule("right for three seeds; the interval of two or of five is wrong.",
             lambda answer: all(_same(answer(v), _t(lambda n: student_t(n - 1))(v))
                                for v in OTHERS),
             _t(lambda n: 4.302652729911275)),
    ),
    hints=("half = student_t(n − 1) · standard error, around the mean.",
           "The standard error of a mean is stdev(values) / √n."),
)
def t_interval(values: list[float]) -> tuple[float, float]:
    """The 95 % interval of a mean over seeds, low and high."""
    n = len(values)
    half = student_t(n - 1) * stdev(values) / math.sqrt(n)
    return fmean(values) - half, fmean(values) + half


# --- pairing by seed

BEFORE = {0: 3.70, 1: 3.80, 2: 3.60}
AFTER = {2: 3.49, 0: 3.60, 1: 3.71}


def _by_order(before: dict, after: dict) -> tuple[float, float]:
    return t_interval([b - a for a, b in
                       zip(before.values(), after.values(), strict=False)])


def _unpaired(before: dict, after: dict) -> tuple[float, float]:
    gain = fmean(after.values()) - fmean(before.values())
    half = student_t(len(before) + len(after) - 2) * math.sqrt(
        stdev(before.values()) ** 2 / len(before)
        + stdev(after.values()) ** 2 / len(after))
    return gain - half, gain + half


@exercise(
    "ablation.paired",
    rules=(
        Rule("return two numbers: the low and the high end of after minus before.",
             lambda answer: len(answer(BEFORE, AFTER)) == 2
             and answer(BEFORE, AFTER)[0] < answer(BEFORE, AFTER)[1],
             lambda before, after: fmean(after.values()) - fmean(before.values())),
        Rule("the gain is after minus before, and fewer bits are below 0 here.",
             lambda answer: sum(answer(BEFORE, AFTER)) < 0,
             lambda before, after: t_interval([before[s] - after[s] for s in before])),
        Rule("these are pairs by place: `after` names its seeds in another order. Pair "
             "before[seed] with after[seed].",
             lambda answer: not _same(answer(BEFORE, AFTER), _by_order(BEFORE, AFTER)),
             _by_order),
        Rule("this interval is as wide as the seeds differ: subtract within each seed "
             "first, then what a seed does to both arms cancels.",
             lambda answer: answer(BEFORE, AFTER)[1] - answer(BEFORE, AFTER)[0] < 0.1,
             _unpaired),
        Rule("a seed that only one arm has (the other crashed) has no difference: "
             "leave it out.",
             lambda answer: _same(answer(BEFORE | {7: 9.0}, AFTER),
                                  answer(BEFORE, AFTER))
             and _same(answer(BEFORE, AFTER | {8: 9.0}), answer(BEFORE, AFTER)),
             lambda before, after: t_interval(
                 [after[s] - before.get(s, 3.6) for s in after])),
        Rule("the interval is not the t interval of the differences.",
             lambda answer: _same(answer(BEFORE, AFTER), t_interval([-.1, -.09, -.11])),
             lambda before, after: (-0.13, -0.07)),
    ),
    hints=("Make the list of after[seed] − before[seed] for the seeds of both.",
           "Then it is the interval of the last exercise, of that list."),
)
def paired(before: dict[int, float], after: dict[int, float]) -> tuple[float, float]:
    """The 95 % interval of the gain from `before` to `after`, both by seed."""
    return t_interval([after[seed] - before[seed] for seed in before if seed in after])
