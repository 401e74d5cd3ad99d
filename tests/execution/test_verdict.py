"""From what processes sent to a verdict; nothing that is forged or cut passes."""

import json
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicoder.errors import UserError
from minicoder.execution.common import MAX_FRAME, OUT_OF_MEMORY, pack
from minicoder.execution.verdict import (
    Ending,
    Limits,
    clean,
    read_answers,
    read_report,
    settle,
    settle_tests,
)


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


def test_text_is_cut_and_cannot_steer_a_terminal():
    assert clean("a\x1b[2J\tb\n\x00\x9b\u202e\ud800") == "a�[2J\tb\n���?"
    assert clean("x" * 1000) == "x" * 300 + "…"


@pytest.mark.parametrize("value", [0, -1, float("nan"), 1 << 40])
def test_a_limit_is_a_number_above_0(value):
    with pytest.raises(UserError, match="limit cpu_s is .*; it must be above 0"):
        Limits(cpu_s=value)


def test_an_answer_longer_than_a_frame_may_be_is_refused():
    with pytest.raises(ValueError, match="too long"):
        list(read_answers((MAX_FRAME + 1).to_bytes(4, "big") + b"[" * 9))


def test_hostile_text_is_cleaned_in_linear_time():
    """In quadratic time this one would take a quarter of an hour."""
    for text in ("/a" * 250_000, "/" * 500_000, "/minicoder-" * 50_000):
        assert len(clean(text, 1 << 20)) <= len(text)


def test_scratch_folders_are_not_shown():
    assert clean("No such file: '/a/b-1/minicoder-x_7/12/in/f.txt'") == (
        "No such file: 'in/f.txt'")
    assert clean("/usr/lib/minicoder/f.txt") == "/usr/lib/minicoder/f.txt"


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
    (ending(GOOD, status=signal.SIGKILL, stopped_by="memory"), "memory", 2),
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


def test_the_first_wrong_cases_are_told():
    cases = [(f"f({n})", n) for n in range(100)]
    answers = b"".join(pack(["value", n if n % 2 else -1]) for n in range(100))
    result = settle(cases, Limits(), ending(answers), "weak")
    assert (result.passed, result.total, len(result.failures)) == (50, 100, 20)
    assert result.failures[:2] == ((1, "fail", "f(0) returned -1, not 0"),
                                   (3, "fail", "f(2) returned -1, not 2"))
    assert result.message == result.failures[0][2]


def test_output_that_was_cut_is_marked():
    shown = Ending(GOOD, b"x" * 3000, True, signal.SIGKILL, "host", 1.0, 2.0, 3.0)
    result = settle(CASES, Limits(output_kib=1), shown, "weak")
    assert result.output_truncated and result.output == "x" * 1024
    assert result.message == "wrote more than 1 KiB"
    answers = settle(CASES, Limits(), ending(flooded=True), "weak")
    assert not answers.output_truncated
    assert answers.message == "sent more answers than it may"


def report(verdict: str = "", message: str = "", passed: int = 2, total: int = 2,
           calls: int = 2, failures: object = ()) -> bytes:
    return pack(["report", [verdict, message, passed, total, calls, failures]])


ONE_WRONG = report(passed=1, failures=[[2, "fail", "assert f(2) == 2"]])


@pytest.mark.parametrize("program, tests, verdict", [
    (ending(), ending(report()), "pass"),
    (ending(status=1 << 8), ending(report()), "pass"),  # it left after the tests
    (ending(status=9, stopped_by="host"), ending(report()), "pass"),
    (ending(flooded=True), ending(report()), "output"),
    (ending(), ending(ONE_WRONG), "fail"),
    (ending(), ending(report("error", "NameError", 0)), "error"),
    (ending(), ending(report("refused", "no test", 0, 0)), "refused"),
    (ending(), ending(report("lost", passed=1)), "crash"),
    (ending(status=signal.SIGPROF), ending(report("lost", passed=1)), "timeout"),
    (ending(status=OUT_OF_MEMORY << 8), ending(report("lost")), "memory"),
    (ending(status=9, stopped_by="wall"), ending(report("lost")), "timeout"),
    (ending(), ending(b""), "crash"),
    (ending(), ending(b"", status=signal.SIGPROF), "timeout"),
    (ending(), ending(report() + report()), "crash"),
    (ending(), ending(report(passed=1)), "crash"),  # a pass that contradicts itself
    (ending(), ending(report(passed=0, total=0)), "crash"),
    (None, ending(report()), "pass"),
    (None, ending(report("lost"), status=3 << 8), "crash"),
    (None, ending(b"", status=signal.SIGSEGV), "crash"),
])
def test_verdicts_of_test_programs(program, tests, verdict):
    result = settle_tests(program, tests, Limits(), "weak", "apart")
    assert result.verdict == verdict
    assert bool(result.message) == (verdict != "pass")
    json.dumps(result.__dict__)


@settings(deadline=None)
@given(st.binary(max_size=80) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda v: st.lists(v, max_size=7)).map(lambda v: pack(["report", v])))
def test_no_noise_is_a_report(data):
    assert read_report(data) is None
    assert settle_tests(None, ending(data), Limits(), "weak").verdict == "crash"
