"""Build the notebooks: run NN_name.py and write NN_name.ipynb with its outputs.

    python notebooks/build.py build [NN_name ...]    two builds give the same bytes
    python notebooks/build.py check [NN_name ...]    are they what their sources say?
    python notebooks/build.py handout [NN_name ...]  handout/NN_name.ipynb, for a class:
                                                     no outputs and no solutions
    python notebooks/build.py stamp [NN_name ...]    the repository's new address, into
                                                     each notebook; runs nothing
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

sys.path.insert(0, str(Path(__file__).parents[1]))
from book import address  # noqa: E402

FOLDER = Path(__file__).parent
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python",
                         "name": "python3"},
          "language_info": {"name": "python"}}
# one thread and no bars: what is printed must not depend on the machine's mood
QUIET = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "TQDM_DISABLE": "1"}
WIDGETS = "application/vnd.jupyter.widget-state+json"
MINUTES = 5  # the longest that one cell may take
HANDOUT = FOLDER.parent / "handout"
ADDRESS = "REPOSITORY"  # stands in a source for what pyproject.toml says
SOLUTION = re.compile(r"<details>\s*<summary>Solution.*?</details>\n*", re.DOTALL)


def sources(names: list[str], folder: Path = FOLDER) -> list[Path]:
    """The py:percent sources called `names`, or all of them in the course's order."""
    return [folder / f"{Path(name).stem}.py" for name in names] or sorted(
        folder.glob("[0-9][0-9]_*.py"))


def read_source(path: Path) -> NotebookNode:
    """The notebook that `path` describes, not run; the ids of its cells count up."""
    notebook = jupytext.read(path)
    notebook.metadata = nbformat.from_dict(KERNEL)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    repository = address.read(environ={}).repository  # a fork's run changes no notebook
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{path.stem}-{number:02d}"
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in cell.metadata.items() if k == "tags"})
        if cell.cell_type == "code":
            cell.source = cell.source.replace(ADDRESS, repository)
    return notebook


def join_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join what one cell printed; where a pipe cut it is chance."""
    joined: list[NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if output.output_type == "stream" and last.get("name") == output.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def stable_text(notebook: NotebookNode, root: Path) -> str:
    """The notebook's file, without times, addresses, drawn ids and paths to `root`."""
    notebook.metadata.language_info = nbformat.from_dict(KERNEL["language_info"])
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":  # what is printed alone: sources keep their hex
            cell.outputs = nbformat.from_dict(json.loads(re.sub(
                r"\b0x[0-9a-f]{6,16}\b", "0x000000000000",
                json.dumps(join_streams(cell.outputs)))))
    widgets = notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})
    text = nbformat.writes(notebook)
    for number, drawn in enumerate(widgets):  # in the order in which they were made
        text = text.replace(drawn, f"{number:032x}")
    text = text.replace(f"{root}{os.sep}", "")  # in tracebacks
    return json.dumps(json.loads(text), indent=1, ensure_ascii=False,
                      sort_keys=True) + "\n"


def build(path: Path) -> Path:
    """Run `path` from top to bottom in a fresh kernel and write its notebook.

    Raises nbclient's `CellExecutionError` when a cell fails that is not tagged
    `raises-exception`; the notebook that was there stays.
    """
    notebook, root = read_source(path), path.resolve().parents[1]
    NotebookClient(notebook, timeout=60 * MINUTES, record_timing=False,
                   extra_arguments=["--log-level=ERROR"],
                   resources={"metadata": {"path": str(path.parent)}}).execute()
    target = path.with_suffix(".ipynb")
    draft = target.with_suffix(".partial")
    draft.write_text(stable_text(notebook, root), encoding="utf-8")
    return draft.replace(target)


def check(path: Path) -> list[str]:
    """What is wrong with the notebook of `path`, in sentences; runs nothing."""
    target = path.with_suffix(".ipynb")
    if not target.exists():
        return [f"{target.name} was never built"]
    source, built = read_source(path), nbformat.read(target, as_version=4)

    def content(notebook: NotebookNode) -> list[tuple]:
        return [(cell.id, cell.cell_type, cell.source, cell.metadata.get("tags"))
                for cell in notebook.cells]

    complaints = []
    if content(source) != content(built):
        complaints.append(f"{target.name} is not what {path.name} says: build it again")
    code = [cell for cell in built.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        complaints.append(f"{target.name} was not run from top to bottom")
    if any(output.get("name") == "stderr" for cell in code for output in cell.outputs):
        complaints.append(f"{target.name} shows a warning (standard error)")
    return complaints


def stamp(path: Path) -> Path:
    """Write the cells of `path` that name the repository into its built notebook.

    Runs nothing; all other cells and all outputs stay as they were.
    """
    target = path.with_suffix(".ipynb")
    built = nbformat.read(target, as_version=4)
    for plain, cell, old in zip(jupytext.read(path).cells, read_source(path).cells,
                                built.cells, strict=False):  # `check` sees the rest
        if cell.cell_type == "code" and ADDRESS in plain.source:
            old.source = cell.source
    target.write_text(stable_text(built, path.resolve().parents[1]), encoding="utf-8")
    return target


def handout(path: Path, folder: Path = HANDOUT) -> Path:
    """Write the notebook of `path` for a class: not run, its solutions taken out.

    `folder` lies beside notebooks/, so that pictures and files are found as from there.
    """
    notebook = read_source(path)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = SOLUTION.sub("", cell.source)
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip()]
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / path.with_suffix(".ipynb").name
    target.write_text(stable_text(notebook, path.resolve().parents[1]),
                      encoding="utf-8")
    return target


def main(arguments: list[str]) -> int:
    """Do what the command line says; the exit status is 0 when all is well."""
    mode, *names = arguments or ["help"]
    if mode not in ("build", "check", "handout", "stamp"):
        print(__doc__, file=sys.stderr)
        return 2
    paths = sources(names)
    if missing := [path.name for path in paths if not path.exists()]:
        print(f"There is no notebooks/{missing[0]}.", file=sys.stderr)
        return 2
    os.environ |= QUIET
    complaints = []
    for path in paths:
        if mode == "stamp":
            stamp(path)
        if mode in ("check", "stamp"):
            complaints += check(path)
            continue
        if mode == "handout":
            print(f"{path.name} -> handout/{handout(path).name}")
            continue
        try:
            print(f"{path.name} -> {build(path).name}", flush=True)
        except CellExecutionError as error:
            complaints.append(f"{path.name} stopped: {error}")
    print("\n".join(complaints) or "All notebooks are as their sources say.")
    return int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
