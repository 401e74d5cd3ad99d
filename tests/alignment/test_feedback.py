"""Compiler feedback: programs of a real model are really run."""

import json
from collections import Counter
from dataclasses import asdict

import pytest
import torch
from small import answers_of, memorise, new_coder

from minicoder.alignment import feedback as module
from minicoder.alignment.feedback import (
    Sample,
    feedback,
    hide,
    one_of_each,
    pairs,
    read_samples,
    sample_and_judge,
)
from minicoder.errors import UserError
from minicoder.execution.verdict import VERDICTS

pytestmark = pytest.mark.filterwarnings("ignore:Generated programs run")


def test_right_programs_pass_and_others_do_not(coder, tokenizer, tasks, sandbox):
    found = sample_and_judge(coder, tokenizer, tasks, sandbox, temperature=0.0)
    assert [s.task_id for s in found] == [t.task_id for t in tasks]
    for sample, task in zip(found[:3], tasks, strict=False):
        assert sample.program == task.canonical_solution.strip() + "\n"
        assert sample.right and sample.passed == sample.total == len(task.cases)
        assert sample.tokens[-1] == tokenizer.eos
    assert not all(s.right for s in found[3:])


def test_a_wrong_program_gets_the_verdict_that_it_deserves(tokenizer, tasks, sandbox):
    broken = {"syntax_error": "def solve(a) return", "error": "def solve(a): return b",
              "fail": "def solve(a): return 'no'", "timeout": "while True: pass"}
    prompts = [answers_of([task], tokenizer)[0][0] for task in tasks]
    pairs = [(prompt, [*tokenizer.encode(" " + program), tokenizer.eos])
             for prompt, program in zip(prompts, broken.values(), strict=False)]
    found = sample_and_judge(memorise(new_coder(tokenizer), pairs), tokenizer,
                             tasks[:4], sandbox, temperature=0.0)
    assert [s.verdict for s in found] == list(broken)
    assert all(s.message and not s.right and not s.passed for s in found)
    assert "line 1" in found[0].message and "NameError" in found[1].message


def test_samples_stand_side_by_side_and_follow_the_seed(
        coder, tokenizer, tasks, sandbox):
    def draw(seed):
        return sample_and_judge(coder, tokenizer, tasks[2:5], sandbox, 3, 1.5, 48,
                                torch.Generator().manual_seed(seed))
    first = draw(0)
    assert [s.task_id for s in first] == [t.task_id for t in tasks[2:5] for _ in "abc"]
    assert first == draw(0) != draw(1)
    assert len({s.program for s in first}) > 4


def test_the_stage_keeps_what_running_showed(judged, tasks, sandbox):
    about = json.loads((judged / "feedback.json").read_text())
    samples = read_samples(judged)
    assert len(samples) == 18 == sum(about["verdicts"].values())
    assert about["verdicts"] == Counter(s.verdict for s in samples)
    assert set(about["verdicts"]) <= set(VERDICTS) and about["tier"] == sandbox.tier
    assert 0 < about["verdicts"]["pass"] < 18
    by_id = {task.task_id: task for task in tasks}
    assert {s.task_id for s in samples} == set(by_id)
    for sample in samples[::5]:     # the verdict can be had again from what was kept
        task = by_id[sample.task_id]
        again = sandbox.judge(sample.program, task.cases, task.entry_point)
        assert (again.verdict, again.passed) == (sample.verdict, sample.passed)


def test_examples_show_every_verdict(judged):
    samples, about = (read_samples(judged),
                      json.loads((judged / "feedback.json").read_text()))
    shown = Counter(example["verdict"] for example in about["examples"])
    assert shown == {v: min(2, n) for v, n in about["verdicts"].items()}
    assert about["examples"] == one_of_each(samples)


def test_samples_survive_the_file(tmp_path):
    sample = Sample("lists/1", "a\u2028b", [1, 2], "x = '\n\u2028'\n", "fail", "no",
                    1, 5)
    (tmp_path / "samples.jsonl").write_text(json.dumps(asdict(sample)) + "\n")
    assert read_samples(tmp_path) == [sample]


def sample(task_id, program, verdict):
    return Sample(task_id, "", [1], program, verdict, "", 0, 1)


def test_pairs_are_of_one_prompt_and_count_a_program_once():
    found = [sample("a/1", "x", "pass"), sample("a/1", "y", "fail"),
             sample("a/1", "x", "pass"), sample("a/1", "z", "timeout"),
             sample("a/1", "w", "harness_error"), sample("a/2", "x", "pass"),
             sample("a/3", "x", "fail"), sample("a/3", "u", "pass")]
    assert [(a.task_id, a.program, b.program) for a, b in pairs(found)] == [
        ("a/1", "x", "y"), ("a/1", "x", "z"), ("a/3", "u", "x")]


def test_hidden_tests_are_the_ones_that_are_not_shown(tasks):
    for task in tasks:
        shown, rest = hide(task, 2, 0)
        assert len(shown.cases) == 2 and len(rest.cases) == len(task.cases) - 2
        assert sorted(map(repr, shown.cases + rest.cases)) == sorted(
            map(repr, task.cases))
    drawn = [[hide(t, 1, seed)[0].cases[0] for t in tasks] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(UserError, match="--visible-tests 9 leaves nothing to hide: "
                                        f"{tasks[0].task_id} has"):
        hide(tasks[0], 9, 0)


def test_what_hidden_tests_say_is_kept_apart(taught, tasks, sandbox, tmp_path):
    out = feedback(tmp_path / "feedback", taught, prompts=6, samples=3, batch=4,
                   visible_tests=1, allow_weak_sandbox=True)
    samples = read_samples(out)
    hidden = [json.loads(line) for line in (out / "hidden.jsonl").open()]
    assert all(s.total == 1 for s in samples) and len(hidden) == 18
    by_id = {task.task_id: task for task in tasks}
    for s, found in list(zip(samples, hidden, strict=True))[::4]:
        rest = hide(by_id[s.task_id], 1, 0)[1]
        assert found == {"task_id": s.task_id, "total": len(rest.cases)} | {
            k: getattr(rest.grade(s.program, sandbox), k) for k in ("verdict", "passed")
        }
    assert "hidden" not in (out / "samples.jsonl").read_text()


def test_a_killed_stage_goes_on_and_ends_with_the_same_bytes(
        taught, tmp_path, monkeypatch):
    settings = dict(prompts=6, samples=3, batch=2, visible_tests=1, seed=3,
                    allow_weak_sandbox=True)
    whole = feedback(tmp_path / "whole", taught, **settings)
    calls = []

    def dying(path, records):
        calls.append(path)
        if len(calls) < 4:
            return append(path, records)
        append(path, records[:5])   # all but the last line of the second batch
        with path.open("ab") as file:
            file.write(b'{"task_id": "lists/9", "pro')
        raise KeyboardInterrupt

    append = module.append
    monkeypatch.setattr(module, "append", dying)
    with pytest.raises(KeyboardInterrupt):
        feedback(tmp_path / "killed", taught, **settings)
    monkeypatch.setattr(module, "append", append)
    drawn = []
    monkeypatch.setattr(module, "sample_and_judge", lambda *given: drawn.append(
        len(given[2])) or sample_and_judge(*given))
    again = feedback(tmp_path / "killed", taught, **settings)
    assert drawn == [2, 2]          # the first batch was not done a second time
    for name in ("samples.jsonl", "hidden.jsonl", "feedback.json"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()
