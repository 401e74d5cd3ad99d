"""One build of the website and one browser for the tests that look at it."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from book.browser import launch
from playwright.sync_api import Browser

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The website's folder, made by `make book`, or the one that SITE names.

    No packages are set up for it: it is made by the Python that runs the tests.
    """
    if ready := os.environ.get("SITE"):
        assert (Path(ready) / "index.html").is_file(), (
            f"SITE={ready} holds no website: make it with `make book`.")
        return Path(ready).resolve()
    if not importlib.util.find_spec("jupyter_book"):
        pytest.skip("no jupyter-book: `make book` sets it up")
    if not shutil.which("make"):
        pytest.skip("no make, which knows how the website is built")
    if not (ROOT / "book/_static/vendor").exists() and not shutil.which("npm"):
        pytest.skip("no npm for the site's scripts (Debian, Ubuntu: apt install npm)")
    out = tmp_path_factory.mktemp("site")
    command = ["make", "--no-print-directory", "book", f"VENV={sys.prefix}",
               *(f"-o{sys.prefix}/.{stamp}" for stamp in ("core", "book")),
               f"ARGS=--path-output {out}"]
    outer = ("MAKE", "MFLAGS")  # what a make that runs the tests would hand on
    env = {k: v for k, v in os.environ.items() if not k.startswith(outer)}
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
    assert built.returncode == 0, built.stdout + built.stderr
    return out / "_build/html"


@pytest.fixture(scope="module")  # asyncio in other tests must find no running loop
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with launch() as started:
        yield started
