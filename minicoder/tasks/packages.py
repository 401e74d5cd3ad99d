"""Small Python packages, generated: modules of functions that use each other.

Three layers: functions of a number, of a list (which use the first), of a table of
lists (which use the second). Each function has a sentence that says all it does, and
plausible bugs. The texts are ours, so they may run here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from minicoder.tasks.draw import Draw
from minicoder.tasks.files import Files

NUMBER, LIST, TABLE = "n", "items", "table"  # what a function's argument is called
STUB = "raise NotImplementedError"

# name, sentence, right body, wrong bodies; k, p, a, b are numbers of the package
BASIC = (
    ("add_rate", "n plus {p} percent of it, rounded down.", "return n + n * {p} // 100",
     ("return n + n * {p} // 10", "return n - n * {p} // 100", "return n + {p}")),
    ("clip", "n, but at least {a} and at most {b}.", "return max({a}, min({b}, n))",
     ("return min({a}, max({b}, n))", "return min({b}, n)", "return max({a}, n)")),
    ("floor_to", "The largest multiple of {k} that is not above n.",
     "return n // {k} * {k}", ("return n // {k}", "return (n // {k} + 1) * {k}")),
    ("gap", "How far n is from {b}, without a sign.", "return abs(n - {b})",
     ("return n - {b}", "return abs(n + {b})", "return abs(n) - {b}")),
    ("turn", "The place of n on a ring of {k} places, counted from 0.",
     "return n % {k}", ("return n // {k}", "return n % {k} + 1")),
    ("digit_sum", "The sum of the digits of n, whatever its sign.",
     "return sum(int(digit) for digit in str(abs(n)))",
     ("return len(str(abs(n)))", "return sum(int(digit) for digit in str(n)[1:])")),
    ("halve", "Half of n if n is even, else n plus {p}.",
     "return n + {p} if n % 2 else n // 2",
     ("return n // 2", "return n + {p} if n % 2 == 0 else n // 2", "return n + {p}")),
    ("fee", "{a} for n below {b}, else n divided by {k}, rounded down.",
     "return {a} if n < {b} else n // {k}",
     ("return {a} if n > {b} else n // {k}", "return n // {k}", "return {a}")))
OVER_LISTS = (
    ("total_{g}", "The sum of {g} of the items.", "return sum({g}(n) for n in items)",
     ("return sum({g}(n) for n in items[1:])", "return sum(items)")),
    ("top_{g}", "The largest {g} of the items, 0 if there are none.",
     "return max(({g}(n) for n in items), default=0)",
     ("return min(({g}(n) for n in items), default=0)",
      "return max(items, default=0)")),
    ("kept_by_{g}", "The items that {g} leaves as they are.",
     "return [n for n in items if {g}(n) == n]",
     ("return [n for n in items if {g}(n) != n]", "return [{g}(n) for n in items]")),
    ("sorted_by_{g}", "The items sorted by {g}, equal ones as they came.",
     "return sorted(items, key={g})",
     ("return sorted(items)", "return sorted(items, key={g}, reverse=True)")))
OVER_TABLES = (
    ("{g}_of_each", "{g} of each list of the table, under the same name.",
     "return {{name: {g}(items) for name, items in table.items()}}",
     ("return {{name: {g}(items[1:]) for name, items in table.items()}}",
      "return {{name: {g}(items) for name, items in table.items() if name > 'a'}}")),
    ("{g}_of_all", "{g} of all lists of the table, joined in its order.",
     "return {g}([n for items in table.values() for n in items])",
     ("return {g}([n for items in table.values() for n in items[1:]])",
      "return {g}([len(items) for items in table.values()])")))
NAMES = ("shop", "farm", "port", "mill", "bank", "zoo", "lab", "rail", "post", "park")
MODULES = ("amounts", "rules", "scales", "limits", "measures")


@dataclass(frozen=True)
class Function:
    """One function of a package, right and wrong."""

    module: str
    name: str
    argument: str
    sentence: str
    body: str
    bugs: tuple[str, ...]
    uses: Function | None = None

    def text(self, body: str) -> str:
        """Its definition with that body."""
        return (f'def {self.name}({self.argument}):\n    """{self.sentence}"""\n'
                f"    {body}\n")

    @property
    def level(self) -> int:
        """How many functions deep it calls."""
        return self.uses.level + 1 if self.uses else 0


@dataclass(frozen=True)
class Package:
    """A package's name and its functions, those that are used first."""

    name: str
    functions: tuple[Function, ...]

    def files(self, bodies: Mapping[str, str] | None = None) -> Files:
        """Its files; `bodies` replaces those of the functions of these names."""
        files: Files = {f"{self.name}/__init__.py": ""}
        for module in dict.fromkeys(f.module for f in self.functions):
            here = [f for f in self.functions if f.module == module]
            imports = dict.fromkeys(
                f"from {self.name}.{f.uses.module} import {f.uses.name}\n"
                for f in here if f.uses and f.uses.module != module)
            parts = [f.text((bodies or {}).get(f.name, f.body)) for f in here]
            files[f"{self.name}/{module}.py"] = (
                "".join(imports) + ("\n\n" if imports else "") + "\n\n".join(parts))
        return files

    def outcomes(self, bodies: Mapping[str, str] | None = None) -> dict[str, list[Any]]:
        """What each function returns for its arguments, with those bodies."""
        space: dict[str, Any] = {}
        for f in self.functions:
            exec(f.text((bodies or {}).get(f.name, f.body)), space)
        return {f.name: [self._outcome(space[f.name], argument)
                         for argument in self.arguments[f.argument]]
                for f in self.functions}

    @staticmethod
    def _outcome(function: Any, argument: object) -> object:
        try:
            return function(argument)
        except Exception as error:  # a bug may raise anything
            return type(error).__name__

    @cached_property
    def arguments(self) -> dict[str, list[Any]]:
        """Arguments to try, by the parameter's name."""
        draw = Draw(self.name, len(self.functions))
        numbers = [0, -7, *draw.some(range(1, 61), 6)]
        lists = [[], *([draw.number(-9, 60) for _ in range(draw.number(2, 5))]
                       for _ in range(4))]
        tables = [{}, *({"a": lists[i], "b": lists[-i]} for i in (1, 2))]
        return {NUMBER: numbers, LIST: lists, TABLE: tables}

    def target(self, name: str) -> str:
        """What a check calls the function: "package.module:name"."""
        module = next(f.module for f in self.functions if f.name == name)
        return f"{self.name}.{module}:{name}"


