"""The map of ideas names every module and notebook, and only files that exist."""

import re
from pathlib import Path

import pytest

from book import address
from book.writers import map

ROOT = Path(__file__).parents[2]
PAGE = map.pages()["map"]
BLOB = address.read().file("")


def test_every_module_is_on_it_once_by_room():
    rooms = PAGE.partition("## By module")[2]
    named = re.findall(r"^\| \{py:mod\}`[^<]*<([\w.]+)>`", rooms, re.MULTILINE)
    wanted = [".".join(path.relative_to(ROOT).with_suffix("").parts)
              for path in (ROOT / "minicoder").rglob("*.py") if path.stem != "__init__"]
    assert sorted(named) == sorted(wanted)


def test_every_notebook_is_on_it_with_its_exercises():
    lessons = PAGE.partition("## By lesson")[2].partition("## By module")[0]
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        row, = re.findall(rf"^\| \[\d\d\]\(\S*/{path.name}\) .*", lessons, re.MULTILINE)
        assert "show/exercises/" in row and "{py:mod}" in row, row


def test_every_link_leads_to_a_file():
    files = {link.removeprefix(BLOB).removeprefix("../../")
             for link in re.findall(r"\]\(([^)]*)\)", PAGE)}
    assert len(files) > 200
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_every_idea_has_a_test_a_lesson_and_its_exercises():
    rows = PAGE.partition("## By idea")[2].partition("## By lesson")[0]
    rows = [row.split(" | ") for row in rows.splitlines() if "{py:mod}" in row]
    assert len(rows) == sum(len(ideas) for ideas in map.IDEAS.values())
    for _, module, lessons, beside, _ in rows:
        name = re.search(r"\.(\w+)>", module)[1]
        assert f"/test_{name}.py)" in module and "notebooks/" in lessons
        assert "/show/exercises/" in beside


@pytest.mark.parametrize(("module", "said"), [
    ("model/mla", "DeepSeek-V2 §2.1"),
    ("data/rounds", "DeepSeekMath §2.1; Coder-V2 §2"),
    ("evaluation/pass_at_k", "arXiv 2107.03374 eq. 1")])
def test_papers_come_from_the_docstring(module, said):
    assert map.papers(module).startswith(said)


def test_users_are_found_by_import_and_by_name():
    links = map.Links()
    assert "notebooks/04_mla.py" in links.users("model/mla", "notebooks")
    assert "benchmarks/recall.py" in links.users("data/recall", "benchmarks")
    assert links.users("show/report", "benchmarks") == []
