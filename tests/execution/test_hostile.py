"""Hostile programs as data: none passes, none gets out, nothing is left behind."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile import CASES, Outside, processes, read_attacks

from minicoder.execution.isolation import TIERS
from minicoder.execution.sandbox import Sandbox
from minicoder.execution.tiers import fault, strongest
from minicoder.execution.verdict import VERDICTS, Limits, Result

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="Linux only"),
    pytest.mark.filterwarnings("ignore:Only weak isolation", "ignore:Generated")]
LIMITS = Limits(wall_s=30, memory_mib=256)
ATTACKS = {f"{attack.group}.{attack.name}": attack for attack in read_attacks()}
WAYS = {"cases": lambda attack: CASES, "test program": lambda attack: attack.program}
OTHERS = [pytest.param(tier, marks=pytest.mark.slow) for tier in TIERS]
Found = dict[tuple[str, str], Result]


def left_behind(pool: Sandbox, nap: str) -> list[str]:
    """Files and processes that remain of the programs that a pool has judged."""
    found = processes(nap)
    for worker in (w for seat in pool._all for w in (seat.programs, seat.tests)):
        if not worker.process:
            continue
        found += map(str, Path(worker.folder).iterdir())
        # a program's processes look like the worker they come from
        pid = worker.process.pid
        own = {str(pid), str(worker.report.get("pid"))}
        if pool.tier == "bwrap":
            own |= set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        found += set(processes(worker.folder)) - own
    return found


def judge_all(tier: str, outside: Outside) -> tuple[Found, list[str], list[str]]:
    """All verdicts, what was left behind, and the last verdicts on a right program."""
    found: Found = {}
    left: list[str] = []
    jobs = iter([(name, way) for name in ATTACKS for way in WAYS])

    def work(number: int) -> str:
        nap = f"{outside.nap}{number}"
        with Sandbox(1, tier, allow_weak=True, limits=LIMITS) as pool:
            for name, way in jobs:
                attack = ATTACKS[name]
                if attack.deadly and tier == "weak" and os.geteuid():
                    continue
                limits = replace(
                    LIMITS, cpu_s=0.3 if "timeout" in attack.verdicts else 3,
                    wall_s=attack.wall_s or LIMITS.wall_s)
                code = outside.fill(attack, nap)
                found[name, way] = pool.judge(code, WAYS[way](attack), "solve",
                                              limits=limits)
                if attack.group in ("memory", "processes", "files", "doors"):
                    left.extend(f"{name}: {what}" for what in left_behind(pool, nap))
            left.extend(left_behind(pool, nap))
            return pool.judge(ATTACKS["right.plain"].code, CASES, "solve").verdict

    with ThreadPoolExecutor(2) as threads:
        return found, left, list(threads.map(work, (1, 2)))


@pytest.fixture(scope="module", params=["strongest", *OTHERS])
def judged(request, tmp_path_factory) -> Iterator[tuple[Any, ...]]:
    """Every program in a tier, with cases and with a test program."""
    tier = strongest() if request.param == "strongest" else request.param
    if request.param == strongest():
        pytest.skip("the strongest tier, which is always tried")
    if tier != "weak" and fault(tier):
        pytest.skip(f"no tier {tier}: {fault(tier)}")
    folder = tmp_path_factory.mktemp("outside")
    for above in (folder, folder.parent, folder.parent.parent):
        above.chmod(0o755)  # no user id alone shall keep a program out
    with Outside(folder) as outside:
        found, left, alive = judge_all(tier, outside)
        touched = outside.touched()
        for name, attack in ATTACKS.items():
            for way in WAYS:
                result = found.get((name, way))
                if result and outside.told(result.message + result.output):
                    if tier not in attack.open_in:
                        touched.append(f"{name}, {way}: {result.message}")
        yield tier, found, left, touched, alive


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ATTACKS)
def test_every_program_gets_its_verdict(judged, name, way):
    tier, found, *_ = judged
    if (name, way) not in found:
        pytest.skip("would end the session of the user who judges it")
    attack, result = ATTACKS[name], found[name, way]
    if result.verdict == "pass" and os.geteuid() and (
            tier == "weak" and tier in attack.open_in):
        pytest.xfail("without a wall a program reads the tests in its host's memory")
    assert result.verdict in attack.verdicts, result
    assert result.verdict in VERDICTS and result.tier == tier
    assert (result.verdict == "pass") == (attack.group == "right")
    assert len(result.message) <= 301 and (tier == "weak" or attack.message
                                           in result.message)
    assert not set(result.message + result.output) & set("\x00\x07\x1b\u202e")
    (result.message + result.output).encode()  # no lone surrogates


def test_the_pool_lives_on(judged):
    assert judged[-1] == ["pass", "pass"]


def test_nothing_is_left_behind(judged):
    assert judged[2] == []


def test_nothing_outside_is_reached(judged):
    if judged[0] == "weak":
        pytest.skip("the weak tier is no boundary")
    assert judged[3] == []
