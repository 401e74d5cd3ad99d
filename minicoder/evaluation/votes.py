"""maj@k: does the answer that most of k samples give hold? (arXiv 2203.11171)"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence


def tally(answers: Sequence[str], same: Callable[[str, str], bool]) -> list[int]:
    """Of each answer the number of its group: equal ones share the first one's.

    Compared with one member of each group, so `same` should be an equivalence.
    """
    first: list[str] = []
    groups = []
    for answer in answers:
        for number, known in enumerate(first):
            if same(known, answer):
                groups.append(number)
                break
        else:
            groups.append(len(first))
            first.append(answer)
    return groups


def maj_at_k(right: int, wrong: Sequence[int], k: int, silent: int = 0) -> float:
    """Chance that the most frequent answer among k of the samples is the right one.

    `right` samples gave the right answer, `wrong[i]` the i-th wrong one, and `silent`
    none, which is no vote. The k are drawn without replacement, as for pass@k, and a
    tie of t answers is won in 1 of t cases. maj_at_k(2, [1], 3) = 1. Exact: it counts
    the subsets by the votes of the right answer, the others having as many at most.
    Raises `ValueError` when there are fewer than k samples.
    """
    n = right + sum(wrong) + silent
    if min(right, silent, *wrong, 0) < 0 or not 1 <= k <= n:
        raise ValueError(f"need counts of 0 or more and 1 <= k <= {n}, not k={k}")
    won = 0.0
    for most in range(1, min(k, right) + 1):
        # subsets of the other samples, by how many they are and how many answers tie
        ways = {(a, 0): math.comb(silent, a) for a in range(min(silent, k - most) + 1)}
        for count in wrong:
            grown: dict[tuple[int, int], int] = defaultdict(int)
            for (drawn, ties), number in ways.items():
                for votes in range(min(count, most, k - most - drawn) + 1):
                    key = drawn + votes, ties + (votes == most)
                    grown[key] += number * math.comb(count, votes)
            ways = grown
        won += sum(math.comb(right, most) * number / (ties + 1) / math.comb(n, k)
                   for (drawn, ties), number in ways.items() if drawn == k - most)
    return won
