"""Our verdicts in other trainers: a real step of trl, verl's documented calls."""

import importlib
import os
import random
import threading
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from small import answers_of, memorise, new_coder

from minicoder.alignment.chat import CHAT_TEMPLATE
from minicoder.errors import UserError
from minicoder.execution.verdict import Result
from minicoder.scale import rewards
from minicoder.scale.rewards import (
    compute_score,
    compute_scores,
    rl_tasks,
    sandbox,
    task_of,
    trl_reward,
    verdicts,
)
from minicoder.tasks.families import KINDS, noisy_solution, sample_items, split_of
from minicoder.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tasks of two kinds: functions, and questions that need no program."""
    return rl_tasks(tmp_path_factory.mktemp("rl") / "tasks", ("lists", "prediction"),
                    train=6, heldout=3)


@pytest.fixture(scope="module")
def train(folder):
    return pq.read_table(folder / "train.parquet").to_pylist()


@pytest.fixture
def broken(monkeypatch):
    """A sandbox that fails at every program."""
    def fail(items, answers, sandbox):
        return [Result("harness_error", "the worker died", total=1) for _ in items]
    monkeypatch.setattr(rewards, "grade_many", fail)


# --- the file

def test_a_row_has_the_columns_of_verl_and_names_its_task(folder, train):
    # docs/preparation/prepare_data.rst of verl 0.8: five fields, a chat, a rule
    heldout = pq.read_table(folder / "heldout.parquet").to_pylist()
    assert (len(train), len(heldout)) == (12, 6)
    for split, found in (("train", train), ("heldout", heldout)):
        for row in found:
            assert list(row) == ["data_source", "prompt", "ability", "reward_model",
                                 "extra_info"]
            task = task_of(row["reward_model"]["ground_truth"])
            assert row["prompt"] == [{"role": "user", "content": task.question}]
            assert row["data_source"] == f"minicoder/{task.family}"
            assert row["reward_model"]["style"] == "rule"
            family, number = task.task_id.split("/")
            assert row["extra_info"]["split"] == split == split_of(family, int(number))
            assert 1 <= row["extra_info"]["difficulty"] <= 5
    assert [row["extra_info"]["index"] for row in train] == [*range(6)] * 2


def test_the_same_command_finds_the_file_and_another_is_refused(folder):
    made = (folder / "made_by.json").read_bytes()
    rl_tasks(folder, ("lists", "prediction"), train=6, heldout=3)
    assert (folder / "made_by.json").read_bytes() == made
    with pytest.raises(UserError, match="made with train = 6, and now 7"):
        rl_tasks(folder, ("lists", "prediction"), train=7, heldout=3)


@pytest.mark.parametrize("family", KINDS)
def test_a_name_makes_its_task_again(family):
    for item in sample_items(family, 3, "train", 5):
        assert task_of(item.task_id) == item


@pytest.mark.parametrize("name", [
    "lists/-1", "lists/9999999999", "lists/", "nothing/1", "", "lists/1/2", "lists/x"])
def test_a_name_of_no_task_is_refused(name):
    with pytest.raises(UserError, match="has no task|no family"):
        task_of(name)


def test_bad_numbers_are_refused(tmp_path):
    for settings in ({"train": 0}, {"heldout": 0}, {"families": ()}):
        with pytest.raises(UserError, match="must be 1 or more"):
            rl_tasks(tmp_path / "new", **settings)
    with pytest.raises(UserError, match="no family 'nothing'"):
        rl_tasks(tmp_path / "new", ("nothing",))
    assert not (tmp_path / "new").exists()


# --- verdicts

def test_right_and_wrong_programs_of_every_task(train):
    names = [row["reward_model"]["ground_truth"] for row in train]
    tasks = [task_of(name) for name in names]
    draw = random.Random(0)
    wrong = [noisy_solution(t, draw, 0.0) if t.family == "lists" else "I do not know."
             for t in tasks]
    assert verdicts(names, [t.reference for t in tasks]) == [1.0] * 12
    assert verdicts(names, wrong) == [0.0] * 12
    with pytest.raises(ValueError):
        verdicts(names, wrong[1:])


def test_equal_answers_to_a_task_are_judged_once(train, monkeypatch):
    judged = []

    def count(items, answers, sandbox, real=rewards.grade_many):
        judged.extend(zip(items, answers, strict=True))
        return real(items, answers, sandbox)

    monkeypatch.setattr(rewards, "grade_many", count)
    first, second = (task_of(row["reward_model"]["ground_truth"]) for row in train[:2])
    names = [first.task_id, second.task_id] * 3
    texts = [first.reference] * 6
    assert verdicts(names, texts)[::2] == [1.0] * 3 and len(judged) == 2


def test_threads_share_one_sandbox_and_a_child_has_its_own():
    found = []
    threads = [threading.Thread(target=lambda: found.append(sandbox()))
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in found}) == 1
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, b"own" if sandbox() is not found[0] else b"shared")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 9) == b"own"


# --- verl: not installed here; the calls are those of its reward managers at 0.8,
# verl/workers/reward_manager/naive.py and batch.py, and load_extern_object

def loaded(path, name):
    assert path.startswith("pkg://")
    return getattr(importlib.import_module(path.removeprefix("pkg://")), name)


def test_verl_asks_for_one_score_and_for_a_batch(train):
    one = loaded("pkg://minicoder.scale.rewards", "compute_score")
    many = loaded("pkg://minicoder.scale.rewards", "compute_scores")
    extra = train[0]["extra_info"] | {"num_turns": None, "rollout_reward_scores": {}}
    name = train[0]["reward_model"]["ground_truth"]
    for answer, score in ((task_of(name).reference, 1.0), ("pass", 0.0)):
        found = one(data_source=train[0]["data_source"], solution_str=answer,
                    ground_truth=name, extra_info=extra, reward_router_address=None)
        assert found == {"score": score, "acc": score, "harness_error": 0.0}
    batch = dict(data_sources=[row["data_source"] for row in train],
                 solution_strs=["no answer"] * len(train),
                 ground_truths=[row["reward_model"]["ground_truth"] for row in train],
                 extra_infos=[row["extra_info"] for row in train])
    assert [found["score"] for found in many(**batch)] == [0.0] * len(train)


def test_nobody_is_blamed_for_a_sandbox_that_failed(train, broken):
    columns = [row["reward_model"] for row in train]
    assert trl_reward(["pass"] * 12, columns) == [None] * 12
    assert compute_score("", "pass", columns[0]["ground_truth"]) == {
        "score": 0.0, "acc": 0.0, "harness_error": 1.0}
    assert len(compute_scores([""], ["pass"], [columns[0]["ground_truth"]])) == 1


# --- trl

@pytest.fixture(scope="module")
def policy(train, tmp_path_factory):
    """Folder of a model that writes a right program as often as a wrong one."""
    tasks = [task_of(row["reward_model"]["ground_truth"]) for row in train[:6]]
    tokenizer = Tokenizer.train([t.question + "\n" + t.reference for t in tasks] * 2,
                                380)
    bugs = [replace(t, canonical_solution=noisy_solution(t, random.Random(1), 0.0))
            for t in tasks]
    model = memorise(new_coder(tokenizer), answers_of([*tasks, *bugs], tokenizer))
    out = tmp_path_factory.mktemp("policy")
    model.save_pretrained(out, tokenizer, chat_template=CHAT_TEMPLATE)
    return out


def trained(policy, rows, out, reward):
    """One step of GRPOTrainer on transformers' model; what it logged, and the model."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    settings = trl.GRPOConfig(
        output_dir=str(out), per_device_train_batch_size=24, num_generations=4,
        max_completion_length=48, max_steps=1, learning_rate=1e-3, use_cpu=True,
        bf16=False, gradient_checkpointing=False, report_to="none", save_strategy="no",
        logging_steps=1, disable_tqdm=True, beta=0.0, seed=1)
    trainer = trl.GRPOTrainer(
        model, reward, settings, train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(policy))
    trainer.train()
    moved = any(not torch.equal(before[n], p) for n, p in model.named_parameters())
    return trainer.state.log_history[0], moved


def test_a_step_of_trl_is_rewarded_by_our_tests(policy, train, tmp_path):
    seen = []

    def reward(**given):
        seen.append((given["completions"], given["reward_model"], trl_reward(**given)))
        return seen[-1][-1]

    log, moved = trained(policy, train[:6], tmp_path, reward)
    (completions, named, found), = seen
    assert len(found) == 24 and {0.0, 1.0} == set(found)
    assert isinstance(completions[0], list)         # messages
    assert log["reward"] == pytest.approx(sum(found) / 24)
    assert moved and log["grad_norm"] > 0
    plain = [message[-1]["content"] for message in completions]
    assert trl_reward(plain, named) == found        # text, as of a prompt without roles


def test_trl_learns_nothing_from_a_sandbox_that_failed(policy, train, tmp_path, broken):
    log, moved = trained(policy, train[:6], tmp_path, trl_reward)
    assert not moved and float(log["grad_norm"]) == 0
