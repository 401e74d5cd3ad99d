"""Who says which paths of a domain hold the subject: a person, or a stand-in for one.

DeepSeekMath §2.1: "we manually annotate the URLs associated with mathematical content
within these identified domains"; DeepSeek-Coder-V2 §2 does the same for code.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from minicoder.errors import UserError

# (domain, paths of its pages) -> those of the paths that hold the subject
Annotate = Callable[[str, Sequence[str]], Collection[str]]


def folder_of(path: str) -> str:
    """The folder of a path, which people look at: "/docs/a.html" -> "/docs/"."""
    return path.split("?")[0].rsplit("/", 1)[0] + "/"


def by_patterns(file: Path) -> Annotate:
    """The annotator that a person writes: {"site.example": ["/docs/*"]} as JSON.

    Domains and paths are patterns of `fnmatch`. Raises `UserError` for a file of
    another shape.
    """
    try:
        patterns = json.loads(file.read_text(encoding="utf-8"))
        rules = [(domain, paths) for domain, paths in patterns.items()]
        right = all(isinstance(paths, list) and all(isinstance(p, str) for p in paths)
                    for _, paths in rules)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{file} cannot be read as patterns: {error}.") from None
    if not right:
        raise UserError(f'{file} must hold an object like {{"site.example": '
                        '["/docs/*"]}: lists of path patterns by domain.')

    def annotate(domain: str, paths: Sequence[str]) -> list[str]:
        wanted = [path for rule, below in rules if fnmatchcase(domain, rule)
                  for path in below]
        return [path for path in paths if any(fnmatchcase(path, p) for p in wanted)]

    return annotate


def by_samples(subject: Collection[str], looks: int = 5) -> Annotate:
    """A stand-in for the person: opens `looks` pages of each folder, spread evenly.

    `subject` holds the addresses (domain and path) of pages that are the subject's. A
    folder is the subject's when more than half of the pages looked at are.
    """
    def annotate(domain: str, paths: Sequence[str]) -> list[str]:
        folders: defaultdict[str, list[str]] = defaultdict(list)
        for path in sorted(paths):
            folders[folder_of(path)].append(path)
        found: list[str] = []
        for below in folders.values():
            seen = [below[i * len(below) // looks] for i in range(looks)]
            if 2 * sum(domain + path in subject for path in seen) > looks:
                found += below
        return found

    return annotate


def nobody(domain: str, paths: Sequence[str]) -> list[str]:
    """The annotator who names no path: without help, each round repeats the first."""
    return []
