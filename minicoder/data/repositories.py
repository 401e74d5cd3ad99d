"""Folders of source code and git checkouts, read without running anything of theirs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from minicoder.data.licences import is_licence_file, licence_of_files
from minicoder.data.sources import (
    VENDORED,
    Document,
    Dropped,
    Note,
    document_of,
    may_be_code,
    printable,
    read_bytes,
    read_text,
)
from minicoder.errors import UserError

# a checkout brings its own settings: none of them may start a program or a download
SETTINGS = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
SURROUNDINGS = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1",
                "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
REMOTE = re.compile(r"[/:]([\w.-]+/[\w.-]+?)(?:\.git)?/?$")


def is_checkout(folder: Path) -> bool:
    """Whether a folder is the root of a git work tree."""
    return os.path.lexists(folder / ".git")


def git(root: Path, *words: str) -> str:
    """What git says about the work tree `root`, whatever its own settings are.

    Raises `UserError` when git is missing or answers with an error.
    """
    if not shutil.which("git"):
        raise UserError(f"{root} is a git work tree, and git is not installed to list "
                        "its files.")
    clean = {name: value for name, value in os.environ.items()
             if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", *SETTINGS, f"--git-dir={root / '.git'}", f"--work-tree={root}", *words],
        cwd=root, env=clean | SURROUNDINGS, capture_output=True)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[:200]
        raise UserError(f"git cannot read the work tree {root}: {said}")
    return os.fsdecode(done.stdout)


def checkouts(root: Path) -> list[Path]:
    """The git work trees at and below `root` in a stable order, none inside another."""
    found = []
    for folder, below, _ in os.walk(root, followlinks=False):
        if is_checkout(Path(folder)):
            found.append(Path(folder))
            below.clear()
        below[:] = sorted(name for name in below if not name.startswith("."))
    return found


def tracked(root: Path) -> Iterator[Path]:
    """The files that git tracks in `root`, those behind a link left out."""
    whole = root.resolve()
    inside = cache(lambda folder: folder.resolve().is_relative_to(whole))
    for name in sorted(filter(None, git(root, "ls-files", "-z").split("\0"))):
        file = root / name
        if ".." not in file.parts and inside(file.parent):
            yield file


def loose(root: Path) -> Iterator[Path]:
    """Every file at and below `root` that is in no git work tree and not hidden."""
    for folder, below, files in os.walk(root, followlinks=False):
        if is_checkout(Path(folder)):
            below.clear()
            continue
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files)
                    if not name.startswith("."))


def origin_of(root: Path) -> str:
    """What a checkout is called: its remote's owner/name, else its folder's name."""
    if is_checkout(root):
        url = git(root, "config", "--default", "", "--get", "remote.origin.url")
        if remote := REMOTE.search(url.strip()):
            return remote[1]
    return printable(root.resolve().name)


def licence_of(root: Path) -> str:
    """The licence that the top files of a folder declare, else "unknown"."""
    files = {name: text for name in sorted(os.listdir(root)) if is_licence_file(name)
             and isinstance(text := read_text(root / name), str)}
    return licence_of_files(files)


def documents_of(
    root: Path, files: Iterator[Path], origin: str, note: Note
) -> Iterator[Document]:
    """The documents among the files of one origin; vendored paths are only counted."""
    licence = licence_of(root)
    for file in files:
        path = printable(file.relative_to(root).as_posix())
        if not may_be_code(path):
            continue
        if VENDORED.search(path):
            note(Dropped("vendored", path, file.lstat().st_size
                         if os.path.lexists(file) else 0))
            continue
        if document := document_of(read_bytes(file), path, origin, licence, note):
            yield document


def documents_from_folder(root: Path, note: Note) -> Iterator[Document]:
    """The files of known languages at and below `root`, one origin after the other.

    In a git work tree only the tracked files count, and its origin is the remote's
    owner/name. A folder of several work trees gives one origin each, after its other
    files. No hook, filter or setting of a work tree runs.

    Raises `UserError` when the folder is missing, when git cannot list a work tree, or
    when nothing can be used.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; a folder of source files is needed.")
    kept = left = 0

    def counted(dropped: Dropped) -> None:
        nonlocal left
        left += 1
        note(dropped)

    parts = [(root, loose(root))] if not is_checkout(root) else []
    parts += [(place, tracked(place)) for place in checkouts(root)]
    for place, files in parts:
        for document in documents_of(place, files, origin_of(place), counted):
            kept += 1
            yield document
    if not kept:
        raise UserError(f"{root} holds no document: no file of a known language is "
                        f"there that the rules of reading allow ({left} are not).")
