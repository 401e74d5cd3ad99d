"""The order of files: Algorithm 1 of the paper as oracle, and real packages."""

import ast
import random
import signal
from graphlib import TopologicalSorter
from importlib import metadata
from pathlib import Path

import networkx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minicoder.data.dependencies import (
    components,
    dependencies,
    order,
    path_comment,
    samples,
)
from minicoder.data.languages import LANGUAGES
from minicoder.data.sources import Document


def graphs(most=12):
    def edges(count):
        file = st.integers(0, count - 1)
        pair = st.tuples(file, file).filter(lambda edge: edge[0] != edge[1])
        return st.lists(pair, unique=True, max_size=3 * most)

    return st.integers(1, most).flatmap(
        lambda count: st.tuples(st.just(count), edges(count)))


def algorithm_1(count, edges):
    """DeepSeek-Coder's pseudo-code, as it is printed: O(n²), components apart."""
    graph = {file: [] for file in range(count)}
    degree = dict.fromkeys(range(count), 0)
    for used, user in edges:
        graph[used].append(user)
        degree[user] += 1
    results = []
    for subgraph in networkx.connected_components(
            networkx.Graph([*edges, *((file, file) for file in range(count))])):
        result = []
        while len(result) != len(subgraph):
            file = min((file for file in sorted(subgraph) if file not in result),
                       key=lambda file: degree[file])
            for node in graph[file]:
                degree[node] -= 1
            result.append(file)
        results.append(result)
    return results


def code(path, text, language="Python"):
    return Document(text, path, language, "code", "own", "MIT")


@given(graphs())
def test_the_order_is_that_of_algorithm_1(graph):
    assert sorted(order(*graph)) == sorted(algorithm_1(*graph))


@given(graphs(), st.randoms())
def test_the_order_of_edges_changes_nothing(graph, draw):
    count, edges = graph
    assert order(count, draw.sample(edges, len(edges))) == order(count, edges)


@given(graphs())
def test_every_file_is_placed_once_cycles_or_not(graph):
    count, edges = graph
    placed = order(count, edges)
    assert sorted(file for part in placed for file in part) == list(range(count))
    assert [min(part) for part in placed] == sorted(min(part) for part in placed)
    where = {file: number for number, part in enumerate(placed) for file in part}
    assert all(where[a] == where[b] for a, b in edges)


@given(graphs())
def test_without_cycles_the_used_file_comes_first(graph):
    count, edges = graph
    edges = [(min(edge), max(edge)) for edge in edges]
    names = list(range(count))
    random.Random(count).shuffle(names)
    edges = [(names[a], names[b]) for a, b in edges]
    list(TopologicalSorter({b: [a] for a, b in edges}).static_order())
    place = {file: at for part in order(count, edges) for at, file in enumerate(part)}
    assert all(place[a] < place[b] for a, b in edges)


def test_ties_go_to_the_first_file_and_cycles_break_where_least_is_missing():
    assert order(4, []) == [[0], [1], [2], [3]]
    assert order(4, [(3, 0), (3, 1), (3, 2)]) == [[3, 0, 1, 2]]
    assert order(3, [(0, 1), (1, 2), (2, 0)]) == [[0, 1, 2]]
    # 0 misses two, 1 and 2 one each: 1 first, then 2, whose only want is 1
    assert order(3, [(1, 0), (2, 0), (1, 2), (0, 1)]) == [[1, 2, 0]]
    assert components(3, [[2], [], []]) == [[0, 2], [1]]


def test_many_files_are_no_matter():
    """The pseudo-code would take 10¹⁰ steps."""
    count = 100_000
    edges = [(file + 1, file) for file in range(count - 1)]
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("too slow for 100,000 files"))
    signal.alarm(30)
    assert order(count, edges) == [list(range(count))[::-1]]
    signal.alarm(0)


FILES = [code("p/__init__.py", ""), code("p/a.py", "from . import b"),
         code("p/b.py", "from .c import x"), code("p/c.py", ""),
         code("README.md", "import p", "Markdown"), code("x.h", "", "C"),
         code("y.cpp", '#include "x.h"', "C++")]


