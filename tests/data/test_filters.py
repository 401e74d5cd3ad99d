"""Each rule of the corpus at its threshold, from both sides (Coder-V2 §2)."""

import time

import pytest

from minicoder.data import filters
from minicoder.data.filters import RULES, first_objection, visible_text
from minicoder.data.languages import LANGUAGES
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
    ("data_size", data(50), data(49), "YAML"),
    ("syntax", "def f(): pass", "def f() pass", "Python"),
    ("syntax", "x = '\\d'", "x = \0", "Python"),
    ("syntax", '{"a": [1]}', '{"a": [1,]}', "JSON"),
    ("syntax", "a = [1]", "a = [1", "TOML"),
])
def test_a_rule_at_its_threshold(rule, kept, gone, language):
    judge = getattr(filters, rule)
    if rule == "xml_header":    # here the language decides, then the place
        assert judge(document(kept, "XSLT")) is None
        assert judge(document(kept, "XML")) is not None
        kept, gone, language = gone, kept, "XML"
    assert judge(document(kept, language)) is None
    assert judge(document(gone, language)) is not None


@pytest.mark.parametrize("rule", ["html_text", "data_size", "syntax"])
def test_a_rule_of_one_language_leaves_the_others(rule):
    assert getattr(filters, rule)(document("<", "Haskell")) is None


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


def test_a_document_of_data_meets_its_own_rules():
    header = '<?xml version="1.0"?>'
    page = HTML.format("a few words")
    for text, language, rule in ((f"{header}<a>word</a>", "XML", "XML header"),
                                 (page, "HTML", "HTML text"),
                                 ("a: b\n", "YAML", "JSON, YAML size"),
                                 ("[]", "JSON", "alphabetic"),
                                 ('{"a": "' + "word " * 15 + '"', "JSON", "syntax")):
        assert first_objection(document(text, language))[0] == rule
    for text, language in ((f"{header}<xsl:stylesheet/>", "XSLT"),
                           (HTML.format("a few words\n" * 20), "HTML"),
                           ("words: of yaml\n" * 10, "YAML")):
        assert first_objection(document(text, language)) is None


def test_nesting_that_overflows_the_parser_is_a_syntax_error(recwarn):
    for text, language in (("(" * 5000, "Python"), ("-" * 200_000 + "1", "Python"),
                           ("[" * 200_000, "JSON"), ("a = " + "[" * 5000, "TOML"),
                           ("[" + "1" * 5000 + "]", "JSON")):
        assert "syntax" in filters.syntax(document(text, language))
    assert filters.syntax(document("assert (1, 'x')")) is None
    assert not recwarn.list     # the parser's warnings are nobody's business


SOUND = {
    "C": "int f(int a) { return a; }", "C++": "struct A { int f() { return 1; } };",
    "C#": "class A { int F() { return 1; } }", "Go": "package a\nfunc f() { g() }\n",
    "JSX": "let a = <p>{f(1)}</p>;", "Java": "class A { int f() { return 1; } }",
    "JavaScript": "function f() { return 1; }", "PHP": "<?php function f() { g(); }",
    "Ruby": "def f() g() end\n", "Rust": "fn f() -> u8 { g() }",
    "TypeScript": "function f(a: number) { return <T>a; }"}
needs_grammars = pytest.mark.skipif(
    not filters.tree_sitter(), reason="tree-sitter-language-pack is not installed")


@needs_grammars
@pytest.mark.parametrize("language", filters.GRAMMARS)
def test_a_grammar_keeps_sound_code_and_drops_code_with_a_hole(language):
    text = SOUND[language]
    hole = (" ".join(reversed(text.split())) if language in ("C", "C++")
            else text.replace(")", "", 1))
    assert filters.syntax(document(text, language)) is None
    assert filters.syntax(document(hole, language)) is not None


@needs_grammars
def test_tsx_has_its_own_grammar():
    text = "let a = <p>{f(1)}</p>;"
    for path, kept in (("a.ts", False), ("a.tsx", True)):
        one = Document(text, path, "TypeScript", "code", "here", "MIT")
        assert (filters.syntax(one) is None) == kept


@pytest.mark.parametrize(("language", "share", "keeps"), [
    ("C", 0.25, True), ("C", 0.2501, False), ("C++", 0.25, True), ("Go", 0, True),
    ("C++", 0.2501, False), ("Go", 0.0001, False)])
def test_what_may_be_broken(monkeypatch, language, share, keeps):
    monkeypatch.setattr(filters, "tree_sitter", lambda: True)
    monkeypatch.setattr(filters, "broken_share", lambda source, grammar: share)
    assert (filters.syntax(document("x", language)) is None) == keeps


@needs_grammars
def test_the_broken_share_counts_bytes_and_missing_tokens():
    assert filters.broken_share(b"f();", "javascript") == 0
    assert filters.broken_share(b"", "javascript") == 0
    assert filters.broken_share(b"f(;", "javascript") == pytest.approx(1 / 3)


@needs_grammars
def test_a_hostile_file_stops_the_parser(monkeypatch):
    monkeypatch.setattr(filters, "SLOWEST_PARSE", 0.05)
    reason = filters.syntax(document("x=>" * 20_000, "C"))
    assert reason == "syntax: no parse in 0.05 s"


def test_of_a_conditional_the_first_branch_is_read():
    source = ("#if A\nif (a) {\n#elif B\nif (b) {\n#else\nif (c) {\n#endif\n"
              "f();\n}\n#define G(x) \\\n  h(\n#if B\n#if C\nk();\n#endif\n"
              "#else\n#if D\n#endif\nl();\n#endif\n#endif\nm();")
    kept = filters.first_branch(source)
    assert kept.split() == ["if", "(a)", "{", "f();", "}", "k();", "m();"]
    assert kept.count("\n") == source.count("\n")


def test_the_parsers_that_are_here_are_named(monkeypatch):
    monkeypatch.setattr(filters, "tree_sitter", lambda: True)
    assert filters.parsers() == ("Python", "JSON", "TOML", *filters.GRAMMARS)
    monkeypatch.setattr(filters, "tree_sitter", lambda: False)
    assert filters.parsers() == ("Python", "JSON", "TOML")
    assert filters.syntax(document("int f( {", "C")) is None
    assert "cobol" not in filters.GRAMMARS.values()
    assert set(filters.PARSERS) <= {language.name for language in LANGUAGES}
