"""A small machine of its own: namespaces, and a view of the files that programs need.

Standard library only: the worker loads this file by its bare name.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
from collections.abc import Callable, Iterable

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine())
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(platform.machine())
MOUNT_SETATTR = 442
NEW_MOUNTS = 0x00020000
# user, pid, mount, network, IPC, host name, control groups
NEW_ALL = 0x10000000 | 0x20000000 | NEW_MOUNTS | 0x40000000 | 0x0E000000
READ_ONLY, NO_SETUID, NO_DEVICES, NO_EXEC = 1, 2, 4, 8  # mount(2), mount_setattr(2)
BIND, RECURSIVE, PRIVATE, DETACH = 4096, 16384, 1 << 18, 2
AT_HERE, AT_RECURSIVE = -100, 0x8000
DEVICES = ("null", "zero", "full", "random", "urandom")
OVERFLOW = 65534  # "nobody": what an id becomes that has no name here


def check(result: int, what: str) -> int:
    """Gives the result back; OSError when the call has failed."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """mount(2); OSError."""
    check(LIBC.mount(source.encode(), target.encode(), kind.encode(),
                     ctypes.c_ulong(flags), options.encode()), f"mount {target}")


def detach(target: str) -> None:
    """umount2(2), also while it is in use; OSError."""
    check(LIBC.umount2(target.encode(), DETACH), f"umount {target}")


def protect(target: str, flags: int, recursive: bool = True) -> None:
    """Sets mount flags, also of what is mounted beneath (Linux 5.12); OSError."""
    attributes = struct.pack("=QQQQ", flags, 0, 0, 0)
    check(LIBC.syscall(MOUNT_SETATTR, AT_HERE, target.encode(),
                       AT_RECURSIVE if recursive else 0, attributes,
                       ctypes.c_size_t(len(attributes))), f"protect {target}")


def clone() -> int:
    """fork(2) into new namespaces: 0 in the child, else its process id; OSError.

    Around the bare call Python is told, as around its own fork.
    """
    python = ctypes.pythonapi
    system = ctypes.PyDLL(None, use_errno=True).syscall  # keeps the interpreter's lock
    flags = ctypes.c_ulong(NEW_ALL | signal.SIGCHLD)
    python.PyOS_BeforeFork()
    pid = system(CLONE, flags, None, None, None, None)
    if pid == 0:
        python.PyOS_AfterFork_Child()
    else:
        python.PyOS_AfterFork_Parent()
    return check(pid, "new namespaces")


def write_maps(pid: int, lent: int | None) -> None:
    """Names the ids of a process that is new in its user namespace; OSError.

    Root stays root inside, where it means nothing outside, and `lent` comes along for
    the programs; everybody else, and a root that can lend none, becomes one plain id.
    """
    for kind, mine in (("uid", os.geteuid()), ("gid", os.getegid())):
        lines = f"0 0 1\n{lent} {lent} 1\n" if lent is not None else (
            f"{mine or OVERFLOW} {mine} 1\n")
        if kind == "gid" and lent is None:
            with open(f"/proc/{pid}/setgroups", "w") as file:
                file.write("deny")
        with open(f"/proc/{pid}/{kind}_map", "w") as file:
            file.write(lines)


def enter(lent: int | None, prepare: Callable[[], None]) -> int:
    """Returns in a process that is number 1 of new namespaces; OSError.

    Gives the number that this process has outside. The process that called stays there
    until that one ends, and ends with it. `prepare` runs inside, before anything counts
    as done; its OSError is raised in the process that called.
    """
    ready, go = os.pipe()
    back, word = os.pipe()
    pid = clone()
    if pid == 0:
        os.close(go)
        os.close(back)
        number = os.read(ready, 20)
        try:
            prepare()
        except OSError as error:
            os.write(word, f"{error.errno} {error.strerror}".encode())
            os._exit(1)
        os.close(word)
        os.close(ready)
        return int(number)
    os.close(word)
    try:
        write_maps(pid, lent)
        os.write(go, str(pid).encode())
        if said := os.read(back, 1000).decode():
            code, _, text = said.partition(" ")
            raise OSError(int(code), text)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    raise SystemExit(os.waitpid(pid, 0)[1] != 0)


def view(place: str, readable: Iterable[str], room: str = "/tmp") -> None:
    """Replaces the files this process sees; OSError.

    Left are `readable`, read-only, a few devices, the processes of this namespace under
    /proc, and `room`, which is empty. `place` is any empty folder.
    """
    mount("none", "/", "none", RECURSIVE | PRIVATE)
    mount("tmpfs", place, "tmpfs", NO_SETUID | NO_DEVICES, "mode=755,size=1m")
    for folder in ("/proc", room, "/dev"):
        os.mkdir(place + folder, 0o755)
    for path in readable:
        show(path, place)
    for name in DEVICES:
        show(f"/dev/{name}", place)
    for name, target in (("shm", room), ("fd", "/proc/self/fd")):
        os.symlink(target, f"{place}/dev/{name}")
    mount_proc(f"{place}/proc")
    os.chdir(place)
    check(LIBC.syscall(PIVOT_ROOT, b".", b"."), "pivot_root")
    detach(".")
    os.chdir("/")
    protect("/", READ_ONLY, recursive=False)


def show(path: str, place: str) -> None:
    """Binds one file or folder, read-only, at the same path beneath `place`."""
    target = place + path
    os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT))
    mount(path, target, "none", BIND | RECURSIVE)
    device = path.startswith("/dev/")
    protect(target, READ_ONLY | NO_SETUID | (0 if device else NO_DEVICES))


def mount_proc(target: str) -> None:
    """Mounts the processes of this namespace, read-only, with no namespaces beneath.

    In a container that masks parts of /proc the kernel refuses; it then stays empty.
    """
    try:
        mount("proc", target, "proc", NO_SETUID | NO_DEVICES | NO_EXEC)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES):
            raise
        return
    with open(f"{target}/sys/user/max_user_namespaces", "w") as file:
        file.write("0")
    protect(target, READ_ONLY)


def scratch(place: str, mebibytes: float, owner: int) -> None:
    """Gives this process a folder of its own, bounded, gone with its last process."""
    check(LIBC.unshare(NEW_MOUNTS), "unshare")
    mount("tmpfs", place, "tmpfs", NO_SETUID | NO_DEVICES,
          f"mode=700,uid={owner},gid={owner},nr_inodes=4096,"
          f"size={int(mebibytes * 1024)}k")


def drop_capabilities() -> None:
    """Gives up every privilege of this process; OSError."""
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    check(LIBC.capset(header, bytes(24)), "capset")
