"""The papers' equations, each with its code and its lesson (book/equations.toml)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "equations.toml"


@dataclass(frozen=True)
class Equation:
    """One entry of equations.toml; `code` is "module:object"."""

    topic: str
    paper: str
    latex: str
    says: str
    code: str
    lesson: str
    id: str = ""
    equations: tuple[int, ...] = ()
    section: str = ""

    @property
    def anchors(self) -> list[str]:
        """The page's anchors: one for each number, or the entry's own."""
        return [f"{self.paper}-eq-{n}" for n in self.equations] or [self.id]

    @property
    def place(self) -> str:
        """Where it stands in its paper: eq. 37 and 12, §2.2.4, or nothing."""
        numbers = list(self.equations)
        if len(numbers) > 2:
            return f"eq. {numbers[0]}–{numbers[-1]}"
        return (f"eq. {' and '.join(map(str, numbers))}" if numbers
                else f"§{self.section}" if self.section else "")


@cache
def papers() -> dict[str, dict]:
    """The cited papers: title, arXiv number, and how docstrings name them."""
    return tomllib.loads(SOURCE.read_text(encoding="utf-8"))["papers"]


def read(one: dict) -> Equation:
    """One entry; `ValueError` names it and the field that is missing or unknown."""
    numbers = one.get("equations", [])
    try:
        return Equation(**one | {"equations": tuple(numbers)})
    except TypeError as error:
        raise ValueError(f"{SOURCE.name}, {one.get('paper')} "
                         f"{numbers or one.get('id')}: {error}.") from None


@cache
def entries() -> list[Equation]:
    """All equations, in the order of the page."""
    text = SOURCE.read_text(encoding="utf-8")
    return list(map(read, tomllib.loads(text)["equation"]))


def links_of(code: str) -> str:
    """Links to the equations that "module:object" computes, or nothing."""
    return ", ".join(
        f"[{papers()[one.paper]['title']} {one.place}".strip() + f"](#{one.anchors[0]})"
        for one in entries() if one.code == code)


def block(one: Equation) -> list[str]:
    """One equation: anchors, formula, what it says, where it is computed and taught."""
    paper, (module, name) = papers()[one.paper], one.code.split(":")
    address = f"https://arxiv.org/abs/{paper['arxiv']}"
    return [*(f"({anchor})=" for anchor in one.anchors),
            f"**[{paper['title']}]({address}) {one.place}**".replace(" **", "**"),
            "", "$$", one.latex.strip(), "$$", "",
            f"{one.says} Code: {{py:obj}}`{name} <{module}.{name}>`; lesson: "
            f"[](../../notebooks/{one.lesson}.ipynb).", ""]


def pages() -> dict[str, str]:
    """The page `equations`."""
    text = ["# Equations and code", "",
            "Each equation of the papers that minicoder computes. Follow a link to the "
            "function, and from there back. Where no number stands, the paper gives "
            "none, and the docstring names its section.", ""]
    for topic, ones in groupby(entries(), lambda one: one.topic):
        text += [f"## {topic}", ""]
        for one in ones:
            text += block(one)
    return {"equations": "\n".join(text)}
