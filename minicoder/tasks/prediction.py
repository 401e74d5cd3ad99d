"""Predict what a function returns, or what makes it return that: CRUXEval in kind.

An answer is right if the function, run in the sandbox, agrees. An input may be any that
gives the output; an output is a plain value, which stays outside of the program.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from minicoder.execution.common import encode
from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Result
from minicoder.tasks.draw import Draw
from minicoder.tasks.item import compared
from minicoder.tasks.records import read_records, text_field

SIZE = 40_000
LONGEST = 4000  # characters of an answer
CALLABLE = ("bool", "chr", "dict", "float", "frozenset", "int", "len", "list", "max",
            "min", "ord", "range", "reversed", "set", "sorted", "str", "sum", "tuple")
ALLOWED = (
    ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple,
    ast.Set, ast.Dict, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Compare,
    ast.cmpop, ast.BoolOp, ast.boolop, ast.Subscript, ast.Slice, ast.Attribute,
    ast.Lambda, ast.arguments, ast.arg, ast.Starred)


class Unusable(ValueError):
    """The answer holds no value or call that may be tried."""


def parsed(text: str) -> ast.expr:
    """One expression; Unusable for anything else."""
    if len(text) > LONGEST:
        raise Unusable(f"it has more than {LONGEST} characters")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unusable(f"it is no Python expression: {error}") from None


def value_of(text: str) -> object:
    """The plain value that a text spells."""
    try:
        value = ast.literal_eval(parsed(text))
        encode(value)
        return value
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        raise Unusable(f"it is no plain value: {error}") from None


def arguments_of(text: str, code: str) -> str:
    """The arguments of a call `f(...)`, or a bare list of arguments, as source.

    Only what builds values: nothing that could change the function, such as a name of
    another kind, an assignment or an underscored attribute.
    """
    if not text:
        raise Unusable("it is empty")
    call = parsed(text if re.match(r"\s*f\s*\(", text) else f"f({text})")
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
            and call.func.id == "f"):
        raise Unusable("it is no call of f")
    inside = [node for part in (*call.args, *call.keywords) for node in ast.walk(part)]
    known = {*CALLABLE, *(node.arg for node in inside if isinstance(node, ast.arg))}
    if not any(isinstance(node, ast.Attribute | ast.Call) for node in inside):
        known |= {name.id for line in ast.parse(code).body for name in ast.walk(line)
                  if isinstance(line, ast.Assign) and isinstance(name, ast.Name)}
    for node in inside:
        if not isinstance(node, ALLOWED):
            raise Unusable(f"{type(node).__name__} is not allowed in it")
        if isinstance(node, ast.Name) and node.id not in known:
            raise Unusable(f"the name {node.id!r} is not allowed in it")
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            raise Unusable(f"the attribute {node.attr!r} is not allowed in it")
    return ast.unparse(call)[2:-1]


def tagged(answer: str) -> str:
    """What the last pair of [ANSWER] tags holds, or else the last line of text."""
    head, mark, rest = answer.rpartition("[ANSWER]")
    text = rest.partition("[/ANSWER]")[0] if mark else answer
    lines = [line for line in text.strip().strip("`").splitlines() if line.strip()]
    return text.strip().strip("`") if mark else (lines or [""])[-1]


def sides(answer: str) -> tuple[str, str]:
    """Left and right of `assert f(...) == value`; twice the same without "=="."""
    text = re.sub(r"^(python\s)?\s*(assert\s)?", "", tagged(answer)).strip()
    try:
        node = parsed(text)
    except Unusable:  # keyword arguments, say
        return text, text
    match node:
        case ast.Compare(left=ast.Call(func=ast.Name(id="f")), ops=[ast.Eq()]):
            return ast.unparse(node.left), ast.unparse(node.comparators[0])
    return text, text


@dataclass(frozen=True)
class Prediction:
    """A function f, arguments and what it returns for them; `asks` one of the two."""

    task_id: str
    family: str
    code: str
    given: str  # the arguments, as source
    output: str  # a plain value, as source
    asks: str  # "input" or "output"
    difficulty: int = 3

    @property
    def question(self) -> str:
        """The user's turn, with the line that is to be completed."""
        line = (f"assert f(??) == {self.output}" if self.asks == "input"
                else f"assert f({self.given}) == ??")
        return (f"Here is a Python function and an assertion about it.\n\n"
                f"{self.code.strip()}\n\n{line}\n\nThink step by step about what the "
                f"function does. Then write the whole assertion between [ANSWER] and "
                f"[/ANSWER], with ?? replaced by "
                + ("any input that makes it hold." if self.asks == "input"
                   else "a plain value that makes it hold."))

    @property
    def reference(self) -> str:
        """The completed line."""
        return f"[ANSWER]assert f({self.given}) == {self.output}[/ANSWER]"

    def grade(self, answer: str, sandbox: Sandbox) -> Result:
        """Runs f on the input, given or predicted, and compares what comes out."""
        try:
            left, right = sides(answer)
            if self.asks == "input":
                given, expected = arguments_of(left, self.code), value_of(self.output)
            else:
                given, expected = self.given, value_of(right)
        except (Unusable, RecursionError) as error:
            return compared(False, f"{tagged(answer)[:60]}: {error}", "a usable one")
        program = f"{self.code}\n\ndef call_f():\n    return f({given})\n"
        return sandbox.judge(program, [((), expected)], "call_f")


