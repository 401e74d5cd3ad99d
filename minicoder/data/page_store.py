"""Web pages on disk, so that every round of recall can read all of them again.

Texts lie in a Parquet file, tokens in one flat file, and both are read a batch at a
time. In memory are 12 bytes a page (where its tokens end, its domain) and the names of
the domains.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Int32, Int64, UInt32

from minicoder.data.dedup import Kept, digest, kept_on_disk, shingles
from minicoder.data.sources import Dropped, Note
from minicoder.data.web import Page
from minicoder.tokenizer import Tokenizer

BATCH = 512         # pages encoded, scored or written at once
PAGES, TOKENS = "pages.parquet", "tokens.bin"
SCHEMA = pa.schema([("domain", pa.string()), ("path", pa.string()),
                    ("text", pa.string())])
SCHEME = re.compile(r"([a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
# what a link carries to say where the reader came from
TRACKING = {"utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content",
            "gclid", "fbclid", "ref", "sessionid", "phpsessid"}


class StoredPage(NamedTuple):
    """A page by its place in the store; domain and path together are its address."""

    index: int
    domain: str
    path: str
    text: str


def split_url(url: str, depth: int = 0) -> tuple[str, str]:
    """(domain, path) of an address; two spellings of one address give the same.

    The domain is the base URL: the host and the first `depth` folders of the path, so
    that with depth 2 every repository of a code host is a domain. Scheme, "www.", the
    usual ports, fragments, a last slash and tracking parameters are left out, and the
    other parameters sorted.

    >>> split_url("http://www.Site.example:80/a/b/?utm_source=x&q=1#top")
    ('site.example', '/a/b?q=1')
    """
    try:
        parts = urlsplit(url if SCHEME.match(url) else "//" + url)
        host, port = parts.hostname or "", parts.port
    except ValueError:              # a port or an address in brackets that is none
        return "", "/" + url
    host = host.removeprefix("www.")
    host += f":{port}" if port not in (None, 80, 443) else ""
    folders = [part for part in parts.path.split("/") if part]
    query = urlencode(sorted(
        (name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name.lower() not in TRACKING))
    depth = min(depth, max(len(folders) - 1, 0))
    return ("/".join([host, *folders[:depth]]),
            "/" + "/".join(folders[depth:]) + ("?" + query if query else ""))


def unique_pages(
    pages: Iterable[Page], folder: Path, note: Note, depth: int = 0
) -> Iterator[tuple[str, str, str]]:
    """(domain, path, text) of the first page of each address, text and near copies.

    What is remembered of the pages lies in `folder`, which is removed in the end.
    """
    with kept_on_disk(folder) as kept:
        for page in pages:
            domain, path = split_url(page.url, depth)
            if found := repeated(kept, domain + path, page.text):
                rule, first = found
                note(Dropped(rule, page.url, len(page.text.encode()),
                             reason=f"kept: {first}"))
            else:
                yield domain, path, page.text


def repeated(kept: Kept, name: str, text: str) -> tuple[str, str] | None:
    """(rule, name of the page that is kept), or None for a page unlike the others."""
    if first := kept.twin(name, digest("address: " + name)):
        return "same address", first
    if first := kept.twin(name, digest(text)):
        return "exact duplicate", first
    first = kept.like(name, shingles(text))
    return ("near duplicate", first) if first else None


def batches(pages: Iterable[tuple[str, str, str]]) -> Iterator[list]:
    """The pages in lists of at most `BATCH`."""
    pages = iter(pages)
    while batch := list(islice(pages, BATCH)):
        yield batch


class PageStore:
    """The pages of a folder that `write` has filled.

    `sizes` holds tokens a page, `domain` the number of its domain in `domains`.
    """

    def __init__(self, folder: Path, ends: Int64[np.ndarray, " pages"],
                 domain: Int32[np.ndarray, " pages"], domains: list[str]) -> None:
        self.folder, self.ends, self.domain = folder, ends, domain
        self.domains = domains
        self.ids: UInt32[np.ndarray, " tokens"] = (
            np.memmap(folder / TOKENS, np.uint32, "r") if len(ends) and ends[-1]
            else np.empty(0, np.uint32))

    @classmethod
    def write(cls, folder: Path, pages: Iterable[tuple[str, str, str]],
              tokenizer: Tokenizer) -> PageStore:
        """Store (domain, path, text) of each page, encoding every text once."""
        numbers: dict[str, int] = {}
        domain, ends, end = [np.empty(0, np.int32)], [np.empty(0, np.int64)], 0
        with (open(folder / TOKENS, "wb") as file,
              pq.ParquetWriter(folder / PAGES, SCHEMA, compression="zstd") as writer):
            for batch in batches(pages):
                columns = list(map(list, zip(*batch, strict=True)))
                writer.write_table(pa.table(columns, schema=SCHEMA))
                ids = tokenizer.encode_batch(columns[2])
                for one in ids:
                    file.write(np.array(one, np.uint32).tobytes())
                ends.append(end + np.cumsum([len(one) for one in ids], dtype=np.int64))
                end = int(ends[-1][-1])
                domain.append(np.array([numbers.setdefault(name, len(numbers))
                                        for name in columns[0]], np.int32))
        return cls(folder, np.concatenate(ends), np.concatenate(domain), list(numbers))

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def sizes(self) -> Int64[np.ndarray, " pages"]:
        """Tokens of each page."""
        return np.diff(self.ends, prepend=np.int64(0))

    def tokens(self, index: int) -> UInt32[np.ndarray, " tokens"]:
        """The tokens of a page, a view of the file."""
        return self.ids[self.ends[index - 1] if index else 0:self.ends[index]]

    def pages(
        self, chosen: Bool[np.ndarray, " pages"], text: bool = True
    ) -> Iterator[StoredPage]:
        """The chosen pages in order; without `text` it is not read and left empty."""
        columns = ["domain", "path"] + ["text"] * text
        index = 0
        with pq.ParquetFile(self.folder / PAGES) as file:
            for batch in file.iter_batches(BATCH, columns=columns):
                for row in batch.to_pylist():
                    if chosen[index]:
                        yield StoredPage(index, row["domain"], row["path"],
                                         row.get("text", ""))
                    index += 1

    def remove(self) -> None:
        """Delete the files; the tokens that are open stay readable."""
        for name in (PAGES, TOKENS):
            (self.folder / name).unlink()
