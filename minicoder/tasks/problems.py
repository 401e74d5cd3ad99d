"""The family "contests": ten problems of graded difficulty, each for 40 values of K.

All read n and then n integers, and print one. `solve` is the reference in Python; some
have a second one in C++. `wrong` are mistakes: (part of the text, what stands there).
The dates spread the problems over two years, so that windows can be tried. Held-out
problems are the same ten with other values of K: whoever trained on this family has
seen their solutions but for a number.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import NamedTuple

from minicoder.tasks.contests import Contest
from minicoder.tasks.grammar import function

TESTS = 8
KS = range(2, 42)
MAIN = "\nimport sys\n\nprint(solve(sys.stdin.read().split()))\n"
READ = "def solve(tokens):\n    n, *a = map(int, tokens)\n"
CPP = """\
#include <algorithm>
#include <climits>
#include <iostream>
#include <map>
#include <numeric>
#include <vector>
using namespace std;

int main() {
    int n;
    cin >> n;
    vector<long long> a(n);
    for (auto &x : a) cin >> x;
%s}
"""


class Problem(NamedTuple):
    """One kind of problem; K in the texts stands for a number."""

    name: str
    difficulty: int
    asks: str
    solve: str
    wrong: tuple[tuple[str, str], ...]
    cpp: str = ""


PROBLEMS = (
    Problem("multiples", 1, "Print the sum of those that are multiples of K.", """\
    return sum(x for x in a if x % K == 0)
""", (("== 0", "!= 0"), ("sum(x", "sum(1"), ("x % K", "(x + 1) % K")), """\
    long long sum = 0;
    for (auto x : a) if (x % K == 0) sum += x;
    cout << sum << endl;
"""),
    Problem("above", 1, "Print how many are greater than K.", """\
    return sum(x > K for x in a)
""", ((">", ">="), (">", "<"))),
    Problem("window", 2, "Print the largest sum of K consecutive ones (n is at least "
            "K).", """\
    best = total = sum(a[:K])
    for i in range(K, n):
        total += a[i] - a[i - K]
        best = max(best, total)
    return best
""", (("best = total = sum(a[:K])", "best, total = 0, sum(a[:K])"), ("max", "min"),
      ("a[i - K]", "a[i - K + 1]")), """\
    long long total = accumulate(a.begin(), a.begin() + K, 0LL), best = total;
    for (int i = K; i < n; i++) {
        total += a[i] - a[i - K];
        best = max(best, total);
    }
    cout << best << endl;
"""),
    Problem("streak", 2, "Print the length of the longest run of neighbours that leave "
            "the same remainder (0 or more) when divided by K.", """\
    best = length = 0
    last = None
    for x in a:
        length = length + 1 if x % K == last else 1
        last = x % K
        best = max(best, length)
    return best
""", (("else 1", "else 0"), ("else 1", "else length"),
      ("x % K == last", "x == last"))),
    Problem("pairs", 3, "Print how many pairs of positions i < j have a sum that is a "
            "multiple of K.", """\
    seen, pairs = {}, 0
    for x in a:
        pairs += seen.get(-x % K, 0)
        seen[x % K] = seen.get(x % K, 0) + 1
    return pairs
""", (("-x % K, 0", "x % K, 0"), ("get(x % K, 0) + 1", "get(x % K, 1)"),
      ("seen, pairs = {}, 0", "seen, pairs = {0: 1}, 0"))),
    Problem("segments", 3, "Print how many runs of one or more neighbours have a sum "
            "that is a multiple of K.", """\
    counts, total, found = {0: 1}, 0, 0
    for x in a:
        total = (total + x) % K
        found += counts.get(total, 0)
        counts[total] = counts.get(total, 0) + 1
    return found
""", (("{0: 1}", "{}"), ("(total + x)", "(total - x + 1)"),
      ("found += counts.get(total, 0)", "found += total == 0")), """\
    map<long long, long long> counts = {{0, 1}};
    long long total = 0, found = 0;
    for (auto x : a) {
        total = ((total + x) % K + K) % K;
        found += counts[total]++;
    }
    cout << found << endl;
"""),
    Problem("change", 4, "These are the values of coins, of which you have one each. "
            "Print in how many ways some of the positive ones pay exactly 3 times K. "
            "Equal coins at different positions make different ways.", """\
    goal = 3 * K
    ways = [1] + [0] * goal
    for x in a:
        if x > 0:
            for total in range(goal, x - 1, -1):
                ways[total] += ways[total - x]
    return ways[goal]
