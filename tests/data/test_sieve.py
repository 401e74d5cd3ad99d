"""What passes into the corpus: forks and copies that were planted, and the others."""

import random
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from minicoder.data.decontaminate import Benchmarks
from minicoder.data.dedup import kept_on_disk
from minicoder.data.filters import RULES
from minicoder.data.sieve import (
    CONTAMINATION,
    EXACT,
    FILE,
    LANGUAGE,
    REPOSITORY,
    WEAK,
    Deduplicator,
    apply_filters,
    decontaminate,
    in_force,
    in_order,
    repositories,
)
from minicoder.data.sources import READING_RULES, Document

FILES = 10


def text(seed, words=300):
    draw = random.Random(seed)
    return " ".join(f"w{draw.randrange(10 ** 6)}" for _ in range(words))


def document(body, path="a.py", origin="one", kind="code", language="Python"):
    return Document(body, path, language, kind, origin, "MIT")


def repository(origin, seeds, kind="code"):
    return [document(text(seed), f"{origin}/{place}.py", origin, kind)
            for place, seed in enumerate(seeds)]


@contextmanager
def deduplicator(folder, level):
    gone = []
    with (kept_on_disk(folder / "whole") as whole,
          kept_on_disk(folder / "files") as files):
        yield Deduplicator(level, whole, files, gone.append), gone


def run(folder, level, *groups):
    """How many documents of each group stay, and the rules of those that go."""
    with deduplicator(folder, level) as (unseen, gone):
        left = [len(list(unseen(group))) for group in groups]
    return left, [one.rule for one in gone]


def test_a_fork_goes_as_a_whole_and_a_half_stays(tmp_path):
    original = repository("original", range(FILES))
    fork = repository("fork", [*range(9), 99])      # J = 9 / 11
    half = repository("half", [*range(5), *range(50, 55)])
    left, rules = run(tmp_path, "repository", original, fork, half)
    assert left == [FILES, 0, FILES] and rules == [REPOSITORY[0]] * FILES
    left, rules = run(tmp_path, "both", original, fork, half)
    assert left == [FILES, 0, 5]
    assert rules == [EXACT[0]] * 9 + [REPOSITORY[0]] + [EXACT[0]] * 5
    left, rules = run(tmp_path, "file", original, fork, half)
    assert left == [FILES, 1, 5] and rules == [EXACT[0]] * 14


@pytest.mark.parametrize(("own", "left"), [(0, 0), (5, 8)])
def test_the_threshold_for_repositories_is_on_the_union(tmp_path, own, left):
    # 7 files of 10: J = 0.7 exactly, and just below with one shingle of its own
    original = repository("original", range(FILES))
    part = [*repository("part", range(7)), document(text(99, own), "own.py", "part")]
    found, _ = run(tmp_path, "repository", original, part)
    assert found == [FILES, left]


def test_what_a_removed_fork_had_of_its_own_is_not_remembered(tmp_path):
    groups = (repository("original", range(FILES)),
              repository("fork", [*range(9), 99]),
              repository("third", [99, 200, 201]))
    assert run(tmp_path, "both", *groups)[0] == [FILES, 0, 3]


def test_copies_inside_a_repository_stay_only_where_repositories_are_compared(tmp_path):
    inside = repository("one", [1, 1, 2])
    assert run(tmp_path, "repository", inside) == ([3], [])
    assert run(tmp_path, "both", inside) == ([2], [EXACT[0]])
    again = [replace(one, origin="copy") for one in inside]
    assert run(tmp_path, "repository", inside, again) == ([3, 0], [EXACT[0]] * 3)


def test_prose_is_judged_one_by_one(tmp_path):
    site = repository("site", range(4), "text")
    mirror = repository("mirror", [0, 1, 2, 9], "text")
    left, rules = run(tmp_path, "repository", site, mirror)
    assert left == [4, 1] and rules == [EXACT[0]] * 3


