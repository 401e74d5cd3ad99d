"""Which files of one repository does a file ask for? (DeepSeek-Coder §2.2)

The paper finds calls between files with regular expressions on statements that import.
For each language two functions say how: `..._names` what a file is called, `..._asked`
what each statement of its code means. The first name that a file of the repository
bears counts. What none bears, such as a standard library, is no dependency.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator
from itertools import pairwise
from posixpath import dirname, splitext

from minicoder.data.names import DEEPEST, Names, beside, heads, tails
from minicoder.data.sources import Document


def path_names(document: Document, code: str, paths: Collection[str]) -> list[str]:
    """A file found by its path or the end of it."""
    return ["/" + document.path, *tails(document.path)]


INCLUDE = re.compile(r'^[ \t]*+#[ \t]*+(?:include|include_next|import)[ \t]*+'
                     r'(?:"([^"\n]++)"|<([^>\n]++)>)', re.MULTILINE)
C_STANDARD = frozenset(f"{name}.h" for name in (
    "assert complex ctype errno fenv float inttypes iso646 limits locale math memory "
    "setjmp signal stdarg stdatomic stdbool stddef stdint stdio stdlib string tgmath "
    "threads time uchar unistd wchar wctype").split())


def c_asked(document: Document, code: str, names: Names) -> Iterator[list[str]]:
    """Of `#include "a/b.h"` the file beside, else the nearest path that ends so."""
    for quoted, angled in INCLUDE.findall(code):
        if angled not in C_STANDARD:
            end = re.sub(r"^(?:\.\.?/)++", "", quoted or angled)
            wanted = [beside(document.path, quoted)] if quoted else []
            yield names.first([*wanted, end], document.path)


FROM = re.compile(
    r"(?:^|[;:])[ \t]*+(?:from[ \t]*+(\.*+)[ \t]*+((?!import\b)[\w.]++)?+"
    r"[ \t]*+import\b[ \t]*+(\([^()]*+\)|[^\n(;]*+)|import[ \t]++([^\n;]*+))",
    re.MULTILINE)


def python_names(document: Document, code: str, paths: Collection[str]) -> list[str]:
    """Dotted names from the folder above the outermost package, or from one higher."""
    stem, ending = splitext(document.path)
    if ending == ".pyi" and stem + ".py" in paths:
        return []
    module, depth = stem.removesuffix("__init__").rstrip("/"), 1
    folder = dirname(module)
    while folder and f"{folder}/__init__.py" in paths and depth < DEEPEST:
        folder, depth = dirname(folder), depth + 1
    return ["/" + module, *(tail.replace("/", ".") for tail in tails(module, depth))]


def python_asked(document: Document, code: str, names: Names) -> Iterator[list[str]]:
    """Modules: of `from a import b` a.b, or a where b is no module."""
    for dots, base, imported, plain in FROM.findall(code.replace("\\\n", " ")):
        for part in (plain or imported.strip("()")).split(","):
            name, *_ = part.split() or [""]
            if dots and name:
                above = beside(document.path, "../" * (len(dots) - 1) + ".")
                start = "/" + f"{above}/{base.replace('.', '/')}".strip("/")
                yield names.first([f"{start}/{name}".replace("//", "/"), start],
                                  document.path)
            elif plain:
                yield absolute(names, document.path, name)
            elif base and name:
                yield absolute(names, document.path, f"{base}.{name}", base)


def absolute(names: Names, path: str, *wanted: str) -> list[str]:
    """A module by its full name; one called as Python's own only beside or below."""
    found = names.first(wanted, path)
    top = wanted[0].split(".")[0]
    if found and top in sys.stdlib_module_names:
        root = f"/{found[0]}".rpartition(f"/{top}")[0]
        if not f"/{path}".startswith(root + "/"):
            return []
    return found


SCRIPT = re.compile(r"""\b(?:from|import|require\s*+\(|import\s*+\()\s*+
                        (?:'([^'\n]++)'|"([^"\n]++)")""", re.VERBOSE)
SCRIPT_ENDINGS = (".ts", ".tsx", ".js", ".jsx", ".mjs", ".cjs", ".mts", ".cts", ".d.ts",
                  ".vue", ".svelte", ".json")
SCRIPT_FILES = ("", *SCRIPT_ENDINGS, *(f"/index{end}" for end in SCRIPT_ENDINGS))


