"""What is released: one version, a wheel that works alone, and the hosts' settings."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from show.synthetic import write_run

import minicoder

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PACKAGED = """
import sys
from pathlib import Path

import minicoder
found = [place for place in sys.path if Path(place, "minicoder/__init__.py").exists()]
assert found == [sys.argv[1]] == [str(Path(minicoder.__file__).parents[1])], found
from minicoder.data.languages import language_of
from minicoder.evaluation.results import reported
from minicoder.execution.languages import named
from minicoder.show.check import check
from minicoder.tokenizer import Tokenizer
print(language_of("a.rs").name, named("go").file, len(reported()))
check("tokenizer.prompt", lambda user, tokenizer: [
    tokenizer.bos, *tokenizer.encode(f"User: {user}\\n\\nAssistant:")])
"""


def text(name: str) -> str:
    """A file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def done(*words: object, **options: object) -> str:
    """What a program prints; it must end well."""
    ran = subprocess.run([*map(str, words)], capture_output=True, text=True, **options)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of what git knows and ignores not: nothing that an old build left."""
    listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git repository")
    folder = tmp_path_factory.mktemp("copy")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def archive(copied, tmp_path_factory):
    """The source archive, built from the copy."""
    folder = tmp_path_factory.mktemp("sdist")
    done(sys.executable, "-c", "import sys\nfrom setuptools import build_meta\n"
         "build_meta.build_sdist(sys.argv[1])", folder, cwd=copied)
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(archive, tmp_path_factory):
    """The wheel, built from the source archive: what is in neither is seen."""
    folder = tmp_path_factory.mktemp("wheel")
    done(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index",
         "--no-build-isolation", "-w", folder, archive)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel, and how to start Python where it lies and no other."""
    folder = tmp_path_factory.mktemp("installed")
    done(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index",
         "--target", folder, wheel)
    # -S: site-packages are found, the editable minicoder that they point to is not
    path = os.pathsep.join((str(folder), sysconfig.get_path("purelib")))

    def start(*words: object) -> str:
        return done(sys.executable, "-S", *words, cwd=folder.parent, env=os.environ | {
            "PYTHONPATH": path, "PYTHONSAFEPATH": "1"})
    return folder, start


def test_one_version_everywhere():
    version = minicoder.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert "version" in PROJECT["project"]["dynamic"]
    cited = yaml.safe_load(text("CITATION.cff"))
    assert cited["version"] == version
    newest = re.search(r"^## \[([\d.]+)\] - ([\d-]+)$", text("CHANGELOG.md"), re.M)
    assert newest.groups() == (version, str(cited["date-released"]))


@pytest.mark.slow
def test_the_wheel_holds_the_package_whole_and_nothing_else(wheel, copied):
    assert wheel.name == f"minicoder-{minicoder.__version__}-py3-none-any.whl"
    held = {name for name in zipfile.ZipFile(wheel).namelist()
            if ".dist-info/" not in name}
    assert held == {path.relative_to(copied).as_posix()
                    for path in (copied / "minicoder").rglob("*") if path.is_file()}
    assert {Path(name).suffix for name in held} >= {".py", ".toml", ".jinja"}


@pytest.mark.slow
def test_the_source_archive_holds_what_builds_the_wheel_and_no_tests(archive):
    names = {name.partition("/")[2] for name in tarfile.open(archive).getnames()}
    assert names >= {"pyproject.toml", "README.md", "LICENSE", "minicoder/__init__.py"}
    assert {name.split("/")[0] for name in names} & {
        "tests", "notebooks", "figures", "book", "benchmarks"} == set()


@pytest.mark.slow
def test_the_installed_wheel_works_outside_the_repository(installed, tmp_path):
    folder, start = installed
    said = start("-c", PACKAGED, folder)
    assert said.startswith("Rust ") and ".go " in said and "✓" in said
    helped = start("-m", "minicoder", "--help")
    assert "usage: " in helped and all(
        word in helped for word in ("demo", "pretrain", "grpo", "evaluate"))
    start("-m", "minicoder", "report", "--run-folder", write_run(tmp_path / "run"))
    assert "<html" in (tmp_path / "run/report.html").read_text(encoding="utf-8")


