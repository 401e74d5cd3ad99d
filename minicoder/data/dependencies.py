"""Files of a repository in the order in which they can be read (DeepSeek-Coder §2.2).

A file comes after the files that it uses, so that a model that reads on has seen what
is called. Files that are linked form one sample of training, each file below a comment
with its path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import chain

from minicoder.data import imports, languages, names
from minicoder.data.names import Names, without_comments
from minicoder.data.sources import Document


@dataclass(frozen=True)
class Family:
    """Languages whose files can ask for one another, and how they do."""

    languages: frozenset[str]
    comments: re.Pattern[str]
    bears: Callable[[Document, str, Collection[str]], Iterable[str]]
    asks: Callable[[Document, str, Names], Iterator[list[str]]]


FAMILIES = tuple(Family(frozenset(kin.split(",")), *how) for kin, *how in (
    ("C,C++,CUDA,Objective-C,Objective-C++,OpenCL",
     names.CHARACTERS, imports.path_names, imports.c_asked),
    ("Python", names.PYTHON, imports.python_names, imports.python_asked),
    ("JavaScript,TypeScript,JSX,Vue,JSON,Solidity",
     names.SLASHES, imports.path_names, imports.script_asked),
    ("Java,Kotlin,Scala,Groovy", names.CHARACTERS,
     imports.space_names, imports.space_asked),
    ("C#", names.CHARACTERS, imports.space_names, imports.space_asked),
    ("PHP", names.PHP_COMMENTS, imports.space_names, imports.space_asked),
    ("Go", names.SLASHES, imports.go_names, imports.go_asked),
    ("Rust", names.CHARACTERS, imports.rust_names, imports.rust_asked),
    ("Ruby", names.HASHES, imports.loaded_names, imports.loaded_asked),
    ("Perl", names.HASHES, imports.loaded_names, imports.loaded_asked),
    ("Lua", names.DASHES, imports.loaded_names, imports.loaded_asked),
    ("Haskell", names.HASKELL, imports.loaded_names, imports.loaded_asked),
))

Edge = tuple[int, int]


def dependencies(documents: Sequence[Document]) -> list[Edge]:
    """(used, user) for each pair of files of one repository, in order, each once.

    The numbers are places in `documents`. What imports hide, such as a name that is
    computed, or the types of the same Java package, is not found.
    """
    places = {document.path: place for place, document in enumerate(documents)}
    return sorted(set(chain.from_iterable(
        _edges(family, [d for d in documents if d.language in family.languages], places)
        for family in FAMILIES)))


def _edges(family: Family, documents: Sequence[Document], places: dict[str, int]
           ) -> Iterator[Edge]:
    known, borne = {document.path for document in documents}, Names()
    code = [without_comments(document.text, family.comments) for document in documents]
    for document, text in zip(documents, code, strict=True):
        for name in family.bears(document, text, known):
            borne.add(name, document.path)
    for document, text in zip(documents, code, strict=True):
        for path in chain.from_iterable(family.asks(document, text, borne)):
            if path != document.path:
                yield places[path], places[document.path]


def order(count: int, edges: Iterable[Edge]) -> list[list[int]]:
    """The connected components of `count` files, each in the order of Algorithm 1.

    The next file is always the unplaced one with the fewest unplaced files that it
    uses, of several the first. Without a cycle that number is 0 and every file comes
    after what it uses. A cycle is broken where the least is missing, which need not be
    inside it: a test that imports only a package is placed before a package whose
    `__init__` is in a cycle. The paper's loop looks through all files for the minimum;
    a heap with outdated entries takes O((files + edges) · log) instead.
    """
    users: list[list[int]] = [[] for _ in range(count)]
    missing = [0] * count
    for used, user in edges:
        users[used].append(user)
        missing[user] += 1
    orders = []
    for component in components(count, users):
        heap = [(missing[file], file) for file in component]
        heapify(heap)
        placed: dict[int, None] = {}
        while heap:
            _, file = heappop(heap)
            if file in placed:      # an older entry, from when more was missing
                continue
            placed[file] = None
            for user in users[file]:
                missing[user] -= 1
                if user not in placed:
                    heappush(heap, (missing[user], user))
        orders.append(list(placed))
    return orders


def components(count: int, users: Sequence[Sequence[int]]) -> list[list[int]]:
    """The files that edges link, whatever their direction, as sorted lists."""
    linked = [list(found) for found in users]
    for used, found in enumerate(users):
        for user in found:
            linked[user].append(used)
    seen, found = [False] * count, []
    for first in range(count):
        if not seen[first]:
            seen[first], component = True, [first]
            for file in component:      # grows while it is read
                for other in linked[file]:
                    if not seen[other]:
                        seen[other] = True
                        component.append(other)
            found.append(sorted(component))
    return found


def samples(documents: Sequence[Document]) -> list[list[Document]]:
    """The documents of one repository as repository-level samples, in order.

    A document that is not linked to any other is a sample of its own.
    """
    return [[documents[file] for file in component]
            for component in order(len(documents), dependencies(documents))]


def path_comment(document: Document) -> str:
    """The line that stands above a file in its sample: its path as a comment.

    What would end the line or the comment is left out of the path.
    """
    before, after = languages.language_named(document.language).comment
    path = re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", "", document.path)
    while after.strip() and after.strip() in path:
        path = path.replace(after.strip(), "")
    return f"{before}{path}{after}\n"
