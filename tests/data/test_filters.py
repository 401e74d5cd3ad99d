"""Each rule of the corpus at its threshold, from both sides (Coder-V2 §2)."""

import time

import pytest

from minicoder.data import filters
from minicoder.data.filters import RULES, first_objection, visible_text
from minicoder.data.sources import Document

HTML = "<html><head><title>not seen</title></head><body>{}</body></html>"


def document(text, language="Python", kind="code"):
    return Document(text, "file", language, kind, "here", "MIT")


def data(size):
    return '"' + "a" * (size - 2) + '"'


@pytest.mark.parametrize(("rule", "kept", "gone", "language"), [
    ("mean_line", "a" * 100 + "\n" + "b" * 100, "a" * 101 + "\n" + "b" * 100, "C"),
    ("longest_line", "x\n" + "a" * 1000, "x\n" + "a" * 1001, "C"),
    ("alphabetic", "a" * 25 + "1" * 75, "a" * 24 + "1" * 76, "C"),
    ("xml_header", " " * 86 + "<?xml version=", " " * 87 + "<?xml version=", "XSLT"),
    ("html_text", HTML.format("a" * 100), HTML.format("a" * 99), "HTML"),
    ("data_size", data(50), data(49), "JSON"),
    ("data_size", data(5000), data(5001), "JSON"),
    ("data_size", data(5000), data(5001), "YAML"),
    ("python_syntax", "def f(): pass", "def f() pass", "Python"),
    ("python_syntax", "x = '\\d'", "x = \0", "Python"),
])
def test_a_rule_at_its_threshold(rule, kept, gone, language):
    judge = getattr(filters, rule)
    if rule == "xml_header":    # here the language decides, then the place
        assert judge(document(kept, "XSLT")) is None
        assert judge(document(kept, "XML")) is not None
        kept, gone, language = gone, kept, "XML"
    assert judge(document(kept, language)) is None
    assert judge(document(gone, language)) is not None


@pytest.mark.parametrize("rule", ["html_text", "data_size", "python_syntax"])
def test_a_rule_of_one_language_leaves_the_others(rule):
    assert getattr(filters, rule)(document("<", "C")) is None


@pytest.mark.parametrize(("size", "keeps"), [(1000, True), (1001, False)])
def test_html_needs_a_fifth_of_visible_text(size, keeps):
    shown = "<p>" + "a" * 200 + "</p>"
    page = shown + "<!" + "-" * (size - len(shown) - 3) + ">"
    assert len(page) == size
    assert (filters.html_text(document(page, "HTML")) is None) == keeps


def test_scripts_styles_and_tags_are_not_visible():
    page = ("<head><title>t</title></head><p class='x'>one<b>two</b></p>"
            "<SCRIPT src=a>if (a<b && c>d) three()</SCRIPT><style>p{}</style>four")
    assert visible_text(page) == "one two four"


@pytest.mark.parametrize("evil", ["<", "<script>", "<!--", "</", "<a "])
def test_hostile_html_costs_linear_time(evil):
    def cost(size):
        began = time.process_time()
        visible_text(evil * size)
        return time.process_time() - began
    cost(10_000)
    # 16 times the text: linear is 16, quadratic 256; the floor drowns timer noise
    assert cost(160_000) < 64 * max(cost(10_000), 0.005)


def test_an_empty_file_has_no_letters():
    assert filters.alphabetic(document("", "C")) is not None
    assert filters.mean_line(document("", "C")) is None
    assert filters.longest_line(document("", "C")) is None


def test_the_first_rule_that_objects_is_named_and_prose_is_left_alone():
    text = "1" * 2000
    assert first_objection(document(text, "C"))[0] == RULES[0][0] == "mean line"
    assert first_objection(document(text, "Text", "text")) is None
    assert first_objection(document("x = 1\nword = 2\n")) is None
    assert len({name for name, _, _ in RULES}) == len(RULES) == 7


def test_nesting_that_overflows_the_parser_is_a_syntax_error(recwarn):
    assert "syntax" in filters.python_syntax(document("(" * 5000))
    assert "syntax" in filters.python_syntax(document("-" * 200_000 + "1"))
    assert filters.python_syntax(document("assert (1, 'x')")) is None
    assert not recwarn.list     # the parser's warnings are nobody's business
