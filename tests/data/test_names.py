"""Names and comments: small cases by hand, the nearest of many by looking at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicoder.data import names
from minicoder.data.names import DEEPEST, Names, beside, heads, tails, without_comments

PATHS = st.lists(st.text("ab/", min_size=1, max_size=8), min_size=1, max_size=12)


def test_tails_and_heads_end_at_whole_parts():
    assert tails("a/b/c.h") == ["c.h", "b/c.h", "a/b/c.h"]
    assert tails("a/b/c", 2) == ["b/c", "a/b/c"] and tails("a", 2) == []
    assert heads("a.b.c") == ["a.b.c", "a.b", "a"] == heads("a/b/c".replace("/", "."))
    assert len(tails("a/" * 999 + "b")) == len(heads("a." * 999)) == DEEPEST


@pytest.mark.parametrize("path, name, found", [
    ("a/b.c", "c.h", "/a/c.h"), ("a/b.c", "../c.h", "/c.h"), ("b.c", "./c.h", "/c.h"),
    ("b.c", ".", "/"), ("a/b/c.py", ".", "/a/b"), ("a/b/c.py", "../.", "/a"),
    ("b.c", "../../c.h", "/../../c.h"), ("a.ts", ".hidden", "/.hidden")])
def test_beside_is_the_path_from_the_folder_of_who_asks(path, name, found):
    assert beside(path, name) == found


@given(PATHS, st.text("ab/", max_size=8))
def test_the_nearest_bearer_has_the_longest_common_beginning(paths, path):
    borne = Names()
    for one in paths:
        borne.add("x", one)

    def common(one):
        return next((i for i, (a, b) in enumerate(zip(one, path, strict=False))
                     if a != b), min(len(one), len(path)))

    (found,) = borne.first(["no", "x"], path)
    assert found in paths and common(found) == max(map(common, paths))
    assert borne.first(["no"], path) == []


@pytest.mark.parametrize("comments, text, left", [
    ("SLASHES", 'a /* x\n" */ b // c\n"/* no */" `// no\n` d',
     'a   b  \n"/* no */" `// no\n` d'),
    ("SLASHES", "a /* open", "a  "),
    ("SLASHES", "'it\\'s // in' // out", "'it\\'s // in'  "),
    ("CHARACTERS", "fn f<'a>(x: &'a str) // c", "fn f<'a>(x: &'a str)  "),
    ("CHARACTERS", "'\"' /* c */ 1'000'000 // d", "'\"'   1'000'000  "),
    ("PHP_COMMENTS", "#[Attribute]\n# c\n'#'", "#[Attribute]\n \n'#'"),
    ("HASHES", "a # b\n'#'\n=begin\nrequire 'x'\n=end\nc", "a  \n'#'\n \nc"),
    ("PYTHON", '"""\nimport x\n""" # y\nimport z', "   \nimport z"),
    ("PYTHON", "'''open\nimport x", " "),
    ("DASHES", "a -- b\n--[[ c\n ]] d '--'", "a  \n  d '--'"),
    ("HASKELL", "a {- b\n-} c -- d\n\"--\"", "a   c  \n\"--\""),
])
def test_comments_become_a_space_and_strings_stay(comments, text, left):
    assert without_comments(text, getattr(names, comments)) == left
    assert without_comments("\ufeff" + text, getattr(names, comments)) == left
