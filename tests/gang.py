"""Processes that stay alive over the tests of several processes: starting is dear."""

from __future__ import annotations

import multiprocessing
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

PATIENCE = 240  # seconds until a gang that hangs is ended


def _work(rank: int, size: int, store: str, calls: Connection) -> None:
    import conftest  # noqa: F401  shapes are checked in here too
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}/store", rank=rank,
                            world_size=size, timeout=timedelta(seconds=PATIENCE))
    while (call := calls.recv()) is not None:
        function, arguments = call
        try:
            calls.send((True, function(*arguments)))
        except BaseException:
            calls.send((False, f"rank {rank}:\n{traceback.format_exc()}"))


class Gang:
    """`size` processes of one gloo group; after a failure it is started anew."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.members: list[tuple[Any, Connection]] = []

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.folder = tempfile.TemporaryDirectory()
        for rank in range(self.size):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(rank, self.size, self.folder.name, theirs),
                daemon=True)
            process.start()
            theirs.close()
            self.members.append((process, ours))

    def stop(self) -> None:
        for process, _ in self.members:
            process.kill()
            process.join()
        if self.members:
            self.folder.cleanup()
        self.members = []

    def run(self, function: Callable, *arguments: Any) -> list[Any]:
        """`function(*arguments)` in every process; what each gives back, by rank.

        Raises AssertionError with the traceback of the process that failed first.
        """
        if not self.members:
            self.start()
        for _, pipe in self.members:
            pipe.send((function, arguments))
        results = []
        waiting = dict(enumerate(pipe for _, pipe in self.members))
        while waiting:
            ready = multiprocessing.connection.wait(list(waiting.values()), PATIENCE)
            failure = "" if ready else f"ranks {sorted(waiting)} hang"
            for rank, pipe in list(waiting.items()):
                if pipe not in ready:
                    continue
                try:
                    fine, found = pipe.recv()
                except EOFError:
                    fine, found = False, f"rank {rank} ended"
                results.append((rank, found))
                failure = failure or ("" if fine else found)
                del waiting[rank]
            if failure:     # the others may wait for ever for the one that failed
                self.stop()
                raise AssertionError(failure)
        return [found for _, found in sorted(results, key=lambda pair: pair[0])]
