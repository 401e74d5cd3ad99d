"""Leaks are found in whatever form, what is only alike stays; slow search as oracle."""

import gzip
import json
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicoder.data import decontaminate
from minicoder.data.decontaminate import (
    LONGEST,
    SHORTEST,
    Benchmarks,
    read_benchmarks,
    telling,
)
from minicoder.data.standard import language_reference
from minicoder.errors import UserError

SHARED = Path(os.environ.get(
    "MINICODER_BENCHMARKS", Path(__file__).parents[3] / "shared/data"))
NUMBERS = ("one two three four five six seven eight nine ten eleven twelve thirteen "
           "fourteen fifteen").split()
PROBLEM = '''def add_even(numbers):
    """Return the sum of all even entries of numbers, or None for an empty list."""
    if not numbers:
        return None
    return sum(value for value in numbers if value % 2 == 0)
'''


def words_of(text):
    return re.findall(r"\w+", text.lower())


def slow_objection(texts, document):
    """Every gram of every benchmark text against every gram of the document."""
    found = words_of(document)
    for text in texts:
        words = words_of(text)
        size = min(len(words), LONGEST)
        if size < SHORTEST or (size < LONGEST and not re.search(
                r"(?<!\w)" + r"\s+".join(map(re.escape, text.split())) + r"(?!\w)",
                document)):
            continue
        grams = [words[i:i + size] for i in range(len(words) - size + 1)]
        for i in range(len(found) - size + 1):
            if found[i:i + size] in grams and telling(found[i:i + size]):
                return True
    return False


SENTENCES = st.integers(0, 30).flatmap(lambda size: st.lists(
    st.sampled_from(NUMBERS[:4]), min_size=size, max_size=size)).map(" ".join)


@given(st.lists(SENTENCES, max_size=5), SENTENCES)
def test_the_index_finds_what_a_slow_search_finds(texts, document):
    found = Benchmarks(texts).objection(document)
    assert (found is not None) == slow_objection(texts, document)


@given(st.lists(SENTENCES, max_size=5), SENTENCES)
def test_hashes_that_all_collide_change_nothing(texts, document):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decontaminate, "factors",
                      lambda: np.zeros(LONGEST, dtype=np.uint64))
        found = Benchmarks(texts).objection(document)
    assert (found is not None) == slow_objection(texts, document)


def test_a_collision_removes_nothing(monkeypatch):
    monkeypatch.setattr(decontaminate, "factors",
                        lambda: np.zeros(LONGEST, dtype=np.uint64))
    index = Benchmarks([" ".join(NUMBERS)])
    assert index.objection(" ".join(NUMBERS[::-1])) is None
    assert index.objection(" ".join(NUMBERS[:10])) is not None


@pytest.mark.parametrize("count, gone", [(9, False), (10, True), (11, True)])
def test_ten_equal_grams_go_nine_stay(count, gone):
    """Of a benchmark text of 15 words the document holds the first `count`."""
    document = "before " + " ".join(NUMBERS[:count]) + " after"
    assert bool(Benchmarks([" ".join(NUMBERS)]).objection(document)) == gone


@pytest.mark.parametrize("size, used", [(2, False), (3, True), (9, True), (10, True)])
def test_texts_of_three_grams_and_more_are_used(size, used):
    text = " ".join(NUMBERS[:size])
    assert bool(Benchmarks([text]).objection(f"before {text} after")) == used


@pytest.mark.parametrize("document, gone", [
    ("x = value.strip(other_name)", True), ("a\nvalue.strip(other_name)\n", True),
    ("value.strip(\n    other_name)", False),   # white space where there was none
    ("value strip other_name", False), ("Value.strip(other_name)", False),
    ("value.strip(other_names)", False), ("my_value.strip(other_name)", False)])
