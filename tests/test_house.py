"""The rules of the house: floors, sizes, types, names, style."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

ROOT = Path(__file__).parents[1]
FLOORS = (  # imports go to the same floor or further up in this list, never down
    {"__init__", "errors", "progress", "stages", "config"}, {"bpe", "tokenizer"},
    {"data", "model"}, {"parallel"}, {"training"}, {"execution"}, {"tasks"},
    {"alignment", "evaluation"}, {"scale"}, {"show"}, {"demo", "use"}, {"__main__"})
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted((ROOT / "minicoder").rglob("*.py"))
# module: the test file that covers it
TESTED_ELSEWHERE = {
    path.relative_to(ROOT / "minicoder").as_posix(): "show/test_exercises.py"
    for path in (ROOT / "minicoder/show/exercises").glob("[!_]*.py")}
READ = {".py", ".md", ".toml", ".txt", ".cfg", ".yml", ".cff", ".css", ".js", ".jinja",
        ".ipynb", ".svg", ""}
MACHINE = re.compile(  # brackets, so that this file does not find itself
    r"/(wor[k]|roo[t]|tm[p]/w)/|/(hom[e]|User[s])/\w|pyp[i]\.org|python[h]osted"
    r"|registry\.npm[j]s|deb\.debia[n]")


def module_name(path: Path) -> str:
    """`minicoder/model/mla.py` -> `minicoder.model.mla`; a package is its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_name(path): path for path in MODULES}


def imports(source: str, module: str, package: bool) -> set[str]:
    """The modules of minicoder that `source`, which is `module`, imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[:-node.level + package or None]
            base = ".".join((above if node.level else []) + [node.module or ""])
            for alias in node.names:
                inner = f"{base.rstrip('.')}.{alias.name}"
                found.add(inner if inner in NAMES else base.rstrip("."))
    return {name for name in found if name.split(".")[0] == "minicoder"} - {module}


def room(module: str) -> str:
    """The room of `minicoder.model.mla` is `model`."""
    return (module.split(".") + ["__init__"])[1]


def upward(module: str, targets: set[str]) -> set[str]:
    """The imports of `module` that go to a higher floor."""
    return {name for name in targets if FLOOR[room(name)] > FLOOR[room(module)]}


GRAPH = {name: imports(path.read_text(encoding="utf-8"), name,
                       path.name == "__init__.py") for name, path in NAMES.items()}


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def tracked() -> list[Path]:
    """The text files of the repository, with those that are new."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT,
        capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git repository")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.suffix in READ and path.is_file()]


def test_every_module_stands_on_a_floor():
    assert {room(name) for name in NAMES} <= set(FLOOR)


def test_imports_go_only_downwards():
    assert {name: up for name, targets in GRAPH.items()
            if (up := upward(name, targets))} == {}


def test_imports_make_no_circle():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_an_import_that_goes_up_is_found():
    source = "def f():\n    from minicoder.show import style\n    from . import moe\n"
    found = imports(source, "minicoder.model.mla", package=False)
    assert upward("minicoder.model.mla", found) == {"minicoder.show.style"}
    assert "minicoder.model.moe" in found
    inside = imports("from .mla import MLA", "minicoder.model", package=True)
    assert inside == {"minicoder.model.mla"}


def body_lines(f: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring: a stage's is its command's help."""
    length, first = f.end_lineno - f.lineno + 1, f.body[0]
    said = ast.get_docstring(f, clean=False) is not None
    return length - (first.end_lineno - first.lineno + 1 if said else 0)


def test_files_and_functions_are_short():
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines())
             for path in MODULES}
    assert {name: n for name, n in lines.items() if n >= 300} == {}
    long = {f"{path.name}: {f.name}": n for path in MODULES for f in functions(path)
            if (n := body_lines(f)) > 40}
    assert long == {}


def untyped(f: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether an argument or the result of `f` has no annotation."""
    given = [*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs,
             *filter(None, (f.args.vararg, f.args.kwarg))]
    return f.returns is None or any(
        a.annotation is None and a.arg not in ("self", "cls") for a in given)


def test_every_argument_and_result_has_a_type():
    assert [f"{path.name}: {f.name}" for path in MODULES for f in functions(path)
            if untyped(f)] == []


def test_shapes_are_checked_while_the_tests_run():
    from minicoder.model.norm import RMSNorm

    with pytest.raises(TypeCheckError, match="parameters"):
        RMSNorm(4, 1e-6)(torch.zeros(2, 4, dtype=torch.int))


def test_every_module_has_a_test_file_of_its_name():
    missing = []
    for path in MODULES:
        inside = path.relative_to(ROOT / "minicoder").as_posix()
        name = f"test_{path.stem.strip('_')}.py"
        test = TESTED_ELSEWHERE.get(inside) or Path(inside).with_name(name).as_posix()
        if path.stem != "__init__" and not (ROOT / "tests" / test).exists():
            missing.append(f"tests/{test}")
    assert missing == []
    assert {name for name in TESTED_ELSEWHERE
            if not (ROOT / "minicoder" / name).exists()} == set()


def test_no_file_names_a_machine():
    named = [f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
             for path in tracked()
             for number, line in enumerate(
                 path.read_text(encoding="utf-8").splitlines(), start=1)
             if MACHINE.search(line)]
    assert named == []


def test_style():
    checked = subprocess.run([sys.executable, "-m", "ruff", "check", "-q",
                              "--output-format", "concise", "."], cwd=ROOT,
                             capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
