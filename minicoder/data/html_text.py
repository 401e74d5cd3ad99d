"""HTML as text that keeps what a language model needs: lines, code and formulas.

One pass over the tags. `html.parser` would be the obvious tool, but takes time in the
square of the length for some hostile pages; here a tag is searched in a window of
`TAG_WINDOW` characters only, and the pass never goes back.
"""

from __future__ import annotations

import html
import re

TAG_WINDOW = 1024       # characters in which a tag ends
TAG = re.compile(r"<(/?)([a-z][a-z0-9:-]{0,30})(?=[\s/>])"
                 r"((?:[^<>\"']|\"[^\"]*\"|'[^']*')*+)>", re.IGNORECASE)
ATTRIBUTE = re.compile(r"([a-z-]{1,30})\s{0,4}=\s{0,4}(?:\"([^\"]*)\"|'([^']*)')",
                       re.IGNORECASE)
LONG_NUMBER = re.compile(r"&#[0-9]{20,};?")     # of no character
RAW = {"script", "style", "textarea", "noscript", "template", "svg", "iframe"}
BLOCKS = {"address", "article", "aside", "blockquote", "body", "br", "dd", "details",
          "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1",
          "h2", "h3", "h4", "h5", "h6", "head", "header", "hr", "li", "main", "nav",
          "ol", "p", "pre", "section", "summary", "table", "title", "tr", "ul"}


def unescape(text: str) -> str:
    """Entities as characters; `int` refuses numbers of thousands of digits."""
    return html.unescape(LONG_NUMBER.sub("\ufffd", text))


class Text:
    """Collects the text of a page: one line per block, code and formulas kept."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.pre = 0                # open <pre> tags: white space counts

    def add(self, text: str) -> None:
        """Text between two tags."""
        if self.pre:
            self.parts.append(text.replace("\r\n", "\n"))
        elif words := " ".join(text.split()):
            before = " " if text[0].isspace() else ""
            self.parts.append(before + words + (" " if text[-1].isspace() else ""))
        elif text:
            self.parts.append(" ")

    def tag(self, name: str, closes: bool, attributes: str) -> None:
        """A tag, by what it means for the lines of the text."""
        if name == "pre":
            if not closes or self.pre:
                self.parts.append("\n```\n")
            self.pre = max(0, self.pre + (-1 if closes else 1))
        elif name == "br" and self.pre:
            self.parts.append("\n")
        elif name in BLOCKS and not self.pre:
            self.parts.append("\n")
            if not closes and name == "li":
                self.parts.append("- ")
            elif not closes and name[0] == "h" and name[1:].isdigit():
                self.parts.append("#" * int(name[1]) + " ")
        elif name in ("td", "th") and closes:
            self.parts.append("\t")
        elif name == "img" and "math" in attributes:
            self.formula(value_of(attributes, "alt"))

    def formula(self, tex: str) -> None:
        """A formula in TeX, between dollar signs."""
        if tex.strip():
            self.parts.append(f" ${' '.join(tex.split())}$ ")

    def whole(self) -> str:
        """The text without blank lines outside code."""
        pieces = "".join(self.parts).split("\n```\n")
        for number in range(0, len(pieces), 2):
            lines = (re.sub(" {2,}", " ", line).strip()
                     for line in pieces[number].split("\n"))
            pieces[number] = "\n".join(filter(None, lines))
        return "\n```\n".join(pieces).strip("\n") + "\n"


def value_of(attributes: str, name: str) -> str:
    """The value of an attribute in the inside of a tag, "" without it."""
    return next((unescape(match[2] or match[3] or "")
                 for match in ATTRIBUTE.finditer(attributes)
                 if match[1].lower() == name), "")


def skip_element(page: str, name: str, start: int) -> tuple[str, int]:
    """The inside of an element that is not shown, and where it ends."""
    end = re.compile(f"</{name}", re.IGNORECASE).search(page, start)
    if not end:
        return page[start:], len(page)
    close = page.find(">", end.end())
    return page[start:end.start()], len(page) if close < 0 else close + 1


def formula_in(name: str, attributes: str, inside: str) -> str:
    """The TeX of a `<math>` element or of a MathJax script, "" for all else."""
    if name != "math":
        return inside if name == "script" and "math/tex" in attributes else ""
    note = re.search(r"<annotation[^>]{0,200}tex[^>]{0,200}>([^<]*)", inside)
    return (value_of(attributes, "alttext") or (unescape(note[1]) if note else "")
            or re.sub(r"<[^<>]*>", " ", inside))


def html_to_text(page: str) -> str:
    """The text of an HTML page: lines, lists, headings, code blocks and formulas.

    `html_to_text("<p>Hello <b>there</b></p><li>x")` is "Hello there\\n- x\\n". Takes
    time linear in the length, whatever is in the page; scripts, styles and comments are
    left out.
    """
    text, at, look = Text(), 0, 0
    while (start := page.find("<", look)) >= 0:
        after = page[start + 1:start + 2]
        if not after.isalpha() and after not in ("!", "?", "/"):
            look = start + 1        # "3 < 4"
            continue
        text.add(unescape(page[at:start]))
        if page.startswith("<!--", start):
            end = page.find("-->", start)
            at = len(page) if end < 0 else end + 3
        elif match := TAG.match(page, start, start + TAG_WINDOW):
            at, name, closes = match.end(), match[2].lower(), bool(match[1])
            if not closes and (name in RAW or name == "math"):
                inside, at = skip_element(page, name, at)
                text.formula(formula_in(name, match[3], inside))
            else:
                text.tag(name, closes, match[3])
        else:                       # a declaration, or a tag beyond the window
            end = page.find(">", start)
            at = len(page) if end < 0 else end + 1
        look = at
    text.add(unescape(page[at:]))
    return text.whole()
