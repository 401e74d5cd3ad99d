"""Are files really found and ordered by their imports? A table over real packages.

    python -m benchmarks.dependencies --packages runs/packages

Every wheel, npm tarball and Debian package is a repository, read in place. "Found" is
measured against tree-sitter, which parses each file: its import statements alone go
through the same resolution, and the edges of both are compared. What this
table cannot see is whether the right names are read in a statement and resolved to the
right file: for Python `tests/data/test_dependencies.py` compares that with `ast` and a
resolution of its own, for the others `tests/data/test_imports.py` has cases by hand.
"""

from __future__ import annotations

import io
import platform
import subprocess
import tarfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import version
from pathlib import Path

import tyro
from tree_sitter import Node
from tree_sitter_language_pack import get_parser

from minicoder.data.dependencies import FAMILIES, dependencies, order
from minicoder.data.languages import language_of
from minicoder.data.names import Names, without_comments
from minicoder.data.sources import LARGEST_FILE, Document

CALLS = {"require", "import", "require_relative", "load", "autoload"}
# grammar, nodes that import, the node of an identifier
GRAMMARS = {
    "C": ("cpp", {"preproc_include"}), "C++": ("cpp", {"preproc_include"}),
    "Objective-C": ("objc", {"preproc_include", "preproc_import"}),
    "CUDA": ("cuda", {"preproc_include"}),
    "Python": ("python", {"import_statement", "import_from_statement"}),
    "JavaScript": ("javascript", {"import_statement", "export_statement"}),
    "TypeScript": ("typescript", {"import_statement", "export_statement"}),
    "Java": ("java", {"import_declaration", "package_declaration"}),
    "Kotlin": ("kotlin", {"import_header", "import", "package_header"}),
    "Scala": ("scala", {"import_declaration", "package_clause"}),
    "C#": ("csharp", {"using_directive"}),
    "PHP": ("php", {"namespace_use_declaration", "use_declaration",
                    "require_expression", "require_once_expression",
                    "include_expression", "include_once_expression"}),
    "Go": ("go", {"import_declaration"}),
    "Rust": ("rust", {"use_declaration", "mod_item"}),
    "Ruby": ("ruby", set()), "Lua": ("lua", set()),
    "Perl": ("perl", {"use_statement", "require_expression", "use_no_statement"}),
    "Haskell": ("haskell", {"import"}),
}


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of the regular files of a wheel, tarball or Debian package."""
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as opened:
            for one in opened.infolist():
                if not one.is_dir() and one.file_size <= LARGEST_FILE:
                    yield one.filename, opened.read(one)
        return
    data = archive.read_bytes()
    if archive.suffix == ".deb":
        data = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive],
                              stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        for one in opened:
            if one.isreg() and one.size <= LARGEST_FILE:
                yield one.name.removeprefix("./"), opened.extractfile(one).read()


def package_name(archive: Path) -> str:
    """golang-github-spf13-cobra-dev_1.6.1-1_all.deb → cobra; zod-3.1.tgz → zod."""
    if archive.suffix == ".deb":
        return archive.name.split("_")[0].removesuffix("-dev").split("-")[-1]
    stem = archive.name.removesuffix(".tgz").removesuffix(".tar.gz")
    return stem.rsplit("-", 1)[0] if archive.suffix != ".whl" else stem.split("-")[0]


def repository(archive: Path) -> list[Document]:
    """The source files of one archive."""
    documents = {}
    for path, data in members(archive):
        language = language_of(path)
        if language and language.name in GRAMMARS:
            path = path.removeprefix("package/")
            documents[path] = Document(data.decode("utf-8", "replace"), path,
                                       language.name, "code", package_name(archive), "")
    return list(documents.values())


def import_nodes(document: Document) -> str:
    """The text of a file's import statements, one below the other, by tree-sitter.

    All its identifiers follow: of a whole imported namespace they choose the types.
    """
    grammar, kinds = GRAMMARS[document.language]
    if document.path.endswith((".tsx", ".jsx")):
        grammar = "tsx"
    found, words, waiting = [], {}, [get_parser(grammar).parse(
        document.text.encode()).root_node]
    while waiting:
        node = waiting.pop()
        if node.type in kinds or _is_call(node):
            found.append(node.text.decode().strip())
            if node.type not in {"export_statement", "mod_item"}:
                continue
        if "identifier" in node.type or node.type == "name":
            words[node.text.decode()] = None
        waiting += node.children
    return "\n".join(one if one[-1:] in ";\n" else one + (
        ";" if document.language in {"Rust", "PHP"} else "")
        for one in found if not (document.language == "Rust" and one.startswith("mod")
                                 and "{" in one)) + "\n" + " ".join(words)


def _is_call(node: Node) -> bool:
    """require("x"), import("x"), require_relative "x", and what C++ calls #import."""
    if node.type == "preproc_call":
        return node.text.lstrip().startswith(b"#import")
    return node.type in {"call", "call_expression", "function_call"} and bool(
        node.children) and node.children[0].text.decode() in CALLS


