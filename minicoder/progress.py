"""One progress bar per stage, with rate and time left."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(
    iterable: Iterable[T], name: str, unit: str = "it", total: int | None = None,
    initial: int = 0,
) -> Iterator[T]:
    """Iterate with a bar on standard error that is wiped when the loop ends.

    `initial` counts what an earlier, interrupted run has already done.
    """
    return iter(tqdm(
        iterable, desc=f"{name:<10}", unit=unit, total=total, initial=initial,
        leave=False, dynamic_ncols=True, mininterval=0.5, file=sys.stderr,
    ))
