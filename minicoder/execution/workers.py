"""Worker processes as the host sees them, and what their programs send.

A seat is a place for one job at a time. It has two fork servers (`worker.py`): one for
programs, one for test programs. A server for programs never sees a test.
"""

from __future__ import annotations

import json
import math
import os
import select
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any

from minicoder.execution.common import encode, pack, remove_tree
from minicoder.execution.isolation import command
from minicoder.execution.verdict import Ending, Limits, settle, settle_tests

MAX_ANSWERS = 32 << 20  # bytes of all answers of a program
PATIENCE_S = 10.0  # beyond the wall limit: then the worker itself hangs
START_S = 60.0  # for a worker to start, on a machine that is busy
LEAVE_S = 2.0  # for a worker to end what its program has left, and itself
GRACE_S = 2.0  # for a program to leave when its tests have ended, or the reverse
CHECK_EVERY = 1000  # jobs
KNOWN = "def right(n):\n    return n + 1\n"  # a program that must pass


class HarnessError(Exception):
    """The worker died, hung or could not start: nobody's program is to blame."""


class Worker:
    """Host's end of one fork server; starts it when needed and after a failure."""

    def __init__(self, tier: str) -> None:
        self.tier = tier
        self.process: subprocess.Popen[bytes] | None = None
        self.report: dict[str, Any] = {}

    def start(self) -> None:
        """Starts the interpreter: no site-packages, an empty environment, fixed hashes.

        Raises HarnessError when it does not say hello.
        """
        self.folder = tempfile.mkdtemp(prefix="minicoder-")
        self.control, theirs = socket.socketpair()
        library = {k: v for k, v in os.environ.items() if k == "LD_LIBRARY_PATH"}
        try:
            self.process = subprocess.Popen(
                command(self.tier, theirs.fileno(), self.folder),
                env=library | {"PYTHONHASHSEED": "0"}, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()], cwd=self.folder,
                start_new_session=True)  # Ctrl-C is the host's affair
        except OSError:
            self.control.close()
            os.rmdir(self.folder)
            raise
        finally:
            theirs.close()
        self.control.settimeout(START_S)
        self.report = self.receive()

    def receive(self) -> Any:
        """One frame from the server; HarnessError when it has none to give."""
        try:
            with self.control.makefile("rb") as stream:
                (size,) = struct.unpack(">I", stream.read(4))
                said = json.loads(stream.read(size))
        except (OSError, struct.error, ValueError) as error:
            raise HarnessError("the worker has ended") from error
        if "refused" in said:
            raise HarnessError(f"the worker was refused: {said['refused']}")
        return said

    def stop(self) -> None:
        """Ends the server and removes its folder; the next job starts a new one."""
        if self.process is None:
            return
        self.control.close()  # the server then ends its program and leaves
        try:
            self.process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
        if os.path.isdir(self.folder):
            remove_tree(self.folder)

    def begin(
        self, role: str, request: bytes, limits: Limits,
        peer: socket.socket | None = None,
    ) -> Run:
        """Starts one process and sends its request; raises HarnessError or OSError."""
        if self.process is None:
            self.start()
        self.control.settimeout(limits.wall_s + PATIENCE_S)
        run, theirs, writer = Run.opened(self, limits)
        try:
            try:
                header = json.dumps(asdict(limits) | {"role": role}).encode()
                given = [theirs.fileno(), writer] + ([peer.fileno()] if peer else [])
                socket.send_fds(self.control, [header], given)
            finally:
                theirs.close()
                os.close(writer)
            run.channel.settimeout(limits.wall_s + PATIENCE_S)
            try:
                run.channel.sendall(request)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it died at once; the server will say of what
        except BaseException:
            run.close()
            raise
        return run


class Run:
    """One process in a worker: what it may send and what it has sent."""

    def __init__(self, worker: Worker, channel: socket.socket, output: int,
                 limits: Limits) -> None:
        self.worker, self.channel, self.output = worker, channel, output
        self.room = {channel.fileno(): MAX_ANSWERS,
                     output: int(limits.output_kib * 1024)}
        self.found = {descriptor: bytearray() for descriptor in self.room}
        self.flooded, self.began = False, time.monotonic()
        self.ending: Ending | None = None

    @classmethod
    def opened(cls, worker: Worker, limits: Limits) -> tuple[Run, socket.socket, int]:
        """A run with the other ends of its channel and of its output."""
        ours, theirs = socket.socketpair()
        reader, writer = os.pipe()
        return cls(worker, ours, reader, limits), theirs, writer

    def close(self) -> None:
        """Gives the descriptors back."""
        self.channel.close()
        os.close(self.output)

    def give_channel(self) -> socket.socket:
        """The channel, for another process to use in the host's place."""
        del self.room[self.channel.fileno()]
        self.channel.setblocking(True)  # the process that gets it shares this state
        return self.channel

    def stop(self) -> None:
        """Has the process killed."""
        self.worker.control.sendall(b"K")

    def feed(self, descriptor: int) -> bool:
        """Reads what has come; False when no more is wanted. Stops a flood."""
        data = read(descriptor)
        self.found[descriptor] += data
        over = len(self.found[descriptor]) > self.room[descriptor]
        if over and not self.flooded:
            self.flooded = True
            self.stop()
        return bool(data) and not over

    def finish(self) -> None:
        """Takes the server's report and what the ended process left in its pipes."""
        status, cpu_ms, peak_kib, stopped_by = self.worker.receive()
        for descriptor, most in self.room.items():
            os.set_blocking(descriptor, False)
            found = self.found[descriptor]
            while len(found) <= most and (data := read(descriptor)):
                found += data
            self.flooded |= len(found) > most
        answers, output = self.found.values()
        self.ending = Ending(
            bytes(answers), bytes(output), self.flooded, status, stopped_by, cpu_ms,
            (time.monotonic() - self.began) * 1000, peak_kib / 1024)