def test_a_short_text_must_stand_there_letter_for_letter(document, gone):
    assert bool(Benchmarks(["value.strip(other_name)"]).objection(document)) == gone
    spaced = Benchmarks(["return  value  +\n other"])
    assert spaced.objection("    return value + other") is not None
    assert spaced.objection("return value - other") is None


def reformat(how):
    return {"as it is": PROBLEM, "tabs": PROBLEM.replace("    ", "\t"),
            "one line": " ".join(PROBLEM.split()), "upper case": PROBLEM.upper(),
            "word a line": "\n".join(PROBLEM.split()),
            "crlf": PROBLEM.replace("\n", "\r\n"),
            "as a comment": "".join(f"# {line}\n" for line in PROBLEM.split("\n")),
            "json": json.dumps(PROBLEM.replace("\n", " ")),
            "other quotes": PROBLEM.replace('"""', "'''"),
            "other operators": PROBLEM.replace("%", "//").replace(":", " {")}[how]


@pytest.mark.parametrize("how", [
    "as it is", "tabs", "one line", "upper case", "word a line", "crlf", "as a comment",
    "json", "other quotes", "other operators"])
def test_a_planted_leak_is_found_in_any_layout(how):
    hay = "".join(f"line {n} of a long document\n" for n in range(500))
    other = "an other problem of ten words or more is here as well"
    index = Benchmarks([other, PROBLEM])
    assert index.objection(hay) is None
    reason = index.objection(hay + reformat(how) + hay)
    assert reason and "10-gram" in reason and "sum of all even" in reason


def test_renamed_words_every_ten_hide_a_leak():
    """What n-grams cannot see: a known limit, not a wish."""
    words = PROBLEM.split()
    words[::3] = [f"w{n}" for n in range(len(words[::3]))]
    assert Benchmarks([PROBLEM]).objection(" ".join(words)) is None


@pytest.mark.parametrize("text, tells", [
    ("0 1 2 3 4 5 6 7 8 9", False), ("a b c d e f g h i j", False),
    ("for i in", False), ("return false return", False),
    ("return x or none", True),
    ("aa bb aa bb", False), ("aa bb cc", True), ("a1 b2 c3", True),
    ("1a 2b 3c", False)])
def test_grams_that_count_or_repeat_tell_nothing(text, tells):
    assert telling(text.split()) == tells
    assert bool(Benchmarks([text]).objection(text)) == tells


def test_every_match_is_told_with_its_text():
    texts = [" ".join(NUMBERS[:12]), "nothing of this", " ".join(NUMBERS[1:11])]
    found = list(Benchmarks(texts).matches(" ".join(NUMBERS[:11])))
    assert {owner for owner, _ in found} == {0, 2} and len(found) == 3


def test_nothing_is_found_in_nothing():
    for texts in ([], [""], ["two words"]):
        index = Benchmarks(texts)
        assert index.objection(PROBLEM) is None and index.objection("") is None
    assert Benchmarks([PROBLEM]).objection("") is None


RECORDS = {
    "humaneval": ({"task_id": "HumanEval/0", "prompt": "p q r", "entry_point": "name",
                   "canonical_solution": "s", "test": "t"}, {"p q r", "s", "t"}),
    "infilling": ({"task_id": "x", "prompt": "a\n", "canonical_solution": "b\n",
                   "suffix": "c\n", "test": "t"}, {"a\nb\nc\n", "t"}),
    "humanevalpack": ({"task_id": "Go/0", "declaration": "d", "docstring": "doc",
                       "import": "import (", "test_setup": "package", "bug_type": "b",
                       "buggy_solution": "bad", "failure_symptoms": "f",
                       "instruction": "i"}, {"d", "doc", "bad", "i"}),
    "mbpp": ({"text": "Write", "code": "c", "task_id": 1, "test_setup_code": "import",
              "test_list": ["assert 1", "assert 2"], "challenge_test_list": []},
             {"Write", "c", "assert 1", "assert 2"}),
    "evalplus": ({"prompt": "p", "contract": "c", "base_input": [[["nested"]]],
                  "plus_input": {"a": "b"}, "atol": 0}, {"p", "c"}),
    "cruxeval": ({"code": "c", "input": "i", "output": "o", "id": "sample_0"},
                 {"c", "i", "o"}),
    "gsm8k": ({"question": "q", "answer": "a"}, {"q", "a"}),
    "mmlu": ({"split": "dev", "subject": "s", "question": "q", "options": ["x", "y"],
              "answer": "B"}, {"q\nx\ny", "B"}),
    "a string": ("only text", {"only text"}),
    "nulls": ({"prompt": "p", "canonical_solution": None, "choices": None}, {"p"}),
}


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("packed", [False, True])
def test_the_texts_of_each_format(tmp_path, name, packed):
    record, texts = RECORDS[name]
    data = (json.dumps(record) + "\n\n").encode() * 2
    file = tmp_path / ("x.jsonl.gz" if packed else "x.jsonl")
    file.write_bytes(gzip.compress(data) if packed else data)
    found = list(read_benchmarks([file]))
    assert set(found) == texts and len(found) == 2 * len(texts)


