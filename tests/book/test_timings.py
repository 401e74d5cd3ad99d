"""The notebooks' times are measured by their tests, and each lesson's header agrees."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from timings import Timings

from book.writers import timings as writer

ROOT = Path(__file__).parents[2]
LESSONS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.py"))
FACTOR = 2  # a header rounds
REST = {"load_per_core": 0.5, "system": "Linux", "processor": "x86_64",
        "python": "3.11.7", "torch": "2.13.0", "date": "2026-11-29"}
PLUGIN = """import timings
from pathlib import Path
def pytest_configure(config):
    here = Path(__file__).parent
    config.pluginmanager.register(
        timings.Timings(here / "notebooks", here / "runs/timings.json"), "timings")
"""


def phase(cell, outcome="passed", seconds=1.0, when="call", book="00_a"):
    """What pytest reports of one phase of one cell."""
    return pytest.TestReport(f"notebooks/{book}.ipynb::Cell {cell}", ("", 0, ""), {},
                             outcome, None, when, duration=seconds)


@pytest.fixture
def course(tmp_path):
    """Two notebooks, of two code cells and of one."""
    for name, cells in (("00_a", 2), ("01_b", 1)):
        book = nbformat.v4.new_notebook(cells=[
            nbformat.v4.new_markdown_cell("# words"),
            *(nbformat.v4.new_code_cell("1 + 1") for _ in range(cells))])
        nbformat.write(book, tmp_path / f"{name}.ipynb")
    return tmp_path


def run(folder, *phases):
    """The file that these phases leave, or None."""
    plugin = Timings(folder, folder / "runs/timings.json")
    plugin.pytest_collection_finish()
    for one in phases:
        plugin.pytest_runtest_logreport(one)
    plugin.pytest_sessionfinish()
    return json.loads(plugin.target.read_text()) if plugin.target.exists() else None


def test_all_phases_of_all_cells_are_added_up(course):
    told = run(course, phase(0, seconds=3, when="setup"), phase(0, "skipped"), phase(1),
               phase(0, seconds=2, book="01_b"),
               pytest.TestReport("tests/test_x.py::test", ("", 0, ""), {}, "passed",
                                 None, "call", duration=99))
    assert told["notebooks"] == {"00_a": {"cells": 2, "seconds": 5.0},
                                 "01_b": {"cells": 1, "seconds": 2.0}}
    assert told["machine"].keys() == {"cores", *REST}


@pytest.mark.parametrize("lost", [
    [phase(0), phase(1)], [phase(0), phase(0, book="01_b")],
    [phase(0), phase(1, "failed"), phase(0, book="01_b")], []],
    ids=["one notebook alone", "a cell left out", "a cell that fails", "none"])
def test_nothing_is_written_unless_every_notebook_ran_whole(course, lost):
    assert run(course, *lost) is None


def test_pytest_itself_calls_the_plugin(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for name in ("test_one.py", "conftest.py"):
        (tmp_path / name).write_text(
            PLUGIN if name == "conftest.py" else "def test(): pass\n", encoding="utf-8")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(
        "raise", metadata={"tags": ["nbval-skip"]})])
    nbformat.write(book, tmp_path / "notebooks/00_a.ipynb")
    subprocess.run([sys.executable, "-m", "pytest", "--nbval", "--rootdir", tmp_path,
                    "--confcutdir", tmp_path, "-o", f"pythonpath={ROOT / 'tests'}",
                    "-p", "no:cacheprovider", tmp_path / "notebooks"],
                   cwd=tmp_path, check=True, capture_output=True)
    told = json.loads((tmp_path / "runs/timings.json").read_text(encoding="utf-8"))
    assert told["notebooks"]["00_a"]["cells"] == 1


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_header_of_a_lesson_agrees_with_the_clock(lesson):
    told = writer.header_seconds(lesson)
    kept = json.loads(writer.KEPT.read_text(encoding="utf-8"))
    measured = kept["notebooks"][lesson]["seconds"]
    assert told / FACTOR <= measured <= told * FACTOR


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_header_of_a_lesson_agrees_with_its_exercises(lesson):
    asked = writer.exercise_minutes(lesson)
    header = " ".join(writer.text(lesson).partition("**Time:**")[2].split())
    told = int(re.search(r"(\d+) minutes for the exercises", header)[1])
    assert len(asked) >= 3 and sum(asked) / 1.25 <= told <= sum(asked) * 1.25


@pytest.mark.parametrize(("words", "seconds"), [
    ("about two minutes on one core", 120), ("half a minute", 30), ("15 seconds", 15),
    ("about a minute and a half on one", 90), ("about ten seconds", 10)])
def test_times_in_words(words, seconds, monkeypatch):
    monkeypatch.setattr(writer, "text", lambda lesson: f"**Time:** {words}; 9 minutes")
    assert writer.header_seconds("00_tour") == seconds


def test_a_header_without_a_time_is_named(monkeypatch):
    monkeypatch.setattr(writer, "text", lambda lesson: "- **Time:** short")
    with pytest.raises(ValueError, match=r"notebooks/00_tour\.py: the line \*\*Time"):
        writer.header_seconds("00_tour")


def test_the_page_has_a_row_for_each_lesson_and_the_sum():
    told = {"machine": {"cores": 2, **REST},
            "notebooks": {"00_tour": {"cells": 9, "seconds": 80.4},
                          "05_moe": {"cells": 7, "seconds": 12.3}}}
    page = writer.page(told)
    assert "A coder in five minutes | 9 | 1 min 20 s | 5 min 0 s | 3, 15 min |" in page
    assert "| **all of them** | 16 | 1 min 33 s | 25 min 0 s | 6, 0.7 hours |" in page
    assert "2 cores (Linux, x86_64), Python 3.11.7" in page and "quiet" not in page
    told["machine"]["load_per_core"] = 3.5
    assert "3.5 processes wanted each core, so a quiet machine is" in writer.page(told)
