"""The rules that decide whether a source file is worth training on.

The first six are DeepSeek-Coder-V2 §2 (the same as DeepSeek-Coder §2.1); the last is
DeepSeek-Coder §2.4's compiler check, for the languages of `parsers()`. (The quality
model and the heuristics of readability and modularity named there come without a
number, and have no rule here.) Each rule is a function from a document to the reason
why it goes, or None. They judge code: the paper applies them to files of repositories,
and prose has long lines for good reasons.
"""

from __future__ import annotations

import ast
import json
import re
import time
import tomllib
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

from minicoder.data.sources import Document

MEAN_LINE = 100         # characters
LONGEST_LINE = 1000     # characters
ALPHABETIC = 0.25       # share of all characters
XML_HEADER = 100        # characters in which `<?xml version=` is looked for
VISIBLE_SHARE = 0.20    # of an HTML file
VISIBLE_LEAST = 100     # characters of an HTML file
DATA_SHORTEST = 50      # characters of a JSON or YAML file
DATA_LONGEST = 5000
MACROS_BREAK = 0.25     # of the bytes of C and C++ that may not parse
SLOWEST_PARSE = 5.0     # seconds of processor time for one file

Reason = str | None
# one level of brackets without `<`, so that a hostile file costs linear time
TAG = re.compile(r"(<[^<>]*>)")


def mean_line(document: Document) -> Reason:
    """More than 100 characters a line on average."""
    lines = document.text.splitlines()
    mean = sum(map(len, lines)) / max(len(lines), 1)
    return f"mean line of {mean:.0f} characters" if mean > MEAN_LINE else None


def longest_line(document: Document) -> Reason:
    """A line of more than 1000 characters."""
    longest = max(map(len, document.text.splitlines()), default=0)
    return f"a line of {longest} characters" if longest > LONGEST_LINE else None


def alphabetic(document: Document) -> Reason:
    """Fewer than 25 % alphabetic characters; an empty file has none."""
    share = sum(map(str.isalpha, document.text)) / max(len(document.text), 1)
    return f"{share:.0%} alphabetic" if share < ALPHABETIC else None


def xml_header(document: Document) -> Reason:
    """`<?xml version=` in the first 100 characters, unless the language is XSLT."""
    found = "<?xml version=" in document.text[:XML_HEADER]
    return "an XML header" if found and document.language != "XSLT" else None


def visible_text(html: str) -> str:
    """What a browser would show: no tags, no scripts, no styles (comments by luck)."""
    shown, hidden = [], ""
    for part in TAG.split(html):
        if not part.startswith("<"):
            shown += [part.strip()] if not hidden else []
            continue
        name = part[1:-1].split(" ", 1)[0].strip().lower()
        if hidden:
            hidden = "" if name == "/" + hidden else hidden
        elif name in ("script", "style", "head"):
            hidden = name
    return " ".join(filter(None, shown))


def html_text(document: Document) -> Reason:
    """HTML whose visible text is below 20 % of the file or below 100 characters."""
    if document.language != "HTML":
        return None
    visible, whole = len(visible_text(document.text)), len(document.text)
    if visible >= VISIBLE_LEAST and visible >= VISIBLE_SHARE * whole:
        return None
    return f"{visible} of {whole} characters of HTML are visible"


def data_size(document: Document) -> Reason:
    """JSON and YAML outside 50 to 5000 characters."""
    if document.language not in ("JSON", "YAML"):
        return None
    size = len(document.text)
    return None if DATA_SHORTEST <= size <= DATA_LONGEST else f"{size} characters"


