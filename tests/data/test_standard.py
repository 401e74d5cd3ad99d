"""The standard corpus: only what the requirements bring, and never run."""

import sys
from importlib import metadata
from itertools import groupby

import pytest

from minicoder.data.licences import licence_in_headers
from minicoder.data.sources import NOT_SAMPLED
from minicoder.data.standard import (
    DOCSTRING_LEAST,
    NOT_CODE,
    PACKAGE_BYTES,
    REQUIREMENTS,
    doc_texts,
    packages,
    standard_corpus,
)
from minicoder.errors import UserError

LONG = "A sentence of the documentation. " * 8


@pytest.fixture(scope="module")
def corpus():
    return list(standard_corpus(REQUIREMENTS, 0.02, 1, [].append))


def test_all_three_kinds_come_with_origin_and_licence(corpus):
    assert {d.kind for d in corpus} == {"code", "math", "text"}
    assert all(d.origin and d.licence and "\n" not in d.licence for d in corpus)
    origins = {d.origin for d in corpus if d.kind == "math"}
    assert origins == {"mpmath: docstrings", "sympy: docstrings"}
    assert {d.licence for d in corpus if d.path.startswith("Lib/")} == {"PSF-2.0"}


def test_what_serves_as_math_or_text_is_not_code(corpus):
    code = [d for d in corpus if d.kind == "code"]
    assert not {d.origin for d in code} & NOT_CODE
    assert not [d.path for d in code if "pydoc_data" in d.path or "/tests/" in d.path]


def test_no_package_takes_more_than_its_share(corpus):
    used = {}
    for d in corpus:
        if d.kind == "code" and d.origin != "Python standard library":
            used[d.origin, d.language] = (used.get((d.origin, d.language), 0)
                                          + len(d.text.encode()))
    assert used and max(used.values()) <= 0.02 * PACKAGE_BYTES


def test_the_corpus_is_the_same_again_and_another_with_another_seed():
    def few(seed):
        left = []
        documents = list(standard_corpus(["tqdm", "mpmath", "einops"], 0.05, seed,
                                         left.append))
        assert NOT_SAMPLED in {one.rule for one in left}
        return documents
    assert few(1) == few(1) != few(2)


def test_documents_of_an_origin_follow_each_other(corpus):
    code = [d.origin for d in corpus if d.kind == "code"]
    assert len([o for o, _ in groupby(code)]) == len(set(code))


def test_the_corpus_is_made_as_it_is_asked_for():
    stream = standard_corpus(["mpmath"], 1.0, 0, [].append)
    assert not isinstance(stream, list) and next(stream).kind == "text"
    with pytest.raises(UserError, match="no-such-package is not installed"):
        next(standard_corpus(["no_such.package"], 1.0, 0, [].append))


def test_only_the_closure_of_the_requirements_is_read():
    found = packages(["torch"])
    assert {"torch", "sympy", "mpmath"} <= set(found)   # torch → sympy → mpmath
    assert "matplotlib" not in found and list(found) == sorted(found)
    with pytest.raises(UserError, match="no-such-package is not installed"):
        packages(["no_such.package"])


def test_packages_are_read_and_not_imported():
    assert "mpmath" in packages(["mpmath"])
    before = set(sys.modules)
    assert list(standard_corpus(["mpmath"], 0.01, 0, [].append))
    assert not {n for n in set(sys.modules) - before if n.startswith("mpmath")}


def test_docstrings_and_added_docs_are_found_when_long():
    source = (f'"""{LONG}"""\n'
              f'def f():\n    """{LONG}f"""\n'
              f'class A:\n    if 1:\n        async def g(self):\n'
              f'            """{LONG}g\n\n            more"""\n'
              f'def short():\n    """Too short."""\n'
              f'add_newdoc("m", "name", ("part", """{LONG}h"""))\n'
              f'print("""{LONG}no documentation""")\n')
    texts = dict(doc_texts(source))
    assert sorted(texts) == [1, 2, 6, 12]
    assert texts[2] == LONG + "f" and texts[12] == LONG + "h"
    assert texts[6].endswith("g\n\nmore")       # indentation is not part of the text
    assert not list(doc_texts(f'"""{"x" * DOCSTRING_LEAST}"""'))
    assert list(doc_texts(f'"""{"x" * (DOCSTRING_LEAST + 1)}"""'))


@pytest.mark.parametrize(("fields", "licence"), [
    ("License-Expression: MIT\nLicense: other", "MIT"),
    ("License: BSD 3-Clause", "BSD 3-Clause"),
    ("License: UNKNOWN\nClassifier: License :: OSI Approved :: ISC License (ISCL)",
     "ISC License (ISCL)"),
    ("License: A long text\n  of many lines\nClassifier: License :: OSI Approved :: X",
     "X"),
    ("License: First line of a text\n  and more", "First line of a text"),
    ("Summary: none", "unknown")])
def test_a_licence_is_one_line(tmp_path, fields, licence):
    folder = tmp_path / "p-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: p\n{fields}\n")
    assert licence_in_headers(metadata.Distribution.at(folder).metadata) == licence
