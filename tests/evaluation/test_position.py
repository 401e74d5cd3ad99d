"""Bits by position: a uniform model by hand, the slow way, and what adds up."""

import math

import pytest
import torch
from small import memorise, new_coder

from minicoder.errors import UserError
from minicoder.evaluation.compression import bits_per_byte
from minicoder.evaluation.position import bits_by_position

TEXTS = ["def f(x):\n    return x\n" * 9, "é = 'ü'\n" * 12, "short"]
EDGES = (0, 3, 4, 20, 32)


def tokens_of(tokenizer):
    """The first tokens of the texts that are long enough."""
    return [ids[:32] for text in TEXTS if len(ids := tokenizer.encode(text)) >= 32]


@pytest.fixture(scope="module")
def random_coder(tokenizer):
    """Weights far from uniform, so that context matters."""
    coder = new_coder(tokenizer)
    draw = torch.Generator().manual_seed(0)
    for weight in coder.parameters():
        weight.data += 0.2 * torch.randn(weight.shape, generator=draw)
    return coder


def test_a_uniform_model_pays_log2_of_the_vocabulary_per_token(tokenizer):
    coder, pieces = new_coder(tokenizer), tokens_of(tokenizer)
    torch.nn.init.zeros_(coder.lm_head.weight)
    assert len(pieces) == 2
    sizes = [sum(len(tokenizer.decode_bytes(ids[a:b])) for ids in pieces)
             for a, b in zip(EDGES, EDGES[1:], strict=False)]
    counts = [2 * (b - a) for a, b in zip(EDGES, EDGES[1:], strict=False)]
    assert bits_by_position(coder, tokenizer, TEXTS, EDGES) == pytest.approx(
        [math.log2(tokenizer.vocab_size) * n / s
         for n, s in zip(counts, sizes, strict=True)])


@torch.no_grad()
def test_each_token_is_predicted_from_all_before_it(random_coder, tokenizer):
    expected = []
    for a, b in zip(EDGES, EDGES[1:], strict=False):
        bits = size = 0.0
        for ids in tokens_of(tokenizer):
            for place in range(a, b):
                logits = random_coder(
                    torch.tensor([[tokenizer.bos, *ids[:place]]]))[0, -1].double()
                bits -= logits.log_softmax(-1)[ids[place]].item() / math.log(2)
                size += len(tokenizer.decode_bytes(ids[place:place + 1]))
        expected.append(bits / size)
    found = bits_by_position(random_coder, tokenizer, TEXTS, EDGES)
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_first_bucket_may_start_later(random_coder, tokenizer):
    whole = bits_by_position(random_coder, tokenizer, TEXTS, EDGES)
    assert bits_by_position(random_coder, tokenizer, TEXTS, EDGES[2:]) == whole[2:]


def test_a_text_of_just_that_length_is_read(tokenizer):
    coder, ids = new_coder(tokenizer), tokenizer.encode(TEXTS[0])
    assert bits_by_position(coder, tokenizer, TEXTS[:1], (0, len(ids)))
    with pytest.raises(UserError, match=f"No text has {len(ids) + 1} tokens"):
        bits_by_position(coder, tokenizer, TEXTS[:1], (0, len(ids) + 1))


def test_what_was_learnt_by_heart_costs_little(tokenizer):
    ids = tokenizer.encode(TEXTS[0])[:32]
    coder = memorise(new_coder(tokenizer), [([tokenizer.bos, *ids[:16]], ids[16:])], 40)
    near, far = bits_by_position(coder, tokenizer, TEXTS[:1], (0, 16, 32))
    assert far < 0.5 < near
    assert far < bits_per_byte(coder, tokenizer, TEXTS[:1], 64)


@pytest.mark.parametrize("edges", [(), (8,), (-1, 8), (0, 8, 8), (8, 0)])
def test_edges_must_grow(tokenizer, edges):
    with pytest.raises(UserError, match="must grow from 0"):
        bits_by_position(new_coder(tokenizer), tokenizer, TEXTS, edges)
