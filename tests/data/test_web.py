"""Pages from WARC, HTML and JSON lines; what is broken is noted, and the rest read."""

import gzip
import io
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicoder.data.sources import LARGEST_FILE, Document
from minicoder.data.web import (
    Page,
    decode_page,
    documents_from_pages,
    pages,
    pages_in_warc,
    unchunked,
)
from minicoder.errors import UserError

HTML = b"<html><body><p>Hello &amp; welcome<p>again</body></html>"
TEXT = "Hello & welcome\nagain\n"


def answer(body=HTML, kind="text/html", status=200, *more):
    lines = [f"HTTP/1.1 {status} OK", f"Content-Type: {kind}", *more, "", ""]
    return "\r\n".join(lines).encode() + body


def record(body, url="https://a.example/x", kind="response", length=None):
    length = len(body) if length is None else length
    return (f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\n"
            f"Content-Length: {length}\r\n\r\n").encode() + body + b"\r\n\r\n"


def read(place):
    """The pages by address, and [(rule, path)] of what was left out."""
    dropped = []
    found = list(pages(place, dropped.append))
    return {page.url: page.text for page in found}, [(d.rule, d.path) for d in dropped]


@pytest.mark.parametrize("name", ["crawl.warc", "crawl.warc.gz"])
def test_answers_of_a_crawl_become_pages(tmp_path, name):
    records = [record(b"software: x", kind="warcinfo"),
               record(answer()), record(b"GET /", kind="request"),
               record(answer(b"a  b\n", "text/plain"), "<https://b.example/t>"),
               record(answer(status=404), "https://c.example/"),
               record(answer(b"\x89PNG", "image/png"), "https://d.example/"),
               record("é\n".encode(), "https://e.example/", "conversion"),
               record(answer(b"<p></p>"), "https://f.example/")]
    data = b"".join(map(gzip.compress if name.endswith("gz") else bytes, records))
    (tmp_path / name).write_bytes(data)
    assert read(tmp_path) == (
        {"https://a.example/x": TEXT, "https://b.example/t": "a  b\n",
         "https://e.example/": "é\n"}, [("empty", "https://f.example/")])


def test_bodies_may_be_chunked_and_packed(tmp_path):
    packed = gzip.compress(HTML)
    chunked = b"".join(b"%x;name\r\n%s\r\n" % (len(part), part)
                       for part in (packed[:7], packed[7:])) + b"0\r\n\r\n"
    (tmp_path / "a.warc").write_bytes(
        record(answer(chunked, "text/html", 200, "Transfer-Encoding: chunked"))
        + record(answer(packed[:20]), "https://cut.example/")
        + record(answer(b"\x1f\x8bnonsense"), "https://bad.example/"))
    found, dropped = read(tmp_path)
    assert found == {"https://a.example/x": TEXT}
    assert sorted(path for _, path in dropped) == ["https://bad.example/",
                                                   "https://cut.example/"]
    assert unchunked(b"plain text") == b"plain text"
    assert unchunked(b"f" * 40 + b"\r\nall") == b"all"


