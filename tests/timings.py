r"""A pytest plugin: how long each notebook takes, measured by the test that runs it.

tests/conftest.py loads it; for the notebooks alone:

    python -m pytest -p tests.timings notebooks --nbval \
        --nbval-sanitize-with tests/nbval.cfg

When every cell of every notebook has passed it writes runs/timings.json, which
book/writers/timings.py makes a page of.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]


def code_cells(notebook: Path) -> int:
    """The number of cells that nbval makes a test of."""
    return sum(cell.cell_type == "code"
               for cell in nbformat.read(notebook, as_version=4).cells)


def machine() -> dict:
    """What the time depends on, and nothing that names the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") \
        else os.cpu_count()
    load = round(os.getloadavg()[2] / cores, 1) if hasattr(os, "getloadavg") else None
    return {"cores": cores, "load_per_core": load, "system": platform.system(),
            "processor": platform.machine(), "python": platform.python_version(),
            "torch": version("torch"), "date": datetime.date.today().isoformat()}


class Timings:
    """Adds up set-up (the kernel starts), call and tear-down of each cell's test."""

    def __init__(self, folder: Path = ROOT / "notebooks",
                 target: Path = ROOT / "runs/timings.json") -> None:
        self.folder, self.target = folder, target
        self.cells: dict[str, int] = {}
        self.seconds: dict[str, float] = defaultdict(float)
        self.passed: dict[str, set[str]] = defaultdict(set)

    def pytest_collection_finish(self) -> None:
        """Count what there is to run; a file may be edited while the tests run."""
        self.cells = {path.stem: code_cells(path)
                      for path in self.folder.glob("*.ipynb")}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count one phase of one cell; tests that are no cells are not looked at."""
        path, _, cell = report.nodeid.partition("::")
        if not path.endswith(".ipynb"):
            return
        self.seconds[Path(path).stem] += report.duration
        if report.when == "call" and not report.failed:  # set-up for Colab is skipped
            self.passed[Path(path).stem].add(cell)

    def pytest_sessionfinish(self) -> None:
        """Write the file if every notebook ran whole."""
        passed = {name: len(cells) for name, cells in self.passed.items()}
        if not passed or self.cells != passed:
            return
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.target.write_text(json.dumps({"machine": machine(), "notebooks": {
            name: {"cells": passed[name], "seconds": round(self.seconds[name], 1)}
            for name in sorted(passed)}}, indent=1) + "\n", encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """Register once, whoever loads this file."""
    if not config.pluginmanager.has_plugin("timings"):
        config.pluginmanager.register(Timings(), "timings")