# --- the ranges of the wheel, the pins of the course, and the hosts that read them

def pins(name: str) -> dict[str, Version]:
    """The exact versions of a requirements file."""
    lines = [line.split("#")[0].strip() for line in text(name).splitlines()]
    found = [Requirement(line) for line in lines if line and line[0] not in "-"]
    return {need.name.lower(): Version(str(need.specifier).removeprefix("=="))
            for need in found}


def test_each_range_of_the_wheel_holds_what_is_tested():
    tested = pins("requirements.txt") | pins("tests/requirements.txt")
    extras = PROJECT["project"]["optional-dependencies"]
    ranges = [Requirement(line) for line in PROJECT["project"]["dependencies"] + [
        need for extra in ("parsers", "zst", "scale", "notebooks")
        for need in extras[extra]]]
    assert [str(need) for need in ranges if need.name.lower() not in tested] == []
    assert [str(need) for need in ranges
            if tested[need.name.lower()] not in need.specifier] == []
    assert "torch" in pins("requirements.txt")


def test_binder_takes_the_pins_of_the_course():
    lines = [line for line in text("binder/requirements.txt").splitlines()
             if not line.startswith("#")]
    assert lines[1:] == ["-r ../requirements.txt", "-e ."]
    assert lines[0].startswith("--extra-index-url https://download.pytorch.org/whl/")
    python = text("binder/runtime.txt").strip().removeprefix("python-")
    assert python in SpecifierSet(PROJECT["project"]["requires-python"])


def steps(workflow: dict) -> list[dict]:
    """All steps of all jobs."""
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request):
    """A workflow of GitHub as YAML reads it (`on` is a truth value there)."""
    return yaml.safe_load(request.param.read_text(encoding="utf-8"))


def test_a_workflow_may_do_little_and_takes_actions_of_github_alone(workflow):
    assert workflow[True].keys() <= {"push", "pull_request", "workflow_dispatch"}
    assert workflow["permissions"] == {"contents": "read"} and workflow["concurrency"]
    for job in workflow["jobs"].values():
        assert job.get("permissions", {}).keys() <= {"pages", "id-token"}
        assert all(re.fullmatch(r"actions/[\w-]+@(v\d+|[0-9a-f]{40})", step["uses"])
                   for step in job["steps"] if "uses" in step)


def test_workflows_say_that_nobody_ran_them():
    assert {path.stem for path in WORKFLOWS} == {"site", "test"}
    assert all(path.read_text(encoding="utf-8").startswith("# Not run yet")
               for path in WORKFLOWS)


def test_the_lines_that_a_workflow_runs(workflow, tmp_path):
    lines = [step["run"] for step in steps(workflow) if "run" in step]
    targets = re.search(r"^\.PHONY: (.*)", text("Makefile"), re.M)[1].split()
    for line in lines:
        for made in re.findall(r"^make (.*)", line, re.M):
            assert set(made.split()) <= set(targets)
        for path in re.findall(r"(?<![\w/.])(?:\.ci|tests)/[\w./]+", line):
            assert (ROOT / path).exists(), path
    beside = Path(sys.executable).with_name("shellcheck")
    if not beside.exists() and not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    for number, line in enumerate(lines):
        script = tmp_path / f"{number}.sh"
        script.write_text(f"set -e -o pipefail\n{line}", encoding="utf-8")
        done(beside if beside.exists() else "shellcheck", "-s", "bash", script)


def test_each_python_that_is_tested_is_one_that_is_allowed():
    matrix = [job["strategy"]["matrix"]["python"] for job in yaml.safe_load(
        text(".github/workflows/test.yml"))["jobs"].values()]
    allowed = SpecifierSet(PROJECT["project"]["requires-python"])
    assert matrix and all(python in allowed for row in matrix for python in row)
