"""Figures of lessons on the website: words for each, and the dark drawing in dark mode.

A notebook's own Markdown shows figures/NAME-light.svg, which every viewer can; the site
adds NAME-dark.svg beside it. What a cell has drawn gets the finding in its title as alt
text, for it has no other.
"""

from __future__ import annotations

import ast
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

DRAWING = ("title", "suptitle", "set_title")


def titles(code: str) -> str:
    """The titles that a cell gives to its figures; what it computes in them is an …."""
    try:
        calls = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Call)]
    except SyntaxError:  # a magic command
        return ""
    given = [word.value for call in calls for word in call.keywords
             if word.arg == "title"]
    given += [call.args[0] for call in calls if call.args and isinstance(
        call.func, ast.Attribute) and call.func.attr in DRAWING]
    said = ["".join(str(part.value) if isinstance(part, ast.Constant) else "…"
                    for part in getattr(value, "values", [value])) for value in given]
    return "; ".join(words for words in said if any(map(str.isalpha, words)))


def describe(app: Sphinx, doctree: nodes.document) -> None:
    """Give alt text to what cells have drawn."""
    for image in doctree.findall(nodes.image):
        cell, section = image.parent, image.parent
        while cell is not None and cell.get("nb_element") != "cell_code":
            cell = cell.parent
        if cell is None or image.get("alt"):
            continue
        while not isinstance(section, nodes.section):
            section = section.parent
        image["alt"] = titles(next(cell.findall(nodes.literal_block)).astext()) or (
            f"Figure of the section “{section[0].astext()}”")


def add_dark(app: Sphinx, doctree: nodes.document) -> None:
    """Put the dark drawing beside each light one that stands alone."""
    folder = Path(app.env.doc2path(app.env.docname)).parent
    for image in list(doctree.findall(nodes.image)):
        dark = image.get("uri", "").replace("-light.svg", "-dark.svg")
        if dark == image.get("uri") or image["classes"] or not (folder / dark).exists():
            continue
        other = image.deepcopy()
        other["uri"] = dark
        image["classes"].append("only-light")
        other["classes"].append("only-dark")
        image.parent.insert(image.parent.index(image) + 1, other)


def setup(app: Sphinx) -> dict:
    """Register with Sphinx, before it collects a page's pictures."""
    for change in (describe, add_dark):
        app.connect("doctree-read", change, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
