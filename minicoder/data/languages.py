"""Which language a file is written in, told by its name.

DeepSeek-Coder-V2 lists 338 languages (`supported_langs.txt`); this table holds the ones
that a Python installation is likely to carry, under the names of that list. A language
is one line: to teach the corpus another, add the line. The last four are not in that
list: three are prose, and YAML is there because the filter rules speak of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from os.path import splitext


@dataclass(frozen=True)
class Language:
    """A name, the endings and whole file names that mean it, and code or text."""

    name: str
    endings: tuple[str, ...]
    files: tuple[str, ...] = ()
    kind: str = "code"


LANGUAGES = (
    Language("Assembly", (".asm", ".s")),
    Language("C", (".c", ".h")),
    Language("C#", (".cs",)),
    Language("C++", (".cpp", ".cc", ".cxx", ".hpp", ".hh", ".hxx")),
    Language("CMake", (".cmake",), ("CMakeLists.txt",)),
    Language("CSS", (".css",)),
    Language("CUDA", (".cu", ".cuh")),
    Language("Cython", (".pyx", ".pxd", ".pxi")),
    Language("Dockerfile", (".dockerfile",), ("Dockerfile",)),
    Language("Fortran", (".f90", ".f95", ".f03")),
    Language("Go", (".go",)),
    Language("HTML", (".html", ".htm")),
    Language("Haskell", (".hs",)),
    Language("JSON", (".json",)),
    Language("Java", (".java",)),
    Language("JavaScript", (".js", ".mjs", ".cjs")),
    Language("Julia", (".jl",)),
    Language("Kotlin", (".kt", ".kts")),
    Language("Lua", (".lua",)),
    Language("Makefile", (".mk", ".mak"), ("Makefile", "GNUmakefile")),
    Language("OCaml", (".ml", ".mli")),
    Language("PHP", (".php",)),
    Language("Perl", (".pl", ".pm")),
    Language("PowerShell", (".ps1", ".psm1")),
    Language("Python", (".py", ".pyi", ".pyw")),
    Language("R", (".r",)),
    Language("Ruby", (".rb",)),
    Language("Rust", (".rs",)),
    Language("SQL", (".sql",)),
    Language("Scala", (".scala",)),
    Language("Shell", (".sh", ".bash")),
    Language("Swift", (".swift",)),
    Language("Tcl", (".tcl",)),
    Language("TeX", (".tex", ".sty")),
    Language("TypeScript", (".ts", ".tsx")),
    Language("XML", (".xml",)),
    Language("XSLT", (".xsl", ".xslt")),
    Language("YAML", (".yaml", ".yml")),
    Language("Markdown", (".md", ".markdown"), kind="text"),
    Language("reStructuredText", (".rst",), kind="text"),
    Language("Text", (".txt",), kind="text"),
)

_BY_ENDING = {ending: lang for lang in LANGUAGES for ending in lang.endings}
_BY_FILE = {name: lang for lang in LANGUAGES for name in lang.files}


def language_of(path: str) -> Language | None:
    """The language of a file name, or None when the table does not know it.

    `language_of("src/main.rs").name` is "Rust"; a whole name wins over an ending, so
    "CMakeLists.txt" is CMake.
    """
    name = path.rsplit("/", 1)[-1]
    return _BY_FILE.get(name) or _BY_ENDING.get(splitext(name)[1].lower())
