"""What both sides of the sandbox use: values as JSON, frames, and a safe clean-up.

Standard library only, and no import of minicoder: the child interpreter loads this file
by its bare name.
"""

from __future__ import annotations

import json
import os
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from itertools import islice
from typing import Any

MAX_DEPTH = 200  # nesting of a value
MAX_FRAME = 8 << 20  # bytes of one answer
MAX_ITEMS = 1 << 20  # what an iterator may yield
OUT_OF_MEMORY = 71  # exit status of a child that could not even report its MemoryError


SCALARS: dict[str, Callable[[Any], Any]] = {
    "i": lambda digits: int(digits, 16), "f": float.fromhex, "b": bytes.fromhex}
GROUPS: dict[str, Callable[[list[Any]], Any]] = {
    "t": tuple, "s": set, "z": frozenset, "n": iter, "c": lambda v: complex(*v),
    "r": lambda v: range(*v), "q": lambda v: deque(v[1:], v[0])}
DICTS: dict[str, Callable[[dict[Any, Any]], Any]] = {
    "d": dict, "m": Counter, "o": OrderedDict,
    "e": lambda v: defaultdict(None, v)}  # what makes its defaults stays behind
TAGS = {tuple: "t", set: "s", frozenset: "z", dict: "d", Counter: "m", OrderedDict: "o",
        defaultdict: "e"}


class Opaque(TypeError):
    """A value that cannot cross between processes."""


def parts(value: Any) -> tuple[str, list[Any]]:
    """Tag and items of a value that is a group; Opaque when it is none."""
    kind = type(value)
    if kind in TAGS:
        return TAGS[kind], list(value.items() if isinstance(value, dict) else value)
    if kind is deque:
        return "q", [value.maxlen, *value]
    if kind is complex:
        return "c", [value.real, value.imag]
    if kind is range:
        return "r", [value.start, value.stop, value.step]
    if isinstance(value, Iterator) and kind.__module__ in ("builtins", "itertools"):
        items = list(islice(value, MAX_ITEMS + 1))
        if len(items) > MAX_ITEMS:
            raise Opaque(f"an iterator of more than {MAX_ITEMS} items")
        return "n", items
    raise Opaque(f"an object of type {kind.__name__}")


def encode(value: object, depth: int = 0) -> Any:
    """Plain value to JSON; Opaque unless it is built of exact builtin types.

    List, str, bool, None and small int stay themselves; the others are tagged:
    (1, 2.5) -> {"t": [1, {"f": "0x1.4000000000000p+1"}]}. An iterator is used up.
    """
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:  # decimal digits of a huge int take quadratic time, hex linear
        return value if -(1 << 63) < value < 1 << 63 else {"i": hex(value)}
    if kind is float:
        return {"f": value.hex()}
    if kind is bytes:
        return {"b": value.hex()}
    if depth == MAX_DEPTH:
        raise Opaque(f"a value nested more than {MAX_DEPTH} deep")
    if kind is list:
        return [encode(item, depth + 1) for item in value]
    tag, items = parts(value)
    if tag in DICTS:
        return {tag: [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in items]}
    return {tag: [encode(item, depth + 1) for item in items]}


def decode(wire: Any) -> Any:
    """Inverse of `encode`; some exception for what `encode` cannot have made."""
    if type(wire) is list:
        return [decode(item) for item in wire]
    if type(wire) is not dict:
        return wire
    ((tag, body),) = wire.items()
    if tag in SCALARS:
        return SCALARS[tag](body)
    if tag in GROUPS:
        return GROUPS[tag]([decode(item) for item in body])
    if tag in DICTS:
        return DICTS[tag]({decode(key): decode(item) for key, item in body})
    raise ValueError(f"unknown tag {tag!r}")


def pack(message: object) -> bytes:
    """One frame: four bytes of length (big-endian), then JSON."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return struct.pack(">I", len(body)) + body


def unpack(stream: BufferedIOBase, most: int = 1 << 32) -> Any:
    """Reads one frame; EOFError when it is cut, ValueError when it is malformed."""
    head = stream.read(4)
    size = int.from_bytes(head, "big")
    if size > most:
        raise ValueError(f"a frame of more than {most} bytes")
    body = stream.read(size)
    if len(head) < 4 or len(body) < size:
        raise EOFError("a cut frame")
    return json.loads(body)


def remove_tree(folder: str) -> None:
    """Removes a folder of any depth and mode: no recursion, no link followed.

    Subfolders are moved up beside `folder` before they are opened, so no path grows.
    What cannot be removed stays: a hostile program may have made it so.
    """
    pending = [folder]
    for count, here in enumerate(pending):
        try:
            os.chmod(here, 0o700)
            with os.scandir(here) as entries:
                for number, entry in enumerate(entries):
                    if entry.is_dir(follow_symlinks=False):
                        os.chmod(entry.path, 0o700)  # moving it writes its ".."
                        os.rename(entry.path, f"{folder}.{count}.{number}")
                        pending.append(f"{folder}.{count}.{number}")
                    else:
                        os.unlink(entry.path)
            os.rmdir(here)
        except OSError:
            continue
