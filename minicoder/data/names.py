"""Names that files of one repository bear, and code without its comments.

What `imports.py` says about the languages stands on this. Every expression has one way
to match or keeps what it has eaten (`*+`), so that a hostile file takes time in
proportion to its length.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterable
from itertools import accumulate
from os.path import commonprefix
from posixpath import dirname, join, normpath

DEEPEST = 32    # parts of a path or dotted name that are looked at
# (comment)|string: comments go, strings stay. Open ones end with the line or the file.
STRING = r"'(?:[^'\\\n]|\\.)*+'?|" r'"(?:[^"\\\n]|\\.)*+"?'
BLOCK = r"//[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/|\Z)"
TRIPLE = (r"'''(?:[^'\\]|\\.|'(?!''))*+(?:'''|\Z)|"
          r'"""(?:[^"\\]|\\.|"(?!""))*+(?:"""|\Z)')
POD = (r"(?m:^=(?!cut|end)[a-z])(?:[^\n]|\n(?!=(?:cut|end)\b))*+"     # Perl, Ruby
       r"(?:\n=[^\n]*+|\Z)")
SLASHES, CHARACTERS, PHP_COMMENTS, HASHES, PYTHON, DASHES, HASKELL = (
    re.compile(comments, re.DOTALL) for comments in (
        rf"({BLOCK})|{STRING}|`(?:[^`\\]|\\.)*+`?",
        # a lone ' is a lifetime of Rust or a digit separator of C++
        rf"({BLOCK})|'(?:[^'\\\n]|\\.)'|" r'"(?:[^"\\\n]|\\.)*+"?',
        rf"({BLOCK}|#(?!\[)[^\n]*+)|{STRING}", rf"({POD}|#[^\n]*+)|{STRING}",
        rf"(#[^\n]*+|{TRIPLE}|{STRING})",       # no import of Python is in a string
        rf"(--\[\[(?:[^\]]|\](?!\]))*+(?:\]\]|\Z)|--[^\n]*+)|{STRING}",
        r"(\{-(?:[^-]|-(?!\}))*+(?:-\}|\Z)|--[^\n]*+)|" r'"(?:[^"\\\n]|\\.)*+"?'))


class Names:
    """The names of a repository's files; of several bearers the nearest one counts.

    A name that begins with "/" is a path from the root of the repository; one like
    "space.*Type" also enters the namespace in `spaces`, under the type.
    """

    def __init__(self) -> None:
        self.bearers: dict[str, dict[str, None]] = {}   # sets in order
        self.sorted: dict[str, list[str]] = {}
        self.spaces: dict[str, dict[str, None]] = {}

    def add(self, name: str, path: str) -> None:
        """Let the file `path` bear a name."""
        self.bearers.setdefault(name, {})[path] = None
        space, star, kind = name.partition(".*")
        if star:
            self.spaces.setdefault(kind, {})[space] = None

    def first(self, names: Iterable[str], path: str) -> list[str]:
        """One bearer of the first name that has any, or none.

        It is the one whose path begins most like `path`: in sorted order a neighbour.
        """
        for name in names:
            if name in self.bearers:
                if name not in self.sorted:
                    self.sorted[name] = sorted(self.bearers[name])
                among = self.sorted[name]
                place = bisect(among, path)
                return [max(among[max(0, place - 1):place + 1],
                            key=lambda one: len(commonprefix((one, path))))]
        return []


def tails(path: str, least: int = 1) -> list[str]:
    """Ends of a path at whole folders: "a/b/c.h" → "c.h", "b/c.h", "a/b/c.h"."""
    parts = path.split("/")[-DEEPEST:]
    return ["/".join(parts[-size:]) for size in range(least, len(parts) + 1)]


def heads(name: str, separator: str = ".") -> list[str]:
    """Beginnings, the longest first: "a.b.c" → "a.b.c", "a.b", "a"."""
    parts = name.split(separator)[:DEEPEST]
    return list(accumulate(parts, lambda a, b: f"{a}{separator}{b}"))[::-1]


def beside(path: str, name: str) -> str:
    """The absolute name of what is called `name` from the folder of `path`."""
    found = normpath(join(dirname(path), name))
    return "/" if found == "." else f"/{found}"


def without_comments(text: str, comments: re.Pattern[str]) -> str:
    """Code with a space in the place of each comment, the first group of `comments`."""
    return comments.sub(lambda found: " " if found[1] else found[0],
                        text.removeprefix("\ufeff"))
