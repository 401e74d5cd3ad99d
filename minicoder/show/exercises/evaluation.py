"""The exercises of the lesson on evaluation (notebook 12), and what they catch."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations, product
from statistics import fmean
from typing import Any

from minicoder.show.check import Rule, exercise

Answer = Callable[..., Any]


def _near(first: Any, second: Any) -> bool:
    """Whether two numbers are the same, up to rounding."""
    return math.isclose(float(first), float(second), rel_tol=1e-6, abs_tol=1e-9)


def _refuses(answer: Answer, *args: Any) -> bool:
    """Whether an answer raises ValueError on these arguments."""
    try:
        answer(*args)
    except ValueError:
        return True
    return False


def _not(message: str, args: tuple, wrong: Answer) -> Rule:
    """The rule that an answer must not give, on `args`, the number that `wrong` gives.
    """
    return Rule(message, lambda answer: not _near(answer(*args), wrong(*args)), wrong)


@exercise(
    "evaluation.pass_at_k",
    rules=(
        _not("this is 1 − (1 − c/n)^k: it draws the same sample twice, and is too low. "
             "The k samples are drawn without putting them back.", (10, 3, 5),
             lambda n, c, k: 1 - (1 - c / n) ** k),
        _not("k tries are not k times as good: some of the k would succeed together.",
             (10, 3, 2), lambda n, c, k: min(1.0, k * c / n)),
        _not("C(c, k) / C(n, k) is the chance that *all* k samples are right.",
             (10, 3, 2), lambda n, c, k: math.comb(c, k) / math.comb(n, k)),
        _not("C(n − c, k) / C(n, k) is the chance that *none* is right.", (10, 3, 2),
             lambda n, c, k: math.comb(n - c, k) / math.comb(n, k)),
        Rule("pass@1 is the share of right samples: 0.3 for 3 of 10.",
             lambda answer: _near(answer(10, 3, 1), 0.3),
             lambda n, c, k: 1 - math.comb(n - c, k) // math.comb(n, k)),
        Rule("known numbers must come out: 11/12 for (10, 3, 5), 0.956656 for "
             "(20, 4, 10).",  # small enough to write the choices down
             lambda answer: _near(answer(10, 3, 5), 11 / 12)
             and abs(answer(20, 4, 10) - 0.956656) < 1e-6,
             lambda n, c, k: 1 - (1 - c / n) * (1 - c / (n - 1 or 1)) ** (k - 1)),
        Rule("with fewer than k wrong samples, every choice of k holds a right one: 1.",
             lambda answer: _near(answer(5, 3, 3), 1) and _near(answer(5, 5, 1), 1),
             lambda n, c, k: 1 - math.comb(n - c, k) / math.comb(n, k)
             if n - c >= k else 0.0),
        Rule("no right sample: 0, also where k is all of n (tried: 5, 0, 5).",
             lambda answer: _near(answer(5, 0, 5), 0),
             lambda n, c, k: 1.0 if n - c <= k else
             1 - math.comb(n - c, k) / math.comb(n, k)),
        Rule("one sample cannot say what ten would do: raise ValueError for k > n.",
             lambda answer: _refuses(answer, 1, 1, 10) and _refuses(answer, 1, 0, 10),
             lambda n, c, k: 1 - math.comb(n - c, k) / math.comb(n, k) if k <= n
             else 1.0),
    ),
    hints=("Of all C(n, k) choices, C(n − c, k) hold wrong samples only.",
           "math.comb(a, k) is 0 when a < k; only k > n needs a line of its own."),
)
def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that k of n samples, c of them right, hold a right one.

    Raises ValueError for k > n: one sample cannot say what ten would do.
    """
    if k > n:
        raise ValueError(f"{n} samples cannot say what {k} would do")
    return 1 - math.comb(n - c, k) / math.comb(n, k)


def _vote(won: Answer, draws: Answer = combinations) -> Answer:
    """maj@k, right unless a part is replaced: `won` judges the votes of one choice."""
    def answer(answers: Sequence[str], right: str, k: int) -> float:
        return fmean(won(Counter(chosen), right, k) for chosen in draws(answers, k))
    return answer


def _shared(votes: Counter, right: str, k: int) -> float:
    """A tie of t answers is won in 1 of t cases."""
    best = [one for one, count in votes.items() if count == max(votes.values())]
    return (right in best) / len(best)


VOTES = (["1", "1", "2", "2", "3"], "1", 3)
FOUR = (*VOTES[:2], 4)


