"""The driver: commands one after the other, each within its limits."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import minicoder.execution
from minicoder.execution.common import pack, unpack

DRIVER = """
import socket, sys
sys.path.insert(0, sys.argv[1])
import commands
commands.run_commands(socket.socket(fileno=int(sys.argv[2])))
"""
MIB = 1 << 20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


def step(*argv: str, **changes: Any) -> dict[str, Any]:
    """A command with ample limits."""
    return {"argv": list(argv), "environment": {}, "stdin": "", "cpu_s": 5,
            "wall_s": 20, "room": 1000, "space": 4096 * MIB, "file": 8 * MIB,
            "must": False} | changes


def shell(script: str, **changes: Any) -> dict[str, Any]:
    return step("/bin/sh", "-c", script, **changes)


def drive(folder: Path, *steps: dict[str, Any], **files: str) -> list[Any]:
    """What the driver reports of the steps."""
    ours, theirs = socket.socketpair()
    place = str(Path(minicoder.execution.__file__).parent)
    with ours, subprocess.Popen(
            [sys.executable, "-c", DRIVER, place, str(theirs.fileno())], cwd=folder,
            pass_fds=[theirs.fileno()]) as driver:
        theirs.close()
        ours.sendall(pack([files, list(steps)]))
        with ours.makefile("rb") as stream:
            here, reports = unpack(stream), []
            while stream.peek(1):
                reports.append(unpack(stream))
    assert driver.returncode == 0
    assert here == str(folder)
    return reports


def test_files_are_written_and_steps_share_them(tmp_path):
    first, second = drive(tmp_path, shell("cat a > b; echo no >&2; exit 3"),
                          shell("cat b"), a="\xff\x00ü")
    assert os.waitstatus_to_exitcode(first[0]) == 3 and first[6] == "no\n"
    assert second[0] == 0 and second[5] == "\xff\x00ü"  # any byte, as Latin-1


def test_a_step_that_must_succeed_is_the_last_when_it_does_not(tmp_path):
    assert len(drive(tmp_path, shell("exit 1", must=True), shell("true"))) == 1
    assert len(drive(tmp_path, shell("exit 1"), shell("true"))) == 2


def test_standard_input_of_any_size_arrives_whole(tmp_path):
    (report,) = drive(tmp_path, shell("wc -c", stdin="x" * (3 * MIB)))
    assert report[5].strip() == str(3 * MIB)


@pytest.mark.parametrize("script", [
    "exec 0<&-; echo early", "head -c 1 > b; echo early"])
def test_a_program_need_not_read_its_input(tmp_path, script):
    (report,) = drive(tmp_path, shell(script, stdin="x" * MIB))
    assert report[0] == 0 and report[5] == "early\n"


def test_without_input_there_is_an_end_of_file(tmp_path):
    (report,) = drive(tmp_path, shell("cat; echo end"))
    assert report[5] == "end\n"


@pytest.mark.parametrize("script", ["yes", "yes >&2"])
def test_a_flood_is_stopped_and_cut(tmp_path, script):
    reports = drive(tmp_path, shell(script), shell("true"))
    assert len(reports) == 1 and reports[0][1] == "output"
    assert max(map(len, reports[0][5:])) == 1000


def test_a_flood_that_ends_at_once_is_seen(tmp_path):
    (report,) = drive(tmp_path, shell("head -c 2000 /dev/zero"))
    assert report[1] == "output" and len(report[5]) == 1000


def test_a_sleeper_is_stopped(tmp_path):
    (report,) = drive(tmp_path, step("/bin/sleep", "60", wall_s=0.3))
    assert report[1] == "wall" and report[3] < 30_000


@pytest.mark.parametrize("trap", ["", "trap '' PROF; "])
def test_a_busy_loop_is_stopped_and_what_would_follow_is_not_run(tmp_path, trap):
    reports = drive(tmp_path, shell(f"{trap}while :; do :; done", cpu_s=0.5),
                    shell("true"))
    assert len(reports) == 1 and reports[0][2] >= 200  # ticks are counted, not CPU ms
    assert -os.waitstatus_to_exitcode(reports[0][0]) in (
        signal.SIGPROF, signal.SIGXCPU, signal.SIGKILL)


def test_memory_and_files_are_bounded(tmp_path):
    hog = step(sys.executable, "-c", "bytearray(600 << 20)", space=512 * MIB)
    writer = shell("head -c 100000 /dev/zero > big", file=5000)
    memory, files = drive(tmp_path, hog, writer)
    assert "MemoryError" in memory[6]
    assert files[0] and (tmp_path / "big").stat().st_size == 5000


def test_what_a_step_leaves_behind_is_ended_and_not_waited_for(tmp_path):
    (report,) = drive(tmp_path, shell("sleep 1000.25 & echo $!"))
    assert report[1] == "" and report[3] < 15_000
    state = Path(f"/proc/{report[5].strip()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_a_command_has_no_descriptor_but_its_own_three(tmp_path):
    (report,) = drive(tmp_path, shell("ls /proc/self/fd"))
    assert report[5].split() == ["0", "1", "2", "3"]  # 3: ls reads the folder


def test_the_environment_is_the_given_one(tmp_path):
    (report,) = drive(tmp_path, step("/usr/bin/env", environment={"A": "{here}/b"}))
    assert report[5] == f"A={tmp_path}/b\n"


def test_a_pipe_that_breaks_ends_its_writer(tmp_path):
    (report,) = drive(tmp_path, shell("yes | head -n 1"))  # Python ignores SIGPIPE
    assert report[5:] == ["y\n", ""]


def test_a_missing_tool_is_reported_by_name(tmp_path):
    assert drive(tmp_path, step("/nowhere/gcc"), shell("true")) == ["/nowhere/gcc"]
    (report,) = drive(tmp_path, step("./program"))
    assert os.waitstatus_to_exitcode(report[0]) == 127
    assert "FileNotFoundError" in report[6]
