"""Answers that change files: patches as git applies them, paths that stay inside."""

import random
import subprocess
from shutil import which

import pytest

from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.files import (
    Refused,
    apply_patch,
    make_patch,
    run_checks,
    safe_path,
    show_files,
    whole_files,
)

pytestmark = pytest.mark.filterwarnings("ignore:")
FILES = {"a/b.py": "x = 1\ny = 2\nz = 3\n", "c.py": "w = 0\n"}
BAD_PATHS = ("../x.py", "a/../x.py", "/etc/passwd", "a//b.py", "./a.py", ".git/config",
             "a/.git/hooks", "-rf", "a/-b", "", "a/", "a b.py", "a\\b.py", "C:x", "~/x",
             "a\0b", "a\nb", "\u202ex.py", "é.py", "x" * 201, "..", "a/..", "$HOME/x")


@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_that_leave_or_surprise_are_refused(path):
    with pytest.raises(Refused, match="is not allowed"):
        safe_path(path)


@pytest.mark.parametrize("path", ["a.py", "a/b/c_d-e.1.txt", "_x/__init__.py", "A/B9"])
def test_plain_paths_are_taken(path):
    assert safe_path(path) == path


@pytest.mark.parametrize("path", [p for p in BAD_PATHS if p and "\n" not in p])
def test_no_answer_leaves_the_repository(path):
    with pytest.raises(Refused):
        apply_patch(FILES, f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+bad\n")
    try:  # a line that is no path at all names no file
        assert set(whole_files(f"c.py\n```\n1\n```\n{path}.py\n```\nbad\n```\n")) <= {
            "c.py", "C.py"}
    except Refused as error:
        assert "not allowed" in str(error)


def changed(draw, text):
    """A text with some lines removed, inserted and replaced."""
    lines = []
    for line in text.split("\n")[:-1]:
        chance = draw.random()
        if chance < 0.9:
            lines.append(line)
        if chance > 0.82:
            lines.append(f"new {draw.randrange(5)}" if draw.random() < 0.8 else "")
    return "".join(f"{line}\n" for line in lines or ["one"])


@pytest.mark.parametrize("seed", range(40))
def test_a_made_patch_gives_the_new_files(seed):
    draw = random.Random(seed)
    old = {f"p/f{i}.py": "".join(f"line {draw.randrange(9)}\n" for _ in range(40))
           for i in range(3)}
    new = {path: changed(draw, text) for path, text in old.items()}
    new["p/new.py"] = "made\n"
    assert apply_patch(old, make_patch(old, new)) == new


@pytest.mark.skipif(not which("git"), reason="git is not installed")
@pytest.mark.parametrize("seed", range(4))
def test_git_and_this_file_read_each_other(tmp_path, seed):
    draw = random.Random(seed)
    old = {f"p/f{i}.py": "".join(f"line {n} {draw.randrange(3)}\n" for n in range(60))
           for i in range(2)}
    new = {path: changed(draw, text) for path, text in old.items()} | {"q.py": "z\n"}

    def git(*words):
        return subprocess.run(
            ["git", "-c", "core.autocrlf=false", *words], cwd=tmp_path,
            capture_output=True, text=True, check=True).stdout

    def write(files):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(text)

    git("init", "-q")
    write(old)
    git("add", ".")
    write(new)
    git("add", "-N", ".")
    assert apply_patch(old, git("diff")) == new
    git("checkout", "-q", "p")
    (tmp_path / "q.py").unlink()
    (tmp_path / "my.patch").write_text(make_patch(old, new))
    git("apply", "my.patch")
    assert {path: (tmp_path / path).read_text() for path in new} == new


def test_line_numbers_may_be_wrong_but_context_may_not():
    hunk = "--- a/a/b.py\n+++ b/a/b.py\n@@ -{} @@\n x = 1\n-y = {}\n+y = 5\n z = 3\n"
    for at in ("1,3 +1,3", "90,3 +7,3", "1 +1"):
        patched = apply_patch(FILES, hunk.format(at, 2))
        assert patched == FILES | {"a/b.py": "x = 1\ny = 5\nz = 3\n"}
    with pytest.raises(Refused, match="a hunk at line 1 of a/b.py fits nowhere"):
        apply_patch(FILES, hunk.format("1,3 +1,3", 4))


def test_of_two_places_the_nearest_is_taken():
    text = "a\nb\n" * 10
    patch = "--- a/t\n+++ b/t\n@@ -{0},2 +{0},2 @@\n a\n-b\n+c\n"
    for at in (1, 9, 19):
        lines = apply_patch({"t": text}, patch.format(at))["t"].split("\n")
        assert lines.index("c") == at


@pytest.mark.parametrize("patch", [
    "", "I do not know", "--- a/c.py\n+++ b/c.py\n", "@@ -1 +1 @@\n-w = 0\n+w = 1\n",
    "--- a/c.py\n+++ b/c.py\n@@ -1 +1 @@\n w = 0\n",
    "--- a/none.py\n+++ b/none.py\n@@ -1 +1 @@\n-w\n+v\n",
    "--- a/c.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-w = 0\n",
    "--- a/c.py\n+++ b/d.py\n@@ -1 +1 @@\n-w = 0\n+w = 1\n",
    "--- /dev/null\n+++ b/c.py\n@@ -0,0 +1 @@\n+w = 1\n",
    "diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n"
    "+/etc/passwd\n",
    "diff --git a/s b/s\nnew file mode 160000\n--- /dev/null\n+++ b/s\n@@ -0,0 +1 @@\n"
    "+1\n", "rename from c.py\nrename to d.py\n--- a/c.py\n+++ b/c.py\n@@ -1 +1 @@\n"
    "-w = 0\n+v\n",
    "+" * 200_000, "--- a/c.py\n+++ b/c.py\n" * 4000, "@@ -1 +1 @@\n" * 8000])
def test_patches_that_are_refused(patch):
    with pytest.raises(Refused):
        apply_patch(FILES, patch)


def test_whole_files():
    assert whole_files(show_files(FILES)) == FILES
    answer = ("First\n\n**a/b.py**\n```python\nx\n\ny\n```\n\n`c.py`:\n```\nz\n```\n"
              "c.py\n```\nlast\n```\nd.py\n```\ncut off")
    assert whole_files(answer) == {"a/b.py": "x\n\ny\n", "c.py": "last\n"}
    assert whole_files("So:\n```\nx\n```", default="c.py") == {"c.py": "x\n"}
    for nothing in ("", "c.py", "So:\n```\nx\n```", "```\n" * 30_000 + "x"):
        with pytest.raises(Refused):
            whole_files(nothing)


def test_checks_call_the_functions_of_the_repository():
    files = {"p/__init__.py": "", "p/a.py": "def one():\n    return 1\n",
             "p/b.py": "from .a import one\nfrom p import a\n"
                       "def two(n):\n    return [one() + a.one(), n]\n"}
    with Sandbox(workers=1, allow_weak=True) as sandbox:
        result = run_checks(
            files, ((("p.b:two", 5), [2, 5]), (("p.a:one",), 2)), sandbox)
        assert (result.verdict, result.passed, result.total) == ("fail", 1, 2)
        broken = run_checks(files | {"p/a.py": "def"}, ((("p.a:one",), 1),), sandbox)
        assert broken.verdict == "error" and "SyntaxError" in broken.message
