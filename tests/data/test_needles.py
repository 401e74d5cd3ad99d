"""Needles: lengths, depths, and places that point at the letters."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicoder.data.needles import (
    LETTERS,
    QUESTION,
    STATEMENT,
    haystack,
    needle_tokens,
    recall_row,
    tokenized_lines,
    without_rivals,
)
from minicoder.errors import UserError
from minicoder.tokenizer import Tokenizer

HAY = "".join(f"def f{i}(x):\n    return x * {i} + {i * i % 97}\n\n" for i in range(60))


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([HAY, *(STATEMENT.format(x) for x in LETTERS)], 285)


@pytest.fixture(scope="module")
def lines(tokenizer):
    return tokenized_lines(tokenizer, HAY)


def test_the_straw_is_the_text_line_by_line(tokenizer, lines):
    assert b"".join(map(tokenizer.decode_bytes, lines)).decode() == HAY + "\n"
    assert all(tokenizer.decode(line).count("\n") == 1 for line in lines)


def test_every_letter_is_one_token(tokenizer):
    ahead = tokenizer.encode(QUESTION)
    for letter in LETTERS:
        whole = tokenizer.encode(STATEMENT.format(letter))
        assert whole[:len(ahead) + 1] == [*ahead, *tokenizer.encode(letter)]


def test_straw_names_no_answer(tokenizer, lines):
    rivals = tokenized_lines(tokenizer, 'say("K")\nx = "A"\nKey = 1')[:2]
    for letter in LETTERS:
        rivals += tokenized_lines(tokenizer, STATEMENT.format(letter).rstrip())[:1]
    mixed = [lines[0], rivals[0], lines[1], *rivals[1:]]
    assert without_rivals(tokenizer, mixed) == lines[:2]
    assert without_rivals(tokenizer, lines) == lines
    with pytest.raises(UserError, match="Every line .* capital letter"):
        without_rivals(tokenizer, rivals)


@settings(deadline=None)
@given(st.integers(0, 900), st.integers())
def test_hay_is_neighbouring_lines_as_many_as_fit(lines, length, seed):
    picked = haystack(lines, length, random.Random(seed))
    assert len(picked) <= len(lines) and sum(map(len, picked)) <= length
    twice = [*lines, *lines]
    starts = [i for i in range(len(lines)) if twice[i:i + len(picked)] == picked]
    assert starts
    if len(picked) < len(lines):
        assert any(sum(map(len, picked)) + len(twice[i + len(picked)]) > length
                   for i in starts)


@settings(deadline=None, max_examples=40)
@given(st.integers(90, 600), st.floats(0, 1), st.integers())
def test_a_test_asks_for_the_one_letter_that_it_states(
        tokenizer, lines, length, depth, seed):
    ids, answers = needle_tokens(tokenizer, lines, length, depth, random.Random(seed))
    text = tokenizer.decode(ids[1:])
    letter = text[-1]
    assert letter in LETTERS and answers == [len(ids) - 1]
    assert ids[0] == tokenizer.bos and tokenizer.decode(ids[answers[0]:]) == letter
    assert text.count(QUESTION) == 2 and text.endswith(QUESTION + letter)
    before, after = text[:-len(QUESTION) - 1].split(STATEMENT.format(letter))
    above, below = before.count("\n"), after.count("\n")
    assert above == round(depth * (above + below))
    longest = max(map(len, lines))
    assert length - longest <= len(ids) <= length


@pytest.mark.parametrize(("depth", "first", "last"), [(0.0, True, False),
                                                      (1.0, False, True)])
def test_the_ends_of_the_depth(tokenizer, lines, depth, first, last):
    ids, _ = needle_tokens(tokenizer, lines, 300, depth, random.Random(1))
    text = tokenizer.decode(ids[1:])
    statement = STATEMENT.format(text[-1])
    assert text.startswith(statement) == first
    assert text.endswith(statement + QUESTION + text[-1]) == last


@settings(deadline=None, max_examples=40)
@given(st.integers(90, 600), st.floats(0, 1), st.integers(0, 9), st.integers())
def test_open_questions_are_answers_too(tokenizer, lines, length, depth, asked, seed):
    ids, answers = needle_tokens(tokenizer, lines, length, depth, random.Random(seed),
                                 asked)
    letter, text = tokenizer.decode(ids[-1:]), tokenizer.decode(ids)
    assert letter in LETTERS and len(ids) <= length
    assert answers == sorted(set(answers)) and answers[-1] == len(ids) - 1
    question = tokenizer.encode(QUESTION)
    for place in answers:
        assert ids[place - len(question):place] == question
    # the letter is said once, before all questions; what is left open is a line end
    assert text.count(QUESTION + letter) == 2 and text.endswith(QUESTION + letter)
    assert text.index(QUESTION + letter) == text.index(QUESTION)
    assert [tokenizer.decode([ids[place]]) for place in answers] == [
        *["\n"] * (len(answers) - 1), letter]
    assert text.count(QUESTION) == len(answers) + 1 <= asked + 2
    if length > 80 * (asked + 1):
        assert len(answers) == asked + 1


def test_letters_are_drawn_evenly(tokenizer, lines):
    draw = random.Random(0)
    found = {needle_tokens(tokenizer, lines, 90, 0.5, draw)[0][-1] for _ in range(260)}
    assert len(found) == len(LETTERS)


@settings(deadline=None, max_examples=40)
@given(st.integers(120, 700), st.integers())
def test_a_row_is_full_and_its_answers_were_said_before(tokenizer, lines, length, seed):
    row, answers = recall_row(tokenizer, lines, length, random.Random(seed))
    assert len(row) == length and row[0] == tokenizer.bos
    assert max(answers, default=0) < length
    question = tokenizer.encode(QUESTION)
    for place, token in answers.items():
        start = max(i for i in range(place) if row[i] == tokenizer.bos)
        document = row[start:place]
        assert document[-len(question):] == question
        assert tokenizer.eos not in document
        said = tokenizer.decode(document).split(QUESTION)[1][0]
        assert tokenizer.decode([token]) == said
        assert row[place] in (token, *tokenizer.encode("\n"))
    asked = [i + len(question) for i in range(length - len(question))
             if row[i:i + len(question)] == question]
    stated = row.count(tokenizer.bos)
    assert len(asked) - stated <= len(answers) <= len(asked)


def test_answers_are_near_and_far(tokenizer, lines):
    """No statement comes between: the first one of its text is the only one."""
    draw, gaps = random.Random(0), []
    for _ in range(60):
        row, answers = recall_row(tokenizer, lines, 600, draw)
        for place in answers:
            start = max(i for i in range(place) if row[i] == tokenizer.bos)
            text = tokenizer.decode(row[start:place])
            gaps.append(len(tokenizer.encode(text[text.index(QUESTION):])))
    assert sum(gap < 100 for gap in gaps) > len(gaps) / 5
    assert sum(gap > 200 for gap in gaps) > len(gaps) / 5 and max(gaps) > 400
