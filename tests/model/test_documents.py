"""Documents in packed rows: as if each were alone, as with a mask, nothing lost."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from miniatures import LITE, SHAPES, YARN, random_model, random_tokens
from torch.testing import assert_close

from minicoder.model.documents import FINEST, find_documents
from minicoder.model.rope import rope_table

BOS = 100
# borders of each row: at its ends, neighbours, none; lengths of several classes
BORDERS = [[0, 1, 2, 70], [0, 90], [17, 40, 41, 104], [], [0, 35, 70]]


def packed(config, length=105):
    """Rows of documents; where no border is said, no token is BOS."""
    rows = random_tokens(config, len(BORDERS), length) % BOS
    for row, borders in zip(rows, BORDERS, strict=True):
        row[borders] = BOS
    return rows


def alone(row):
    """The documents of a row, one by one."""
    cuts = [place for place in (row == BOS).nonzero().flatten().tolist() if place]
    return row.tensor_split(cuts)


def masked(model, rows):
    """Hidden states with a boolean mask and positions that do not begin anew."""
    number = (rows == BOS).cumsum(1)
    mask = (number[:, :, None] == number[:, None, :]).tril()
    rope = rope_table(model.config, 0, rows.shape[1], model.model.norm.weight)
    return model.model.run(rows, lambda _, attention, x: attention(x, rope, mask))


@pytest.fixture(params=[*SHAPES, "yarn"])
def model(request):
    return random_model(SHAPES.get(request.param, replace(LITE, rope_scaling=YARN)))


def test_each_document_is_as_if_alone(model):
    rows = packed(model.config)
    found = model.model.packed(rows, find_documents(rows, BOS))
    for row, hidden in zip(rows, found, strict=True):
        wanted = torch.cat([model.model(text[None])[0] for text in alone(row)])
        assert_close(hidden, wanted, rtol=0, atol=1e-12)


def test_it_equals_a_mask_whose_positions_go_on(model):
    rows = packed(model.config)
    found = model.model.packed(rows, find_documents(rows, BOS))
    assert_close(found, masked(model, rows), rtol=0, atol=1e-12)
    assert not torch.allclose(found, model.model(rows), atol=1e-3)


def test_gradients_equal_those_with_a_mask():
    model = random_model(LITE)
    rows = packed(model.config)
    ways = (model.model.packed(rows, find_documents(rows, BOS)), masked(model, rows))
    first, other = (torch.autograd.grad(hidden.square().sum(), list(
        model.model.parameters())) for hidden in ways)
    for one, two in zip(first, other, strict=True):
        assert_close(one, two, rtol=1e-9, atol=1e-9)


def test_routing_is_seen_in_the_order_of_the_rows():
    model, seen, plain = random_model(LITE), [], []
    rows = packed(model.config)
    rows[rows == BOS] = 0
    rows[:, 0] = BOS            # one document a row: as without documents
    hidden = model.model.packed(rows, find_documents(rows, BOS), seen)
    assert_close(hidden, model.model(rows, plain), rtol=0, atol=1e-12)
    for one, other in zip(seen, plain, strict=True):
        assert torch.equal(one.experts, other.experts)


@given(st.data())
@settings(max_examples=60)
def test_every_token_has_one_place_in_a_row_of_its_document(data):
    batch, length = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 150))
    ids = st.lists(st.integers(98, BOS), min_size=length, max_size=length)
    rows = torch.tensor([data.draw(ids) for _ in range(batch)])
    before = rows.clone()
    documents = find_documents(rows, BOS)
    assert torch.equal(rows, before)
    places = torch.cat([part.flatten() for part in documents.parts])
    assert torch.equal(places[documents.back], torch.arange(rows.numel()))
    texts = [text.tolist() for row in rows for text in alone(row)]
    found = [rows.flatten()[line].tolist() for part in documents.parts for line in part]
    assert len(found) == len(texts)
    for line in found:          # a document, and then its last token again and again
        text = next(t for t in texts if line == t + t[-1:] * (len(line) - len(t)))
        assert len(line) < max(len(text) + FINEST, 1.5 * len(text))
        texts.remove(text)


def test_equal_lengths_share_one_part_without_padding():
    rows = torch.zeros(3, 1000, dtype=torch.long)
    rows[:, ::250] = BOS
    documents = find_documents(rows, BOS)
    assert [part.shape for part in documents.parts] == [(12, 250)]
    moved = documents.to(torch.device("meta"))
    assert {t.device.type for t in (*moved.parts, moved.back)} == {"meta"}
