"""A small web of real documents whose subjects are known, to measure recall on.

Real are the texts: docstrings, source files, licences. Simulated are the sites: which
domain holds what, below which path, what stands around a text (menus, notices), and
what goes wrong: pages below the path of another subject, mirrors that change some
words, one page under several addresses. Nothing looks at what the classifier does.

The examples cover only some topics of a subject (mathematics: two of SymPy's and
mpmath's packages), as seeds on the real web do. Mathematics and code share texts, so
the interactive examples are cut out of the first, and what is left is called no code.
"""

from __future__ import annotations

import gzip
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path, PurePosixPath

from minicoder.data.sources import Document, read_text, stable_hash
from minicoder.data.standard import doc_texts
from minicoder.data.web import Page

LONGEST = 1500          # characters of a page, before its menu
SHORTEST = 200
LEAST = 20              # pages of a topic that may give examples
MOST = 100              # pages of one topic of code or mathematics
SEED_TOPICS = 0.2       # of a subject's topics have examples, the largest left out
WRONG, MIRRORED, TWICE = 0.05, 0.05, 0.05   # shares of pages, see the module
CHANGED = 0.03          # of the words of a mirrored page
LONGEST_FILE = 6000     # characters of a file of the host
DESCRIBED = 0.25        # of a file is docstrings and comments
COMMENT = re.compile(r"^[ \t]*#.*", re.MULTILINE)
EXAMPLE = re.compile(r"^[ \t]*>>>.*(?:\n[ \t]*\S.*)*\n?", re.MULTILINE)
WORD = re.compile(r"\S+")
# what a help page says to its formatter: fonts, comments, macros
ROFF = re.compile(r"\\f.|\\[&c]|^['.]\\\".*\n|^\.[A-Za-z]{2} ?", re.MULTILINE)
NOTICES = ("We use cookies to improve this site. Accept all | Settings",
           "Sign in | Register | Help", "Was this page helpful? Yes / No",
           "Subscribe to our newsletter for weekly updates.",
           "Skip to main content | Search | Contact")


@dataclass(frozen=True)
class WebPage(Page):
    """A page of the small web; `subject` is what it is really about."""

    subject: str        # "code", "math" or "other"
    topic: str


@dataclass
class SmallWeb:
    """Pages in random order, and for each subject examples that are not among them."""

    pages: list[WebPage] = field(default_factory=list)
    seeds: dict[str, list[str]] = field(default_factory=dict)
    seed_topics: dict[str, list[str]] = field(default_factory=dict)


def licences() -> Iterator[Document]:
    """Licences and lists of authors of the installed packages, in pieces: prose."""
    for package in sorted(metadata.distributions(), key=lambda p: p.name or ""):
        for file in package.files or ():
            name = PurePosixPath(str(file)).name.upper()
            if not name.startswith(("LICEN", "COPYING", "NOTICE", "AUTHORS")):
                continue
            text = read_text(package.locate_file(file))
            for start in range(0, len(text) if isinstance(text, str) else 0, LONGEST):
                yield Document(text[start:start + LONGEST], f"{file}:{start}", "Text",
                               "text", f"{package.name}: licence", "unknown")


def system_texts(share: Path = Path("/usr/share"), most: int = 1000
                 ) -> Iterator[Document]:
    """Help pages of commands, lists of changes and notices of rights, where installed.

    Of each sort `most` files, of each file the beginning. Nothing without `share`.
    """
    for sort, pattern in (("help", "man/man1/*.gz"), ("rights", "doc/*/copyright"),
                          ("changes", "doc/*/changelog*.gz")):
        files = sorted(share.glob(pattern), key=lambda file: stable_hash(str(file)))
        for file in files[:most]:
            try:
                with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as f:
                    text = f.read(4 * LONGEST).decode("utf-8", "replace")
            except (OSError, EOFError):
                continue
            text = ROFF.sub("", text).replace("\\-", "-")
            yield Document(text, str(file.relative_to(share)), "Text", "text",
                           f"system: {sort}", "unknown")


def topic_of(document: Document) -> tuple[str, str]:
    """(subject, topic): what a page is about, by where its text comes from.

    >>> topic_of(Document("", "sympy/sets/fancysets.py:9", "", "math", "sympy", ""))
    ('math', 'sympy-sets')
    """
    parts = document.path.split("/")
    if document.kind == "math":
        return "math", "-".join(parts[:2]).split(".")[0]
    if document.origin.endswith(": docstrings"):
        return "code", "-".join(parts[:2]).split(".")[0]
    if document.language in ("JSON", "YAML", "TOML"):
        return "other", "data"
    if document.kind == "code":
        kind = document.language.lower().replace(" ", "-")
        return "code", f"source-{kind}"
    if document.origin.endswith(": language reference"):
        return "code", "language-reference"
    return "other", re.sub(r"\W+", "-", document.origin.split(": ")[-1])


def page_text(document: Document, subject: str) -> str:
    """The part of a document that its page shows, cut at a line."""
    text = EXAMPLE.sub("", document.text) if subject == "math" else document.text
    start = stable_hash(document.path) % max(len(text) - LONGEST, 1)
    piece = text[start:start + LONGEST]
    return piece.partition("\n")[2] if start else piece


