"""What holds a program in, one class for each tier; the worker makes one of them.

In the worker: `prepare` makes room for a program, `end` and `clean` remove what is left
of it. In the program's own process: `lock` gives up everything, for good.
Standard library only: the worker loads this file by its bare name.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable
from typing import Any

import landlock
import namespaces
import seccomp
from common import remove_tree

LINUX = sys.platform == "linux"
LIBC = ctypes.CDLL(None)
PDEATHSIG, DUMPABLE, SUBREAPER, NO_NEW_PRIVS = 1, 4, 36, 38  # prctl(2)
NEW_IPC, NEW_NET = 0x08000000, 0x40000000  # unshare(2)
PAGE = os.sysconf("SC_PAGE_SIZE")
THROWAWAY_UIDS = range(61184, 65520)  # systemd's range for dynamic users


class Weak:
    """An empty folder, an unused user id where this is root, the end of its orphans."""

    tier = "weak"

    def __init__(self, folder: str, readable: list[str]) -> None:
        self.folder, self.jobs, self.readable = folder, 0, readable
        self.uid = throwaway_uid()
        self.present = 0 if self.uid is not None else own_tasks()
        self.hello: dict[str, Any] = {"tier": self.tier, "uid": self.uid,
                                      "network": "open", "orphans": "may survive"}
        self.enter()

    def enter(self) -> None:
        """Takes from the worker what its programs shall not have; OSError."""
        if self.tier == "weak" and self.uid is None and os.getuid() == 0:
            raise OSError("programs would run as root")
        if LINUX and LIBC.prctl(SUBREAPER, 1, 0, 0, 0) == 0:
            self.hello["orphans"] = "killed"
        if self.uid is not None:
            if LIBC.unshare(NEW_NET | NEW_IPC) == 0:
                self.hello["network"] = "none"
            hold_library()
            os.chmod(self.folder, 0o711)

    def prepare(self) -> str:
        """The scratch folder of the next program."""
        self.jobs += 1
        folder = os.path.join(self.folder, str(self.jobs))
        os.mkdir(folder, 0o700)
        if self.uid is not None:
            os.chown(folder, self.uid, self.uid)
        return folder

    def lock(self, role: str, folder: str, limits: dict[str, float]) -> None:
        """Confines this process, which is the program's; OSError."""
        os.chdir(folder)
        if not LINUX:
            return
        if self.uid is not None:
            become(self.uid)
        namespaces.drop_capabilities()
        LIBC.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
        LIBC.prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # after setuid, which clears it

    def held_mib(self) -> float:
        """What the processes of a program hold together; 0 where it is not known."""
        return 0.0

    def end(self, pid: int, patience_s: float = 5.0) -> None:
        """Kills the program's group, then every orphan handed to the worker."""
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

    def clean(self, folder: str) -> None:
        """Removes the scratch folder."""
        remove_tree(folder)


class Landlock(Weak):
    """No privilege needed: Landlock for files, seccomp for the rest; no processes."""

    tier = "landlock"

    def enter(self) -> None:
        """Opens what programs may read, while this is still allowed; OSError."""
        self.version = landlock.abi()
        if not self.version:
            raise OSError("this kernel has no Landlock, or it is not switched on")
        self.opened = opened(self.readable + [f"/dev/{name}" for name in
                                              ("zero", "random", "urandom")])
        self.devices = opened(["/dev/null", "/dev/full"])
        self.filters = {forks: seccomp.build(forks) for forks in (False, True)}
        super().enter()
        self.hello |= {"landlock": self.version, "network": "none"}

    def lock(self, role: str, folder: str, limits: dict[str, float]) -> None:
        """Confines this process; only the role "commands" may start others."""
        super().lock(role, folder, limits)
        landlock.restrict(self.opened, self.devices + opened([folder]), self.version)
        seccomp.install(self.filters[role == "commands"])
        if role != "commands":
            seccomp.install(seccomp.signals_to(os.getpid()))


