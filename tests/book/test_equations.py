"""Equations and docstrings name each other, and the links of the site resolve."""

import ast
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

from book.writers import api, equations

ROOT = Path(__file__).parents[2]
PAPERS, ENTRIES = equations.papers(), equations.entries()
NAMES = {name: key for key, paper in PAPERS.items()
         for name in (*paper["names"], paper["arxiv"])}
CITATION = re.compile("|".join([
    *(rf"(?<![\w-]){re.escape(name)}(?![\w-])" for name in NAMES),
    r"(?i:\beq\.) (?P<eq>\d+(?:-\d+)?(?:(?:, | and )\d+(?:-\d+)?)*)",
    r"§(?P<section>\d+(?:\.\d+)*)"]))


def numbers(text):
    """'37-39, 41' -> {37, 38, 39, 41}"""
    spans = [part.split("-") for part in re.split(r", | and ", text)]
    return {n for span in spans for n in range(int(span[0]), int(span[-1]) + 1)}


def cited(doc, paper=None):
    """{(paper, equation or §section or "")}, and the first paper that is named.

    A number belongs to the paper that was named last, else to `paper`.
    """
    found, first = set(), None
    for match in CITATION.finditer(doc):
        if match["eq"]:
            found |= {(paper, n) for n in numbers(match["eq"])}
        elif match["section"]:
            found.add((paper, f"§{match['section']}"))
        else:
            paper = NAMES[match.group()]
            first = first or paper
            found.add((paper, ""))
    return found, first


def citations(source):
    """{name: what its docstring cites}; the module itself is the name ""."""
    tree = ast.parse(source)
    head, paper = cited(ast.get_docstring(tree) or "")
    found = {"": head}

    def walk(node, above):
        for part in node.body:
            if isinstance(part, ast.FunctionDef | ast.ClassDef):
                name = f"{above}{part.name}"
                found[name], _ = cited(ast.get_docstring(part) or "", paper)
                walk(part, f"{name}.")

    walk(tree, "")
    return found


@cache
def library():
    return {api.name_of(path): citations(path.read_text(encoding="utf-8"))
            for path in (ROOT / "minicoder").rglob("*.py")
            if "exercises" not in path.parts}


def test_the_reader_of_citations():
    found = citations('"""A: DeepSeek-V2 §2.1 (eq. 9-11, 13), arXiv 2309.00071."""\n'
                      'class B:\n    """Eq. 42 and 44."""\n'
                      '    def c(self):\n        """DeepSeekMath eq. 3; §3.1."""\n')
    assert found[""] == {("v2", ""), ("v2", "§2.1"), ("v2", 9), ("v2", 10), ("v2", 11),
                         ("v2", 13), ("yarn", "")}
    assert found["B"] == {("v2", 42), ("v2", 44)}
    assert found["B.c"] == {("math", ""), ("math", 3), ("math", "§3.1")}
    assert cited("DeepSeek-Coder-V2 §3.1")[0] == {("coder", ""), ("coder", "§3.1")}


@pytest.mark.parametrize("one", ENTRIES, ids=lambda one: one.anchors[0])
def test_each_equation_is_cited_where_it_is_computed(one):
    module, name = one.code.split(":")
    found = library()[module]
    assert name in found, f"{one.anchors[0]}: there is no {one.code}"
    wanted = {(one.paper, n) for n in one.equations} or {
        (one.paper, f"§{one.section}" if one.section else "")}
    above = name.rpartition(".")[0]
    assert wanted <= found[name] | found[""] | found.get(above, set()), (
        f"neither the docstring of {one.code} nor its module's cites {one.place}")


def test_each_number_that_a_docstring_cites_is_an_equation():
    known = {(one.paper, n) for one in ENTRIES for n in one.equations}
    lost = {(module, name, *pair) for module, names in library().items()
            for name, pairs in names.items() for pair in pairs
            if isinstance(pair[1], int) and pair not in known}
    assert lost == set()


