"""Figures: drawn by their scripts, described in words, in the palette, and used."""

import ast
import importlib.util
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from book.writers import gallery
from minicoder.show import style

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "figures"
NAMES = [path.stem for path in gallery.scripts()]
SVG = "{http://www.w3.org/2000/svg}"
DRAWN = {f"{SVG}{tag}" for tag in ("path", "use", "rect", "circle", "image", "text")}
OF_A_RUN = {"demo"}     # drawn from runs/demo, which each machine makes for itself
COLOUR = re.compile(r"(?:fill|stroke): *(#[0-9a-f]{3,8}|[a-z]+)")


def svg(name: str, mode: str) -> ET.Element:
    return ET.parse(FIGURES / f"{name}-{mode}.svg").getroot()


def colours(path: Path) -> set[str]:
    """The colours that are drawn; `none` is none."""
    return set(COLOUR.findall(path.read_text(encoding="utf-8"))) - {"none"}


def test_every_script_has_two_pictures_and_every_picture_a_script():
    assert len(NAMES) > 20
    assert sorted(path.name for path in FIGURES.glob("*.svg")) == sorted(
        f"{name}-{mode}.svg" for name in NAMES for mode in ("light", "dark"))


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_says_in_words_what_is_seen(name):
    for mode in ("light", "dark"):
        root = svg(name, mode)
        assert root.get("role") == "img"
        title, alt = (root.findtext(f"{SVG}{tag}") for tag in ("title", "desc"))
        assert len(title) > 20 and len(alt) > 100, (title, alt)
        assert "\n" not in alt and alt.endswith(".")
        assert re.search(r"\d", alt) or name in {"fim"}, "no number in the words"
    assert svg(name, "light").findtext(f"{SVG}desc") == svg(name, "dark").findtext(
        f"{SVG}desc")


@pytest.mark.parametrize("name", NAMES)
def test_light_and_dark_are_one_drawing(name):
    light, dark = ([(e.tag, e.get("d")) for e in svg(name, mode).iter()
                    if e.tag in DRAWN] for mode in ("light", "dark"))
    assert len(light) > 20 and light == dark


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ("light", "dark"))
def test_a_figure_has_the_colours_of_its_mode_alone(name, mode):
    wanted = {pair[mode == "dark"] for pair in style.PALETTE.values()}
    assert colours(FIGURES / f"{name}-{mode}.svg") <= wanted


@pytest.mark.parametrize("name", sorted(set(NAMES) - OF_A_RUN))
def test_a_figure_is_what_its_script_draws(name, tmp_path, monkeypatch):
    """The same words, and the same drawing but for rounding of places.

    Letters are outlines of matplotlib's own font, so machines agree on them.
    """
    spec = importlib.util.spec_from_file_location(
        f"figure_{name}", FIGURES / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, script)     # for its dataclasses
    spec.loader.exec_module(script)
    kept = []

    def save(figure, path, alt):
        kept.extend(style.save_svg(figure, tmp_path / path.name, alt))
        return FIGURES / f"{name}-light.svg", FIGURES / f"{name}-dark.svg"

    monkeypatch.setattr(script, "save_svg", save)
    script.main()
    assert len(kept) == 2
    for path in kept:
        assert rounded(path) == rounded(FIGURES / path.name), (
            f"{path.name} is old: python figures/{name}.py")


def rounded(path: Path) -> str:
    """The file with places to half a point, and without ids, which hang on them."""
    text = re.sub(r'(id="|href="#|url\(#)[\w-]+', r"\1",
                  path.read_text(encoding="utf-8"))
    return re.sub(r"-?\d+\.\d+", lambda m: f"{round(2 * float(m[0])) / 2:g}", text)


def test_every_figure_is_shown_somewhere():
    page = gallery.pages()["gallery"]
    for name in NAMES:
        for mode in ("light", "dark"):
            assert f"figures/{name}-{mode}.svg\n:class: only-{mode}\n:alt: " in page
        assert f"`python figures/{name}.py`" in page


def test_pages_show_only_figures_that_there_are():
    assert gallery.places().keys() == set(NAMES)


def test_a_script_says_how_it_is_run():
    for name in NAMES:
        doc = ast.get_docstring(ast.parse(
            (FIGURES / f"{name}.py").read_text(encoding="utf-8")))
        assert f"python figures/{name}.py" in doc, name
