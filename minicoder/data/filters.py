"""The rules that decide whether a source file is worth training on.

The first six are DeepSeek-Coder-V2 §2 (the same as DeepSeek-Coder §2.1); the last is
DeepSeek-Coder §2.4's compiler check, for Python. Each rule is a function from a
document to the reason why it goes, or None. They judge code: the paper applies them to
files of repositories, and prose has long lines for good reasons.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable

from minicoder.data.sources import Document

MEAN_LINE = 100         # characters
LONGEST_LINE = 1000     # characters
ALPHABETIC = 0.25       # share of all characters
XML_HEADER = 100        # characters in which `<?xml version=` is looked for
VISIBLE_SHARE = 0.20    # of an HTML file
VISIBLE_LEAST = 100     # characters of an HTML file
DATA_SHORTEST = 50      # characters of a JSON or YAML file
DATA_LONGEST = 5000

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


def python_syntax(document: Document) -> Reason:
    """Python that this interpreter cannot parse."""
    if document.language != "Python":
        return None
    try:
        parse_python(document.text)
    except SyntaxError as error:
        return f"syntax: {error.msg}"
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
    ("Python syntax", "does not parse, so it teaches mistakes", python_syntax),
)


def first_objection(document: Document) -> tuple[str, str] | None:
    """The first rule that removes a document, with its reason; None keeps it."""
    if document.kind != "code":
        return None
    for name, _, rule in RULES:
        if reason := rule(document):
            return name, reason
    return None
