"""Make slides of the notebooks: _build/slides/NN_name.html and an index of them.

    python notebooks/slides.py [NN_name ...]    which lessons; none: all of them

The fixed shape of a lesson says where slides begin, so notebooks carry no marks: a
`## ` section is a column of slides, and each of its parts (a subheading, **Predict.**,
**Explain.**, **Change one thing.**, code) is a slide in it. A question comes before its
code, and code before what it prints. Long prose is cut; speaker notes have all of it,
and the solutions.
"""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path

import jinja2
import nbformat
from nbconvert.filters import Highlight2HTML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

sys.path.insert(0, str(Path(__file__).parents[1]))
from minicoder.show.style import PALETTE  # noqa: E402
from notebooks.build import SOLUTION, WIDGETS, sources  # noqa: E402

FOLDER = Path(__file__).parent
STATIC = FOLDER.parent / "book/_static"
OUT = FOLDER.parent / "_build/slides"
PAGES = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined,
                           loader=jinja2.FileSystemLoader(FOLDER))
VIEW = "application/vnd.jupyter.widget-view+json"
# one part of a text: code, a formula, or lines up to an empty one
BLOCK = re.compile(r"^```.*?^```$|^\$\$.*?\$\$$|(?:^[^\n]+\n?)+",
                   re.DOTALL | re.MULTILINE)
MARKS = {"# ": "title", "## ": "section", "### Exercise": "exercise", "### ": "part",
         "**Predict.**": "predict", "**Explain.**": "explain",
         "**Change one thing.**": "change"}
WHOLE = {"predict", "change", "exercise"}  # what students are asked is never cut
WORDS = 75  # a part with more words is cut
LINES = 16  # of text on a slide
CODE = 22  # lines of code on a slide, with what they print
# the end of a sentence; no sentence ends in code, a formula, or the label of a part
STOP = re.compile(r"(?<=[.?!])(?<!e\.g\.)(?<!i\.e\.)(?:\*\*|\))?\s+(?=[^a-z\d])")
MASK = re.compile(r"\A(?:[-*] |\d+\. )?\*\*[^*]+\*\*|`[^`]*`|\$[^$]*\$")


@dataclass
class Slide:
    """One slide: HTML parts; in Markdown the line above them and the speaker notes."""

    kind: str
    caption: str = ""
    body: list[str] = field(default_factory=list)
    notes: str = ""
    lines: float = LINES  # how full it is


def render(text: str) -> str:
    """HTML of Markdown; pictures of figures/ become a part of it."""
    renderer = IPythonRenderer(escape=False, embed_images=True,
                               exclude_anchor_links=True, path=str(FOLDER.parent))
    return MarkdownWithMath(renderer).render(text.replace("](../figures", "](figures"))


PAGES.filters["markdown"] = render


def parts(text: str) -> list[tuple[str, list[str]]]:
    """[(kind, blocks)] of a Markdown cell without its solutions."""
    found: list[tuple[str, list[str]]] = []
    for block in map(str.rstrip, BLOCK.findall(SOLUTION.sub("", text))):
        kind = next((MARKS[mark] for mark in MARKS if block.startswith(mark)), "")
        if kind or not found:
            found.append((kind or "text", []))
        found[-1][1].append(block)
    return found


def shorten(block: str) -> str:
    """A paragraph's or list item's first sentence, and those with bold words.

    What follows a first one that asks, or that hardly says anything ("Yes."), stays
    too, as does a last one that ends in a colon. Tables, formulas, code stay whole.
    """
    if re.match(r"[-*] |\d+\. ", block):
        items = re.split(r"\n(?=[-*] |\d+\. )", block)
        if len(items) > 1:
            return "\n".join(map(shorten, items))
    elif re.match(r"[#|`$!]|$", block):
        return block
    masked = MASK.sub(lambda match: "x" * len(match[0]), block)
    ends = [0, *(match.end() for match in STOP.finditer(masked)), len(block)]
    first, *rest = [block[a:b] for a, b in pairwise(ends)]
    opens = first.rstrip().endswith("?") or len(first.split()) < 3
    return "".join([first, *(
        said for i, said in enumerate(rest, 1) if "**" in said or i == 1 and opens
        or i == len(rest) and said.rstrip().endswith(":"))])


