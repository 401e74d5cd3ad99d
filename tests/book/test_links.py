"""No broken link: of the website with its anchors, of README, of the notebooks."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
TARGET = re.compile(r'\]\(\s*([^)\s]+)|\b(?:href|src|srcset)="([^"\s]+)"')
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]+`", re.DOTALL | re.MULTILINE)
NOT_OURS = {"runs", "handout", "build", "book"}  # Sphinx checks the pages of book/


class Links(HTMLParser):
    """The links of a page and the places in it to which others may link."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: Counter[str] = Counter()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the links and the id of one tag."""
        found = {name: value or "" for name, value in attrs}
        self.links += [found[name] for name in ("href", "src") if found.get(name)]
        self.places.update(filter(None, [found.get("id")]))
        if found.get("http-equiv", "").lower() == "refresh":
            self.links.append(found["content"].partition("url=")[2])


def broken(page: Path, link: str, site: dict[Path, Links]) -> bool:
    """Whether `link` on `page` leads to a file or a place that is not there."""
    goal = urlsplit(link)
    if goal.scheme or goal.netloc:
        return False
    path = (page.parent / unquote(goal.path)).resolve() if goal.path else page
    place = unquote(goal.fragment)
    return not path.is_file() or bool(place) and path in site and (
        place not in site[path].places)


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    """Every page of the site, read."""
    return {path.resolve(): Links(path.read_text(encoding="utf-8"))
            for path in site.rglob("*.html")
            if "_static" not in path.relative_to(site).parts}


def test_every_link_of_the_site_leads_somewhere(site: Path, pages: dict[Path, Links]):
    assert len(pages) > 20
    lost = {f"{page.relative_to(site.resolve())}: {link}"
            for page, read in pages.items() for link in read.links
            if broken(page, link, pages)}
    assert lost == set(), "\n".join(sorted(lost))


def test_no_page_gives_a_name_twice(site: Path, pages: dict[Path, Links]):
    twice = {f"{page.relative_to(site.resolve())}: {name}" for page, read
             in pages.items() for name, times in read.places.items() if times > 1}
    assert twice == set(), "\n".join(sorted(twice))


def test_a_broken_link_is_seen(tmp_path: Path):
    page = tmp_path / "a.html"
    page.write_text('<p id="here"><a href="#here"><a href="#there"><img src="b.png">'
                    '<a href="a.html?x#here"><a href="https://example.org/no">',
                    encoding="utf-8")
    read = Links(page.read_text(encoding="utf-8"))
    assert [link for link in read.links if broken(page, link, {page: read})] == [
        "#there", "b.png"]


def slug(heading: str) -> str:
    """The name that a heading of Markdown gets on the web."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def written() -> list[tuple[Path, str]]:
    """The Markdown files of the repository and the notebooks' texts, without code."""
    folders = [path for path in ROOT.iterdir() if path.is_dir()
               and path.name[0] not in "._" and path.name not in NOT_OURS]
    texts = [(path, path.read_text(encoding="utf-8")) for path in
             [*ROOT.glob("*.md"), *(p for f in folders for p in f.rglob("*.md"))]]
    for path in ROOT.glob("notebooks/*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        texts.append((path, "\n\n".join(
            cell.source for cell in cells if cell.cell_type == "markdown")))
    return [(path, CODE.sub("", text)) for path, text in texts]


def test_every_link_of_the_repository_leads_somewhere():
    lost, met, texts = [], 0, written()
    headings = {path: {slug(line.lstrip("#")) for line in text.splitlines()
                       if line.startswith("#")} for path, text in texts}
    for path, text in texts:
        for found in TARGET.finditer(text):
            goal = urlsplit(found[1] or found[2])
            if goal.scheme or goal.netloc:
                continue
            met += 1
            file = (path.parent / unquote(goal.path)).resolve() if goal.path else path
            if not file.exists() or goal.fragment and file in headings and (
                    unquote(goal.fragment).lower() not in headings[file]):
                lost.append(f"{path.relative_to(ROOT)}: {goal.geturl()}")
    assert met > 30 and lost == []
