"""Every page of the website is looked at, wide, narrow, light, dark; sliders move."""

from collections.abc import Iterator
from html import escape
from pathlib import Path

import nbformat
import pytest
from book.browser import CHECKS, LOOK, READY, serve, watch
from playwright.sync_api import Browser, Locator, Page

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
MODES = (("light", 1200), ("dark", 1200), ("dark", 390), ("light", 390))
# written by Sphinx itself, with no article: only troubles are looked for
BARE = {"genindex.html", "py-modindex.html", "search.html"}
STILL = "*, ::before, ::after { transition: none !important }"


def pages(site: Path) -> list[str]:
    """The addresses of the site's pages, below its root.

    Without index.html, which leads to another; of the listings of modules, which differ
    in nothing else, every twentieth.
    """
    paths = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    listings = [path for path in paths if path.startswith("_modules/")]
    return [path for path in paths if path != "index.html" and not path.startswith(
        ("_static/", "_modules/"))] + listings[::20]


def visit(browser: Browser, base: str, names: list[str], **context: object
          ) -> Iterator[tuple[str, Page, list[str]]]:
    """Each page with its troubles, with mathematics and pictures, its folds open.

    While one is looked at, the next one loads.
    """
    with browser.new_context(**context) as tabs:
        tabs.set_default_timeout(120_000)  # for a machine under load
        ahead = []
        for name in [*names, None]:
            if name:
                page = tabs.new_page()
                ahead.append((name, page, watch(page, base)))
                page.goto(f"{base}/{name}", wait_until="commit")
            if len(ahead) == 2 or not name and ahead:
                name, page, troubles = ahead.pop(0)
                page.wait_for_load_state()
                page.add_style_tag(content=STILL)
                page.evaluate(READY)
                yield name, page, troubles
                page.close()


def look(page: Page, name: str) -> list[str]:
    """What is wrong with the page in each mode; a picture of each goes to runs/look."""
    found = []
    for theme, width in MODES:
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("t => document.documentElement.dataset.theme === t",
                               arg=theme)
        if name not in BARE:
            found += [f"{theme}, {width} px: {sentence}"
                      for sentence in page.evaluate(CHECKS, "article.bd-article")]
        page.screenshot(path=LOOK / f"{name}-{theme}-{width}.jpg", full_page=True,
                        type="jpeg", quality=60)
    return found


def write_index() -> Path:
    """One page that shows all screenshots side by side, each scrolling in its frame."""
    first = sorted(LOOK.rglob("*-light-1200.jpg"))
    names = [path.relative_to(LOOK).as_posix().rsplit("-", 2)[0] for path in first]
    rows = "".join(
        f"<h2>{escape(name)}</h2><div>" + "".join(
            f'<a href="{file}"><img loading="lazy" src="{file}" width="{width * 0.4}"'
            f' alt="{escape(name)}, {theme}, {width} pixels"></a>'
            for theme, width in MODES
            for file in [f"{escape(name)}-{theme}-{width}.jpg"]) + "</div>"
        for name in names)
    index = LOOK / "index.html"
    index.write_text(
        '<!doctype html><meta charset="utf-8"><title>Every page</title><style>'
        "div { display: flex; gap: 1em } a { max-height: 80vh; overflow: auto }"
        f"</style><h1>Every page in each mode</h1>{rows}\n", encoding="utf-8")
    return index


GOOD = '<p>Words, <code>$$</code> and a <a href="#">link</a>.</p><h2>Next</h2>'
DOT = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


@pytest.mark.parametrize(("fault", "sentence"), [
    ("<img src='nothing.png' alt='A dot'>", "did not load"),
    (f"<img src='{DOT}'>", "no alt text"),
    (f"<img src='{DOT}' alt='images/dot.gif.png'>", "no alt text"),
    ("<table style='width: 2000px'><td>wide</table>", "scrolls sideways"),
    ("<p style='white-space: nowrap'>" + "words " * 99, "sticks out"),
    ("<p style='white-space: nowrap; overflow: hidden'>" + "words " * 99, "sticks out"),
    ("<p style='color: #999'>pale</p>", "contrast 2.8"),
    ("<p>See {cite}`MLA`</p>", "raw markup"), ("<p>$$x$$</p>", "raw markup"),
    ("<p>the $\\alpha$ of</p>", "raw markup"), ("<h4>Deep</h4>", "heading level"),
    ("<h1>Again</h1>", "not one h1"), ("<mjx-merror>x</mjx-merror>", "mathematics"),
    ("<script>console.error('lost')</script>", "console: lost"),
    ("<script>nowhere()</script>", "page error"),
    ("<img src='https://example.org/a.png' alt='A dot'>", "another host")])
