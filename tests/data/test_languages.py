"""The language table: unambiguous, and found by name."""

import pytest

from minicoder.data.languages import LANGUAGES, language_of


@pytest.mark.parametrize(("path", "name", "kind"), [
    ("a/b.py", "Python", "code"), ("x.PY", "Python", "code"),
    ("Makefile", "Makefile", "code"), ("deep/CMakeLists.txt", "CMake", "code"),
    ("style.xsl", "XSLT", "code"), ("README.md", "Markdown", "text"),
    ("notes.txt", "Text", "text")])
def test_a_file_name_tells_the_language(path, name, kind):
    language = language_of(path)
    assert (language.name, language.kind) == (name, kind)


@pytest.mark.parametrize("path", ["a.bin", "py", ".py.bak", "a.py/x", ""])
def test_unknown_names_have_none(path):
    assert language_of(path) is None


def test_no_ending_or_name_means_two_languages():
    for part in ("endings", "files"):
        all_of = [item for lang in LANGUAGES for item in getattr(lang, part)]
        assert len(all_of) == len(set(all_of))
    assert all(e == e.lower() and e[0] == "." for lang in LANGUAGES
               for e in lang.endings)
