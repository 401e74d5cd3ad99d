"""JupyterLab with lessons whose sliders and widgets are moved, as a student does it."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import symtable
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from book.browser import CHECKS, LOOK, READY, watch
from playwright.sync_api import Browser, expect

ROOT = Path(__file__).parents[2]
SETTINGS = {  # draw every cell, not only those in sight; ask no other host for news
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false", "checkForUpdates": False}}
LAB = ("alt text: data:",  # JupyterLab shows what cells draw without alt text,
       "<span.\u037c", "Prompt.jp-")  # and chooses the colours of code and of [1]:
LESSONS = {"04_mla": 0, "14_cluster": 5}  # with so many menus that Python answers
MODES = (("Light", 1200), ("Dark", 1200), ("Dark", 390), ("Light", 390))


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
    notebook.metadata.pop("widgets", None)
    nbformat.write(notebook, target)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab over two lessons, with settings of its own."""
    root, home = (tmp_path_factory.mktemp(name) for name in ("lessons", "home"))
    shutil.copytree(ROOT / "figures", root / "figures",
                    ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (root / "notebooks").mkdir()
    for name in LESSONS:
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


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_in_jupyterlab(lab: str, browser: Browser, lesson: str):
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(120_000)  # for a machine under load
    troubles = watch(page, lab.partition("/lab")[0])
    page.goto(lab.replace("NAME", lesson))
    page.wait_for_function(
        "window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady")
    run = "command => jupyterapp.commands.execute(command)"
    page.evaluate(run, "application:toggle-left-area")
    notebook = page.locator(".jp-Notebook")
    stored = notebook.locator(".jp-OutputArea-output:has(input[type=range])")
    assert [one.locator("img:visible").count() for one in stored.all()] == (
        [1] * stored.count()) and stored.count()
    page.evaluate(run, "notebook:run-all-cells")
    assert notebook.locator("[data-mime-type$='jupyter.error']").all_inner_texts() == []

    for slider in notebook.locator("input[type=range]").all():
        box = slider.locator("xpath=ancestor::div[1]")
        said, drawn = box.locator("output").inner_text(), box.locator("img:visible")
        before = drawn.get_attribute("src")
        slider.fill("0")
        expect(box.locator("output")).not_to_have_text(said)
        assert drawn.get_attribute("src") != before
    menus = notebook.locator(".widget-dropdown select")
    assert menus.count() == LESSONS[lesson]
    for menu in menus.all():
        answer = notebook.locator(".widget-html-content")
        before = answer.inner_text()
        menu.select_option(index=0)
        expect(answer).not_to_have_text(before)

    page.evaluate(READY)
    found = []
    for theme, width in MODES:
        page.evaluate("theme => jupyterapp.commands.execute("
                      "'apputils:change-theme', {theme})", f"JupyterLab {theme}")
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("light => document.body.dataset.jpThemeLight == light",
                               arg=str(theme == "Light").lower())
        found += [f"{theme}, {width} px: {sentence}" for sentence
                  in page.evaluate(CHECKS, ".jp-NotebookPanel-notebook")
                  if not any(own in sentence for own in LAB)]
        boxes = notebook.locator(".widget-vbox, :has(> .widget-vbox)").all()
        found += [f"{width} px: a widget scrolls sideways" for box in boxes
                  if box.evaluate("one => one.scrollWidth > one.clientWidth + 1")]
        moved = notebook.locator("input[type=range], .widget-dropdown select").last
        moved.scroll_into_view_if_needed()
        page.locator("#jupyterlab-splash").wait_for(state="detached")
        page.screenshot(path=LOOK / f"lab/{lesson}-{theme.lower()}-{width}.jpg",
                        type="jpeg", quality=60)
    page.close()
    assert found + troubles == [], "\n".join(found + troubles)
