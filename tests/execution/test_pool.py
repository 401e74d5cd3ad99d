"""The pool starts in a tier agreed to, shares its seats, and leaves nothing."""

import os
import sys
import threading
import warnings
from pathlib import Path

import pytest

from minicoder.errors import UserError
from minicoder.execution import pool
from minicoder.execution.common import encode, pack
from minicoder.execution.pool import Pool
from minicoder.execution.verdict import Limits, read_answers

pytestmark = pytest.mark.filterwarnings("ignore:Only weak isolation")
ECHO = pack(["def f(v):\n    return v\n", "f", [encode((7,))]])


@pytest.fixture
def made():
    """Makes pools and closes them."""
    found = []
    yield lambda *a, **k: found.append(Pool(*a, **k)) or found[-1]
    for one in found:
        one.close()


def test_it_has_a_seat_for_each_core_of_this_process(made):
    cores = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    assert made().workers == len(cores(0))
    assert made(3).workers == len(made(3)._all) == 3
    with pytest.raises(UserError, match="workers is 0; it must be at least 1"):
        made(0)


def test_a_job_is_executed_and_the_report_names_the_tier(made):
    one = made(1)
    ending = one.execute("program", ECHO)
    assert list(read_answers(ending.answers)) == [("value", 7)] and ending.status == 0
    assert one.report["tier"] == one.tier and "uid" in one.report


def test_threads_share_the_seats(made):
    one, answers = made(2), []
    threads = [threading.Thread(target=lambda: answers.append(
        one.execute("program", ECHO).answers)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 12 and set(answers) == {pack(["value", 7])}


def test_closing_leaves_no_process_and_no_folder(made):
    one = made(2)
    for _ in range(4):
        one.execute("program", ECHO)
    kept = [(s.programs.process.pid, s.programs.folder) for s in one._all
            if s.programs.process]
    one.close()
    assert kept and not any(Path(folder).exists() for _, folder in kept)
    if sys.platform == "linux":
        assert not any(Path(f"/proc/{number}").exists() for number, _ in kept)
    with pytest.raises(RuntimeError, match="closed"):
        one.execute("program", ECHO, Limits())


def test_the_weak_tier_wants_consent_and_is_announced_once(made, monkeypatch):
    monkeypatch.setattr(Pool, "_warned", False)
    with pytest.raises(UserError, match="Only weak isolation"):
        made(1, "weak")
    with pytest.warns(RuntimeWarning, match="Only weak isolation"):
        assert made(1, "weak", True).tier == "weak"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(1, "weak", True)


def test_the_tier_is_the_one_that_was_chosen(made, monkeypatch):
    asked = []
    monkeypatch.setattr(
        pool, "choose_tier", lambda *a: asked.append(a) or ("landlock", {}))
    assert made(1, "landlock", True)._all[0].programs.tier == "landlock"
    assert asked == [("landlock", True)]
