"""Infilling: holes that join to the file, and a model that knows it by heart."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import new_coder

from minicoder.errors import UserError
from minicoder.evaluation.infilling import (
    Hole,
    exact_match,
    first_line,
    infill_lines,
    read_spans,
    single_line_holes,
)
from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.item import grade_many

pytestmark = pytest.mark.filterwarnings("ignore:Generated programs run")


@settings(deadline=None)
@given(st.lists(st.text("ab \n", max_size=60), max_size=5), st.integers(0, 9),
       st.integers(1, 4), st.integers(0, 99))
def test_a_hole_is_one_line_of_a_file_with_its_neighbours(texts, count, lines, seed):
    holes = single_line_holes(texts, count, lines, seed)
    places = sum(bool(row.strip()) for text in texts for row in text.split("\n")[2:-2])
    assert len(holes) == min(count, places)
    for hole in holes:
        assert hole.middle.strip() and hole.middle.count("\n") == 1
        assert hole.middle.endswith("\n") and len(hole.middle) <= 81
        for side in (hole.prefix, hole.suffix):
            assert 2 <= side.count("\n") <= max(lines, 2) or side.count("\n") == lines
        joined = hole.prefix + hole.middle + hole.suffix
        assert any(joined[:-1] in text for text in texts)


def test_no_place_is_cut_out_twice(file):
    assert len({hole.middle for hole in single_line_holes([file], 99)}) == 7


def test_every_file_counts_the_same(file):
    long, short = file * 20, file.replace("i", "j")
    holes = single_line_holes([long, short], 10)
    assert sum(h.middle in short for h in holes) == 5
    assert holes == single_line_holes([long, short], 10)
    assert holes != single_line_holes([long, short], 10, seed=1)


@pytest.mark.parametrize(("text", "line"), [
    ("  x = 1\n  y", "x = 1"), ("x", "x"), ("\n\n a \nb", "a"), ("", ""),
    ("a<｜end▁of▁sentence｜>", "a<｜end▁of▁sentence｜>")])
def test_the_first_line_is_what_counts(text, line):
    assert first_line(text) == line


def test_a_model_that_knows_the_file_fills_it_exactly(filler, tokenizer, holes):
    found = exact_match(filler, tokenizer, holes)
    assert found["fim"]["value"] == 1 and found["fim"]["n"] == len(holes) == 4
    assert found["prefix_only"]["value"] < 1    # it was never shown that
    for example, hole in zip(found["examples"], holes, strict=True):
        assert example["exact"] and example["generated"] == hole.middle.strip()
        assert example["prefix"] == hole.prefix


def test_one_that_does_not_know_it_fails(tokenizer, holes):
    found = exact_match(new_coder(tokenizer, 320), tokenizer, holes)
    assert found["fim"]["value"] == 0 < found["fim"]["high"]
    assert [e["exact"] for e in found["examples"]] == [False] * 4


def test_the_answer_rests_on_what_follows_the_hole(filler, tokenizer, holes):
    moved = [Hole(h.prefix, h.middle, other.suffix) for h, other in zip(
        holes, [*holes[1:], holes[0]], strict=True) if h.suffix != other.suffix]
    right = infill_lines(filler, tokenizer, holes, suffix=True)
    wrong = infill_lines(filler, tokenizer, moved, suffix=True)
    assert right == [h.middle.strip() for h in holes] and right[:len(wrong)] != wrong


def test_holes_beyond_the_window_are_left_out(filler, tokenizer, holes):
    giant = Hole(holes[0].prefix * 50, holes[0].middle, holes[0].suffix)
    found = exact_match(filler, tokenizer, [giant, *holes])
    assert found["fim"]["n"] == 4 and found["fim"]["value"] == 1
    # seeing the prefix alone, the oldest tokens are left away instead
    assert len(infill_lines(filler, tokenizer, [giant], suffix=False)) == 1


def test_batches_change_no_answer(filler, tokenizer, holes):
    assert infill_lines(filler, tokenizer, holes, True, batch=1) == infill_lines(
        filler, tokenizer, holes, True, batch=3)


# --- spans that are judged by running

FILES = {"SingleLineInfilling": 1033, "MultiLineInfilling": 5815,
         "RandomSpanInfilling": 1640, "RandomSpanInfillingLight": 164}


def spans(name):
    path = Path(__file__).parents[3] / "shared/data/humaneval" / (
        f"HumanEval-{name}.jsonl.gz")
    if not path.exists():
        pytest.skip(f"{path.name} does not lie beside the repository")
    return read_spans(path)


@pytest.mark.parametrize(("name", "count"), FILES.items())
def test_public_spans_join_to_programs(name, count):
    found = spans(name)
    assert len({one.task_id for one in found}) == len(found) == count
    for one in found:
        compile(one.filled(one.reference), one.task_id, "exec")
        assert one.exact(one.reference)
        assert one.one_line == (name == "SingleLineInfilling")
        assert not one.one_line or one.filled(
            one.reference + "more\n") == one.filled(one.reference)


def test_public_spans_pass_when_filled_right():
    part = [one for name in FILES for one in random.Random(0).sample(spans(name), 3)]
    with Sandbox(workers=2, allow_weak=True) as sandbox:
        right = grade_many(part, [one.reference for one in part], sandbox)
        wrong = grade_many(part, ["    return (\n"] * len(part), sandbox)
    assert {result.verdict for result in right} == {"pass"}
    assert "pass" not in {result.verdict for result in wrong}


def test_a_broken_file_of_spans_is_named(tmp_path):
    path = tmp_path / "spans.jsonl"
    path.write_text('{"task_id": "SingleLineInfilling/0", "entry_point": "f", '
                    '"test": "x", "canonical_solution": "y", "prompt": "a"}\n')
    with pytest.raises(UserError, match="spans.jsonl, line 1: fields prompt, "):
        read_spans(path)
