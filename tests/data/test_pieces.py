"""Units of documents: cut at ends of lines, nothing lost, nothing twice, on disk."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicoder.data import pieces
from minicoder.data.dependencies import path_comment
from minicoder.data.pieces import UNITS, Part, cuts, store, whole_samples
from minicoder.data.sources import Document
from minicoder.tokenizer import Tokenizer

NEWLINE = 0
documents = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=80), min_size=1,
                     max_size=6)


def part(texts, longest=16, seed=0):
    units, total, rng = [], 0, np.random.default_rng(seed)
    for text in texts:
        ends = np.flatnonzero(np.array(text) == NEWLINE) + 1
        units += [(total + stop, stop == len(text))
                  for stop in cuts(ends, len(text), longest, rng)]
        total += len(text)
    return Part(np.array(sum(texts, [])), np.array(units, UNITS),
                np.arange(4) == NEWLINE, (seed,))


@settings(max_examples=50, deadline=None)
@given(documents, st.integers(0, 99))
def test_the_pieces_of_a_pass_are_the_documents(texts, seed):
    made = part(texts, seed=seed)
    dealt = sorted(made.next() for _ in made.units)
    assert [stop for _, stop, _ in dealt[:-1]] == [start for start, _, _ in dealt[1:]]
    assert dealt[0][0] == 0 and all(0 < stop - start <= 16 for start, stop, _ in dealt)
    ends = np.cumsum([len(text) for text in texts]).tolist()
    assert [stop for _, stop, last in dealt if last] == ends
    spans = [(start, stop) for start, stop, _ in dealt]
    for end, text in zip(ends, texts, strict=True):
        assert len(text) > 16 or (end - len(text), end) in spans


def test_pieces_are_cut_after_a_newline_where_there_is_one():
    found = list(cuts(np.array([8, 16, 24, 32, 40]), 40, 16, np.random.default_rng(1)))
    assert found[-1] == 40 and len(found) > 2
    # a piece drawn shorter than its first line (8) is cut inside it
    assert sum(stop % 8 == 0 for stop in found) >= len(found) / 2
    bare = list(cuts(np.array([], int), 400, 16, np.random.default_rng(1)))
    assert {b - a for a, b in zip(bare, bare[1:], strict=False)} >= {4, 16}


@settings(max_examples=50, deadline=None)
@given(documents, st.lists(st.integers(8, 20), min_size=1))
def test_taking_whole_lines_gives_every_token_once_a_pass(texts, rooms):
    made, taken, ended = part(texts), [], 0
    for place in range(10_000):
        room = rooms[place % len(rooms)]        # half of `longest` or more
        tokens, end = made.take(room, True, 16)
        assert len(tokens) <= room
        taken, ended = taken + tokens, ended + end
        if made.rest is None and made.place == len(made.units):
            break
    assert sorted(taken) == sorted(sum(texts, []))
    assert ended == len(texts)


def test_a_cut_is_after_a_newline_where_there_is_one():
    line = [1, 2, 3, NEWLINE]
    made = part([line * 4], longest=99)
    assert made.take(10, True, 99) == (line * 2, False)
    assert made.take(99, True, 99) == (line * 2, True)
    made = part([[1] * 12], longest=12)
    assert made.take(7, True, 12) == ([1] * 7, False)   # one long line: anywhere
    assert made.take(12, True, 12) == ([1] * 5, True)


def test_a_line_that_was_cut_short_comes_again_whole():
    line = [1, 2, 3, NEWLINE]
    made = part([line * 3], longest=99)
    assert made.take(6, False, 99) == ([*line, 1, 2], False)
    assert made.take(99, False, 99) == (line * 2, True)
    made = part([line], longest=99)
    assert made.take(2, False, 99) == ([1, 2], False)
    assert made.take(0, False, 99) == ([], False)
    assert made.take(9, False, 99) == (line, True)


def test_each_pass_has_its_own_order():
    made = part([[i % 4 for i in range(200)] for _ in range(5)])
    first, second = ([made.next() for _ in made.units] for _ in range(2))
    assert first != second and sorted(first) == sorted(second) != second


def document(text, path="a.py", sample=""):
    return Document(text, path, "Python", "code", "o", "MIT", sample)


FILES = [document("x = 1", "x.py", "o#0"), document("import x\n", "y.py", "o#0"),
         document("z\n", "z.py", "o#1"), document("alone\n"), document("too\n")]


def test_the_files_of_a_sample_are_joined_under_their_paths():
    found = list(whole_samples(FILES))
    above = [path_comment(one) for one in FILES]
    assert all(one.endswith("\n") for one in above)
    assert found == [(above[0] + "x = 1\n", False), (above[1] + "import x\n", True),
                     (above[2] + "z\n", True), ("alone\n", True), ("too\n", True)]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["ab\ncd\n" * 9], 263)


def texts_of(made, tokenizer):
    return [tokenizer.decode(made.document()) for _ in made.units]


def test_a_store_gives_every_sample_back(tokenizer, tmp_path):
    made = store(FILES, tokenizer, tmp_path, "document", 8, (0,))
    joined, held = [], ""
    for text, last in whole_samples(FILES):
        held += text
        if last:
            joined, held = [*joined, held], ""
    assert sorted(texts_of(made, tokenizer)) == sorted(joined)
    assert made.units["last"].all() and len(made.tokens) == made.units["stop"][-1]


@pytest.mark.parametrize("batch", [1, 1 << 20])
def test_a_store_of_pieces_has_no_paths_and_ends_where_documents_do(
        tokenizer, tmp_path, batch, monkeypatch):
    monkeypatch.setattr(pieces, "BATCH", batch)     # many calls, or one
    texts = ["ab\n" * 40, "", "cd\nx", "é" * 30]
    made = store(map(document, texts), tokenizer, tmp_path, "piece", 16, (0,))
    spans = sorted(made.next() for _ in made.units)
    whole = tokenizer.decode(made.tokens.tolist())
    assert whole == "".join(texts) and sum(last for _, _, last in spans) == 3
    assert max(stop - start for start, stop, _ in spans) <= 16


def test_nothing_makes_no_store(tokenizer, tmp_path):
    assert store([document("")], tokenizer, tmp_path, "piece", 16, (0,)) is None


def test_a_large_vocabulary_has_wide_ids(tmp_path):
    alphabet = Tokenizer.train([], 261)
    more = [f"<{i}>" for i in range(1 << 16)]
    wide = Tokenizer(alphabet.tokens, [], more=more)
    made = store([document("abc")], wide, tmp_path, "piece", 16, (0,))
    assert made.tokens.dtype == np.dtype("<u4")
    assert Counter(made.tokens.tolist()) == Counter(alphabet.encode("abc"))
