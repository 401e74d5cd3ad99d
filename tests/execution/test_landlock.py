"""Landlock against a real kernel: what is left, and what is gone."""

import os
import signal

import pytest

from minicoder.execution import landlock

pytestmark = pytest.mark.skipif(os.uname().sysname != "Linux" or not landlock.abi(),
                                reason="no Landlock here")
LOCK = ("import landlock, os, signal, socket\n"
        "folder, away = {!r}, {!r}\n"
        "def open_all(*paths):\n"
        "    return [os.open(p, os.O_PATH) for p in paths]\n"
        "landlock.LIBC.prctl(38, 1, 0, 0, 0)\n"
        "landlock.restrict(\n"
        "    open_all('/usr', '/bin', '/lib', '/dev/zero', away + '/read'),\n"
        "    open_all(folder, '/dev/null'), landlock.abi())\n"
        "def attempt(work, *given):\n"
        "    try:\n        return str(work(*given))[:9]\n"
        "    except OSError as error:\n        return type(error).__name__\n")


@pytest.fixture
def lock(tmp_path):
    for name in ("folder", "away"):
        (tmp_path / name).mkdir()
    for name in ("read", "secret"):
        (tmp_path / "away" / name).write_text(name)
    return LOCK.format(str(tmp_path / "folder"), str(tmp_path / "away"))


def test_files(alone, lock):
    code = lock + (
        "print(attempt(lambda: open(away + '/read').read()),\n"
        "      attempt(lambda: open(away + '/secret').read()),\n"
        "      attempt(lambda: open(away + '/read', 'w')),\n"
        "      attempt(os.listdir, away), attempt(os.mkdir, away + '/new'),\n"
        "      attempt(os.rename, away + '/read', away + '/moved'),\n"
        "      attempt(os.symlink, '/', away + '/link'),\n"
        "      attempt(os.truncate, away + '/read', 0))\n"
        "os.mkdir(folder + '/new'); open(folder + '/new/file', 'w').write('x')\n"
        "os.rename(folder + '/new/file', folder + '/file')\n"
        "open('/dev/null', 'w').write('x')\n"
        "print(sorted(os.listdir(folder)),\n"
        "      attempt(os.link, folder + '/file', away + '/file'),\n"
        "      attempt(lambda: open('/dev/zero', 'w')),\n"
        "      os.spawnv(os.P_WAIT, '/bin/true', ['true']))")
    refused = "PermissionError"
    first, second = alone(code).splitlines()
    truncated = refused if landlock.abi() >= 3 else "None"
    assert first.split() == ["read", *[refused] * 6, truncated]
    assert second == f"['file', 'new'] {refused} {refused} 0"


@pytest.mark.skipif(landlock.abi() < landlock.NETWORK, reason="Landlock without TCP")
def test_network(alone, lock):
    code = lock + (
        "s = socket.socket()\n"
        "print(attempt(s.bind, ('127.0.0.1', 0)),\n"
        "      attempt(s.connect, ('127.0.0.1', 9)))")
    assert alone(code) == "PermissionError PermissionError"


@pytest.mark.skipif(landlock.abi() < landlock.SCOPES, reason="Landlock without scopes")
def test_signals(alone, lock):
    code = lock + (
        "child = os.fork()\nif child == 0:\n    signal.pause()\n"
        "print(attempt(os.kill, os.getppid(), 0), attempt(os.kill, child, 9),\n"
        "      os.waitpid(child, 0)[1])")
    assert alone(code) == f"PermissionError None {int(signal.SIGKILL)}"


@pytest.mark.parametrize("version", range(1, 8))
def test_older_versions_are_asked_for_what_they_know(alone, tmp_path, version):
    if version > landlock.abi():
        pytest.skip(f"Landlock {landlock.abi()} is older")
    code = ("import landlock, os\nlandlock.LIBC.prctl(38, 1, 0, 0, 0)\n"
            f"landlock.restrict([], [], {version})\n"
            "try:\n    open('/etc/hostname')\nexcept PermissionError:\n    print('no')")
    assert alone(code) == "no"
    assert landlock.all_rights(version) == {
        1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}.get(version, 0xFFFF)


def test_a_mistake_is_an_error(alone):
    code = ("import landlock\nlandlock.LIBC.prctl(38, 1, 0, 0, 0)\n"
            "try:\n    landlock.restrict([0x7fff], [], 1)\n"
            "except OSError as error:\n    print(error.strerror)")
    assert alone(code) == "Bad file descriptor"
