"""Drawing tasks: right programs pass, bugs fail, splits are apart, seeds are fixed."""

import hashlib
import json
import random
import re
import subprocess
import sys
from collections import Counter

import pytest

from minicoder.errors import UserError
from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.families import (
    FAMILIES,
    KINDS,
    Kind,
    noisy_solution,
    sample_items,
    sample_tasks,
    split_of,
)
from minicoder.tasks.formats import to_record
from minicoder.tasks.item import Item
from minicoder.tasks.task import Case, Task

pytestmark = pytest.mark.filterwarnings("ignore:")
DIGEST = "2374317e0afed220"  # of digest(), found once with Python 3.11


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(allow_weak=True) as pool:
        yield pool


@pytest.mark.parametrize("family", FAMILIES)
def test_every_canonical_solution_passes(sandbox, family):
    tasks = sample_tasks(family, 90, "train", 1) + sample_tasks(
        family, 30, "heldout", 1)
    results = sandbox.judge_many(task.job(task.canonical_solution) for task in tasks)
    assert [(t, r) for t, r in zip(tasks, results, strict=True)
            if r.verdict != "pass"] == []
    assert all(5 <= len(task.cases) <= 8 for task in tasks)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_bug_fails(sandbox, family):
    rng = random.Random(0)
    tasks = sample_tasks(family, 80, "train", 2)
    wrong = [noisy_solution(task, rng, 0.0) for task in tasks]
    wrong += [bug for task in tasks[:10] for bug in FAMILIES[family].bugs(task)]
    of = tasks + [t for t in tasks[:10] for _ in FAMILIES[family].bugs(t)]
    results = sandbox.judge_many(t.job(w) for t, w in zip(of, wrong, strict=True))
    empty = sandbox.judge_many(t.job(w) for t in tasks[:9] for w in ("", "solve = 3"))
    assert {r.verdict for r in [*results, *empty]} <= {"fail", "error"}
    assert all(r.passed < r.total for r in results)
    assert Counter(r.verdict for r in results)["fail"] > 0.8 * len(results)


def test_the_share_of_right_programs_is_what_was_asked():
    rng, tasks = random.Random(0), sample_tasks("lists", 400, "train", 3)
    right = sum(noisy_solution(t, rng, 0.5) == t.canonical_solution for t in tasks)
    assert 160 < right < 240
    assert all(noisy_solution(t, rng, 1.0) == t.canonical_solution for t in tasks)
    assert all(noisy_solution(t, rng, 0.0) != t.canonical_solution for t in tasks)


def squeezed(text: str) -> str:
    """A text without what may differ between two copies: case, spaces, signs."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def test_splits_share_no_program_no_behaviour_and_no_near_copy():
    seen: dict[str, str] = {}  # of all families together
    for family, table in FAMILIES.items():
        for split, n in (("train", 500), ("heldout", 150)):
            for task in sample_tasks(family, n, split, 4):
                number = int(task.task_id.split("/")[1])
                for view in (task.task_id, f"{family} {table.behaviour(number)}",
                             squeezed(task.prompt),
                             "".join(task.canonical_solution.split())):
                    assert seen.setdefault(view, split) == split, task
    share = sum(split_of("lists", i) == "heldout"
                for i in range(0, 150_000, 150)) / 1000
    assert 0.07 < share < 0.13


def test_items_of_one_task_are_on_its_side(monkeypatch):
    monkeypatch.setitem(KINDS, "toy", Kind(
        400, lambda i: Task(f"toy/{i}", "toy", f"{i}", "f", f"{i}", (Case((), i),)),
        lambda i: str(i // 4)))
    monkeypatch.setitem(KINDS, "derived", Kind(
        800, KINDS["toy"].make, lambda i: ("toy", i // 2)))
    sides = [{split_of("toy", 4 * i + j) for j in range(4)} for i in range(100)]
    assert all(len(side) == 1 for side in sides) and len(set.union(*sides)) == 2
    assert len(sample_items("toy", 300, "train", 0)) == 300
    with pytest.raises(UserError, match="tasks in its split 'heldout'; 300 were"):
        sample_items("toy", 300, "heldout", 0)
    assert all(split_of("derived", i) == split_of("toy", i // 2) for i in range(800))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_items_with_a_question(kind):
    items = sample_items(kind, 15, "train", 0) + sample_items(kind, 5, "heldout", 0)
    assert len({item.task_id for item in items}) == 20
    for item in items:
        assert isinstance(item, Item) and item.family == kind
        assert item.difficulty in range(1, 6) and item.question and item.reference


def digest() -> str:
    """One hash of everything that a seed decides."""
    rng = random.Random(5)
    tasks = sample_tasks("lists", 60, "train", 7) + sample_tasks(
        "lists", 20, "heldout", 7)
    text = json.dumps([[to_record(t), noisy_solution(t, rng, 0.5)] for t in tasks])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_a_seed_gives_the_same_everywhere():
    assert digest() == DIGEST
    assert sample_tasks("lists", 5, "train", 7) == sample_tasks("lists", 5, "train", 7)
    assert sample_tasks("lists", 5, "train", 7) != sample_tasks("lists", 5, "train", 8)
    assert sample_tasks("lists", 9, "train", 7)[:5] == sample_tasks(
        "lists", 5, "train", 7)


def test_nothing_depends_on_the_hash_seed():
    code = ("import random; from minicoder.tasks.families import *\n"
            "r = random.Random(0)\n"
            "print([noisy_solution(t, r, .5) for t in sample_tasks('lists', 9, "
            "'train', 0)])")
    outputs = {subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": s},
                              capture_output=True, text=True, check=True).stdout
               for s in ("0", "1")}
    assert len(outputs) == 1 and "solve" in outputs.pop()


@pytest.mark.parametrize("call, message", [
    (lambda: sample_tasks("graphs", 1, "train", 0), "no family 'graphs'.*lists"),
    (lambda: sample_items("graphs", 1, "train", 0), "no family 'graphs'.*repair"),
    (lambda: sample_tasks("repair", 1, "train", 0), "no family 'repair'.*lists"),
    (lambda: sample_tasks("lists", 1, "test", 0), "no split 'test'.*heldout"),
])
def test_unknown_names_are_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()
