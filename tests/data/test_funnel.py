"""The funnel counts what goes and what stays, and its size has a bound."""

import pytest

from minicoder.data import funnel as module
from minicoder.data.funnel import SAMPLES, Funnel, removed, size
from minicoder.data.sources import NOT_SAMPLED, Document, Dropped

ORDER = [("first", "why one"), ("second", "why two")]


def document(number=0, **other):
    about = {"text": "é" * number, "path": f"{number}.py", "language": "Python",
             "kind": "code", "origin": "here", "licence": "MIT"} | other
    return Document(**about)


def test_each_rule_says_what_it_saw_and_removed():
    funnel = Funnel(ORDER)
    for number in range(1, 6):
        funnel(Dropped("second", f"{number}.py", 10, "text", "bad"))
    funnel(Dropped("first", "x.py", 7))
    funnel(Dropped(NOT_SAMPLED, "y.py", 1000))
    funnel.keep(document(3), heldout=False)
    funnel.keep(document(4, kind="text", origin="there"), heldout=True)
    report = funnel.report()
    first, second = report["rules"]
    assert (first["rule"], first["why"]) == ORDER[0]
    assert (first["documents_in"], first["bytes_in"]) == (8, 7 + 50 + 6 + 8)
    assert (first["documents_removed"], first["bytes_removed"]) == (1, 7)
    assert (second["documents_in"], second["bytes_in"]) == (7, 64)
    assert (second["documents_removed"], second["bytes_removed"]) == (5, 50)
    assert second["example"] == {"path": "1.py", "excerpt": "text", "reason": "bad"}
    assert [one["path"] for one in second["samples"]] == ["1.py", "2.py", "3.py"]
    assert report["kept"]["code"] == {"documents": 1, "bytes": 6}
    assert report["kept"]["text"] == report["heldout"]["text"] == {
        "documents": 1, "bytes": 8}
    assert report["heldout"]["code"] == {"documents": 0, "bytes": 0}
    assert report["by_language"] == {"Python": {"documents": 2, "bytes": 14}}
    assert report["not_sampled"] == {"documents": 1, "bytes": 1000}


def test_a_rule_that_nobody_announced_is_counted_as_the_sources():
    funnel = Funnel(ORDER)
    funnel(Dropped("zip bomb", "a.whl", 5))
    rules = funnel.report()["rules"]
    assert [rule["rule"] for rule in rules] == ["zip bomb", "first", "second"]
    assert [rule["documents_in"] for rule in rules] == [1, 0, 0]


def test_a_rule_without_removals_has_no_example():
    rule = Funnel(ORDER).report()["rules"][0]
    assert rule["example"] is None and rule["samples"] == []


def test_an_origin_has_its_kind_and_licence():
    funnel = Funnel(())
    for one in (document(1), document(2), document(2, kind="text"),
                document(1, origin="b", licence="unknown"),
                document(1, origin="b", licence="GPL-3.0"),
                document(1, origin="c"), document(1, origin="c", licence="BSD")):
        funnel.keep(one, heldout=False)
    report = funnel.report()
    assert report["by_origin"] == {
        "here": {"kind": "code", "documents": 2, "bytes": 6, "licence": "MIT"},
        "here (text)": {"kind": "text", "documents": 1, "bytes": 4, "licence": "MIT"},
        "b": {"kind": "code", "documents": 2, "bytes": 4, "licence": "GPL-3.0"},
        "c": {"kind": "code", "documents": 2, "bytes": 4, "licence": "various"}}
    assert {name: one["documents"] for name, one in report["licences"].items()} == {
        "MIT": 4, "unknown": 1, "GPL-3.0": 1, "BSD": 1}


@pytest.mark.parametrize("extra", [0, 1])
def test_origins_beyond_the_limit_are_counted_together(monkeypatch, extra):
    monkeypatch.setattr(module, "MOST_NAMES", 3)
    funnel = Funnel(())
    for number in [0, 1, 2] + [3, 4] * extra + [0]:
        funnel.keep(document(1, origin=f"o{number}"), heldout=False)
    found = funnel.report()["by_origin"]
    assert list(found) == ["o0", "o1", "o2", "others"][:3 + extra]
    assert found["o0"]["documents"] == 2
    assert not extra or found["others"]["documents"] == 2


def test_samples_are_few_and_short():
    funnel = Funnel(ORDER)
    for _ in range(SAMPLES + 2):
        funnel(Dropped("first", "a", 1, "x" * 5000, "y" * 5000))
    samples = funnel.report()["rules"][0]["samples"]
    assert len(samples) == SAMPLES
    assert max(len(value) for one in samples for value in one.values()) == 300


def test_a_note_of_a_document_has_its_bytes_and_beginning():
    one = document(400)
    assert size(one) == 800
    assert removed(one, "rule", "because") == Dropped(
        "rule", "400.py", 800, "é" * 300, "because")