def script_asked(document: Document, code: str, names: Names) -> Iterator[list[str]]:
    """Relative paths with the ending left out, `index` in a folder, the own package."""
    package = document.origin
    for match in SCRIPT.finditer(code):
        name = match[1] or match[2]
        if name == package or name.startswith(package + "/"):
            inside = name[len(package):]
            starts = [inside, "/package" + inside, "/src" + inside]
        elif name.startswith("."):
            starts = [beside(document.path, name).rstrip("/")]
        else:
            continue
        stems = [re.sub(r"\.[cm]?jsx?$", "", start) for start in starts]
        yield names.first((one + end for one in [*starts, *stems]
                           for end in SCRIPT_FILES), document.path)


DECLARED = re.compile(
    r"^[ \t]*+(?:package|namespace)[ \t]++([\w.\\]++)|\b(?:(?:record|enum)[ \t]++)?"
    r"(?:class|struct|interface|enum|record|object|trait|typealias)[ \t]++(\w++)|"
    r"\b(?:fun|function|val|def)[ \t]++(\w++)", re.MULTILINE)
USING = re.compile(
    r"^[ \t]*+(?:global[ \t]++)?(?:import|using|use)[ \t]++(?:(?:static|function|const)"
    r"[ \t]++)?(?:\w++[ \t]*+=[ \t]*+)?([\w.\\]++)(\*|\{[^{}]*+\})?", re.MULTILINE)
REQUIRED = re.compile(r"\b(?:require|include)(?:_once)?[ \t(]*+(?:__DIR__|dirname\("
                      r"__FILE__\))?[ \t.]*+(?:'([^'\n]++)'|\"([^\"\n]++)\")")


def space_names(document: Document, code: str, paths: Collection[str]) -> Iterator[str]:
    """Each declared type as "space.Type", and once more as "space.*Type"."""
    yield "/" + document.path
    space = ""
    for declared, kind, function in DECLARED.findall(code):
        space = declared.replace("\\", ".") or space
        if kind or function:
            yield f"{space}.{kind or function}"
        if kind:
            yield f"{space}.*"
            yield f"{space}.*{kind}"


def space_asked(document: Document, code: str, names: Names) -> Iterator[list[str]]:
    """Types by full name; of a whole namespace those whose names stand in the file."""
    words, whole = dict.fromkeys(re.findall(r"\w+", code)), {}
    for name, group in USING.findall(code):
        name = name.replace("\\", ".").strip(".").removesuffix("._")
        parts = [part.split()[0].replace("\\", ".")
                 for part in group.strip("{}*").split(",") if part.strip()]
        for one in [f"{name}.{part}" for part in parts] or [name]:
            found = names.first([one], document.path)
            if not found and f"{one}.*" in names.bearers:
                whole[one] = None
            yield found or names.first(heads(one)[1:-1], document.path)
    for word in words if whole else ():
        for space in names.spaces.get(word, ()):
            if space in whole:
                yield names.first([f"{space}.*{word}"], document.path)
    if document.language == "PHP":
        for single, double in REQUIRED.findall(code):
            wanted = beside(document.path, (single or double).lstrip("/"))
            yield names.first([wanted], document.path)


GO = re.compile(r'^import[ \t]*+(?:(?:[\w.]++[ \t]++)?("[^"\n]++")|\(([^()]*+)\))',
                re.MULTILINE)


def go_names(document: Document, code: str, paths: Collection[str]) -> list[str]:
    """The folder, which is the package; nobody imports a test file."""
    if document.path.endswith("_test.go"):
        return []
    folder = dirname(document.path)
    return ["/" + folder, *tails(folder)]


def go_asked(document: Document, code: str, names: Names) -> Iterator[list[str]]:
    """All files of a package: below "src", at the end of a path, or in the own module.

    go.mod may be missing, so the own module is what has the repository's name in it.
    """
    own = document.origin.split("/")[-1]
    for single, block in GO.findall(code):
        for name in re.findall(r'"([^"\n]++)"', single or block):
            top, *parts = name.split("/")[:DEEPEST]
            wanted = [f"src/{name}"]
            if "." in top:
                wanted.append(name)
                wanted += ["/" + "/".join(parts[place + 1:])
                           for place, part in enumerate(parts) if part == own]
            for one in names.first(wanted, document.path):
                key = next(key for key in wanted if key in names.bearers)
                yield [path for path in names.bearers[key]
                       if dirname(path) == dirname(one)]


