"""System calls that no program needs, refused by the kernel: a seccomp filter.

A deny-list, so that ordinary programs and compilers work: whatever reaches other
processes, mounts, namespaces, the network, memory that belongs to no process, keys, the
clock, or doors of the kernel with a record of holes (io_uring, bpf, userfaultfd, perf).
Standard library only: the worker loads this file by its bare name.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

MACHINE = platform.machine()
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
SUPPORTED = MACHINE in ARCHITECTURES
# name: (number on x86_64, number on aarch64); the second is linux's generic table
REFUSED = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "process_mrelease": (448, 448), "kcmp": (312, 272), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140), "ioprio_set": (251, 30),
    "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
    "sched_setattr": (314, 274), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "move_mount": (429, 429),
    "open_tree": (428, 428), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "unshare": (272, 97), "setns": (308, 268), "shmget": (29, 194),
    "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "socket": (41, 198), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "fanotify_init": (300, 262), "swapon": (167, 224),
    "swapoff": (168, 225), "reboot": (169, 142), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "syslog": (103, 116),
    "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "sethostname": (170, 161), "setdomainname": (171, 162), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "lookup_dcookie": (212, 18), "vhangup": (153, 58), "personality": (135, 92),
}
ONLY_X86 = {"iopl": 172, "ioperm": 173, "modify_ldt": 154, "uselib": 134, "ustat": 136}
OTHERS = {  # judged by their arguments, or refused in one mode only
    "clone": (56, 220), "clone3": (435, 435), "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122), "ioctl": (16, 29), "kill": (62, 129),
    "tkill": (200, 130), "tgkill": (234, 131), "fcntl": (72, 25)}
FORKS_X86 = {"fork": 57, "vfork": 58}
NEW_NAMESPACES = 0x7E020000  # every CLONE_NEW* flag of clone(2)
THREAD = 0x00010000  # CLONE_THREAD
TERMINAL = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: type into somebody's terminal
OWNER = (0x8901, 0x8902)  # FIOSETOWN, SIOCSPGRP: have the kernel signal any process
SET_OWNER = (8, 15)  # F_SETOWN, F_SETOWN_EX: the same by fcntl(2)
X32 = 0x40000000  # bit of the numbers of the x32 interface
LOAD, EQUAL, ATLEAST, ANYBIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF
ALLOW, KILL = 0x7FFF0000, 0x80000000  # SECCOMP_RET_*
NUMBER, ARCHITECTURE, FIRST = 0, 4, 16  # offsets in struct seccomp_data
SET_SECCOMP, FILTER = 22, 2  # prctl(2)
LIBC = ctypes.CDLL(None, use_errno=True)


def number(name: str) -> int:
    """The number of a system call of `REFUSED` or `OTHERS` on this machine."""
    return (REFUSED | OTHERS)[name][list(ARCHITECTURES).index(MACHINE)]


def step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    """One instruction (struct sock_filter): jumps skip `yes` or `no` instructions."""
    return struct.pack("=HBBI", code, yes, no, value)


def refuse(error: int = errno.EPERM) -> bytes:
    """Ends the filter: the call fails with this error."""
    return step(RETURN, 0x00050000 | error)


def guarded(name: str, argument: int, *checks: bytes) -> bytes:
    """Judges one call by the low half of an argument; the checks end it or fall on."""
    body = step(LOAD, FIRST + 8 * argument) + b"".join(checks) + step(RETURN, ALLOW)
    return step(EQUAL, number(name), 0, len(body) // 8) + body


def beginning() -> bytes:
    """Refuses other machines' call tables, then loads the number of the call."""
    start = (step(LOAD, ARCHITECTURE) + step(EQUAL, ARCHITECTURES[MACHINE], 1, 0)
             + step(RETURN, KILL) + step(LOAD, NUMBER))
    if MACHINE == "x86_64":
        start += step(ATLEAST, X32, 0, 1) + step(RETURN, KILL)
    return start


def build(forks: bool) -> bytes:
    """The filter (array of struct sock_filter); without `forks` threads alone start."""
    bad = [number(name) for name in REFUSED]
    if MACHINE == "x86_64":
        bad += [*ONLY_X86.values(), *(() if forks else FORKS_X86.values())]
    parts = [beginning()]
    parts += [step(EQUAL, call, 0, 1) + refuse() for call in bad]
    # Its flags lie in memory, out of the filter's reach; libraries fall back to clone.
    parts += [step(EQUAL, number("clone3"), 0, 1) + refuse(errno.ENOSYS)]
    parts += [guarded("clone", 0, step(ANYBIT, NEW_NAMESPACES, 0, 1), refuse(),
                      *(() if forks else (step(ANYBIT, THREAD, 1, 0), refuse())))]
    for name in ("prlimit64", "sched_setaffinity"):  # a process may set its own only
        parts += [guarded(name, 0, step(EQUAL, 0, 1, 0), refuse())]
    for name, requests in (("ioctl", TERMINAL + OWNER), ("fcntl", SET_OWNER)):
        parts += [guarded(name, 1, *(step(EQUAL, request, 0, 1) + refuse()
                                     for request in requests))]
    return b"".join(parts) + step(RETURN, ALLOW)


def signals_to(pid: int) -> bytes:
    """A second filter: signals go to this process only (no process namespace)."""
    parts = [guarded(name, 0, step(EQUAL, pid, 1, 0), refuse())
             for name in ("kill", "tgkill")]
    return b"".join([beginning(), *parts, step(EQUAL, number("tkill"), 0, 1), refuse(),
                     step(RETURN, ALLOW)])


class Program(ctypes.Structure):
    """struct sock_fprog of seccomp(2)."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def install(code: bytes) -> None:
    """Binds this process and its descendants to a filter, for good; OSError.

    Needs no_new_privs.
    """
    program = Program(len(code) // 8, code)
    if LIBC.prctl(SET_SECCOMP, FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "no seccomp")