def cut(blocks: list[str]) -> list[str]:
    """`blocks` with the longest shortened until at most WORDS words are left."""
    blocks = blocks.copy()
    for i in sorted(range(len(blocks)), key=lambda i: -len(blocks[i])):
        if sum(len(block.split()) for block in blocks) > WORDS:
            blocks[i] = shorten(blocks[i])
    return blocks


def height(block: str) -> float:
    """About how many lines of text `block` takes on a slide."""
    lines = block.splitlines()
    if block.startswith("!["):
        return LINES
    if block.startswith("$$"):
        return 3 + 1.5 * block.count(r"\\")
    if block.startswith("```"):
        return 0.7 * len(lines)
    if block.startswith("|"):
        return 1 + sum(-(-len(line) // 100) for line in lines)
    return 0.5 + sum(-(-len(item) // 85) for item in re.split(
        r"\n(?=[-*] |\d+\. )", block)) * (1.4 if block.startswith("#") else 1)


def pages(blocks: list[str], most: float = LINES) -> list[list[str]]:
    """`blocks` in groups of at most so many lines.

    A heading stays with what follows, as does what ends in a colon; a picture is alone.
    """
    groups: list[list[str]] = [[]]
    for block in blocks:
        page = groups[-1]
        leads = page and page[-1].endswith(":") and not block.startswith("![")
        keep = page[:-1] if leads else page
        if keep and keep[-1][0] != "#" and sum(map(height, [*page, block])) > most:
            groups[-1:] = [keep, page[len(keep):]]
        groups[-1].append(block)
    return groups


def split_code(code: str) -> list[str]:
    """Code in pieces of at most CODE lines, cut at empty lines where there are any."""
    pieces = [""]
    for block in re.split(r"\n(?:[ \t]*\n)+(?=\S)", code.strip("\n")):
        lines = pieces[-1].count("\n")
        if lines > 2 and lines + block.count("\n") + 2 >= CODE:  # imports stay
            pieces.append("")
        pieces[-1] += f"\n\n{block}" if pieces[-1] else block
    return pieces


def words(output: NotebookNode) -> str:
    """What an output says where it is text alone; else nothing."""
    if "data" in output:
        return output.data["text/plain"] if set(output.data) == {"text/plain"} else ""
    return output.get("text") or "\n".join(output.traceback)


def show(output: NotebookNode, alt: str) -> str:
    """HTML of one output: a widget, HTML, a picture, or text."""
    data = output.get("data", {})
    if VIEW in data:
        model = escape(nbformat.from_dict(data[VIEW])["model_id"])
        return (f'<script type="{VIEW}">{{"version_major": 2, "version_minor": 0, '
                f'"model_id": "{model}"}}</script>')
    if "text/html" in data:
        return data["text/html"]
    if "image/png" in data:
        return (f'<img alt="{escape(alt)}" '
                f'src="data:image/png;base64,{data["image/png"].strip()}">')
    return f"<pre>{escape(words(output))}</pre>"


def code_slides(cell: NotebookNode, caption: str, outputs: bool) -> list[Slide]:
    """Slides of a code cell; what it gives is a fragment, or a slide of its own."""
    pieces = split_code(cell.source)
    made = [Slide("code", caption, [Highlight2HTML()(piece)]) for piece in pieces]
    given = cell.outputs if outputs else []
    alt = re.sub(r"[*`$#\\]", "", caption)
    said = [output for output in given if words(output)]
    printed = sum(len(words(output).splitlines()) for output in said)
    if said and pieces[-1].count("\n") + printed < CODE - 2:
        made[-1].body.append(
            f'<div class="fragment">{"".join(show(o, alt) for o in said)}</div>')
        given = [output for output in given if not words(output)]
    if given:
        made.append(Slide("output", caption, [show(output, alt) for output in given]))
    return made


def text_slides(kind: str, blocks: list[str], caption: str) -> list[Slide]:
    """Slides of one part of a text; where it is cut, the first's notes have all."""
    short = blocks if kind in WHOLE else cut(blocks)
    most = LINES * (0.7 if kind in ("predict", "change") else 1)  # in larger letters
    made = [Slide("figure" if page[0].startswith("![") else kind, caption,
                  [render("\n\n".join(page))], lines=sum(map(height, page)))
            for page in pages(short, most)]
    if short != blocks:
        made[0].notes = "\n\n".join(b for b in blocks if b[0] not in "#!")
    return made


def deck(notebook: NotebookNode) -> list[list[Slide]]:
    """The slides of a lesson, a column for each of its sections."""
    columns: list[list[Slide]] = []
    section = caption = kind = ""
    for cell in notebook.cells:
        if "remove-cell" in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "code" and kind == "title":  # imports and helpers
            columns[-1][-1].notes += f"\n\n```python\n{cell.source}\n```"
        elif cell.cell_type == "code":
            more = code_slides(cell, caption, outputs=kind != "exercise")
            last = columns[-1][-1]
            if last.kind == "exercise" and (
                    last.lines + 0.8 * cell.source.count("\n") < LINES):
                last.body += more.pop(0).body
            columns[-1] += more
        else:
            for solution in SOLUTION.findall(cell.source):
                columns[-1][-1].notes += f"\n\n{solution}"
            for kind, blocks in parts(cell.source):
                heading = blocks[0].lstrip("# ")
                if kind in ("title", "section"):
                    columns.append([])
                    section = re.sub(r"^(\d+)\.", r"\1\.", heading)  # is no list
                columns[-1] += text_slides(kind, blocks, section)
                caption = {"predict": "\n\n".join(blocks),
                           "exercise": heading}.get(kind, section)
    return columns


def write(path: Path, out: Path) -> tuple[str, int]:
    """Write the deck of the notebook `path`; its title and number of slides."""
    notebook = nbformat.read(path, as_version=4)
    title = re.search(r"^# (.+)", notebook.cells[0].source)[1]
    columns = deck(notebook)
    look = {mode: HtmlFormatter(style=style).get_style_defs(
        f'[data-theme="{mode}"] .highlight')
        for mode, style in (("light", "default"), ("dark", "monokai"))}
    page = PAGES.get_template("slides.html").render(
        title=title, columns=columns, palette=PALETTE, look=look, state_type=WIDGETS,
        state=notebook.metadata.get("widgets", {}).get(WIDGETS))
    (out / path.with_suffix(".html").name).write_text(page + "\n", encoding="utf-8")
    return title, sum(map(len, columns))


def make(paths: list[Path], out: Path = OUT) -> Path:
    """Write the decks of these notebooks into `out`; the page that lists them."""
    shutil.copytree(STATIC, out / "_static", dirs_exist_ok=True)
    decks = {path.stem: write(path, out) for path in paths}
    index = out / "index.html"
    index.write_text(PAGES.get_template("slides_index.html").render(decks=decks) + "\n",
                     encoding="utf-8")
    return index


def main(names: list[str]) -> int:
    """Write the decks of `names`; the exit status is 0 when all is well."""
    paths = [path.with_suffix(".ipynb") for path in sources(names)]
    if missing := [path.name for path in paths if not path.exists()]:
        print(f"There is no notebooks/{missing[0]}.", file=sys.stderr)
        return 2
    if not (STATIC / "vendor/reveal").is_dir():
        print("There is no book/_static/vendor/reveal: `make slides` fetches it.",
              file=sys.stderr)
        return 2
    print(f"{len(paths)} decks: {make(paths).relative_to(FOLDER.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
