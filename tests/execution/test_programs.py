"""Programs in many languages, right, wrong and hostile, in this machine's sandbox."""

import random
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minicoder.errors import UserError
from minicoder.execution.languages import LANGUAGES, closed, missing, tools
from minicoder.execution.programs import (
    compile_and_run,
    difference,
    judge_script,
    judge_stdin,
)
from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Limits
from minicoder.tasks.formats import buggy, read_tasks

pytestmark = pytest.mark.filterwarnings("ignore:.*(weak|landlock)")
DATA = Path(__file__).parents[3] / "shared/data"
LIMITS = Limits(cpu_s=2, wall_s=20, memory_mib=256, output_kib=16)
PROGRAMS = tomllib.loads(Path(__file__).with_name("programs.toml").read_text("utf-8"))
NEXT, ASSERT, LEAVE = (PROGRAMS[name] for name in ("next", "assert", "leave"))
HOSTILE = PROGRAMS["hostile"]


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=2, allow_weak=True, limits=LIMITS) as pool:
        yield pool


def need(pool: Sandbox, language: str) -> str:
    """The name of the main file; skips what this machine or tier cannot run."""
    if language in missing():
        pytest.skip(f"needs the Debian package {missing()[language]}")
    if pool.tier in ("weak", "landlock") and any(map(closed, tools(language).values())):
        pytest.skip(f"{language} lies where only root may go")
    return LANGUAGES[language].file


def holds(language: str, condition: str) -> str:
    """A program that fails unless a condition holds."""
    return ASSERT[language].replace("{}", condition)


@pytest.mark.parametrize("language", NEXT)
def test_a_program_is_compiled_once_and_run_on_each_input(sandbox, language):
    main = need(sandbox, language)
    n = random.randrange(10**6)
    tests = [(f"{n}\n", f"{n + 1}"), ("41", "41"), ("7\n", " 8 \n")]
    result = judge_stdin(sandbox, language, {main: NEXT[language].encode()}, tests)
    assert (result.verdict, result.passed, result.total) == ("fail", 2, 3), result
    assert result.failures == ((2, "fail", result.message),)
    assert result.message == "word 1 of the output is '42', not '41'"
    assert result.tier == sandbox.tier and result.cpu_ms > 0 and result.peak_mib > 1


@pytest.mark.parametrize("language", NEXT)
def test_a_compiler_says_what_is_wrong(sandbox, language):
    main = need(sandbox, language)
    bad = NEXT[language].replace("<?php", "<?php (") if language == "php" else (
        "no program (\n" + NEXT[language])
    done = compile_and_run(sandbox, language, {main: bad.encode()})
    assert done.verdict == "syntax_error" and done.run is None, done
    assert done.compile and done.compile.status > 0
    assert main in done.message and "/tmp" not in done.message
    assert 10 < len(done.message) <= 4097


@pytest.mark.parametrize("language", sorted(set(NEXT) - {"typescript"}))
def test_a_script_passes_when_it_comes_to_its_end(sandbox, language):
    need(sandbox, language)
    right = judge_script(sandbox, language, holds(language, "1 + 1 == 2"))
    wrong = judge_script(sandbox, language, holds(language, "1 + 1 == 3"))
    early = judge_script(sandbox, language, LEAVE[language])
    assert (right.verdict, right.mode) == ("pass", "shared"), right
    assert wrong.verdict in ("fail", "crash") and wrong.passed == 0, wrong
    assert (early.verdict, early.message) == ("fail", "left before its tests had ended")


def test_a_script_in_typescript_is_checked_for_types(sandbox):
    need(sandbox, "typescript")
    right = "import * as assert from 'assert'\nassert.deepEqual([1], [1])"
    assert judge_script(sandbox, "typescript", right).verdict == "pass"
    wrong = judge_script(sandbox, "typescript", right.replace("[1])", "[2])"))
    assert wrong.verdict == "fail"
    typed = judge_script(sandbox, "typescript", "const n: number = 'a'")
    assert typed.verdict == "syntax_error" and "TS2322" in typed.message


def tasks(file: str, **how: Callable[..., Any]) -> list[Any]:
    """The tasks of a benchmark file; skips where it does not lie beside us."""
    if not (DATA / file).exists():
        pytest.skip(f"needs shared/data/{file}")
    return read_tasks(DATA / file, **how)


@pytest.mark.parametrize("name", ["cpp", "go", "java", "js", "python", "rust"])
def test_references_of_humanevalpack_pass_and_a_buggy_solution_does_not(sandbox, name):
    repairs = tasks(f"humanevalpack/{name}.jsonl.gz", read=buggy)[:15]
    for script in (repair.task for repair in random.sample(repairs, 3)):
        need(sandbox, script.language)
        right = judge_script(sandbox, script.language,
                             script.tested(script.program(script.solution)))
        assert right.verdict == "pass", (script.task_id, right)
    repair = random.choice(repairs)
    wrong = judge_script(sandbox, script.language, repair.task.tested(repair.buggy))
    assert wrong.verdict not in ("pass", "harness_error"), (repair.task_id, wrong)


