"""Slides: where a lesson is cut, and that each deck fits its frame, offline."""

import re
from pathlib import Path

import nbformat
import pytest
from book.browser import serve, watch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from playwright.sync_api import Browser

from notebooks import build, slides

LESSONS = sorted(slides.FOLDER.glob("[0-9][0-9]_*.ipynb"))
LONG = "**Explain.** It is so. " + "Many words say why it is. " * 20
LESSON = [
    new_markdown_cell("# 99 · A lesson\n\nWords."),
    new_code_cell("import math"),
    new_markdown_cell("## 1. Numbers\n\nA number.\n\n**Predict.** What is 1 + 1?"),
    new_code_cell("print(1 + 1)", outputs=[
        new_output("stream", name="stdout", text="2\n")]),
    new_markdown_cell(f"{LONG}\n\n**Change one thing.** Add 2.\n\n"
                      "### Exercise 1 · add"),
    new_code_cell('check("add")', outputs=[
        new_output("stream", name="stdout", text="not yet\n")]),
    new_markdown_cell("<details><summary>Solution</summary>\n\n```python\n# Not a "
                      "heading\n\n# # nor this\n```\n\n</details>\n\n## Keep\n\nAll."),
]
# what of a deck sticks out of its frame: [column, slide, lowest, rightmost pixel]
OUTSIDE = """() => {
  const found = [], frame = document.querySelector(".slides");
  for (const slide of document.querySelectorAll(".slides section section")) {
    const { h, v } = Reveal.getIndices(slide);
    Reveal.slide(h, v, 99);
    const scale = Reveal.getScale(), origin = frame.getBoundingClientRect();
    const seen = slide.querySelectorAll(":not(aside, aside *, mjx-assistive-mml *)");
    const boxes = [...seen]
      .map((part) => part.getBoundingClientRect()).filter((box) => box.width > 1);
    const low = Math.max(...boxes.map((box) => (box.bottom - origin.top) / scale));
    const far = Math.max(...boxes.map((box) => (box.right - origin.left) / scale));
    if (low > 720.5 || far > 1280.5 || !boxes.length) found.push([h, v, low, far]);
  }
  return found;
}"""


def lesson(*cells):
    return new_notebook(cells=[*cells])


def test_a_lesson_is_cut_at_its_fixed_parts():
    columns = slides.deck(lesson(*LESSON))
    assert [[slide.kind for slide in column] for column in columns] == [
        ["title"], ["section", "predict", "code", "explain", "change", "exercise"],
        ["section"]]
    opening, (_, question, code, explained, _, exercise), _ = columns
    assert "import math" in opening[0].notes and len(opening[0].body) == 1
    assert "import" not in opening[0].body[0]
    assert "What is 1 + 1?" in question.body[0] and ">2" not in question.body[0]
    assert code.caption == "**Predict.** What is 1 + 1?"
    assert code.body[-1] == '<div class="fragment"><pre>2\n</pre></div>'
    assert explained.body[0].count("Many words") == 0
    assert explained.notes == LONG.rstrip()
    assert "check" in exercise.body[-1] and "not yet" not in "".join(exercise.body)
    assert "Not a heading" in exercise.notes
    assert not any("heading" in html for column in columns for slide in column
                   for html in slide.body)


def test_pictures_and_much_text_get_a_slide_after_the_code():
    picture = new_output("display_data", {"image/png": "AAAA", "text/plain": "<F>"})
    much = new_output("stream", name="stdout", text="2\n" * 19)
    for output in (picture, much):
        cells = [*LESSON[:3], new_code_cell("1\n2\n3", outputs=[output])]
        code, answer = slides.deck(lesson(*cells))[-1][-2:]
        assert (code.kind, answer.kind) == ("code", "output")
        assert len(code.body) == 1 and answer.caption == code.caption
    assert 'alt="Predict. What is 1 + 1?"' in slides.show(picture, "Predict. What is "
                                                          "1 + 1?")


@pytest.mark.parametrize(("text", "kept"), [
    ("It is one. Two. A **word** is. Last: ", "It is one. A **word** is. Last: "),
    ("**Explain.** Is it `a. B`? Yes, e.g. A. So.", "**Explain.** Is it `a. B`? Yes, "
                                                    "e.g. A. "),
    ("**Explain.** Yes. As A. B. C.", "**Explain.** Yes. As A. "),
    ("- One A. Two.\n- **Three.** Four. Five.", "- One A. \n- **Three.** Four. "),
    ("| a. B | c |\n|---|---|", "| a. B | c |\n|---|---|")])
