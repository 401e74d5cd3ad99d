"""The languages whose programs can be compiled and run, and where their tools are.

The table is `languages.toml` beside this file. The tools are those of this machine: one
that is missing is named together with the Debian package that brings it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from functools import cache
from glob import glob
from pathlib import Path

from minicoder.errors import UserError
from minicoder.execution.verdict import Limits

# What a compiler may use. CPU time is each process's, wall time the step's.
COMPILE = Limits(cpu_s=30, wall_s=90, memory_mib=1024, disk_mib=128, files_mib=64)
PLAIN = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "{here}",
         "TMPDIR": "{here}", "OPENSSL_CONF": "/dev/null"}  # Node insists on reading it
SYSTEM = ("/usr/", "/bin/", "/lib")  # where every user may go


@dataclass(frozen=True)
class Check:
    """A second main program, which runs the first one and then prints a token."""

    file: str
    text: str
    rename: str = ""
    flags: str = ""


@dataclass(frozen=True)
class Language:
    """One row of the table; the head of `languages.toml` explains the fields."""

    name: str
    file: str
    tools: dict[str, str]
    compile: str
    run: str
    check: Check
    space_mib: int = 0
    processes: int = 16
    environment: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    extra: dict[str, str] = field(default_factory=dict)
    version: str = ""

    def command(
        self, template: str, sources: list[str], heap_mib: int, tools: dict[str, str]
    ) -> list[str]:
        """The words of a command; a path may hold blanks, so words come first."""
        suffix = Path(self.file).suffix
        files = [name for name in sources if name.endswith(suffix)]
        words: list[str] = []
        for word in template.split():
            word = word.replace("{heap}", str(heap_mib))
            if word == "{sources}":
                words += files
            else:
                words.append(re.sub(r"\{(.+?)\}", lambda m: tools[m[1]], word))
        return words


LANGUAGES = {
    name: Language(name, check=Check(**row.pop("check")), **row)
    for name, row in tomllib.loads(
        Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")).items()}


def closed(path: str) -> bool:
    """Whether only root may go to a file: programs run as somebody else."""
    above = [str(folder) for folder in Path(path).parents]
    return os.getuid() == 0 and not all(os.stat(p).st_mode & 0o001 for p in above)


@cache
def find(tool: str, package: str) -> str | None:
    """The real path of a tool, through links and shims; one that all may enter first.

    Some packages have the name of their program (lua5.4).
    """
    found = [shutil.which(tool), shutil.which(package),
             shutil.which(tool, path=PLAIN["PATH"])]
    if tool == "python3":
        found.insert(0, sys.executable)
    if found[0] and ".cargo" in found[0]:  # rustup's: the real one is elsewhere
        home = subprocess.run([found[0], "--print", "sysroot"], capture_output=True,
                              text=True).stdout.strip()
        found[0] = shutil.which(f"{home}/bin/{tool}")
    real = [os.path.realpath(path) for path in found if path]
    return min(real, key=closed, default=None)


def named(language: str) -> Language:
    """The row of a language; UserError when there is none."""
    if language not in LANGUAGES:
        raise UserError(f"{language!r} is no language that can be run here; there are "
                        f"{', '.join(LANGUAGES)}.")
    return LANGUAGES[language]


def absent(language: str) -> list[str]:
    """The Debian packages of the tools of a language that are not here."""
    tools = named(language).tools
    return [package for tool, package in tools.items() if not find(tool, package)]


def tools(language: str) -> dict[str, str]:
    """Where the tools of a language are; UserError names the packages of those missing.
    """
    if packages := absent(language):
        raise UserError(f"Programs in {language} need the Debian package "
                        f"{' and '.join(packages)}, which is not installed here.")
    return {tool: str(find(tool, package))
            for tool, package in named(language).tools.items()}


def folders(language: str) -> list[str]:
    """What a sandbox must show of this machine besides /usr, read-only."""
    found = [path for pattern in named(language).folders for path in glob(pattern)]
    for path in tools(language).values():
        if not path.startswith(SYSTEM):
            found.append(folder(str(Path(path).parents[1]), path))  # bin, lib, share
    return sorted(set(found))


def folder(place: str, less: str) -> str:
    """A folder to show to programs, or less of it when this user's home lies there."""
    home = Path(os.path.realpath(os.path.expanduser("~")))
    return less if home.is_relative_to(place) else place


@cache
def available() -> dict[str, str]:
    """The languages of this machine and the versions that their tools say they are."""
    versions = {}
    for name, language in LANGUAGES.items():
        if not absent(name):
            first = next(iter(language.tools))
            version = language.version or f"{{{first}}} --version"
            words = language.command(version, [], 0, tools(name))
            said = subprocess.run(words, capture_output=True, text=True)
            number = re.search(r"\d+\.[\d.]*\d", said.stdout + said.stderr)
            versions[name] = number[0] if number else "?"
    return versions


def missing() -> dict[str, str]:
    """The languages that this machine cannot run, and the packages that would help."""
    return {name: " ".join(packages) for name in LANGUAGES
            if (packages := absent(name))}


@cache
def readable() -> list[str]:
    """What every language of this machine needs a sandbox to show besides /usr."""
    present = [name for name in LANGUAGES if not absent(name)]
    return sorted({folder for name in present for folder in folders(name)})
