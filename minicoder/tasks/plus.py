"""More tests for a task, as EvalPlus makes them: mutate inputs, ask the reference.

The reference and the mutants run in the sandbox, as every program does. They are taken
to be honest (their answers are believed), not to be harmless.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from minicoder.execution.common import decode, encode, pack
from minicoder.execution.compare import same
from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Limits, Result, read_answers
from minicoder.execution.workers import HarnessError
from minicoder.tasks.mutants import mutants
from minicoder.tasks.task import Case, Task

QUICK = Limits(cpu_s=1, wall_s=10)  # for mutants, some of which never end
AMPLE = Limits(30, 120, 2048)  # for a reference on hundreds of inputs
STOPPED = ("stopped", None)  # the answer at which a program ended
# where EvalPlus compares in another way: order is free, or only "None or not" counts
SETS = ("similar_elements", "find_char_long", "common_in_nested_lists", "larg_nnum",
        "extract_singly", "intersection_array", "find_dissimilar", "Diff")
GROUPS = (list, tuple, set, frozenset)
NOT_NONE = ("check_str", "text_match_three", "text_starta_endb")
NOTHING = """
_found = {0}

def {0}(*given):
    return _found(*given) not in (None, False)
"""
LONGEST = 200_000  # characters of a case
# with names that no program has
TEST = '''\
from collections import *
inf, nan = float("inf"), float("nan")

def _close(got, want):
    if isinstance(want, (list, tuple)):
        return (type(got) is type(want) and len(got) == len(want)
                and all(map(_close, got, want)))
    if isinstance(want, float) and isinstance(got, (int, float)):
        return got == want or got != got and want != want or (
            abs(got - want) <= {near} + 1e-7 * abs(want))
    return got == want

for _given, _want in [{cases}]:
    _got = {name}(*_given)
    assert {right}, f"{name}{{_given}} returned {{_got}}, not {{_want}}"
'''


def answers_of(
    sandbox: Sandbox, program: str, name: str, inputs: Sequence[tuple],
    limits: Limits = AMPLE,
) -> list[tuple[str, Any]]:
    """What a program answers on each input: (kind, content) as in `read_answers`.

    A program that ends early has STOPPED there, and the list is no longer than that.
    """
    request = pack([program, name, [encode(given) for given in inputs]])
    ending = sandbox.execute("program", request, limits)
    found: list[tuple[str, Any]] = []
    try:
        found += read_answers(ending.answers)
    except ValueError:  # the last one was cut: it had no room left
        pass
    return found if len(found) == len(inputs) else [*found, STOPPED]


def like(example: Any, value: Any) -> Any:
    """A value from JSON in the types of an example.

    A list inside another takes the type of the example's first group, or of its own.
    """
    if isinstance(example, GROUPS) and isinstance(value, list):
        model = next((one for one in example if isinstance(one, GROUPS)), example)
        return type(example)(like(model, item) for item in value)
    if isinstance(example, dict) and isinstance(value, dict) and example:
        model = next(iter(example.values()))
        return {key: like(model, item) for key, item in value.items()}
    if isinstance(example, int | float | complex) and isinstance(value, str):
        try:  # JSON has no complex numbers; "J" would be one
            number = complex(value if re.search(r"\d", value) else "-")
        except ValueError:
            return value
        return number if number.imag or isinstance(example, complex) else number.real
    return value


def written(*case: object) -> str:
    """A case in a test program; empty for one that is too long for that."""
    try:
        line = f"{case!r},\n"
    except ValueError:  # an integer of more digits than Python writes
        return ""
    return line if len(line) <= LONGEST else ""


@dataclass(frozen=True)
class PlusTask:
    """A task of EvalPlus: its reference says what is right on many inputs.

    EvalPlus accepts a second reading of four MBPP+ tasks (164, 295, 558, 581); here
    the reference alone decides.
    """

    task: Task
    inputs: tuple[tuple, ...]
    atol: float
    _tests: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __getattr__(self, name: str) -> Any:
        """`task_id`, `question` and so on are those of the task."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.task, name)

    def tests(self, sandbox: Sandbox) -> str:
        """The test program; the first call has the reference run on the inputs.

        Inputs on which it raises, gives no plain value or writes more than LONGEST are
        left out. HarnessError when none is left.
        """
        if not self._tests:
            name, right = self.task.entry_point, "_close(_got, _want)"
            if name == "find_zero":  # HumanEval/32: any root will do
                right = ("abs(sum(a * _got ** i for i, a in enumerate(_given[0]))) "
                         f"<= {self.atol}")
            elif name in SETS:
                right = "set(_got) == set(_want)"
            program = self.wrapped(self.task.program(self.task.canonical_solution))
            found = answers_of(sandbox, program, name, self.inputs)
            cases = [written(given, decode(content)) for given, (kind, content)
                     in zip(self.inputs, found, strict=False) if kind == "value"]
            if not cases:  # nothing would be wrong
                raise HarnessError("the reference answered none of the inputs")
            self._tests["test"] = TEST.format(
                near=max(self.atol, 1e-6), right=right, name=name,
                cases="".join(cases))
        return self._tests["test"]

    def wrapped(self, program: str) -> str:
        """The program; of some tasks only whether it finds anything counts."""
        name = self.task.entry_point
        return program + NOTHING.format(name) * (name in NOT_NONE)

    def grade(self, answer: str, sandbox: Sandbox) -> Result:
        """Judges the program in an answer on all inputs."""
        try:
            tests = self.tests(sandbox)
        except HarnessError as error:
            return Result("harness_error", str(error), total=1, tier=sandbox.tier)
        return sandbox.judge(self.wrapped(self.task.answered(answer)), tests,
                             self.task.entry_point, self.task.preamble, "script", AMPLE)


