"""A pool of seats for jobs, one per core; what every use of the sandbox shares."""

from __future__ import annotations

import os
import queue
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from minicoder.errors import UserError
from minicoder.execution.tiers import WARNING, choose_tier
from minicoder.execution.verdict import Ending, Limits
from minicoder.execution.workers import HarnessError, Seat


class Pool:
    """Seats that run jobs in the strongest tier there is, see `tiers.py`.

    `require` names a tier to use or fail; `allow_weak` consents to the weak one, which
    is no boundary against a program that wants to harm: UserError without consent.
    Safe to use from several threads.
    """

    _warned = False

    def __init__(
        self, workers: int | None = None, require: str | None = None,
        allow_weak: bool = False, limits: Limits | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise UserError(f"workers is {workers}; it must be at least 1.")
        self.tier, self.probed = choose_tier(require, allow_weak)
        mine = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
        self.workers = workers or len(mine(0))
        self.limits = limits or Limits()
        self._all = [Seat(self.tier) for _ in range(self.workers)]
        self._idle: queue.LifoQueue[Seat] = queue.LifoQueue()  # the warmest first
        for seat in self._all:
            self._idle.put(seat)
        self._threads = ThreadPoolExecutor(self.workers, "sandbox")
        self._closed = False
        if self.tier == "weak" and not Pool._warned:
            Pool._warned = True
            warnings.warn(WARNING, RuntimeWarning, stacklevel=3)

    @property
    def report(self) -> dict[str, Any]:
        """What the probes of the tier answered and what the first worker found."""
        found = (s.programs.report for s in self._all if s.programs.report)
        return self.probed | next(found, {})

    def execute(
        self, role: str, request: bytes, limits: Limits | None = None
    ) -> Ending:
        """Runs one process to its end; HarnessError when two workers failed at it."""
        most = limits or self.limits
        return self._twice(lambda seat: (seat.run(role, request, most),))[0]

    def test(
        self, program: bytes | None, tests: bytes, limits: Limits
    ) -> tuple[Ending | None, Ending]:
        """Runs a program beside its tests; HarnessError as `execute`."""
        return self._twice(lambda seat: seat.test(program, tests, limits))

    def _twice(self, work: Callable[[Seat], Any]) -> Any:
        try:
            return self._once(work)
        except (HarnessError, OSError):
            pass
        try:
            return self._once(work)
        except OSError as error:
            raise HarnessError(str(error)) from error

    def _once(self, work: Callable[[Seat], Any]) -> Any:
        if self._closed:
            raise RuntimeError("the sandbox is closed")
        seat, whole = self._idle.get(), False
        try:
            endings = work(seat)
            seat.check(*endings)
            whole = True
            return endings
        finally:  # also after Ctrl-C: a worker in an unknown state is not used again
            if not whole:
                seat.stop()
            self._idle.put(seat)

    def close(self) -> None:
        """Ends all workers."""
        self._closed = True
        self._threads.shutdown(cancel_futures=True)
        for seat in self._all:
            seat.stop()