def by_topic(documents: Iterable[Document]) -> dict[tuple[str, str], list[str]]:
    """Texts of pages by (subject, topic); short ones are left out."""
    topics: dict[tuple[str, str], list[str]] = defaultdict(list)
    for document in documents:
        if document.origin.endswith(": description"):
            continue    # a front page is half prose, half code: its label would be moot
        key = topic_of(document)
        text = page_text(document, key[0]).strip()
        if len(text) >= SHORTEST:
            topics[key].append(text)
    return {key: texts if key[0] == "other" else spread(texts)
            for key, texts in sorted(topics.items())}


def spread(texts: list[str]) -> list[str]:
    """At most `MOST` of the texts, evenly from the whole list."""
    count = min(len(texts), MOST)
    return [texts[i * len(texts) // count] for i in range(count)]


def choose_seeds(
    topics: dict[tuple[str, str], list[str]], web: SmallWeb, rng: random.Random
) -> None:
    """Take half of the texts of a few topics out of the web, as examples."""
    for subject in sorted({subject for subject, _ in topics} - {"other"}):
        mine = [key for key, texts in topics.items()
                if key[0] == subject and len(texts) >= LEAST]
        mine.sort(key=lambda key: len(topics[key]))
        chosen = rng.sample(mine[:-1] or mine, max(1, round(SEED_TOPICS * len(mine))))
        web.seed_topics[subject] = sorted(topic for _, topic in chosen)
        web.seeds[subject] = []
        for key in chosen:
            rng.shuffle(topics[key])
            half = len(topics[key]) // 2
            web.seeds[subject] += topics[key][:half]
            topics[key] = topics[key][half:]


def deal(
    keys: Sequence[tuple[str, str]], domains: int, rng: random.Random
) -> dict[tuple[str, str], list[int]]:
    """Up to three domains for every topic.

    Every fourth domain takes any topic; the others hold one subject each, in turn.
    """
    subjects = ("code", "math", "other")
    mixed = [d for d in range(domains) if d % 4 == 3]
    own = {s: [d for d in range(domains) if d % 4 == i] for i, s in enumerate(subjects)}
    return {key: rng.sample(own[key[0]] + mixed,
                            min(rng.randint(1, 3), len(own[key[0]] + mixed)))
            for key in keys}


def mirror(text: str, rng: random.Random) -> str:
    """A near copy: some words replaced by others of the same text."""
    words = WORD.findall(text)
    return WORD.sub(lambda m: rng.choice(words) if rng.random() < CHANGED else m[0],
                    text)


def variants(page: WebPage, rng: random.Random) -> Iterator[WebPage]:
    """The page, sometimes under a second address, sometimes mirrored elsewhere."""
    yield page
    if rng.random() < TWICE:
        ending = rng.choice(("?utm_source=feed", "#top", "/", "?ref=home"))
        url = page.url.replace("https://", "http://www.") + ending
        yield WebPage(url, page.text, page.subject, page.topic)
    if rng.random() < MIRRORED:
        name = page.url.partition(".example/")[2].replace("/", "-")
        yield WebPage(f"https://mirror-{rng.randrange(3)}.example/copies/{name}",
                      mirror(page.text, rng), page.subject, page.topic)


def small_web(
    documents: Iterable[Document], seed: int = 0, domains: int = 48
) -> SmallWeb:
    """Spread the documents over `domains` sites. All chance comes from `seed`."""
    rng, web = random.Random(seed), SmallWeb()
    topics = by_topic(documents)
    choose_seeds(topics, web, rng)
    homes = deal(list(topics), domains, rng)
    menus = {d: " | ".join(["Home", *rng.sample([t for _, t in topics], 3)])
             for d in range(domains)}
    places = list(topics)
    for key, texts in topics.items():
        for number, text in enumerate(texts):
            astray = rng.random() < WRONG
            below = rng.choice(places) if astray else key
            home = rng.choice(homes[below])
            url = f"https://site-{home:02}.example/{below[1]}/{key[0]}{number}.html"
            url = url.replace(f"/{key[0]}{number}", f"/{stable_hash(url) % 10 ** 8}")
            around = f"{menus[home]}\n\n{text}\n\n{rng.choice(NOTICES)}"
            web.pages += variants(WebPage(url, around, *key), rng)
    rng.shuffle(web.pages)
    return web


def described(document: Document) -> bool:
    """Whether a quarter or more of a Python file is docstrings and comments."""
    try:
        told = sum(len(text) for _, text in doc_texts(document.text))
    except SyntaxError:
        return False
    told += sum(map(len, COMMENT.findall(document.text)))
    return told >= DESCRIBED * len(document.text)


def small_host(documents: Iterable[Document], seed: int = 0) -> SmallWeb:
    """A host of repositories: "code" are files "with detailed descriptions" (CV2 §2).

    Every package is a repository, and its files keep their paths. What is good is
    known by counting (`described`), which the classifier cannot do. The examples are
    half of the good files of a few repositories.
    """
    rng, web = random.Random(seed), SmallWeb()
    good: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in documents:
        if one.kind != "code" or one.language != "Python" or len(one.text) < SHORTEST:
            continue
        name = re.sub(r"\W+", "-", one.origin.lower())
        subject = "code" if described(one) else "other"
        page = WebPage(f"https://code.example/{name}/{one.path}",
                       one.text[:LONGEST_FILE], subject, name)
        web.pages.append(page)
        good[subject, name].append(page.text)
    choose_seeds({key: texts for key, texts in good.items() if key[0] == "code"},
                 web, rng)
    taken = set(web.seeds.get("code", ()))
    web.pages = [page for page in web.pages if page.text not in taken]
    rng.shuffle(web.pages)
    return web
