"""Web pages: WARC files, HTML files, and JSON lines with url and text or html.

The reader of WARC records is small (the format is a list of blocks with lengths) and
tolerant: after a record whose length is wrong it goes on at the next one.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from minicoder.data.archives import Damaged, guarded
from minicoder.data.html_text import html_to_text
from minicoder.data.sources import (
    LARGEST_FILE,
    Document,
    Dropped,
    Note,
    printable,
    read_bytes,
)
from minicoder.errors import UserError

ENDINGS = (".warc", ".warc.gz", ".html", ".htm", ".jsonl", ".jsonl.gz")
HEADER_LINE = 1 << 16   # bytes of one header line
HEADER_LINES = 200
RECORD = 2 * LARGEST_FILE   # bytes of a record that are read: a page and its headers
CHARSET = re.compile(rb"charset\s{0,4}=\s{0,4}[\"']?([\w-]{1,30})", re.IGNORECASE)
# those that decode in linear time: the name comes from the page
ENCODINGS = re.compile(
    r"utf-?8|us-ascii|ascii|iso-8859-\d{1,2}|latin-?1|windows-125\d|koi8-[ru]|gb2312"
    r"|gbk|gb18030|big5|shift_jis|euc-jp|euc-kr", re.IGNORECASE)
TEXTUAL = (b"text/html", b"application/xhtml+xml", b"text/plain")


@dataclass(frozen=True)
class Page:
    """An address and the text that stands there."""

    url: str
    text: str


def decode_page(body: bytes, declared: bytes = b"") -> str | None:
    """A page's characters in the encoding that its header or itself declares.

    UTF-8 is tried first, since it cannot be mistaken; None when nothing fits.
    """
    found = CHARSET.search(declared) or CHARSET.search(body, 0, 2048)
    name = found[1].decode("ascii", "replace") if found else ""
    for encoding in ("utf-8", name if ENCODINGS.fullmatch(name) else "utf-8"):
        try:
            return body.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    return None


def headers(stream: io.BufferedIOBase) -> dict[bytes, bytes] | None:
    """Header lines up to the empty one, names in lower case; None if cut off."""
    found: dict[bytes, bytes] = {}
    for _ in range(HEADER_LINES):
        line = stream.readline(HEADER_LINE)
        if not line:
            return None
        if not line.strip():
            return found
        name, _, value = line.partition(b":")
        found[name.strip().lower()] = value.strip()
    return None


def warc_records(
    stream: io.BufferedIOBase, name: str, note: Note
) -> Iterator[tuple[dict[bytes, bytes], bytes]]:
    """(headers, at most `RECORD` bytes) of the records of a WARC file.

    What stands between two records, since a length was wrong, is noted and passed over.
    """
    lost = False
    while line := stream.readline(HEADER_LINE):
        if not line.startswith(b"WARC/1."):
            if line.strip() and not lost:
                lost = True
                note(Dropped("damaged", name, len(line), reason="a record's length"))
            continue
        lost, about = False, headers(stream)
        length = (about or {}).get(b"content-length", b"")
        if about is None or not length.isdigit() or len(length) > 15:
            note(Dropped("damaged", name, 0, reason="a record without a length"))
            continue
        left = int(length)
        body = stream.read(min(left, RECORD))
        if len(body) < min(left, RECORD):
            raise Damaged("it ends in the middle of a record")
        left -= len(body)
        while left > 0 and (skipped := stream.read(min(left, RECORD))):
            left -= len(skipped)
        yield about, body


def unchunked(body: bytes) -> bytes:
    """The body of an HTTP answer sent in chunks; as it stands where it is not."""
    stream, parts = io.BytesIO(body), []
    while line := stream.readline(HEADER_LINE):
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError:
            return body
        if size <= 0:
            break
        parts.append(stream.read(min(size, len(body))))
        stream.readline(HEADER_LINE)
    return b"".join(parts)


def http_body(answer: bytes) -> tuple[bytes, bytes] | None:
    """(content type, body) of an HTTP answer that is a page; None for all others.

    Raises `Damaged` when its compression is broken.
    """
    stream = io.BytesIO(answer)
    status = stream.readline(HEADER_LINE).split()
    about = headers(stream)
    if about is None or len(status) < 2 or status[1] != b"200":
        return None
    kind = about.get(b"content-type", b"").lower()
    if not kind.startswith(TEXTUAL):
        return None
    body = stream.read()
    if about.get(b"transfer-encoding", b"").lower() == b"chunked":
        body = unchunked(body)
    if body.startswith(b"\x1f\x8b"):    # some crawlers unpack and keep the header
        with guarded():
            body = zlib.decompressobj(47).decompress(body, LARGEST_FILE + 1)
    return kind, body


def pages_in_warc(stream: io.BufferedIOBase, name: str, note: Note) -> Iterator[Page]:
    """The pages among the records of a WARC file: answers and text conversions."""
    for about, body in warc_records(stream, name, note):
        url = printable(about.get(b"warc-target-uri", b"").strip(b"<>").decode(
            "utf-8", "replace"))
        kind = about.get(b"warc-type", b"").lower()
        try:
            answer = http_body(body) if kind == b"response" else (
                (b"text/plain", body) if kind == b"conversion" else None)
        except Damaged as error:
            note(Dropped("damaged", url, len(body), reason=str(error)))
            continue
        if answer and url:
            yield from page_of(url, *answer, note)


def page_of(url: str, kind: bytes, body: bytes, note: Note) -> Iterator[Page]:
    """The page in the bytes that an address answers, or a note why there is none."""
    text = decode_page(body, kind)
    if len(body) > LARGEST_FILE or text is None:
        rule = "UTF-8" if len(body) <= LARGEST_FILE else "file size"
        note(Dropped(rule, url, len(body)))
        return
    text = text if kind.startswith(b"text/plain") else html_to_text(text)
    if text.strip():
        yield Page(url, text)
    else:
        note(Dropped("empty", url, len(body)))


def pages_in_lines(stream: io.BufferedIOBase, name: str, note: Note) -> Iterator[Page]:
    """The pages of JSON lines: an object with "url" and "text" or "html" on each."""
    number = 0
    while line := stream.readline(LARGEST_FILE + 1):
        number, size = number + 1, len(line)
        if size > LARGEST_FILE:
            while not line.endswith(b"\n") and (line := stream.readline(LARGEST_FILE)):
                size += len(line)
            note(Dropped("file size", f"{name}:{number}", size))
            continue
        try:
            about = json.loads(line)
            url, kind = about["url"], "text" if "text" in about else "html"
            body = about[kind].encode("utf-8", "replace")   # "\ud800" is legal JSON
            url = printable(url)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as why:
            reason = f'no "url" with "text" or "html": {type(why).__name__}'
            note(Dropped("damaged", f"{name}:{number}", size, reason=reason))
            continue
        yield from page_of(url, b"text/plain" if kind == "text" else b"text/html",
                           body, note)


def pages_in(file: Path, name: str, note: Note) -> Iterator[Page]:
    """The pages of one file of `ENDINGS`, called `name`; raises `Damaged`."""
    ending = file.name.lower()
    if ending.endswith((".html", ".htm")):
        data = read_bytes(file)
        if isinstance(data, bytes):
            yield from page_of(name, b"text/html", data, note)
        else:
            note(Dropped(data[0], name, data[1]))
        return
    with guarded(), file.open("rb") as raw:
        opened = gzip.GzipFile(fileobj=raw) if ending.endswith(".gz") else raw
        read = pages_in_warc if ".warc" in ending else pages_in_lines
        yield from read(opened, name, note)


def pages(place: Path, note: Note) -> Iterator[Page]:
    """The pages of a file, or of every file at and below a folder, in a stable order.

    A file that breaks off is read up to there and noted. Raises `UserError` when
    `place` has no file of `ENDINGS`.
    """
    files = [place] if place.is_file() else sorted(
        file for file in place.rglob("*") if file.is_file() and not file.is_symlink())
    files = [file for file in files if file.name.lower().endswith(ENDINGS)]
    if not files:
        raise UserError(f"{place} has no web pages: no file ends in "
                        f"{', '.join(ENDINGS)}.")
    for file in files:
        name = printable(file.relative_to(place).as_posix() if file != place
                         else file.name)
        try:
            yield from pages_in(file, name, note)
        except Damaged as error:
            note(Dropped("damaged", name, file.stat().st_size, reason=str(error)))


def documents_from_pages(place: Path, kind: str, note: Note) -> Iterator[Document]:
    """Web pages as documents of `kind`; the origin is the host, the licence unknown.

    A crawl mixes its hosts, so pages of one origin need not follow each other.
    """
    for page in pages(place, note):
        try:
            host = urlsplit(page.url).hostname
        except ValueError:      # "http://[" is no address
            host = None
        yield Document(page.text, page.url, "Text", kind, host or place.name, "unknown")
