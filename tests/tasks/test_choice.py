"""Multiple choice: letters are found as simple-evals finds them; files are read."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from minicoder.errors import UserError
from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.choice import LETTERS, letter_in, make, read_mmlu

UNOPENED = object.__new__(Sandbox)  # nothing may run
SHARED = Path(os.environ.get(
    "MINICODER_BENCHMARKS", Path(__file__).parents[3] / "shared/data"))


@pytest.mark.parametrize(("answer", "letter"), [
    ("Answer: B", "B"), ("answer:c", "C"), ("**Answer:** D", "D"), ("Answer: $A$", "A"),
    ("Answer: (B)", "B"), (r"Answer: $\boxed{C}$", "C"), ("x\nAnswer : D.\n", "D"),
    ("Answer: **B**", "B"), ("Answer: B) 12", "B"), ("Answer: A, B, C, D", "A"),
    ("Answer: A\nAnswer: B\nAnswer: C", "A"), ("B", None), ("", None),
    ("Answer: E", None), ("Answer: Because of it", None), ("Answer: A's", None),
    ("The answer is B", None), ("Answer:" * 10**5, None), ("Answer: " + "(" * 10**6,
                                                                    None)])
def test_the_letter_of_an_answer(answer, letter):
    assert letter_in(answer) == letter


def test_the_quiz_has_different_options_and_every_letter_as_often():
    items = [make(index) for index in range(1000)]
    assert all(len(set(item.options)) == 4 for item in items)
    count = Counter(item.letter for item in items)
    assert set(count) == set(LETTERS) and min(count.values()) > 200


def test_the_quiz_is_right_about_python():
    for index in range(200):  # the stems that ask what an expression is
        item = make(index)
        if item.stem.endswith("in Python?"):
            value = eval(item.stem.removeprefix("What is ").removesuffix(" in Python?"))
            assert item.options[LETTERS.index(item.letter)] in (repr(value), value)


def test_naming_all_letters_is_no_better_than_guessing():
    items = [make(index) for index in range(400)]
    right = sum(item.grade("Answer: A, B, C or D", UNOPENED).verdict == "pass"
                for item in items)
    assert right < 0.35 * len(items)


@pytest.mark.parametrize(("change", "message"), [
    ({"answer": "E"}, "'answer' must be one of A, B, C, D, found 'E'"),
    ({"answer": "AB"}, "'answer' must be.*found 'AB'"),
    ({"question": 3}, "'question' must be text"),
    ({"options": ["a", "b"]}, r"'options' must be four texts, found \['a', 'b'\]"),
    ({"options": ["a", "b", "c", 4]}, "'options' must be four texts")])
def test_a_broken_line_is_named(tmp_path, change, message):
    path = tmp_path / "mmlu.jsonl"
    good = {"question": "q", "options": list("wxyz"), "answer": "A"}
    path.write_text(json.dumps(good) + "\n" + json.dumps(good | change))
    with pytest.raises(UserError, match=f"line 2: field {message}"):
        read_mmlu(path)


@pytest.mark.skipif(not (SHARED / "mmlu").exists(), reason="MMLU is not on this disk")
def test_mmlu_is_read_whole():
    stem = read_mmlu(SHARED / "mmlu/mmlu_stem_test.jsonl.gz")
    items = read_mmlu(SHARED / "mmlu/mmlu_dev_val.jsonl.gz") + stem
    assert len(items) == 1816 + 3018
    assert all(item.grade(item.reference, UNOPENED).verdict == "pass" for item in items)
    assert stem[108].options[0] == "None"  # pandas made a NaN of it
