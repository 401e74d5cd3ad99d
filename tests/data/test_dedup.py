"""MinHash and LSH against exact Jaccard, and duplicates that were planted."""

import errno
import random
import string
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicoder.data import dedup
from minicoder.data.dedup import (
    BANDS,
    ROWS,
    WordHashes,
    bands,
    digest,
    jaccard,
    kept_on_disk,
    minhash,
    multipliers,
    near_duplicates,
    shingles,
    union,
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


@pytest.mark.parametrize(("threshold", "found"),
                         [(0.69, {1: 0}), (0.7, {1: 0}), (0.71, {})])
@pytest.mark.parametrize("turn", [1, -1])
def test_the_threshold_is_on_the_exact_similarity(threshold, found, turn):
    base = [f"w{i}" for i in range(1004)]       # 1000 shingles
    # 1000 and 700 shingles, the second set inside the first: J = 0.7
    texts = [" ".join(base), " ".join(base[:704])][::turn]
    assert jaccard(*map(shingles, texts)) == 0.7
    assert near_duplicates(texts, threshold) == found


def test_sets_of_different_sizes_are_not_even_compared(monkeypatch):
    def refuse(left, right):
        pytest.fail(f"{len(left)} and {len(right)} shingles were compared")
    base = [f"w{i}" for i in range(1004)]
    monkeypatch.setattr(dedup, "jaccard", refuse)
    for texts in ((base, base[:690]), (base[:690], base)):
        assert near_duplicates(map(" ".join, texts)) == {}


def test_of_a_chain_goes_only_what_is_like_one_that_stays():
    base = [f"w{i}" for i in range(1000)]
    chain = [" ".join(base[start:start + 800]) for start in (0, 100, 200)]
    assert jaccard(shingles(chain[0]), shingles(chain[1])) > 0.7
    assert jaccard(shingles(chain[0]), shingles(chain[2])) < 0.7
    assert near_duplicates(["short", *chain]) == {2: 1}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6), st.integers(100, 110)),
                max_size=8))
def test_near_duplicates_are_those_of_all_pairs(spans):
    # at 0.9, a pair is proposed with probability 1 - (1 - 0.9^4)^32 = 1 - 2e-15
    texts = [" ".join(f"w{i}" for i in range(1000 * book + start, 1000 * book + stop))
             for book, start, stop in spans]
    grams = [{tuple(words[i:i + 5]) for i in range(len(words) - 4)}
             for words in map(str.split, texts)]
    kept, wanted = [], set()
    for index, found in enumerate(grams):
        if any(len(found & grams[k]) / len(found | grams[k]) >= 0.9 for k in kept):
            wanted.add(index)
        else:
            kept.append(index)
    assert set(near_duplicates(texts, 0.9)) == wanted


def test_the_signature_of_a_union_is_the_smallest_of_its_parts():
    factors = multipliers(BANDS * ROWS, 1)
    for left, right in pairs(5):
        whole = union([left, right])
        assert whole.tolist() == sorted(set(left.tolist()) | set(right.tolist()))
        assert np.array_equal(minhash(whole, factors), np.minimum(
            minhash(left, factors), minhash(right, factors)))


def test_a_band_is_shared_when_all_its_rows_are():
    one = multipliers(BANDS * ROWS, 2)
    other = one.copy()
    other[[0, 9, 10]] += np.uint64(1)       # rows of bands 0 and 2
    same = [a == b for a, b in zip(bands(one), bands(other), strict=True)]
    assert same == [band not in (0, 2) for band in range(BANDS)]
    assert len(set(bands(one * np.uint64(0)))) == BANDS


def test_forgetting_words_changes_nothing(monkeypatch):
    text = " ".join(f"w{i % 50}" for i in range(300))
    wanted = shingles(text)
    monkeypatch.setattr(dedup, "MOST_WORDS", 7)
    words = WordHashes()
    assert np.array_equal(shingles(text, words), wanted) and len(words) <= 7


def test_short_texts_are_never_near_duplicates():
    assert near_duplicates(["a b c", "a b c", ""]) == {}
    assert near_duplicates([]) == {}


def test_the_first_of_equal_texts_is_kept(tmp_path):
    with kept_on_disk(tmp_path / "kept") as kept:
        names = count()
        found = [kept.twin(str(next(names)), digest(text))
                 for text in ("a", "b", "a", "b ", "\ud800", "\ud800")]
        assert found == [None, None, "0", None, None, "4"]
        assert kept.holds(digest("b")) == "1" and kept.holds(digest("c")) is None
    assert not (tmp_path / "kept").exists()


def test_a_full_disk_is_an_os_error_and_nothing_stays(tmp_path):
    with (pytest.raises(OSError, match="full") as raised,
          kept_on_disk(tmp_path / "kept") as kept):
        kept.index.execute("PRAGMA max_page_count = 8")
        for number in range(10_000):
            kept.twin("x" * 100, digest(str(number)))
    assert raised.value.errno == errno.ENOSPC
    assert not (tmp_path / "kept").exists()
