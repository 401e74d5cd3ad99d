"""Next-line completion: settings, the line that counts, real files."""

import json
from collections import Counter
from pathlib import Path

import pytest

from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.crossfile import complete, cuts, first_line, make

UNOPENED = object.__new__(Sandbox)  # nothing may run


@pytest.mark.parametrize(("answer", "line"), [
    ("x = 1", "x = 1"), ("\n\n  # a comment\n  x = 1\n  y = 2", "x = 1"),
    ('    """A docstring."""\n    x = 1', "x = 1"),
    ('"""A\nlong\none"""\nx = 1', "x = 1"), ("", ""), ("# only", ""),
    ("'''a\nb'''\n\nx = 1", "x = 1"), ("```python\nx = 1\n```", "x = 1"),
    ("// Java\nint x = 1;", "int x = 1;"), ('"""open\nx = 1', ""),
    ("x = '#'  # y", "x = '#'  # y"), ("\n" * 10**6, ""), ('"""' * 10**5, "")])
def test_the_first_line_of_code(answer, line):
    assert first_line(answer) == line


FILES = {"p/__init__.py": "", "p/a.py": "def one():\n    return 1\n", "p/b.py": '''\
import json
import p.a
from p.a import one as uno


def two(n):
    """Words about uno."""
    m = n + 1
    k = uno()
    for i in range(
            3):
        k += p.a.one()
    return json.dumps(m + k)
'''}


def test_lines_are_told_apart_by_what_they_use():
    assert list(cuts(FILES, "p/b.py")) == [
        ("in_file", 8), ("cross_file_first", 9), ("cross_file_random", 12),
        ("in_file", 13)]
    assert list(cuts(FILES, "p/a.py")) == [("in_file", 2)]
    assert list(cuts(FILES, "p/__init__.py")) == []


def test_the_prompt_ends_before_the_line():
    item = complete(FILES, "p/b.py", 9, "cross_file_first")
    assert item.prompt.endswith("    m = n + 1\n") and "uno()" not in item.prompt
    assert item.next_line == "k = uno()" and "def one" in item.prompt
    for answer, verdict in (("k = uno()", "pass"), ("k=uno()", "fail"), ("", "fail"),
                            ("  # so\n    k =  uno()\nx", "pass"), ("k", "fail"),
                            ("k = uno() + 1", "fail"), ("K = uno()", "fail"),
                            ("m = n + 1\nk = uno()", "fail")):
        assert item.grade(answer, UNOPENED).verdict == verdict, answer


def test_each_setting_is_asked_for():
    items = [item for index in range(200) if (item := make(index))]
    assert min(Counter(item.setting for item in items).values()) >= 40
    for item in items:
        files = item.context | {item.path: item.before + item.next_line}
        line = item.before.count("\n") + 1
        whole = files | {item.path: f"{item.before}    {item.next_line}\n"}
        assert (item.setting, line) in list(cuts(whole, item.path))


def test_real_packages_can_be_cut():
    root = Path(json.__file__).parent
    files = {f"json/{path.name}": path.read_text() for path in root.glob("*.py")}
    count = Counter(kind for path in files for kind, _ in cuts(files, path))
    assert count["in_file"] > 100
    first = next(line for kind, line in cuts(files, "json/tool.py")
                 if kind == "cross_file_first")
    assert "json." in complete(files, "json/tool.py", first, "").next_line
