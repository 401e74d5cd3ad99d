"""Files of tasks, JSON lines: which format a line has is told by its fields.

HumanEval, MBPP, EvalPlus, HumanEvalPack, multilingual HumanEval, contest problems. A
task from a file keeps the object that it came from, and is written as it was read.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minicoder.errors import UserError
from minicoder.execution.common import decode, encode
from minicoder.tasks import contests
from minicoder.tasks.contests import Contest
from minicoder.tasks.item import Item
from minicoder.tasks.plus import PlusTask, like
from minicoder.tasks.records import read_records
from minicoder.tasks.repair import Repair
from minicoder.tasks.scripts import Script
from minicoder.tasks.task import Case, Task, call_line, check_source, plain_cases

Record = dict[str, Any]
HUMANEVAL = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
PACK = {"Python": "python", "CPP": "cpp", "Java": "java", "JavaScript": "javascript",
        "Go": "go", "Rust": "rust"}  # what a task_id begins with


def need(record: Record, *fields: str) -> list[str]:
    """The fields, which must hold text, possibly empty; else ValueError."""
    for field in fields:
        if not isinstance(record.get(field), str):
            found = repr(record[field])[:40] if field in record else "nothing"
            raise ValueError(f"field {field!r} must be text, found {found}")
    return [record[field] for field in fields]


def _function(record: Record) -> str:
    name = need(record, "entry_point")[0]
    if not name.isidentifier():
        raise ValueError("field 'entry_point' must be the name of a function, found "
                         f"{name!r}")
    return name


def humaneval(record: Record) -> Task:
    """A task of HumanEval, or one that `to_record` wrote."""
    task_id, prompt, entry_point, solution, test = need(record, *HUMANEVAL)
    _function(record)
    if "cases" not in record:
        return Task(task_id, task_id.split("/")[0], prompt, entry_point, solution,
                    plain_cases(test), test, record=record)
    need(record, "family")
    try:
        cases = tuple(Case(tuple(decode(given)), decode(expected))
                      for given, expected in record["cases"])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"field 'cases' must be a list of [arguments, expected]: {error}") from None
    level = record.get("difficulty")
    if type(level) is not int or level not in range(1, 6):
        raise ValueError(f"field 'difficulty' must be 1 to 5, found {level!r}")
    if f"def {entry_point}" not in prompt:
        lines = prompt.split("\n")[:-1]
        if not all(line.startswith("# ") for line in lines):
            raise ValueError("field 'prompt' must be a comment or begin the program")
        prompt = "\n".join(line[2:] for line in lines)
    return Task(task_id, record["family"], prompt, entry_point, solution, cases,
                difficulty=level)


def to_record(task: Task | PlusTask | Script | Contest) -> Record:
    """A task as it was read, or as one HumanEval object; a sentence becomes a comment.

    `family`, `difficulty` and `cases` are additions that HumanEval's tools ignore.
    """
    if isinstance(task, Contest):
        return asdict(task)
    if task.record:
        return task.record
    comment = "".join(f"# {line}\n" for line in task.prompt.split("\n"))
    return {"task_id": task.task_id,
            "prompt": task.prompt if task.begins_program else comment,
            "entry_point": task.entry_point,
            "canonical_solution": task.canonical_solution,
            "test": check_source(task.cases), "family": task.family,
            "difficulty": task.difficulty, "cases": [
                [encode(list(arguments)), encode(expected)]
                for arguments, expected in task.cases]}


def mbpp(record: Record) -> Task:
    """A task of MBPP: a sentence, a program, asserts that call it by name."""
    text, code = need(record, "text" if "text" in record else "prompt", "code")
    asserts = record["test_list"]
    if not (isinstance(asserts, list) and asserts
            and all(isinstance(line, str) for line in asserts)):
        raise ValueError("field 'test_list' must be a list of asserts, found "
                         f"{repr(asserts)[:40]}")
    setup = record.get("test_setup_code") or "\n".join(record.get("test_imports", []))
    try:
        defined = {node.name for node in ast.parse(code).body
                   if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        called = [node.func.id for node in ast.walk(ast.parse(asserts[0]))
                  if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        name = next(name for name in called if name in defined)
    except (SyntaxError, StopIteration):
        raise ValueError("field 'code' must define the function that 'test_list' calls,"
                         f" found {code[:40]!r}") from None
    shown = "\n".join(asserts)
    return Task(f"MBPP/{record.get('task_id')}", "MBPP",
                f"{text}\nThese tests must pass:\n\n{shown}", name, code, (),
                f"{setup}\n{shown}".lstrip("\n"), 2, "mbpp", record)


def to_mbpp(task: Task) -> Record:
    """A task as one MBPP object; UserError when its tests are not plain cases."""
    if task.style == "mbpp" and task.record:
        return task.record
    if not task.cases:
        raise UserError(f"The tests of {task.task_id} are a program: MBPP's format "
                        "takes asserts only.")
    return {"task_id": task.task_id, "text": task.prompt,
            "code": task.program(task.canonical_solution),
            "test_list": [call_line(task.entry_point, case) for case in task.cases],
            "test_setup_code": "", "challenge_test_list": []}


def evalplus(record: Record) -> PlusTask:
    """A task of HumanEval+ or MBPP+: inputs, and a reference that says what is right.

    Tuples and sets became lists in these files; MBPP+'s asserts say which.
    """
    task_id, prompt, _, solution = need(record, *HUMANEVAL[:4])
    name = _function(record)
    inputs: list[tuple] = []
    for field in ("base_input", "plus_input"):
        found = record[field]
        if not (isinstance(found, list | dict)
                and all(isinstance(given, list) for given in found)):
            raise ValueError(f"field {field!r} must be a list of lists of arguments, "
                             f"found {repr(found)[:40]}")
        inputs += map(tuple, found)
    if type(record.get("atol")) not in (int, float):
        raise ValueError(f"field 'atol' must be a number, found {record.get('atol')!r}")
    if example := next(_asserted(record.get("assertion", ""), name), ()):
        inputs = [tuple(map(like, example, given)) for given in inputs]
    task = Task(task_id, f"{task_id.split('/')[0]}+", prompt, name, solution, (),
                record=record)
    return PlusTask(task, tuple(inputs), float(record["atol"]))


def _asserted(text: str, name: str) -> Iterator[tuple]:
    """The arguments of each `name(...)` in asserts, as far as they are plain values."""
    try:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
                yield tuple(map(ast.literal_eval, node.args))
    except (SyntaxError, ValueError):
        return


def pack(record: Record) -> Script:
    """A task of HumanEvalPack, in one of six languages."""
    task_id, prompt, declaration, solution, test = need(
        record, "task_id", "prompt", "declaration", "canonical_solution", "test")
    language = PACK.get(task_id.split("/")[0])
    if language is None:
        raise ValueError(f"field 'task_id' must begin with one of {', '.join(PACK)}, "
                         f"found {task_id!r}")
    setup = record.get("import", "") if language == "go" else declaration
    return Script(f"HumanEvalPack/{task_id}", "HumanEvalPack", language, prompt,
                  _function(record), solution, test, setup, record)


def multilingual(record: Record) -> Script:
    """A task of multilingual HumanEval; most have no solution."""
    task_id, language, prompt, test = need(
        record, "task_id", "language", "prompt", "test")
    return Script(task_id, "multilingual_humaneval", language, prompt,
                  _function(record), record.get("canonical_solution") or "", test, "",
                  record)


# fields that only this format has: what reads it
FORMATS: tuple[tuple[set[str], Callable[[Record], Item]], ...] = (
    ({"base_input", "plus_input"}, evalplus), ({"declaration", "prompt"}, pack),
    ({"language", "description"}, multilingual), ({"test_list"}, mbpp),
    ({"question_content"}, contests.from_record), ({"statement"}, contests.from_record))


def from_record(record: Record) -> Item:
    """The task of one object, in whichever format; ValueError if it is bad."""
    return next((read for fields, read in FORMATS if fields <= record.keys()),
                humaneval)(record)


def buggy(record: Record) -> Repair:
    """The repair task of an object of HumanEvalPack."""
    script, wrong = pack(record), need(record, "buggy_solution", "failure_symptoms")
    return Repair(f"repair/{script.task_id}", script, "", script.program(wrong[0]),
                  f"{wrong[1]}.", script.language, "HumanEvalFix")


def read_tasks(path: Path, read: Callable[[Record], Item] = from_record) -> list[Item]:
    """Reads a file of tasks, gzipped or not; UserError names file, line and field.

    `read` makes the task of an object: `from_record` or, for repair, `buggy`.
    """
    seen: set[str] = set()

    def make(record: Record, number: int) -> Item:
        item = read(record)
        if item.task_id in seen:
            raise ValueError(f"task_id {item.task_id!r} appears a second time")
        seen.add(item.task_id)
        return item

    return read_records(path, make)


def write_tasks(path: Path, tasks: Iterable[Any],
                write: Callable[[Any], Record] = to_record) -> None:
    """Writes tasks as JSON lines, as they were read or as `write` has it."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for task in tasks:
            file.write(json.dumps(write(task)) + "\n")