def test_a_fault_is_seen(browser: Browser, tmp_path: Path, fault: str, sentence: str):
    page = ('<!doctype html><link rel="icon" href="data:,">'
            '<article style="width: 600px"><h1>A</h1>{}</article>')
    for name, inside in (("good", GOOD), ("bad", GOOD + fault)):
        (tmp_path / f"{name}.html").write_text(page.format(inside), encoding="utf-8")
    with serve(tmp_path) as base:
        seen = {name: troubles + tab.evaluate(CHECKS, "article") for name, tab, troubles
                in visit(browser, base, ["good.html", "bad.html"])}
    assert seen["good.html"] == []
    assert any(sentence in trouble for trouble in seen["bad.html"]), seen


@pytest.mark.slow
def test_every_page_looks_right(site: Path, browser: Browser):
    wrong, names = {}, pages(site)
    with serve(site) as base:
        tour = visit(browser, base, names, device_scale_factor=0.5)
        for name, page, troubles in tour:
            if found := look(page, name) + troubles:
                wrong[name] = found
    print(f"Screenshots: {write_index()}")
    assert not wrong, "\n".join(
        f"{name}: {sentence}" for name, found in wrong.items()
        for sentence in [*found[:9], *[f"… {len(found)} in all"] * (len(found) > 9)])


def test_every_slider_moves_its_picture_and_its_words(site: Path, browser: Browser):
    written = {
        path.stem: sum("type=\"range\"" in str(output.get("data", {}).get("text/html"))
                       for cell in nbformat.read(path, as_version=4).cells
                       for output in cell.get("outputs", ()))
        for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    names = [f"notebooks/{lesson}.html" for lesson, number in written.items() if number]
    with serve(site) as base:
        for name, page, troubles in visit(browser, base, names):
            ranges = page.locator("article input[type=range]").all()
            assert len(ranges) == written[Path(name).stem], name
            for range_ in ranges:
                assert_moves(range_, name)
            assert troubles == []


def assert_moves(slider: Locator, name: str) -> None:
    """Each position shows its own picture and says its own words; arrow keys count."""
    box = slider.locator("xpath=ancestor::div[1]")

    def shown() -> tuple[str, str]:
        pictures = box.locator("img:visible")
        assert pictures.count() == 1, name
        alt, words = pictures.get_attribute("alt"), box.locator("output").inner_text()
        assert alt == words == slider.get_attribute("aria-valuetext"), name
        return words, pictures.get_attribute("src")

    frames = []
    for position in range(int(slider.get_attribute("max")) + 1):
        slider.fill(str(position))
        frames.append(shown())
    for i, kind in enumerate(("words", "pictures")):
        assert len({frame[i] for frame in frames}) == len(frames), (name, kind)
    slider.press("ArrowLeft")
    assert shown() == frames[-2], name
    slider.press("ArrowRight")
    assert shown() == frames[-1], name


def test_the_widgets_of_a_lesson_stand_on_its_page(site: Path, browser: Browser):
    with serve(site) as base:
        lesson = ["notebooks/14_cluster.html"]
        for _, page, troubles in visit(browser, base, lesson):
            assert page.locator("article .widget-dropdown select").count() == 5
            assert "GiB" in page.locator("article .widget-html-content").inner_text()
            assert troubles == []


def test_the_search_finds_a_lesson(site: Path, browser: Browser):
    with serve(site) as base:
        for _, page, troubles in visit(browser, base, ["search.html?q=latent"]):
            page.get_by_role("link", name="MLA").last.wait_for()
            assert troubles == []
