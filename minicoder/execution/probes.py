"""Eight ways out of the sandbox, tried by a real program before a tier is trusted."""

from __future__ import annotations

import os
import socket
import tempfile
from functools import cache
from pathlib import Path

from minicoder.execution.common import decode, encode, pack
from minicoder.execution.verdict import Limits, read_answers
from minicoder.execution.workers import HarnessError, Worker, gather

HELD = "held"
PROBES = ("read a file outside", "write a file outside", "reach another process",
          "connect to this machine", "open AF_VSOCK", "start too many processes",
          "outlive the call", "find a secret in the environment")
LIMITS = Limits(cpu_s=5.0, wall_s=20.0, processes=8)
PROGRAM = '''
import os, signal, socket, time

def fork():
    if (pid := os.fork()) == 0:
        time.sleep(60)
        os._exit(0)
    return pid

def attempt(probe, folder, port, host, processes):
    # What was reached; nothing, or an error, when nothing was.
    if probe == 0:
        return open(folder + "/canary").read()
    if probe == 1:
        return open(folder + "/written", "w").write("x") and "wrote it"
    if probe == 2:  # a number that is ours here belongs to another process there
        ours = os.getpid(), os.getppid()
        return "" if host in ours else os.kill(host, 0) or "signalled it"
    if probe == 3:
        return socket.create_connection(("127.0.0.1", port), 5) and "connected"
    if probe == 4:
        return socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) and "opened it"
    if probe == 5:
        started = []
        try:
            while len(started) < 4 * processes:
                started.append(fork())
        except OSError:
            pass
        for pid in started:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return f"started {len(started)}" if len(started) >= processes else ""
    if probe == 6:  # the host sees whether it is still there
        if os.fork() == 0:
            os.setsid()
            fork()
            os._exit(0)
        return ""
    found = [name for name in os.environ if name not in ("TMPDIR", "LC_CTYPE")]
    for process in host, os.getppid():
        try:
            found.append(open(f"/proc/{process}/environ").read())
        except OSError:
            pass
    return "found one" if any(found) else ""

def solve(*arguments):
    try:
        reached = attempt(*arguments)
        return bool(reached), reached
    except (OSError, AttributeError) as error:  # some Pythons know no AF_VSOCK
        return False, getattr(error, "strerror", "") or str(error)
'''


@cache
def probe(tier: str) -> dict[str, str]:
    """What became of each of the eight; "held", and why, when the way is shut.

    HarnessError says why when there is no such tier here. Costs about 0.2 s, once.
    """
    worker = Worker(tier)
    try:
        with tempfile.TemporaryDirectory() as place, socket.socket() as listener:
            folder = Path(place)
            folder.chmod(0o777)
            (folder / "canary").write_text("CANARY")
            (folder / "canary").chmod(0o644)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            found = ask(worker, folder, listener.getsockname()[1])
            if (folder / "written").exists():
                found[PROBES[1]] = "wrote a file"
        return found
    finally:
        worker.stop()


def ask(worker: Worker, folder: Path, port: int) -> dict[str, str]:
    """Runs the program in a worker; HarnessError when that cannot be done."""
    cases = [(number, str(folder), port, os.getpid(), LIMITS.processes)
             for number in range(len(PROBES))]
    request = pack([PROGRAM, "solve", [encode(case) for case in cases]])
    run = worker.begin("program", request, LIMITS)
    try:
        (ending,) = gather([run], LIMITS.wall_s)
        answers = [decode(content) for kind, content in read_answers(ending.answers)
                   if kind == "value"]
        if len(answers) < len(PROBES):
            raise HarnessError(f"its probe ended after {len(answers)} of {len(PROBES)}")
        found = {name: str(said) if reached else f"{HELD}: {said}".rstrip(": ")
                 for name, (reached, said) in zip(PROBES, answers, strict=True)}
        try:  # whoever still holds the other end of the output lives
            os.read(run.output, 1)
        except BlockingIOError:
            found[PROBES[6]] = "a process is still there"
        return found
    finally:
        run.close()


def escapes(answers: dict[str, str]) -> list[str]:
    """The probes that found a way out."""
    return [name for name, answer in answers.items() if not answer.startswith(HELD)]