def read(descriptor: int) -> bytes:
    """What has come in, at most 64 KiB; empty at the end and when there is nothing."""
    try:
        return os.read(descriptor, 1 << 16)
    except (BlockingIOError, ConnectionResetError):
        return b""


def gather(runs: Sequence[Run], wall_s: float | int) -> list[Ending]:
    """Reads what processes send until all have ended; then how they did.

    When one has ended the others have a moment to do so by themselves.
    """
    owner = {fd: run for run in runs
             for fd in (run.worker.control.fileno(), *run.room)}
    watch, watched = select.poll(), set(owner)
    for descriptor in owner:
        watch.register(descriptor, select.POLLIN)
    deadline, stop_at = time.monotonic() + wall_s + PATIENCE_S, math.inf
    while any(run.ending is None for run in runs):
        rest = min(deadline, stop_at) - time.monotonic()
        events = watch.poll(max(0.0, rest) * 1000)
        if not events and time.monotonic() >= deadline:
            raise HarnessError("the worker hangs")
        if not events:
            stop_at = math.inf
            for run in runs:
                if run.ending is None:
                    run.stop()
        for descriptor, _ in events:
            run = owner[descriptor]
            if run.ending is not None:
                continue
            if descriptor == run.worker.control.fileno():
                run.finish()
                stop_at = time.monotonic() + GRACE_S
                done = {fd for fd in watched if owner[fd] is run}
            else:
                done = set() if run.feed(descriptor) else {descriptor}
            for descriptor in done:
                watch.unregister(descriptor)
            watched -= done
    return [run.ending for run in runs if run.ending is not None]


class Seat:
    """A place for one job at a time: a server for programs and one for tests."""

    def __init__(self, tier: str) -> None:
        self.programs, self.tests = Worker(tier), Worker(tier)
        self.jobs = 0

    def run(self, role: str, request: bytes, limits: Limits) -> Ending:
        """Runs one process to its end; raises HarnessError or OSError."""
        run = self.programs.begin(role, request, limits)
        with ExitStack() as stack:
            stack.callback(run.close)
            return gather([run], limits.wall_s)[0]

    def test(
        self, program: bytes | None, tests: bytes, limits: Limits
    ) -> tuple[Ending | None, Ending]:
        """Runs a program and its tests side by side, or the tests alone.

        The tests may use twice the time, for they wait for the program, and no less
        memory than usual: its answers arrive there.
        """
        ample = replace(
            limits, cpu_s=2 * limits.cpu_s + 1, wall_s=limits.wall_s + PATIENCE_S / 2,
            memory_mib=max(limits.memory_mib, Limits.memory_mib))
        with ExitStack() as stack:
            runs, peer = [], None
            if program is not None:
                runs.append(self.programs.begin("program", program, limits))
                stack.callback(runs[0].close)
                peer = runs[0].give_channel()
            else:
                ample, (peer, other) = limits, socket.socketpair()
                stack.callback(peer.close)
                other.close()
            runs.append(self.tests.begin("tests", tests, ample, peer))
            stack.callback(runs[-1].close)
            peer.close()
            endings = gather(runs, ample.wall_s)
        return endings[0] if program is not None else None, endings[-1]

    def check(self, *endings: Ending | None) -> None:
        """Has a known right program judged now and then and after each kill.

        HarnessError when it does not pass: the verdict before it is then worth nothing.
        """
        self.jobs += 1
        if self.jobs < CHECK_EVERY and not any(e and e.stopped_by for e in endings):
            return
        self.jobs = 0
        limits = Limits()
        if self.tests.process is None:
            request = pack([KNOWN, "right", [encode((41,))]])
            ending = self.run("program", request, limits)
            result = settle([("right(41)", 42)], limits, ending, "")
        else:
            tests = ["assert right(41) == 42", "right", "", "mbpp", "apart", ""]
            result = settle_tests(*self.test(
                pack([KNOWN, "right", None]), pack(tests), limits), limits, "")
        if result.verdict != "pass":
            raise HarnessError(f"a right program did not pass: {result.message}")

    def stop(self) -> None:
        """Ends both servers; the next job starts new ones."""
        self.programs.stop()
        self.tests.stop()
