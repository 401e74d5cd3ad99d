"""Functions in many languages whose tests are a program in the same language.

HumanEvalPack and multilingual HumanEval: answer and tests are joined to one program,
which must end with status 0. Python's tests run in a process of their own; those of
the other languages cannot: `judge_script` says how far such a verdict can be trusted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from minicoder.execution.programs import judge_script
from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Result
from minicoder.tasks.answers import fenced, program_in
from minicoder.tasks.task import unfinished

# the tests want a module outside Go's own library; this is all of it that they use
GO_ASSERT = """
type asserting struct{}

func (asserting) Equal(want, got any, _ ...any) {
	if !reflect_.DeepEqual(want, got) {
		panic(fmt_.Sprintf("%v is not %v", got, want))
	}
}
"""
NOT_INSTALLED = re.compile(r"^use (rand::Rng|regex::Regex|md5);\n", re.MULTILINE)


@dataclass(frozen=True)
class Script:
    """A function to finish in `language`; `test` is a program that calls it.

    `setup` is code of the file that goes before the prompt or holds its imports;
    `solution` completes the prompt and may be unknown, "".
    """

    task_id: str
    family: str
    language: str
    prompt: str
    entry_point: str
    solution: str
    test: str
    setup: str = ""
    record: dict[str, Any] | None = field(default=None, repr=False)
    difficulty: int = 3

    @property
    def question(self) -> str:
        """The request to finish the function."""
        return unfinished(self.prompt, self.language)

    @property
    def reference(self) -> str:
        """An answer that passes, or nothing if none is known."""
        return fenced(self.program(self.solution), self.language) * bool(self.solution)

    @property
    def _defined(self) -> re.Pattern[str]:
        """Finds the line on which the function is defined."""
        return re.compile(
            r"^(?!\s*(?:return|else|case|print|puts|echo|throw)\b)[^\n;=(]*[\w>\]&*]\s+"
            rf"{self.entry_point}\s*(?:[(={{]|$)", re.MULTILINE)

    def program(self, completion: str) -> str:
        """The function and what stands before it, from a completion of the prompt."""
        return self.prompt + completion

    def answered(self, answer: str) -> str:
        """The same from an answer: the whole function, or what completes the prompt."""
        program = program_in(answer, self.language, self.entry_point)
        if not self._defined.search(program):
            return self.program(program)
        if self.language == "java":
            whole = "class Solution" in program
            imports = "".join(re.findall(r"^import .*\n", self.prompt, re.MULTILINE))
            return imports + (program if whole else f"class Solution {{\n{program}}}\n")
        if self.language == "php":
            program = program.removeprefix("<?php")
        found = self._defined.search(self.prompt)
        before = self.prompt[:found.start()] if found else ""
        return program if before.strip() in program else before + program

    def tested(self, program: str) -> str:
        """One program of function and tests, as the language wants it."""
        if self.language == "cpp":
            lines = re.findall(r"^#include.*\n", self.setup, re.MULTILINE)
            return f"{''.join(lines)}using namespace std;\n{program}\n{self.test}"
        if self.language == "go":
            return self._go(program)
        if self.language == "rust":
            name = re.search(r"fn (\w+)\(\)", self.test)
            test = re.sub(r"#\[cfg\(test\)\]|#\[test\]", "", self.test).replace(
                "fn ", "pub fn ", 1)
            main = f"fn main() {{ tests::{name and name[1]}(); }}"
            body = re.sub(r"^fn main\(\s*\)\s*{\s*}", "", program, flags=re.MULTILINE)
            return f"{NOT_INSTALLED.sub('', body)}\n{test}\n{main}\n"
        return f"{program}\n{self.test}"

    def _go(self, program: str) -> str:
        """Imports must come first and each be used; the test function becomes main."""
        block = r"^import\s*(?:\([^)]*\)|\"[^\"]*\")|^package \w+"
        own = "".join(re.findall(block, program, re.MULTILINE)) or self.setup
        code = re.sub(block, "", program, flags=re.MULTILINE)
        needed = {name for text in (own, (self.record or {}).get("test_setup", ""))
                  for name in re.findall(r'"([^"]+)"', text)}
        needed -= {"testing", "github.com/stretchr/testify/assert"}
        imports = "\n".join(f'"{name}"' for name in sorted(needed))
        test = self.test.replace("assert.New(t)", "asserting{}")
        test = re.sub(r"func Test\w+\(t \*testing\.T\)", "func main()", test)
        return (f'package main\n\nimport (\nfmt_ "fmt"\nreflect_ "reflect"\n{imports}\n'
                f")\n{GO_ASSERT}\n{code}\n{test}")

    def grade(self, answer: str, sandbox: Sandbox) -> Result:
        """Judges the function in an answer; "harness_error" if the tests cannot run."""
        if self.language == "rust" and re.search(r"\b(rand|regex|md5)::", self.test):
            return Result("harness_error", "its tests need a crate that is not there",
                          total=1, tier=sandbox.tier)
        program = self.answered(answer)
        if self.language == "python":
            return sandbox.judge(program, self.test, self.entry_point, self.prompt,
                                 "script")
        return judge_script(sandbox, self.language, self.tested(program))
