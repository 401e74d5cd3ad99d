"""Every kind of task is asked and graded in one way."""

import pytest

from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.families import sample_tasks
from minicoder.tasks.item import grade_many


@pytest.mark.filterwarnings("ignore:Generated programs run")
def test_references_pass_and_answers_are_graded_in_order():
    tasks = sample_tasks("lists", 5, "train", 0)
    answers = [task.reference for task in tasks]
    answers[2] = "I do not know."
    with Sandbox(workers=2) as sandbox:
        results = grade_many(tasks, answers, sandbox)
    assert [r.verdict == "pass" for r in results] == [True, True, False, True, True]
