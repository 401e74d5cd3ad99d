"""The page: whole by itself, safe with hostile text, complete or honest about gaps."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from show.synthetic import STAGES, write_run

from minicoder.errors import UserError
from minicoder.show.report import FILES, SECTIONS, clean, duration, size, write_report
from minicoder.tokenizer import Tokenizer

BROWSER = next(filter(None, map(shutil.which, (
    "chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, the text, and the tags that are still open."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"{tag} closes something else"

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data.replace("\xa0", " ")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Page:
    """The report of the complete run; nobody changes it."""
    return Page(write_report(write_run(tmp_path_factory.mktemp("whole") / "demo")))


def rewrite(path: Path, change) -> None:
    """Change a JSON file of the run in place."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_the_page_is_whole_by_itself(run_folder):
    page = Page(write_report(run_folder))
    assert page.open == []
    names = [tag for tag, _ in page.tags]
    assert not {"link", "iframe", "img", "object", "base"} & set(names)
    for tag, attributes in page.tags:
        assert "src" not in attributes and "srcset" not in attributes, tag
        assert not any(key.startswith("on") for key in attributes), tag
        if "href" in attributes:
            assert attributes["href"].startswith("#")
    text = (run_folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(", text)


def test_every_section_is_there_and_every_link_has_its_target(page):
    targets = {attributes.get("id") for _, attributes in page.tags}
    assert {key for key, *_ in SECTIONS} | {"cost", "repeat", "limits"} <= targets
    assert {a["href"][1:] for _, a in page.tags if "href" in a} <= targets
    assert "Not here yet" not in page.text
    assert [t for t, _ in page.tags].count("h1") == 1


@pytest.mark.parametrize("words", (
    "3,045 of 4,210 documents", "exact duplicate", "PSF-2.0", "60 / 10 / 30",
    "··············", "0.46 fewer than gzip -9", "MoE 3", "22.1 % [17.1, 27.1]",
    "9.5 % [6.0, 13.0]", "the file has return width * height", "window of 8,192",
    "after 76.7 %", "1,906 (46.5 %)", "0.853", "78.1 % [", "81.0 % [77.0, 85.0]",
    "91.0 % [86.0, 96.0]", "sharpened", "5 programs that solve their task",
    "5 programs that fail", "gave 25, not 16", "1,892 MiB", "10 min 44 s in all",
    "what pack_long found",
    "python -m minicoder grpo --out runs/demo/grpo --seed 0", "torch 2.13.0+cpu",
    "not a reproduction", "interrupted and resumed"))
def test_what_the_page_tells(page, words):
    assert words in page.text


def test_every_picture_has_an_alt_text(page):
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) == 6
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in pictures)


def test_a_sample_is_coloured_by_token_once_the_tokenizer_is_there(run_folder):
    assert "bytes become" not in Page(write_report(run_folder)).text
    Tokenizer.train(["def mean(values):\n    return total\n"] * 9, 270).save(
        run_folder / "tokenizer")
    page = Page(write_report(run_folder))
    assert re.search(r"151 bytes become \d+ tokens", page.text)
    assert "for value in values:" in page.text


@pytest.mark.parametrize("count", range(len(STAGES)))
def test_a_report_can_be_made_after_any_stage(tmp_path, count):
    folder = write_run(tmp_path / "demo", STAGES[:count])
    folder.mkdir(exist_ok=True)
    page = Page(write_report(folder, tmp_path / "other.html"))
    assert page.open == [] and not (folder / "report.html").exists()
    missing = {"extend": "language", "pack_long": "pretrain"}.get(
        STAGES[count], STAGES[count])
    assert f"The stage {missing} has not run yet" in page.text
    for done in STAGES[:count]:
        assert f"The stage {done} has" not in page.text


def test_a_stage_under_way_is_called_that(tmp_path):
    folder = write_run(tmp_path / "demo", STAGES[:3])
    (folder / "pretrain.partial").mkdir()
    assert "The stage pretrain is under way" in Page(write_report(folder)).text


HOSTILE = '</code></pre><script>alert(1)</script><img src=x onerror="alert(2)">'


