"""Arms against one another: sums by hand, pairing, and the paper's own numbers."""

import math
from statistics import fmean

import pytest

from minicoder.data.sources import Document
from minicoder.evaluation.contrast import (
    ARMS,
    GAINS,
    PAPER,
    PAPER_LANGUAGES,
    by_language,
    contrast,
    groups,
    interval,
    marks,
    measured,
    over_files,
    paper,
)

EXAM = [Document("x" * bytes, f"{i}", language, "code", "o", "MIT")
        for i, (language, bytes) in enumerate(
            [("Python", 100), ("Python", 300), ("Lua", 200), ("Lua", 200)])]
RUN = {"bits": [100.0, 700.0, 400.0, 800.0], "right": {"Python": [1, 3], "Lua": [0, 2]}}


def runs(noise=0.0):
    """Seed s adds s to every file's bits per byte; arms differ by fixed steps."""
    step = {("old", 1): 0.0, ("new", 1): -0.1, ("old", 2): -0.5, ("new", 2): -0.8}
    return [{"corpus": corpus, "times": times, "seed": seed, "right": RUN["right"],
             "bits": [len(one.text) * (3 + seed + step[corpus, times]
                                       + noise * (seed == 1) * (corpus == "new"))
                      for one in EXAM]}
            for seed in (2, 0, 1) for corpus, times in ARMS]


def test_a_language_is_its_bits_over_its_bytes():
    assert by_language(RUN, EXAM) == {"Python": 800 / 400, "Lua": 1200 / 400}


def test_groups_and_marks_count_each_language_the_same():
    assert groups(EXAM, ["Python", "C"]) == {
        "both": ["Python"], "added": ["Lua"], "all": ["Lua", "Python"]}
    assert "added" not in groups(EXAM, ["Python", "Lua"])
    assert marks(RUN, EXAM, ["Python"]) == {
        "both": 2.0, "added": 3.0, "all": 2.5, "lines": 20.0}
    nothing = RUN | {"right": {"Python": [0, 0]}}
    assert marks(nothing, EXAM, ["Python"])["lines"] == 0


def test_gains_are_paired_so_that_the_seeds_spread_cancels():
    found = contrast(runs(), EXAM, ["Python"])
    assert found["arms"]["old 1×"]["all"]["value"] == pytest.approx(4)  # seeds 0, 1, 2
    spread = found["arms"]["old 1×"]["all"]
    assert spread["high"] - spread["low"] == pytest.approx(2 * 4.30265 / math.sqrt(3),
                                                           abs=1e-4)
    wanted = {"matched: new 1× − old 1×": -0.1, "matched: new 2× − old 2×": -0.3,
              "unmatched, as in the paper (§1): new 2× − old 1×": -0.8,
              "tokens alone: old 2× − old 1×": -0.5,
              "tokens alone: new 2× − new 1×": -0.7}
    assert set(wanted) == set(GAINS)
    for name, gain in wanted.items():
        for group in ("both", "added", "all"):
            cell = found["gains"][name][group]
            assert [cell["low"], cell["value"], cell["high"]] == pytest.approx(
                [gain] * 3)
        assert found["files"][name]["value"] == pytest.approx(gain)
    assert found["languages"]["new 2×"] == pytest.approx({"Lua": 3.2, "Python": 3.2})


def test_a_gain_that_differs_by_seed_has_a_wide_interval():
    cell = contrast(runs(0.3), EXAM, [])["gains"]["matched: new 1× − old 1×"]["all"]
    # differences −0.1, 0.2, −0.1: mean 0, deviation √0.03
    assert cell["value"] == pytest.approx(0, abs=1e-12)
    assert cell["high"] == pytest.approx(4.30265 * math.sqrt(0.03 / 3), abs=1e-4)


def test_files_are_redrawn_within_their_language():
    def run(bits):
        return [{"bits": bits}]
    flat = over_files(run([90, 270, 180, 180]), run([100, 300, 200, 200]), EXAM)
    assert [flat[key] for key in ("low", "value", "high")] == pytest.approx([-0.1] * 3)
    assert flat["n"] == 4
    # Lua gains 0 or −1 on equal files: its part of the mean is 0, −1/4 or −1/2
    found = over_files(run([100, 300, 200, 0]), run([100, 300, 200, 200]), EXAM)
    assert (found["low"], found["value"], found["high"]) == (-0.5, -0.25, 0.0)


def test_the_paper_s_gains_and_the_average_that_does_not_match_its_row():
    def gain(to, of):
        return [round(PAPER[to][0][0] - PAPER[of][0][0], 1),
                round(PAPER[to][2] - PAPER[of][2], 1)]
    assert gain(("new", 1), ("old", 1)) == [5.5, 4.4]
    assert gain(("new", 2), ("old", 1)) == [6.7, 9.4]       # the headline of §1
    off = {arm: abs(fmean(scores) - printed) for arm, (scores, printed, _) in
           PAPER.items()}
    assert [arm for arm, by in off.items() if by > 0.07] == [("new", 1)]
    assert round(fmean(PAPER["new", 1][0]), 1) == 30.8
    assert all(len(row[0]) == len(PAPER_LANGUAGES) for row in PAPER.values())


def test_the_page_shows_matched_and_unmatched_gains_of_both():
    text = "\n".join([*measured(contrast(runs(), EXAM, ["Python"])), *paper()])
    assert ("| matched: new 1× − old 1× | −0.100 (−0.100 to −0.100) |" in text)
    assert "| matched: new 1× − old 1× | +5.5 | +4.4 |" in text
    assert "| unmatched, as in the paper (§1): new 2× − old 1× | +6.7 | +9.4 |" in text
    assert "| Lua | 4.000 | 3.900 | 3.500 | 3.200 |" in text
    assert "| 31.2 | 30.8 | 49.0 |" in text


def test_an_interval_in_words():
    cell = {"value": -0.125, "low": -1.0, "high": 0.5}
    assert interval(cell, 1) == "−0.1 (−1.0 to 0.5)"
    assert interval(cell, 2, "+") == "−0.12 (−1.00 to +0.50)"