RUST = re.compile(r"\bmod\s++(\w++)\s*+;|\buse\s++([^;]++)")
CRATE_ROOTS = ("lib", "main", "mod")


def rust_module(path: str) -> str:
    """"/src/a" of src/a.rs and of src/a/mod.rs, "/src" of src/lib.rs."""
    stem = "/" + path.removesuffix(".rs")
    head, _, last = stem.rpartition("/")
    return head if last in CRATE_ROOTS else stem


def rust_names(document: Document, code: str, paths: Collection[str]) -> list[str]:
    """Its module's path; the root of a library also the name of its crate."""
    path = document.path
    if path.endswith("main.rs") and path.removesuffix("main.rs") + "lib.rs" in paths:
        return []
    crate = re.sub(r"-\d[\w.+-]*+$", "", path.split("/")[-3]).replace("-", "_") if (
        path.endswith("/src/lib.rs") and path.count("/") > 1) else ""
    return [rust_module(path), *([f"crate {crate}"] if crate else [])]


def use_paths(tree: str) -> Iterator[list[str]]:
    """The paths of a use: "a::{b, c::d}" → [a, b], [a, c, d]."""
    path, starts, fresh = [], [], False
    for token in re.findall(r"\w+|[{},]", re.sub(r"\bas\s++\w++", "", tree) + ","):
        if token == "{":
            starts.append(len(path))
        elif token in ",}":
            if fresh:
                yield path
            fresh = False
            path = path[:starts[-1] if starts else 0]
            if token == "}" and starts:
                starts.pop()
                path = path[:starts[-1] if starts else 0]
        elif len(path) < DEEPEST:
            path, fresh = [*path, token], True


def rust_asked(document: Document, code: str, names: Names) -> Iterator[list[str]]:
    """`mod x;` is the file of x; of `use crate::a::B` the longest path that is one."""
    module = rust_module(document.path)
    before, source, _ = f"/{document.path}".rpartition("/src/")
    root = before + source.rstrip("/") if source else dirname(module)
    for child, tree in RUST.findall(code):
        if child:
            yield names.first([f"{module}/{child}"], document.path)
        for start, *rest in use_paths(tree):
            base = {"crate": root, "self": module, "super": dirname(module)}.get(start)
            while base and rest[:1] == ["super"]:
                base, rest = dirname(base), rest[1:]
            if base is None:
                library = names.first([f"crate {start}"], document.path)
                base = rust_module(library[0]) if library else f"{module}/{start}"
            yield names.first(heads("/".join([base, *rest]), "/")[:len(rest) + 1],
                              document.path)


LOAD_PATHS = {"lib", "src", "lua", "vendor_ruby", "5.1", "5.2", "5.3", "5.4", "perl5"}
ASKED = {
    "Lua": re.compile(r"""\brequire[ \t]*+\(?[ \t]*+(['"])([\w./-]++)['"]"""),
    "Ruby": re.compile(r"""\b(require_relative|require|load|autoload[ \t(]++:\w++,)"""
                       r"""[ \t(]++['"]([^'"\n]++)['"]"""),
    "Perl": re.compile(r"^[ \t]*+(use|require)[ \t]++([\w:]++)", re.MULTILINE),
    "Haskell": re.compile(r"^(import)[ \t]++(?:qualified[ \t]++)?([\w.]++)", re.M),
}
SEPARATOR = {"Lua": ".", "Ruby": "/", "Perl": "::", "Haskell": "."}


def loaded_names(document: Document, code: str, paths: Collection[str]) -> list[str]:
    """The path without its ending, whole and from behind each load path in it."""
    stem = splitext(document.path)[0].removesuffix("/init")
    return ["/" + stem, stem, *(tail for tail, longer in pairwise(tails(stem))
                                if longer.split("/")[0] in LOAD_PATHS)]


def loaded_asked(document: Document, code: str, names: Names) -> Iterator[list[str]]:
    """A file on a load path, or beside where the language has a word for that."""
    language = document.language
    for how, name in ASKED[language].findall(code):
        if language == "Ruby":
            name = name.removesuffix(".rb")
        wanted = [name.replace(SEPARATOR[language], "/")]
        if how == "require_relative" or name.startswith("."):
            wanted = [beside(document.path, name)]
        yield names.first(wanted, document.path)
