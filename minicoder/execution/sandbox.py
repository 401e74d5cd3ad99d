"""Runs untrusted programs and judges them, many a second.

Host (this file) -> one fork server per core (`worker.py`) -> one process per program
(`child.py`). The program's process receives code, entry point and arguments; plain
values come back; the host compares (`verdict.py`). Because no expected result ever
enters that process, no trick inside it can turn a wrong program into a right one.
"""

from __future__ import annotations

import json
import os
import queue
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from minicoder.errors import UserError
from minicoder.execution.common import encode, pack, remove_tree
from minicoder.execution.verdict import Ending, Limits, Result, settle, show

MAX_SOURCE = 1 << 20  # bytes of a program
MAX_ANSWERS = 8 << 20  # bytes of all its answers
PATIENCE_S = 10.0  # beyond the wall limit: then the worker itself hangs
START_S = 60.0  # for a worker to start, on a machine that is busy
WARNING = (
    "Generated programs run in the weak tier: they are bounded in time, memory and "
    "output, but can read your files and, unless you are root, use the network and "
    "change your files. Run only what you would run yourself.")


@dataclass(frozen=True)
class Job:
    """One program and its tests: each case is (arguments, expected), plain values."""

    code: str
    entry_point: str
    cases: Sequence[tuple[Sequence[Any], Any]]


class HarnessError(Exception):
    """The worker died, hung or could not start: nobody's program is to blame."""


