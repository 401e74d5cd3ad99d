"""The program's own process: limits first, then the walls, then its work.

Runs inside the child interpreter, where `worker.py` has forked it.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from common import OUT_OF_MEMORY
from confinement import LINUX, Weak

LOCKED = b"!"  # the word to the worker; anything else says what went wrong
DESCRIPTORS = {"commands": 1024}  # a compiler opens many files; for the others 64


def limit(name: str, soft: int, hard: int | None = None) -> None:
    """Sets a resource limit where the system has it and allows it."""
    try:
        resource.setrlimit(getattr(resource, name), (soft, hard or soft))
    except (AttributeError, ValueError, OSError):
        pass  # macOS knows RLIMIT_AS but refuses it


def bound(limits: dict[str, float], processes: int, descriptors: int) -> None:
    """Sets the limits that the system counts for each process."""
    cpu = limits["cpu_s"]
    signal.setitimer(signal.ITIMER_PROF, cpu)  # exact; the rlimit has whole seconds
    limit("RLIMIT_CPU", int(cpu) + 1, int(cpu) + 2)
    limit("RLIMIT_AS", int(limits["memory_mib"] * (1 << 20)))
    limit("RLIMIT_FSIZE", int(limits["files_mib"] * (1 << 20)))
    limit("RLIMIT_NOFILE", descriptors)
    limit("RLIMIT_CORE", 0)
    if LINUX:
        limit("RLIMIT_NPROC", processes)


def start(
    work: Callable[..., None], role: str, output: int, sockets: list[int], folder: str,
    limits: dict[str, Any], cage: Weak, word: int,
) -> NoReturn:
    """Becomes the program's process: leader of its own session, then the work.

    Writes one word to the worker before the program can: a lock that fails is not the
    program's fault.
    """
    status = 1
    try:
        os.setsid()
        os.environ["TMPDIR"] = folder
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        random.seed(0)  # equal programs get equal verdicts
        try:
            cage.lock(role, folder, limits)
            bound(limits, int(limits["processes"]) + cage.present,
                  DESCRIPTORS.get(role, 64))
        except OSError as error:
            os.write(word, str(error).encode())
            raise
        os.write(word, LOCKED)
        os.close(word)
        work(*(socket.socket(fileno=number) for number in sockets))
        status = 0
    except MemoryError:
        status = OUT_OF_MEMORY
    finally:
        os._exit(status)