""", (("range(goal, x - 1, -1)", "range(x, goal + 1)"), ("[1] + [0]", "[0] + [1]"),
      ("x - 1, -1", "x, -1"))),
    Problem("climb", 4, "Print the length of the longest choice of them, in their "
            "order, in which each is larger than the one before by at least K.", """\
    best = []
    for i, x in enumerate(a):
        best.append(1 + max(
            (best[j] for j in range(i) if x - a[j] >= K), default=0))
    return max(best)
""", (("x - a[j] >= K", "x - a[j] > 0"), ("return max(best)", "return best[-1]"),
      ("for j in range(i)", "for j in range(max(0, i - 1), i)")), """\
    vector<int> best(n, 1);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            if (a[i] - a[j] >= K) best[i] = max(best[i], best[j] + 1);
    cout << *max_element(best.begin(), best.end()) << endl;
"""),
    Problem("hops", 5, "They are heights on a line. A hop goes from a position to any "
            "other within distance 3 whose height differs by at most K. Print the "
            "fewest hops from the first position to the last, or -1.", """\
    hops, queue = {0: 0}, [0]
    for i in queue:
        for j in range(max(0, i - 3), min(n, i + 4)):
            if j not in hops and abs(a[i] - a[j]) <= K:
                hops[j] = hops[i] + 1
                queue.append(j)
    return hops.get(n - 1, -1)
""", (("<= K", "< K"), ("i + 4", "i + 3"), ("max(0, i - 3)", "i"),
      ("abs(a[i] - a[j])", "a[j] - a[i]"))),
    Problem("albums", 5, "Cut the row into pieces of neighbours. A piece costs K plus "
            "the difference of its largest and smallest number. Print the smallest "
            "total cost.", """\
    cost = [0]
    for end in range(1, n + 1):
        cost.append(min(cost[start] + K + max(a[start:end]) - min(a[start:end])
                        for start in range(end)))
    return cost[n]
""", (("+ K", ""), ("for start in range(end)", "for start in (0, end - 1)"),
      ("- min(a[start:end])", "- a[start]")), """\
    vector<long long> cost(n + 1, LLONG_MAX);
    cost[0] = 0;
    for (int start = 0; start < n; start++) {
        long long low = a[start], high = a[start];
        for (int end = start; end < n; end++) {
            low = min(low, a[end]), high = max(high, a[end]);
            cost[end + 1] = min(cost[end + 1], cost[start] + K + high - low);
        }
    }
    cout << cost[n] << endl;
"""),
)
SIZE = len(PROBLEMS) * len(KS)


def chosen(index: int) -> tuple[Problem, int]:
    """The problem of number `index` and its K."""
    return PROBLEMS[index % len(PROBLEMS)], KS[index // len(PROBLEMS)]


def behaviour(index: int) -> str:
    """Its name and K: no two of them do the same."""
    problem, k = chosen(index)
    return f"{problem.name} {k}"


def with_k(text: str, k: int) -> str:
    """A text with the number in the place of K."""
    return text.replace("K", str(k))


def inputs(index: int) -> Iterator[str]:
    """Rows of K + 2 to K + 12 numbers, near each other or far; the first ones short."""
    (_, k), draw = chosen(index), random.Random(index).random
    for test in range(TESTS):
        n, spread = k + 2 + int(draw() * 11), (1, 2, 4)[test % 3] * k + 3
        row = [int((draw() * 1.5 - 0.5) * spread) for _ in range(n)]
        yield f"{n}\n{' '.join(map(str, row))}\n"


def make(index: int) -> Contest | None:
    """Problem number `index`, None if it is dull; the reference says what is right."""
    problem, k = chosen(index)
    source = READ + with_k(problem.solve, k)
    tests = tuple((text, f"{function(source)(text.split())}\n")
                  for text in inputs(index))
    if len({output for _, output in tests}) < 3:
        return None
    day = date(2023, 1, 1) + timedelta(days=index * 730 // SIZE)
    return Contest(
        f"contests/{index}", f"Given are n and then n integers. "
        f"{with_k(problem.asks, k)}", tests, day.isoformat(), problem.difficulty,
        "minicoder", source + MAIN)


def bugs(index: int) -> list[str]:
    """Plausible wrong programs; each fails a test."""
    problem, k = chosen(index)
    found = [READ + with_k(problem.solve.replace(right, wrong, 1), k)
             for right, wrong in problem.wrong]
    rows = [text.split() for text in inputs(index)]
    right = READ + with_k(problem.solve, k)
    return [bug + MAIN for bug in found
            if any(function(bug)(row) != function(right)(row) for row in rows)]


def in_cpp(index: int) -> Contest | None:
    """The same problem with its reference in C++, if it has one."""
    (problem, k), made = chosen(index), make(index)
    return replace(made, language="cpp", solution=CPP % with_k(problem.cpp, k)
                   ) if problem.cpp and made else None
