"""Files of JSON lines: read as they are, and mistakes named."""

import gzip
import json
import re

import pytest

from minicoder.errors import UserError
from minicoder.tasks.records import read_records, text_field


def make(record, number):
    return number, text_field(record, "a"), text_field(record, "b", empty=True)


def test_lines_are_split_at_newlines_only(tmp_path):
    lines = [{"a": "x\u2028y\u0085", "b": ""}, {"a": "z", "b": "w"}]
    data = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()
    (tmp_path / "f.jsonl").write_bytes(data + b"\n")
    (tmp_path / "f.jsonl.gz").write_bytes(gzip.compress(data))
    for name in ("f.jsonl", "f.jsonl.gz"):
        assert read_records(tmp_path / name, make) == [
            (0, "x\u2028y\u0085", ""), (1, "z", "w")]


@pytest.mark.parametrize(("line", "message"), [
    ('{"a": 3, "b": ""}', "line 2: field 'a' must be text, not empty, found 3."),
    ('{"a": " "}', "field 'a' must be text, not empty, found \" \"."),
    ('{"b": ""}', "field 'a' must be text, not empty, found nothing."),
    ('{"a": "x", "b": null}', "field 'b' must be text, found null."),
    ("[]", "line 2: expected an object, found list."), ("{", "line 2: "),
    ("[" * 10**5, "line 2: ")])
def test_a_broken_line_is_named(tmp_path, line, message):
    path = tmp_path / "f.jsonl"
    path.write_text('{"a": "x", "b": ""}\n' + line)
    with pytest.raises(UserError, match=re.escape(f"{path}, ")) as error:
        read_records(path, make)
    assert message in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    broken = tmp_path / "f.jsonl.gz"
    broken.write_bytes(gzip.compress(b"{}" * 1000)[:30])
    for path in (tmp_path / "none.jsonl", broken):
        with pytest.raises(UserError, match=re.escape(f"{path} cannot be read")):
            read_records(path, make)
