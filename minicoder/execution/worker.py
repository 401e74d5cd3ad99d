"""The sandbox's other side: a fork server that runs each program in a child of its own.

`sandbox.py` starts this file as a script in a bare interpreter; it imports the standard
library only. It never meets an expected result: code and arguments travel from the host
to the child through a socket that only the child reads, plain values come back on it.
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
from typing import Any

import child
from child import LIBC, LINUX
from common import pack, remove_tree

USUAL_MODULES = (  # imported once here, so that no program pays for them
    "abc bisect collections copy dataclasses datetime decimal enum fractions functools "
    "hashlib heapq io itertools math operator re statistics string tempfile typing"
)
SUBREAPER, NEW_IPC, NEW_NET = 36, 0x08000000, 0x40000000  # prctl(2), unshare(2)
THROWAWAY_UIDS = range(61184, 65520)  # systemd's range for dynamic users


class Server:
    """One fork server on a control socket: a job's descriptors in, its end out."""

    def __init__(self, control: socket.socket, folder: str) -> None:
        self.control, self.folder, self.jobs = control, folder, 0
        self.uid = throwaway_uid()
        self.present = 0 if self.uid is not None else own_tasks()
        self.wake, self.wake_sender = os.pipe()  # SIGCHLD interrupts `select` with it
        os.set_blocking(self.wake, False)
        os.set_blocking(self.wake_sender, False)
        signal.set_wakeup_fd(self.wake_sender, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.hello = {"uid": self.uid, "network": "open", "orphans": "may survive"}
        if LINUX and LIBC.prctl(SUBREAPER, 1, 0, 0, 0) == 0:
            self.hello["orphans"] = "killed"
        if self.uid is not None and LIBC.unshare(NEW_NET | NEW_IPC) == 0:
            self.hello["network"] = "none"

    def serve(self) -> None:
        """Answers jobs until the host closes the socket."""
        self.control.sendall(pack(self.hello))
        while True:
            message, descriptors, _, _ = socket.recv_fds(self.control, 4096, 2)
            if not message:
                return
            message = message.lstrip(b"K")  # a kill that came after the program's end
            if message:
                ending = self.run(json.loads(message), *descriptors)
                self.control.sendall(pack(ending))

    def run(self, limits: dict[str, float], channel: int, output: int) -> list[Any]:
        """Forks one program; gives [wait status, CPU ms, peak KiB, who stopped it]."""
        self.jobs += 1
        folder = os.path.join(self.folder, str(self.jobs))
        os.mkdir(folder, 0o700)
        if self.uid is not None:
            os.chown(folder, self.uid, self.uid)
        processes = int(limits["processes"]) + self.present
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (self.control.detach(), self.wake, self.wake_sender):
                os.close(descriptor)
            child.start(channel, output, folder, limits, processes, self.uid)
        os.close(channel)
        os.close(output)
        status, usage, stopped_by = self.wait(pid, limits["wall_s"])
        end_all(pid)
        remove_tree(folder)
        peak = usage.ru_maxrss if LINUX else usage.ru_maxrss >> 10
        return [status, (usage.ru_utime + usage.ru_stime) * 1000, peak, stopped_by]

    def wait(self, pid: int, wall_s: float) -> tuple[int, resource.struct_rusage, str]:
        """Waits for the program's own end, the wall limit, or the host's word."""
        deadline, stopped_by = time.monotonic() + wall_s, ""
        while True:
            done, status, usage = os.wait4(pid, 0 if stopped_by else os.WNOHANG)
            if done:
                return status, usage, stopped_by
            rest = max(0.0, deadline - time.monotonic())
            ready = select.select([self.control, self.wake], [], [], rest)[0]
            if self.wake in ready:
                os.read(self.wake, 4096)
            if not ready or self.control in ready:
                stopped_by = "host" if ready else "wall"
                if ready:
                    self.control.recv(1)
                os.kill(pid, signal.SIGKILL)


def children() -> list[int]:
    """Direct children of this process (Linux), adopted orphans included."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children") as listing:
            return [int(pid) for pid in listing.read().split()]
    except OSError:
        return []


def end_all(pid: int, patience_s: float = 5.0) -> None:
    """Kills the program's group, then every orphan that was handed to this process."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        for orphan in children():
            os.kill(orphan, signal.SIGKILL)
    raise SystemExit("sandbox: a program's processes could not be ended")


def own_tasks() -> int:
    """Tasks this user already has: RLIMIT_NPROC counts them all."""
    count = 0
    for name in os.listdir("/proc") if LINUX else ():
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            continue  # it has just ended
    return count


def throwaway_uid() -> int | None:
    """A user id for programs when this is root and may change it, else None."""
    if not LINUX or os.getuid() != 0:
        return None
    uid = THROWAWAY_UIDS[os.getpid() % len(THROWAWAY_UIDS)]
    if (pid := os.fork()) == 0:
        try:
            child.become(uid)
        except OSError:
            os._exit(1)
        os._exit(0)
    return uid if os.waitpid(pid, 0)[1] == 0 else None


def hold_library() -> None:
    """Reaches the standard library through open folders.

    It may lie in a home that only root can enter; a descriptor needs no way there.
    """
    held = {p: f"/proc/self/fd/{os.open(p, os.O_RDONLY)}" for p in sys.path
            if os.path.isdir(p)}
    sys.path[:] = held.values()
    for module in list(sys.modules.values()):
        for place, path in enumerate(getattr(module, "__path__", ())):
            for root in held:
                if path.startswith(root + "/"):
                    module.__path__[place] = held[root] + path[len(root):]


def main(descriptor: int, folder: str) -> None:
    """Imports the usual modules, then serves; the folder is gone afterwards."""
    os.environ.clear()
    del sys.path[0]  # this file's own folder
    for name in USUAL_MODULES.split():
        __import__(name)
    server = Server(socket.socket(fileno=descriptor), folder)
    if server.uid is not None:
        hold_library()
        os.chmod(folder, 0o711)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        server.serve()
    finally:
        remove_tree(folder)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
