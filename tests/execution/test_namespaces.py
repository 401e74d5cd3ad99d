"""Namespaces against a real kernel: what a process finds inside, and what it cannot."""

import os
import sys

import pytest

from minicoder.execution.tiers import fault

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="Linux only"),
    pytest.mark.skipif(bool(fault("namespaces")), reason=fault("namespaces"))]
LENT = 61200 if os.geteuid() == 0 else None
INSIDE = (
    "import errno, namespaces, os, signal\n"
    "import socket, tempfile  # loaded before their files go\n"
    "host = os.getpid()\n"
    f"place, lent = tempfile.mkdtemp(), {LENT}\n"
    "outer = namespaces.enter(lent, lambda: namespaces.view(place, ['/usr', '/bin']))\n"
    "def attempt(work, *given):\n"
    "    try:\n        return str(work(*given))\n"
    "    except OSError as error:\n        return errno.errorcode[error.errno]\n")


def test_a_machine_of_its_own(alone):
    code = INSIDE + (
        "print(os.getpid(), outer > 1, attempt(os.kill, host, 0),\n"
        "      sorted(name for name in os.listdir('/proc') if name.isdigit()),\n"
        "      [name for _, name in socket.if_nameindex()],\n"
        "      open('/proc/sysvipc/shm').read().count('\\n'))")
    assert alone(code) == "1 True ESRCH ['1'] ['lo'] 1"


def test_the_view(alone, tmp_path):
    (tmp_path / "file").write_text("here")
    (tmp_path / "shown").mkdir()
    shown = str(tmp_path / "shown")
    code = INSIDE.replace("'/bin']", f"'/bin', {shown!r}]") + (
        f"print(sorted(os.listdir('/')), attempt(open, {str(tmp_path / 'file')!r}))\n"
        "print([attempt(os.mkdir, f) for f in ('/new', '/dev/new',\n"
        f"       {shown!r} + '/new')], attempt(os.utime, {shown!r}),\n"
        "      len(os.urandom(3)), open('/dev/null', 'w').write('x'),\n"
        "      open('/dev/zero', 'rb').read(1),\n"
        "      attempt(open, '/proc/sys/kernel/domainname', 'w'))\n"
        "mounts = open('/proc/self/mountinfo').read().splitlines()\n"
        "print({line.split()[4] for line in mounts} >= {'/', '/usr', '/proc'},\n"
        "      [line for line in mounts if ' ro,' not in line])")
    first, second, third = alone(code).splitlines()
    assert first == "['bin', 'dev', 'proc', 'tmp', 'usr'] ENOENT"
    assert second == r"['EROFS', 'EROFS', 'EROFS'] EROFS 3 1 b'\x00' EROFS"
    assert third == "True []"


def test_scratch_is_bounded_private_and_gone(alone):
    code = INSIDE + (
        f"owner = {os.geteuid() if LENT is None else LENT}\n"
        "if (pid := os.fork()) == 0:\n"
        "    namespaces.scratch('/tmp', 0.5, owner)\n"
        "    print(attempt(open('/tmp/file', 'wb', 0).write, bytes(400 << 10)),\n"
        "          open('/tmp/more', 'wb', 0).write(bytes(400 << 10)) < 124 << 10,\n"
        "          os.stat('/tmp').st_uid == owner)\n"
        "    for n in range(5000):\n"
        "        if attempt(os.mkdir, f'/tmp/{n}') == 'ENOSPC':\n            break\n"
        "    print(n < 4096, flush=True)\n    os._exit(0)\n"
        "os.waitpid(pid, 0)\nprint(os.listdir('/tmp'))")
    assert alone(code) == "409600 True True\nTrue\n[]"


def test_no_privilege_and_no_further_namespace(alone):
    code = INSIDE + (
        "print(attempt(namespaces.clone))\n"
        "namespaces.drop_capabilities()\n"
        "print(attempt(namespaces.scratch, '/tmp', 1, 0),\n"
        "      attempt(namespaces.detach, '/proc'), attempt(os.chroot, '/usr'),\n"
        "      attempt(socket.sethostname, 'x'),\n"
        "      open('/proc/self/status').read().count('Cap' + 'Eff:\\t' + '0' * 16))")
    assert alone(code) == "ENOSPC\nEPERM EPERM EPERM EPERM 1"


def test_who_a_process_is(alone):
    code = INSIDE + (
        "print(os.getuid(), open('/proc/self/uid_map').read().split())\n"
        "if lent:\n    os.setresuid(lent, lent, lent); print(os.getuid())")
    if LENT is None:
        uid = str(os.getuid())
        assert alone(code) == f"{uid} {[uid, uid, '1']}"
    else:
        assert alone(code) == f"0 ['0', '0', '1', '{LENT}', '{LENT}', '1']\n{LENT}"


def test_what_fails_inside_is_raised_outside(alone):
    code = ("import namespaces, os, tempfile\n"
            "def fail():\n    raise OSError(5, 'on purpose')\n"
            "try:\n    namespaces.enter(None, fail)\n"
            "except OSError as error:\n    print(error, os.getpid() > 1)\n"
            "try:\n    os.waitpid(-1, 0)\n"
            "except ChildProcessError:\n    print('clean')")
    assert alone(code) == "[Errno 5] on purpose True\nclean"


def test_the_outer_process_ends_with_the_inner_one(alone):
    alone(INSIDE + "os._exit(3)", status=1)
    assert alone(INSIDE + "print('end')") == "end"
