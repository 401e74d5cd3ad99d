"""The tables of results that the authors report, as data: results.toml.

Numbers keep the digits that were printed. They are the authors' own measurements of
models of billions of parameters; whatever is measured here stands apart from them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from html import escape
from pathlib import Path

REPORTED = "reported by the authors"
OURS = "ours: a toy model, other tasks, not comparable"


@dataclass(frozen=True)
class Table:
    """One table: a row of numbers per model; None where the paper gives none."""

    source: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[Decimal | None, ...]]

    def column(self, name: str) -> dict[str, Decimal]:
        """The numbers of one column, by row."""
        place = self.columns.index(name)
        return {row: value for row, values in self.rows.items()
                if (value := values[place]) is not None}

    @property
    def caption(self) -> str:
        """Title, whose numbers they are, where they stand, and what to know."""
        note = f" {self.note[0].upper()}{self.note[1:]}." if self.note else ""
        return f"{self.title}; {REPORTED} ({self.source}).{note}"


@cache
def reported() -> dict[str, Table]:
    """All tables, by name."""
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    found = tomllib.loads(text, parse_float=Decimal)
    return {name: Table(one["source"], one["title"], one["note"], tuple(one["columns"]),
                        {row[0]: tuple(None if value == "-" else Decimal(value)
                                       for value in row[1:]) for row in one["rows"]})
            for name, one in found.items()}


def lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table whose first row is the head; all columns but one are numbers."""
    head, *rest = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    return [f"| {head} |", "|---|" + "--:|" * (len(rows[0]) - 1),
            *(f"| {row} |" for row in rest)]


def _cells(table: Table) -> list[list[str]]:
    return [["", *table.columns], *(
        [name, *("-" if value is None else str(value) for value in values)]
        for name, values in table.rows.items())]


def markdown(table: Table) -> str:
    """The table and its caption as Markdown."""
    return "\n".join([table.caption, "", *lines(_cells(table)), ""])


def html(table: Table) -> str:
    """The table as HTML, its caption in it."""
    head, *rest = _cells(table)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for name, *cells in rest)
    columns = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    return (f"<table><caption>{escape(table.caption)}</caption><thead><tr>{columns}"
            f"</tr></thead><tbody>{body}</tbody></table>")
