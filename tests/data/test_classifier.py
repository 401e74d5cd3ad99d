"""The classifier: features by hand, one step by autograd, what only n-grams can see.

The library it rebuilds stands beside it in benchmarks/recall.py and not here: two runs
of it with one seed differ, and now and then it ends with "Encountered NaN".
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from minicoder.data.classifier import (
    Recipe,
    features,
    known_features,
    learn,
    train_classifier,
)
from minicoder.errors import UserError

SMALL = Recipe(dimension=16, rate=0.5, epochs=5, buckets=1 << 14)
VOCABULARY = 60
page_lists = st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=9), max_size=5)


def arrays(pages):
    return [np.array(page, np.uint32) for page in pages]


def by_hand(page, recipe):
    """The features of one page, with Python's numbers and loops."""
    found = list(page)
    keys = [((i + 1) * 0x9E3779B97F4A7C15 % 2 ** 64) >> 32 for i in page]
    for n in range(2, recipe.ngrams + 1):
        for start in range(len(page) - n + 1):
            value = 0
            for key in keys[start:start + n]:
                value = (value * 116049371 + key) % 2 ** 64
            found.append(VOCABULARY + value % recipe.buckets)
    return sorted(found)


@given(page_lists, st.integers(1, 4))
def test_features_are_tokens_and_ngrams_within_a_page(pages, ngrams):
    recipe = Recipe(ngrams=ngrams, buckets=97)
    found, place = features(arrays(pages), VOCABULARY, recipe)
    for index, page in enumerate(pages):
        assert sorted(found[place == index].tolist()) == by_hand(page, recipe)


def test_one_step_is_gradient_descent_on_the_cross_entropy():
    random = np.random.default_rng(0)
    rows, output = (random.normal(size=shape).astype(np.float32)
                    for shape in ((9, 4), (2, 4)))
    page = np.array([3, 5, 3, 8, 3])
    table, weights = (torch.tensor(x, requires_grad=True) for x in (rows, output))
    loss = cross_entropy(weights @ table[torch.tensor(page)].mean(0), torch.tensor(1))
    loss.backward()
    learn(rows, output, page, 1, np.float32(0.3))
    for mine, theirs in ((rows, table), (output, weights)):
        np.testing.assert_allclose(
            mine, (theirs - 0.3 * theirs.grad).detach().numpy(), atol=1e-6)


def test_a_token_needs_as_many_occurrences_as_asked():
    pages = arrays([[1, 1, 2], [1, 2]])
    known = known_features(pages, VOCABULARY, Recipe(least=3, ngrams=1, buckets=1))
    assert known.nonzero()[0].tolist() == [1]
    known = known_features(pages, VOCABULARY, Recipe(least=2, ngrams=2, buckets=97))
    tokens, grams = known[:VOCABULARY], known[VOCABULARY:]
    assert tokens.nonzero()[0].tolist() == [1, 2]
    assert 1 <= grams.sum() <= 2        # 1 1 and 1 2, once each is enough


def sides(count, seed=0, length=40):
    """Pages that share most tokens; the subject says 7 before 8, others 8 before 7."""
    random = np.random.default_rng(seed)
    made = []
    for pair in ((7, 8), (8, 7)):
        pages = random.integers(10, VOCABULARY, (count, length))
        for page in pages:
            for place in range(0, length, 8):
                page[place:place + 2] = pair
        made.append(list(pages.astype(np.uint32)))
    return made


def test_order_is_seen_by_ngrams_and_by_nothing_else():
    train, fresh = sides(60), sides(60, seed=1)
    for ngrams, right in ((1, (0.3, 0.7)), (2, (0.99, 1.0))):
        recipe = Recipe(**SMALL.__dict__ | {"ngrams": ngrams})
        model = train_classifier(*train, VOCABULARY, recipe)
        yes, no = (model.scores(side) for side in fresh)
        share = np.mean(np.r_[yes > 0.5, no < 0.5])
        assert right[0] <= share <= right[1], ngrams


def test_a_batch_is_scored_like_its_pages_alone():
    model = train_classifier(*sides(20), VOCABULARY, SMALL)
    pages = [*sides(5, 3)[0], np.empty(0, np.uint32), *sides(5, 4)[1]]
    alone = [model.scores([page])[0] for page in pages]
    np.testing.assert_allclose(model.scores(pages), alone, rtol=1e-6)
    assert alone[5] == 0.5


def test_the_seed_decides_all():
    one, same, other = (train_classifier(*sides(20), VOCABULARY, SMALL, seed).table
                        for seed in (1, 1, 2))
    assert (one == same).all() and (one != other).any()


def test_bad_settings_and_a_missing_side_are_named():
    with pytest.raises(UserError, match="1 of the subject and 0 others"):
        train_classifier(arrays([[1]]), [], VOCABULARY)
    for name in ("dimension", "ngrams", "least", "epochs", "buckets"):
        with pytest.raises(UserError, match=f"{name} 0"):
            Recipe(**{name: 0})
    for rate in (0.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="rate"):
            Recipe(rate=rate)
