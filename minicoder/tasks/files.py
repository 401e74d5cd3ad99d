"""A repository in memory: changed by answers as text, run in the sandbox as a program.

No answer ever reaches a disk. Paths are checked all the same, so that what is accepted
here may be written out: plain names under the root, no links, no way up.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Result, clean

Files = dict[str, str]
Check = tuple[tuple, object]  # ("package.module:function", *arguments), expected

LONGEST = 100_000  # characters of an answer
PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


class Refused(ValueError):
    """The answer changes nothing, cannot be applied, or leaves the repository."""


def safe_path(path: str) -> str:
    """The path, if it is plain and stays under the root; else Refused."""
    if len(path) > 200 or not PATH.fullmatch(path):  # no part begins with "." or "-"
        raise Refused(f"the path {path[:60]!r} is not allowed")
    return path


def whole_files(answer: str, default: str | None = None) -> Files:
    """Files of an answer in Aider's "whole" format: a path, then a fence with the text.

    `default` is the path of a fence that has none before it. Of two versions of one
    file the last counts. Raises Refused.
    """
    if len(answer) > LONGEST:
        raise Refused(f"the answer has more than {LONGEST} characters")
    files: Files = {}
    before, path, text = "", "", None
    for line in answer.split("\n"):
        if text is None and line.startswith("```"):
            name = before.strip().strip("*`#: ")
            path, text = (name if "." in name and " " not in name else ""), []
        elif text is not None and line.rstrip() == "```":
            if path or default:
                files[safe_path(path or default)] = "".join(f"{t}\n" for t in text)
            text = None
        elif text is not None:
            text.append(line)
        before = line if line.strip() else before
    if not files:
        raise Refused("the answer holds no file")
    return files


def show_files(files: Mapping[str, str]) -> str:
    """The files in the format that `whole_files` reads."""
    return "\n".join(f"{path}\n```\n{text}```\n" for path, text in files.items())


def make_patch(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """A unified diff from `old` to `new`, as git prints it; files end with a newline.

    A file that is only in `new` is made.
    """
    return "".join(
        line for path, text in new.items() if old.get(path) != text
        for line in difflib.unified_diff(
            old.get(path, "").splitlines(True), text.splitlines(True),
            f"a/{path}" if path in old else "/dev/null", f"b/{path}"))


HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")


def _hunks(lines: Sequence[str]) -> list[tuple[int, list[str], list[str]]]:
    """(line number, old lines, new lines) of each hunk of one file's diff."""
    hunks: list[tuple[int, list[str], list[str]]] = []
    for line in lines:
        if found := HUNK.match(line):
            hunks.append((int(found[1]), [], []))
        elif hunks and line[:1] in ("", " ", "-", "+"):
            if line[:1] in ("", " ", "-"):
                hunks[-1][1].append(line[1:])
            if line[:1] in ("", " ", "+"):
                hunks[-1][2].append(line[1:])
    return hunks


def _replace(text: list[str], hunk: tuple[int, list[str], list[str]], path: str
             ) -> list[str]:
    """The lines after one hunk, at the place nearest to its number that fits."""
    at, old, new = hunk
    while old and new and old[-1] == new[-1] == "":  # an empty line after the diff
        old, new = old[:-1], new[:-1]
    places = [i for i in range(len(text) - len(old) + 1) if text[i:i + len(old)] == old]
    if not places or not old and text:
        raise Refused(f"a hunk at line {at} of {path} fits nowhere")
    here = min(places, key=lambda place: abs(place - at + 1))
    return text[:here] + new + text[here + len(old):]


def apply_patch(files: Mapping[str, str], patch: str) -> Files:
    """The files after a unified diff; line numbers may be wrong, context must fit.

    Raises Refused for a patch that does not fit, changes nothing, deletes or renames
    a file, makes a link, or names a path that is not allowed.
    """
    if len(patch) > LONGEST:
        raise Refused(f"the patch has more than {LONGEST} characters")
    if re.search(r"^(?:(?:new|old|deleted) (?:file )?mode (?!100)|rename |copy )",
                 patch, re.MULTILINE):
        raise Refused("the patch makes a link, renames or copies")
    changed = dict(files)
    lines = patch.split("\n")
    heads = [i for i in range(len(lines) - 1)
             if lines[i].startswith("--- ") and lines[i + 1].startswith("+++ ")]
    for head, end in zip(heads, [*heads, len(lines)][1:], strict=True):
        source, target = (lines[head + i][4:].split("\t")[0].strip() for i in (0, 1))
        path = safe_path(target.removeprefix("b/"))
        if source != "/dev/null" and source.removeprefix("a/") != path:
            raise Refused(f"the patch moves {source[:60]!r}")
        if source == "/dev/null" and path in files or (
                source != "/dev/null" and path not in changed):
            raise Refused(f"{path} exists already, or is missing")
        text = changed.get(path, "").split("\n")[:-1]
        for hunk in _hunks(lines[head + 2:end]):
            text = _replace(text, hunk, path)
        changed[path] = "".join(f"{line}\n" for line in text)
    if changed == dict(files):
        raise Refused("the patch changes nothing")
    return changed


PROGRAM = '''\
import importlib, importlib.abc, importlib.util, sys
class Repository(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        for end in (".py", "/__init__.py"):
            file = name.replace(".", "/") + end
            if file in FILES:
                return importlib.util.spec_from_loader(
                    name, self, origin=file, is_package=end != ".py")
    def exec_module(self, module):
        file = module.__spec__.origin
        exec(compile(FILES[file], file, "exec", dont_inherit=True), module.__dict__)
sys.meta_path.insert(0, Repository())
def call(target, *arguments):
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)(*arguments)
FILES = '''


def run_checks(files: Mapping[str, str], checks: Sequence[Check], sandbox: Sandbox
               ) -> Result:
    """Calls the repository's functions in the sandbox; the host compares the results.

    No test file of the repository is run and no expected value enters the program, so
    an answer gains nothing by changing tests.
    """
    return sandbox.judge(f"{PROGRAM}{dict(files)!r}\n", checks, "call")


def refused(error: Refused, total: int) -> Result:
    """The verdict on an answer that was not even run."""
    return Result("refused", clean(str(error)), total=total, tier="none")
