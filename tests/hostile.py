"""The hostile programs of execution/hostile.toml, and the world they must not reach."""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from minicoder.execution.common import remove_tree

LISTS = ([1, 2, 3], [], [-5], [4, 4], [10, 20, 30, 40])
CASES = tuple(((a,), sum(a)) for a in LISTS)
HEAD = "def check(candidate):\n"
TESTS = {
    "plain": HEAD + "".join(f"    assert candidate({a}) == {sum(a)}\n" for a in LISTS),
    "own sum": HEAD + f"    for a in {LISTS}:\n        assert candidate(a) == sum(a)\n",
    "near": HEAD + "".join(
        f"    assert abs(candidate({a}) - {sum(a)}) < 1e-6\n" for a in LISTS),
    "close": "import math\n" + HEAD + "".join(
        f"    assert math.isclose(candidate({a}), {sum(a)})\n" for a in LISTS)}
# how a program says that it got through: the error it raises, not its source text
REACHED = re.compile(r"(?:SystemError|failed): (REACHED.*)")


@dataclass(frozen=True)
class Attack:
    """A program, what it may get, and how it must be judged; see hostile.toml."""

    group: str
    name: str
    verdicts: tuple[str, ...]
    code: str
    message: str = ""
    wall_s: float = 0.0
    tests: str = "plain"
    encoding: str = ""
    open_in: tuple[str, ...] = ()
    deadly: bool = False

    @property
    def program(self) -> str:
        """Its test program, whose `check` is called."""
        return TESTS[self.tests]


def read_attacks() -> list[Attack]:
    """All programs of hostile.toml, the right ones in the group "right"."""
    path = Path(__file__).parent / "execution" / "hostile.toml"
    groups = tomllib.loads(path.read_text(encoding="utf-8"))
    return [Attack(group, name, **({"verdicts": rows["verdicts"]} | row))
            for group, rows in groups.items()
            for name, row in rows.items() if isinstance(row, dict)]


def processes(word: str) -> list[str]:
    """Ids of the running processes whose command line contains `word`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


class Outside:
    """What a program must not reach: files, listeners, a process, a secret.

    All of it is open to every user, so that only the sandbox stands before it. A
    context manager; `user` is whom the bystander belongs to.
    """

    def __init__(self, folder: Path, user: int | None = None) -> None:
        self.home, self.user = folder / "canary", user
        self.token = secrets.token_hex(8)
        self.nap = f"{1_000_000 + os.getpid()}.5"
        self.abstract = f"canary-{self.token}"
        self.sockets: list[socket.socket] = []

    def __enter__(self) -> Outside:
        os.environ["MINICODER_CANARY"] = self.token
        self.listen()
        self.restore()
        return self

    def __exit__(self, *_: object) -> None:
        del os.environ["MINICODER_CANARY"]
        for listener in self.sockets:
            listener.close()
        self.bystander.kill()
        self.bystander.wait()

    def listen(self) -> None:
        """Listens on TCP, UDP (of one port) and on two Unix sockets."""
        path = str(self.home.parent / "listener")
        self.port = 0
        for family, kind, address in (
                (socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1"),
                (socket.AF_INET6, socket.SOCK_STREAM, "::1"),
                (socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1"),
                (socket.AF_UNIX, socket.SOCK_STREAM, path),
                (socket.AF_UNIX, socket.SOCK_STREAM, "\0" + self.abstract)):
            listener = socket.socket(family, kind)
            listener.setblocking(False)
            try:
                listener.bind(address if family == socket.AF_UNIX
                              else (address, self.port))
            except OSError:  # this machine has no IPv6
                listener.close()
                continue
            if family == socket.AF_INET:
                self.port = listener.getsockname()[1]
            if kind == socket.SOCK_STREAM:
                listener.listen()
            self.sockets.append(listener)
        os.chmod(path, 0o777)
        self.socket = path

    def restore(self) -> None:
        """Makes the home and the bystander what they were."""
        if self.home.exists():
            remove_tree(str(self.home))
        self.home.mkdir()
        (self.home / "secret.txt").write_text(self.token, encoding="utf-8")
        (self.home / "secret.txt").chmod(0o666)
        self.home.chmod(0o777)
        self.bystander = subprocess.Popen(
            ["sleep", "1000000"], user=self.user, group=self.user)

    def fill(self, attack: Attack, nap: str = "") -> str | bytes:
        """The source of an attack, aimed at this world; `nap` is how long it sleeps."""
        code = attack.code
        for name, value in (
                ("HOME", self.home), ("PORT", self.port), ("SOCKET", self.socket),
                ("ABSTRACT", self.abstract), ("PID", self.bystander.pid),
                ("NAP", nap or self.nap), ("SURROGATE", "\ud800"),
                ("MEBIBYTE", "#" * (1 << 20))):
            code = code.replace(f"@{name}@", str(value))
        return code.encode(attack.encoding) if attack.encoding else code

    def told(self, text: str) -> str:
        """What a program's words show it to have reached; empty for nothing."""
        found = REACHED.search(text)
        said = found[1] if found else "the secret" if self.token in text else ""
        return said.replace(self.token, "(the secret)")

    def touched(self) -> list[str]:
        """What has been changed or called since the last time; it is restored."""
        found = self.changed()
        for listener in self.sockets:
            calls = 0
            with suppress(BlockingIOError):
                while True:
                    if listener.type == socket.SOCK_STREAM:
                        listener.accept()[0].close()
                    else:
                        listener.recv(1000)
                    calls += 1
            if calls:
                name = f"{listener.getsockname()}".replace(self.token, "")
                found.append(f"called {listener.family.name} {name}")
        if found:
            self.bystander.kill()
            self.bystander.wait()
            self.restore()
        return found

    def changed(self) -> list[str]:
        """What is not as it was made: files, modes, the bystander."""
        found, secret = [], self.home / "secret.txt"
        if self.home.stat().st_mode & 0o777 != 0o777:
            return ["changed a mode"]
        if [path.name for path in self.home.iterdir()] != [secret.name]:
            found.append("added or removed a file")
        elif secret.is_symlink() or secret.read_text() != self.token:
            found.append("changed a file")
        state = Path(f"/proc/{self.bystander.pid}/stat")
        if self.bystander.poll() is not None:
            found.append("killed a bystander")
        elif state.exists() and state.read_text().rpartition(")")[2].split()[0] in "Tt":
            found.append("stopped a bystander")
        return found
