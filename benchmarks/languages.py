"""Programs in fourteen languages, compiled, run and judged in the sandbox.

    python benchmarks/languages.py FOLDER [--limit 164] [--allow-weak-sandbox]

A small program in each language is compiled and run five times. FOLDER holds the files
of HumanEvalPack (`cpp.jsonl.gz` and so on): each reference solution is judged together
with its tests and should pass, each buggy one beside it should not. Medians of CPU and
wall time of the steps. Writes benchmarks/results/languages.json and .md.
"""

from __future__ import annotations

import statistics
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import tyro

from minicoder.execution.languages import LANGUAGES, available, missing
from minicoder.execution.programs import judge_script
from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Limits
from minicoder.stages import write_json, write_text
from minicoder.tasks.formats import buggy, read_tasks

ROOT = Path(__file__).parents[1]
LIMITS = Limits(cpu_s=10, wall_s=60)


def small(sandbox: Sandbox, language: str) -> dict[str, Any]:
    """A program that reads a number and prints the next one: ms of five goes."""
    programs = tomllib.loads(
        (ROOT / "tests/execution/programs.toml").read_text(encoding="utf-8"))["next"]
    sources = {LANGUAGES[language].file: programs[language].encode()}
    done = [sandbox.run(language, sources, b"41\n", LIMITS) for _ in range(5)]
    assert all(d.run and d.run.stdout.strip() == "42" for d in done), done[0]
    return {"version": available()[language]} | {
        f"{step} {clock}": round(statistics.median(
            getattr(getattr(d, step), f"{clock}_ms") for d in done), 1)
        for step in ("compile", "run") for clock in ("cpu", "wall")}


def pack(sandbox: Sandbox, path: Path, limit: int) -> dict[str, Any]:
    """Verdicts on the reference solutions of one file and on the buggy ones."""
    tasks = read_tasks(path, buggy)[:limit]
    scripts = [repair.task for repair in tasks]
    programs = [s.tested(s.program(s.solution)) for s in scripts]
    programs += [s.tested(r.buggy) for s, r in zip(scripts, tasks, strict=True)]
    with ThreadPoolExecutor(sandbox.workers) as threads:
        results = list(threads.map(lambda program: judge_script(
            sandbox, scripts[0].language, program, LIMITS), programs))
    right, wrong = results[:len(tasks)], results[len(tasks):]
    return {
        "language": scripts[0].language, "tasks": len(tasks),
        "references": Counter(r.verdict for r in right),
        "buggy": Counter(r.verdict for r in wrong),
        "cpu": round(statistics.median(r.cpu_ms for r in right), 1),
        "wall": round(statistics.median(r.wall_ms for r in right), 1),
        "references that fail": {
            s.task_id: [r.verdict, r.message[:160]]
            for s, r in zip(scripts, right, strict=True) if r.verdict != "pass"},
        "buggy that pass": [s.task_id for s, r in zip(scripts, wrong, strict=True)
                            if r.verdict == "pass"]}


def table(found: dict[str, Any]) -> str:
    """The results as a page."""
    lines = [
        "# Languages in the sandbox", "",
        f"Tier {found['tier']}, {found['workers']} workers. CPU and wall time in ms, "
        "medians. Languages without a compiler have their syntax checked instead.", "",
        "| language | version | compile, CPU | wall | run, CPU | wall |",
        "| --- | --- | ---: | ---: | ---: | ---: |"]
    lines += [f"| {name} | " + " | ".join(map(str, row.values())) + " |"
              for name, row in found["small"].items()]
    lines += [f"| {name} | not installed: {package} | | | | |"
              for name, package in found["missing"].items()]
    lines += [
        "", "HumanEvalPack, solution and tests in one program (`judge_script`); time "
        "for compiling and running a reference solution.", "",
        "| language | references that pass | buggy ones that pass | CPU | wall |",
        "| --- | ---: | ---: | ---: | ---: |"]
    lines += [f"| {row['language']} | {row['references']['pass']} of {row['tasks']} | "
              f"{row['buggy']['pass']} of {row['tasks']} | {row['cpu']} | "
              f"{row['wall']} |"
              for row in found["packs"]]
    failed = [f"- {task}: {verdict}, {message}" for row in found["packs"]
              for task, (verdict, message) in row["references that fail"].items()]
    passed = [task for row in found["packs"] for task in row["buggy that pass"]]
    lines += ["", "References that do not pass:", "", *(failed or ["- none"]), "",
              f"Buggy solutions that pass: {', '.join(passed) or 'none'}."]
    return "\n".join(lines) + "\n"


def main(
    folder: Annotated[Path, tyro.conf.Positional], limit: int = 164,
    allow_weak_sandbox: bool = False,
) -> None:
    """Measures every language that is installed."""
    with Sandbox(allow_weak=allow_weak_sandbox) as sandbox:
        found: dict[str, Any] = {
            "tier": sandbox.tier, "workers": sandbox.workers, "missing": missing(),
            "small": {name: small(sandbox, name) for name in available()}}
        print(table(found | {"packs": []}), flush=True)
        found["packs"] = []
        for path in sorted(folder.glob("*.jsonl.gz")):
            found["packs"].append(pack(sandbox, path, limit))
            print(found["packs"][-1], flush=True)
    results = ROOT / "benchmarks/results"
    write_json(results / "languages.json", found)
    write_text(results / "languages.md", table(found))


if __name__ == "__main__":
    tyro.cli(main)
