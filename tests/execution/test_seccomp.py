"""The filter against the kernel's own list of calls, and against real calls."""

import platform
import re
import signal
from pathlib import Path

import pytest

from minicoder.execution import seccomp

HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
           "aarch64": "/usr/include/asm-generic/unistd.h"}
INTEL = pytest.mark.skipif(platform.machine() != "x86_64", reason="x86_64 only")
pytestmark = pytest.mark.skipif(not seccomp.SUPPORTED or platform.system() != "Linux",
                                reason="Linux on x86_64 or aarch64 only")
FILTER = ("import ctypes, os, seccomp, signal, threading, time\n"
          "LIBC = seccomp.LIBC\nLIBC.prctl(38, 1, 0, 0, 0)\n"
          "seccomp.install(seccomp.build(forks={}))\n"
          "def call(number, *given):\n"
          "    ctypes.set_errno(0)\n"
          "    LIBC.syscall(number, *given)\n"
          "    return ctypes.get_errno()\n")


@pytest.mark.parametrize("column, machine", [*enumerate(seccomp.ARCHITECTURES)])
def test_the_numbers_are_the_kernels(column, machine):
    header = Path(HEADERS[machine])
    if not header.exists():
        pytest.skip(f"no {header}")
    kernel = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)",
                             header.read_text()))
    ours = {name: numbers[column]
            for name, numbers in (seccomp.REFUSED | seccomp.OTHERS).items()}
    if machine == "x86_64":
        ours |= seccomp.ONLY_X86 | seccomp.FORKS_X86
    assert {name: kernel.get(name) for name in ours} == {
        name: str(number) for name, number in ours.items()}


def test_every_listed_call_is_refused(alone):
    code = FILTER.format(True) + (
        "bad = [*map(seccomp.number, seccomp.REFUSED)]\n"
        "bad += seccomp.ONLY_X86.values() if seccomp.MACHINE == 'x86_64' else []\n"
        "print({call(number, 0, 0, 0, 0, 0, 0) for number in bad}, len(bad) > 60)")
    assert alone(code) == "{1} True"


def test_what_a_program_needs_is_allowed(alone):
    code = FILTER.format(True) + (
        "import socket, resource, subprocess, multiprocessing, select\n"
        "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n"
        "print(subprocess.run(['echo', 'exec'], capture_output=True, text=True).stdout,"
        "end='')\n"
        "a, b = socket.socketpair(); a.send(b'pair'); print(b.recv(9).decode())\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))\n"
        "os.sched_setaffinity(0, os.sched_getaffinity(0))\n"
        "os.kill(os.getpid(), 0); print(os.isatty(0))")
    assert alone(code) == "thread\nexec\npair\nFalse"


def test_arguments_decide(alone):
    code = FILTER.format(True) + (
        "parent, number = os.getppid(), seccomp.number\n"
        "print([call(number('clone'), flag | 17, 0, 0, 0, 0) for flag in\n"
        "       (1 << 17, *(1 << bit for bit in range(25, 31)))],\n"
        "      call(number('clone3'), 0, 0),\n"
        "      call(number('prlimit64'), parent, 7, 0, 0),\n"
        "      call(number('sched_setaffinity'), parent, 0, 0),\n"
        "      [call(number('ioctl'), 0, request) for request in\n"
        "       seccomp.TERMINAL + seccomp.OWNER],\n"
        "      [call(number('fcntl'), 0, n, parent) for n in seccomp.SET_OWNER],\n"
        "      call(number('fcntl'), 0, 1))")
    assert alone(code) == "[1, 1, 1, 1, 1, 1, 1] 38 1 1 [1, 1, 1, 1] [1, 1] 0"


def test_without_forks_only_threads_start(alone):
    code = FILTER.format(False) + (
        "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n"
        "for start in (os.fork, lambda: os.posix_spawn('/bin/true', ['true'], {})):\n"
        "    try:\n        start()\n    except PermissionError:\n        print('no')")
    assert alone(code) == "thread\nno\nno"


def test_signals_stay_inside(alone):
    code = FILTER.format(False) + (
        "seccomp.install(seccomp.signals_to(os.getpid()))\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('own'))\n"
        "os.kill(os.getpid(), signal.SIGUSR1); signal.raise_signal(signal.SIGUSR1)\n"
        "number, parent = seccomp.number, os.getppid()\n"
        "print(call(number('kill'), parent, 0), call(number('kill'), 0, 0),\n"
        "      call(number('kill'), -1, 0), call(number('tkill'), os.getpid(), 0),\n"
        "      call(number('tgkill'), parent, parent, 0))")
    assert alone(code) == "own\nown\n1 1 1 1 1"


def test_the_kernel_signals_nobody_in_our_name(alone):
    """A descriptor has an owner, who gets any signal that one has asked for."""
    attack = (
        "import fcntl\nback, word = os.pipe()\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('hit', flush=True))\n"
        "parent = os.getpid()\nif os.fork() == 0:\n    {}\n"
        "    try:\n        fcntl.fcntl(back, 8, parent)\n"
        "        fcntl.fcntl(back, 10, signal.SIGUSR1)\n"
        "        fcntl.fcntl(back, fcntl.F_SETFL, os.O_ASYNC)\n"
        "        os.write(word, b'x')\n"
        "    except PermissionError:\n        print('no', flush=True)\n"
        "    os._exit(0)\nos.wait()\ntime.sleep(0.1)")
    begin, lock, rest = FILTER.format(False).partition(
        "LIBC.prctl(38, 1, 0, 0, 0)\nseccomp.install(seccomp.build(forks=False))\n")
    assert alone(begin + rest + attack.format("pass")) == "hit"
    assert alone(begin + rest + attack.format(lock.strip().replace("\n", "; "))) == "no"


@INTEL
def test_the_calls_of_other_interfaces_end_the_program(alone):
    alone(FILTER.format(True) + "call(0x40000000 + 39)", -signal.SIGSYS)
    machine_code = (  # the 32-bit way to ask for the process id
        "import mmap\n"
        "room = mmap.mmap(-1, 4096, prot=7)\n"
        "room.write(bytes.fromhex('b814000000cd80c3'))\n"
        "ctypes.CFUNCTYPE(ctypes.c_int)(\n"
        "    ctypes.addressof(ctypes.c_char.from_buffer(room)))()")
    alone(FILTER.format(True) + machine_code, -signal.SIGSYS)


def test_a_process_with_privileges_to_gain_gets_no_filter(alone):
    code = ("import os, seccomp\nif os.getuid() == 0:\n    os.setresuid(7, 7, 7)\n"
            "try:\n    seccomp.install(seccomp.build(True))\n"
            "except OSError as error:\n    print(error.strerror)")
    assert alone(code) == "no seccomp"
