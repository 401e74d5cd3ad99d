"""Whatever the number of tasks, the steps make the corpus of one process."""

from dataclasses import asdict, replace

import pytest

from minicoder.data.corpus import read_rows
from minicoder.data.sources import Document, Dropped
from minicoder.stages import read_json

pytest.importorskip("datatrove", reason="the extra `scale`")

import datatrove.executor.local as engine  # noqa: E402

from minicoder.scale import steps  # noqa: E402
from minicoder.scale.engines import pipeline, tasks_of  # noqa: E402
from minicoder.scale.recipe import Recipe  # noqa: E402


def run(out, recipe, tasks):
    """All stages in this process, and the counts of the removed that the engine has."""
    removed = {}
    for name, shares, work in pipeline(out, recipe, tasks):
        logs = tasks_of(out) / "logs" / name
        stats = engine.LocalPipelineExecutor(
            work, tasks=shares, workers=1, logging_dir=str(logs)).run()
        assert stats.to_json() == (logs / "stats.json").read_text()
        for step in stats.stats:
            removed |= {label: int(counted.total) for label, counted
                        in step.stats.items() if label.startswith("removed")}
    return removed


@pytest.mark.parametrize("tasks", [1, 3, 7, 40])
def test_any_number_of_tasks_makes_the_bytes_of_one_process(
        tasks, recipe, plain, tmp_path):
    out = tmp_path / "corpus"
    counts = run(out, recipe, tasks)
    for file in ("documents.parquet", "funnel.json"):
        assert (out / file).read_bytes() == (plain / file).read_bytes(), file
    report = read_json(plain / "funnel.json")
    gone = {rule["rule"]: rule["documents_removed"] for rule in report["rules"]}
    for rule in ("damaged", "vendored", "generated", "longest line", "syntax",
                 "JSON, YAML size", "exact duplicate", "near duplicate (repository)",
                 "near duplicate (file)", "contamination"):
        assert gone[rule], f"the sources have nothing for the rule {rule}"
    assert counts == {
        f"removed{unit}: {rule['rule']}": rule[f"{key}_removed"]
        for rule in report["rules"] if rule["documents_removed"]
        for unit, key in (("", "documents"), (" bytes", "bytes"))}


def test_repositories_of_one_origin_stay_together_where_shares_meet(
        recipe, plain, tmp_path):
    tasks = len(recipe.sources())       # one source for each task
    run(tmp_path / "corpus", recipe, tasks)
    work = tasks_of(tmp_path / "corpus")

    def holders(stage):
        return [file.name for file in sorted((work / stage).iterdir())
                if any(row["origin"] == "same-1.0" for row in rows(file))]

    assert len(holders("filter")) == 2 and len(holders("order")) == 1
    assert holders("unique") == holders("order") == holders("filter")[:1]
    kept = [one for one in read_rows(plain / "documents.parquet", "train")
            if one.origin == "same-1.0"]
    assert len({one.sample for one in kept if one.sample}) == 2


def rows(file):
    with steps.pq.ParquetFile(file) as opened:
        return opened.read().to_pylist()


def test_a_document_goes_through_the_engine_unchanged():
    one = steps.Carried("text\n", "a\u00e9.py", "Python", "code", "here", "MIT",
                        "here#1", "00007", 3)
    assert list(steps.unpacked([steps.packed(one)])) == [one]
    assert list(steps.unpacked(None)) == []


def test_rows_are_read_back_and_one_file_is_open(tmp_path):
    carried = [steps.Carried(f"text {i}", f"{i}.py", "Python", "code", "here", "MIT",
                             "", f"{i // 3:05}", i // 2) for i in range(9)]
    most = 0
    with steps.written(tmp_path) as writer:
        for one in carried:
            writer.write(steps.packed(one), rank=99)
            most = max(most, len(writer.output_mg.get_open_files()))
    assert most == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"0000{i}.parquet" for i in range(3)]
    read = [[*steps.unpacked(steps.reader(tmp_path).run(None, rank, 2))]
            for rank in range(2)]
    assert read == [carried[:3] + carried[6:], carried[3:6]]


def test_what_was_removed_is_read_back_in_the_order_of_tasks(tmp_path):
    gone = [Dropped("UTF-8", f"{i}.py", i, "", "why") for i in range(250)]
    for rank, part in ((1, gone[120:]), (0, gone[:120])):
        with steps.removals(tmp_path) as writer:
            for one in part:
                about = asdict(one)
                writer.write(steps.Datum("", about.pop("path"), metadata=about), rank)
    assert list(steps.read_removals(tmp_path)) == gone
    assert list(steps.read_removals(tmp_path / "nothing was removed")) == []


def test_samples_are_numbered_through_all_repositories():
    def carried(path, sample, group, kind="code", origin="here"):
        return steps.Carried("", path, "Python", kind, origin, "MIT", sample, "00000",
                             group)
    found = steps.numbered([
        carried("f", "site#0", 0, "text"),              # what another stage named
        carried("c", "", 0), carried("d", "here#0", 0), carried("e", "here#0", 0),
        carried("a", "here#1", 0), carried("b", "here#1", 0),
        carried("g", "here#1", 1), carried("h", "here#1", 1)])
    assert [type(one) is Document and one.sample for one in found] == [
        "site#0", "", "here#0", "here#0", "here#1", "here#1", "here#2", "here#2"]


def test_the_parts_of_a_large_repository_stay_apart(tmp_path):
    user, used = (steps.Carried(text, path, "Python", "code", "here", "MIT", "",
                                "00000", 0)
                  for path, text in (("a.py", "import b\n"), ("b.py", "x = 1\n")))
    order = steps.Order(Recipe(), tmp_path)
    for other, samples in ((0, ["here#0", "here#0"]), (1, ["", ""])):
        given = [steps.packed(user), steps.packed(replace(used, group=other))]
        found = list(steps.unpacked(order.run(given)))
        assert [one.sample for one in found] == samples
        assert [one.path for one in found] == (["a.py", "b.py"] if other else
                                               ["b.py", "a.py"])
