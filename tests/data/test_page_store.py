"""Pages on disk: one address in many spellings, each page once, tokens as encoded."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicoder.data.page_store import (
    BATCH,
    PageStore,
    split_url,
    unique_pages,
)
from minicoder.data.web import Page
from minicoder.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the quick brown fox " * 50 + "jumps over the dog"], 275)


def words(start, count=60):
    return " ".join(f"word{i}" for i in range(start, start + count))


@pytest.mark.parametrize("url", [
    "https://site.example/a/b?q=1&p=2", "HTTP://WWW.Site.Example:80/a/b/?p=2&q=1",
    "https://site.example:443//a/b?q=1&utm_source=x&p=2#top",
    "site.example/a/b?q=1&p=2", "//site.example/a/b?fbclid=9&p=2&q=1"])
def test_spellings_of_one_address(url):
    assert split_url(url) == ("site.example", "/a/b?p=2&q=1")


@pytest.mark.parametrize("url, depth, found", [
    ("https://host.example/owner/repo/src/a.py", 2,
     ("host.example/owner/repo", "/src/a.py")),
    ("https://host.example/owner", 2, ("host.example", "/owner")),
    ("https://host.example", 1, ("host.example", "/")),
    ("https://host.example:8080/a", 0, ("host.example:8080", "/a")),
    ("host.example/go?to=http://x.example/", 0,
     ("host.example", "/go?to=http%3A%2F%2Fx.example%2F")),
    ("http://host.example:99999/a", 0, ("", "/http://host.example:99999/a")),
    ("http://[::1/a", 0, ("", "/http://[::1/a"))])
def test_domains_and_paths(url, depth, found):
    assert split_url(url, depth) == found


@given(st.text(max_size=30), st.integers(0, 3))
def test_no_address_breaks_it(url, depth):
    domain, path = split_url(url, depth)
    assert path.startswith("/")


def test_each_address_text_and_near_copy_is_kept_once(tmp_path):
    text = words(0)
    near = text.replace("word30", "other")
    pages = [Page("https://a.example/1", text), Page("http://www.a.example/1/", "new"),
             Page("https://b.example/1", text), Page("https://c.example/1", near),
             Page("https://d.example/1", words(500)), Page("https://e.example/1", "?")]
    gone = []
    kept = list(unique_pages(pages, tmp_path / "kept", gone.append))
    assert [(one.rule, one.path) for one in gone] == [
        ("same address", pages[1].url), ("exact duplicate", pages[2].url),
        ("near duplicate", pages[3].url)]
    assert {one.reason for one in gone} == {"kept: a.example/1"}
    assert [domain for domain, _, _ in kept] == [f"{x}.example" for x in "ade"]
    assert not (tmp_path / "kept").exists()


def test_what_is_stored_is_what_was_given(tmp_path, tokenizer):
    rows = [(f"{i % 3}.example", f"/{i}", f"the fox {i} " * (i % 4))
            for i in range(BATCH + 5)]
    web = PageStore.write(tmp_path, iter(rows), tokenizer)
    assert len(web) == len(rows) and web.domains == ["0.example", "1.example",
                                                      "2.example"]
    for index in (0, 1, 4, BATCH - 1, BATCH, BATCH + 4):
        ids = tokenizer.encode(rows[index][2])
        assert web.tokens(index).tolist() == ids and web.sizes[index] == len(ids)
        assert web.domains[web.domain[index]] == rows[index][0]
    chosen = np.zeros(len(web), bool)
    chosen[[3, BATCH + 1]] = True
    assert [tuple(page) for page in web.pages(chosen)] == [
        (i, *rows[i]) for i in (3, BATCH + 1)]
    assert [tuple(page) for page in web.pages(chosen, text=False)] == [
        (i, *rows[i][:2], "") for i in (3, BATCH + 1)]
    assert Counter(page.domain for page in web.pages(~chosen)) == Counter(
        row[0] for i, row in enumerate(rows) if not chosen[i])


@pytest.mark.parametrize("rows", [[], [("a.example", "/", "")]])
def test_nothing_and_a_page_of_nothing(tmp_path, tokenizer, rows):
    web = PageStore.write(tmp_path, rows, tokenizer)
    assert len(web) == len(rows) == len(list(web.pages(np.ones(len(rows), bool))))
    assert web.sizes.sum() == 0
