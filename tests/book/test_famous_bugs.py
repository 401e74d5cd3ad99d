"""Each famous bug's page entry names a section and a test that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book/famous_bugs.md").read_text(encoding="utf-8")
BUGS = {entry.split("\n")[0]: entry for entry in
        re.split(r"^### ", PAGE.split("\n## What they teach")[0], flags=re.M)[1:]}
SECTION = re.compile(r"\]\(\.\./(notebooks/\w+)\.ipynb#([^)]+)\)")
TEST = re.compile(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)")


def slugs(notebook: str) -> list[str]:
    """The anchors of a lesson's sections, as MyST and GitHub make them."""
    text = (ROOT / f"{notebook}.py").read_text(encoding="utf-8")
    titles = re.findall(r"^# #{1,3} (.+)$", text, flags=re.M)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            for title in titles]


def missing(entry: str) -> list[str]:
    """What an entry names and does not exist."""
    wrong = [f"{notebook}#{slug}" for notebook, slug in SECTION.findall(entry)
             if slug not in slugs(notebook)]
    return wrong + [f"{path}::{name}" for name, path in TEST.findall(entry)
                    if f"\ndef {name}(" not in (ROOT / path).read_text("utf-8")]


def test_the_thirteen_and_more():
    numbers = [int(title.split(".")[0]) for title in BUGS]
    assert numbers == list(range(1, len(BUGS) + 1)) and len(BUGS) > 13


@pytest.mark.parametrize("title", BUGS)
def test_lesson_and_test_exist(title):
    entry = BUGS[title]
    assert SECTION.findall(entry) and TEST.findall(entry)
    assert entry.count("](../") == len(SECTION.findall(entry) + TEST.findall(entry))
    assert missing(entry) == []


@pytest.mark.parametrize("change", [
    ("#4-the-second", "#5-the-second"), ("`test_a_scale", "`test_no_scale")])
def test_what_does_not_exist_is_seen(change):
    assert missing(next(iter(BUGS.values())).replace(*change))
