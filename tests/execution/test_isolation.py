"""The commands that start workers, and the list of what programs may read."""

import os
import sys
from pathlib import Path

from minicoder.execution import isolation


def test_what_is_readable_holds_python_and_the_system_and_nothing_twice():
    found = isolation.readable()
    standard = Path(os.__file__).resolve()
    assert any(standard.is_relative_to(path) for path in found)
    assert sys.platform != "linux" or "/usr" in found
    assert "/" not in found and str(Path.home()) not in found
    assert not {str(above) for path in found for above in Path(path).parents} & {*found}


def test_the_virtual_environment_and_the_repository_are_not_readable():
    for path in (Path(isolation.__file__), Path(sys.prefix)):
        assert sys.prefix == sys.base_prefix or not any(
            path.is_relative_to(shown) for shown in isolation.readable())


def test_what_holds_the_home_is_not_readable(monkeypatch):
    monkeypatch.setenv("HOME", "/opt/app/ada")
    monkeypatch.setattr(isolation, "glob", lambda pattern: [pattern])
    assert {"/usr"} <= set(found := isolation.readable.__wrapped__())
    assert not any(Path("/opt/app/ada").is_relative_to(path) for path in found)
    monkeypatch.setattr(sys, "base_prefix", "/opt/app")
    monkeypatch.setattr(isolation.sysconfig, "get_path", lambda _: "/opt/app/lib")
    assert "/opt/app/lib" in isolation.readable.__wrapped__()


def test_links_of_the_system_stay_links():
    options = isolation.shown()
    for path in isolation.readable():
        place = options.index(path)
        kind = options[place - 2 if os.path.islink(path) else place - 1]
        assert kind == ("--symlink" if os.path.islink(path) else "--ro-bind")


def test_commands_name_the_tier():
    for tier in isolation.TIERS:
        words = isolation.command(tier, 7, "/folder")
        place = words.index("7")
        assert words[place - 1].endswith("worker.py")
        assert words[place + 1:place + 3] == ["/folder", tier]
        assert words[place + 3:] == list(isolation.readable())
        assert ("--unshare-user" in words) == (tier == "bwrap")
