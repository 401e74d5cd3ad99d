"""The website as one file for paper: its pages, printed by Chromium and joined.

    python book/pdf.py [_build/html]

Writes minicoder.pdf beside the site's folder: the pages in the order of the table of
contents, a bookmark each; links between pages stay inside the file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from pypdf import PdfReader, PdfWriter
from pypdf.annotations import Link
from pypdf.generic import ArrayObject, NameObject

BOOK = Path(__file__).parent
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
SECONDS = 300  # the longest that one page may take


def contents(toc: Path = BOOK / "_toc.yml") -> Iterator[str]:
    """The pages of a table of contents in its order, without their endings."""
    def below(entry: dict) -> Iterator[str]:
        if name := entry.get("root") or entry.get("file"):
            yield name
        for kind in ("parts", "chapters", "sections"):
            for inner in entry.get(kind, ()):
                yield from below(inner)

    yield from below(yaml.safe_load(toc.read_text(encoding="utf-8")))


class Title(HTMLParser):
    """Reads the words of a page's <title>."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.inside = "", False

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.inside = tag == "title" and not self.words

    def handle_data(self, data: str) -> None:
        self.words += data if self.inside else ""


def title(page: Path) -> str:
    """What a page is called, without the site's own name."""
    parser = Title()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser.words.rpartition(" — ")[0] or parser.words


def browser() -> str:
    """The path of Chromium; without one the program ends and says how to get it."""
    if found := next(filter(None, map(shutil.which, CHROMIUM)), None):
        return found
    sys.exit("The PDF is printed by Chromium: install it (on Debian and Ubuntu: "
             "apt install chromium).")


def print_page(page: Path, target: Path) -> Path:
    """Print one page, once its mathematics is set; what fails ends the program."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0  # whose Chromium has no sandbox
    try:
        done = subprocess.run(
            [browser(), "--headless", "--disable-gpu", *["--no-sandbox"] * root,
             "--no-pdf-header-footer", "--virtual-time-budget=60000",
             f"--user-data-dir={target.with_suffix('.profile')}",
             f"--print-to-pdf={target}", page.as_uri()],
            capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        sys.exit(f"{page.name} was not printed within {SECONDS} seconds.")
    if not target.exists():
        sys.exit(f"{page.name} could not be printed: {done.stderr[-300:]}")
    return target


def inward(book: PdfWriter, starts: dict[str, int]) -> None:
    """Links from page to page lead to sheets of the book, other links to files nowhere.
    """
    for number, sheet in enumerate(book.pages):
        notes = [note.get_object() for note in sheet.get("/Annots") or ()]
        uris = [(note.get("/A") or {}).get("/URI", "") for note in notes]
        sheet[NameObject("/Annots")] = ArrayObject(
            reference for reference, uri in zip(sheet.get("/Annots") or (), uris,
                                                strict=True)
            if not uri.startswith("file:"))
        for note, uri in zip(notes, uris, strict=True):
            goal = starts.get(unquote(urlsplit(uri).path))
            if uri.startswith("file:") and goal is not None:
                book.add_annotation(number, Link(
                    rect=note["/Rect"], border=[0, 0, 0], target_page_index=goal))


def main(arguments: list[str]) -> None:
    """Print every page of the site and join them."""
    site = Path(arguments[0] if arguments else "_build/html").resolve()
    pages = [site / f"{name}.html" for name in contents()]
    if missing := [page for page in pages if not page.exists()]:
        sys.exit(f"{site} has no {missing[0].name}: run `make book` first.")
    book, starts = PdfWriter(), {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        printed = pool.map(print_page, pages, (
            Path(folder) / f"{number}.pdf" for number in range(len(pages))))
        for page, file in zip(pages, printed, strict=True):
            starts[str(page)] = len(book.pages)
            book.append(PdfReader(file), outline_item=title(page), import_outline=False)
        inward(book, starts)
        book.add_metadata({"/Title": "minicoder"})
        target = site.parent / "minicoder.pdf"
        book.write(target)
    print(f"{len(pages)} pages of the site are {len(book.pages)} of {target}.")


if __name__ == "__main__":
    main(sys.argv[1:])
