"""pass@k of real models on real tasks, from sampling to the file."""

import json

import pytest
from small import answers_of, memorise, new_coder, save_stage

from minicoder.alignment.feedback import Sample
from minicoder.errors import UserError
from minicoder.evaluation.code import evaluate, examples, scores, solve
from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Result
from minicoder.tasks.families import sample_tasks
from minicoder.tokenizer import Tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:Generated programs run")


@pytest.fixture(scope="module")
def tasks():
    return sample_tasks("lists", 4, "heldout", 0)


@pytest.fixture(scope="module")
def words(tasks):
    return Tokenizer.train(
        [t.prompt + "\n" + t.canonical_solution for t in tasks] * 2, 360)


@pytest.fixture(scope="module")
def models(tasks, words, tmp_path_factory):
    """Folders of a model that knows nothing, and of one that knows two tasks."""
    root = tmp_path_factory.mktemp("models")
    expert = memorise(new_coder(words), answers_of(tasks[:2], words), 150).eval()
    return (save_stage(root / "base", new_coder(words), words),
            save_stage(root / "sft", expert, words), expert)


def judged(*verdicts):
    return [Sample("t", f"p{i}", [1], f"x{i}", verdict, "", 0, 1)
            for i, verdict in enumerate(verdicts)]


def test_scores_by_hand():
    sampled = [judged("pass", "fail", "error", "pass"), judged(*["timeout"] * 4)]
    greedy = [judged("pass"), judged("fail")]
    row = scores(sampled, greedy, ks=(1, 2, 4, 8))
    assert set(row) == {"pass@1", "pass@2", "pass@4", "greedy"}    # no 8 of 4 samples
    assert row["pass@1"]["value"] == pytest.approx(0.25)
    assert row["pass@2"]["value"] == pytest.approx((1 - 1 / 6) / 2)
    assert row["pass@4"]["value"] == 0.5 == row["greedy"]["value"]
    assert row["greedy"]["n"] == 2 and row["greedy"]["low"] == 0


def test_what_could_not_be_judged_is_no_failure(models, words, tasks):
    class Broken(Sandbox):
        def judge_many(self, jobs):
            return [Result("harness_error", "the worker hangs") for _ in jobs]

    with Broken(workers=1) as sandbox, pytest.raises(
            UserError, match="could not judge.*the worker hangs"):
        solve(models[2], words, tasks[:2], sandbox, 2, 0.0, 0)


def test_examples_are_a_few_of_each():
    groups = [judged(v) for v in ["pass"] * 7 + ["fail"] * 3]
    found = examples(groups)
    assert [len(found["solved"]), len(found["failed"])] == [5, 3]
    assert set(found["failed"][0]) == {"prompt", "program", "verdict", "message"}


def test_solving_keeps_groups_together_whatever_the_batch(models, words, tasks):
    with Sandbox(workers=1) as sandbox:
        found = solve(models[2], words, tasks[:3], sandbox, 2, 0.0, 0, batch=2)
    assert [[s.task_id for s in group] for group in found] == [
        [task.task_id] * 2 for task in tasks[:3]]
    assert [all(s.right for s in group) for group in found][:2] == [True] * 2


def test_the_stage_scores_what_each_model_knows(models, tmp_path):
    out = evaluate(tmp_path / "evaluate", models[:2], names=("base", "sft"), tasks=4,
                   samples=2, temperature=0.5)
    about = json.loads((out / "scores.json").read_text())
    base, expert = about["rows"]
    assert (base["name"], expert["name"]) == ("base", "sft")
    assert base["greedy"]["value"] == base["pass@1"]["value"] == 0
    assert expert["greedy"]["value"] >= 0.5 and expert["pass@1"]["value"] > 0.25
    assert about["tier"] == "weak" and about["tasks"] == 4
    solved = about["examples"]["solved"]
    assert len(solved) == expert["greedy"]["value"] * 4
    assert all(e["verdict"] == "pass" and e["program"] for e in solved)
