"""Repair: the buggy program fails as its symptom says, the reference passes."""

from collections import Counter

import pytest

from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.answers import fenced
from minicoder.tasks.families import sample_items, split_of
from minicoder.tasks.item import grade_many

pytestmark = pytest.mark.filterwarnings("ignore:")


def test_buggy_programs_fail_as_they_are_said_to():
    items = sample_items("repair", 90, "train", 0) + sample_items(
        "repair", 20, "heldout", 0)
    with Sandbox(workers=2, allow_weak=True) as sandbox:
        right = grade_many(items, [item.reference for item in items], sandbox)
        wrong = grade_many(items, [fenced(item.buggy) for item in items], sandbox)
        empty = grade_many(items[:20], [""] * 20, sandbox)
    assert {r.verdict for r in right} == {"pass"}
    assert {r.verdict for r in wrong} <= {"fail", "error"}
    assert "pass" not in {r.verdict for r in empty}
    for item, result in zip(items, wrong, strict=True):
        call, _, said = item.symptom.partition(" returned ")
        if said and result.verdict == "fail":
            value = said.rpartition(", not ")[0]
            assert (call in result.message and value[:60] in result.message
                    ) or result.passed > 0, (item.symptom, result)
        assert item.buggy in item.question and item.symptom in item.question
        assert item.buggy != item.reference
    assert {1, 2, 3, 4} <= set(Counter(item.difficulty for item in items))
    assert {item.task.family for item in items} == {"lists", "strings", "dicts"}


def test_an_item_is_on_the_side_of_its_task():
    for item in sample_items("repair", 40, "heldout", 1):
        number = int(item.task.task_id.split("/")[1])
        assert split_of(item.task.family, number) == "heldout"
