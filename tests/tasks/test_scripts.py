"""Functions in many languages: canonical solutions pass, others do not."""

import gzip
import json
import os
from pathlib import Path

import pytest

from minicoder.execution.languages import closed, missing, tools
from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.answers import fenced
from minicoder.tasks.formats import buggy, from_record
from minicoder.tasks.scripts import Script

pytestmark = pytest.mark.filterwarnings("ignore:")
SHARED = Path(os.environ.get(
    "MINICODER_BENCHMARKS", Path(__file__).parents[3] / "shared/data"))
PACK = {"python": "python", "cpp": "cpp", "java": "java", "js": "javascript",
        "go": "go", "rust": "rust"}
ADDS = {"php": ("php_v1.1", "  return $x + $y;\n}\n"),
        "ruby": ("ruby_v1.1", "\n  return x + y\nend\n"),
        "typescript": ("typescript_v1", "  return x + y;\n}\n")}


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=2, allow_weak=True) as pool:
        yield pool


def record(name: str, number: int) -> dict:
    """One object of a benchmark file; skips where it does not lie beside."""
    if not (path := SHARED / f"{name}.jsonl.gz").exists():
        pytest.skip(f"{name} is not on this disk")
    return json.loads(gzip.decompress(path.read_bytes()).split(b"\n")[number])


def need(sandbox: Sandbox, language: str) -> None:
    """Skips what this machine or tier cannot run."""
    if language in missing():
        pytest.skip(f"needs the Debian package {missing()[language]}")
    if sandbox.tier in ("weak", "landlock") and any(
            map(closed, tools(language).values())):
        pytest.skip(f"{language} lies where only root may go")


@pytest.mark.parametrize("name", PACK)
def test_humanevalpack(sandbox, name):
    need(sandbox, PACK[name])
    for number in (0, 3 if name == "rust" else 53):
        line = record(f"humanevalpack/{name}", number)
        task = from_record(line)
        assert task.language == PACK[name] and task.prompt.rstrip() in task.question
        whole, body = task.reference, fenced(task.solution, task.language)
        answers = [whole, f"Yes:\n{body}" if name != "python" else whole,
                   fenced(buggy(line).buggy, task.language), "I do not know."]
        verdicts = [task.grade(answer, sandbox).verdict for answer in answers]
        assert verdicts[:2] == ["pass", "pass"], (task.task_id, verdicts)
        assert "pass" not in verdicts[2:] and "harness_error" not in verdicts


def test_tests_that_cannot_run_are_nobodys_fault(sandbox):
    task = Script("t/0", "t", "rust", "", "f", "", "let mut r = rand::thread_rng();")
    assert task.grade("fn f() {}", sandbox).verdict == "harness_error"


@pytest.mark.parametrize("language", ADDS)
def test_multilingual_humaneval(sandbox, language):
    need(sandbox, language)
    file, body = ADDS[language]
    task = next(found for number in range(45, 60) if "53" in (found := from_record(
        record(f"multilingual_humaneval/HumanEval_{file}", number))).task_id)
    assert task.reference == "" and task.language == language
    right = task.grade(fenced(body, language), sandbox)
    whole = task.grade(fenced(task.program(body), language), sandbox)
    wrong = task.grade(fenced(body.replace("+", "-"), language), sandbox)
    assert (right.verdict, whole.verdict) == ("pass", "pass"), (right, whole)
    assert wrong.verdict in ("fail", "error", "crash")


@pytest.mark.parametrize(("language", "prompt", "answer", "program"), [
    ("java", "import java.util.*;\n\nclass Solution {\n    /** f */\n"
     "    public int f(int n) {\n", "    public int f(int n) {\n  return n;\n}\n",
     "import java.util.*;\nclass Solution {\n    public int f(int n) {\n  return n;\n"
     "}\n}\n"),
    ("php", "<?php\n// f\nfunction f($n){\n", "<?php\nfunction f($n){ return f($n); }",
     "<?php\n// f\n\nfunction f($n){ return f($n); }\n"),
    ("cpp", "int g();\nint f(int n){\n", "  return f(n - 1);\n}\n",
     "int g();\nint f(int n){\n  return f(n - 1);\n}\n"),
    ("rust", "use a;\nfn f(n:i32) -> i32{\n", "fn f(n: i32) -> i32 { n }",
     "use a;\nfn f(n: i32) -> i32 { n }\n"),
    ("javascript", "/* f */\nconst f = (n) => {\n", "const f = (n) => n;",
     "/* f */\nconst f = (n) => n;\n"),
    ("perl", "# f\nsub f\n{\n", "  my ($n) = @_;\n  return $n;\n}",
     "# f\nsub f\n{\n  my ($n) = @_;\n  return $n;\n}\n")])
def test_an_answer_is_the_function_or_completes_the_prompt(
        language, prompt, answer, program):
    task = Script("t/0", "t", language, prompt, "f", "", "")
    assert task.answered(fenced(answer, language)) == program


def test_go_gets_the_imports_that_it_uses():
    task = Script("t/0", "t", "go", "func F(n int) int {\n", "F", "",
                  "func TestF(t *testing.T) {\n    assert := assert.New(t)\n}\n",
                  'import (\n    "math"\n)\n', {"test_setup": 'import (\n"time"\n)'})
    own = task.tested('package main\nimport "sort"\nfunc F(n int) int { return n }')
    assert '"sort"\n"time"\n)' in own and '"math"' not in own
    assert own.count("package main") == 1 and "func main() {" in own
    assert '"math"\n"time"\n)' in task.tested("func F(n int) int { return n }")
