"""One progress bar per stage, with rate and time left."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(
    iterable: Iterable[T], name: str, unit: str = "it", total: int | None = None,
    initial: int = 0, said: dict[str, Any] | None = None,
) -> Iterator[T]:
    """Iterate with a bar on standard error that is wiped when the loop ends.

    It is drawn after half a second: a mistake found at once is all that is said then.

    `initial` counts what an earlier, interrupted run has already done; what the loop
    writes into `said` stands behind the bar.
    """
    bar = tqdm(
        iterable, desc=f"{name:<10}", unit=unit, total=total, initial=initial,
        leave=False, dynamic_ncols=True, mininterval=0.5, delay=0.5, file=sys.stderr)
    for item in bar:
        yield item
        if said:
            bar.set_postfix(said, refresh=False)
