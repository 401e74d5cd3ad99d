"""Files and network taken away without any privilege: Landlock (Linux 5.13 and later).

Standard library only: the worker loads this file by its bare name.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

CREATE, ADD, RESTRICT = 444, 445, 446  # the same numbers on every architecture
VERSION, PATH_BENEATH = 1, 1
EXECUTE, WRITE, READ, LIST = 1, 2, 4, 8  # LANDLOCK_ACCESS_FS_*
TRUNCATE, IOCTL = 1 << 14, 1 << 15
RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
NETWORK, SCOPES = 4, 6  # the first ABI that knows TCP; signals and abstract sockets
LIBC = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The version of Landlock that this kernel enforces; 0 for none."""
    return max(0, LIBC.syscall(CREATE, None, ctypes.c_size_t(0), VERSION))


def all_rights(version: int) -> int:
    """Every right over files that this version can take away."""
    return max(rights for first, rights in RIGHTS.items() if first <= version)


def restrict(readable: Iterable[int], writable: Iterable[int], version: int) -> None:
    """Leaves this process only what is beneath these open files and folders; OSError.

    `readable` may be read and executed; in `writable` everything is allowed. No TCP;
    no signal to, and no abstract socket of, a process outside. The files are closed.
    Needs no_new_privs.
    """
    handled = all_rights(version)
    sizes = (8, 16, 24)[(version >= NETWORK) + (version >= SCOPES)]
    attributes = struct.pack("=QQQ", handled, 3, 3)[:sizes]
    rules = LIBC.syscall(CREATE, attributes, ctypes.c_size_t(sizes), 0)
    if rules < 0:
        raise OSError(ctypes.get_errno(), "no Landlock")
    for opened, allowed in [*((f, EXECUTE | READ | LIST) for f in readable),
                            *((f, handled) for f in writable)]:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            allowed &= EXECUTE | WRITE | READ | TRUNCATE | IOCTL
        rule = struct.pack("=Qi", allowed & handled, opened)
        if LIBC.syscall(ADD, rules, PATH_BENEATH, rule, 0):
            raise OSError(ctypes.get_errno(), "a rule of Landlock was refused")
        os.close(opened)
    if LIBC.syscall(RESTRICT, rules, 0):
        raise OSError(ctypes.get_errno(), "no Landlock")
    os.close(rules)
