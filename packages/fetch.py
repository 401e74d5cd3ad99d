"""Download the packages of `list.tsv` into a folder, for `minicoder data --archives`.

    make packages                       into runs/packages; again: only what is missing

The tools of the three package collections do the work: pip (wheels), npm and apt-get
(Debian packages), each with the settings of this machine. Archives are neither
unpacked nor installed and nothing in them runs. A package that cannot be had, or whose
SHA-256 is not the pinned one, is skipped with a warning: the corpus is then smaller,
not wrong.
"""

from __future__ import annotations

import csv
import hashlib
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("list.tsv")
AT_ONCE = 4             # downloads; they wait more than they work
SECONDS = 300           # for one package
# {0} is the name and {1} the version; each command writes into its working directory
COMMANDS = {
    "pip": (sys.executable, "-m", "pip", "download", "-q", "--no-deps",
            "--disable-pip-version-check", "--only-binary", ":all:", "{0}=={1}"),
    "npm": ("npm", "pack", "--silent", "--ignore-scripts", "{0}@{1}"),
    "deb": ("apt-get", "download", "-q", "{0}={1}"),
}


@dataclass(frozen=True)
class Package:
    """A line of the list: what to ask for, and what must come."""

    kind: str           # a key of COMMANDS
    name: str
    version: str
    sha256: str         # of the archive, in hexadecimal digits
    licence: str        # as the package declares it


def read_list(file: Path = LIST) -> list[Package]:
    """The pinned packages of a tab-separated list with a heading."""
    with file.open(encoding="utf-8", newline="") as opened:
        return [Package(**line) for line in csv.DictReader(opened, delimiter="\t")]


def digest(file: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def fetch(package: Package, folder: Path) -> str:
    """Put one package into `folder`; "" when it is there, else why it is not."""
    command = [part.format(package.name, package.version)
               for part in COMMANDS[package.kind]]
    if not shutil.which(command[0]):
        return f"{command[0]} is not installed"
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as place:
        try:
            done = subprocess.run(command, cwd=place, capture_output=True, text=True,
                                  errors="replace", timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return f"no answer in {SECONDS} seconds"
        files = [file for file in Path(place).iterdir() if file.is_file()]
        if done.returncode or len(files) != 1:
            said = (done.stderr or done.stdout).strip().splitlines()
            return said[-1] if said else f"{command[0]} brought {len(files)} files"
        found = digest(files[0])
        if found != package.sha256:
            return f"its SHA-256 is {found}, and {package.sha256} is pinned"
        files[0].replace(folder / files[0].name)
    return ""


def fetch_all(packages: list[Package], folder: Path) -> dict[str, str]:
    """Download what `folder` lacks; returns why each absent package is absent."""
    folder.mkdir(parents=True, exist_ok=True)
    there = {digest(file) for file in folder.iterdir() if file.is_file()}
    missing = [one for one in packages if one.sha256 not in there]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        reasons = pool.map(lambda one: fetch(one, folder), missing)
        return {one.name: why for one, why in zip(missing, reasons, strict=True) if why}


def main(folder: Path) -> int:
    """Fetch the list and say what came; 1 when nothing is there."""
    packages = read_list()
    absent = fetch_all(packages, folder)
    for name, why in absent.items():
        print(f"skipped {name}: {why}", file=sys.stderr)
    print(f"{folder}: {len(packages) - len(absent)} of {len(packages)} packages")
    return int(len(absent) == len(packages))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/packages")))
