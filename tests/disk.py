"""Disks with no room left: a real one of 2 MiB for root, a limit on files for all."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing past `size` bytes of any file fails, as on a full disk (errno 27)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Disk:
    """A folder in which room can run out; `mounted` on a file system of its own."""

    def __init__(self, folder: Path, mounted: bool) -> None:
        self.folder, self.mounted = folder, mounted

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Only `size` bytes, a multiple of 4 KiB, can be written."""
        if not self.mounted:
            with files_of_at_most(size):
                yield
            return
        ballast, free = self.folder / "ballast", os.statvfs(self.folder)
        ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - size))
        try:
            yield
        finally:
            ballast.unlink()


@contextmanager
def small_disk(folder: Path, mount: bool) -> Iterator[Disk | None]:
    """A disk at `folder`; None where one cannot be mounted."""
    folder.mkdir()
    if not mount:
        yield Disk(folder, False)
        return
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        done = False
    try:
        yield Disk(folder, True) if done else None
    finally:
        if done:
            # lazily: tensors may still look into files that they were read from
            subprocess.run(["umount", "-l", str(folder)], check=True)
