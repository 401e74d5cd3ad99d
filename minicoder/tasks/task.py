"""A programming task in Python with its tests; `formats.py` reads and writes it."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from minicoder.execution.common import encode
from minicoder.execution.sandbox import Job, Sandbox
from minicoder.execution.verdict import Result
from minicoder.tasks.answers import fenced, program_in


class Case(NamedTuple):
    """One test: the call's arguments and what it must return, plain values."""

    arguments: tuple
    expected: object


def unfinished(prompt: str, language: str = "python") -> str:
    """The request to finish a function (Coder-V2 footnote 4, in other words)."""
    return (f"Complete this {language} function. Answer with the whole function, "
            f"finished, in one code block.\n\n{fenced(prompt, language)}")


@dataclass(frozen=True)
class Task:
    """One problem: a sentence, or the beginning of a program, and what it must do.

    `test` is the test program of a file that came from elsewhere, `style` the way that
    it calls (see `Job`), and `record` that file's object; tasks made here have none and
    render theirs from `cases`. When there are cases, they are the tests.
    """

    task_id: str
    family: str
    prompt: str
    entry_point: str
    canonical_solution: str
    cases: tuple[Case, ...]
    test: str = ""
    difficulty: int = 3
    style: str = "humaneval"
    record: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def begins_program(self) -> bool:
        """Whether the prompt is code to go on with, as in HumanEval."""
        return f"def {self.entry_point}" in self.prompt

    @property
    def preamble(self) -> str:
        """What stands before the function in the prompt: imports, helpers."""
        start = self.prompt.find(f"def {self.entry_point}")
        return self.prompt[:max(0, start)]

    def program(self, completion: str) -> str:
        """The whole program that a completion of the prompt stands for."""
        return self.prompt + completion if self.begins_program else completion

    def job(self, completion: str) -> Job:
        """What the sandbox needs to judge a completion."""
        return self.job_of(self.program(completion))

    def job_of(self, program: str) -> Job:
        """What the sandbox needs to judge a whole program."""
        return Job(program, self.cases or self.test, self.entry_point, self.preamble,
                   self.style)

    @property
    def question(self) -> str:
        """What a user asks for it."""
        return unfinished(self.prompt) if self.begins_program else self.prompt

    @property
    def reference(self) -> str:
        """An answer that passes."""
        if self.begins_program:
            return fenced(self.program(self.canonical_solution))
        return self.canonical_solution

    def answered(self, answer: str) -> str:
        """The whole program of an answer, which may be the function or its body only.
        """
        program = program_in(answer, defines=self.entry_point)
        if not self.begins_program:
            return program
        if re.search(rf"^(async )?def {self.entry_point}\b", program, re.MULTILINE):
            again = self.preamble.strip() in program
            return program if again else self.preamble + program
        return self.prompt + textwrap.indent(textwrap.dedent(program), "    ")

    def grade(self, answer: str, sandbox: Sandbox) -> Result:
        """Judges the program in an answer."""
        job = self.job_of(self.answered(answer))
        return sandbox.judge(job.code, job.tests, job.entry_point, job.prompt,
                             job.style)


def call_line(name: str, case: Case) -> str:
    """A case as an assert, without a line end."""
    return (f"assert {name}({', '.join(map(repr, case.arguments))}) == "
            f"{case.expected!r}")


def check_source(cases: Iterable[Case]) -> str:
    """The cases as HumanEval's `check(candidate)`."""
    lines = [f"    {call_line('candidate', case)}\n" for case in cases]
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
