"""The doctor says what is, and its status is for scripts."""

from minicoder.__main__ import main
from minicoder.execution import doctor
from minicoder.execution.isolation import TIERS
from minicoder.execution.probes import PROBES
from minicoder.execution.tiers import fault, strongest


def test_it_shows_tiers_probes_and_advice(capsys):
    status = main(["sandbox", "doctor"])
    said = capsys.readouterr().out
    assert status == (strongest() == "weak")
    assert f"Programs run in the tier: {strongest()}" in said
    assert "gVisor" in said and "kernel" in said and "Memory is" in said
    rows = {line.split("  ")[1].strip(): line for line in said.splitlines()
            if line.startswith("  ")}
    for tier in TIERS[:-1]:
        assert (fault(tier) or "holds") in said
    for name in PROBES:
        marks = rows[name].count("held") + rows[name].count("OPEN")
        assert marks >= 2 - bool(strongest() == "weak")
    assert "OPEN" in rows[PROBES[0]]  # what the weak tier lets out


def test_a_tier_that_is_missing_is_explained(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "fault", lambda tier: "on holiday")
    monkeypatch.setattr(doctor, "strongest", lambda: "weak")
    assert main(["sandbox", "doctor"]) == 1
    said = capsys.readouterr().out
    assert "bwrap       on holiday" in said and "apt install bubblewrap" in said
    assert said.count("on holiday") == said.count("needs ") == len(TIERS) - 1
