"""The engines get the four stages in turn; what was interrupted goes on."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from minicoder.errors import UserError
from minicoder.scale import engines
from minicoder.scale.engines import data_at_scale, local, ray, slurm, tasks_of
from minicoder.scale.recipe import Recipe
from minicoder.stages import read_json

datatrove = pytest.importorskip("datatrove", reason="the extra `scale`")
STAGES = ["filter", "unique", "order", "assemble"]


def test_two_processes_make_the_corpus_of_one_and_leave_nothing(
        recipe, plain, tmp_path):
    out = tmp_path / "corpus"
    assert data_at_scale(out, recipe, tasks=3, workers=2) == out
    for file in ("documents.parquet", "funnel.json"):
        assert (out / file).read_bytes() == (plain / file).read_bytes(), file
    assert [one.name for one in tmp_path.iterdir()] == ["corpus"]
    made_by = read_json(out / "made_by.json")
    assert made_by["stage"] == "data-at-scale"
    assert made_by["settings"] == read_json(plain / "made_by.json")["settings"]


@pytest.fixture
def interrupted(recipe, tmp_path):
    """A run that read all sources and then missed a benchmark."""
    sources = shutil.copytree(recipe.archives[0], tmp_path / "sources")
    exam = tmp_path / "exam.jsonl"
    own = replace(recipe, folders=(), archives=(sources,), pages=(),
                  benchmarks=(exam,))
    out = tmp_path / "corpus"
    with pytest.raises(UserError, match="exam.jsonl cannot be read as a benchmark"):
        data_at_scale(out, own, tasks=2, workers=1)
    assert not out.exists()
    return out, own, exam, sources


def test_it_goes_on_where_it_was_interrupted(interrupted, recipe, tmp_path):
    out, own, exam, sources = interrupted
    exam.write_bytes(recipe.benchmarks[0].read_bytes())

    def written():
        return {file.name: file.stat().st_mtime_ns
                for file in (tasks_of(out) / "filter").iterdir()}

    read = written()
    for file in sources.iterdir():      # it is listed again, and not read again
        file.write_bytes(b"")
    run = local(out, own, 2, 1)
    run.run()
    assert written() == read and len(read) == 2
    kept = read_json(out / "funnel.json")["kept"]["code"]
    assert kept["documents"] >= 8
    # finished: the same settings find it, others are refused
    made = (out / "made_by.json").read_bytes()
    shutil.rmtree(tasks_of(out))
    shutil.rmtree(sources)
    data_at_scale(out, own, tasks=5, workers=1)
    assert (out / "made_by.json").read_bytes() == made
    assert not tasks_of(out).exists()
    with pytest.raises(UserError, match="made with rules = 'all', and now 'weak'"):
        data_at_scale(out, replace(own, rules="weak"), workers=1)


def test_what_others_have_in_the_folder_of_tasks_stays(recipe, plain, tmp_path):
    for out in (tmp_path / "new", shutil.copytree(plain, tmp_path / "finished")):
        mine = tasks_of(out) / "thesis.txt"
        mine.parent.mkdir()
        mine.write_text("years of work")
        with pytest.raises(UserError, match="holds thesis.txt, which no task"):
            data_at_scale(out, recipe, tasks=2)
        assert mine.read_text() == "years of work"


def test_tasks_of_other_settings_are_refused(interrupted):
    out, own, *_ = interrupted
    with pytest.raises(UserError, match="begun with dedup = 'both', and now 'file'"):
        data_at_scale(out, replace(own, dedup="file"), tasks=2)
    with pytest.raises(UserError, match="begun with tasks = 2, and now 3"):
        data_at_scale(out, own, tasks=3)


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """A program of that name that keeps what it is given, and numbers it."""
    queue, path = tmp_path / "queue", tmp_path / "bin"
    queue.mkdir()
    path.mkdir()
    (path / "sbatch").write_text(
        f'#!/bin/sh\nn=$(ls {queue} | wc -l)\n'
        f'for last; do :; done\n{{ echo "# $@"; cat "$last"; }} > {queue}/$((n + 1))\n'
        'echo "Submitted batch job $((n + 1))"\n')
    (path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(path), prepend=os.pathsep)
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    return queue


def test_slurm_is_given_four_arrays_that_wait_for_one_another(
        sbatch, recipe, tmp_path):
    out = tmp_path / "corpus"
    data_at_scale(out, recipe, "slurm", tasks=6, workers=3, partition="cpu", hours=5,
                  cpus=2, memory=7)
    jobs = [(sbatch / str(number)).read_text() for number in range(1, 9)]
    assert len(list(sbatch.iterdir())) == 8     # and four that add up the counts
    for place, name in enumerate(STAGES):
        job, merge = jobs[2 * place:2 * place + 2]
        given = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", job, re.MULTILINE))
        array = "0-5%3" if name in ("filter", "order") else "0-0%1"
        assert given.items() >= {
            "partition": "cpu", "time": "5:00:00", "cpus-per-task": "2",
            "mem-per-cpu": "7G", "array": array,
            "job-name": f"corpus-{name}"}.items()
        assert "qos" not in given
        before = re.findall(r"--dependency=(\S+)", job.splitlines()[0])
        assert before == ([f"afterok:{2 * place - 1}"] if place else [])
        logs = tasks_of(out) / "logs" / name
        assert f"launch_pickled_pipeline {logs / 'executor.pik'}\n" in job
        assert (logs / "executor.pik").exists()
        assert f"#SBATCH --dependency=afterok:{2 * place + 1}\n" in merge
        assert json.loads((logs / "ranks_to_run.json").read_text()) == list(
            range(6 if name in ("filter", "order") else 1))
    assert not out.exists()


def test_what_an_engine_has_not_finished_is_said_and_kept(
        recipe, tmp_path, monkeypatch):
    class Failing:
        def run(self):
            tasks_of(tmp_path / "corpus").mkdir()

    monkeypatch.setattr(engines, "find_spec", lambda name: True)
    monkeypatch.setattr(engines, "ray", lambda *settings: Failing())
    with pytest.raises(UserError, match="was not made.*corpus.tasks/logs"):
        data_at_scale(tmp_path / "corpus", recipe, "ray")
    assert tasks_of(tmp_path / "corpus").exists()


def test_slurm_and_ray_are_told_the_same(recipe, tmp_path):
    last = slurm(tmp_path / "a", recipe, 4, 2, "cpu", 1, 2, 3)
    other = ray(tmp_path / "b", recipe, 4, 2, 1, 2, 3)
    found = []
    while last:
        assert (last.time, other.time) == ("1:00:00", 3600)
        for name in ("tasks", "workers", "cpus_per_task", "mem_per_cpu_gb"):
            assert getattr(last, name) == getattr(other, name), name
        assert last.skip_completed == other.skip_completed
        found.append(Path(last.logging_dir.path).name)
        last, other = last.depends, other.depends
    assert found[::-1] == STAGES and other is None


def test_bad_input_is_named(recipe, tmp_path, monkeypatch):
    out = tmp_path / "corpus"
    for settings, message in (
            ({"tasks": 0}, "--tasks 0"), ({"workers": 0}, "--workers 0"),
            ({"engine": "slurm", "partition": ""}, "needs --partition"),
            ({"engine": "slurm", "partition": "cpu"}, "sbatch")):
        monkeypatch.setattr(shutil, "which", lambda name: None)
        with pytest.raises(UserError, match=message):
            data_at_scale(out, recipe, **settings)
    with pytest.raises(UserError, match="no is not a folder"):
        data_at_scale(out, Recipe(archives=(tmp_path / "no",)))
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'minicoder\[scale\]'"):
        data_at_scale(out, recipe)
    with pytest.raises(UserError, match="needs Ray"):
        data_at_scale(out, recipe, "ray")
    assert list(tmp_path.iterdir()) == []