def test_a_packed_bomb_is_too_large_and_not_unpacked(tmp_path):
    bomb = gzip.compress(bytes(64 << 20))
    (tmp_path / "a.warc").write_bytes(
        record(answer(bomb))
        + record(answer(b"#" * (3 * LARGEST_FILE)), "https://long.example/")
        + record(answer(b"#" * (LARGEST_FILE + 1), "text/plain"), "long.example")
        + record(answer(b"#" * LARGEST_FILE, "text/plain"), "full.example"))
    del bomb
    tracemalloc.start()
    try:
        found, dropped = read(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert list(found) == ["full.example"]
    assert dropped == [("file size", "https://a.example/x"),
                       ("file size", "https://long.example/"),
                       ("file size", "long.example")]


@pytest.mark.parametrize(("length", "lost"), [
    (10, 1), (len(answer()) + 30, 1), ("many", 1), ("9" * 5000, 1), ("", 1), (-1, 1)])
def test_after_a_wrong_length_the_next_whole_record_is_read(tmp_path, length, lost):
    (tmp_path / "a.warc").write_bytes(
        record(answer(), "https://wrong.example/", length=length)
        + record(answer(), "https://maybe.example/")
        + record(answer(), "https://good.example/"))
    found, dropped = read(tmp_path)
    assert found["https://good.example/"] == TEXT
    assert [rule for rule, _ in dropped].count("damaged") >= lost


def test_a_cut_off_crawl_is_read_up_to_there_and_the_next_file_follows(tmp_path):
    data = gzip.compress(record(answer())) + gzip.compress(record(answer(), "b"))
    (tmp_path / "a.warc.gz").write_bytes(data[:-20])
    (tmp_path / "b.warc").write_bytes(record(answer(), "c")[:-40])
    (tmp_path / "c.jsonl").write_text('{"url": "d", "text": "x"}\n')
    found, dropped = read(tmp_path)
    assert list(found) == ["https://a.example/x", "d"]
    assert dropped == [("damaged", "a.warc.gz"), ("damaged", "b.warc")]


@given(st.binary(max_size=300) | st.lists(st.sampled_from(
    [b"WARC/1.0\r\n", b"Content-Length: 9\r\n", b"\r\n", b"a: b\n", b"\0",
     b"WARC-Type: response\n", b"Content-Length: -3\n"])).map(b"".join))
def test_no_bytes_break_the_reader(data):
    dropped = []
    try:
        list(pages_in_warc(io.BytesIO(data), "x", dropped.append))
    except ValueError as error:
        assert "in the middle" in str(error)


def test_lines_and_files_become_pages(tmp_path):
    lines = ['{"url": "u1", "text": "a\\u2028b"}', '{"url": "u2", "html": "<p>x"}',
             '{"url": "u3"}', "not JSON", "[1]", '{"url": 3, "text": "x"}',
             '{"url": "u4", "text": "\\ud800"}', "[" * 100_000, ""]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "p.html").write_bytes(HTML)
    (tmp_path / "sub" / "q.html").write_bytes(b"\xff\xfe<")
    found, dropped = read(tmp_path)
    assert found == {"u1": "a\u2028b", "u2": "x\n", "u4": "?", "sub/p.html": TEXT}
    assert dropped == [*(("damaged", f"a.jsonl.gz:{n}") for n in (3, 4, 5, 6, 8)),
                       ("UTF-8", "sub/q.html")]
    assert read(tmp_path / "sub" / "p.html")[0] == {"p.html": TEXT}


def test_a_giant_line_is_passed_over_in_pieces(tmp_path):
    line = json.dumps({"url": "u", "text": "y" * 3 * LARGEST_FILE})
    (tmp_path / "a.jsonl").write_text(f'{line}\n{{"url": "v", "text": "z"}}\n')
    assert read(tmp_path) == ({"v": "z"}, [("file size", "a.jsonl:1")])


@pytest.mark.parametrize(("body", "declared", "text"), [
    ("é".encode(), b"text/html; charset=latin-1", "é"),     # UTF-8 cannot be mistaken
    ("é".encode("latin-1"), b"text/html; charset=ISO-8859-1", "é"),
    ('<meta charset="gbk">中'.encode("gbk"), b"", '<meta charset="gbk">中'),
    (b"\xe9", b"", None), (b"\xe9", b"charset=punycode", None),
    (b"\xe9", b"charset=unheard", None), (b"\xe9", b"charset=utf-8", None)])
def test_encodings_are_those_that_a_page_declares(body, declared, text):
    assert decode_page(body, declared) == text


def test_pages_become_documents_of_their_host(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"url": "https://a.example:80/p", "text": "x"}\n'
        '{"url": "http://[", "text": "y"}\n')
    assert list(documents_from_pages(tmp_path, "math", print)) == [
        Document("x", "https://a.example:80/p", "Text", "math", "a.example", "unknown"),
        Document("y", "http://[", "Text", "math", tmp_path.name, "unknown")]
    assert list(pages(tmp_path, print))[0] == Page("https://a.example:80/p", "x")


def test_a_place_without_pages_is_an_error_that_names_it(tmp_path):
    for place in (tmp_path, tmp_path / "gone"):
        with pytest.raises(UserError, match=f"{place} has no web pages"):
            read(place)
