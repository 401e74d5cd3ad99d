"""Scores by hand: what counts, what is left out, what the page says."""

import json

import pytest

from minicoder.evaluation.infilling import Hole, Span
from minicoder.evaluation.intervals import wilson
from minicoder.evaluation.scores import examples, page, row, write_completions
from minicoder.tasks.families import sample_items
from minicoder.tasks.task import Task

ITEMS = sample_items("lists", 2, "heldout", 0)


def judged(item, draw, *verdicts, answers=()):
    answers = answers or [f"x{i}" for i in range(len(verdicts))]
    return [{"model": "m", "task_id": item.task_id, "draw": draw, "answer": answer,
             "verdict": verdict, "message": ""}
            for verdict, answer in zip(verdicts, answers, strict=True)]


def test_pass_at_k_by_hand():
    found = row("m", ITEMS, [
        *judged(ITEMS[0], "sampled", "pass", "fail", "error", "pass"),
        *judged(ITEMS[1], "sampled", *["timeout"] * 4),
        *judged(ITEMS[0], "greedy", "pass"), *judged(ITEMS[1], "greedy", "fail")])
    assert {key for key, value in found.items() if "low" in str(value)} == {
        "pass@1", "pass@4", "greedy"}      # there are no 8
    assert found["pass@1"]["value"] == pytest.approx(0.25)
    assert found["pass@4"]["value"] == 0.5 == found["greedy"]["value"]
    assert found["greedy"]["n"] == 2 and found["greedy"]["low"] == 0
    assert found["verdicts"] == {"timeout": 4, "pass": 3, "fail": 2, "error": 1}


def test_what_could_not_be_judged_is_no_failure():
    found = row("m", ITEMS, [
        *judged(ITEMS[0], "sampled", "pass", "harness_error"),
        *judged(ITEMS[1], "sampled", "fail", "pass")])
    assert found["pass@1"]["value"] == pytest.approx((1 + 0.5) / 2)
    assert found["pass@2"] == wilson(1, 1)      # only one task has two
    assert found["unjudged"] == 1
    nothing = row("m", ITEMS, judged(ITEMS[0], "greedy", "harness_error"))
    assert nothing["unjudged"] == 1 and "greedy" not in nothing    # and not 0


def test_boxed_answers_are_voted_on():
    items = sample_items("words", 1, "heldout", 0)
    right = rf"\boxed{{{items[0].answer}}}"
    found = row("m", items, judged(
        items[0], "sampled", "pass", "fail", "fail", "fail",
        answers=[right, r"\boxed{-1}", r"\boxed{-1.0}", "?"]))
    assert found["pass@4"]["value"] == 1 and found["maj@4"]["value"] == 0
    assert "maj@4" not in row("m", ITEMS, judged(ITEMS[0], "sampled", *["pass"] * 4))


def test_spans_are_compared_as_well():
    span = Span("SingleLineInfilling/1", "SingleLineInfilling",
                Hole("a = 1\n", "b = 2\n", ""), "f", "")
    found = row("m", [span], judged(span, "greedy", "pass", answers=[" b = 2"]))
    assert found["exact"]["value"] == 1
    found = row("m", [span], judged(span, "greedy", "pass", answers=["b = 1 + 1"]))
    assert found["exact"]["value"] == 0 and found["greedy"]["value"] == 1


def test_examples_are_a_few_of_each():
    items = sample_items("lists", 10, "heldout", 0)
    samples = [one for i, item in enumerate(items)
               for one in judged(item, "greedy", "pass" if i < 7 else "fail")]
    found = examples(items, samples)
    assert [len(found["solved"]), len(found["failed"])] == [5, 3]
    assert found["solved"][0]["prompt"] == items[0].question


def test_completions_are_of_one_draw_and_format(tmp_path):
    task = Task("HumanEval/0", "HumanEval", "def f(x):\n    '''x'''\n", "f",
                "    return x\n", (), "def check(candidate): pass")
    samples = [*judged(task, "sampled", "pass", answers=["    return x\n"]),
               *judged(task, "greedy", "pass")]
    write_completions(tmp_path / "a", [task], samples, chat=False)
    assert json.loads((tmp_path / "a").read_text()) == {
        "task_id": "HumanEval/0", "completion": "    return x\n"}
    whole = "Sure:\n```python\ndef f(x):\n    return x\n```"
    write_completions(tmp_path / "b", [task], judged(
        task, "greedy", "pass", answers=[whole]), chat=True)
    completion = json.loads((tmp_path / "b").read_text())["completion"]
    space = {}
    exec(task.prompt + completion, space)
    assert space["f"](7) == 7
    write_completions(tmp_path / "c", ITEMS, judged(ITEMS[0], "greedy", "pass"), True)
    assert not (tmp_path / "c").exists()


def test_the_page_shows_intervals_levels_and_what_it_depends_on():
    samples = [*judged(ITEMS[0], "greedy", "pass"), *judged(ITEMS[1], "greedy", "fail")]
    text = page({
        "kinds": {"lists": {"tasks": 2, "rows": [row("m", ITEMS, samples)]}},
        "samples": 0, "temperature": 1.0, "seed": 3, "tier": "weak",
        "limits": {"cpu_s": 3}, "versions": {"torch": "2"},
        "models": [{"name": "m", "sha256": "abc", "format": "chat"}]})
    assert "## lists: 2 tasks" in text and "| m | 50.0 (0.0 to 100.0) | 0 |" in text
    for fact in ("| seed | 3 |", "| tier of the sandbox | weak |",
                 "| limit: cpu_s | 3 |", "| checkpoint m (chat format) | abc |"):
        assert fact in text
