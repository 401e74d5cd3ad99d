"""Values survive the way through JSON exactly; clean-up follows no link."""

import enum
import io
import itertools
import math
import os
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicoder.execution.common import (
    MAX_DEPTH,
    Opaque,
    decode,
    encode,
    pack,
    remove_tree,
    unpack,
)

keys = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
keys |= st.binary() | st.builds(range, st.integers(), st.integers())
keys |= st.complex_numbers(allow_nan=False) | st.tuples(keys, keys)
keys |= st.frozensets(keys)
values = st.recursive(
    keys, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.sets(keys)
    | st.builds(deque, st.lists(inner), st.none() | st.integers(0, 9))
    | st.dictionaries(keys, inner)
    | st.builds(OrderedDict, st.dictionaries(keys, inner))
    | st.builds(Counter, st.lists(keys)), max_leaves=20)


def text(value: object) -> str:
    """A value as text in which the order of a set does not show."""
    if type(value) in (set, frozenset, tuple):
        items = list(map(text, value))
        items = items if type(value) is tuple else sorted(items)
        return f"{type(value).__name__}({', '.join(items)})"
    return repr(value)


def alike(a: object, b: object) -> bool:
    """Equality of value, type and, for floats, sign; a nan is a nan, it has no sign."""
    if type(a) is not type(b):
        return False
    if type(a) is float:
        same_sign = math.copysign(1, a) == math.copysign(1, b)
        return (a == b and same_sign) or (a != a and b != b)
    if type(a) in (list, tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return alike(list(a.items()), list(b.items()))
    if type(a) is deque:
        return a.maxlen == b.maxlen and alike(list(a), list(b))
    if type(a) in (set, frozenset):
        return text(a) == text(b)
    return a == b


@settings(deadline=None)
@given(values)
def test_a_value_comes_back_as_it_was(value):
    assert alike(decode(unpack(io.BytesIO(pack(encode(value))))), value)


def test_an_iterator_comes_back_as_an_iterator():
    for make in (lambda: iter([1, (2,)]), lambda: (v for v in (1, (2,))),
                 lambda: map(abs, [1]), lambda: itertools.chain([1], [2])):
        kept, back = list(make()), decode(encode(make()))
        assert back != kept and list(back) == kept
    with pytest.raises(Opaque, match="an iterator of more than 1048576 items"):
        encode(itertools.count())


def test_of_a_defaultdict_the_factory_stays_behind():
    back = decode(encode(defaultdict(list, {1: [2]})))
    assert type(back) is defaultdict and back == {1: [2]}
    assert back.default_factory is None


def test_plain_lists_of_numbers_read_as_they_are():
    assert encode([1, -2, "a", True, None]) == [1, -2, "a", True, None]
    assert encode((1, 2.5)) == {"t": [1, {"f": "0x1.4000000000000p+1"}]}
    assert encode(1 << 70) == {"i": hex(1 << 70)}


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize("value", [
    object(), Colour.RED, len, bytearray(b"x"), int, namedtuple("Pair", "a b")(1, 2),
    [type], {"k": {1: open}}, type("Sub", (int,), {})(1), type("Sub", (str,), {})("a"),
    type("Sub", (Counter,), {})("a"), type("Own", (), {
        "__iter__": lambda self: self, "__next__": lambda self: 1})()])
def test_anything_but_exact_builtin_types_is_refused(value):
    with pytest.raises(Opaque, match="object of type"):
        encode(value)


def test_nesting_is_bounded():
    value = []
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    encode(value)
    with pytest.raises(Opaque, match="nested more than 200 deep"):
        encode([[value]])


def test_an_unknown_tag_is_refused():
    with pytest.raises(ValueError, match="unknown tag"):
        decode({"pickle": "gANLKi4="})


def test_a_frame_is_a_length_and_json():
    assert pack([1, "ü"]) == b"\0\0\0\x0c" + b'[1,"\\u00fc"]'
    two = io.BytesIO(pack([1]) + pack("a"))
    assert [unpack(two), unpack(two)] == [[1], "a"]


@pytest.mark.parametrize("data, error", [
    (b"", EOFError), (b"\0\0", EOFError), (b"\0\0\0\2[", EOFError),
    (b"\0\0\0\2[[", ValueError), (b"\0\0\0\0", ValueError),
    (b"\0\0\0\x14" + b" " * 20, ValueError)])
def test_a_cut_a_malformed_and_a_long_frame_are_refused(data, error):
    with pytest.raises(error):
        unpack(io.BytesIO(data), 10)


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