NUMBERS = (  # steps from a list of numbers to a list of numbers
    "a = [n * {k} for n in a]", "a = [n + {k} for n in a if n % {j}]", "a = sorted(a)",
    "a = a[{j}:] + a", "a = a[::-1]", "a = [n % {p} for n in a]",
    "a = [n - m for n, m in zip(a, a[1:])]", "a.insert({j}, sum(a) % {p})",
    "a.append(len(a) * {k})",
    "while len(a) > {p}:\n        a.pop(len(a) // {j})",
    "for i in range(0, len(a), {j}):\n        a[i] += i",
    "a = [n for i, n in enumerate(a) if n not in a[:i]]")
ENDS = ("return a", "return sum(a)", "return max(a, default={k})", "return len(set(a))",
        "return ''.join(str(n % 10) for n in a)", "return a[0] if a else None",
        "return {{n: a.count(n) for n in a}}", "return tuple(a[:{j}])")
PROBES = ([], [3], [5, -2, 8, 8, 1], [9, 4, 4, 0, 7, 12, -6])


@cache
def _drawn(index: int) -> tuple[str, list[int]]:
    """A function of `index % 5 + 1` steps, and its argument."""
    draw = Draw("prediction", index)
    steps = [*draw.some(NUMBERS, index % 5 + 1), draw.one(ENDS)]
    lines = [step.format(k=draw.number(2, 9), j=draw.number(2, 3), p=draw.number(4, 9))
             for step in steps]
    code = "def f(a):\n" + "".join(f"    {line}\n" for line in lines)
    return code, [draw.number(-3, 12) for _ in range(draw.number(3, 6))]


def _outcome(code: str, a: list[int]) -> object:
    """What a function made of the steps above returns."""
    space: dict[str, Any] = {}
    exec(code, space)
    return space["f"](list(a))


def behaviour(index: int) -> str:
    """What the function does on fixed lists: equal for functions that do the same."""
    return repr([_outcome(_drawn(index)[0], a) for a in PROBES])


def make(index: int) -> Prediction | None:
    """Question number `index`; None when the function does not depend on its input."""
    code, a = _drawn(index)
    if len({repr(_outcome(code, b)) for b in (*PROBES, a)}) < 3:
        return None
    asks = ("output", "input")[index // 5 % 2]
    return Prediction(f"prediction/{index}", "prediction", code, repr(a),
                      repr(_outcome(code, a)), asks, index % 5 + 1)


def read_cruxeval(path: Path, asks: str) -> list[Prediction]:
    """The functions of a CRUXEval file, asking for "input" (I) or "output" (O)."""
    def make_one(record: dict[str, Any], number: int) -> Prediction:
        code, given, output, name = (
            text_field(record, field, empty=field == "input")
            for field in ("code", "input", "output", "id"))
        for field, text in (("input", f"f({given})"), ("output", output)):
            try:
                parsed(text)
            except Unusable as error:
                raise ValueError(f"field {field!r}: {error}, found {text!r:.80}"
                                 ) from None
        return Prediction(f"cruxeval/{name}/{asks}", "cruxeval", code, given, output,
                          asks)
    return read_records(path, make_one)