class Namespaces(Weak):
    """A machine of its own for the worker, a file system of its own for each program.

    The worker is process 1 there: no program can signal it, and what a program leaves
    ends at one word of it. It alone has privileges, and they mean nothing outside.
    """

    tier = "namespaces"

    def enter(self) -> None:
        """Moves this worker into its namespaces; another process waits outside."""
        # What is readable may lie in /tmp; a scratch there would hide it.
        hidden = any(path.startswith("/tmp/") for path in self.readable)
        self.room = "/room" if hidden else "/tmp"
        self.filter = seccomp.build(forks=True)
        self.hello["pid"] = namespaces.enter(self.uid, self.inside)
        self.owner = os.getuid() if self.uid is None else self.uid
        self.alone()

    def inside(self) -> None:
        """The first steps of process 1: ends with its parent, replaces its files."""
        LIBC.prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        namespaces.view(self.folder, self.readable, self.room)

    def alone(self) -> None:
        """Notes what holds for a worker that is process 1."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # process 1 ignores the default
        LIBC.prctl(DUMPABLE, 0, 0, 0, 0)  # programs may have the same user id
        self.present = 1 if self.uid is None else 0  # this worker
        self.hello |= {"network": "none", "orphans": "killed"}

    def prepare(self) -> str:
        """The folder that will be the program's alone once it is locked in."""
        return self.room

    def lock(self, role: str, folder: str, limits: dict[str, float]) -> None:
        """Confines this process; only the role "commands" sees its processes."""
        namespaces.scratch(folder, limits["disk_mib"], self.owner)
        if role != "commands" and os.path.exists("/proc/self"):
            namespaces.detach("/proc")
        super().lock(role, folder, limits)
        seccomp.install(self.filter)

    def held_mib(self) -> float:
        """Beyond what they have from the worker; what two share counts twice."""
        pages = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/statm") as file:
                    pages.append(int(file.read().split()[1]))  # resident ones
            except OSError:  # it has just ended
                continue
        mine = pages[0] if pages else 0  # the worker is process 1
        return sum(max(0, n - mine) for n in pages) * PAGE / (1 << 20)

    def end(self, pid: int, patience_s: float = 5.0) -> None:
        """Kills every other process here, at once and without a race; reaps them."""
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            while True:
                os.waitpid(-1, 0)
        except ChildProcessError:
            pass

    def clean(self, folder: str) -> None:
        """Nothing to do: the scratch ended with the program's last process."""


class Bubblewrap(Namespaces):
    """The same, made by bwrap, which some systems allow where they refuse it to us.

    The worker has no privileges there, so programs share one scratch file system, and
    Landlock, where there is some, hides /proc from them.
    """

    tier = "bwrap"

    def enter(self) -> None:
        """Already inside: bwrap has started this interpreter as process 1."""
        if os.getpid() != 1:
            raise OSError("bwrap has made no process namespace")
        if os.getuid() == 0:
            raise OSError("programs would run as root there")
        LIBC.prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # when bwrap itself is killed
        self.uid, self.version = None, landlock.abi()
        self.filter = seccomp.build(forks=True)
        self.alone()

    prepare, clean = Weak.prepare, Weak.clean

    def lock(self, role: str, folder: str, limits: dict[str, float]) -> None:
        """Confines this process."""
        Weak.lock(self, role, folder, limits)
        if self.version and role != "commands":
            landlock.restrict(opened(self.readable + ["/dev/zero", "/dev/urandom"]),
                              opened(["/dev/null", folder]), self.version)
        seccomp.install(self.filter)


TIERS = {kind.tier: kind for kind in (Namespaces, Bubblewrap, Landlock, Weak)}


def opened(paths: Iterable[str]) -> list[int]:
    """Descriptors of the paths that exist, good for naming them and nothing else."""
    return [os.open(p, os.O_PATH | os.O_CLOEXEC) for p in paths if os.path.exists(p)]


def children() -> list[int]:
    """Direct children of this process (Linux), adopted orphans included."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children") as listing:
            return [int(pid) for pid in listing.read().split()]
    except OSError:
        return []


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


def become(uid: int) -> None:
    """Turns root into another user, for good."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def throwaway_uid() -> int | None:
    """A user id for programs when this is root and may change it, else None."""
    if not LINUX or os.getuid() != 0:
        return None
    uid = THROWAWAY_UIDS[os.getpid() % len(THROWAWAY_UIDS)]
    if (pid := os.fork()) == 0:
        try:
            become(uid)
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
