"""MinHash and LSH against exact Jaccard, and duplicates that were planted."""

import random
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicoder.data.dedup import (
    Clusters,
    exact_duplicates,
    jaccard,
    minhash,
    multipliers,
    near_duplicates,
    shingles,
)

FULL = 2 ** 64


def words(draw, count):
    return ["".join(draw.choices(string.ascii_lowercase, k=6)) for _ in range(count)]


def pairs(count, size=400, width=FULL):
    """Pairs of random sets that share a random part."""
    rng = np.random.default_rng(3)
    for _ in range(count):
        pool = np.unique(rng.integers(0, width, 2 * size, dtype=np.uint64))
        common = int(rng.integers(0, size))
        left = pool[:size]
        yield np.sort(left), np.sort(np.r_[left[:common], pool[size:2 * size - common]])


def mean_error(factors, width=FULL):
    return np.mean([abs((minhash(a, factors) == minhash(b, factors)).mean()
                        - jaccard(a, b)) for a, b in pairs(200, width=width)])


def test_the_estimate_is_close_to_jaccard():
    assert mean_error(multipliers(256, 0)) < 0.03


def test_factors_of_32_bits_keep_the_order_and_estimate_nothing():
    narrow = multipliers(256, 0) >> np.uint64(32) | np.uint64(1)
    assert mean_error(narrow, width=2 ** 32) > 0.1


def test_shingles_are_the_set_of_word_5_grams():
    text = "a b c d e f"
    assert len(shingles(text)) == 2 == len(shingles("a-b\n(c) d, e. f!"))
    assert np.array_equal(shingles(text), shingles("a-b\n(c) d, e. f!"))
    assert len(shingles("a b c d")) == 0 and len(shingles("x " * 50)) == 1
    assert not set(shingles(text)) & set(shingles("f e d c b a"))
    assert not set(shingles("a b c d e")) & set(shingles("b a c d e"))


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), max_size=60),
       st.lists(st.sampled_from("abcdefgh"), max_size=60))
def test_jaccard_equals_the_definition_on_sets(left, right):
    def grams(text):
        return {tuple(text[i:i + 5]) for i in range(len(text) - 4)}
    a, b = grams(left), grams(right)
    wanted = len(a & b) / len(a | b) if a | b else 0.0
    assert jaccard(shingles(" ".join(left)), shingles(" ".join(right))) == wanted


def test_planted_near_duplicates_are_found_and_distinct_texts_kept():
    draw = random.Random(0)
    originals = [words(draw, 600) for _ in range(60)]
    copies = []
    for index, original in enumerate(originals[:30]):
        copy = original.copy()
        for place in draw.sample(range(600), 8):    # 40 of 596 shingles: J about 0.87
            copy[place] = "changed"
        copies.append((index, copy))
    half = [original[:300] + words(draw, 300) for original in originals[30:]]  # J 1/3
    texts = [" ".join(t) for t in [*originals, *(c for _, c in copies), *half]]
    assert near_duplicates(texts) == {60 + place: index
                                      for place, (index, _) in enumerate(copies)}


@pytest.mark.parametrize(("threshold", "found"), [(0.69, {1: 0}), (0.71, {})])
def test_the_threshold_is_on_the_exact_similarity(threshold, found):
    base = [f"w{i}" for i in range(1004)]       # 1000 shingles
    # 1000 and 700 shingles, the second set inside the first: J = 0.7
    texts = [" ".join(base), " ".join(base[:704])]
    assert jaccard(*map(shingles, texts)) == 0.7
    assert near_duplicates(texts, threshold) == found


def test_a_chain_is_one_cluster_and_its_first_text_stays():
    base = [f"w{i}" for i in range(1000)]
    chain = [" ".join(base[start:start + 800]) for start in (0, 100, 200)]
    assert jaccard(shingles(chain[0]), shingles(chain[2])) < 0.7
    assert near_duplicates(["short", *chain]) == {2: 1, 3: 1}


def test_short_texts_are_never_near_duplicates():
    assert near_duplicates(["a b c", "a b c", ""]) == {}
    assert near_duplicates([]) == {}


def test_exact_duplicates_point_to_the_first():
    assert exact_duplicates(["a", "b", "a", "a", "b ", "\ud800"]) == {2: 0, 3: 0}


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_clusters_are_the_connected_components(edges):
    clusters, slow = Clusters(20), list(range(20))
    for a, b in edges:
        clusters.join(a, b)
        low, high = sorted((slow[a], slow[b]))
        slow = [low if label == high else label for label in slow]
    assert [clusters.find(member) for member in range(20)] == slow
