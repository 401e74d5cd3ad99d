"""Who names the paths: patterns from a file, and the stand-in that looks at samples."""

import pytest

from minicoder.data.annotators import by_patterns, by_samples, folder_of, nobody
from minicoder.errors import UserError

PATHS = ["/docs/a.html", "/docs/deep/b.html", "/blog/c.html", "/d"]


@pytest.mark.parametrize("path, folder", [
    ("/docs/a.html", "/docs/"), ("/a", "/"), ("/", "/"), ("/a/b/c?x=/y/z", "/a/b/")])
def test_the_folder_of_a_path(path, folder):
    assert folder_of(path) == folder


def test_patterns_choose_domains_and_paths(tmp_path):
    file = tmp_path / "patterns.json"
    file.write_text('{"site.example": ["/docs/*"], "*.example": ["/d"]}')
    annotate = by_patterns(file)
    assert annotate("site.example", PATHS) == [PATHS[0], PATHS[1], PATHS[3]]
    assert annotate("other.example", PATHS) == ["/d"]
    assert annotate("site.test", PATHS) == []


@pytest.mark.parametrize("text", ["", "[1]", '{"a": "/docs/*"}', '{"a": [1]}', "{",
                                  "\udcff"])
def test_a_broken_file_of_patterns_is_named(tmp_path, text):
    file = tmp_path / "patterns.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match="patterns.json"):
        by_patterns(file)
    with pytest.raises(UserError, match="missing.json"):
        by_patterns(tmp_path / "missing.json")


@pytest.mark.parametrize("right, found", [(5, False), (6, True)])
def test_a_folder_needs_more_than_half_of_the_pages_looked_at(right, found):
    paths = [f"/docs/{i}" for i in range(10)]
    subject = {"site.example" + path for path in paths[:right]}
    annotate = by_samples(subject, looks=10)
    assert set(annotate("site.example", paths)) == (set(paths) if found else set())
    assert annotate("other.example", paths) == []


def test_the_stand_in_sees_no_more_than_its_looks():
    class Seen(set):
        asked = []

        def __contains__(self, name):
            self.asked.append(name)
            return True

    subject = Seen()
    assert len(by_samples(subject, looks=5)("a", [f"/x/{i}" for i in range(99)])) == 99
    assert len(set(subject.asked)) == 5
    assert by_samples(subject)("a", ["/only"]) == ["/only"]


def test_nobody_names_nothing():
    assert nobody("site.example", PATHS) == []