def poison(value, text: str):
    """Replace every string of a JSON value."""
    if isinstance(value, str):
        return text
    if isinstance(value, list):
        return [poison(item, text) for item in value]
    if isinstance(value, dict):
        return {key: item if key == "name" else poison(item, text)
                for key, item in value.items()}
    return value


def test_hostile_text_in_every_field_stays_text(run_folder):
    for path in run_folder.rglob("*.json"):
        path.write_text(json.dumps(poison(json.loads(path.read_text()), HOSTILE)))
    page = Page(write_report(run_folder))
    names = [tag for tag, _ in page.tags]
    assert page.open == [] and names.count("script") == 1 and "img" not in names
    assert page.text.count(HOSTILE) > 50
    assert not any(key.startswith("on") for _, a in page.tags for key in a)


def test_a_policy_allows_the_one_script_and_nothing_else(page):
    policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='$", policy)


def test_hidden_and_reordering_characters_become_visible(run_folder):
    program = "access = 'user\u202e\u2066'  # \u2069\x00\x1b[31m\ud800"
    rewrite(run_folder / "evaluate" / "scores.json",
            lambda v: v["examples"]["solved"][0].update(program=program))
    text = write_report(run_folder).read_text(encoding="utf-8")
    assert "user\\u202e\\u2066" in text and "\\u2069\\x00\\x1b[31m\\ud800" in text
    assert not set("\u202e\u2066\u2069\x00\x1b") & set(text)


def test_a_very_long_program_is_cut():
    cut = clean("x" * 1_000_000)
    assert len(cut) < 7000 and cut.endswith("994,000 characters more")


def test_the_same_run_gives_the_same_bytes(run_folder):
    first = write_report(run_folder).read_bytes()
    assert write_report(run_folder).read_bytes() == first
    assert len(first) < 400_000


def test_losses_that_are_not_numbers_leave_gaps(run_folder):
    path = run_folder / "sft" / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": NaN}\n{"step": 2, "loss": 1.5}\n'
                    '{"step": 3}\n{"step": 4, "loss": 1.0}\n')
    assert "1.50 nats a token" in Page(write_report(run_folder)).text
    path.write_text("")
    assert "nan nats a token" in Page(write_report(run_folder)).text


@pytest.mark.parametrize(("stage", "file"), [
    (stage, file) for stage, files in FILES.items() for file in files])
def test_a_broken_file_is_named(run_folder, stage, file):
    (run_folder / stage / file).write_text("{broken")
    with pytest.raises(UserError, match=f"{stage}/{file}"):
        write_report(run_folder)


@pytest.mark.parametrize("field", ("rows", "tasks", "examples", "tier"))
def test_a_file_without_a_field_is_a_clear_error(run_folder, field):
    rewrite(run_folder / "evaluate" / "scores.json", lambda v: v.pop(field))
    with pytest.raises(UserError, match=field):
        write_report(run_folder)
    assert not list(run_folder.glob("report*"))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="not a folder"):
        write_report(tmp_path / "none")


def test_units():
    assert [duration(s) for s in (7.4, 59.6, 682)] == [
        "7 s", "1 min 00 s", "11 min 22 s"]
    assert [size(n) for n in (900, 250_000)] == ["0.9 kB", "0.2 MB"]


PROBE = """<iframe width="390" height="800" srcdoc="{}"></iframe><script>
onload = () => {{
 const page = document.querySelector("iframe").contentDocument.documentElement;
 document.title = `${{page.clientWidth}} wide, ${{page.scrollWidth}} needed`;
}};</script>"""


@pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine")
@pytest.mark.parametrize("text", (None, "an_unbroken_word_" * 30))
def test_a_telephone_needs_no_sideways_scrolling(run_folder, tmp_path, text):
    if text:
        for path in run_folder.rglob("*.json"):
            path.write_text(json.dumps(poison(json.loads(path.read_text()), text)))
    page = write_report(run_folder).read_text(encoding="utf-8")
    page = page.replace("<details", "<details open")
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(html.escape(page)), encoding="utf-8")
    seen = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
         f"--user-data-dir={tmp_path}/profile", "--window-size=1200,900",
         probe.as_uri()], capture_output=True, text=True, timeout=120)
    width, needed = re.search(
        r"<title>(\d+) wide, (\d+) needed", seen.stdout).groups()
    assert 300 < int(width) <= 390 and int(needed) <= int(width)
