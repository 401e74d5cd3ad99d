"""Answers of a group in one pass: as if each stood behind its prompt alone."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from miniatures import SHAPES, YARN, random_model
from torch.testing import assert_close

from minicoder.model.groups import group_attention, group_hidden

TOKENS = st.lists(st.integers(0, 100), min_size=1, max_size=7)
MODEL = random_model(SHAPES["lite"])


def alone(model, prompt, answer):
    """The hidden states that the answer's tokens are predicted from."""
    rows = torch.tensor([[*prompt, *answer[:-1]]])
    return model.model(rows)[0, len(prompt) - 1:]


def agree(model, prompts, answers):
    group = len(answers) // len(prompts)
    found = group_hidden(model.model, prompts, answers)
    assert found.shape[:3] == (len(prompts), group, max(map(len, answers)))
    for row, answer in enumerate(answers):
        wanted = alone(model, prompts[row // group], answer)
        assert_close(found[row // group, row % group, :len(answer)], wanted,
                     rtol=0, atol=1e-10)


@settings(max_examples=25)
@given(st.data(), st.integers(1, 3), st.integers(1, 3))
def test_every_answer_is_computed_as_if_alone(data, count, group):
    prompts = [[3, *data.draw(TOKENS)] for _ in range(count)]
    agree(MODEL, prompts, [data.draw(TOKENS) for _ in range(count * group)])


@pytest.mark.parametrize("name", ["full", "yarn"])
def test_other_attentions_and_stretched_windows(name):
    config = SHAPES.get(name) or replace(SHAPES["lite"], rope_scaling=YARN)
    answers = [list(range(k, k + n)) for k, n in ((1, 4), (7, 60), (3, 1), (9, 8))]
    agree(random_model(config), [[1, 2, 3] * 30, [5, 4]], answers)


def test_gradients_are_those_of_the_single_passes():
    model, prompts = random_model(SHAPES["lite"]), [[1, 2, 3, 4], [5, 6]]
    answers = [[7, 8, 9], [7, 1], [4], [5, 6, 7, 8]]
    found = group_hidden(model.model, prompts, answers)
    total = sum(found[i // 2, i % 2, :len(a)].sin().sum()
                for i, a in enumerate(answers))
    single = sum(alone(model, prompts[i // 2], a).sin().sum()
                 for i, a in enumerate(answers))
    parameters = list(model.model.parameters())
    for mine, other in zip(torch.autograd.grad(total, parameters),
                           torch.autograd.grad(single, parameters), strict=True):
        assert_close(mine, other, rtol=0, atol=1e-9)


def test_nobody_sees_padding_or_another_answer():
    draw = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    q, k, v = noise(2, 3, 4, 5, 6), noise(2, 4, 7, 6), noise(2, 4, 7, 8)
    own_k, own_v = noise(2, 3, 4, 5, 6), noise(2, 3, 4, 5, 8)
    known = torch.arange(7) < torch.tensor([[7], [4]])
    found = group_attention(q, k, v, own_k, own_v, known, 0.3)
    for p in range(2):
        for g in range(3):
            keys = torch.cat((k[p][:, known[p]], own_k[p, g]), 1)
            values = torch.cat((v[p][:, known[p]], own_v[p, g]), 1)
            for a in range(5):
                seen = keys.shape[1] - 4 + a
                share = (keys[:, :seen] @ q[p, g, :, a, :, None] * 0.3).softmax(1)
                assert_close(found[p, g, :, a], (share * values[:, :seen]).sum(1))