@pytest.mark.parametrize("language", PROGRAMS["close"])
def test_multilingual_humaneval_tells_right_from_wrong(sandbox, language):
    version = "v1" if language == "typescript" else "v1.1"
    script = tasks(f"multilingual_humaneval/HumanEval_{language}_{version}.jsonl.gz")[0]
    need(sandbox, language)
    for otherwise, verdict in (("false", "pass"), ("true", "fail")):
        solution = PROGRAMS["close"][language].replace("{}", otherwise)
        program = script.tested(script.program(solution))
        assert judge_script(sandbox, language, program).verdict == verdict


def test_several_files_make_one_program(sandbox):
    need(sandbox, "c")
    sources = {"main.c": b'#include "two.h"\nint main() { return two() - 2; }',
               "two.h": b"int two();", "two.c": b"int two() { return 2; }"}
    assert compile_and_run(sandbox, "c", sources).verdict == "pass"
    python = {"main.py": b"import two; print(two.two(), end='')",
              "two.py": b"def two():\n    return 2"}
    done = compile_and_run(sandbox, "python", python)
    assert done.run and done.run.stdout == "2"


@pytest.mark.parametrize("source, verdict, message", [
    ("raise SystemExit(3)", "error", "ended with status 3"),
    ("1 / 0", "error", "ZeroDivisionError: division by zero"),
    ("import os; os.kill(os.getpid(), 11)", "crash", "ended by signal 11"),
    ("while True: pass", "timeout", "used more than 2 s of CPU time"),
    ("x = bytearray(1 << 30)", "memory", "needed more than 256 MiB"),
    ("while True: print('x' * 1000)", "output", "wrote more than 16 KiB"),
    ("import time; print(1, flush=True); time.sleep(99)", "timeout", "longer than 1 s"),
    ("print(2)", "fail", "word 1 of the output is '2', not '1'"),
    ("print(1)", "pass", "")])
def test_what_went_wrong_is_told_apart(sandbox, source, verdict, message):
    limits = Limits(2, 1 if "sleep" in source else 20, 256, output_kib=16)
    result = judge_stdin(sandbox, "python", {"main.py": source.encode()}, [("", "1")],
                         limits)
    assert result.verdict == verdict and message in result.message, result


def test_a_program_that_used_up_its_time_is_not_run_again(sandbox):
    result = judge_stdin(
        sandbox, "python", {"main.py": b"word = input()\nwhile word == 'a': pass"},
        [("b", ""), ("a", ""), *[("b", "")] * 50], Limits(cpu_s=1, wall_s=20))
    assert (result.verdict, result.passed, result.total) == ("timeout", 1, 52)


def test_a_program_that_ends_its_watcher_has_not_passed(sandbox):
    source = (b"import os, time\nn = input()\nprint(n)\n"
              b"if n == '2':\n    os.kill(os.getppid(), 9)\n    time.sleep(9)")
    tests = [("1", "1"), ("2", "2")]
    result = judge_stdin(sandbox, "python", {"main.py": source}, tests)
    assert (result.verdict, result.passed, result.total) == ("crash", 1, 2)


@pytest.mark.parametrize("got, want, tolerance, right", [
    ("1 2\n", "1\n2", 0, True), ("1", "1 2", 0, False), ("1 2", "1", 0, False),
    ("", "", 0, True), ("", "1", 0, False), ("1.0", "1", 0, False),
    ("1.0", "1", 1e-6, True), ("0.3333", "0.333333", 1e-6, False),
    ("1000001", "1000000", 1e-5, True), ("a", "b", 1, False), ("nan", "nan", 0, True),
    ("nan", "1", 1e-6, False), ("inf", "1", 1e-6, False)])
def test_outputs_are_compared_word_by_word(got, want, tolerance, right):
    assert (difference(got, want, float(tolerance)) == "") == right


def test_what_cannot_be_judged_is_refused(sandbox):
    assert judge_stdin(sandbox, "python", {"main.py": b""}, []).verdict == "refused"
    done = compile_and_run(sandbox, "python", {"../main.py": b""})
    assert (done.verdict, done.compile, done.run) == ("refused", None, None)
    big = judge_script(sandbox, "python", "#" * (1 << 20) + "#")
    assert big.verdict == "refused" and "1048577 bytes" in big.message
    with pytest.raises(UserError, match="'cobol' is no language"):
        compile_and_run(sandbox, "cobol", {})


@pytest.mark.parametrize("attack", [
    pytest.param(name, marks=pytest.mark.slow if name == "a template bomb" else ())
    for name in HOSTILE])
def test_hostile_programs_get_nothing_and_break_nothing(sandbox, attack):
    language, source, verdicts = (
        HOSTILE[attack][field] for field in ("language", "source", "verdicts"))
    main = need(sandbox, language)
    limits = Limits(cpu_s=1, wall_s=2 if "bomb" in attack else 20, memory_mib=256,
                    output_kib=16)
    done = compile_and_run(sandbox, language, {main: source.encode()}, b"", limits)
    said = done.message + (done.run.stdout if done.run else "")
    assert done.verdict in verdicts.split(), done
    assert "root:" not in said and "in\n" not in said and len(said) < 21_000
    after = judge_stdin(sandbox, "python", {"main.py": b"print(1)"}, [("", "1")])
    assert after.verdict == "pass", after
    assert not Path("/usr/bin/mine").exists() and not Path("/etc/mine").exists()
