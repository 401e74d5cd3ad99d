"""JupyterLab with lessons whose sliders and widgets are moved, as a student does it."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import symtable
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from book.browser import LOOK, watch
from playwright.sync_api import Browser, Page, expect

ROOT = Path(__file__).parents[2]
CHECKS = Path(__file__).with_name("look.js").read_text(encoding="utf-8")
SETTINGS = {  # draw every cell, not only those in sight; ask no other host for news
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false", "checkForUpdates": False}}
MODES = (("JupyterLab Light", 1200), ("JupyterLab Dark", 1200),
         ("JupyterLab Dark", 390), ("JupyterLab Light", 390))


def names(cell: str) -> tuple[set[str], set[str]]:
    """The names that a cell reads from others, and those that it defines."""
    def reads(table: symtable.SymbolTable) -> Iterator[str]:
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (symbol.is_global() or table is top):
                yield symbol.get_name()
        for inner in table.get_children():
            yield from reads(inner)

    top = symtable.symtable(cell, "cell", "exec")
    given = {s.get_name() for s in top.get_symbols() if s.is_assigned()
             or s.is_imported() or s.is_namespace()}
    return set(reads(top)) - given, given


def needed(cells: list[str], last: int) -> set[int]:
    """The cells that cell `last` needs, itself among them: the nearest definitions."""
    keep, ahead = set(), [last]
    while ahead:
        keep.add(one := ahead.pop())
        for name in names(cells[one])[0]:
            before = (i for i in reversed(range(one)) if name in names(cells[i])[1])
            ahead += set(list(before)[:1]) - keep
    return keep


def cut(lesson: Path, target: Path, *marks: str) -> None:
    """Write `lesson` with all its texts and only the code that moving parts need."""
    notebook = nbformat.read(lesson, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    sources = [cell.source for cell in code]
    keep = {i for last, source in enumerate(sources)
            if any(mark in source for mark in marks) for i in needed(sources, last)}
    kept = [code[i].id for i in keep]
    notebook.cells = [cell for cell in notebook.cells
                      if cell.cell_type == "markdown" or cell.id in kept]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata.pop("widgets", None)
    nbformat.write(notebook, target)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab over two lessons, with settings of its own."""
    root, home = (tmp_path_factory.mktemp(name) for name in ("lessons", "home"))
    shutil.copytree(ROOT / "figures", root / "figures",
                    ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (root / "notebooks").mkdir()
    for name in ("04_mla", "14_cluster"):
        cut(ROOT / f"notebooks/{name}.ipynb", root / f"notebooks/{name}.ipynb",
            "frame_slider(", "ipywidgets.VBox(")
    for plugin, values in SETTINGS.items():
        file = home / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, own = secrets.token_hex(16), dict.fromkeys(
        ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR",
         "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"), str(home))
    with open(home / "log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1",
             f"--port={port}", "--allow-root", f"--IdentityProvider.token={token}",
             "--expose-app-in-browser", f"--ServerApp.root_dir={root}"],
            env=os.environ | own, stdout=log, stderr=log)
    base = f"http://127.0.0.1:{port}"
    try:
        while server.poll() is None:
            try:
                urllib.request.urlopen(f"{base}/api").close()
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
        assert server.poll() is None, (home / "log").read_text(encoding="utf-8")
        yield f"{base}/lab/tree/notebooks/NAME.ipynb?reset&token={token}"
    finally:
        server.terminate()
        server.wait()
