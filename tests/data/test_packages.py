"""`make packages`: what is fetched is what was pinned, and the rest is said."""

import hashlib
import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("fetch", ROOT / "packages" / "fetch.py")
fetch = importlib.util.module_from_spec(SPEC)
sys.modules["fetch"] = fetch        # where dataclasses look their module up
SPEC.loader.exec_module(fetch)
BODY = b"an archive"
GOOD = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def without_network(monkeypatch):
    """A fourth collection whose tool writes a file named after the package."""
    program = ("import pathlib, sys; name, version = sys.argv[1:];"
               "sys.exit('not to be had') if name == 'gone' else None;"
               "pathlib.Path(name + '-' + version + '.tgz').write_bytes(b'an archive')")
    monkeypatch.setitem(fetch.COMMANDS, "test",
                        (sys.executable, "-c", program, "{0}", "{1}"))
    monkeypatch.setitem(fetch.COMMANDS, "none", ("no-such-program", "{0}"))


def package(name, kind="test", sha256=GOOD):
    return fetch.Package(kind, name, "1", sha256, "MIT")


def test_what_comes_is_kept_only_when_it_is_what_was_pinned(tmp_path):
    asked = [package("good"), package("gone", sha256="2" * 64),
             package("other", sha256="0" * 64), package("toolless", "none", "1" * 64)]
    absent = fetch.fetch_all(asked, tmp_path / "runs")
    assert absent == {
        "gone": "not to be had",
        "other": f"its SHA-256 is {GOOD}, and {'0' * 64} is pinned",
        "toolless": "no-such-program is not installed"}
    assert [f.name for f in (tmp_path / "runs").iterdir()] == ["good-1.tgz"]


def test_what_is_there_is_not_asked_for_again(tmp_path):
    (tmp_path / "under-another-name.tgz").write_bytes(BODY)
    assert fetch.fetch_all([package("gone")], tmp_path) == {}
    (tmp_path / "under-another-name.tgz").write_bytes(b"cut off")
    assert fetch.fetch_all([package("gone")], tmp_path) == {"gone": "not to be had"}


def test_a_tool_that_hangs_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "SECONDS", 0.2)
    monkeypatch.setitem(fetch.COMMANDS, "test", (
        sys.executable, "-c", "import time; time.sleep(60)"))
    assert fetch.fetch(package("slow"), tmp_path) == "no answer in 0.2 seconds"
    assert list(tmp_path.iterdir()) == []


def test_only_when_nothing_came_has_it_failed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fetch, "read_list", lambda: [package("gone", sha256="3" * 64)])
    assert fetch.main(tmp_path) == 1
    assert "skipped gone: not to be had" in capsys.readouterr().err
    monkeypatch.setattr(fetch, "read_list", lambda: [
        package("gone", sha256="3" * 64), package("good")])
    assert fetch.main(tmp_path) == 0
    assert "1 of 2 packages" in capsys.readouterr().out


def test_the_list_pins_every_package_once():
    packages = fetch.read_list()
    assert len({(one.kind, one.name) for one in packages}) == len(packages) > 80
    assert {one.kind for one in packages} == {"pip", "npm", "deb"}
    for one in packages:
        assert re.fullmatch("[0-9a-f]{64}", one.sha256), one
        assert re.fullmatch(r"\d[\w.:+~-]*", one.version), one
        assert one.licence not in ("", "-", "?", "unknown"), one
        assert not re.search(r"\s", one.name), one
