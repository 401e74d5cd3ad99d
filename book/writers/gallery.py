"""All figures on one page, with what draws each and the pages that show it.

Nothing is written here by hand: pictures and scripts come from the file system, the
description from the SVG, and the places from the pages' own text.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

from book import address
from book.writers._parts import ROOT, lesson, summary

SVG = "{http://www.w3.org/2000/svg}"
HEAD = """# All figures

Every figure of the course and of this site: those of the lessons first, in their order.
The title of a figure is its finding. One script draws it, light and dark, from the
library itself or from a file of `benchmarks/results`; change an idea, run its command,
and see whether the sentence still holds.
"""


def scripts() -> list[Path]:
    """The scripts of figures/."""
    return sorted((ROOT / "figures").glob("[!_]*.py"))


def places() -> dict[str, list[str]]:
    """{figure: the pages that show it}, lessons first; the README counts as a page."""
    pages = [*sorted((ROOT / "notebooks").glob("[0-9]*.py")),
             *sorted((ROOT / "book").glob("*.md")), ROOT / "README.md"]
    found: dict[str, list[str]] = {path.stem: [] for path in scripts()}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for name in dict.fromkeys(re.findall(r"figures/(\w+)-light\.svg", text)):
            found.setdefault(name, []).append(page.relative_to(ROOT).as_posix())
    return found


def link(page: str) -> str:
    """A page of the site, by a word for it."""
    name = Path(page).stem
    if page.startswith("notebooks/"):
        return lesson(page, "lesson ")
    if page.startswith("book/"):
        return f"[{name.replace('_', ' ')}](../{name}.md)"
    return f"[{name}]({address.read().file(page)})"


def alternative(name: str) -> str:
    """A figure in words, as they stand in its SVG."""
    root = ET.parse(ROOT / f"figures/{name}-light.svg").getroot()
    return " ".join((root.findtext(f"{SVG}desc") or "").split())


def entry(path: Path, shown: list[str]) -> str:
    """One figure: its name, its two pictures, what makes it and where it is used."""
    alt = json.dumps(alternative(path.stem), ensure_ascii=False)
    pictures = "\n".join(
        f"```{{image}} ../../figures/{path.stem}-{mode}.svg\n:class: only-{mode}\n"
        f":alt: {alt}\n```" for mode in ("light", "dark"))
    used = f"; shown in {', '.join(map(link, shown))}" if shown else ""
    at = address.read().file(f"figures/{path.name}")
    return (f"## {path.stem}\n\n{summary(path)}\n\n"
            f":::{{container}}\n{pictures}\n:::\n\n"
            f"`python figures/{path.name}` ([script]({at})){used}.\n")


def pages() -> dict[str, str]:
    """The page `gallery`."""
    shown = places()

    def by_lesson(path: Path) -> tuple[bool, str, str]:
        first = (shown[path.stem] or ["~"])[0]
        return not first.startswith("notebooks/"), first, path.stem

    order = sorted(scripts(), key=by_lesson)
    return {"gallery": "\n".join([HEAD, *(
        entry(path, shown[path.stem]) for path in order)])}