@exercise(
    "evaluation.maj_at_k",
    rules=(
        _not("this is pass@k: it knows the right answer, a vote does not.", VOTES,
             _vote(lambda votes, right, k: float(right in votes))),
        _not("you let all samples vote. Average over every choice of k.", VOTES,
             lambda answers, right, k: _shared(Counter(answers), right, k)),
        _not("samples are drawn without putting them back.", VOTES,
             _vote(_shared, lambda answers, k: product(answers, repeat=k))),
        _not("the most frequent answer wins; it needs no half of the votes.", FOUR,
             _vote(lambda votes, right, k: float(2 * votes[right] > k))),
        Rule("the order of the answers must not count: most_common(1) gives a tie to "
             "the one that came first, and random draws hang on luck: take them all.",
             lambda answer: _near(answer(*VOTES),
                                  answer(VOTES[0][::-1], *VOTES[1:])),
             _vote(lambda votes, right, k: float(votes.most_common(1)[0][0] == right))),
        _not("a tie of t answers is won in 1 of t cases, not always.", VOTES,
             _vote(lambda votes, right, k: float(
                 votes[right] == max(votes.values())))),
        _not("a tie of t answers is won in 1 of t cases, not never.", FOUR,
             _vote(lambda votes, right, k: float(_shared(votes, right, k) == 1))),
        Rule("t counts the answers that tie, not all that were given: 1, 1, 2, 2, 3 "
             "give 1/2 with k = 5 (and 13/30 with k = 3).",
             lambda answer: _near(answer(*VOTES), 13 / 30)
             and _near(answer(*VOTES[:2], 5), 1 / 2),
             _vote(lambda votes, right, k: (
                 votes[right] == max(votes.values())) / (
                     len(votes) if _shared(votes, right, k) < 1 else 1))),
    ),
    hints=("itertools.combinations(answers, k) gives every choice; Counter counts.",
           "Each choice is worth 0, or 1 / (how many answers have the most votes)."),
)
def maj_at_k(answers: Sequence[str], right: str, k: int) -> float:
    """Chance that the most frequent of k of these answers is the right one."""
    worth = []
    for chosen in combinations(answers, k):
        votes = Counter(chosen)
        best = [one for one, count in votes.items() if count == max(votes.values())]
        worth.append((right in best) / len(best))
    return sum(worth) / len(worth)


def _ranked(*worths: Answer) -> Answer:
    """The two best options, each by what an option's log-probabilities are worth."""
    def answer(log_probs: Sequence[Sequence[float]]) -> tuple[int, ...]:
        return tuple(max(range(len(log_probs)), key=lambda i: worth(log_probs[i]))
                     for worth in worths)
    return answer


OPTIONS = [[-1.6], [-0.7] * 3, [-2.0, -0.1], [-5.0] * 2]
# sums     -1.6     -2.1          -2.1          -10.0       the first wins
# means    -1.6     -0.7          -1.05         -5.0        the second


def _best(answer: Answer) -> tuple[int, ...]:
    """What an answer finds among `OPTIONS`."""
    return tuple(answer(OPTIONS))


@exercise(
    "evaluation.two_scorers",
    rules=(
        Rule("give two numbers of options: the likeliest, then the least perplexing.",
             lambda answer: len(_best(answer)) == 2, _ranked(sum)),
        Rule("give numbers of options, counted from 0 as in Python, not letters.",
             lambda answer: all(one in range(4) for one in _best(answer))
             and tuple(answer([[-3.0], [-1.0], [-2.0]])) != (2, 2),
             lambda log_probs: [1 + i for i in two_scorers(log_probs)]),
        Rule("log-probabilities are negative: the *highest* is the likeliest, and the "
             "*lowest* perplexity is the best.",
             lambda answer: 3 not in _best(answer),
             _ranked(sum, lambda x: -fmean(x))),
        Rule("all tokens of an option count, not the first alone.",
             lambda answer: tuple(answer([[-0.1, -9.0], [-0.5, -0.5]])) == (1, 1),
             _ranked(lambda x: x[0], lambda x: x[0])),
        Rule("both of yours are the sum. Perplexity is exp(−mean over the tokens).",
             lambda answer: _best(answer) != (0, 0), _ranked(sum, sum)),
        Rule("both of yours are the mean. A text's probability is the *sum* of its "
             "tokens' logarithms.",
             lambda answer: _best(answer) != (1, 1), _ranked(fmean, fmean)),
        Rule("the two are exchanged: probability first, perplexity second.",
             lambda answer: _best(answer) != (1, 0), _ranked(fmean, sum)),
        Rule("the mean is over logarithms, not over probabilities (tried: −0.7 three "
             "times against −2.0 and −0.1).",
             lambda answer: _best(answer) == (0, 1),
             _ranked(sum, lambda x: fmean(map(math.exp, x)))),
    ),
    hints=("ln P(option) is the sum of ln P(token | all before it).",
           "The lowest perplexity is the highest mean: sum(x) / len(x).",
           "max(range(len(log_probs)), key=…) gives the number of the best."),
)
def two_scorers(log_probs: Sequence[Sequence[float]]) -> tuple[int, int]:
    """The option of the highest probability, and that of the lowest perplexity."""
    options = range(len(log_probs))
    return (max(options, key=lambda i: sum(log_probs[i])),
            max(options, key=lambda i: sum(log_probs[i]) / len(log_probs[i])))


