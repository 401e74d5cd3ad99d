"""The request to the sandbox and its report, without a sandbox."""

import json
import signal
from pathlib import Path

import pytest

from minicoder.errors import UserError
from minicoder.execution import steps
from minicoder.execution.common import pack
from minicoder.execution.languages import COMPILE, LANGUAGES, available
from minicoder.execution.pool import Pool
from minicoder.execution.steps import frames, outcome, perform, plan, read_step, refusal
from minicoder.execution.verdict import Ending, Limits

LIMITS = Limits(cpu_s=2, wall_s=7, memory_mib=100, files_mib=3, output_kib=10)


@pytest.mark.parametrize("sources, reason", [
    ({"main.c": b""}, ""), ({"main.c": b"", "a-b_2.h": b"\0"}, ""),
    ({}, "there is no main.c, only nothing"),
    ({"main.cpp": b""}, "there is no main.c, only main.cpp"),
    ({"main.c": b"", "../x": b""}, "'../x' cannot be the name of a file"),
    ({"main.c": b"", ".profile": b""}, "'.profile' cannot"),
    ({"main.c": b"", "a/b.h": b""}, "'a/b.h' cannot"),
    ({"main.c": b"x" * (1 << 20), "b.h": b"x"}, "1048577 bytes, more than 1048576")])
def test_sources_are_looked_at_first(sources, reason):
    found = refusal(LANGUAGES["c"], sources)
    assert reason in found and bool(reason) == bool(found)


@pytest.fixture
def every_tool(monkeypatch):
    monkeypatch.setattr(steps, "tools", lambda name: {
        tool: f"/usr/bin/{tool}" for tool in LANGUAGES[name].tools})


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_plan_stays_within_its_own_limits(name, every_tool):
    row = LANGUAGES[name]
    request, together = plan(row, {row.file: b"\xff"}, [b"1", b"2"], LIMITS)
    files, (first, *runs) = json.loads(request[4:])
    assert files == {row.file: "\xff"} | row.extra
    assert first["must"] and first["cpu_s"] == COMPILE.cpu_s
    assert [(run["stdin"], run["must"], run["cpu_s"], run["room"], run["file"])
            for run in runs] == [(n, False, 2, 10240, 3 << 20) for n in "12"]
    assert runs[0]["space"] == (100 + row.space_mib) << 20
    for each in (first, *runs):
        assert each["cpu_s"] <= together.cpu_s
        assert each["space"] <= together.memory_mib << 20
        assert each["file"] <= together.files_mib << 20
    assert together.wall_s == first["wall_s"] + 2 * 7


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_check_is_a_second_main_program(name, every_tool):
    row = LANGUAGES[name]
    sources = {row.file: b"func main() fn main()"}
    request, _ = plan(row, sources, [b""], LIMITS, "123token")
    files, (first, run) = json.loads(request[4:])
    assert "123token" in files[row.check.file]
    assert ("program_main()" in files[row.file]) == bool(row.check.rename)
    stem = Path(row.check.file).stem
    assert stem in " ".join(run["argv"]) or run["argv"] == ["./program"]
    assert stem in " ".join(first["argv"]) or run["argv"] != ["./program"]


def test_frames_are_whole_or_not_there():
    both = pack("here") + pack([1, "ü"])
    assert frames(both) == ["here", [1, "ü"]]
    assert frames(both[:-1]) == frames(both[:7 + 3]) == ["here"]
    assert frames(b"") == []
    with pytest.raises(ValueError):
        frames(b"\0\0\0\2}{")


SAID = "cc1plus: out of memory allocating 65536 bytes"


