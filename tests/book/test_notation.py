"""The notation page has every letter that a file of the library explains."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book/notation.md").read_text(encoding="utf-8")
FIRST, SECOND = PAGE.split("\n## Attention")[0].split("Some letters have a second")
LEGEND = re.compile(r"\b([A-Z]{1,2}),? (?:or ([A-Z]) )?(?:= )?(?=[a-zP(])")


def letters(table: str) -> dict[str, str]:
    """Each letter of a table and the row that it begins."""
    rows = re.findall(r"^\| ([A-Z]{1,2}(?:, [A-Z]{1,2})*) \|(.+)$", table, flags=re.M)
    return {letter: row for names, row in rows for letter in names.split(", ")}


MODULES = {str(path.relative_to(ROOT / "minicoder")): " ".join(doc.split())
           for path in sorted((ROOT / "minicoder").rglob("*.py"))
           if "Letters:" in (doc := ast.get_docstring(
               ast.parse(path.read_text("utf-8"))) or "")}


@pytest.mark.parametrize("module", MODULES)
def test_the_letters_of_a_file_are_on_the_page(module):
    legend = MODULES[module].split("Letters:")[1].split(". ")[0]
    used = {letter for pair in LEGEND.findall(legend) for letter in pair if letter}
    here = set(letters(FIRST)) | {
        letter for names, row in re.findall(r"^\| ([A-Z, ]+) \|(.+)$", SECOND, re.M)
        if module in row for letter in names.split(", ")}
    assert used and used <= here


def test_files_that_the_page_names_exist():
    assert MODULES
    for path in re.findall(r"`(\w+/\w+\.py)`", SECOND):
        assert path in MODULES