def _leaks(words: Answer = lambda text: re.findall(r"\w+", text.lower()),
           size: Answer = lambda n: min(n, 10), least: int = 3,
           found: Answer = lambda exam, read: not exam.isdisjoint(read)) -> Answer:
    """The rule of n-grams, right unless a part is replaced."""
    def answer(document: str, benchmark: str) -> bool:
        exam, read = words(benchmark), words(document)
        n = size(len(exam))
        if len(exam) < least:
            return False
        return found(*({tuple(part[i:i + n]) for i in range(len(part) - n + 1)}
                       for part in (exam, read)))
    return answer


EXAM = ("Return the second largest of the different numbers in a list, or None if "
        "there is no such number.")
TEN = "the second largest of the different numbers in a list"
NINE = "the second largest of the different numbers in a"


@exercise(
    "evaluation.leaks",
    rules=(
        Rule("a copy in other line breaks, case and quotes is still a copy: compare "
             "words, `\\w+` in lower case.",
             lambda answer: bool(answer(
                 "x = 1\n# RETURN the 'second'\n#   largest of the different "
                 "numbers, in a LIST or\n# None if there is no such number\n", EXAM)),
             lambda document, benchmark: benchmark in document),
        Rule("ten words of the exam are enough; the whole of it need not be there.",
             lambda answer: bool(answer(f"We take {TEN}.", EXAM)),
             _leaks(found=lambda exam, read: exam <= read)),
        Rule("nine words in a row are not ten: that document stays.",
             lambda answer: not answer(f"We take {NINE} tuple.", EXAM),
             _leaks(size=lambda n: min(n, 9))),
        Rule("the ten words must stand in a row and in order; a bag of words is in "
             "every long document.",
             lambda answer: not answer(" ".join(reversed(EXAM.split())), EXAM),
             _leaks(found=lambda exam, read: len(
                 {w for gram in exam for w in gram}
                 & {w for gram in read for w in gram}) >= 9)),
        Rule("an exam of 3 to 9 words is looked for as a whole.",
             lambda answer: bool(answer("# sum of all squares, fast", "Sum of all "
                                        "squares")),
             _leaks(size=lambda n: 10)),
        Rule("of a short exam, too, all words must be there: three of four are none.",
             lambda answer: not answer("the sum of all primes", "Sum of all squares"),
             _leaks(size=lambda n: 10 if n >= 10 else 3)),
        Rule("an exam of one or two words is never looked for: it is everywhere.",
             lambda answer: not answer("return None", "return None"), _leaks(least=1)),
        Rule("a name is one word, `_` and all: `\\w+`, not `[a-z]+`.",
             lambda answer: not answer("take the sum of squares",
                                       "Take the sum_of_squares"),
             _leaks(words=lambda text: re.findall(r"[a-z0-9]+", text.lower()))),
        Rule("a word is a whole word: `a list` is not in `a listing`.",
             lambda answer: not answer(f"We take {NINE} listing.", EXAM),
             _leaks(found=lambda exam, read: any(
                 " ".join(one) in " ".join(other) for one in exam for other in read))),
    ),
    hints=("words = re.findall(r\"\\w+\", text.lower())",
           "size = min(words of the benchmark, 10); below 3 nothing is looked for.",
           "Two sets of tuples of `size` words in a row: do they share one?"),
)
def leaks(document: str, benchmark: str) -> bool:
    """Whether a document shares a 10-gram of words with a benchmark's text."""
    exam, read = (re.findall(r"\w+", text.lower()) for text in (benchmark, document))
    size = min(len(exam), 10)
    if size < 3:
        return False
    grams = [{tuple(words[i:i + size]) for i in range(len(words) - size + 1)}
             for words in (exam, read)]
    return not grams[0].isdisjoint(grams[1])