@given(st.permutations(FILES))
def test_samples_do_not_depend_on_the_order_of_the_files(files):
    found = [[one.path for one in sample] for sample in samples(files)]
    assert sorted(found) == [["README.md"], ["p/__init__.py"],
                             ["p/c.py", "p/b.py", "p/a.py"], ["x.h", "y.cpp"]]


def test_no_files_no_samples_and_a_file_does_not_use_itself():
    assert samples([]) == [] == dependencies([])
    assert dependencies([code("a.py", "import a")]) == []


@pytest.mark.parametrize("path, language, line", [
    ("p/a.py", "Python", "# p/a.py\n"), ("a.css", "CSS", "/* a.css */\n"),
    ("a\n*/b\u2028.css", "CSS", "/* ab.css */\n"), ("**//x", "CSS", "/* x */\n"),
    ("-->x", "HTML", "<!-- x -->\n"), ("a.go", "Go", "// a.go\n")])
def test_the_path_is_one_line_that_is_a_comment(path, language, line):
    assert path_comment(code(path, "", language)) == line


@pytest.mark.parametrize("language", [one.name for one in LANGUAGES])
def test_every_language_has_a_path_comment_of_one_line(language):
    line = path_comment(code("a/b c.x", "", language))
    assert "a/b c.x" in line and line.count("\n") == 1 and line.endswith("\n")


def installed(package, ending):
    """The files of an installed package as documents of a repository."""
    if "/" in package:
        root = {"torch/include": Path(torch.__file__).parent / "include/c10",
                "numpy/include": Path(np.__file__).parent / "_core/include"}[package]
        return [code(one.relative_to(root.parent).as_posix(), one.read_text("utf-8"),
                     "C++") for one in sorted(root.rglob("*.h"))]
    found = metadata.distribution(package)
    return [code(str(one), one.locate().read_text("utf-8"))
            for one in sorted(found.files) if str(one).endswith(ending)]


def ast_edges(documents):
    """Imports by Python's parser, resolved by looking whether the file is there."""
    places = {d.path: place for place, d in enumerate(documents)}

    def file(parts):
        stem = "/".join(parts)
        return next((p for p in (f"{stem}/__init__.py", f"{stem}.py") if p in places),
                    None) if parts else None

    edges = set()
    for place, document in enumerate(documents):
        here = document.path.split("/")[:-1]
        for node in ast.walk(ast.parse(document.text)):
            if isinstance(node, ast.Import):
                wanted = [file(alias.name.split(".")) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = here[:len(here) - node.level + 1] if node.level else []
                base = base + (node.module.split(".") if node.module else [])
                wanted = [file([*base, alias.name]) or file(base)
                          for alias in node.names]
            else:
                continue
            edges |= {(places[one], place) for one in wanted if one}
    return {(a, b) for a, b in edges if a != b}


@pytest.mark.parametrize("package", ["jinja2", "tyro", "tqdm", "mpmath"])
def test_regular_expressions_find_what_ast_finds(package):
    documents = installed(package, ".py")
    wanted = ast_edges(documents)
    assert len(wanted) > 40 and set(dependencies(documents)) == wanted


@pytest.mark.parametrize("package, least", [
    ("jinja2", 0), ("pygments", 500), ("torch/include", 300), ("numpy/include", 20)])
def test_real_packages_are_in_order_wherever_there_is_no_cycle(package, least):
    documents = installed(package, ".py")
    edges = dependencies(documents)
    graph = networkx.DiGraph(edges)
    part = {file: number for number, files in enumerate(
        networkx.weakly_connected_components(graph)) for file in files}
    loops = {part[file] for files in networkx.strongly_connected_components(graph)
             if len(files) > 1 for file in files}
    place = {file: at for files in order(len(documents), edges)
             for at, file in enumerate(files)}
    free = [(a, b) for a, b in edges if part[a] not in loops]
    assert all(place[a] < place[b] for a, b in free)
    assert len(edges) > 15 and len(free) >= least
