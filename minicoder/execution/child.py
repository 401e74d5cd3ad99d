"""The program's own process: limits first, then the program, then its answers.

Runs inside the child interpreter, where `worker.py` has forked it.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import resource
import signal
import socket
import struct
import sys
import types
from collections.abc import Iterator
from typing import Any, NoReturn

from common import MAX_FRAME, OUT_OF_MEMORY, decode, encode, pack

LINUX = sys.platform == "linux"
LIBC = ctypes.CDLL(None)
PDEATHSIG, NO_NEW_PRIVS = 1, 38  # prctl(2)


def describe(error: BaseException) -> list[Any]:
    """Type, message and last line in the program; survives a hostile __str__."""
    line, trace = 0, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == "<program>":
            line = trace.tb_lineno
        trace = trace.tb_next
    try:
        text = str(error)[:1000]
    except BaseException:
        text = "(its message raises an exception)"
    return [type(error).__name__[:80], text, line]


def answers(code: str, entry_point: str, arguments: list[Any]) -> Iterator[list[Any]]:
    """Runs the program and yields [kind, content] for each case, in order."""
    module = types.ModuleType("program")
    sys.modules["program"] = module  # dataclasses look their module up there
    try:  # dont_inherit: this file's __future__ imports are not the program's
        compiled = compile(code, "<program>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        yield ["syntax", describe(error)]
        return
    except BaseException as error:
        yield ["error", describe(error)]
        return
    try:
        exec(compiled, module.__dict__)
        if entry_point not in module.__dict__:
            raise NameError(f"the program does not define {entry_point!r}")
        function = module.__dict__[entry_point]
    except BaseException as error:
        yield ["error", describe(error)]
        return
    for wire in arguments:
        try:
            value = function(*decode(wire))
        except BaseException as error:
            yield ["error", describe(error)]
            continue
        try:
            yield ["value", encode(value)]
        except TypeError as error:
            yield ["opaque", str(error)[:200]]


def run_program(channel: socket.socket) -> None:
    """Reads one job from the channel and answers it there."""
    me = os.getpid()
    with channel.makefile("rb") as stream:
        (size,) = struct.unpack(">I", stream.read(4))
        code, entry_point, arguments = json.loads(stream.read(size))
    for answer in answers(code, entry_point, arguments):
        if os.getpid() != me:  # the program has forked: its copies stay silent
            os._exit(0)
        frame = pack(answer)
        if len(frame) > MAX_FRAME:
            frame = pack(["opaque", f"a value of more than {MAX_FRAME} bytes"])
        channel.sendall(frame)
    sys.stdout.flush()


def limit(name: str, soft: int, hard: int | None = None) -> None:
    """Sets a resource limit where the system has it and allows it."""
    try:
        resource.setrlimit(getattr(resource, name), (soft, hard or soft))
    except (AttributeError, ValueError, OSError):
        pass  # macOS knows RLIMIT_AS but refuses it


def become(uid: int) -> None:
    """Turns root into another user, for good."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def confine(limits: dict[str, float], processes: int, uid: int | None) -> None:
    """Gives up what can be given up without a container: the `weak` tier."""
    cpu = limits["cpu_s"]
    signal.setitimer(signal.ITIMER_PROF, cpu)  # exact; the rlimit has whole seconds
    limit("RLIMIT_CPU", int(cpu) + 1, int(cpu) + 2)
    limit("RLIMIT_AS", int(limits["memory_mib"] * (1 << 20)))
    limit("RLIMIT_FSIZE", int(limits["files_mib"] * (1 << 20)))
    limit("RLIMIT_NOFILE", 64)
    limit("RLIMIT_CORE", 0)
    if LINUX:
        limit("RLIMIT_NPROC", processes)
        if uid is not None:
            become(uid)
        LIBC.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
        LIBC.prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # after setuid, which clears it


def start(
    channel: int, output: int, folder: str, limits: dict[str, float], processes: int,
    uid: int | None,
) -> NoReturn:
    """Becomes the program's process: leader of its own session, then the program."""
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        os.environ["TMPDIR"] = folder
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        random.seed(0)  # equal programs get equal verdicts
        confine(limits, processes, uid)
        run_program(socket.socket(fileno=channel))
        status = 0
    except MemoryError:
        status = OUT_OF_MEMORY
    finally:
        os._exit(status)
