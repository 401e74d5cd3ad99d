"""A folder is read safely: nothing is followed, waited for or guessed."""

import os
import signal
from contextlib import contextmanager

import pytest

from minicoder.data.sources import (
    LARGEST_FILE,
    documents_from_folder,
    printable,
    stable_hash,
)
from minicoder.errors import UserError


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
    dropped = []
    with at_most(20):
        documents = documents_from_folder(folder, dropped)
    return {d.path: d for d in documents}, {d.path: d.rule for d in dropped}


def test_documents_carry_path_language_kind_and_origin(tmp_path):
    root = tmp_path / "mine"
    (root / "pkg").mkdir(parents=True)
    (root / "pkg" / "a.py").write_text("x = 1\n")
    (root / "README.md").write_text("# Grüße\n", encoding="utf-8")
    (root / "data.bin").write_bytes(b"\0")
    (root / ".git").mkdir()
    (root / ".git" / "hook.py").write_text("x")
    documents, dropped = read(root)
    assert sorted(documents) == ["README.md", "pkg/a.py"] and not dropped
    code, text = documents["pkg/a.py"], documents["README.md"]
    assert (code.text, code.language, code.kind) == ("x = 1\n", "Python", "code")
    assert (text.text, text.kind, text.origin) == ("# Grüße\n", "text", "mine")


def test_hostile_files_are_counted_by_rule(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.py").write_text("key = 1")
    (root / "good.py").write_text("x = 1")
    (root / "latin.py").write_bytes("é = 1".encode("latin-1"))
    (root / "wide.py").write_bytes("x = 1".encode("utf-16"))
    (root / "empty.py").write_text(" \n")
    (root / "big.py").write_bytes(b"#" * (LARGEST_FILE + 1))
    (root / "full.py").write_bytes(b"#" * LARGEST_FILE)
    (root / "link.py").symlink_to(outside / "secret.py")
    (root / "broken.py").symlink_to(outside / "nothing.py")
    (root / "loop").symlink_to(root)
    (root / "way_out").symlink_to(outside)
    os.mkfifo(root / "pipe.py")
    documents, dropped = read(root)
    assert sorted(documents) == ["full.py", "good.py"]
    assert dropped == {
        "latin.py": "UTF-8", "wide.py": "UTF-8", "empty.py": "empty",
        "big.py": "file size", "link.py": "regular file",
        "broken.py": "regular file", "pipe.py": "regular file"}


def test_a_name_that_is_not_utf8_becomes_escapes(tmp_path):
    name = os.fsdecode(b"caf\xe9.py")
    try:
        (tmp_path / name).write_text("x = 1")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    documents, _ = read(tmp_path)
    assert list(documents) == [printable(name)] == ["caf\\xe9.py"]


def test_an_empty_or_missing_folder_is_an_error_that_names_it(tmp_path):
    (tmp_path / "only.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=f"{tmp_path} holds no document: 0 files"):
        documents_from_folder(tmp_path)
    (tmp_path / "bad.py").write_bytes(b"\xff")
    with pytest.raises(UserError, match="1 files have a known ending, 1 of them"):
        documents_from_folder(tmp_path)
    with pytest.raises(UserError, match="gone is not a folder"):
        documents_from_folder(tmp_path / "gone")


def test_the_hash_is_the_same_in_every_process():
    assert stable_hash("minicoder") == 0xa2d9f1fc956584e2
