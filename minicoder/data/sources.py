"""Documents, and how files become them: safely, or counted by the rule that forbids it.

The standard corpus of the demo is in `standard.py`; this is also the way in for a
folder of one's own.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minicoder.data.languages import language_of
from minicoder.errors import UserError

LARGEST_FILE = 1 << 20     # bytes
# what opening a link, a socket, a locked or a vanished file answers
NOT_A_FILE = {errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM, errno.ENOENT,
              errno.ENOTDIR, errno.EMLINK}


@dataclass(frozen=True)
class Document:
    """One text with all that must travel with it."""

    text: str
    path: str
    language: str
    kind: str       # "code", "math" or "text"
    origin: str
    licence: str


@dataclass(frozen=True)
class Dropped:
    """What a rule removed: a file before it was read, or a document."""

    rule: str
    path: str
    bytes: int
    excerpt: str = ""
    reason: str = ""


NOT_SAMPLED = "bytes per origin"    # not a rule: a file that the budget left unread
# the rules of reading, in the order in which a file meets them
READING_RULES = (
    ("regular file", "links, pipes and devices lead elsewhere or block"),
    ("file size", f"over {LARGEST_FILE >> 20} MiB: data, not prose or code"),
    ("UTF-8", "other encodings cannot be told apart for sure"),
    ("empty", "no text in it"),
)


@dataclass(frozen=True)
class Candidate:
    """A file that may become a document."""

    file: Path
    path: str       # what the document will be called
    origin: str
    licence: str


def stable_hash(text: str) -> int:
    """A 64-bit number that is the same in every process, unlike `hash`."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def printable(name: str) -> str:
    """A file name as text: bytes that are not UTF-8 become backslash escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def read_text(file: Path) -> str | tuple[str, int]:
    """The text of a regular file, or (rule, bytes) when a rule of reading forbids it.

    Opened without following a link and without waiting for a pipe, and judged by the
    open file, so that nothing can be swapped in between.
    """
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in NOT_A_FILE:
            raise
        return "regular file", 0
    with os.fdopen(handle, "rb") as opened:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            return "regular file", 0
        data = opened.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        return "file size", found.st_size
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return "UTF-8", len(data)
    return text if text.strip() else ("empty", len(data))


def walk(root: Path, skip: Collection[str] = ()) -> Iterator[Path]:
    """Every file below `root` in a stable order, hidden folders and links left out."""
    for folder, below, files in os.walk(root, followlinks=False):
        below[:] = sorted(d for d in below if not d.startswith(".") and d not in skip)
        yield from (Path(folder, name) for name in sorted(files))


def read(candidates: Iterable[Candidate], dropped: list[Dropped]) -> list[Document]:
    """Read the candidates whose language is known; what a rule forbids is counted."""
    documents = []
    for one in candidates:
        language = language_of(one.path)
        text = read_text(one.file)
        if isinstance(text, tuple):
            dropped.append(Dropped(text[0], one.path, text[1]))
        elif language:
            documents.append(Document(text, one.path, language.name, language.kind,
                                      one.origin, one.licence))
    return documents


def documents_from_folder(
    root: Path, dropped: list[Dropped] | None = None
) -> list[Document]:
    """Every file of a known language below `root`, on any depth.

    Raises `UserError` when the folder is missing or nothing in it can be used.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; a folder of source files is needed.")
    dropped = [] if dropped is None else dropped
    before, name = len(dropped), root.resolve().name
    files = [Candidate(file, printable(file.relative_to(root).as_posix()), name,
                       "unknown")
             for file in walk(root, {"__pycache__", "node_modules"})
             if language_of(file.name)]
    documents = read(files, dropped)
    if not documents:
        raise UserError(
            f"{root} holds no document: {len(files)} files have a known ending, "
            f"{len(dropped) - before} of them are no regular UTF-8 files of at most "
            f"{LARGEST_FILE >> 20} MiB.")
    return documents
