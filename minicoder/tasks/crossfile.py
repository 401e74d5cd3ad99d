"""Complete the next line of a file, given others of its repository: RepoBench in kind.

The files of a training prompt may show what a held-out item asks for.
Settings: "cross_file_first", the first line that uses something of another file;
"cross_file_random", a later such line; "in_file", a line that uses nothing of them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Result
from minicoder.tasks.draw import Draw
from minicoder.tasks.files import Files
from minicoder.tasks.item import compared
from minicoder.tasks.packages import make_package

SIZE = 20_000
SETTINGS = ("in_file", "cross_file_first", "cross_file_random")


def first_line(answer: str) -> str:
    """The first line that is not empty, a comment or a docstring, and no fence."""
    quotes = ""
    for line in map(str.strip, answer.splitlines()):
        if quotes:
            quotes = "" if quotes in line else quotes
        elif mark := re.match(r"[rbuf]?(\"\"\"|''')", line):
            quotes = "" if line.count(mark[1]) > 1 else mark[1]
        elif line and not line.startswith(("#", "//", "```")):
            return line
    return ""


@dataclass(frozen=True)
class Completion:
    """The file's beginning up to the line that is to be written."""

    task_id: str
    family: str
    setting: str
    path: str
    context: Files  # the other files
    before: str
    next_line: str
    difficulty: int = 3

    @property
    def prompt(self) -> str:
        """What a base model continues: the other files, each under its path."""
        others = "".join(f"# Path: {path}\n{text}\n"
                         for path, text in self.context.items() if text)
        return f"{others}# Path: {self.path}\n{self.before}"

    @property
    def question(self) -> str:
        """What a chat model is asked."""
        return (f"{self.prompt}\nWrite only the next line of {self.path}, without a "
                "comment.")

    @property
    def reference(self) -> str:
        """The line."""
        return self.next_line

    def grade(self, answer: str, sandbox: Sandbox) -> Result:
        """Compares the first line of code, spaces between words apart; runs nothing."""
        found = first_line(answer)
        return compared(found.split() == self.next_line.split(), found, self.next_line)


def module_of(path: str) -> str:
    """`shop/rules.py` is imported as `shop.rules`."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def cuts(files: Mapping[str, str], path: str) -> Iterator[tuple[str, int]]:
    """(setting, line number from 1) of each line of a file that can be asked for.

    These are the one-line statements inside functions, docstrings apart. Raises
    SyntaxError for a file that is no Python.
    """
    tree = ast.parse(files[path])
    modules = {module_of(other) for other in files if other != path}
    foreign: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in modules:
            foreign |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            foreign |= {alias.asname or alias.name.split(".")[0] for alias in node.names
                        if alias.name in modules}
    inside = [line for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)
              for line in ast.walk(f) if isinstance(line, ast.stmt)
              and line.lineno == line.end_lineno and line is not f
              and not (isinstance(line, ast.Expr) and isinstance(line.value,
                                                                 ast.Constant))]
    first = True
    for line in sorted(inside, key=lambda line: line.lineno):
        names = {node.id for node in ast.walk(line) if isinstance(node, ast.Name)}
        if not names & foreign:
            yield "in_file", line.lineno
        else:
            yield ("cross_file_first" if first else "cross_file_random"), line.lineno
            first = False


def complete(files: Mapping[str, str], path: str, line: int, setting: str,
             task_id: str = "crossfile", difficulty: int = 3) -> Completion:
    """The item that asks for one line of a repository's file."""
    lines = files[path].split("\n")
    others = {other: text for other, text in files.items() if other != path}
    return Completion(task_id, "crossfile", setting, path, others,
                      "\n".join(lines[:line - 1]) + "\n", lines[line - 1].strip(),
                      difficulty)


def _drawn(index: int) -> tuple[Files, str, int, str] | None:
    """Files, path, line and setting; None if the package has no such line."""
    draw, hard = Draw("crossfile", index), index % 5
    files = make_package(draw, (2, 2, 2, 3, 3)[hard]).files()
    setting = SETTINGS[(0, 1, 2, 1, 2)[hard]]
    paths = [p for p in files if hard < 3 or p.endswith("/summary.py")]
    found = [(files, path, line, setting) for path in paths
             for kind, line in cuts(files, path) if kind == setting]
    return draw.one(found) if found else None


def behaviour(index: int) -> str:
    """The function up to the line, whatever the names of package and module."""
    files, path, line, _ = _drawn(index) or ({"": ""}, "", 1, "")
    text = "\n".join(files[path].split("\n")[:line])
    return text[max(0, text.rfind("\ndef ")):]


def make(index: int) -> Completion | None:
    """Completion number `index`."""
    found = _drawn(index)
    return found and complete(*found, f"crossfile/{index}", index % 5 + 1)
