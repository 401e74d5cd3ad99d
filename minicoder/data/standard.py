"""The standard corpus: what a Python installation with minicoder's requirements ships.

Nothing is downloaded, imported or run; files are only read. Code comes from the
standard library and the installed packages, math from the docstrings of SymPy and
mpmath, text from Python's language reference, the packages' descriptions and the
docstrings of NumPy and Matplotlib. What serves as math or text is not code as well, so
that no document is counted twice.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import sysconfig
from collections.abc import Iterator, Sequence
from importlib import metadata
from itertools import chain
from pathlib import Path

from minicoder.data.filters import parse_python
from minicoder.data.languages import language_of
from minicoder.data.licences import licence_in_headers
from minicoder.data.sources import (
    NOT_SAMPLED,
    Candidate,
    Document,
    Dropped,
    Note,
    read,
    read_text,
    stable_hash,
    walk,
)
from minicoder.errors import UserError

# What the course installs. Only what these require is read, so that the corpus does
# not change with whatever else is installed.
REQUIREMENTS = ("torch", "numpy", "einops", "jaxtyping", "tiktoken", "safetensors",
                "tyro", "tqdm", "matplotlib", "jupyterlab", "ipywidgets", "nbval")
SKIPPED_FOLDERS = {"__pycache__", "node_modules", "site-packages", "dist-packages",
                   "test", "tests", "testing", "idle_test", "pydoc_data"}
STDLIB_BYTES = 3_600_000
PACKAGE_BYTES = 30_000              # per package and language
DESCRIPTION_BYTES = 20_000          # longer ones are mostly lists of changes
DOCSTRING_LEAST = 200               # characters
MATH_BYTES = {"mpmath": 300_000, "sympy": 800_000}
TEXT_BYTES = {"matplotlib": 1_000_000, "numpy": 1_300_000}
NOT_CODE = {"torch", *MATH_BYTES, *TEXT_BYTES}
PYTHON = ("Python standard library", "PSF-2.0")


def normalised(requirement: str) -> str:
    """The name in a requirement: "Jinja2>=3" and "jinja2" are one package."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def packages(requirements: Sequence[str]) -> dict[str, metadata.Distribution]:
    """The named distributions with all that they require, by normalised name.

    Requirements with a marker (extras, other platforms, old Pythons) are left out, so
    that every machine finds the same packages. Raises `UserError` for a name that is
    not installed; a missing requirement of a requirement is passed over.
    """
    found: dict[str, metadata.Distribution] = {}
    asked = [normalised(name) for name in requirements]
    waiting = list(asked)
    while waiting:
        name = waiting.pop(0)
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            if name in asked:
                raise UserError(f"The package {name} is not installed.") from None
            continue
        waiting += [normalised(line) for line in found[name].requires or ()
                    if ";" not in line]
    return dict(sorted(found.items()))


def package_files(name: str, package: metadata.Distribution) -> list[Candidate]:
    """The source files of a package, its tests left out."""
    licence, root = licence_in_headers(package.metadata), str(package.locate_file(""))
    chosen = []
    for path in sorted(map(str, package.files or ())):
        *folders, file = path.split("/")
        if language_of(file) and not (
                file.startswith("test_") or SKIPPED_FOLDERS.intersection(folders)
                or ".." in folders or path.split("/")[0].endswith(".dist-info")):
            chosen.append(Candidate(Path(root, path), path, name, licence))
    return [one for one in chosen if os.path.lexists(one.file)]


def stdlib_files() -> list[Candidate]:
    """The standard library of the running interpreter without its tests."""
    root = Path(sysconfig.get_path("stdlib"))
    return [Candidate(file, f"Lib/{file.relative_to(root).as_posix()}",
                      *PYTHON)
            for file in walk(root, SKIPPED_FOLDERS) if language_of(file.name)
            # what describes the machine that built Python
            and not file.parent.name.startswith("config-")
            and not file.name.startswith("_sysconfigdata")]


def within(
    candidates: list[Candidate], limit: float, seed: int, note: Note
) -> list[Candidate]:
    """A random choice of files, at most `limit` bytes per origin and language."""
    used: dict[tuple[str, str], int] = {}
    chosen = []
    for one in sorted(candidates, key=lambda c: stable_hash(f"{seed}:{c.path}")):
        part = (one.origin, language_of(one.path).name)
        size = one.file.lstat().st_size
        if used.get(part, 0) + size > limit:
            note(Dropped(NOT_SAMPLED, one.path, size))
            continue
        used[part] = used.get(part, 0) + size
        chosen.append(one)
    return sorted(chosen, key=lambda c: (c.origin, c.path))