def parsed_edges(documents: list[Document]) -> set[tuple[int, int]]:
    """`dependencies`, with tree-sitter in the place of the regular expressions."""
    places, edges = {d.path: i for i, d in enumerate(documents)}, set()
    for family in FAMILIES:
        mine = [d for d in documents if d.language in family.languages]
        names, known = Names(), {d.path for d in mine}
        for one in mine:
            code = without_comments(one.text, family.comments)
            for name in family.bears(one, code, known):
                names.add(name, one.path)
        for one in mine:
            code = without_comments(import_nodes(one), family.comments)
            for found in family.asks(one, code, names):
                edges |= {(places[path], places[one.path]) for path in found
                          if path != one.path}
    return edges


def acyclic(component: list[int], edges: list[tuple[int, int]]) -> bool:
    """Whether the standard library can sort it, so that all edges can be in order."""
    sorter: TopologicalSorter[int] = TopologicalSorter({file: () for file in component})
    for used, user in edges:
        sorter.add(user, used)
    try:
        sorter.prepare()
    except CycleError:
        return False
    return True


def count(documents: list[Document], rows: dict[str, defaultdict[str, float]],
          compare: float) -> None:
    """Add one repository to the rows of its languages; parse it up to `compare` MB."""
    began = time.process_time()
    edges = dependencies(documents)
    orders = order(len(documents), edges)
    spent = time.process_time() - began
    size = sum(len(d.text) for d in documents)
    parsed = parsed_edges(documents) if size <= compare * 1e6 else set()
    component, place = {}, {}
    for number, files in enumerate(orders):
        for position, file in enumerate(files):
            component[file], place[file] = number, position
    inside: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for edge in edges:
        inside[component[edge[0]]].append(edge)
    free = {number: acyclic(orders[number], of) for number, of in inside.items()}
    for name in {d.language for d in documents}:
        rows[name]["repositories"] += 1
    for one in documents:
        rows[one.language]["files"] += 1
        rows[one.language]["bytes"] += len(one.text)
        rows[one.language]["seconds"] += spent * len(one.text) / size
    for used, user in edges:
        row, good = rows[documents[user].language], place[used] < place[user]
        row["edges"] += 1
        row["compared"] += bool(parsed)
        row["in order"] += good
        row["free"] += free[component[user]]
        row["free in order"] += free[component[user]] and good
    for edge in parsed:
        rows[documents[edge[1]].language]["parsed"] += 1
    for edge in parsed.intersection(edges):
        rows[documents[edge[1]].language]["both"] += 1


def table(rows: dict[str, defaultdict[str, float]]) -> str:
    """One line of Markdown for each language."""
    def share(part: float, whole: float) -> str:
        return f"{100 * part / whole:.1f}" if whole else "-"

    lines = ["| language | packages | files | MB | MB/s | edges | in order % | "
             "edges without a cycle near | of them in order % | recall % | "
             "precision % |", "| --- |" + " ---: |" * 10]
    for name, row in sorted(rows.items()):
        lines.append(
            f"| {name} | {row['repositories']:.0f} | {row['files']:,.0f} | "
            f"{row['bytes'] / 1e6:.1f} | {row['bytes'] / 1e6 / row['seconds']:.1f} | "
            f"{row['edges']:,.0f} | {share(row['in order'], row['edges'])} | "
            f"{row['free']:,.0f} | {share(row['free in order'], row['free'])} | "
            f"{share(row['both'], row['parsed'])} | "
            f"{share(row['both'], row['compared'])} |")
    return "\n".join(lines)


def main(packages: Path = Path("runs/packages"),
         out: Path = Path("benchmarks/results/dependencies.md"),
         compare: float = 12.0) -> None:
    """Read every archive of a folder and write the table.

    Args:
        packages: folder of .whl, .tgz and .deb files.
        out: the Markdown file to write.
        compare: largest repository in MB that tree-sitter parses as well.
    """
    archives = sorted(one for one in packages.iterdir()
                      if one.suffix in (".whl", ".tgz", ".gz", ".deb"))
    rows: dict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for archive in archives:
        if documents := repository(archive):
            count(documents, rows, compare)
            print(archive.name, len(documents), flush=True)
    text = "\n".join((
        "# Imports found and files ordered, on real packages", "",
        f"`python -m benchmarks.dependencies` over {len(archives)} archives; Python "
        f"{platform.python_version()}, tree-sitter {version('tree-sitter')}, "
        f"tree-sitter-language-pack {version('tree-sitter-language-pack')}.", "",
        table(rows), "",
        "An edge goes from a file to one that imports it; it is in order when the "
        "imported file comes first. \"Without a cycle near\": in a component that the "
        "standard library's TopologicalSorter accepts. Recall and precision are about "
        "edges: regular expressions against tree-sitter's import statements, both "
        "resolved alike, on "
        f"repositories of at most {compare:g} MB. Rust's "
        "imports inside macros are in no syntax tree of tree-sitter, so they count "
        "against precision here. MB/s on a shared core, finding and ordering "
        "together.", ""))
    out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    tyro.cli(main)
