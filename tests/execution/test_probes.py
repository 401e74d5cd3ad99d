"""The probes find a way out where there is one: each is shown to answer both ways."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minicoder.execution import isolation, probes
from minicoder.execution.probes import HELD, PROBES, escapes, probe
from minicoder.execution.workers import HarnessError


def kill(word: str) -> int:
    """Ends the processes whose command line holds a word."""
    found = subprocess.run(["pgrep", "-f", word], capture_output=True).stdout.split()
    for pid in found:
        os.kill(int(pid), 9)
    return len(found)


ROOT = Path(probes.__file__).parents[2]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


def test_every_tier_but_the_weak_one_holds(tier):
    answers = probe(tier)
    assert tuple(answers) == PROBES
    assert (escapes(answers) == []) == (tier != "weak")


@LINUX
def test_the_weak_tier_does_not():
    found = escapes(probe("weak"))
    assert {PROBES[0], PROBES[1]} <= set(found)
    if os.geteuid():
        assert {PROBES[2], PROBES[3], PROBES[7]} <= set(found)


@LINUX
@pytest.mark.parametrize("number", [1, 2])
def test_a_host_of_a_small_number_is_not_taken_for_a_process_inside(
        tier, monkeypatch, number):
    """In a container the host may be process 1 or 2; so are worker and program."""
    if tier not in ("namespaces", "bwrap"):
        pytest.skip(f"{tier} has no processes of its own")
    monkeypatch.setattr(os, "getpid", lambda: number)
    assert escapes(probe.__wrapped__(tier)) == []


@LINUX
def test_with_nothing_in_the_way_every_probe_answers(alone, tmp_path):
    """The program itself, run by this user without any sandbox."""
    (tmp_path / "canary").write_text("CANARY")
    code = (
        f"import os, socket, subprocess, sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "other = subprocess.Popen(['sleep', '60'])\n"
        "listener = socket.socket(); listener.bind(('127.0.0.1', 0))\n"
        "listener.listen()\nfrom minicoder.execution.probes import PROGRAM\n"
        "space = {}\nexec(PROGRAM, space)\n"
        f"given = {str(tmp_path)!r}, listener.getsockname()[1], other.pid, 8\n"
        "for n in (0, 1, 2, 3, 4, 5, 7):\n    print(n, *space['solve'](n, *given))\n"
        "other.kill(); sys.stdout.flush(); os.close(1); os.close(2)\n"
        "space['solve'](6, *given); os._exit(0)")
    lines = alone(code).splitlines()
    assert lines[:4] == ["0 True CANARY", "1 True wrote it", "2 True signalled it",
                         "3 True connected"]
    assert lines[5:] == ["5 True started 32", "7 True found one"]
    patience = time.monotonic() + 20  # it is forked while the first one ends
    while not (killed := kill("exec.PROGRAM")) and time.monotonic() < patience:
        time.sleep(0.05)
    assert killed, "the sixth leaves a process"


@LINUX
def test_a_process_that_lives_on_is_seen(monkeypatch, tmp_path):
    """A worker that has forgotten to end what its programs leave."""
    parts = shutil.copytree(Path(probes.__file__).parent, tmp_path / "parts")
    source = (parts / "confinement.py").read_text()
    broken = source.replace("patience_s: float = 5.0) -> None:\n",
                            "patience_s: float = 5.0) -> None:\n        return\n", 1)
    assert broken != source
    (parts / "confinement.py").write_text(broken)
    monkeypatch.setattr(isolation, "__file__", str(parts / "isolation.py"))
    try:
        assert PROBES[6] in escapes(probe.__wrapped__("weak"))
    finally:
        kill(str(parts))


def test_a_tier_that_cannot_start_says_why(monkeypatch):
    monkeypatch.setattr("minicoder.execution.isolation.BWRAP", ("--no-such-option",))
    with pytest.raises(HarnessError):
        probe.__wrapped__("bwrap")


def test_what_is_held():
    answers = {PROBES[0]: HELD, PROBES[1]: f"{HELD}: No such file", PROBES[2]: "killed"}
    assert escapes(answers) == [PROBES[2]]
