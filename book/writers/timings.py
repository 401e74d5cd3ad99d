"""The page of how long each lesson takes, as the last whole test run measured it.

    python book/writers/timings.py --keep    take runs/timings.json into the repository

`make test` writes runs/timings.json (tests/timings.py); where there is none the page is
made of the committed copy.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MEASURED, KEPT = ROOT / "runs/timings.json", ROOT / "benchmarks/results/timings.json"
LIMIT, TOUR, ALL = 180, 300, 1500  # seconds: a lesson, the tour, the whole course
WORDS = {"half a": 0.5, "a": 1, "one": 1, "two": 2, "three": 3, "ten": 10, "twenty": 20}
TIME = re.compile(
    rf"\*\*Time:\*\*.*?({'|'.join(WORDS)}|[\d.]+) (second|minute)s?( and a half)?")
EXERCISE = re.compile(r"^### Exercise .*?(\d+) minutes\)$", re.MULTILINE)


def text(lesson: str) -> str:
    """The words of a lesson, from its source, without the comment signs."""
    source = (ROOT / f"notebooks/{lesson}.py").read_text(encoding="utf-8")
    return re.sub(r"^# ?", "", source, flags=re.MULTILINE)


def header_seconds(lesson: str) -> float:
    """The running time that a lesson's header tells; `ValueError` if it tells none."""
    if not (found := TIME.search(text(lesson).replace("\n", " "))):
        raise ValueError(f"notebooks/{lesson}.py: the line **Time:** must begin with a "
                         f"number or {', '.join(WORDS)}, then seconds or minutes.")
    number, unit, half = found.groups()
    value = WORDS[number] if number in WORDS else float(number)
    return (value + (0.5 if half else 0)) * (60 if unit == "minute" else 1)


def exercise_minutes(lesson: str) -> list[int]:
    """The minutes that each exercise of a lesson is meant to take."""
    return [int(minutes) for minutes in EXERCISE.findall(text(lesson))]


def title(lesson: str) -> str:
    """A lesson's first heading, without its number."""
    return re.search(r"^# \d\d · (.+)$", text(lesson), re.MULTILINE)[1]


def minutes(seconds: float) -> str:
    """80.4 -> `1 min 20 s`; 12.3 -> `12 s`."""
    whole, rest = divmod(round(seconds), 60)
    return f"{whole} min {rest} s" if whole else f"{rest} s"


def machine(told: dict) -> str:
    """The machine in words; a load over 1 a core says that others worked there too."""
    load = told["load_per_core"]
    others = "" if load is None else (
        f"; in its last 15 minutes {load:g} processes wanted each core"
        f"{', so a quiet machine is faster' if load > 1.2 else ''}")
    return (f"{told['cores']} cores ({told['system']}, {told['processor']}), Python "
            f"{told['python']}, torch {told['torch']}, {told['date']}{others}")


def page(timings: dict) -> str:
    """The page as Markdown: a row for each lesson, and the sum."""
    rows, tasks = [], []
    for name, lesson in timings["notebooks"].items():
        asked = exercise_minutes(name)
        tasks += asked
        rows.append((f"[{name[:2]}](../../notebooks/{name}.ipynb)", title(name),
                     lesson["cells"], minutes(lesson["seconds"]),
                     minutes(TOUR if name.startswith("00") else LIMIT),
                     f"{len(asked)}, {sum(asked)} min"))
    lessons = timings["notebooks"].values()
    rows.append(("", "**all of them**", sum(one["cells"] for one in lessons),
                 minutes(sum(one["seconds"] for one in lessons)), minutes(ALL),
                 f"{len(tasks)}, {sum(tasks) / 60:.1f} hours"))
    table = "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)
    return f"""# How long each lesson takes

`make test` runs every notebook from its first cell to its last, compares what is
printed with what is stored here, and takes the time: the start of the kernel, the
imports and all cells, on one thread. No lesson needs a GPU or a network. The last
column is for people: exercises, and the minutes that they are meant to take.

| | lesson | code cells | measured | limit | exercises |
|---|---|--:|--:|--:|--:|
{table}

Measured on {machine(timings["machine"])}.
"""


def pages() -> dict[str, str]:
    """The page `timings`."""
    told = MEASURED if MEASURED.exists() else KEPT
    return {"timings": page(json.loads(told.read_text(encoding="utf-8")))}


if __name__ == "__main__":
    if sys.argv[1:] != ["--keep"]:
        sys.exit(__doc__)
    if not MEASURED.exists():
        sys.exit("There is no runs/timings.json: a whole `make test` writes it.")
    shutil.copy(MEASURED, KEPT)
    print(f"{KEPT.relative_to(ROOT)} is what the last whole run measured.")