def mutated(value: Any, draw: random.Random) -> Any:
    """A neighbour of the same type, by EvalPlus's rules for that type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return draw.choice((value + 1, value - 1, -value, 2 * value, 0))
    if isinstance(value, float):
        return draw.choice((value + 1, -value, value / 2, 0.0))
    if not isinstance(value, str | list | tuple | set | dict) or not value:
        return value
    if isinstance(value, dict):
        key = draw.choice(list(value))
        rest = {k: v for k, v in value.items() if k != key}
        return rest if draw.random() < 0.3 else value | {key: mutated(value[key], draw)}
    items, place = list(value), draw.randrange(len(value))
    how = draw.randrange(4)
    if how == 0:
        del items[place]
    elif how == 1:
        items.insert(draw.randrange(len(items) + 1), items[place])
    elif how == 2:
        items[place] = draw.choice(items)
    elif isinstance(value, str):
        items[place] = draw.choice("aAzZ0 .,-(") if draw.random() < 0.5 else (
            items[place].swapcase())
    else:
        items[place] = mutated(items[place], draw)
    return "".join(items) if isinstance(value, str) else type(value)(items)


def more_inputs(seeds: Sequence[tuple], count: int, seed: int) -> list[tuple]:
    """Up to `count` new inputs, each some mutations away from one of the seeds."""
    draw, pool = random.Random(seed), list(seeds)
    seen = {repr(given) for given in pool}
    for _ in range(4 * count):
        if len(pool) == len(seeds) + count:
            break
        given = list(draw.choice(pool))
        for _ in range(draw.randrange(1, 4)):
            if given:
                place = draw.randrange(len(given))
                given[place] = mutated(given[place], draw)
        if repr(given := tuple(given)) not in seen:
            seen.add(repr(given))
            pool.append(given)
    return pool[len(seeds):]


def killed(right: Sequence[tuple[str, Any]], found: Sequence[tuple[str, Any]]
           ) -> set[int]:
    """The inputs on which a program does not answer as the right one does."""
    return {place for place, ((_, want), (kind, got))
            in enumerate(zip(right, found, strict=False))
            if kind != "value" or not same(want, got)}


def strengthen(
    task: Task, sandbox: Sandbox, tries: int = 150, keep: int = 8, seed: int = 0,
    wrong: Sequence[str] | None = None,
) -> Task:
    """The task with up to `keep` more cases, which together tell most wrong programs.

    Inputs are `tries` mutations of the task's own; those on which the reference raises
    are dropped. Greedy set cover over `wrong` (default: the reference's mutants) picks
    the case that kills most of what is still alive, until nothing more dies.
    """
    program, name = task.program(task.canonical_solution), task.entry_point
    inputs = more_inputs([case.arguments for case in task.cases], tries, seed)
    found = answers_of(sandbox, program, name, inputs)
    good = [(given, answer) for given, answer in zip(inputs, found, strict=False)
            if answer[0] == "value"]
    every = [*((case.arguments, ("value", encode(case.expected)))
               for case in task.cases), *good]
    kills = [killed([answer for _, answer in every], answers_of(
        sandbox, bug, name, [given for given, _ in every], QUICK))
        for bug in (mutants(program) if wrong is None else wrong)]
    old = set(range(len(task.cases)))
    alive, chosen = [dead for dead in kills if not dead & old and dead], []
    while alive and len(chosen) < keep:
        best = max(sorted(set().union(*alive)),
                   key=lambda place: sum(place in dead for dead in alive))
        chosen.append(best)
        alive = [dead for dead in alive if best not in dead]
    cases = tuple(Case(given, decode(content)) for given, (_, content) in (
        every[place] for place in chosen))
    return replace(task, cases=task.cases + cases, test="", record=None)