def parse_python(source: str) -> ast.Module:
    """`ast.parse` without the parser's warnings; SyntaxError whatever goes wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except (ValueError, RecursionError, MemoryError) as error:
            raise SyntaxError(str(error)) from None


# language: grammar of tree-sitter. `cobol` hangs on `x = 1` and must never be added
GRAMMARS = {"C": "c", "C++": "cpp", "C#": "csharp", "Go": "go", "JSX": "javascript",
            "Java": "java", "JavaScript": "javascript", "PHP": "php", "Ruby": "ruby",
            "Rust": "rust", "TypeScript": "typescript"}
CONDITIONAL = re.compile(r"[ \t]*#[ \t]*(if|else|elif|endif)")


def first_branch(source: str) -> str:
    """C without its directives, and of every `#if ... #else` the first branch alone.

    The branches of a conditional open the same brace twice, which no parser of the
    text before the preprocessor can balance. Lines keep their numbers.
    """
    kept: list[str] = []
    hidden: list[bool] = []     # one for each open conditional: are we past its #else?
    continued = False
    for line in source.split("\n"):
        directive = continued or line.lstrip(" \t").startswith("#")
        found = None if continued else CONDITIONAL.match(line)
        word = found[1] if found else ""
        if word == "if":
            hidden.append(False)
        elif word == "endif":
            del hidden[-1:]
        elif word and hidden:
            hidden[-1] = True
        continued = directive and line.rstrip("\r").endswith("\\")
        kept.append("" if directive or any(hidden) else line)
    return "\n".join(kept)


def broken_share(source: bytes, grammar: str) -> float:
    """The share of `source` that tree-sitter cannot parse: 0 is a clean parse.

    Counts the bytes of ERROR nodes, and one for each MISSING token. Raises TimeoutError
    after 5 seconds of processor time: recovery from errors is quadratic in places (20
    KB of `x=>` cost the grammar of C 59 s), and clean code parses at 3 MB/s or more.
    """
    from tree_sitter_language_pack import get_parser
    began = time.thread_time()

    def late(offset: int, error: bool) -> bool:
        return time.thread_time() - began > SLOWEST_PARSE
    try:
        tree = get_parser(grammar).parse(
            lambda offset, point: source[offset:offset + 4096], progress_callback=late)
    except ValueError:      # what a stopped parse answers
        raise TimeoutError(f"no parse in {SLOWEST_PARSE} s") from None
    broken, nodes = 0, [tree.root_node]
    while nodes:
        node = nodes.pop()
        if node.is_error or node.is_missing:
            broken += max(node.end_byte - node.start_byte, 1)
        elif node.has_error:
            nodes += node.children
    return broken / max(len(source), 1)


def parse_tree(document: Document) -> None:
    """SyntaxError for a file that tree-sitter cannot parse; nothing without it.

    A language without a preprocessor allows no error at all. The files of C and C++
    may be broken in 25 % of their bytes, because macros stand where no grammar expects
    them (`__BEGIN_DECLS`): an eye for gross damage, not a compiler.
    """
    if not tree_sitter():
        return
    grammar = GRAMMARS[document.language]
    text, limit = document.text, 0.0
    if grammar in ("c", "cpp"):
        text, limit = first_branch(text), MACROS_BREAK
    elif document.path.endswith(".tsx"):
        grammar = "tsx"
    try:
        share = broken_share(text.encode(errors="replace"), grammar)
    except TimeoutError as error:
        raise SyntaxError(str(error)) from None
    if share > limit:
        raise SyntaxError(f"{share:.2%} of the file do not parse")


@cache
def tree_sitter() -> bool:
    """Whether the optional extra `parsers` is installed."""
    return find_spec("tree_sitter_language_pack") is not None


PARSERS: dict[str, Callable[[Document], object]] = {
    "Python": lambda document: parse_python(document.text),
    "JSON": lambda document: json.loads(document.text),
    "TOML": lambda document: tomllib.loads(document.text),
    **dict.fromkeys(GRAMMARS, parse_tree),
}


def parsers() -> tuple[str, ...]:
    """The languages whose syntax is checked here, those of tree-sitter if installed."""
    return tuple(name for name, parse in PARSERS.items()
                 if parse is not parse_tree or tree_sitter())


def syntax(document: Document) -> Reason:
    """A file that a real parser of its language rejects (compiler check of DSC §2.4).

    Measured on files that other people release and use, 231 to 500 a language (Java 43;
    of C# and TOML there were too few), false alarms were 0 % for Python, Java, Ruby and
    JSON, 0.4 % for JavaScript and Go, 0.6 % for TypeScript, 1.1 % for PHP, 1.8 % for
    Rust, 0.9 % for C, 1.8 % for `.h` and 2.1 % for C++. Of files cut in half it found
    96 % of JavaScript, 98 % of PHP, 59 % of C, 70 % of `.cpp` and 39 % of `.hpp`. JSON
    with comments is not JSON.
    """
    parse = PARSERS.get(document.language)
    try:
        if parse:
            parse(document)
    except (SyntaxError, ValueError, RecursionError) as error:
        return f"syntax: {error}"
    return None


RULES: tuple[tuple[str, str, Callable[[Document], Reason]], ...] = (
    ("mean line", f"over {MEAN_LINE} characters a line: minified or generated",
     mean_line),
    ("longest line", f"a line over {LONGEST_LINE} characters: data in disguise",
     longest_line),
    ("alphabetic", f"below {ALPHABETIC:.0%} letters: tables of numbers", alphabetic),
    ("XML header", "XML that is not a style sheet is data", xml_header),
    ("HTML text", f"below {VISIBLE_SHARE:.0%} or {VISIBLE_LEAST} characters visible",
     html_text),
    ("JSON, YAML size", f"outside {DATA_SHORTEST} to {DATA_LONGEST} characters: data",
     data_size),
    ("syntax", "does not parse, so it teaches mistakes", syntax),
)


def first_objection(document: Document) -> tuple[str, str] | None:
    """The first rule that removes a document, with its reason; None keeps it."""
    if document.kind != "code":
        return None
    for name, _, rule in RULES:
        if reason := rule(document):
            return name, reason
    return None
