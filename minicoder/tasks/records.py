"""Benchmark files: JSON lines, gzipped or not, whose mistakes are named."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from minicoder.errors import UserError

T = TypeVar("T")


def text_field(record: dict[str, Any], name: str, empty: bool = False) -> str:
    """A field that must hold text, which may be `empty`; ValueError says what it is."""
    value = record.get(name)
    if not isinstance(value, str) or not (value.strip() or empty):
        found = json.dumps(value)[:80] if name in record else "nothing"
        raise ValueError(f"field {name!r} must be text{'' if empty else ', not empty'},"
                         f" found {found}")
    return value


def read_records(path: Path, make: Callable[[dict[str, Any], int], T]) -> list[T]:
    """`make(object, its number from 0)` of every line; UserError names file and line.

    `make` raises ValueError for an object that it cannot use.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    made: list[T] = []
    for number, line in enumerate(data.split(b"\n"), 1):  # text may hold other breaks
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError(f"expected an object, found {type(record).__name__}")
            made.append(make(record, len(made)))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: {error}.") from None
    return made
