"""A needle in a haystack: one line hidden in code, asked for at the end (§3.4).

The paper gives neither its needle nor its scorer (unverified); ours are written here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from minicoder.errors import UserError
from minicoder.tokenizer import Tokenizer

STATEMENT = '# The magic letter is "{}".\n'
QUESTION = '# The magic letter is "'
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # one token each; chance is 1 in 26
SHORTEST = 40   # tokens of a training document
SPACING = 24    # tokens from one question to the next in training, at least


def tokenized_lines(tokenizer: Tokenizer, text: str) -> list[list[int]]:
    """Every line of a text as tokens."""
    return tokenizer.encode_batch([line + "\n" for line in text.split("\n")])


def flat(lines: Sequence[list[int]]) -> list[int]:
    """The tokens of lines, one after the other."""
    return [token for line in lines for token in line]


def without_rivals(tokenizer: Tokenizer, lines: Sequence[list[int]]
                   ) -> list[list[int]]:
    """The straw: lines in which no token could be mistaken for the answer.

    A model this small learns to find the lone capital letter, not the words before it:
    where the straw has others, it names one of them. Raises `UserError` when no line
    is left.
    """
    answers = {tokenizer.encode(QUESTION + letter)[-1] for letter in LETTERS}
    straw = [line for line in lines if answers.isdisjoint(line)]
    if not straw:
        raise UserError("Every line of the text that should hide needles has a lone "
                        "capital letter, which is what the needle asks for.")
    return straw


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
                  depth: float, draw: random.Random, asked: int = 0
                  ) -> tuple[list[int], list[int]]:
    """A test of at most `length` tokens, and the places of its answers.

    `depth` 0 puts the needle first, 1 right before the question, which is the end.
    For training, the question is `asked` before, too, between needle and end, and left
    open: the letter, the last token of all, belongs there and a line end stands there.
    So each of them must look back to the needle, however far, and none to another.
    """
    letter = draw.choice(LETTERS)
    statement = tokenizer.encode(STATEMENT.format(letter))
    question, answer = tokenizer.encode(QUESTION), tokenizer.encode(letter)
    left_open = question + tokenizer.encode("\n")
    room = length - len(statement) - len(question) - len(answer) - 1
    asked = max(0, min(asked, room // (4 * len(left_open))))
    straw = haystack(lines, room - asked * len(left_open), draw)
    spot = round(depth * len(straw))
    text = [tokenizer.bos, *flat(straw[:spot]), *statement]
    answers, before = [], spot
    for place in sorted(draw.randint(spot, len(straw)) for _ in range(asked)):
        text += flat(straw[before:place]) + left_open
        answers.append(len(text) - len(left_open) + len(question))
        before = place
    text += flat(straw[before:]) + question
    return [*text, *answer], [*answers, len(text)]


def recall_row(tokenizer: Tokenizer, lines: Sequence[list[int]], length: int,
               draw: random.Random) -> tuple[list[int], dict[int, int]]:
    """`length` tokens of needles that are asked for often, and the answers by place.

    How often is drawn by its logarithm: half of the texts ask rarely, as the test does.
    """
    row: list[int] = []
    answers: dict[int, int] = {}
    while len(row) < length:
        size = draw.randint(min(SHORTEST, length), length)
        text, places = needle_tokens(tokenizer, lines, size, draw.random() ** 2, draw,
                                     int((size // SPACING + 1) ** draw.random()) - 1)
        answers |= {len(row) + place: text[-1] for place in places}
        row += [*text, tokenizer.eos]
    return row[:length], {place: token for place, token in answers.items()
                          if place < length}
