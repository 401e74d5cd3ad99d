"""Folders and git checkouts: tracked files only, and nothing of theirs runs."""

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager

import pytest

from minicoder.data.repositories import documents_from_folder, origin_of
from minicoder.errors import UserError

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")


@contextmanager
def at_most(seconds):
    """Fail instead of waiting for ever."""
    def stop(*_):
        raise TimeoutError
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read(folder):
    """The documents by path, and the rule of each path that was left out."""
    dropped = []
    with at_most(20):
        documents = list(documents_from_folder(folder, dropped.append))
    return {d.path: d for d in documents}, {d.path: d.rule for d in dropped}


def git(root, *words):
    subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *words], cwd=root,
                   check=True, capture_output=True)


def checkout(root, files, remote=""):
    """A git work tree with `files` tracked."""
    root.mkdir(parents=True)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(root, "init", "-q")
    git(root, "add", "-f", ".")
    if remote:
        git(root, "remote", "add", "origin", remote)
    return root


def test_a_folder_gives_its_files_and_licence(tmp_path):
    root = tmp_path / "mine"
    (root / "pkg").mkdir(parents=True)
    (root / "pkg" / "a.py").write_text("x = 1\n")
    (root / "README.md").write_text("# Grüße\n", encoding="utf-8")
    (root / "data.unheard-of").write_bytes(b"\0")
    (root / "package.json").write_text('{"license": "ISC"}')
    (root / ".bashrc").write_text("export TOKEN=secret\n")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "hook.py").write_text("x")
    (root / "node_modules").mkdir()
    (root / "node_modules" / "b.js").write_text("x")
    documents, dropped = read(root)
    assert sorted(documents) == ["README.md", "package.json", "pkg/a.py"]
    assert dropped == {"node_modules/b.js": "vendored"}
    assert {(d.origin, d.licence) for d in documents.values()} == {("mine", "ISC")}


def test_hostile_files_are_counted_by_rule(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.py").write_text("key = 1")
    (root / "good.py").write_text("x = 1")
    (root / "latin.py").write_bytes("é = 1".encode("latin-1"))
    (root / "link.py").symlink_to(outside / "secret.py")
    (root / "broken.py").symlink_to(outside / "nothing.py")
    (root / "loop").symlink_to(root)
    (root / "way_out").symlink_to(outside)
    os.mkfifo(root / "pipe.py")
    documents, dropped = read(root)
    assert sorted(documents) == ["good.py"]
    assert dropped == {"latin.py": "UTF-8", "link.py": "regular file",
                       "broken.py": "regular file", "pipe.py": "regular file"}


def test_a_name_that_is_not_utf8_becomes_escapes(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.py")).write_text("x = 1")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert list(read(tmp_path)[0]) == ["caf\\xe9.py"]


def test_an_empty_or_missing_folder_is_an_error_that_names_it(tmp_path):
    (tmp_path / "only.unheard-of").write_bytes(b"x")
    with pytest.raises(UserError, match=f"{tmp_path} holds no document.*0 are not"):
        read(tmp_path)
    (tmp_path / "bad.py").write_bytes(b"\xff")
    with pytest.raises(UserError, match="1 are not"):
        read(tmp_path)
    with pytest.raises(UserError, match="gone is not a folder"):
        read(tmp_path / "gone")


@needs_git
def test_only_tracked_files_of_a_checkout_are_read(tmp_path):
    root = checkout(tmp_path / "clone", {"src/a.py": "x = 1\n", "dist/a.js": "y\n"},
                    "git@example.org:owner/name.git")
    (root / "untracked.py").write_text("secret = 1\n")
    (root / "gone.py").write_text("x\n")
    git(root, "add", "gone.py")
    (root / "gone.py").unlink()
    documents, dropped = read(root)
    assert list(documents) == ["src/a.py"]
    assert dropped == {"dist/a.js": "vendored", "gone.py": "regular file"}
    assert documents["src/a.py"].origin == "owner/name"


@needs_git
@pytest.mark.parametrize(("remote", "name"), [
    ("https://user:token@example.org/group/owner/name", "owner/name"),
    ("https://example.org/owner/na.me.git/", "owner/na.me"), ("", "clone")])
def test_the_origin_is_the_remote_without_what_is_private(tmp_path, remote, name):
    assert origin_of(checkout(tmp_path / "clone", {"a.py": "x"}, remote)) == name


@needs_git
def test_a_folder_of_checkouts_gives_one_origin_each_in_one_run(tmp_path):
    checkout(tmp_path / "b" / "two", {"x.py": "x = 2\n", "y.py": "y = 2\n"})
    checkout(tmp_path / "one", {"x.py": "x = 1\n"})
    (tmp_path / "loose.py").write_text("z = 0\n")
    found = list(documents_from_folder(tmp_path, print))
    assert [(d.origin, d.path) for d in found] == [
        (tmp_path.name, "loose.py"), ("two", "x.py"), ("two", "y.py"), ("one", "x.py")]


@needs_git
def test_settings_of_a_checkout_start_no_program(tmp_path):
    root, proof = checkout(tmp_path / "clone", {"a.py": "x = 1\n"}), tmp_path / "ran"
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {proof}\n")
    hook.chmod(0o755)
    (root / ".gitattributes").write_text("*.py filter=evil\n")
    git(root, "add", ".gitattributes")
    for name in ("core.fsmonitor", "filter.evil.smudge", "filter.evil.process",
                 "core.sshCommand", "core.pager", "credential.helper"):
        git(root, "config", name, str(hook))
    git(root, "config", "core.worktree", str(tmp_path))
    proof.unlink(missing_ok=True)
    assert list(read(root)[0]) == ["a.py"] and not proof.exists()
    subprocess.run(["git", "--work-tree=.", "status"], cwd=root, capture_output=True)
    assert proof.exists()       # so the trap works, and was not sprung before


@needs_git
def test_a_tracked_name_leads_nowhere_behind_a_link(tmp_path):
    root = checkout(tmp_path / "clone", {"a.py": "x = 1\n", "sub/secret.py": "s = 1\n"})
    outside = tmp_path / "outside"
    (root / "sub").rename(outside)
    (root / "sub").symlink_to(outside)
    assert list(read(root)[0]) == ["a.py"]


@needs_git
def test_a_broken_checkout_is_an_error_that_names_it(tmp_path):
    (tmp_path / ".git").mkdir()
    with pytest.raises(UserError, match=f"git cannot read the work tree {tmp_path}"):
        read(tmp_path)
