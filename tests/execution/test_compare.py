"""The comparison is strict about types, tolerant about rounding, and never fooled."""

import math
from collections import Counter, OrderedDict, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicoder.execution.common import encode, pack
from minicoder.execution.compare import same, show
from minicoder.execution.verdict import read_answers

EQUAL = [
    (1, 1), (1, 1.0), (0.1 + 0.2, 0.3), (0.0, 1e-12), (math.inf, math.inf),
    (math.nan, math.nan), (1 << 80, 1 << 80), ("a", "a"), (None, None), (True, True),
    ([1, [2]], [1, [2]]), ((1,), (1,)), (set(), set()), ({1, (2, "a")}, {(2, "a"), 1}),
    ({"a": 1, "b": 2.0}, {"b": 2, "a": 1}), ({}, {}), ({1: {2}}, {1: {2}}),
    (b"a\0", b"a\0"), (1 + 2j, 1 + (2 + 1e-12) * 1j), (range(3), range(3)),
    (frozenset({1, 2}), frozenset({2, 1})), (deque([1, 2.0]), deque([1, 2])),
    (Counter("aab"), Counter("baa")), (OrderedDict({1: 2}), OrderedDict({1: 2}))]
DIFFERENT = [
    (1, 2), (1, True), (0, False), (0, None), (1, "1"), (1.0, 1.0001), ("a", "b"),
    (math.inf, -math.inf), (math.nan, 0.0), (1 << 80, (1 << 80) + 1), (10**400, 1.0),
    ([1], (1,)), ([1], [1, 1]), ([], ()), ([], {}), (set(), {}), ({1}, {2}),
    ({1}, {1, 2}), ({1}, {True}), ({1: 2}, {1: 3}), ({1: 2}, {True: 2}),
    ({1: 2}, {2: 2}), ([1, 2], [2, 1]), ("", []), ([[]], [None]),
    (b"a", "a"), (b"a", b"b"), (1j, 2j), (1j, 1), (range(3), [0, 1, 2]),
    ({1}, frozenset({1})), ([1], deque([1])), ({"a": 1}, Counter("a")),
    ([1], iter([1])), (deque([1]), deque([1], 3))]


@pytest.mark.parametrize("a, b", EQUAL)
def test_equal_values(a, b):
    assert same(encode(a), encode(b)) and same(encode(b), encode(a))


@pytest.mark.parametrize("a, b", DIFFERENT)
def test_different_values(a, b):
    assert not same(encode(a), encode(b)) and not same(encode(b), encode(a))


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda v: st.lists(v) | st.tuples(v, v) | st.dictionaries(st.text(), v),
    max_leaves=10)


def typed(value: object) -> object:
    """A value in which bool and int, list and tuple cannot be confused."""
    if isinstance(value, list | tuple):
        return (type(value).__name__, *map(typed, value))
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    return type(value).__name__, value


@settings(deadline=None)
@given(plain, plain)
def test_without_floats_it_is_equality_of_value_and_type(a, b):
    assert same(encode(a), encode(b)) == (typed(a) == typed(b))
    assert same(encode(a), encode(a))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda v: st.lists(v) | st.dictionaries(
        st.sampled_from([*"iftsdxbzncrqmoe", "", "zn", "dm"]), v,
        min_size=1, max_size=1), max_leaves=10)


@settings(deadline=None)
@given(plain, json_values)
def test_a_forged_answer_never_breaks_the_host(want, got):
    answers = list(read_answers(pack(["value", got])))
    assert answers[0][0] == "value"
    assert same(encode(want), answers[0][1]) in (True, False)
    assert isinstance(show(answers[0][1]), str)


@pytest.mark.parametrize("value, text", [
    ([1, "a", None, True], "[1, 'a', None, True]"), ((1,), "(1,)"), ((), "()"),
    ({1}, "{1}"), (set(), "set()"), ({"a": 1.5}, "{'a': 1.5}"),
    (1 << 70, str(1 << 70)), (b"a\n", r"b'a\n'"), (frozenset({1}), "frozenset(1)"),
    (Counter("a"), "Counter({'a': 1})"), (1j, "complex(0.0, 1.0)"),
    (iter("a"), "iterator('a')"), (range(2), "range(0, 2, 1)")])
def test_values_are_shown_as_python_writes_them(value, text):
    assert show(encode(value)) == text
    assert show({"t": 5}) == show({"f": "no number"}) == "?"
