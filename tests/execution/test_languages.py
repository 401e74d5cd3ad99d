"""The table of languages, and what of it this machine has."""

import os
import subprocess
import sys

import pytest

from minicoder.errors import UserError
from minicoder.execution import languages
from minicoder.execution.languages import LANGUAGES, absent, closed, find, tools

NAMES = ("python c cpp java javascript typescript bash go rust php ruby perl lua r")


def test_there_are_fourteen_languages():
    assert sorted(LANGUAGES) == sorted(NAMES.split())


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_row_can_be_filled_in(name):
    row = LANGUAGES[name]
    where = {tool: f"/a b/{tool}" for tool in row.tools}
    words = row.command(row.compile, [row.file, "notes.txt"], 512, where)
    assert words[0].startswith("/a b/") and not any("{" in word for word in words)
    assert "notes.txt" not in words
    assert row.check.text.count("{token}") == 1


def test_what_is_here_says_its_version():
    here, gone = languages.available(), languages.missing()
    assert set(here) | set(gone) == set(LANGUAGES) and not set(here) & set(gone)
    assert here["python"].startswith("3.") and "?" not in here.values()
    for name in here:
        assert all(os.access(path, os.X_OK) for path in tools(name).values()
                   if not path.endswith("/tsc"))


def test_what_is_missing_names_its_package(monkeypatch):
    monkeypatch.setattr(languages, "find", lambda tool, package: None)
    assert absent("java") == ["default-jdk-headless", "default-jre-headless"]
    assert languages.missing()["typescript"] == "node-typescript nodejs"
    with pytest.raises(UserError, match="lua need the Debian package lua5.4"):
        tools("lua")


def test_an_unknown_language_is_refused():
    with pytest.raises(UserError, match="'cobol' is no language.* there are python, c"):
        tools("cobol")


def test_a_shim_of_rustup_is_seen_through(tmp_path, monkeypatch):
    shims, toolchain = tmp_path / ".cargo/bin", tmp_path / "toolchain/bin"
    for folder in (shims, toolchain):
        folder.mkdir(parents=True)
    (shims / "rustc").write_text(f"#!/bin/sh\necho {toolchain.parent}\n")
    (toolchain / "rustc").write_text("#!/bin/sh\n")
    for folder in (shims, toolchain):
        (folder / "rustc").chmod(0o755)
    monkeypatch.setenv("PATH", str(shims))
    monkeypatch.setattr(languages, "PLAIN", {"PATH": ""})
    assert find.__wrapped__("rustc", "rustc") == str(toolchain / "rustc")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_tool_in_a_closed_folder_is_second_choice(tmp_path, monkeypatch):
    inside = tmp_path / "closed"
    inside.mkdir(0o700)
    (inside / "lua").write_text("#!/bin/sh\n")
    (inside / "lua").chmod(0o755)
    assert closed(str(inside / "lua")) and not closed("/usr/bin/env")
    monkeypatch.setenv("PATH", str(inside))
    monkeypatch.setattr(languages, "PLAIN", {"PATH": "/usr/bin"})
    usual = os.path.realpath("/usr/bin/lua5.4")
    expected = usual if os.path.exists(usual) else str(inside / "lua")
    assert find.__wrapped__("lua", "lua5.4") == expected


def test_a_sandbox_is_told_of_tools_outside_usr(monkeypatch):
    monkeypatch.setattr(languages, "tools", lambda _: {"go": "/srv/go/bin/go"})
    assert languages.folders("go") == ["/srv/go"]
    monkeypatch.undo()
    assert all(os.path.isabs(path) for path in languages.readable())


def test_nobodys_home_is_shown(monkeypatch, tmp_path):
    home = tmp_path / "ada"
    (home / "bin").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    tool = str(home / "bin/go")
    monkeypatch.setattr(languages, "tools", lambda _: {"go": tool})
    assert languages.folders("go") == [tool]  # and not all that lies beside bin
    assert languages.folder(str(tmp_path), "less") == "less"
    for path in (str(home / "go"), "/usr"):
        assert languages.folder(path, "less") == path


def test_python_is_one_that_runs():
    path = tools("python")["python3"]
    said = subprocess.run([path, "-c", "import sys; print(sys.version_info.major)"],
                          capture_output=True, text=True)
    assert said.stdout == f"{sys.version_info.major}\n"
