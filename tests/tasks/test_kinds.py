"""What holds for every kind of item that is no function task."""

from collections import Counter

import pytest

from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.families import KINDS, sample_items
from minicoder.tasks.item import Item, grade_many

pytestmark = pytest.mark.filterwarnings("ignore:")
NAMES = ("choice", "crossfile", "edits", "prediction", "repositories", "words")


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=2, allow_weak=True) as pool:
        yield pool


@pytest.mark.parametrize("name", NAMES)
def test_references_pass_and_others_do_not(sandbox, name):
    items = (sample_items(name, 50, "train", 0)
             + sample_items(name, 15, "heldout", 0))
    assert all(isinstance(item, Item) and item.family == name for item in items)
    assert {item.task_id for item in items} == {f"{name}/{i.task_id.split('/')[1]}"
                                                for i in items}
    results = grade_many(items, [item.reference for item in items], sandbox)
    assert [(i.question, r) for i, r in zip(items, results, strict=True)
            if r.verdict != "pass"] == []
    count = Counter(item.difficulty for item in items)
    assert set(count) == {1, 2, 3, 4, 5} and min(count.values()) >= 5
    sample = items[:12]
    for answer in ("", "I do not know.", "0", items[-1].question):
        results = grade_many(sample, [answer] * len(sample), sandbox)
        assert "pass" not in {result.verdict for result in results}
        assert "harness_error" not in {result.verdict for result in results}


@pytest.mark.parametrize("name", NAMES)
def test_no_question_is_on_both_sides(name):
    train, held_out = (sample_items(name, n, split, 1)
                       for n, split in ((120, "train"), (15, "heldout")))
    for part in (train, held_out):
        assert len({item.question for item in part}) == len(part)
    assert not {i.question for i in train} & {i.question for i in held_out}
    does = KINDS[name].behaviour
    train_does, held_does = ({does(int(item.task_id.split("/")[1])) for item in part}
                             for part in (train, held_out))
    assert not train_does & held_does


@pytest.mark.parametrize("name", ["edits", "repositories"])
def test_no_part_of_a_training_item_is_held_out(name):
    sides = {split: [KINDS[name].behaviour(int(item.task_id.split("/")[1]))
                     for item in sample_items(name, n, split, 2)]
             for n, split in ((120, "train"), (30, "heldout"))}
    trained = frozenset().union(*sides["train"])
    assert any(len(parts) > 1 for parts in sides["train"])
    assert all(parts - trained for parts in sides["heldout"])
