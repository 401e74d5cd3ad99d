"""The exercises' checks: which rule an answer broke, then hints, then a solution.

    check("tour.psm", psm)      # ✓, or the rule that broke
    hint("tour.psm")            # one hint more with every call
    solution("tour.psm")        # the source of one solution
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minicoder.errors import UserError


@dataclass(frozen=True)
class Rule:
    """What must hold, what to say when it does not, and an answer that breaks it.

    Rules are tried in order, so `wrong` must satisfy all the rules before this one.
    """

    message: str
    holds: Callable[[Any], bool]
    wrong: Any


@dataclass(frozen=True)
class Exercise:
    """A named exercise; `answer` satisfies every rule and `source` is what is shown."""

    name: str
    rules: tuple[Rule, ...]
    hints: tuple[str, ...]
    answer: Any
    source: str

    @property
    def wrong(self) -> dict[str, Any]:
        """The known wrong answers by the message that each of them must get."""
        return {rule.message: rule.wrong for rule in self.rules}


EXERCISES: dict[str, Exercise] = {}
_hints_given: Counter[str] = Counter()


def exercise(
    name: str, rules: tuple[Rule, ...], hints: tuple[str, ...]
) -> Callable[[Callable], Callable]:
    """Register the decorated function as the solution of exercise `name`."""
    def register(answer: Callable) -> Callable:
        source = textwrap.dedent(inspect.getsource(answer))
        source = source[source.index("\ndef ") + 1:]  # without the decorator
        EXERCISES[name] = Exercise(name, rules, hints, answer, source)
        return answer
    return register


def find(name: str) -> Exercise:
    """Look an exercise up; an unknown name is a `UserError` with the nearest ones."""
    importlib.import_module("minicoder.show.exercises")  # fills EXERCISES
    if name not in EXERCISES:
        near = difflib.get_close_matches(name, EXERCISES, n=3) or sorted(EXERCISES)
        raise UserError(f"There is no exercise {name!r}; there is {', '.join(near)}.")
    return EXERCISES[name]


def _finished(answer: Any) -> Any:
    """Wrap a function so that returning nothing counts as not written yet."""
    if answer is None or answer is ...:
        raise NotImplementedError
    if not callable(answer):
        return answer

    def call(*args: Any, **kwargs: Any) -> Any:
        result = answer(*args, **kwargs)
        if result is None or result is ...:
            raise NotImplementedError
        return result
    return call


def judge(name: str, answer: Any) -> str | None:
    """Return the message of the first rule that `answer` breaks, or None.

    Raises `NotImplementedError` when the answer is still a stub.
    """
    answer = _finished(answer)
    for rule in find(name).rules:
        try:
            if not rule.holds(answer):
                return rule.message
        except NotImplementedError:
            raise
        except Exception as error:  # any mistake of the learner's code is feedback
            told = ": ".join(filter(None, (type(error).__name__, str(error).strip())))
            return (f"your code stopped with {told}. It was tried on this: "
                    f"{rule.message}")
    return None


def check(name: str, answer: Any) -> None:
    """Print whether `answer` solves exercise `name`, or which rule it breaks."""
    rules = len(find(name).rules)
    try:
        message = judge(name, answer)
    except NotImplementedError:
        print(f'… {name}: not written yet. hint("{name}") helps to begin.')
        return
    if message is None:
        print(f"✓ {name}: right, all {rules} rules hold.")
    else:
        print(f'✗ {name}: {message}\n  hint("{name}") helps.')


def hint(name: str) -> None:
    """Print the next hint of exercise `name`; after the last, point to the solution."""
    hints = find(name).hints
    if _hints_given[name] < len(hints):
        _hints_given[name] += 1
        number = _hints_given[name]
        print(f"Hint {number} of {len(hints)}: {hints[number - 1]}")
    else:
        print(f'No more hints. solution("{name}") shows one way.')


def solution(name: str) -> None:
    """Print the source of one solution of exercise `name`."""
    print(find(name).source, end="")
