"""The grid of needles: what a model's greedy guess says, cell by cell."""

import random

import pytest
import torch
from small import memorise, new_coder

from minicoder.data.needles import LETTERS, STATEMENT, needle_tokens, tokenized_lines
from minicoder.evaluation import needle
from minicoder.evaluation.needle import needle_grid
from minicoder.tokenizer import Tokenizer

HAY = "".join(f"def f{i}(x):\n    return x * {i}\n" for i in range(60))


@pytest.fixture(scope="module")
def words():
    return Tokenizer.train([HAY, *(STATEMENT.format(x) for x in LETTERS)], 285)


def one_letter(words, letter):
    """A model whose every guess is the same token."""
    coder = new_coder(words)
    torch.nn.init.ones_(coder.model.norm.weight)
    for weight in (coder.model.embed_tokens.weight, coder.lm_head.weight):
        torch.nn.init.zeros_(weight)
    coder.model.embed_tokens.weight.data[:] = 1.0
    coder.lm_head.weight.data[words.encode(letter)[0]] = 1.0
    return coder


def test_a_constant_guess_finds_what_it_happens_to_name(words):
    lengths, depths, trials = [90, 160], [0.0, 1.0], 12
    lines = tokenized_lines(words, HAY)
    found = {letter: needle_grid(one_letter(words, letter), words, HAY, lengths, depths,
                                 trials, seed=3) for letter in "AK"}
    for letter, grid in found.items():
        assert [len(row) for row in grid] == [2, 2]
        for row, depth in enumerate(depths):
            for column, length in enumerate(lengths):
                draw = random.Random(f"3 {row} {column}")
                hits = [words.decode(needle_tokens(words, lines, length, depth, draw
                                                   )[0][-1:]) for _ in range(trials)]
                assert grid[row][column] == pytest.approx(hits.count(letter) / trials)
    assert any(share for grid in found.values() for row in grid for share in row)


def test_a_model_that_learnt_these_needles_finds_them(words):
    lines, draw = tokenized_lines(words, HAY), random.Random("0 0 0")
    asked = [needle_tokens(words, lines, 70, 0.5, draw)[0] for _ in range(6)]
    coder = memorise(new_coder(words), [(ids[:-1], ids[-1:]) for ids in asked], 40)
    assert needle_grid(coder, words, HAY, [70], [0.5], 6) == [[pytest.approx(1)]]
    assert needle_grid(coder, words, HAY, [70], [0.5], 6, seed=1)[0][0] < 0.9


def test_the_same_seed_asks_the_same_needles(words):
    coder = new_coder(words)
    ask = [needle_grid(coder, words, HAY, [90], [0.5], 6, seed) for seed in (0, 0)]
    assert ask[0] == ask[1]


def test_rivals_are_left_in_the_straw_on_request(words, monkeypatch):
    """The straw that reaches the needle, and not what a model makes of it."""
    seen, real = [], needle.needle_tokens

    def spy(tokenizer, lines, *rest):
        seen.append(words.decode(i for line in lines for i in line))
        return real(tokenizer, lines, *rest)

    monkeypatch.setattr(needle, "needle_tokens", spy)
    text = HAY + 'say("K")\n'
    for rivals in (False, True):
        needle_grid(new_coder(words), words, text, [90], [0.5], 1, rivals=rivals)
    assert seen == [HAY + "\n", text + "\n"]
