"""Figures of lessons on the website have words, and a dark drawing in dark mode."""

from pathlib import Path

import pytest
from docutils import nodes

from book.pictures import add_dark, describe, titles

ROOT = Path(__file__).parents[2]
CODE = '''figure, axes = plt.subplots()
axes.set(title=f"{n} heads: MHA needs "
               "more")
axes.set_title(f"{n}, {m}")
figure.suptitle("Two bugs")'''


class App:
    """As much of Sphinx as the two functions ask for: where a page lies."""

    class env:
        """Its environment."""

        docname = "04_mla"
        doc2path = staticmethod(lambda name: str(ROOT / "notebooks" / f"{name}.ipynb"))


def page(code: str) -> nodes.document:
    """A page with a cell that has drawn, and a figure of the repository."""
    cell = nodes.container("", nodes.literal_block(code, code),
                           nodes.image(uri="a.png"), nb_element="cell_code")
    picture = nodes.image(uri="../figures/mla-light.svg", alt="M")
    figure = nodes.paragraph("", "", picture)
    document = nodes.document("", None)
    document += nodes.section("", nodes.title("", "2. Caches"), cell, figure)
    return document


@pytest.mark.parametrize(("code", "alt"), [
    (CODE, "… heads: MHA needs more; Two bugs"),
    ("plt.plot([1, 2])", "Figure of the section “2. Caches”"),
    ("%matplotlib inline", "Figure of the section “2. Caches”")])
def test_a_drawn_figure_says_its_finding(code: str, alt: str):
    drawn = page(code)
    describe(App, drawn)
    assert [image["alt"] for image in drawn.findall(nodes.image)] == [alt, "M"]
    assert titles(code) == alt or alt.startswith("Figure of")


def test_a_light_drawing_gets_its_dark_one_once():
    drawn = page(CODE)
    for _ in range(2):
        add_dark(App, drawn)
    images = drawn.findall(nodes.image)
    assert [(image["uri"], image["classes"]) for image in images] == [
        ("a.png", []), ("../figures/mla-light.svg", ["only-light"]),
        ("../figures/mla-dark.svg", ["only-dark"])]
