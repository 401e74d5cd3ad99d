"""The choice of a tier: forced by what the system allows, refused without consent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minicoder.errors import UserError
from minicoder.execution import tiers
from minicoder.execution.isolation import TIERS
from minicoder.execution.probes import PROBES
from minicoder.execution.tiers import choose_tier, fault, strongest

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
ROOT = Path(__file__).parents[2]
BARE = (  # a machine whose kernel makes no further user namespace
    "import ctypes, os, sys, warnings\n"
    "uid, gid, libc = os.getuid(), os.getgid(), ctypes.CDLL(None)\n"
    "assert libc.unshare(0x10000000) == 0\n"
    "def write(name, text):\n    open('/proc/' + name, 'w').write(text)\n"
    "write('self/setgroups', 'deny'); write('self/uid_map', f'0 {uid} 1')\n"
    "write('self/gid_map', f'0 {gid} 1')\n"
    "write('sys/user/max_user_namespaces', '0')\n"
    "warnings.simplefilter('ignore')\n"
    "from minicoder.execution.tiers import choose_tier, fault\n")


@pytest.fixture
def only_weak(monkeypatch):
    """As on a machine that has no other tier and no other user."""
    monkeypatch.setattr(tiers, "strongest", lambda: "weak")
    monkeypatch.setattr(tiers, "others", lambda: "")
    monkeypatch.delenv("MINICODER_SANDBOX", raising=False)


def test_the_first_that_holds_is_used():
    expected = next((tier for tier in TIERS[:-1] if not fault(tier)), "weak")
    assert strongest() == expected
    tier, report = choose_tier(None, allow_weak=True)
    assert tier == report["tier"] == expected
    assert expected == "weak" or tuple(report["probes"]) == PROBES


def test_what_is_required_is_used_or_refused(tier):
    if tier != "weak":
        assert choose_tier(tier, False)[0] == tier
    with pytest.raises(UserError, match="'vault' is no tier.*namespaces, bwrap"):
        choose_tier("vault", True)


def test_a_tier_that_lets_a_probe_out_is_not_used(monkeypatch):
    monkeypatch.setattr(tiers, "probe", lambda tier: dict.fromkeys(PROBES, "CANARY"))
    monkeypatch.setattr(tiers, "fault", fault.__wrapped__)
    assert strongest.__wrapped__() == "weak"
    with pytest.raises(UserError, match="'landlock' cannot be used.*(Linux|read a)"):
        choose_tier("landlock", True)


def test_the_weak_tier_needs_consent(only_weak, monkeypatch):
    with pytest.raises(UserError, match="Only weak isolation.*sandbox doctor"):
        choose_tier(None, allow_weak=False)
    with pytest.raises(UserError, match="Only weak isolation"):
        choose_tier("weak", allow_weak=False)
    assert choose_tier(None, allow_weak=True)[0] == "weak"
    monkeypatch.setenv("MINICODER_SANDBOX", "weak")
    assert choose_tier(None, allow_weak=False)[0] == "weak"
    monkeypatch.setenv("MINICODER_SANDBOX", "strong")
    with pytest.raises(UserError, match="'strong'.*unset or 'weak'"):
        choose_tier(None, allow_weak=True)


def test_on_a_shared_machine_consent_is_the_administrators(only_weak, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(tiers, "strongest", lambda: "weak")
    monkeypatch.delenv("MINICODER_SANDBOX", raising=False)
    monkeypatch.setenv("JUPYTERHUB_USER", "ada")
    with pytest.raises(UserError, match="JUPYTERHUB_USER is set.*administrator"):
        choose_tier(None, allow_weak=True)
    monkeypatch.setenv("MINICODER_SANDBOX", "weak")
    assert choose_tier(None, allow_weak=True)[0] == "weak"


def test_another_login_is_seen(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("JUPYTERHUB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(tiers, "Path", lambda _: tmp_path)
    (tmp_path / str(os.getuid())).mkdir()
    assert tiers.others() == ""
    (tmp_path / "123456").mkdir()
    assert tiers.others() == "another user is logged in"


@LINUX
def test_without_user_namespaces_landlock_is_next():
    if fault("landlock") or fault("namespaces"):
        pytest.skip(f"needs both: {fault('landlock')} {fault('namespaces')}")
    code = BARE + ("print(choose_tier(None, False)[0], '|', fault('namespaces'), '|',\n"
                   "      bool(fault('bwrap')))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True,
                          capture_output=True, timeout=120)
    assert done.stdout.strip() == (
        "landlock | the worker was refused: new namespaces: No space left on device | "
        "True"), done.stderr


@LINUX
def test_without_landlock_too_only_the_weak_tier_is_left():
    if fault("namespaces"):
        pytest.skip(fault("namespaces"))
    code = BARE + (  # the calls of Landlock answer as on a kernel that has none
        "from minicoder.execution import seccomp as s\nimport errno\n"
        "libc.prctl(38, 1, 0, 0, 0)\n"
        "s.install(b''.join([s.step(s.LOAD, 0), s.step(s.EQUAL, 444, 0, 1),\n"
        "    s.refuse(errno.ENOSYS), s.step(s.RETURN, s.ALLOW)]))\n"
        "try:\n    choose_tier(None, False)\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
        "print(fault('landlock'))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True,
                          capture_output=True, timeout=120)
    first, second = done.stdout.strip().splitlines()
    assert first.startswith("UserError Only weak isolation"), done.stderr
    assert "no Landlock" in second


@LINUX
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_an_ordinary_user_has_the_same_tiers(tmp_path_factory):
    """With the system's Python, for this one may lie where only root can go."""
    python = "/usr/bin/python3"
    version = "import sys; sys.exit(sys.version_info < (3, 11))"
    if not Path(python).exists() or subprocess.run([python, "-c", version]).returncode:
        pytest.skip(f"no {python} of 3.11 or later")
    code = ("import sys; sys.path.insert(0, {!r}); sys.dont_write_bytecode = True\n"
            "from minicoder.execution.tiers import TIERS, fault\n"
            "print([tier for tier in TIERS if not fault(tier)])")
    place = subprocess.run(["mktemp", "-d"], capture_output=True, text=True).stdout
    place = Path(place.strip())
    try:
        subprocess.run(["cp", "-r", ROOT / "minicoder", place], check=True)
        subprocess.run(["chmod", "-R", "a+rX", place], check=True)
        done = subprocess.run([python, "-c", code.format(str(place))], user=1234,
                              group=1234, extra_groups=[], cwd="/", env={},
                              text=True, capture_output=True, timeout=120)
    finally:
        subprocess.run(["rm", "-r", place], check=True)
    found = {tier for tier in TIERS[:-1] if tier in done.stdout}
    assert found >= {tier for tier in TIERS[:-1] if not fault(tier)}, done.stderr
    assert "bwrap" in found or not Path("/usr/bin/bwrap").exists()
