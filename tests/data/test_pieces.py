"""Cutting documents: at ends of lines, nothing lost, nothing twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicoder.data.pieces import Part, encode_part
from minicoder.tokenizer import Tokenizer

NEWLINE = 0
documents = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=80), min_size=1,
                     max_size=6)


def part(texts, longest=16, seed=0):
    arrays = [np.array(text, np.int32) for text in texts]
    ends = [np.flatnonzero(array == NEWLINE) + 1 for array in arrays]
    return Part(arrays, ends, longest, np.random.default_rng(seed))


@settings(max_examples=50, deadline=None)
@given(documents, st.integers(0, 99))
def test_the_pieces_of_a_pass_are_the_documents(texts, seed):
    made = part(texts, seed=seed)
    made.refill()
    cuts = sorted(made.queue)
    for index, text in enumerate(texts):
        spans = [(start, stop) for doc, start, stop in cuts if doc == index]
        assert [start for start, _ in spans[1:]] == [stop for _, stop in spans[:-1]]
        assert (spans[0][0], spans[-1][1]) == (0, len(text))
        assert all(0 < stop - start <= 16 for start, stop in spans)
        if len(text) <= 16:
            assert len(spans) == 1


@settings(max_examples=50, deadline=None)
@given(documents, st.lists(st.integers(8, 20), min_size=1))
def test_taking_whole_lines_gives_every_token_once_a_pass(texts, rooms):
    made, taken, ended = part(texts), [], 0
    for place in range(10_000):
        room = rooms[place % len(rooms)]        # half of `longest` or more
        tokens, end = made.take(room, True)
        assert len(tokens) <= room
        taken, ended = taken + tokens, ended + end
        if not made.queue:
            break
    assert sorted(taken) == sorted(sum(texts, []))
    assert ended == len(texts)


def test_a_cut_is_after_a_newline_where_there_is_one():
    line = [1, 2, 3, NEWLINE]
    made = part([line * 4], longest=99)
    assert made.take(10, True) == (line * 2, False)
    assert made.take(99, True) == (line * 2, True)
    made = part([[1] * 12], longest=12)
    assert made.take(7, True) == ([1] * 7, False)   # one long line: anywhere
    assert made.take(12, True) == ([1] * 5, True)


def test_a_line_that_was_cut_short_comes_again_whole():
    line = [1, 2, 3, NEWLINE]
    made = part([line * 3], longest=99)
    assert made.take(6, False) == ([*line, 1, 2], False)
    assert made.take(99, False) == (line * 2, True)
    made = part([line], longest=99)
    assert made.take(2, False) == ([1, 2], False)
    assert made.take(0, False) == ([], False)
    assert made.take(9, False) == (line, True)


def test_each_pass_has_its_own_order_and_cuts():
    made = part([[i % 4 for i in range(200)] for _ in range(5)])
    made.refill()
    first = made.queue.copy()
    made.queue.clear()
    made.refill()
    assert made.queue != first and sorted(made.queue) != sorted(first)


@pytest.mark.parametrize(("needed", "least"), [(0, 0), (1000, 1000), (10 ** 9, 6000)])
def test_no_more_is_encoded_than_needed(needed, least):
    tokenizer = Tokenizer.train(["ab"], 262)
    texts = ["xyz" * (i % 3 + 1) for i in range(1000)]
    found = encode_part(texts, tokenizer, needed, np.random.default_rng(0))
    total = sum(map(len, found))
    assert min(least, 6000 - 6) <= total <= max(needed + 256 * 9, 6000) * (needed > 0)
    decoded = sorted(tokenizer.decode(ids.tolist()) for ids in found)
    assert set(decoded) <= set(texts) and len(decoded) <= 1000
