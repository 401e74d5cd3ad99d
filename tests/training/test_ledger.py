"""The ledger of tokens: sums that hold, phases that follow, damage that is noticed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicoder.errors import UserError
from minicoder.training.ledger import FILE, Ledger

STEPS = st.lists(st.tuples(st.dictionaries(
    st.sampled_from(["code", "math", "text"]), st.integers(0, 99)), st.booleans()))


def test_4_2_and_6_trillion_are_10_2(tmp_path):
    general = Ledger("general")
    general.add({"code": 2_000_000, "text": 2_200_000})
    general.save(tmp_path)
    further = Ledger("code", tmp_path)
    assert further.total == 4_200_000
    for _ in range(6):
        further.add({"code": 600_000, "math": 100_000, "text": 300_000})
    assert further.total == 10_200_000
    assert further.tokens == {"code": 5_600_000, "math": 600_000, "text": 4_000_000}
    assert [(p["phase"], p["steps"]) for p in further.phases] == [
        ("general", 1), ("code", 6)]
    assert further.phases[0]["tokens"] == {"code": 2_000_000, "text": 2_200_000}


@given(STEPS)
def test_the_total_is_what_was_added_and_comes_back_from_json(steps):
    ledger = Ledger("a")
    for tokens, skipped in steps:
        ledger.add(tokens, skipped)
    assert ledger.total == sum(sum(tokens.values()) for tokens, _ in steps)
    assert ledger.phases[-1]["skipped"] == sum(skipped for _, skipped in steps)
    other = Ledger("b")
    other.restore(json.loads(json.dumps(ledger.state())))
    assert other.state() == ledger.state()


def test_a_checkpoint_without_a_ledger_is_said_to_be_unknown(tmp_path, capsys):
    assert Ledger("b", tmp_path).total == 0
    assert f"{tmp_path} has no ledger.json" in capsys.readouterr().out


@pytest.mark.parametrize("change, said", [
    (lambda s: s | {"total": s["total"] + 1}, "its phases sum up to 5 tokens"),
    (lambda s: s | {"tokens": {"code": 4, "text": 1}}, "sum up to 5"),
    (lambda s: s | {"phases": [{"tokens": {"code": 5}}]}, "a phase lacks a field"),
    (lambda s: s | {"phases": [{}]}, "tokens"), (lambda s: s | {"phases": 3}, "int"),
    (lambda s: s | {"phases": [{"tokens": {"code": "many"}}]}, "str"),
    (lambda s: {}, "sum up to 0")])
def test_a_ledger_that_does_not_add_up_is_refused(tmp_path, change, said):
    ledger = Ledger("a")
    ledger.add({"code": 5})
    (tmp_path / FILE).write_text(json.dumps(change(ledger.state())))
    with pytest.raises(UserError, match=f"{FILE} is no ledger of tokens: .*{said}"):
        Ledger("b", tmp_path)
    (tmp_path / FILE).write_text("[")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        Ledger("b", tmp_path)
