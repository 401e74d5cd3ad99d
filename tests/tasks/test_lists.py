"""The family "lists": what a sentence says is what the program does."""

import random
import re

import pytest

from minicoder.execution.sandbox import Job, Sandbox
from minicoder.tasks.grammar import CASES, outcome
from minicoder.tasks.lists import AGGREGATES as TABLE
from minicoder.tasks.lists import COUNTS, FAMILY

NUMBERS = {"second": 2, "third": 3, "item": 1}
CUTS = {
    r"the first (\d) of a": lambda a, k: [a[i] for i in range(len(a)) if i < k],
    r"the last (\d) of a":
        lambda a, k: [a[i] for i in range(len(a)) if i >= len(a) - k],
    r"a without its first (\d|item)":
        lambda a, k: [a[i] for i in range(len(a)) if i >= k],
    r"a without its last (\d|item)":
        lambda a, k: [a[i] for i in range(len(a)) if i < len(a) - k],
    r"every (second|third) item of a":
        lambda a, k: [a[i] for i in range(len(a)) if i % k == 0],
    r"(a)": lambda a, _: list(a)}
KEEPS = {
    r"(numbers)": lambda x, _: True, r"(even) numbers": lambda x, _: not x & 1,
    r"(odd) numbers": lambda x, _: bool(x & 1),
    r"(positive) numbers": lambda x, _: x >= 1,
    r"(negative) numbers": lambda x, _: x <= -1,
    r"numbers above (\d)": lambda x, n: x >= n + 1,
    r"numbers below (\d)": lambda x, n: x + 1 <= n,
    r"numbers except (\d)": lambda x, n: not x == n,
    r"multiples of (\d)": lambda x, n: x in range(-50 * n, 50 * n, n)}
