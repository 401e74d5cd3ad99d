"""Compiler feedback: programs of a real model are really run."""

import json
from collections import Counter
from dataclasses import asdict

import pytest
import torch
from small import answers_of, memorise, new_coder

from minicoder.alignment.feedback import (
    Sample,
    one_of_each,
    read_samples,
    sample_and_judge,
)
from minicoder.execution.sandbox import Job
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
    assert set(about["verdicts"]) <= set(VERDICTS) and about["tier"] == "weak"
    assert 0 < about["verdicts"]["pass"] < 18
    by_id = {task.task_id: task for task in tasks}
    assert {s.task_id for s in samples} == set(by_id)
    for sample in samples[::5]:     # the verdict can be had again from what was kept
        task = by_id[sample.task_id]
        again = sandbox.judge(Job(sample.program, task.entry_point, task.cases))
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
