"""Write the pages of the website that are computed, not typed: book/generated/*.md.

    python book/write.py

Each module of book/writers/ has `pages()`, which returns {name: Markdown}. `make book`
runs this first, so that no page can say other numbers than the files that it reads.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

BOOK = Path(__file__).parent
GENERATED = BOOK / "generated"


def write(folder: Path = GENERATED) -> list[Path]:
    """Fill `folder` with the pages alone; `ValueError` when two writers name one."""
    pages: dict[str, str] = {}
    for path in sorted((BOOK / "writers").glob("[!_]*.py")):
        written = import_module(f"book.writers.{path.stem}").pages()
        if twice := sorted(pages.keys() & written.keys()):
            raise ValueError(f"{path.name}: the page {twice[0]} was written already")
        pages |= written
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.md"):
        if path.stem not in pages:
            path.unlink()
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return sorted(folder.glob("*.md"))


if __name__ == "__main__":
    sys.path.insert(0, str(BOOK.parent))
    print(f"{len(write())} computed pages are in book/generated.")
