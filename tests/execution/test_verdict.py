"""The comparison is strict about types, tolerant about rounding, and never fooled."""

import json
import math
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicoder.execution.common import OUT_OF_MEMORY, encode, pack
from minicoder.execution.verdict import (
    Ending,
    Limits,
    clean,
    read_answers,
    same,
    settle,
    show,
)

EQUAL = [
    (1, 1), (1, 1.0), (0.1 + 0.2, 0.3), (0.0, 1e-12), (math.inf, math.inf),
    (math.nan, math.nan), (1 << 80, 1 << 80), ("a", "a"), (None, None), (True, True),
    ([1, [2]], [1, [2]]), ((1,), (1,)), (set(), set()), ({1, (2, "a")}, {(2, "a"), 1}),
    ({"a": 1, "b": 2.0}, {"b": 2, "a": 1}), ({}, {}), ({1: {2}}, {1: {2}})]
DIFFERENT = [
    (1, 2), (1, True), (0, False), (0, None), (1, "1"), (1.0, 1.0001), ("a", "b"),
    (math.inf, -math.inf), (math.nan, 0.0), (1 << 80, (1 << 80) + 1), (10**400, 1.0),
    ([1], (1,)), ([1], [1, 1]), ([], ()), ([], {}), (set(), {}), ({1}, {2}),
    ({1}, {1, 2}), ({1}, {True}), ({1: 2}, {1: 3}), ({1: 2}, {True: 2}),
    ({1: 2}, {2: 2}), ([1, 2], [2, 1]), ("", []), ([[]], [None])]


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
        st.sampled_from(["i", "f", "t", "s", "d", "x"]), v, min_size=1, max_size=1),
    max_leaves=10)


@settings(deadline=None)
@given(plain, json_values)
def test_a_forged_answer_never_breaks_the_host(want, got):
    answers = list(read_answers(pack(["value", got])))
    assert answers[0][0] == "value"
    assert same(encode(want), answers[0][1]) in (True, False)
    assert isinstance(show(answers[0][1]), str)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_noise_is_refused_or_read(data):
    try:
        assert all(kind in ("value", "opaque", "error", "syntax")
                   for kind, _ in read_answers(data))
    except ValueError:
        pass


@pytest.mark.parametrize("body", [
    b"", b"1", b"[]", b'["value"]', b'["pass", 1]', b'["value", {}]',
    b'["value", {"t": [], "s": []}]', b'["error", 1]', b'["error", ["A"]]', b"\xff",
    b'["value", ' + b"9" * 5000 + b"]", b'["value", ' + b"[" * 99999 + b"]" * 99999])
def test_a_malformed_answer_is_refused(body):
    with pytest.raises(ValueError):
        list(read_answers(len(body).to_bytes(4, "big") + body))


@pytest.mark.parametrize("value, text", [
    ([1, "a", None, True], "[1, 'a', None, True]"), ((1,), "(1,)"), ((), "()"),
    ({1}, "{1}"), (set(), "set()"), ({"a": 1.5}, "{'a': 1.5}"),
    (1 << 70, str(1 << 70))])
def test_values_are_shown_as_python_writes_them(value, text):
    assert show(encode(value)) == text
    assert show({"t": 5}) == show({"f": "no number"}) == "?"


def test_text_is_cut_and_cannot_steer_a_terminal():
    assert clean("a\x1b[2J\tb\n\x00\x9b\u202e\ud800") == "a�[2J\tb\n���?"
    assert clean("x" * 1000) == "x" * 300 + "…"


CASES = [("f(1)", 1), ("f(2)", 2)]
GOOD = pack(["value", 1]) + pack(["value", 2])


def ending(answers: bytes = GOOD, status: int = 0, stopped_by: str = "",
           flooded: bool = False, cpu_ms: float = 1.0) -> Ending:
    return Ending(answers, b"", flooded, status, stopped_by, cpu_ms, 2.0, 3.0)


@pytest.mark.parametrize("found, verdict, passed", [
    (ending(), "pass", 2),
    (ending(GOOD + GOOD), "pass", 2),
    (ending(pack(["value", 1])), "crash", 1),
    (ending(b""), "crash", 0),
    (ending(GOOD, status=1 << 8), "crash", 2),
    (ending(GOOD, status=signal.SIGSEGV), "crash", 2),
    (ending(GOOD, flooded=True, status=signal.SIGKILL, stopped_by="host"), "output", 2),
    (ending(GOOD, status=signal.SIGKILL, stopped_by="wall"), "timeout", 2),
    (ending(b"", status=signal.SIGPROF), "timeout", 0),
    (ending(b"", status=signal.SIGXCPU), "timeout", 0),
    (ending(b"", status=signal.SIGKILL, cpu_ms=3000.0), "timeout", 0),
    (ending(b"", status=signal.SIGKILL), "crash", 0),
    (ending(b"", status=OUT_OF_MEMORY << 8), "memory", 0),
    (ending(pack(["value", 2]) + pack(["value", 2])), "fail", 1),
    (ending(pack(["opaque", "x"]) + pack(["value", 2])), "fail", 1),
    (ending(pack(["error", ["E", "m", 3]]) + pack(["value", 2])), "error", 1),
    (ending(pack(["error", ["MemoryError", "", 0]])), "memory", 0),
    (ending(pack(["syntax", ["SyntaxError", "m", 0]])), "syntax_error", 0),
    (ending(pack(["value", 1]) + b"noise"), "crash", 1),
])
def test_verdicts(found, verdict, passed):
    result = settle(CASES, Limits(), found, "weak")
    assert (result.verdict, result.passed, result.total) == (verdict, passed, 2)
    assert bool(result.message) == (verdict != "pass")
    json.dumps(result.__dict__)


def test_messages_say_what_was_wrong():
    def message(*answers: object) -> str:
        found = ending(b"".join(map(pack, answers)))
        return settle(CASES, Limits(), found, "weak").message

    assert message(["value", "a"], ["value", 2]) == "f(1) returned 'a', not 1"
    assert message(["value", 1], ["error", ["KeyError", "'k'", 7]]) == (
        "KeyError: 'k' (line 7)")
    assert message(["value", 1], ["opaque", "an object of type X"]) == (
        "f(2) returned an object of type X, not 2")
    assert settle(CASES, Limits(), ending(b"noise"), "weak").message == (
        "wrote into the channel of the sandbox")
    assert message(["value", 1]) == "left with status 0 after 1 of 2 cases"