def make_package(draw: Draw, layers: int) -> Package:
    """A package of 1 to 3 layers: numbers; and lists; and tables."""
    numbers = {"k": draw.number(3, 9), "p": draw.number(11, 40),
               "a": draw.number(2, 9), "b": draw.number(15, 45)}
    modules = draw.some(MODULES, 2)
    functions: list[Function] = []

    def add(module: str, argument: str, row: tuple, uses: Function | None) -> None:
        words = numbers | {"g": uses.name if uses else ""}
        name, sentence, body = (text.format(**words) for text in row[:3])
        functions.append(Function(module, name, argument, sentence, body, tuple(
            bug.format(**words) for bug in row[3]), uses))

    for i, row in enumerate(draw.some(BASIC, 4)):
        add(modules[i % 2] if layers > 1 else modules[0], NUMBER, row, None)
    for argument, table, module, layer in ((LIST, OVER_LISTS, "reports", 2),
                                           (TABLE, OVER_TABLES, "summary", 3)):
        below = [f for f in functions if f.level == layer - 2]
        for row in draw.some(table, 2) if layers >= layer else ():
            below = [f for f in below if not any(g.uses is f for g in functions)]
            add(module, argument, row, draw.one(below))
    return Package(draw.one(NAMES), tuple(functions))
