"""Which tier of isolation is used: the strongest that passes its own live test."""

from __future__ import annotations

import os
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from minicoder.errors import UserError
from minicoder.execution.isolation import TIERS
from minicoder.execution.probes import escapes, probe
from minicoder.execution.workers import HarnessError

OVERRIDE = "MINICODER_SANDBOX"
WARNING = (
    "Only weak isolation is available here (no user namespaces, no Landlock). "
    "Generated programs can read your files, use the network and change your account's "
    "files. "
    "Run `python -m minicoder sandbox doctor`; pass allow_weak=True "
    "(--allow-weak-sandbox) only for programs you would run yourself.")
SHARED = (
    "Only weak isolation is available, and others use this machine ({}): allow_weak is "
    f"not enough here. Its administrator can set {OVERRIDE}=weak.")
NOTICE = (
    "Generated programs run in the tier landlock: without processes of their own and "
    "without a bound on the number of files. `python -m minicoder sandbox doctor` says "
    "what a stronger tier would need.")


@cache
def fault(tier: str) -> str:
    """Why a tier is not used here; empty for one that holds."""
    if tier != "weak" and sys.platform != "linux":
        return "needs Linux"
    try:
        found = escapes(probe(tier))
    except (HarnessError, OSError) as error:
        return str(error)
    return "a program in it could " + ", ".join(found) if found else ""


@cache
def strongest() -> str:
    """The first tier that holds, else "weak"; announces the Landlock tier once."""
    for tier in TIERS[:-1]:
        if not fault(tier):
            if tier == "landlock":
                warnings.warn(NOTICE, RuntimeWarning, stacklevel=2)
            return tier
    return "weak"


def others() -> str:
    """What shows that the machine is shared; empty when nothing does."""
    if hub := [name for name in os.environ if name.startswith("JUPYTERHUB_")]:
        return f"{hub[0]} is set"
    mine = {str(os.getuid()), os.environ.get("SUDO_UID"), "0"}
    logins = Path("/run/user")  # systemd's, one folder for each user who is logged in
    if logins.is_dir() and {path.name for path in logins.iterdir()} - mine:
        return "another user is logged in"
    return ""


def choose_tier(require: str | None, allow_weak: bool) -> tuple[str, dict[str, Any]]:
    """The tier for programs, and what was found out about the tiers and its probes.

    `require` asks for one tier and no other. UserError when there is none that may be
    used: the weak one only with consent, and on a shared machine its administrator's.
    """
    if require is not None and require not in TIERS:
        raise UserError(f"{require!r} is no tier of the sandbox; there are "
                        f"{', '.join(TIERS)}.")
    consent = os.environ.get(OVERRIDE, "")
    if consent not in ("", "weak"):
        raise UserError(f"{OVERRIDE} is {consent!r}; it may be unset or 'weak'.")
    tier = require or strongest()
    if tier != "weak" and (reason := fault(tier)):
        raise UserError(f"The sandbox's tier {tier!r} cannot be used here: {reason}.")
    if tier == "weak" and not consent:
        if not allow_weak:
            raise UserError(WARNING)
        if where := others():
            raise UserError(SHARED.format(where))
    return tier, {"tier": tier, "probes": {} if tier == "weak" else probe(tier)}
