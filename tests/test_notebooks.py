"""The committed notebooks are what their sources build; nbval runs them beside this."""

from pathlib import Path

import nbformat
import pytest

from notebooks import build

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SOURCES = build.sources([])
LESSON = '''# %% [markdown]
# # A lesson

# %%
import sys

print("one", flush=True)
print("two", object.__repr__(sys))

# %% tags=["raises-exception"]
import ninety_nine
'''


@pytest.fixture
def lesson(tmp_path):
    """A lesson of three cells, built once."""
    (tmp_path / "ninety_nine.py").write_text("1 / 0\n", encoding="utf-8")
    source = tmp_path / "99_lesson.py"
    source.write_text(LESSON, encoding="utf-8")
    build.build(source)
    return source


def test_every_notebook_has_a_source_and_the_course_has_begun():
    built = sorted(NOTEBOOKS.glob("*.ipynb"))
    assert [path.stem for path in built] == [path.stem for path in SOURCES]
    assert SOURCES[0].name.startswith("00_")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_is_what_its_source_says(source):
    assert build.check(source) == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_ends_within_thirty_code_cells(source):
    cells = build.read_source(source).cells
    assert sum(cell.cell_type == "code" for cell in cells) <= 30


def test_two_builds_give_the_same_bytes(lesson):
    target = lesson.with_suffix(".ipynb")
    first = target.read_bytes()
    build.build(lesson)
    assert target.read_bytes() == first
    printed = nbformat.reads(first.decode(), as_version=4).cells[1].outputs
    assert [output.text for output in printed] == [
        "one\ntwo <module object at 0x000000000000>\n"]
    assert str(lesson.parents[1]) not in first.decode() and b"ninety_nine.py" in first
    assert build.check(lesson) == []


def test_check_sees_an_edited_source_and_a_notebook_not_run(lesson):
    target = lesson.with_suffix(".ipynb")
    lesson.write_text(LESSON.replace("one", "once"), encoding="utf-8")
    assert ["is not what" in line for line in build.check(lesson)] == [True]
    lesson.write_text(LESSON, encoding="utf-8")
    swapped = target.read_text(encoding="utf-8").replace(
        '"execution_count": 2', '"execution_count": 3')
    target.write_text(swapped, encoding="utf-8")
    assert build.check(lesson) == ["99_lesson.ipynb was not run from top to bottom"]
    target.unlink()
    assert build.check(lesson) == ["99_lesson.ipynb was never built"]


def test_a_cell_that_fails_keeps_the_old_notebook(lesson, capfd):
    target = lesson.with_suffix(".ipynb")
    before = target.read_bytes()
    lesson.write_text(LESSON + "\n# %%\nnot_defined\n", encoding="utf-8")
    with pytest.raises(build.CellExecutionError, match="not_defined"):
        build.build(lesson)
    assert target.read_bytes() == before


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_handout_has_every_exercise_and_no_solution(source, tmp_path):
    handed = nbformat.read(build.handout(source, tmp_path), as_version=4).cells
    told = build.read_source(source).cells
    code = [cell.source for cell in told if cell.cell_type == "code"]
    assert [cell.source for cell in handed if cell.cell_type == "code"] == code
    assert not any(cell.get("outputs") for cell in handed)
    text = "\n".join(cell.source for cell in told)
    given = "\n".join(cell.source for cell in handed)
    assert given.count("Exercise") == text.count("Exercise") >= 3
    assert text.count("<summary>Solution") >= 3 and "<details>" not in given


def test_the_address_is_stamped_into_a_notebook_that_is_not_run_again(
        lesson, monkeypatch):
    target = lesson.with_suffix(".ipynb")
    lesson.write_text(LESSON.replace('"two"', '"two"  # at REPOSITORY\n'),
                      encoding="utf-8")
    build.build(lesson)
    first = target.read_text(encoding="utf-8")
    place = build.address.read(environ={}).repository
    assert f"# at {place}" in first and "REPOSITORY" not in first
    assert build.stamp(lesson).read_text(encoding="utf-8") == first
    moved = build.address.Address("https://github.com/me/moved")
    monkeypatch.setattr(build.address, "read", lambda **_: moved)
    assert ["is not what" in line for line in build.check(lesson)] == [True]
    assert build.stamp(lesson).read_text(encoding="utf-8") == first.replace(
        f"# at {place}", f"# at {moved.repository}")
    assert build.check(lesson) == []


def test_unknown_notebook_and_mode(capsys):
    assert build.main(["build", "77_nothing"]) == 2
    assert "77_nothing.py" in capsys.readouterr().err
    assert build.main([]) == 2