def test_prose_keeps_its_first_sentence_and_its_bold_ones(text, kept):
    assert slides.shorten(text) == kept


def test_what_leads_to_a_formula_moves_with_it():
    words = "Many words. " * 70
    blocks = ["## Head", words, "So:", "$$\nx\n$$", words, "![A](a.svg)"]
    assert slides.pages(blocks) == [blocks[:2], blocks[2:5], blocks[5:]]


def test_long_code_is_cut_at_empty_lines():
    function = "def f():\n" + "    pass\n" * 14
    assert slides.split_code(f"{function}\n\n{function}\na = 1") == [
        function.rstrip(), f"{function}\na = 1"]
    assert slides.split_code(f"{function}\n\nb = 2") == [f"{function}\nb = 2"]


@pytest.fixture(scope="module")
def decks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All decks; skips where the browser's files were never fetched."""
    if not (slides.STATIC / "vendor/reveal").is_dir():
        pytest.skip("no book/_static/vendor/reveal: `make slides` fetches it")
    out = tmp_path_factory.mktemp("slides")
    slides.make(LESSONS, out)
    return out


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_each_lesson_has_a_deck(decks: Path, path: Path):
    text = (decks / f"{path.stem}.html").read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    written = "\n\n".join(build.SOLUTION.sub("", cell.source) for cell in cells
                          if cell.cell_type == "markdown")
    prose = re.sub(r"^```.*?^```", "", written, flags=re.DOTALL | re.MULTILINE)
    found = [slide.kind for column in slides.deck(nbformat.read(path, 4))
             for slide in column]
    for mark, kind in (("# ", "title"), ("## ", "section"),
                       ("**Explain.**", "explain")):
        told = len(re.findall(rf"^{re.escape(mark)}", prose, re.MULTILINE))
        assert 1 <= told <= found.count(kind)
    shown = re.sub(r"<aside.*?</aside>", "", text, flags=re.DOTALL)
    assert "<details" not in shown and "<summary>Solution" in text
    assert not re.search(r'(?:src|href)="(?:https?:)?//', shown)
    assert f'href="{path.stem}.html"' in (decks / "index.html").read_text("utf-8")


@pytest.mark.parametrize("name", ["04_mla", "07_pretrain", "14_cluster"])
def test_every_slide_fits_and_nothing_fails(decks: Path, browser: Browser, name: str):
    with serve(decks) as base:
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        troubles = watch(page, base)
        page.goto(f"{base}/{name}.html")
        page.wait_for_function("() => window.Reveal?.isReady()")
        assert page.evaluate(OUTSIDE) == []
        assert page.locator("mjx-container").count() > 20
        assert page.locator("mjx-merror").count() == 0
        assert not re.search(r"\$[a-z\\]", page.locator(".slides").inner_text())
        assert troubles == []
        page.close()


def test_what_sticks_out_is_seen_and_long_code_shrinks(decks: Path, browser: Browser):
    high = new_markdown_cell('## High\n\n<p style="height: 999px">A</p>')
    wide = new_markdown_cell('## Wide\n\n<p style="width: 1999px">A</p>')
    code = new_code_cell(f"x = '{'long ' * 22}'\n" * 28)
    path = decks / "bad.ipynb"
    nbformat.write(lesson(*LESSON, high, code, wide), path)
    slides.write(path, decks)
    with serve(decks) as base:
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.goto(f"{base}/bad.html")
        page.wait_for_function("() => window.Reveal?.isReady()")
        assert [place[:2] for place in page.evaluate(OUTSIDE)] == [[3, 0], [4, 0]]
        page.goto(f"{base}/bad.html?print-pdf&theme=dark")
        page.wait_for_function("() => document.querySelectorAll('.pdf-page').length")
        title = page.locator(".pdf-page section.title")
        assert title.evaluate("part => getComputedStyle(part).padding") == "36px 60px"
        assert page.locator("html").get_attribute("data-theme") == "dark"
        page.close()
