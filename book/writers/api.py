"""The API reference, read from the source: a page for each room of minicoder/.

Nothing is imported: some modules run only in a sandbox's child or need torchtitan.
Docstrings are prose with `code`; entries are those of Sphinx's Python domain, which
indexes them, links the types of signatures and shows each source (sphinx.ext.viewcode).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

from book.writers import equations
from book.writers._parts import ROOT, row, summary

PAGES = {  # page: its title and the modules on it
    "config": ("The shape of a model", ("config",)),
    "tokenizer": ("Tokenizer", ("tokenizer", "bpe")),
    **{room: (room.capitalize(), (f"{room}/*",)) for room in (
        "data", "model", "parallel", "training", "execution", "tasks", "alignment",
        "evaluation", "scale", "show")},
    "commands": ("Commands and stages",
                 ("__main__", "demo", "use", "stages", "progress", "errors")),
}
EXERCISES = ROOT / "minicoder/show/exercises"
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
Def = ast.FunctionDef | ast.ClassDef


def name_of(path: Path) -> str:
    """`minicoder/model/mla.py` is `minicoder.model.mla`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def modules(page: str) -> list[Path]:
    """The files on a page; a package's own text stands at its head."""
    return [path for pattern in PAGES[page][1]
            for path in sorted((ROOT / "minicoder").glob(f"{pattern}.py"))
            if path.stem != "__init__"]


def is_public(name: str) -> bool:
    """Whether others may use it: no leading underscore, or `__call__`."""
    return not name.startswith("_") or name == "__call__"


def public(body: list[ast.stmt]) -> list[Def]:
    """The functions and classes that are for others, in the order of the file."""
    return [node for node in body if isinstance(node, Def) and is_public(node.name)]


def prose(text: str) -> str:
    """Words that mean themselves in Markdown too; what stands in `...` stays code."""
    return "".join(
        part if part.startswith("`") else re.sub(r"[\\*_$<>\[\]{}&#]", r"\\\g<0>", part)
        for part in re.split(r"(`[^`]*`)", OPTION.sub(r"`\g<0>`", text)))


def markdown(text: str | None) -> str:
    """A docstring as Markdown: paragraphs, indented code, and `Args:` as a list."""
    words, _, args = (text or "").partition("\n\nArgs:\n")
    items = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", args, re.MULTILINE)
    blocks = [
        f"```text\n{dedent(block)}\n```" if block.startswith(("    ", ">>>"))
        else re.sub(r"\n(?![|-] )", " ", prose(block)) for block in words.split("\n\n")]
    if items:
        blocks.append("\n".join(f"- `{name}`: {prose(' '.join(said.split()))}"
                                for name, said in items))
    return "\n\n".join(blocks)


class Dotted(ast.NodeTransformer):
    """Types of minicoder by their full names, which Sphinx links and shows short."""

    def __init__(self, tree: ast.Module) -> None:
        self.home = {alias.asname or alias.name: f"{node.module}.{alias.name}"
                     for node in tree.body if isinstance(node, ast.ImportFrom)
                     and (node.module or "").startswith("minicoder.")
                     for alias in node.names}

    def visit_arguments(self, node: ast.arguments) -> ast.arguments:
        for arg in ast.walk(node):  # the types alone: a default keeps its name
            if isinstance(arg, ast.arg) and arg.annotation:
                arg.annotation = self.visit(arg.annotation)
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        full = self.home.get(node.id, node.id)
        return ast.parse(full, mode="eval").body


def arguments(node: Def, types: Dotted) -> str:
    """What stands in the brackets of a call; a dataclass has its fields."""
    if isinstance(node, ast.FunctionDef):
        return ast.unparse(types.visit(node.args))
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return re.sub(r"^self(, )?", "", arguments(part, types))
    if any("dataclass" in ast.unparse(mark) for mark in node.decorator_list):
        return ", ".join(
            f"{part.target.id}: {ast.unparse(types.visit(part.annotation))}"
            + (f" = {ast.unparse(part.value)}" if part.value else "")
            for part in node.body if isinstance(part, ast.AnnAssign))
    return ""


