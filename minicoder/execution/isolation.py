"""The tiers of isolation, strongest first, and how a worker is started in each.

What they are made of: `confinement.py`. Which one is used: `tiers.py`.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from functools import cache
from glob import glob
from pathlib import Path

from minicoder.execution import languages, namespaces

TIERS = ("namespaces", "bwrap", "landlock", "weak")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib*", "/opt", "/nix/store", "/etc/alternatives",
          "/etc/ld.so.cache")
BWRAP_DISK = 256 << 20  # bytes of a worker's scratch there: it cannot be set for a job
BWRAP = ("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc",
         "--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL", "--as-pid-1",
         "--new-session", "--proc", "/proc")  # it ends when its host's socket does


@cache
def readable() -> tuple[str, ...]:
    """What programs may read: the system's programs, this Python, the languages' tools.

    Links stay links; what lies inside another one of the list is left out, and so is
    what holds this user's home.
    """
    found = {languages.folder(path, "") for pattern in SYSTEM for path in glob(pattern)}
    found |= set(languages.readable())
    found |= {languages.folder(os.path.realpath(p), sysconfig.get_path(library))
              for p, library in ((sys.base_prefix, "stdlib"),
                                 (sys.base_exec_prefix, "platstdlib"))}
    found -= {"/", ""}
    return tuple(sorted(path for path in found if not any(
        str(above) in found for above in Path(path).parents)))


def shown() -> list[str]:
    """The options of bwrap that show what is readable, and the worker's own files."""
    options = []
    for path in (*readable(), str(Path(__file__).parent)):
        options += (["--symlink", os.readlink(path), path] if os.path.islink(path)
                    else ["--ro-bind", path, path])
    for name in namespaces.DEVICES:
        options += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    return options


def command(tier: str, control: int, folder: str) -> list[str]:
    """The command that starts a worker on a socket's descriptor, in an empty folder."""
    worker = [sys.executable, "-s", "-S", "-B", "-X", "utf8",
              str(Path(__file__).with_name("worker.py")), str(control), folder, tier,
              *readable()]
    if tier != "bwrap":
        return worker
    worker[0] = os.path.realpath(sys.executable)  # a virtual environment is not shown
    return [shutil.which("bwrap") or "bwrap", *BWRAP, *shown(), "--size",
            str(BWRAP_DISK), "--tmpfs", folder, "--symlink", folder, "/dev/shm",
            "--remount-ro", "/", "--chdir", "/", "--", *worker]
