"""The bibliography has what the lessons cite, and says which lessons."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LESSONS = {path.name[:2]: re.sub(r"\n# ?", " ", path.read_text(encoding="utf-8"))
           for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))}
BIB = (ROOT / "book/references.bib").read_text(encoding="utf-8")
ENTRIES = {key: dict(re.findall(r"(\w+) = \{(.*)\},", body))
           for key, body in re.findall(r"@misc\{(\w+),\n(.+?)\n\}", BIB, re.S)}


def lessons_of(entry: dict[str, str]) -> list[str]:
    """The numbers in an entry's note."""
    return re.findall(r"\d\d", entry["note"])


def test_every_paper_that_a_lesson_cites_is_there_with_its_lessons():
    cited = defaultdict(list)
    for lesson, text in LESSONS.items():
        for number in sorted(set(re.findall(r"\b\d{4}\.\d{5}\b", text))):
            cited[number].append(lesson)
    noted = {entry["howpublished"].removeprefix("arXiv "): lessons_of(entry)
             for entry in ENTRIES.values() if "arXiv" in entry.get("howpublished", "")}
    assert noted == cited


@pytest.mark.parametrize("key", [
    key for key, entry in ENTRIES.items() if entry["keywords"] == "thread"])
def test_a_thread_is_named_in_its_lessons(key):
    entry = ENTRIES[key]
    project = re.escape(entry["author"].split("/")[-1])
    number = re.search(r"(?:Issue|Pull request) (\d+)", entry["title"])
    named = (rf"(?:[Ii]ssues?|requests?|{project})[ ,(]+{number[1]}\b" if number
             else project)
    assert lessons_of(entry)
    for lesson in lessons_of(entry):
        assert re.search(named, LESSONS[lesson]), lesson


def test_pages_cite_what_is_there():
    for page in (ROOT / "book").glob("*.md"):
        for keys in re.findall(r"\{cite\}`([^`]+)`", page.read_text("utf-8")):
            assert set(keys.split(",")) <= set(ENTRIES), page.name
