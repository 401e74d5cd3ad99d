"""The site's pages are printed in their order, joined, and linked inside one file."""

import importlib.util
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if not importlib.util.find_spec("pypdf"):
    pytest.skip("no pypdf: `make book` sets it up", allow_module_level=True)

from pypdf import PdfReader  # noqa: E402

from book import pdf  # noqa: E402

PAGE = """<!DOCTYPE html><html data-theme="dark"><head><title>{} · page — us</title>
<link rel="stylesheet" href="book.css"><script src="site.js"></script></head>
<body><h1>Page {}</h1><p><a href="{}.html#a">over there</a>, <a href="c.html">lost</a>,
<a href="https://example.org/x">away</a></p><details><summary>Solution</summary>
<p>folded words</p></details><input type="range"><pre>{}</pre></body></html>"""


def test_contents_are_in_the_order_of_the_table(tmp_path):
    toc = tmp_path / "_toc.yml"
    toc.write_text("root: a\nparts:\n- caption: x\n  chapters:\n  - file: b\n"
                   "    sections:\n    - file: c\n- chapters:\n  - file: d\n")
    assert list(pdf.contents(toc)) == ["a", "b", "c", "d"]
    ours = list(pdf.contents())
    assert ours[0] == "book/index" and len(set(ours)) == len(ours) > 16


def test_two_pages_become_one_file(tmp_path, monkeypatch, capsys):
    if not any(map(shutil.which, pdf.CHROMIUM)):
        pytest.skip("no Chromium (Debian, Ubuntu: apt install chromium)")
    site = tmp_path / "html"
    site.mkdir()
    for name in ("book.css", "site.js"):
        shutil.copy(ROOT / "book/_static" / name, site)
    for name, other in ("ab", "ba"):
        (site / f"{name}.html").write_text(
            PAGE.format(name, name, other, "wide " * 60), encoding="utf-8")
    monkeypatch.setattr(pdf, "contents", lambda: iter("ab"))
    pdf.main([str(site)])
    assert "2 pages of the site are 2 of" in capsys.readouterr().out
    book = PdfReader(tmp_path / "minicoder.pdf")
    assert [mark.title for mark in book.outline] == ["a · page", "b · page"]
    for number, sheet in enumerate(book.pages):
        text = sheet.extract_text()
        assert "folded words" in text and text.count("wide") == 60
        links = [note.get_object() for note in sheet["/Annots"]]
        assert [link["/A"]["/URI"] for link in links if "/A" in link] == [
            "https://example.org/x"]
        inner, = (link["/Dest"] for link in links if "/Dest" in link)
        assert book.get_page_number(inner[0].get_object()) == 1 - number


def test_a_site_that_lacks_a_page_and_a_machine_without_chromium(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="has no index.html: run `make book` first"):
        pdf.main([str(tmp_path)])
    monkeypatch.setattr(pdf, "CHROMIUM", ("no-such-browser",))
    with pytest.raises(SystemExit, match="apt install chromium"):
        pdf.browser()