def test_the_papers_equations_are_all_here():
    v2 = [n for one in ENTRIES if one.paper == "v2" for n in one.equations]
    assert sorted(v2) == list(range(1, 48))
    anchors = [anchor for one in ENTRIES for anchor in one.anchors]
    assert len(set(anchors)) == len(anchors)
    assert all(re.fullmatch(r"[a-z0-9-]+", anchor) for anchor in anchors)
    assert [one.lesson for one in ENTRIES
            if not (ROOT / f"notebooks/{one.lesson}.py").exists()] == []


def test_the_page_says_each_equation_under_its_own_anchors():
    page = equations.pages()["equations"]
    for one in ENTRIES:
        said = page.partition(f"({one.anchors[-1]})=\n")[2].partition("\n(")[0]
        assert one.latex.strip() in said and one.says in said, one.anchors


@pytest.mark.parametrize("wrong", ["code", "pages"])
def test_an_entry_with_a_wrong_field_is_named(wrong):
    one = {"topic": "", "paper": "v2", "latex": "", "says": "", "code": "m:f",
           "lesson": "04_mla", "equations": [9]}
    assert equations.read(one).equations == (9,)
    one |= {"pages": 1} if wrong == "pages" else {}
    one.pop("code") if wrong == "code" else None
    with pytest.raises(ValueError, match=rf"equations.toml, v2 \[9\]: .*'{wrong}'"):
        equations.read(one)


class Links(HTMLParser):
    """The ids of a page, and where its links go."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links = set(), set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        for key, value in attrs:
            if key == "id":
                self.ids.add(value)
            elif key == "href":
                self.links.add(value)


CONF = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
extensions = ["myst_parser", "book.source_pages"]
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
html_theme = "basic"
python_use_unqualified_type_names = True
viewcode_follow_imported_members = False
"""


CHILD = "minicoder.execution.child"  # cannot be imported outside of a sandbox


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The page of equations, and of the API the modules that it needs, as HTML."""
    folder = tmp_path_factory.mktemp("site")
    pages = equations.pages() | {one.lesson: "# A lesson\n" for one in ENTRIES}
    pages["index"] = "# All\n\n:::{toctree}\n:glob:\n*\n:::\n"
    for module in sorted({one.code.split(":")[0] for one in ENTRIES} | {CHILD}):
        room = f"api_{module.split('.')[1]}"
        pages[room] = pages.get(room, "# A room\n\n") + api.module_text(
            ROOT.joinpath(*module.split(".")).with_suffix(".py"), alone=False)
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(
            re.sub(r"\]\(\.\./\.\./notebooks/(\w+)\.ipynb\)", r"](\1.md)", text),
            encoding="utf-8")
    (folder / "conf.py").write_text(CONF, encoding="utf-8")
    built = subprocess.run([sys.executable, "-m", "sphinx", "-qW", "--keep-going",
                            folder, folder / "html"], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder / "html"


def test_links_resolve_both_ways(site):
    pages = {path.stem: Links(path) for path in site.glob("*.html")}
    there = pages["equations"]
    for one in ENTRIES:
        module, name = one.code.split(":")
        page, target = f"api_{module.split('.')[1]}", f"{module}.{name}"
        assert set(one.anchors) <= there.ids
        assert f"{page}.html#{target}" in there.links and target in pages[page].ids
        assert f"equations.html#{one.anchors[0]}" in pages[page].links
        assert f"{one.lesson}.html" in there.links


def test_entries_lead_to_their_source_which_is_not_imported(site):
    links = Links(site / "api_model.html").links
    assert "_modules/minicoder/model/mla.html#MLA.absorbed" in links
    source = site / "_modules/minicoder/model/mla.html"
    assert {"MLA", "MLA.absorbed"} <= Links(source).ids
    assert (site / f"_modules/{CHILD.replace('.', '/')}.html").exists()
    assert "#minicoder.model.rope.Rope" in links    # a type's name in a signature
