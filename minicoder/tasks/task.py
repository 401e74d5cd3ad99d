"""A programming task with its tests, and the HumanEval file format (JSON lines)."""

from __future__ import annotations

import ast
import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from minicoder.errors import UserError
from minicoder.execution.common import decode, encode
from minicoder.execution.sandbox import Job

FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")


class Case(NamedTuple):
    """One test: the call's arguments and what it must return, plain values."""

    arguments: tuple
    expected: object


@dataclass(frozen=True)
class Task:
    """One problem: a sentence, or the beginning of a program, and what it must do.

    `test` is the test program of a file that came from elsewhere; tasks made here have
    none and render theirs from `cases`.
    """

    task_id: str
    family: str
    prompt: str
    entry_point: str
    canonical_solution: str
    cases: tuple[Case, ...]
    test: str = ""

    @property
    def begins_program(self) -> bool:
        """Whether the prompt is code to go on with, as in HumanEval."""
        return f"def {self.entry_point}" in self.prompt

    def program(self, completion: str) -> str:
        """The whole program that a completion of the prompt stands for."""
        return self.prompt + completion if self.begins_program else completion

    def job(self, completion: str) -> Job:
        """What the sandbox needs to judge a completion."""
        return Job(self.program(completion), self.entry_point, self.cases)


def check_source(cases: Iterable[Case]) -> str:
    """The cases as HumanEval's `check(candidate)`."""
    lines = [f"    assert candidate({', '.join(map(repr, case.arguments))}) == "
             f"{case.expected!r}\n" for case in cases]
    return "def check(candidate):\n" + ("".join(lines) or "    pass\n")


def plain_cases(test: str) -> tuple[Case, ...]:
    """The cases of a `check(candidate)`, if all are `assert candidate(...) == value`.

    Empty when even one is anything else: half of a test would pass wrong programs.
    """
    try:
        checks = [node for node in ast.parse(test).body
                  if isinstance(node, ast.FunctionDef) and node.name == "check"]
        return tuple(case for node in checks for line in node.body
                     for case in _plain_case(line))
    except (SyntaxError, TypeError, ValueError, RecursionError):
        return ()


def _plain_case(line: ast.stmt) -> list[Case]:
    """One statement of `check`; ValueError or TypeError if no plain comparison."""
    if isinstance(line, ast.Pass):
        return []
    match line:
        case ast.Assert(test=ast.Constant(value=True)):
            return []
        case ast.Assert(test=ast.Compare(
            left=ast.Call(func=ast.Name(id="candidate"), args=args, keywords=[]),
            ops=[ast.Eq()], comparators=[value])):
            case = Case(tuple(map(ast.literal_eval, args)), ast.literal_eval(value))
            encode(list(case))
            return [case]
    raise ValueError("not a plain comparison")


def to_record(task: Task) -> dict[str, Any]:
    """A task as one HumanEval object; a sentence becomes a comment.

    `family` and `cases` are additions that HumanEval's own tools ignore.
    """
    comment = "".join(f"# {line}\n" for line in task.prompt.split("\n"))
    record = {"task_id": task.task_id,
              "prompt": task.prompt if task.begins_program else comment,
              "entry_point": task.entry_point,
              "canonical_solution": task.canonical_solution,
              "test": task.test or check_source(task.cases)}
    if task.test:
        return record
    return record | {"family": task.family, "cases": [
        [encode(list(arguments)), encode(expected)]
        for arguments, expected in task.cases]}


def from_record(record: Any) -> Task:
    """Inverse of `to_record`; also reads HumanEval's own objects. ValueError if bad."""
    if not isinstance(record, dict):
        raise ValueError(f"expected an object, found {type(record).__name__}")
    for field in FIELDS:
        if not isinstance(record.get(field), str):
            found = type(record[field]).__name__ if field in record else "nothing"
            raise ValueError(f"field {field!r} must be text, found {found}")
    if not record["entry_point"].isidentifier():
        raise ValueError("field 'entry_point' must be the name of a function, found "
                         f"{record['entry_point']!r}")
    task_id, prompt, entry_point, solution, test = (record[field] for field in FIELDS)
    if "cases" not in record:
        family = task_id.split("/")[0]
        return Task(task_id, family, prompt, entry_point, solution,
                    plain_cases(test), test)
    if not isinstance(record.get("family"), str):
        raise ValueError("field 'family' must be text beside 'cases'")
    try:
        cases = tuple(Case(tuple(decode(given)), decode(expected))
                      for given, expected in record["cases"])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"field 'cases' must be a list of [arguments, expected]: {error}") from None
    if f"def {entry_point}" not in prompt:
        lines = prompt.split("\n")[:-1]
        if not all(line.startswith("# ") for line in lines):
            raise ValueError("field 'prompt' must be a comment or begin the program")
        prompt = "\n".join(line[2:] for line in lines)
    return Task(task_id, record["family"], prompt, entry_point, solution, cases)


def write_tasks(path: Path, tasks: Iterable[Task]) -> None:
    """Writes tasks as JSON lines that HumanEval's tools can read."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for task in tasks:
            file.write(json.dumps(to_record(task)) + "\n")


def read_tasks(path: Path) -> list[Task]:
    """Reads a HumanEval file, gzipped or not; UserError names file and line."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    tasks: dict[str, Task] = {}
    for number, line in enumerate(data.split(b"\n"), 1):  # text may hold other breaks
        if not line.strip():
            continue
        try:
            task = from_record(json.loads(line))
            if task.task_id in tasks:
                raise ValueError(f"task_id {task.task_id!r} appears a second time")
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: {error}.") from None
        tasks[task.task_id] = task
    return list(tasks.values())
