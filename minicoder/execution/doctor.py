"""`sandbox doctor`: what holds generated programs in here, tried and not guessed."""

from __future__ import annotations

import os
import platform
import sys
from typing import Literal

from tyro.conf import Positional

from minicoder.execution.isolation import TIERS
from minicoder.execution.probes import HELD, PROBES, probe
from minicoder.execution.tiers import fault, strongest
from minicoder.execution.workers import HarnessError

HELP = {
    "namespaces": "user namespaces: sysctl user.max_user_namespaces above 0; on Ubuntu "
                  "from 24.04 kernel.apparmor_restrict_unprivileged_userns=0; not in "
                  "containers whose seccomp profile refuses unshare",
    "bwrap": "apt install bubblewrap, and an ordinary user",
    "landlock": "Linux 5.13 or later, landlock among its security modules (lsm=)",
}
MEMORY = (
    "Memory is bounded for each process and, in namespaces and bwrap, ten times a "
    "second for all processes of a program. Control groups are not used.")
ADVICE = (
    "No tier is proof against an error of the kernel. For programs of strangers put "
    "the whole run into gVisor (its runsc) or a virtual machine, and use a tier in it.")


def tried(tier: str) -> dict[str, str]:
    """The eight probes and their answers; none for a tier that cannot be started."""
    try:
        return probe(tier)
    except (HarnessError, OSError):
        return {}


def lines() -> list[str]:
    """The report: tiers, probes, machine, advice."""
    used = strongest()
    said = [f"Programs run in the tier: {used}", "", "Tiers, strongest first"]
    for tier in TIERS[:-1]:
        reason = fault(tier)
        said.append(f"  {tier:<11} {reason or 'holds'}")
        if reason:
            said.append(f"  {'':<11} needs {HELP[tier]}")
    said += [f"  {'weak':<11} bounds time, memory and output; no boundary", ""]
    found = {tier: answers for tier in TIERS if (answers := tried(tier))}
    said.append(f"{'Probes':<36}" + "".join(f"{tier:<12}" for tier in found)
                + f"what it met in {used}")
    for name in PROBES:
        marks = ["held" if answers[name].startswith(HELD) else "OPEN"
                 for answers in found.values()]
        met = found.get(used, {}).get(name, "").removeprefix(HELD).lstrip(": ")
        said.append(f"  {name:<34}" + "".join(f"{mark:<12}" for mark in marks) + met)
    return said + ["", MEMORY,
                   f"Python {platform.python_version()} at {sys.executable}, "
                   f"{platform.system()} {platform.release()} {platform.machine()}, "
                   f"user {os.getuid()}", "", ADVICE]


def sandbox(action: Positional[Literal["doctor"]]) -> int:
    """Try every tier of the sandbox and show what holds; status 1 when none but weak.

    Eight ways out of each tier are tried by a real program: files, processes, network,
    environment.

    Args:
        action: doctor, the only one there is.
    """
    print("\n".join(lines()))
    return int(strongest() == "weak")