def standard_code(
    found: dict[str, metadata.Distribution], scale: float, seed: int, note: Note,
) -> Iterator[Document]:
    """Source files of the standard library and of the packages that are not prose."""
    library = [c for c in stdlib_files() if language_of(c.path).kind == "code"]
    others = [c for name, package in found.items() if name not in NOT_CODE
              for c in package_files(name, package)
              if language_of(c.path).kind == "code"]
    yield from read(within(library, scale * STDLIB_BYTES, seed, note), note)
    yield from read(within(others, scale * PACKAGE_BYTES, seed, note), note)


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """A syntax tree's statements; expressions, most of its nodes, are not entered."""
    yield node
    for field in ("body", "orelse", "handlers", "finalbody", "cases"):
        for child in getattr(node, field, ()):
            yield from statements(child)


def doc_texts(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of the docstrings in a Python source, read with `ast`.

    Texts given to functions such as NumPy's `add_newdoc` count as docstrings.
    """
    scopes = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in statements(parse_python(source)):
        text = None
        if isinstance(node, scopes):
            text = ast.get_docstring(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value.func
            if "doc" in (getattr(call, "attr", "") or getattr(call, "id", "")):
                values = (getattr(part, "value", None) for part in ast.walk(node))
                strings = (value for value in values if isinstance(value, str))
                text = inspect.cleandoc(max(strings, key=len, default=""))
        if text and len(text) > DOCSTRING_LEAST:
            yield getattr(node, "lineno", 1), text


def docstrings(
    name: str, package: metadata.Distribution, kind: str, limit: float, seed: int
) -> Iterator[Document]:
    """Long docstrings of a package, files in random order, up to `limit` bytes."""
    used = 0
    files = [c for c in package_files(name, package) if c.path.endswith(".py")]
    for one in sorted(files, key=lambda c: stable_hash(f"{seed}:{c.path}")):
        source = read_text(one.file)
        try:
            texts = list(doc_texts(source)) if isinstance(source, str) else []
        except SyntaxError:
            continue
        for line, text in texts:
            data = text.encode("utf-8", "replace")      # "\ud800" is a legal literal
            text, used = data.decode(), used + len(data)
            yield Document(text, f"{one.path}:{line}", "reStructuredText", kind,
                           f"{name}: docstrings", one.licence)
        if used >= limit:
            break


def descriptions(found: dict[str, metadata.Distribution]) -> Iterator[Document]:
    """The long descriptions of packages, which are their front pages."""
    for name, package in found.items():
        about = package.metadata
        text = about.get("Description") or str(about.get_payload() or "")
        if DOCSTRING_LEAST < len(text) <= DESCRIPTION_BYTES:
            written = about.get("Description-Content-Type") or ""
            language = "Markdown" if "markdown" in written else "reStructuredText"
            yield Document(text, f"{name}/METADATA", language, "text",
                           f"{name}: description", licence_in_headers(about))


def language_reference() -> Iterator[Document]:
    """The topics of Python's own `help()`, one document each."""
    file = Path(sysconfig.get_path("stdlib"), "pydoc_data", "topics.py")
    source = read_text(file)
    if not isinstance(source, str):     # some systems package it apart
        return
    topics = ast.literal_eval(parse_python(source).body[-1].value)
    for name, text in sorted(topics.items()):
        yield Document(text, f"Lib/pydoc_data/topics/{name}", "reStructuredText",
                       "text", "Python: language reference", PYTHON[1])


def standard_corpus(
    requirements: Sequence[str], scale: float, seed: int, note: Note,
    with_code: bool = True,
) -> Iterator[Document]:
    """Code, math and text of this machine; `scale` multiplies every limit on bytes.

    Raises `UserError` when a named requirement is not installed.
    """
    found = packages(requirements)
    for one in chain(language_reference(), descriptions(found)):
        if stable_hash(f"{seed}:{one.path}") < scale * 2 ** 64:
            yield one
    for kind, limits in (("math", MATH_BYTES), ("text", TEXT_BYTES)):
        for name in filter(found.__contains__, limits):
            yield from docstrings(name, found[name], kind, scale * limits[name], seed)
    if with_code:
        yield from standard_code(found, scale, seed, note)
