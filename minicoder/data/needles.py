"""A needle in a haystack: one line hidden in code, asked for at the end (§3.4).

The paper gives neither its needle nor its scorer (unverified); ours are written here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from minicoder.tokenizer import Tokenizer

STATEMENT = '# The magic letter is "{}".\n'
QUESTION = '# The magic letter is "'
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # one token each; chance is 1 in 26
SHORTEST = 40   # tokens of a training document
SPACING = 24    # tokens from one reminder to the next, about


def tokenized_lines(tokenizer: Tokenizer, text: str) -> list[list[int]]:
    """The straw: every line of a text as tokens."""
    return tokenizer.encode_batch([line + "\n" for line in text.split("\n")])


def haystack(lines: Sequence[list[int]], length: int, draw: random.Random
             ) -> list[list[int]]:
    """Neighbouring lines from a random place on, at most `length` tokens together."""
    start, picked, size = draw.randrange(len(lines)), [], 0
    for step in range(len(lines)):
        line = lines[(start + step) % len(lines)]
        if size + len(line) > length:
            break
        picked.append(line)
        size += len(line)
    return picked


def needle_tokens(tokenizer: Tokenizer, lines: Sequence[list[int]], length: int,
                  depth: float, draw: random.Random, reminders: int = 0
                  ) -> tuple[list[int], list[int]]:
    """A test of at most `length` tokens, and the places of its answers.

    `depth` 0 puts the needle first, 1 right before the question, which is the end.
    For training, `reminders` repeat the statement between needle and question: each
    of them is an answer to learn from, where a test has one.
    """
    letter = draw.choice(LETTERS)
    statement = tokenizer.encode(STATEMENT.format(letter))
    question, answer = tokenizer.encode(QUESTION), tokenizer.encode(letter)
    room = length - len(statement) - len(question) - len(answer) - 1
    reminders = min(reminders, room // (4 * len(statement)))
    straw = haystack(lines, room - reminders * len(statement), draw)
    spot = round(depth * len(straw))
    text, answers, before = [tokenizer.bos], [], 0
    for place in [spot, *sorted(draw.randint(spot, len(straw))
                                for _ in range(reminders))]:
        text += [token for line in straw[before:place] for token in line]
        answers.append(len(text) + len(question))
        text, before = text + statement, place
    text += [token for line in straw[before:] for token in line] + question
    return [*text, *answer], [*answers[1:], len(text)]


def recall_row(tokenizer: Tokenizer, lines: Sequence[list[int]], length: int,
               draw: random.Random) -> tuple[list[int], list[int]]:
    """`length` tokens of needles with reminders, and the places of the answers."""
    row: list[int] = []
    places: list[int] = []
    while len(row) < length:
        size = draw.randint(min(SHORTEST, length), length)
        text, answers = needle_tokens(
            tokenizer, lines, size, draw.random() ** 2, draw, size // SPACING)
        places += [len(row) + place for place in answers]
        row += [*text, tokenizer.eos]
    return row[:length], [place for place in places if place < length]
