"""The sandbox's other side: a fork server that runs each program in a child of its own.

The host starts this file as a script in a bare interpreter,

    python -s -S -B -X utf8 worker.py CONTROL FOLDER TIER READABLE...

with the descriptor of a socket, an empty folder, a tier of `confinement.TIERS` and what
programs may read. It imports the standard library only. The worker says hello with one
frame: what isolation it got, or {"refused": why} and ends. Then, job by job, the host
sends one JSON object, the limits and {"role": ...}, with descriptors attached, and the
worker answers [wait status, CPU ms, peak KiB, what stopped it: "", "wall", "memory" or
"host"].
A byte K from the host ends the running program.

| role     | descriptors           | the child runs                        |
| -------- | --------------------- | ------------------------------------- |
| program  | channel, output       | runner.run_program(channel)           |
| tests    | channel, output, peer | tester.run_tests(channel, peer)       |
| commands | channel, output       | commands.run_commands(channel)        |

What a child is to do comes through its channel, which the worker never reads: nothing
of one job is in the memory that the next one inherits.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import child
from commands import run_commands
from common import pack, remove_tree
from confinement import LINUX, TIERS, Weak
from runner import run_program
from tester import run_tests

USUAL_MODULES = (  # imported once here, so that no program pays for them
    "abc bisect collections copy dataclasses datetime decimal enum fractions functools "
    "hashlib heapq io itertools math operator re statistics string tempfile typing"
)
LOOK_S = 0.1  # between two looks at the memory of a program's processes
ROLES: dict[str, Callable[..., None]] = {
    "program": run_program, "tests": run_tests, "commands": run_commands}


class Server:
    """One fork server on a control socket: a job's descriptors in, its end out."""

    def __init__(self, control: socket.socket, cage: Weak) -> None:
        self.control, self.cage = control, cage
        self.wake, self.wake_sender = os.pipe()  # SIGCHLD interrupts `select` with it
        os.set_blocking(self.wake, False)
        os.set_blocking(self.wake_sender, False)
        signal.set_wakeup_fd(self.wake_sender, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Answers jobs until the host closes the socket."""
        self.control.sendall(pack(self.cage.hello))
        while True:
            message, descriptors, _, _ = socket.recv_fds(self.control, 4096, 3)
            if not message:
                return
            message = message.lstrip(b"K")  # a kill that came after the program's end
            if message:
                ending = self.run(json.loads(message), *descriptors)
                self.control.sendall(pack(ending))

    def run(
        self, limits: dict[str, Any], channel: int, output: int, *peer: int
    ) -> list[Any]:
        """Forks one program; gives [wait status, CPU ms, peak KiB, who stopped it].

        OSError when its process ended before it was locked in.
        """
        folder = self.cage.prepare()
        role = limits.get("role", "tests" if peer else "program")
        started, word = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (self.control.detach(), self.wake, self.wake_sender,
                               started):
                os.close(descriptor)
            child.start(ROLES[role], role, output, [channel, *peer], folder, limits,
                        self.cage, word)
        for descriptor in (channel, output, word, *peer):
            os.close(descriptor)
        status, usage, stopped_by = self.wait(
            pid, limits["wall_s"], limits["memory_mib"])
        self.cage.end(pid)
        self.cage.clean(folder)
        said = os.read(started, 1000)
        os.close(started)
        if said != child.LOCKED:
            raise OSError(f"a program was not locked in: {said.decode()}")
        peak = usage.ru_maxrss if LINUX else usage.ru_maxrss >> 10
        return [status, (usage.ru_utime + usage.ru_stime) * 1000, peak, stopped_by]

    def wait(
        self, pid: int, wall_s: float, memory_mib: float
    ) -> tuple[int, resource.struct_rusage, str]:
        """Waits for the program's own end, a limit of all its processes, the host.

        The clock is looked at each time: a program can make the worker wake.
        """
        look = time.monotonic() + LOOK_S
        deadline, stopped_by = time.monotonic() + wall_s, ""
        while True:
            done, status, usage = os.wait4(pid, 0 if stopped_by else os.WNOHANG)
            if done:
                return status, usage, stopped_by
            now = time.monotonic()
            if now >= deadline:
                stopped_by = "wall"
            elif now >= look:
                stopped_by = "memory" * (self.cage.held_mib() > memory_mib)
                look = now + LOOK_S
            if not stopped_by:
                ready = select.select([self.control, self.wake], [], [],
                                      min(deadline, look) - now)[0]
                if self.wake in ready:
                    os.read(self.wake, 4096)
                if self.control in ready:
                    self.control.recv(1)
                    stopped_by = "host"
            if stopped_by:
                os.kill(pid, signal.SIGKILL)


def main(descriptor: str, folder: str, tier: str, *readable: str) -> None:
    """Imports the usual modules, then serves; the folder is gone afterwards."""
    os.environ.clear()
    os.umask(0o022)
    del sys.path[0]  # this file's own folder
    for name in USUAL_MODULES.split():
        __import__(name)
    control = socket.socket(fileno=int(descriptor))
    try:
        cage = TIERS[tier](folder, list(readable))
        gc.collect()
        gc.freeze()
        gc.disable()
        Server(control, cage).serve()
    except OSError as error:
        with suppress(OSError):  # the host may have gone
            control.sendall(pack({"refused": error.strerror or str(error)}))
    finally:
        remove_tree(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