def kind_of(node: Def, inside: bool) -> tuple[str, list[str]]:
    """The directive of an entry and its options."""
    marks = {ast.unparse(mark).split("(")[0] for mark in node.decorator_list}
    if isinstance(node, ast.ClassDef):
        return "py:class", []
    if marks & {"property", "cached_property"}:
        return "py:property", [f":type: {ast.unparse(node.returns)}"]
    options = {"classmethod": ":classmethod:", "staticmethod": ":staticmethod:"}
    return ("py:method" if inside else "py:function",
            [option for mark, option in options.items() if mark in marks])


def entry(node: Def, module: str, lines: list[str], types: Dotted, above: str = ""
          ) -> str:
    """One function, or a class with its fields' remarks, its methods and papers."""
    name, fence = f"{above}{node.name}", ":::" if above else "::::"
    kind, options = kind_of(node, bool(above))
    head = name
    if kind != "py:property":
        args = arguments(node, types)
        if above and ":staticmethod:" not in options:
            args = re.sub(r"^(self|cls)(, )?", "", args)
        head += f"({args})"
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            head += f" -> {ast.unparse(types.visit(node.returns))}"
    head = re.sub(r"(Tensor, ')\s+", r"\1", head)  # jaxtyping's " B" is for linters
    text = [f"{fence}{{{kind}}} {head}", *options, "",
            markdown(ast.get_docstring(node))]
    if isinstance(node, ast.ClassDef):
        remarks = [(part.target.id, lines[part.end_lineno - 1].partition("  # ")[2])
                   for part in node.body if isinstance(part, ast.AnnAssign)]
        text += ["", *(f"- `{field}`: {prose(said.strip())}"
                       for field, said in remarks if said), ""]
        text += [entry(part, module, lines, types, f"{name}.")
                 for part in public(node.body) if isinstance(part, ast.FunctionDef)]
    if links := equations.links_of(f"{module}:{name}"):
        text += ["", f"In the papers: {links}."]
    return "\n".join([*text, fence, ""])


def aliases(tree: ast.Module, lines: list[str]) -> Iterator[str]:
    """Names of types: `Way = Literal[...]`, with the remark of their line."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(
                node.value, ast.Subscript | ast.BinOp):
            name = ast.unparse(node.targets[0])
            if name[0].isupper() and not name.isupper():
                remark = lines[node.end_lineno - 1].partition("  # ")[2]
                yield "\n".join([f":::{{py:type}} {name}", "",
                                 f"`{ast.unparse(node.value)}` {prose(remark)}",
                                 ":::", ""])


def module_text(path: Path, alone: bool) -> str:
    """What a page says of one module."""
    source = path.read_text(encoding="utf-8")
    tree, lines, module = ast.parse(source), source.splitlines(), name_of(path)
    types = Dotted(tree)
    head = [] if alone else [f"## {prose(path.stem)}", ""]
    return "\n".join([
        *head, f":::{{py:module}} {module}", ":::", "",
        f"`{path.relative_to(ROOT)}`: {markdown(ast.get_docstring(tree))}", "",
        *aliases(tree, lines),
        *(entry(node, module, lines, types) for node in public(tree.body))])


def page(name: str) -> str:
    """One room: its own words, then module after module."""
    title, _ = PAGES[name]
    package, found = ROOT / f"minicoder/{name}/__init__.py", modules(name)
    text = [f"# {title}", ""]
    if package.exists():
        text += [prose(summary(package)), ""]
    text += [module_text(path, len(found) == 1) for path in found]
    if name == "show":
        text += ["## exercises", "", "A module for each lesson's exercises: what is "
                 "asked, the solution, and the wrong answers that `check` knows.", "",
                 *(f"- `{path.relative_to(ROOT)}`: {prose(summary(path))}"
                   for path in sorted(EXERCISES.glob("[!_]*.py")))]
    return "\n".join(text) + "\n"


def pages() -> dict[str, str]:
    """`api`, which lists the rooms, and `api_ROOM` for each."""
    rows = [row(f"[{title}](api_{name}.md)", ", ".join(
                f"{{py:mod}}`{path.stem} <{name_of(path)}>`" for path in modules(name)))
            for name, (title, _) in PAGES.items()]
    index = "\n".join([
        "# The library", "",
        "What every public function and class is for, from its docstring. A signature "
        "gives the shapes of its tensors: `Float[Tensor, \"B T D\"]` has the axes B, T "
        "and D, whose letters the head of the module explains. `[source]` leads to the "
        "code, which is part of this site.", "",
        "| room | modules |", "|---|---|", *rows, ""])
    return {"api": index} | {f"api_{name}": page(name) for name in PAGES}
