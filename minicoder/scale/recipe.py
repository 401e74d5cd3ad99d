"""What a corpus is made from and by which rules, as a value that travels to tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from minicoder.data.archives import archive_files, documents_from_package
from minicoder.data.corpus import check_languages, pages_at
from minicoder.data.decontaminate import Benchmarks, read_benchmarks
from minicoder.data.repositories import (
    checkouts,
    documents_from_folder,
    documents_of,
    is_checkout,
    loose,
    origin_of,
)
from minicoder.data.sieve import Level, Rules, in_force
from minicoder.data.sources import Document, Note
from minicoder.data.standard import REQUIREMENTS, standard_corpus
from minicoder.stages import MADE_BY

Source = Callable[[Note], Iterator[Document]]   # reads a repository, a package, pages


def documents_outside(root: Path, note: Note) -> Iterator[Document]:
    """The documents below a folder that are in none of its git work trees."""
    yield from documents_of(root, loose(root), origin_of(root), note)


def sources_below(folder: Path) -> list[Source]:
    """A folder as one source, or its work trees as one each after its other files."""
    trees = checkouts(folder)
    if not trees or is_checkout(folder):
        return [partial(documents_from_folder, folder)]
    return [partial(documents_outside, folder),
            *(partial(documents_from_folder, tree) for tree in trees)]


@dataclass(frozen=True)
class Recipe:
    """The arguments of `build_corpus` without `out`; they mean the same."""

    folders: tuple[Path, ...] = ()
    """Folders of source code or checkouts; a work tree is one source."""
    requirements: tuple[str, ...] = REQUIREMENTS
    """Installed packages to read, with all that they require."""
    archives: tuple[Path, ...] = ()
    """Folders of wheels, crates, npm, Debian or source archives; each is one source."""
    pages: tuple[Path, ...] = ()
    """Crawled web pages, or folders made by recall; each place is one source."""
    languages: tuple[str, ...] = ()
    """Of code, keep only these; none keeps all that are known."""
    rules: Rules = "all"
    """All filters, or the weak three that count characters and lines."""
    dedup: Level = "both"
    """Compare whole repositories, or single files, or both."""
    benchmarks: tuple[Path, ...] = ()
    """Files of test problems; what holds a piece of one is removed."""
    scale: float = 1.0
    """Multiplies the bytes taken from each origin of this machine's Python."""
    seed: int = 0
    """Decides which files are taken."""

    def sources(self) -> list[Source]:
        """What is to be read, in the order of `build_corpus`.

        Raises `UserError` for a language that is not known and a place without sources.
        """
        check_languages(self.languages)
        found = [source for folder in self.folders for source in sources_below(folder)]
        found += [partial(documents_from_package, file)
                  for folder in self.archives for file in archive_files(folder)]
        found += [partial(pages_at, place) for place in self.pages]
        return [*found, partial(
            standard_corpus, self.requirements, self.scale, self.seed,
            with_code=not (self.folders or self.archives))]

    def settings(self) -> dict[str, object]:
        """All but the seed, as made_by.json has it."""
        return {name: [str(one) for one in value] if isinstance(value, tuple) else value
                for name, value in asdict(self).items() if name != "seed"}

    def recalled(self) -> list[Path]:
        """Those of the pages that are the folder of a stage."""
        return [place for place in self.pages if (place / MADE_BY).exists()]

    def in_force(self) -> list[tuple[str, str]]:
        """The rules that act, with their reasons."""
        return in_force(self.languages, self.rules, self.dedup, self.benchmarks)

    def exam(self) -> Benchmarks | None:
        """What must not be in the corpus."""
        return Benchmarks(read_benchmarks(self.benchmarks)) if self.benchmarks else None