def test_lines_end_at_line_feeds_alone(tmp_path):
    """U+2028 and U+0085 stand inside strings of MMLU; str.splitlines cuts there."""
    file = tmp_path / "x.jsonl"
    file.write_text('{"question": "a\u2028b\u0085c"}\n', encoding="utf-8")
    assert list(read_benchmarks([file])) == ["a\u2028b\u0085c"]


def test_a_plain_text_is_one_string(tmp_path):
    file = tmp_path / "x.txt"
    file.write_text("one\ntwo", encoding="utf-8-sig")
    assert list(read_benchmarks([file])) == ["one\ntwo"]


@pytest.mark.parametrize("name, data, said", [
    ("x.jsonl", b'{"a": "b"}\n{"a": \n', "line 2: no JSON value"),
    ("x.jsonl", b"[1]\n", "line 1: expected an object or a string, found list"),
    ("x.jsonl", b"3\n", "found int"), ("x.jsonl", b"", "holds no text"),
    ("x.jsonl", b'{"task_id": "a"}\n', "holds no text"), ("x.txt", b" \n", "no text"),
    ("x.txt", b"\xff\xfe", "cannot be read"),
    ("x.jsonl.gz", b"no gzip", "cannot be read"),
    ("x.jsonl.gz", gzip.compress(b"{}" * 99)[:-9], "cannot be read"),
    ("x.jsonl", b"[" * 100_000, "no JSON value"), ("", b"", "cannot be read")])
def test_what_cannot_be_read_is_named(tmp_path, name, data, said):
    file = tmp_path / name if name else tmp_path / "absent.jsonl"
    if name:
        file.write_bytes(data)
    with pytest.raises(UserError, match=said) as raised:
        list(read_benchmarks([file]))
    assert str(file) in str(raised.value)


def humaneval():
    file = SHARED / "humaneval/HumanEval.jsonl.gz"
    if not file.exists():
        pytest.skip(f"needs HumanEval: {file} or MINICODER_BENCHMARKS")
    return file


def test_every_problem_of_humaneval_is_found_when_it_leaks():
    """The prompt alone and, of all but short solutions, the solution alone."""
    file, draw = humaneval(), random.Random(0)
    index = Benchmarks(read_benchmarks([file]))
    hay = [topic.text for topic in language_reference()]
    records = [json.loads(line) for line in gzip.decompress(
        file.read_bytes()).decode().split("\n") if line]
    assert len(records) == 164
    for one in records:
        before, after = draw.sample(hay, 2)
        prompt = " ".join(one["prompt"].split())
        assert index.objection(f"{before}\n{prompt}\n{after}"), one["task_id"]
    missed = [one["task_id"] for one in records
              if not index.objection(one["canonical_solution"])]
    assert len(missed) < 25     # mostly a word or two, as `return n**2`
    assert not any(map(index.objection, hay))