class Worker:
    """Host's end of one fork server; starts it when needed and after a failure."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.report: dict[str, Any] = {}

    def start(self) -> None:
        """Starts the interpreter: no site-packages, an empty environment, fixed hashes.

        Raises HarnessError when it does not say hello.
        """
        self.folder = tempfile.mkdtemp(prefix="minicoder-")
        self.control, theirs = socket.socketpair()
        library = {k: v for k, v in os.environ.items() if k == "LD_LIBRARY_PATH"}
        self.process = subprocess.Popen(
            [sys.executable, "-s", "-S", "-B", "-X", "utf8",
             str(Path(__file__).with_name("worker.py")),
             str(theirs.fileno()), self.folder],
            env=library | {"PYTHONHASHSEED": "0"}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()], cwd=self.folder,
            start_new_session=True)  # Ctrl-C is the host's affair
        theirs.close()
        self.control.settimeout(START_S)
        self.report = self.receive()

    def receive(self) -> Any:
        """One frame from the server; HarnessError when it has none to give."""
        try:
            with self.control.makefile("rb") as stream:
                (size,) = struct.unpack(">I", stream.read(4))
                return json.loads(stream.read(size))
        except (OSError, struct.error, ValueError) as error:
            raise HarnessError("the worker has ended") from error

    def stop(self) -> None:
        """Ends the server and removes its folder; the next job starts a new one."""
        if self.process is None:
            return
        self.control.close()  # the server then ends its program and leaves
        try:
            self.process.wait(0.5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
        if os.path.isdir(self.folder):
            remove_tree(self.folder)

    def run(self, request: bytes, limits: Limits) -> Ending:
        """Runs one program to its end; raises HarnessError or OSError."""
        if self.process is None:
            self.start()
        self.control.settimeout(limits.wall_s + PATIENCE_S)
        began = time.monotonic()
        ours, theirs = socket.socketpair()
        reader, writer = os.pipe()
        try:
            try:
                header = json.dumps(asdict(limits)).encode()
                socket.send_fds(self.control, [header], [theirs.fileno(), writer])
            finally:
                theirs.close()
                os.close(writer)
            ours.settimeout(limits.wall_s + PATIENCE_S)
            try:
                ours.sendall(request)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it died at once; the server will say of what
            room = {ours.fileno(): MAX_ANSWERS,
                    reader: int(limits.output_kib * 1024)}
            found, flooded = self.collect(room, began + limits.wall_s + PATIENCE_S)
            status, cpu_ms, peak_kib, stopped_by = self.receive()
            flooded |= drain(found, room)
            return Ending(
                bytes(found[ours.fileno()]), bytes(found[reader]), flooded, status,
                stopped_by, cpu_ms, (time.monotonic() - began) * 1000, peak_kib / 1024)
        finally:
            ours.close()
            os.close(reader)

    def collect(
        self, room: dict[int, int], deadline: float
    ) -> tuple[dict[int, bytearray], bool]:
        """Reads what the program sends until the server reports; stops a flood."""
        found = {descriptor: bytearray() for descriptor in room}
        flooded = False
        watch = select.poll()
        for descriptor in (self.control.fileno(), *room):
            watch.register(descriptor, select.POLLIN)
        while True:
            events = watch.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not events:
                raise HarnessError("the worker hangs")
            ready = [descriptor for descriptor, _ in events]
            for descriptor in ready:
                if descriptor in room:
                    data = read(descriptor)
                    found[descriptor] += data
                    over = len(found[descriptor]) > room[descriptor]
                    if over and not flooded:
                        self.control.sendall(b"K")
                    flooded |= over
                    if over or not data:
                        watch.unregister(descriptor)
            if self.control.fileno() in ready:
                return found, flooded


def read(descriptor: int) -> bytes:
    """What there is to read; nothing at the end, or when the other side has broken."""
    try:
        return os.read(descriptor, 1 << 16)
    except (BlockingIOError, ConnectionResetError):
        return b""


def drain(found: dict[int, bytearray], room: dict[int, int]) -> bool:
    """Reads what the ended program left in its pipes; True when that is too much."""
    for descriptor, most in room.items():
        os.set_blocking(descriptor, False)
        while len(found[descriptor]) <= most and (data := read(descriptor)):
            found[descriptor] += data
    return any(len(found[descriptor]) > most for descriptor, most in room.items())


def refusal(job: Job) -> str:
    """Why a job is not even started; empty when it may be."""
    if not job.cases:
        return "there is no case to test it with"
    if not job.entry_point.isidentifier():
        return f"{job.entry_point!r} cannot be the name of a function"
    try:
        size = len(job.code.encode())
    except UnicodeEncodeError:
        return "the source is not valid Unicode"
    if size > MAX_SOURCE:
        return f"the source has {size} bytes, more than {MAX_SOURCE}"
    return "the source contains a NUL character" if "\0" in job.code else ""


def prepare(job: Job) -> tuple[bytes, list[tuple[str, Any]]]:
    """What the program gets to see, and what the host keeps: calls, expected values."""
    try:
        given = [encode(tuple(arguments)) for arguments, _ in job.cases]
        wanted = [encode(expected) for _, expected in job.cases]
    except TypeError as error:
        raise UserError(
            f"A test of {job.entry_point!r} holds {error}; arguments and expected "
            "results may be None, bool, int, float, str, list, tuple, dict or set."
        ) from None
    calls = [job.entry_point + "(" + ", ".join(map(show, wire["t"])) + ")"
             for wire in given]
    request = pack([job.code, job.entry_point, given])
    return request, list(zip(calls, wanted, strict=True))


class Sandbox:
    """A pool of warm workers that judges programs; a context manager.

    Tier "weak": limits on CPU, wall time, memory, file size, processes and output, an
    empty environment, a folder of its own, and on Linux the end of every process the
    program leaves. When this is root, programs run under an unused user id and without
    network. It is no boundary against a program that wants to harm: as an ordinary
    user it can read, write and signal whatever the user can. On macOS the system
    enforces no memory limit, and a process that leaves its session may survive.
    `report` says what the workers found. Safe to use from several threads.
    """

    tier = "weak"
    _warned = False

    def __init__(
        self, workers: int | None = None, limits: Limits | None = None
    ) -> None:
        mine = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
        self.workers = workers or len(mine(0))
        self.limits = limits or Limits()
        self._all = [Worker() for _ in range(self.workers)]
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()  # the warmest first
        for worker in self._all:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(self.workers, "sandbox")
        self._closed = False
        if not Sandbox._warned:
            Sandbox._warned = True
            warnings.warn(WARNING, RuntimeWarning, stacklevel=2)

    @property
    def report(self) -> dict[str, Any]:
        """Tier, and what the first worker could do: user id, network, orphans."""
        return {"tier": self.tier} | next((w.report for w in self._all if w.report), {})

    def judge(self, job: Job, limits: Limits | None = None) -> Result:
        """Runs one program on its cases; UserError when these are not plain values."""
        if reason := refusal(job):
            return Result("refused", reason, total=len(job.cases), tier=self.tier)
        limits = limits or self.limits
        request, cases = prepare(job)
        for _ in range(2):
            try:
                return settle(cases, limits, self._run(request, limits), self.tier)
            except (HarnessError, OSError) as error:
                failure = str(error)
        return Result("harness_error", failure, total=len(cases), tier=self.tier)

    def judge_many(
        self, jobs: Iterable[Job], limits: Limits | None = None
    ) -> list[Result]:
        """Judges programs on all workers; results in the order of the jobs."""
        return list(self._threads.map(lambda job: self.judge(job, limits), jobs))

    def _run(self, request: bytes, limits: Limits) -> Ending:
        if self._closed:
            raise RuntimeError("the sandbox is closed")
        worker, whole = self._idle.get(), False
        try:
            ending = worker.run(request, limits)
            whole = True
            return ending
        finally:  # also after Ctrl-C: a worker in an unknown state is not used again
            if not whole:
                worker.stop()
            self._idle.put(worker)

    def close(self) -> None:
        """Ends all workers."""
        self._closed = True
        self._threads.shutdown(cancel_futures=True)
        for worker in self._all:
            worker.stop()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
