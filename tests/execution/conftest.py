"""The tiers of this machine, and programs that run in a process of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

from minicoder.execution.isolation import TIERS
from minicoder.execution.tiers import fault

PARTS = Path(__file__).parents[2] / "minicoder" / "execution"


@pytest.fixture(scope="session", params=TIERS)
def tier(request):
    """Each tier in turn; one that the system refuses is skipped, a broken one fails."""
    if request.param == "weak" or not (reason := fault(request.param)):
        return request.param
    refused = reason.startswith(("the worker was refused", "needs Linux"))
    if refused or request.param == "bwrap" and "could" not in reason:
        pytest.skip(f"no tier {request.param}: {reason}")
    pytest.fail(f"the tier {request.param} is broken: {reason}")


@pytest.fixture
def alone():
    """Runs Python code beside the worker's modules, in a new process: what it prints.

    A failure has its signal or its last line.
    """
    def run(code: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-c", f"import sys\nsys.path[:0] = [{str(PARTS)!r}]\n"
             + code], capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        return done.stdout.strip()
    return run
