"""Packages of many languages, read in place: wheels, npm, Debian, crates, zips, tars.

Nothing is unpacked to disk, so that names lead nowhere, and nothing runs. Memory holds
one member; links and devices are not followed; an archive that breaks off, or unpacks
to more than `TOTAL`, is read up to there and noted as damaged.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Protocol, runtime_checkable
from urllib.parse import unquote

from minicoder.data.licences import debian_licence, is_licence_file, licence_of_files
from minicoder.data.sources import (
    LARGEST_FILE,
    VENDORED,
    Document,
    Dropped,
    Note,
    decode,
    document_of,
    may_be_code,
    printable,
)
from minicoder.data.zstd import Frames, begins_frame
from minicoder.errors import UserError

TOTAL = 1 << 30         # bytes that one archive may unpack to
HEADER = 1 << 16        # bytes of a header that speaks of the next member
DEEPEST_LICENCE = 2     # folders above a file that tells a package's licence
TARS = (".tar", ".tar.gz", ".tgz", ".crate", ".tar.bz2", ".tar.xz", ".tar.zst")
ZIPS = (".whl", ".zip", ".jar")
ENDINGS = (*ZIPS, *TARS, ".deb")
ROOTED = (*TARS, ".zip")    # these put a package into one folder, which says nothing
EXTENDED = {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE,
            tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE}
BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError,
          struct.error, ValueError, NotImplementedError, RuntimeError, OverflowError)
Contents = bytes | tuple[str, int]      # of a member; or (rule, bytes): why not
Member = tuple[str, Callable[[], Contents]]


@runtime_checkable
class Stream(Protocol):
    """What can be read from the beginning to the end."""

    def read(self, size: int = -1, /) -> bytes: ...


class Damaged(ValueError):
    """An archive that is not what it says, or too large."""


class Budget:
    """The bytes that an archive may unpack to."""

    def __init__(self) -> None:
        self.left = self.limit = TOTAL

    def spend(self, size: int) -> None:
        """Raises `Damaged` when no more than `size` bytes were left."""
        self.left -= size
        if self.left < 0:
            raise Damaged(f"it unpacks to more than {self.limit} bytes")


class Counted:
    """A stream that spends its budget."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.budget = stream, Budget()

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        self.budget.spend(len(data))
        return data


class Header(tarfile.TarInfo):
    """A tar header that refuses to be invalid or to announce a giant header."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf.strip(b"\0"):        # else it is the end, which has no header
                raise Damaged(f"a broken header: {error}") from None
            raise
        if header.type in EXTENDED and header.size > HEADER:
            raise Damaged(f"a header of {header.size} bytes")
        return header


@contextmanager
def guarded() -> Iterator[None]:
    """Whatever a broken archive makes its reader raise becomes `Damaged`."""
    try:
        yield
    except Damaged:
        raise
    except (*BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise   # the disk's fault; EINVAL: a place that no file can have
        raise Damaged(f"{type(error).__name__}: {error}"[:200]) from error


def unpacked(file: IO[bytes]) -> Stream:
    """The stream inside gzip, bzip2, xz or Zstandard, told by the first bytes."""
    start, first = file.tell(), file.read(6)
    file.seek(start)
    if first.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if first.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if first.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(file)
    if begins_frame(first):
        try:
            return Frames(file)
        except ImportError:
            raise Damaged("it is packed with Zstandard: pip install zstandard "
                          "to read it") from None
    return file


def inside_deb(file: IO[bytes]) -> Stream:
    """The stream of `data.tar.*` in a Debian package, which is an `ar` archive."""
    if file.read(8) != b"!<arch>\n":
        raise Damaged("it is no Debian package")
    while len(head := file.read(60)) == 60 and head[58:] == b"`\n":
        if head.startswith(b"data.tar"):
            return unpacked(file)
        if (size := int(head[48:58])) < 0:      # it would go back, for ever
            raise Damaged(f"a member of {size} bytes")
        file.seek(size + size % 2, io.SEEK_CUR)
    raise Damaged("it has no data.tar")


def tar_contents(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Contents:
    """What a member of a tar archive holds."""
    if not info.isreg():
        return "regular file", 0
    if info.size > LARGEST_FILE:
        return "file size", info.size
    with guarded():     # raises too where the archive ends in the middle
        return tar.extractfile(info).read()


def tar_members(stream: Stream) -> Iterator[Member]:
    """The files of a tar archive in one pass; each must be read before the next."""
    with guarded(), tarfile.open(fileobj=Counted(stream), mode="r|",
                                 tarinfo=Header) as tar:
        for info in tar:
            tar.members.clear()         # tarfile would keep them all
            tar.pax_headers.clear()
            if not info.isdir():
                yield info.name, partial(tar_contents, tar, info)


def zip_contents(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget
) -> Contents:
    """What a member of a zip archive holds."""
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) and not stat.S_ISREG(mode):
        return "regular file", 0
    if info.file_size > LARGEST_FILE:
        return "file size", info.file_size
    budget.spend(info.file_size)        # zipfile gives no more than that
    try:
        with guarded(), archive.open(info) as opened:
            return opened.read()
    except Damaged:
        return "damaged", info.file_size


def zip_members(file: IO[bytes]) -> Iterator[Member]:
    """The files of a zip archive, a wheel or a jar; a broken one spoils no other."""
    budget = Budget()
    with guarded(), zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield info.filename, partial(zip_contents, archive, info, budget)


def ending_of(file: Path) -> str:
    """The ending in `ENDINGS` of a file name, "" when it is no archive of ours."""
    return max((e for e in ENDINGS if file.name.lower().endswith(e)), key=len,
               default="")


def members(file: Path, opened: IO[bytes]) -> Iterator[Member]:
    """The files in an archive as (name, function that reads it)."""
    if (ending := ending_of(file)) in ZIPS:
        return zip_members(opened)
    with guarded():
        inside = inside_deb(opened) if ending == ".deb" else unpacked(opened)
    return tar_members(inside)


def tidy(name: str) -> str:
    """A member's name as a relative path without steps upwards: "/../a//b" is "a/b"."""
    return printable("/".join(part for part in name.split("/")
                              if part not in ("", ".", "..")))


