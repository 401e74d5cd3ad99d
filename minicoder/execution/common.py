"""What both sides of the sandbox use: values as JSON, frames, and a safe clean-up.

Standard library only, and no import of minicoder: the child interpreter loads this file
by its bare name.
"""

from __future__ import annotations

import json
import os
import struct
from typing import Any

MAX_DEPTH = 100  # nesting of a value
MAX_FRAME = 1 << 20  # bytes of one answer
OUT_OF_MEMORY = 71  # exit status of a child that could not even report its MemoryError


def encode(value: object, depth: int = 0) -> Any:
    """Plain value to JSON; TypeError unless it is built of exact builtin types.

    List, str, bool, None and small int stay themselves; the others are tagged:
    (1, 2.5) -> {"t": [1, {"f": "0x1.4000000000000p+1"}]}.
    """
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:  # decimal digits of a huge int take quadratic time, hex linear
        return value if -(1 << 63) < value < 1 << 63 else {"i": hex(value)}
    if kind is float:
        return {"f": value.hex()}
    if depth == MAX_DEPTH:
        raise TypeError(f"a value nested more than {MAX_DEPTH} deep")
    if kind is list:
        return [encode(item, depth + 1) for item in value]
    if kind is tuple or kind is set:
        return {"t" if kind is tuple else "s": [encode(v, depth + 1) for v in value]}
    if kind is dict:
        pairs = value.items()
        return {"d": [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in pairs]}
    raise TypeError(f"an object of type {kind.__name__}")


def decode(wire: Any) -> Any:
    """Inverse of `encode`, for trusted data only; ValueError for an unknown tag."""
    if type(wire) is list:
        return [decode(item) for item in wire]
    if type(wire) is not dict:
        return wire
    ((tag, body),) = wire.items()
    if tag == "i":
        return int(body, 16)
    if tag == "f":
        return float.fromhex(body)
    if tag in ("t", "s"):
        return (tuple if tag == "t" else set)(decode(item) for item in body)
    if tag == "d":
        return {decode(key): decode(item) for key, item in body}
    raise ValueError(f"unknown tag {tag!r}")


def pack(message: object) -> bytes:
    """One frame: four bytes of length (big-endian), then JSON."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return struct.pack(">I", len(body)) + body


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
