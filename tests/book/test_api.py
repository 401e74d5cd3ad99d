"""The API reference holds every public function and class of minicoder."""

import ast
import re
from pathlib import Path

import pytest

from book.writers import api

MINICODER = Path(__file__).parents[2] / "minicoder"
PAGES = api.pages()
ENTRY = re.compile(r"^:{3,4}\{py:(?:class|function)\} (\w+)\(", re.MULTILINE)


def shown(text):
    """{module: names of its classes and functions} of one page."""
    _, *parts = re.split(r"^:::\{py:module\} ([\w.]+)$", text, flags=re.MULTILINE)
    return {module: ENTRY.findall(body)
            for module, body in zip(parts[::2], parts[1::2], strict=True)}


def test_every_public_name_is_on_one_page():
    wanted = {}
    for path in MINICODER.rglob("*.py"):
        if "exercises" not in path.parts and path.stem != "__init__":
            module = ".".join(path.relative_to(MINICODER.parent).with_suffix("").parts)
            wanted[module] = [
                node.name for node in ast.parse(path.read_text(encoding="utf-8")).body
                if isinstance(node, ast.FunctionDef | ast.ClassDef)
                and not node.name.startswith("_")]
    found = [shown(text) for text in PAGES.values()]
    assert sum(map(len, found)) == len(wanted)
    assert {module: names for page in found for module, names in page.items()} == wanted


def test_no_page_is_empty_and_the_first_leads_to_all():
    for name, text in PAGES.items():
        assert len(text) > 1000, name
        assert name == "api" or f"({name}.md)" in PAGES["api"]
    toc = (MINICODER.parent / "book/_toc.yml").read_text(encoding="utf-8")
    assert {f"book/generated/{name}" for name in PAGES} <= set(
        re.findall(r"book/generated/api\w*", toc))


def test_every_entry_says_something():
    silent = [line for text in PAGES.values() for line in re.findall(
        r"^(:{3,4}\{py:(?:class|function)\} \w+).*\n(?::\w+:.*\n)*\n+:::", text,
        re.MULTILINE)]
    assert silent == []


@pytest.mark.parametrize(("text", "expected"), [
    ("a * b_c of `x_y` costs $5", r"a \* b\_c of `x_y` costs \$5"),
    ("see --out-dir, <eos> and [1]", r"see `--out-dir`, \<eos\> and \[1\]"),
    ("a {role}`x`", r"a \{role\}`x`"),
])
def test_prose_means_itself(text, expected):
    assert api.prose(text) == expected


def test_code_and_lists_stay_and_arguments_of_a_command_become_a_list():
    said = ["Do it.", "    a = b * c", "More\nwords:\n- one\n- two",
            "Args:\n    out: folder to\n        write.\n    seed: decides."]
    assert api.markdown("\n\n".join(said)).split("\n\n") == [
        "Do it.", "```text\na = b * c\n```", "More words:\n- one\n- two",
        "- `out`: folder to write.\n- `seed`: decides."]


def entry(source):
    tree = ast.parse(source)
    types = api.Dotted(tree)
    return api.entry(tree.body[-1], "m", source.splitlines(), types)


def test_shapes_stay_short_and_types_of_the_library_get_their_home():
    text = entry("from minicoder.config import ModelConfig, TOY\n"
                 "def f(x: Float[Tensor, 'B T'], c: ModelConfig = TOY, *, k: int = 1\n"
                 "      ) -> Float[Tensor, ' B']:\n    '''Say.'''\n")
    assert text.splitlines()[0] == (
        "::::{py:function} f(x: Float[Tensor, 'B T'], c: minicoder.config.ModelConfig"
        "=TOY, *, k: int=1) -> Float[Tensor, 'B']")


def test_a_dataclass_shows_its_fields_and_hides_what_is_private():
    text = entry("@dataclass\nclass A:\n    '''Say.'''\n    n: int = 2  # how many\n"
                 "    def go(self, m: int) -> int:\n        '''Go.'''\n"
                 "    def _hidden(self) -> None:\n        pass\n"
                 "    @property\n    def size(self) -> int:\n        '''Big.'''\n")
    assert text.startswith("::::{py:class} A(n: int = 2)\n")
    assert "- `n`: how many" in text and "_hidden" not in text
    assert ":::{py:method} A.go(m: int) -> int" in text
    assert ":::{py:property} A.size\n:type: int" in text
