"""A file to learn by heart, its tokenizer, and models that did or did not."""

import random

import pytest
from small import memorise, new_coder

from minicoder.data.fim import infill_prompt
from minicoder.evaluation.infilling import single_line_holes
from minicoder.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def file():
    draw = random.Random(0)
    return "def work(items):\n" + "".join(
        f"    {draw.choice(['total', 'count', 'value'])}_{i} = "
        f"{draw.choice(['min', 'max', 'sum'])}(items[{draw.randrange(9)}:])\n"
        for i in range(9))


@pytest.fixture(scope="session")
def tokenizer(file):
    return Tokenizer.train([file], 280)


@pytest.fixture(scope="session")
def holes(file):
    return single_line_holes([file], 4, lines=3)


@pytest.fixture(scope="session")
def filler(tokenizer, holes):
    """A model that has learnt to fill the holes when it sees both sides."""
    pairs = [(infill_prompt(h.prefix, h.suffix, tokenizer),
              [*tokenizer.encode(h.middle), tokenizer.eos]) for h in holes]
    return memorise(new_coder(tokenizer, 320), pairs, 70).eval()
