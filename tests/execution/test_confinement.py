"""What each tier's class does in the worker; what programs meet: `test_worker.py`."""

import os
import sys

import pytest

from minicoder.execution.tiers import fault

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
BEGIN = ("import os, signal, tempfile\n"
         "import confinement as c\n"
         "folder = tempfile.mkdtemp()\n")


def test_an_unused_user_id_is_lent_by_root_alone(alone):
    found = alone(BEGIN + "uid = c.throwaway_uid()\n"
                  "print(uid if uid is None else uid in c.THROWAWAY_UIDS)")
    assert found == ("True" if os.geteuid() == 0 else "None")


def test_orphans_are_found_and_ended(alone):
    code = BEGIN + (
        "cage = c.Weak(folder, [])\n"
        "if (pid := os.fork()) == 0:\n    os.setsid()\n"
        "    for _ in range(5):\n        if os.fork() == 0:\n"
        "            os.setsid()\n            signal.pause()\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "print(len(c.children()))\ncage.end(pid)\nprint(len(c.children()))")
    assert alone(code) == "5\n0"


@pytest.mark.skipif(os.geteuid() == 0, reason="root lends a user id instead")
def test_own_tasks_counts_every_thread(alone):
    code = BEGIN + (
        "import threading\nbefore = c.own_tasks()\nstop = threading.Event()\n"
        "for _ in range(50):\n    threading.Thread(target=stop.wait).start()\n"
        "print(c.own_tasks() - before > 25)\nstop.set()")
    assert alone(code) == "True"


def test_the_scratch_folder_is_new_private_and_removed(alone):
    code = BEGIN + (
        "cage = c.Weak(folder, [])\none, two = cage.prepare(), cage.prepare()\n"
        "info = os.stat(two)\n"
        "print(one != two, oct(info.st_mode)[-3:], os.listdir(two),\n"
        "      info.st_uid == (cage.uid or os.getuid()))\n"
        "open(two + '/x', 'w').close(); cage.clean(one); cage.clean(two)\n"
        "print(os.listdir(folder))")
    assert alone(code) == "True 700 [] True\n[]"


def test_bwrap_is_not_believed_without_a_process_namespace(alone):
    code = BEGIN + ("try:\n    c.Bubblewrap(folder, [])\n"
                    "except OSError as error:\n    print(error)")
    assert alone(code) == "bwrap has made no process namespace"


def test_a_held_library_can_be_imported_by_anybody(alone, tmp_path):
    code = BEGIN + (
        "import json, xml\nc.hold_library()\n"
        "if os.getuid() == 0:\n    c.become(61200)\n"
        "import colorsys, json.tool, xml.dom\n"
        "print(colorsys.__file__.startswith('/proc/self/fd/'), os.getuid() != 0)")
    assert alone(code) == "True True"


@pytest.mark.skipif(bool(fault("namespaces")), reason=fault("namespaces"))
def test_commands_see_processes_but_not_into_the_worker(alone):
    code = BEGIN + (
        "cage = c.Namespaces(folder, ['/usr', '/bin', '/lib', '/lib64'])\n"
        "look = 'cd /proc/1 && (ls fd/ map_files/ cwd/usr; cat environ maps mem) 2>&1 '"
        "    '| grep -vc denied; echo /proc/[0-9]*'\n"
        "for role in ('commands', 'program'):\n    if os.fork() == 0:\n"
        "        cage.lock(role, cage.prepare(), {'disk_mib': 1})\n"
        "        os.execv('/bin/sh', ['sh', '-c', look + ' ' + role])\n"
        "    os.wait()")
    first, seen, *last = alone(code).splitlines()
    assert first == "0" and seen.startswith("/proc/1 /proc/") and "commands" in seen
    assert last[-1] == "/proc/[0-9]* program"


@pytest.mark.skipif(bool(fault("namespaces")), reason=fault("namespaces"))
def test_privileges_go_even_without_another_user_id(alone):
    code = BEGIN + (
        "cage = c.Namespaces(folder, ['/usr', '/bin', '/lib', '/lib64'])\n"
        "cage.uid = None\ncage.lock('commands', cage.prepare(), {'disk_mib': 1})\n"
        "print({line.split()[1] for line in open('/proc/self/status')\n"
        "       if line.startswith(('CapEff', 'CapPrm', 'CapInh'))})")
    assert alone(code) == "{'0000000000000000'}"


@pytest.mark.skipif(bool(fault("landlock")), reason=fault("landlock"))
def test_signals_stay_inside_even_where_landlock_knows_no_scopes(alone):
    code = BEGIN + (
        "cage = c.Landlock(folder, [])\ncage.uid, cage.version = None, 1\n"
        "folder = cage.prepare()\nif os.fork() == 0:\n"
        "    cage.lock('program', folder, {})\n"
        "    try:\n        os.kill(os.getppid(), 0)\n"
        "    except PermissionError:\n        print('no', flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()")
    assert alone(code) == "no"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_that_can_become_nobody_else_runs_no_programs(alone):
    code = BEGIN + ("c.namespaces.drop_capabilities()\n"
                    "try:\n    c.Weak(folder, [])\n"
                    "except OSError as error:\n    print(error)")
    assert alone(code) == "programs would run as root"


@pytest.mark.skipif(bool(fault("namespaces")), reason=fault("namespaces"))
@pytest.mark.parametrize("shown, room", [(True, "/room"), (False, "/tmp")])
def test_the_scratch_hides_nothing_that_is_readable(alone, shown, room):
    """Python itself may lie in /tmp."""
    code = BEGIN + (
        "more = tempfile.mkdtemp(dir='/tmp')\nos.chmod(more, 0o755)\n"
        "open(more + '/file', 'w').write('seen')\nos.chmod(more + '/file', 0o644)\n"
        f"cage = c.Namespaces(folder, ['/usr', '/bin', *[more] * {shown}])\n"
        "room = cage.prepare()\ncage.lock('program', room, {'disk_mib': 1})\n"
        "open('mine', 'w').close()\n"
        "print(room, os.listdir(room), os.path.exists(more + '/file'))")
    assert alone(code) == f"{room} ['mine'] {shown}"
