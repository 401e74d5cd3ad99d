"""HTML as text: lines, code and formulas stay, and hostile pages cost little."""

import signal

import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from minicoder.data.html_text import html_to_text


@pytest.mark.parametrize(("page", "text"), [
    ("<p>Hello <b>there</b></p><li>x", "Hello there\n- x\n"),
    ("<title>T</title><h2>A &amp; B</h2>text<br>more", "T\n## A & B\ntext\nmore\n"),
    ("a<script>x < y</script>b<style>p{}</style>c<!-- d > -->e", "abce\n"),
    ("<pre>def f():\n    return  1 &lt; 2</pre>after",
     "```\ndef f():\n    return  1 < 2\n```\nafter\n"),
    ("<pre>a<br>b", "```\na\nb\n"), ("a</pre>b", "ab\n"),
    ("<table><tr><td>1</td><td>2</td></tr></table>", "1\t2\n"),
    ('see <math alttext="x^2"><mi>x</mi></math>', "see $x^2$\n"),
    ('<math><semantics><mi>y</mi><annotation encoding="application/x-tex">y_1 &lt; 2'
     "</annotation></semantics></math>", "$y_1 < 2$\n"),
    ('<script type="math/tex">\\alpha</script>', "$\\alpha$\n"),
    ('<img class="mwe-math-fallback" alt="\\beta"><img alt="cat">', "$\\beta$\n"),
    ("\\(x_1\\) 3 < 4 and a<b", "\\(x_1\\) 3 < 4 and a\n"),
    ('<a title="a > b">link</a>', "link\n"), ("<P CLASS=x>y</P\n>z", "y\nz\n"),
    (f"a&#{'9' * 5000};b&#65;", "a\ufffdbA\n"),      # more digits than int reads
    (f"<math alttext='&#{'9' * 900};'>", "$\ufffd$\n"),
    (f'<img src="data:{"A" * 5000}">after', "after\n"), ("", "\n"),
    ("İ<SCRIPT>x</SCRIPT>y", "İy\n")])
def test_what_stays_of_a_page(page, text):
    assert html_to_text(page) == text


@given(st.lists(st.sampled_from(["div", "p", "span", "b", "h1", "li", "em"])),
       st.lists(st.text("abc &;1é", max_size=8), min_size=1))
def test_well_formed_pages_keep_the_words_that_a_parser_finds(tags, texts):
    page = "".join(f"<{tag}>{text.replace('&', '&amp;')}" for tag, text
                   in zip(tags, texts, strict=False))
    words = BeautifulSoup(page, "html.parser").get_text().replace(" ", "")
    kept = "".join(c for c in html_to_text(page) if not c.isspace())
    assert kept.replace("#", "").replace("-", "") == "".join(words.split())


@given(st.text("<>/!-?\"'= aps&#x;`\n", max_size=200))
def test_no_page_breaks_it(page):
    assert html_to_text(page).endswith("\n")


@pytest.mark.parametrize("piece", [
    "<", "</", "<a ", '<a"', "<a\"<b'\"'", "<!--", "<script>", "<math>",
    "&#x", "<a href='", "<![CDATA[", "<annotation ",
    "<a b=", "\n```\n"])
def test_a_hostile_page_of_a_mebibyte_does_not_hang(piece):
    def stop(*_):
        raise TimeoutError      # the square of its length would take minutes
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    try:
        html_to_text(piece * ((1 << 20) // len(piece)))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
