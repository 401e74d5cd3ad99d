"""Values survive the way through JSON exactly; clean-up follows no link."""

import enum
import json
import math
import os
from collections import Counter, OrderedDict, namedtuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicoder.execution.common import MAX_DEPTH, decode, encode, pack, remove_tree

keys = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
keys |= st.tuples(keys, keys)
values = st.recursive(
    keys, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.sets(keys)
    | st.dictionaries(keys, inner), max_leaves=20)


def alike(a: object, b: object) -> bool:
    """Equality of value, type and, for floats, sign; a nan is a nan, it has no sign."""
    if type(a) is not type(b):
        return False
    if type(a) is float:
        same_sign = math.copysign(1, a) == math.copysign(1, b)
        return (a == b and same_sign) or (a != a and b != b)
    if type(a) in (list, tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    if type(a) is dict:
        return alike(list(a.items()), list(b.items()))
    if type(a) is set:
        return sorted(map(repr, a)) == sorted(map(repr, b))
    return a == b


@settings(deadline=None)
@given(values)
def test_a_value_comes_back_as_it_was(value):
    assert alike(decode(json.loads(pack(encode(value))[4:])), value)


def test_plain_lists_of_numbers_read_as_they_are():
    assert encode([1, -2, "a", True, None]) == [1, -2, "a", True, None]
    assert encode((1, 2.5)) == {"t": [1, {"f": "0x1.4000000000000p+1"}]}
    assert encode(1 << 70) == {"i": hex(1 << 70)}


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize("value", [
    object(), b"x", 1j, range(3), frozenset(), Colour.RED, Counter("a"), len,
    OrderedDict(), namedtuple("Pair", "a b")(1, 2), [type], {"k": {1: iter("")}},
    type("Sub", (int,), {})(1), type("Sub", (str,), {})("a")])
def test_anything_but_exact_builtin_types_is_refused(value):
    with pytest.raises(TypeError, match="object of type"):
        encode(value)


def test_nesting_is_bounded():
    value = []
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    encode(value)
    with pytest.raises(TypeError, match="nested more than 100 deep"):
        encode([[value]])


def test_an_unknown_tag_is_refused():
    with pytest.raises(ValueError, match="unknown tag"):
        decode({"pickle": "gANLKi4="})


def test_a_frame_is_a_length_and_json():
    assert pack([1, "ü"]) == b"\0\0\0\x0c" + b'[1,"\\u00fc"]'


def test_deep_locked_and_linked_folders_are_removed(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "precious").write_text("x")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(kept)
    (folder / "file").write_text("y")
    here = os.getcwd()
    os.chdir(folder)
    try:
        for _ in range(1200):
            os.mkdir("deeper")
            os.chdir("deeper")
    finally:
        os.chdir(here)
    (folder / "locked").mkdir()
    (folder / "locked" / "file").write_text("z")
    (folder / "locked").chmod(0)
    remove_tree(str(folder))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept"]
    assert (kept / "precious").read_text() == "x"