def origin_of(file: Path) -> str:
    """"name-version" from the file name of a package.

    "django-5.1.4-py3-none-any.whl" is "django-5.1.4"; "bats_1.8.2-1_all.deb" is
    "bats-1.8.2-1".
    """
    ending, name = ending_of(file), printable(unquote(file.name))
    if ending == ".deb":
        return "-".join(name.split("_")[:2])
    if ending == ".whl":
        return "-".join(name.split("-")[:2])
    return name[:-len(ending)]


def look(file: Path) -> tuple[str, Callable[[str], str]]:
    """(root, path → licence) of an archive, as far as it can be read.

    The root is the folder that holds everything, as "package/", or "".
    """
    tops: set[str] = set()
    files: dict[str, str] = {}
    debian = None
    try:
        with file.open("rb") as opened:
            for name, contents in members(file, opened):
                path = tidy(name)
                tops.add(path.partition("/")[0] if "/" in path else "")
                is_debian = path.startswith("usr/share/doc/") and path.endswith(
                    "/copyright")
                if not is_debian and (path.count("/") > DEEPEST_LICENCE
                                      or not is_licence_file(path)):
                    continue
                data = contents()
                text = decode(data) if isinstance(data, bytes) else data
                if isinstance(text, str) and is_debian:
                    debian = debian_licence(text)
                elif isinstance(text, str):
                    files[path] = text
    except Damaged:
        pass    # the second pass says so
    top = tops.pop() if len(tops) == 1 and ending_of(file) in ROOTED else ""
    licence = licence_of_files(files)
    return top and f"{top}/", debian or (lambda path: licence)


def documents_from_package(file: Path, note: Note) -> Iterator[Document]:
    """The documents of one archive; where it breaks off, that is noted."""
    origin, (root, licence) = origin_of(file), look(file)
    try:
        with file.open("rb") as opened:
            for name, contents in members(file, opened):
                path = tidy(name).removeprefix(root)
                if not may_be_code(path):
                    continue
                if VENDORED.search(path):
                    note(Dropped("vendored", f"{origin}/{path}", 0))
                elif one := document_of(contents(), path, origin, licence(path), note):
                    yield one
    except Damaged as error:
        note(Dropped("damaged", printable(file.name), file.stat().st_size,
                     reason=str(error)))


def archive_files(folder: Path) -> list[Path]:
    """The packages at and below `folder`; `UserError` when there is none."""
    files = sorted(file for file in folder.rglob("*")
                   if ending_of(file) and file.is_file() and not file.is_symlink()
                   and not file.relative_to(folder).parts[0].startswith("."))
    if not files:
        raise UserError(f"{folder} is not a folder with packages: none of "
                        f"{', '.join(ENDINGS)} is there.")
    return files


def documents_from_archives(folder: Path, note: Note) -> Iterator[Document]:
    """The documents of all of a folder's `archive_files`, one after the other."""
    for file in archive_files(folder):
        yield from documents_from_package(file, note)