def test_a_near_copy_names_what_was_kept(tmp_path):
    body = text(0)
    with deduplicator(tmp_path, "both") as (unseen, gone):
        assert len(list(unseen([document(body, "kept.py")]))) == 1
        copies = [document(body + " more", "near.py", "two"),
                  document(text(5, 3000), "long.py", "two")]
        assert [one.path for one in unseen(copies)] == ["long.py"]
    assert [(one.rule, one.path, one.reason) for one in gone] == [
        (FILE[0], "near.py", "kept: kept.py")]


def test_repositories_are_neighbours_of_one_origin():
    documents = [document("x" * 10, origin=name) for name in "aabba"]
    assert [len(group) for group in repositories(documents)] == [2, 2, 1]
    assert list(repositories([])) == []


@pytest.mark.parametrize(("most", "parts"), [(30, [3]), (29, [2, 1]), (1, [1, 1, 1])])
def test_a_large_repository_comes_in_parts(most, parts):
    documents = [document("é" * 5, f"{number}.py") for number in range(3)]
    found = list(repositories(documents, most))
    assert [len(group) for group in found] == parts
    assert sum(found, []) == documents


LONG = "x = 'some words'\n" * 10
BROKEN = "def f(:\n    pass\n" * 10
WIDE = "x = '" + "a" * 1200 + "'\n"


def test_weak_rules_count_characters_only():
    documents = [document(LONG), document(BROKEN), document(WIDE)]
    gone = []
    assert list(apply_filters(documents, (), "all", gone.append)) == documents[:1]
    assert len(gone) == 2
    gone.clear()
    assert list(apply_filters(documents, (), "weak", gone.append)) == documents[:2]
    assert [one.rule for one in gone] == ["mean line"]
    # first_objection tells the first: no other rule may come before the weak ones
    assert tuple(name for name, _, _ in RULES)[:len(WEAK)] == WEAK


def test_languages_are_chosen_for_code_only():
    rust = document("fn main() {}\n" * 5, language="Rust")
    prose = document("words " * 50, kind="text", language="Markdown")
    gone = []
    kept = apply_filters([document(LONG), rust, prose], ["Rust"], "all", gone.append)
    assert list(kept) == [rust, prose]
    assert [(one.rule, one.reason) for one in gone] == [
        (LANGUAGE[0], "written in Python")]


def test_benchmark_text_is_removed_and_named():
    exam = Benchmarks([text(1, 40)])
    leak = document(text(2) + " " + text(1, 40) + " " + text(3))
    gone = []
    assert list(decontaminate([document(text(4)), leak], exam, gone.append)) == [
        document(text(4))]
    assert [one.rule for one in gone] == [CONTAMINATION[0]] and gone[0].reason
    assert list(decontaminate([leak], None, gone.append)) == [leak]


def test_code_comes_in_the_order_of_imports_and_linked_files_are_one_sample():
    main = document("from pkg import used\n", "pkg/main.py", "pkg")
    used = document("value = 1\n", "pkg/used.py", "pkg")
    alone = document("other = 2\n", "elsewhere/alone.py", "pkg")
    readme = document("words", "README.md", "pkg", "text", "Markdown")
    found = list(in_order([main, readme, used, alone], count(7)))
    assert found[-1] == readme and {one.path for one in found[:3]} == {
        one.path for one in (main, used, alone)}
    places = {one.path: place for place, one in enumerate(found)}
    assert places["pkg/used.py"] < places["pkg/main.py"]
    assert {one.path: one.sample for one in found} == {
        "pkg/main.py": "pkg#7", "pkg/used.py": "pkg#7", "elsewhere/alone.py": "",
        "README.md": ""}


def test_only_rules_in_force_are_listed():
    names = [name for name, _ in in_force([], "all", "file", [])]
    filters = [name for name, _, _ in RULES]
    reading = [name for name, _ in READING_RULES]
    assert names == [*reading, *filters, EXACT[0], FILE[0]]
    names = [name for name, _ in in_force(["C"], "weak", "both", [Path("exam")])]
    assert names == [*reading, LANGUAGE[0], *WEAK, EXACT[0], REPOSITORY[0], FILE[0],
                     CONTAMINATION[0]]
