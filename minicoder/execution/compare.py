"""Whether a program's answer is the expected value, both in the form of `encode`.

An answer is hostile input; it is compared as JSON and never becomes an object.
"""

from __future__ import annotations

import json
import math
from typing import Any

TOLERANCE = 1e-9
NAMES = {"z": "frozenset", "n": "iterator", "c": "complex", "r": "range", "q": "deque",
         "m": "Counter", "o": "OrderedDict", "e": "defaultdict"}


def number(wire: Any) -> int | float | None:
    """The number that a JSON value stands for; None when it stands for none."""
    if type(wire) is int:
        return wire
    if type(wire) is not dict:
        return None
    ((tag, body),) = wire.items()
    try:
        return {"i": lambda: int(body, 16), "f": lambda: float.fromhex(body)}[tag]()
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def same(want: Any, got: Any) -> bool:
    """Whether an answer equals the expected value, both in the form of `encode`.

    As `==` in Python, with three differences: a bool is not an int; where one side is
    a float, a relative or absolute error of 1e-9 is allowed and nan equals nan; keys of
    dicts and items of sets must agree in type. An int may stand for a float.
    """
    a, b = number(want), number(got)
    if a is not None and b is not None:
        if type(a) is int and type(b) is int:
            return a == b
        try:
            near = math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        except OverflowError:  # an int beyond the floats
            return False
        return near or (a != a and b != b)
    if type(want) is not type(got):
        return False
    if type(want) is list:
        return len(want) == len(got) and all(map(same, want, got))
    if type(want) is not dict:
        return want == got
    ((tag, left),), ((other, right),) = want.items(), got.items()
    if tag != other or type(right) is not type(left) or len(left) != len(right):
        return False
    if tag == "b":
        return left == right
    if tag in "tncrq":
        return all(map(same, left, right))
    if tag in "sz":
        return set(map(json.dumps, left)) == set(map(json.dumps, right))
    if not all(type(pair) is list and len(pair) == 2 for pair in right):
        return False
    table = {json.dumps(key): value for key, value in right}
    return all(json.dumps(k) in table and same(v, table[json.dumps(k)])
               for k, v in left)


def show(wire: Any) -> str:
    """An encoded value as Python writes it; "?" for one that is malformed."""
    try:
        if type(wire) is list:
            return "[" + ", ".join(map(show, wire)) + "]"
        if type(wire) is not dict:
            return repr(wire)
        ((tag, body),) = wire.items()
        if tag == "i":
            return body if len(body) > 1000 else repr(int(body, 16))
        if tag == "f":
            return repr(float.fromhex(body))
        if tag in ("d", "m", "o", "e"):
            pairs = "{" + ", ".join(f"{show(k)}: {show(v)}" for k, v in body) + "}"
            return f"{NAMES[tag]}({pairs})" if tag in NAMES else pairs
        if tag == "b":
            return repr(bytes.fromhex(body))
        if tag in NAMES:
            return f"{NAMES[tag]}({', '.join(map(show, body))})"
        inside = ", ".join(map(show, body))
        if tag == "t":
            return f"({inside},)" if len(body) == 1 else f"({inside})"
        return "{" + inside + "}" if body else "set()"
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        return "?"
