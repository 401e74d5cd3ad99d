"""Runs commands one after the other: compilers, and the programs that they make.

Runs in a process of the sandbox, the child of `child.py`; standard library only. The
commands share its scratch folder and nothing else: its channel is closed to them.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any, NoReturn

from child import limit
from common import pack, unpack

DUMPABLE = 4  # prctl(2): without it nobody may look into this process through /proc
CHUNK = 1 << 16
MANY = 4096  # descriptors
OUT_OF_TIME = (signal.SIGPROF, signal.SIGXCPU, signal.SIGKILL)


@dataclass
class Pipes:
    """What goes in and out of one running command; `room` is the bytes it may write."""

    stdin: bytes
    room: int
    ends: dict[int, int] = field(default_factory=dict)  # ours: place in 0, 1, 2
    found: dict[int, bytearray] = field(
        default_factory=lambda: {1: bytearray(), 2: bytearray()})

    def move(self, end: int) -> bool:
        """Moves what can be moved through one pipe; False when it is done."""
        place = self.ends[end]
        try:
            if place == 0:
                sent = os.write(end, self.stdin[:CHUNK])
                self.stdin = self.stdin[sent:]
                return bool(self.stdin)
            data = os.read(end, CHUNK)
        except BlockingIOError:
            return True
        except OSError:  # it does not read what it is given
            return False
        self.found[place] += data
        return bool(data)

    def close(self, end: int) -> None:
        """Closes one pipe."""
        del self.ends[end]
        os.close(end)

    @property
    def flooded(self) -> bool:
        """Whether the command wrote more than it may on one of its pipes."""
        return any(len(data) > self.room for data in self.found.values())


def become(step: dict[str, Any], here: str, ends: list[int]) -> NoReturn:
    """Turns a fresh fork into the command, within its limits."""
    try:
        os.setsid()
        for place, end in enumerate(ends):
            os.dup2(end, place)
        os.closerange(3, MANY)  # the channel above all
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python had it ignored
        signal.setitimer(signal.ITIMER_PROF, step["cpu_s"])  # stays through execve
        limit("RLIMIT_CPU", int(step["cpu_s"]) + 1, int(step["cpu_s"]) + 2)
        limit("RLIMIT_AS", step["space"])
        limit("RLIMIT_FSIZE", step["file"])
        environment = {name: value.replace("{here}", here)
                       for name, value in step["environment"].items()}
        os.execve(step["argv"][0], step["argv"], environment)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(127)


def watch(pid: int, pipes: Pipes, wall_s: float, wake: int) -> tuple[Any, ...]:
    """Follows a command to its end or a limit: (status, usage, why it was stopped)."""
    deadline, stopped = time.monotonic() + wall_s, ""
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    for end, place in pipes.ends.items():
        os.set_blocking(end, False)
        poll.register(end, select.POLLIN if place else select.POLLOUT)
    while True:
        done, status, usage = os.wait4(pid, 0 if stopped else os.WNOHANG)
        if done:
            break
        rest = max(0.0, deadline - time.monotonic())
        ready = [end for end, _ in poll.poll(rest * 1000 + 1)]
        for end in ready:
            if end == wake:
                os.read(wake, CHUNK)
            elif not pipes.move(end):
                poll.unregister(end)
                if pipes.ends[end] == 0:
                    pipes.close(end)  # the end of its input
        if not rest or pipes.flooded:
            stopped = "wall" if not rest else "output"
            os.kill(pid, signal.SIGKILL)
    try:
        os.killpg(pid, signal.SIGKILL)  # what it left behind
    except (ProcessLookupError, PermissionError):
        pass
    for end, place in pipes.ends.items():  # what it wrote last
        while place and not pipes.flooded and pipes.move(end) and select.select(
                [end], [], [], 0)[0]:
            pass
    return status, usage, stopped or ("output" if pipes.flooded else "")


def perform(step: dict[str, Any], here: str, wake: int) -> list[Any]:
    """Runs one command.

    Gives [status, why stopped, CPU ms, wall ms, peak KiB, stdout, stderr], the texts
    as Latin-1. The peak is at least this interpreter's own, which the fork inherits.
    """
    began = time.monotonic()
    pairs = [os.pipe() for _ in range(3)]
    theirs = [pairs[0][0], pairs[1][1], pairs[2][1]]
    ours = [pairs[0][1], pairs[1][0], pairs[2][0]]
    pid = os.fork()
    if pid == 0:
        become(step, here, theirs)
    for end in theirs:
        os.close(end)
    pipes = Pipes(step["stdin"].encode("latin-1"), step["room"],
                  {end: place for place, end in enumerate(ours)})
    if not pipes.stdin:
        pipes.close(ours[0])
    try:
        status, usage, stopped = watch(pid, pipes, step["wall_s"], wake)
    finally:
        for end in list(pipes.ends):
            pipes.close(end)
    peak = usage.ru_maxrss if sys.platform == "linux" else usage.ru_maxrss >> 10
    texts = [bytes(pipes.found[n][:pipes.room]).decode("latin-1") for n in (1, 2)]
    return [status, stopped, (usage.ru_utime + usage.ru_stime) * 1000,
            (time.monotonic() - began) * 1000, peak, *texts]


def run_commands(channel: socket.socket) -> None:
    """Reads files and steps, then reports where it is and how each step ended.

    The first step that must succeed and does not is the last, and so is one that used
    up its time. A tool that is not there is reported by its name alone.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DUMPABLE, 0, 0, 0, 0)
    with channel.makefile("rb") as stream:
        files, steps = unpack(stream)
    here = os.getcwd()
    for name, text in files.items():
        with open(name, "wb") as file:
            file.write(text.encode("latin-1"))
    wake, sender = os.pipe()
    for end in (wake, sender):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    channel.sendall(pack(here))
    for step in steps:
        tool = step["argv"][0]
        if os.path.isabs(tool) and not os.access(tool, os.X_OK):
            channel.sendall(pack(tool))
            return
        report = perform(step, here, wake)
        channel.sendall(pack(report))
        if step["must"] and report[0] or report[1] or report[0] & 127 in OUT_OF_TIME:
            return