@pytest.mark.parametrize("status, why, cpu_ms, stderr, compiles, expected", [
    (0, "", 1, "bad_alloc", False, "pass"), (1, "", 1, "no", False, "error"),
    (1, "", 1, "no", True, "syntax_error"), (-11, "", 1, "", False, "crash"),
    (-9, "", 2500, "", False, "timeout"), (-9, "", 500, "", False, "crash"),
    (-signal.SIGXCPU, "", 2500, "", False, "timeout"),
    (-9, "wall", 1, "", False, "timeout"), (-9, "output", 1, "", True, "output"),
    (0, "output", 1, "", False, "output"),
    (-6, "", 1, "terminate ... 'std::bad_alloc'", False, "memory"),
    (1, "", 1, "MemoryError", False, "memory"), (1, "", 1, SAID, True, "memory"),
    (1, "", 1, f"main.cpp:3:1: error: '{SAID}'", True, "syntax_error"),
    (1, "", 1, "x.cc:1: error: cannot allocate an object of abstract type 'A'", True,
     "syntax_error"),
    (4, "", 1, "g++: fatal error: CPU time limit exceeded", True, "timeout"),
    (4, "", 1, "CPU time limit exceeded", False, "error")])
def test_how_a_command_ended(status, why, cpu_ms, stderr, compiles, expected):
    assert outcome(status, why, float(cpu_ms), stderr, LIMITS, compiles)[0] == expected


def test_messages_are_cut_and_show_no_scratch_folder_nor_control_characters():
    said = "/tmp/xyz/main.c:1: error: \x1b[31m" + "x" * 9000
    step = read_step([256, "", 1.0, 2.0, 2048, "/tmp/xyz/\x1b", said], "/tmp/xyz",
                     COMPILE, True)
    assert step.message.startswith("main.c:1: error: �[31mx")
    assert len(step.message) == len(step.stderr) == 4097
    assert step.stdout == "/tmp/xyz/\x1b"  # what it printed is compared, not shown
    assert step.verdict == "syntax_error" and step.status == 1 and step.peak_mib == 2


def test_a_compiler_may_complain_on_standard_output():
    words = [512, "", 1.0, 2.0, 0, "main.ts(1,1): error", ""]
    assert read_step(words, "/tmp", COMPILE, True).message == "main.ts(1,1): error"
    assert read_step(words, "/tmp", LIMITS, False).message == "ended with status 2"


class Told(Pool):
    """A pool that gives these bytes for an answer."""

    def __init__(self, answers: bytes, tier: str = "namespaces") -> None:
        self.tier, self.limits = tier, LIMITS
        self.ending = Ending(answers, b"", False, 0, "", 0.0, 0.0, 0.0)

    def execute(
        self, role: str, request: bytes, limits: Limits | None = None
    ) -> Ending:
        return self.ending


@pytest.mark.parametrize("answers, expected", [
    (b"", "harness_error"), (b"\0\0\0\2}{", "harness_error"),
    (pack("/tmp") + pack("/usr/bin/gcc"), "harness_error"),
    (pack("/tmp") + pack([1, 2]), "harness_error"), (pack("/tmp"), "crash")])
def test_what_is_nobodys_fault_is_told_apart(monkeypatch, answers, expected):
    monkeypatch.setattr(steps, "closed", lambda _: False)
    assert perform(Told(answers), "bash", {"main.sh": b""}, [b""])[:2] == ([], expected)


def test_landlock_without_scopes_runs_no_commands(monkeypatch):
    monkeypatch.setattr(steps, "closed", lambda _: False)
    bash = ("bash", {"main.sh": b""}, [b""])
    monkeypatch.setattr(steps.landlock, "abi", lambda: 5)
    with pytest.raises(UserError, match="from version 6 .*this kernel has version 5"):
        perform(Told(pack("/tmp"), "landlock"), *bash)
    assert perform(Told(pack("/tmp")), *bash)[1] == "crash"
    monkeypatch.setattr(steps.landlock, "abi", lambda: 6)
    assert perform(Told(pack("/tmp"), "landlock"), *bash)[1] == "crash"


@pytest.mark.skipif("rust" not in available(), reason="needs rustc")
def test_a_tool_that_programs_may_not_reach_is_refused(monkeypatch):
    monkeypatch.setattr(steps, "closed", lambda path: path.endswith("rustc"))
    with pytest.raises(UserError, match="rustc lies where only root may go.*rustc gcc"):
        perform(Told(b"", "weak"), "rust", {"main.rs": b""}, [b""])
