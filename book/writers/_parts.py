"""What writers share: a file's own words, a row of a table, a link to a lesson."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def words(path: Path) -> str:
    """A Python file's docstring, or nothing."""
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def summary(path: Path) -> str:
    """Its first paragraph, on one line."""
    return " ".join(words(path).partition("\n\n")[0].split())


def row(*cells: str | Iterable[str]) -> str:
    """One row of a Markdown table; the parts of a cell stand beside each other."""
    return "| " + " | ".join(
        cell if isinstance(cell, str) else " ".join(cell) for cell in cells) + " |"


def lesson(path: str, word: str = "") -> str:
    """A link from a computed page to that of a lesson: `word` and its number."""
    name = Path(path).stem
    return f"[{word}{name[:2]}](../../notebooks/{name}.ipynb)"