EACH = {
    r"(squared)": lambda x, _: x ** 2, r"(negated)": lambda x, _: 0 - x,
    r"without its (sign)": lambda x, _: max(x, -x),
    r"plus (\d)": lambda x, n: n + x, r"minus (\d)": lambda x, n: x + -n,
    r"times (\d)": lambda x, n: sum([x] * n),
    r"modulo (\d)": lambda x, n: divmod(x, n)[1],
    r"floor divided by (\d)": lambda x, n: (x - x % n) // n}
AGGREGATES = {
    "sum": lambda v: sum(v), "list": lambda v: v, "sorted list": lambda v: sorted(v),
    "largest (or 0)": lambda v: sorted(v)[-1] if v else 0,
    "smallest (or 0)": lambda v: sorted(v)[0] if v else 0, "count": lambda v: len(v),
    "count of the distinct":
        lambda v: sum(x not in v[:i] for i, x in enumerate(v))}
SENTENCE = re.compile(r"Return the (count of the distinct|[a-z]+(?: list| \(or 0\))?)"
                      r"(?: of the)? ([a-z]+(?: [a-z]+)?(?: \d)?) in ([^,]+)"
                      r"(?:, each (.+))?\.")


def meaning(table: dict, words: str):
    """The function of a table that words stand for, with its number filled in."""
    for pattern, function in table.items():
        if found := re.fullmatch(pattern, words):
            word = found.group(1)
            number = NUMBERS.get(word) or (int(word) if word.isdigit() else 0)
            return lambda value: function(value, number)
    raise AssertionError(f"nobody says {words!r}")


def understand(sentence: str, a: list[int]) -> object:
    """A slow reader of the sentences, written without a look at the programs."""
    aggregate, keep, cut, each = SENTENCE.fullmatch(sentence).groups()
    keeps = meaning(KEEPS, keep)
    values = [x for x in meaning(CUTS, cut)(a) if keeps(x)]
    if each:
        values = [meaning(EACH, each)(x) for x in values]
    return AGGREGATES[aggregate](values)


def some(count: int, seed: int = 0) -> list[int]:
    return random.Random(seed).sample(range(FAMILY.size), count)


def test_the_sentence_says_what_the_program_does():
    draw = random.Random(1)
    inputs = [[draw.randint(-12, 15) for _ in range(n)] for n in range(10)] * 2
    for index in some(700) + list(range(FAMILY.size - 1360, FAMILY.size, 11)):
        if task := FAMILY.make(index):
            for a in inputs:
                assert understand(task.prompt, a) == outcome(
                    task.canonical_solution, a), task


def test_every_word_of_the_tables_is_used_and_understood():
    for table, known in ((FAMILY.slices, CUTS), (FAMILY.filters, KEEPS)):
        for choice in table:
            meaning(known, choice.words)
    for choice in FAMILY.maps[1:]:
        meaning(EACH, choice.words.removeprefix(", each "))
    assert 100_000 < FAMILY.size < 200_000


def test_the_number_of_a_program_is_its_own():
    chosen = [FAMILY.choices(index) for index in range(0, FAMILY.size, 11)]
    assert len(set(chosen)) == len(chosen)
    assert FAMILY.choices(FAMILY.size - 1)[0] == COUNTS[-1]
    assert FAMILY.choices(0)[0] == TABLE[0]


@pytest.mark.filterwarnings("ignore:")
def test_programs_and_bugs_do_in_python_what_the_tables_say():
    jobs, kinds = [], []
    for index in some(20, seed=2):
        for program in (FAMILY.program(index), *FAMILY.mistakes(index)):
            outcomes = [outcome(program, a) for a in FAMILY.probes]
            cases = [((a,), value) for a, value in zip(FAMILY.probes, outcomes,
                                                       strict=True)
                     if value != "ValueError"]
            jobs.append(Job(program, cases, "solve"))
            kinds.append(program)
    with Sandbox(allow_weak=True) as sandbox:
        results = sandbox.judge_many(jobs)
    assert len(jobs) > 200
    assert [(k, r) for k, r in zip(kinds, results, strict=True)
            if r.verdict != "pass"] == []


def test_cases_are_few_and_telling():
    missed = told = 0
    draw = random.Random(3)
    inputs = [[draw.randint(-12, 15) for _ in range(draw.randint(0, 9))]
              for _ in range(150)]
    for index in some(120, seed=4):
        task = FAMILY.make(index)
        if not task:
            continue
        assert len(task.cases) in CASES
        assert [] in [case.arguments[0] for case in task.cases]
        assert len(set(FAMILY.bugs(task))) == len(FAMILY.bugs(task)) >= 3
        for bug in FAMILY.mistakes(index):
            if any(outcome(bug, c.arguments[0]) != c.expected for c in task.cases):
                told += 1
            else:
                missed += any(
                    outcome(bug, a) != outcome(task.canonical_solution, a)
                    for a in inputs)
    assert missed / told < 0.02  # 0.6 % over 1,500 tasks and as many inputs


def test_bugs_are_one_step_from_the_program():
    program = "def solve(a):\n    return sum(x * x for x in a[-3:] if x > 4)\n"
    task = FAMILY.make(next(index for index in range(FAMILY.size)
                            if FAMILY.program(index) == program))
    assert task.prompt == (
        "Return the sum of the numbers above 4 in the last 3 of a, each squared.")
    assert {bug.split("return ")[1].strip() for bug in FAMILY.bugs(task)} == {
        "max((x * x for x in a[-3:] if x > 4), default=0)",
        "len([x * x for x in a[-3:] if x > 4])",
        "sum(x + x for x in a[-3:] if x > 4)", "sum(x for x in a[-3:] if x > 4)",
        "sum(x * x for x in a[-3:] if x >= 4)", "sum(x * x for x in a[-3:] if x < 4)",
        "sum(x * x for x in a[-3:] if x > 5)", "sum(x * x for x in a[-3:])",
        "sum(x * x for x in a[-4:] if x > 4)", "sum(x * x for x in a[:3] if x > 4)",
        "sum(x * x for x in a[:-3] if x > 4)", "sum(x * x for x in a if x > 4)"}
