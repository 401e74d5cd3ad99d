"""Byte-pair encoding: the trainer equals the obvious one that counts anew each time."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

from minicoder.bpe import Trainer, alphabet, merge


def obvious(words, steps):
    """Merges found by counting every pair of every word again at each step."""
    order = alphabet()
    lists = {word: [order.index(byte) for byte in word] for word in words}
    tokens, merges = [bytes([byte]) for byte in order], []
    for _ in range(steps):
        counts = Counter()
        for word, ids in lists.items():
            for pair in zip(ids, ids[1:], strict=False):
                counts[pair] += words[word]
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        text = tokens[best[0]] + tokens[best[1]]
        if text not in tokens:
            tokens.append(text)
        merges.append(best)
        lists = {word: merge(ids, best, tokens.index(text))
                 for word, ids in lists.items()}
    return tokens, merges


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=12).map(str.encode),
                       st.integers(1, 9), min_size=1, max_size=12))
def test_merges_equal_those_of_counting_anew(words):
    trainer = Trainer(Counter(words))
    for _ in range(12):
        trainer.step()
    assert (trainer.tokens, trainer.merges) == obvious(Counter(words), 12)


def test_the_paper_s_example():
    # arXiv 1508.07909, figure 1, whose end-of-word marks are left out
    words = Counter({b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3})
    trainer = Trainer(words)
    learnt = [b"".join(trainer.tokens[i] for i in trainer.step()) for _ in range(4)]
    assert learnt[:2] == [b"es", b"est"] and set(learnt[2:]) == {b"lo", b"low"}


@pytest.mark.parametrize(("ids", "merged"), [
    ([1, 2, 3, 1, 2], [4, 3, 4]), ([1, 1, 2, 2], [1, 4, 2]), ([2, 1], [2, 1]),
    ([], [])])
def test_merge(ids, merged):
    assert merge(ids, (1, 2), 4) == merged


def test_merge_of_a_run_goes_from_the_left():
    assert merge([1, 1, 1], (1, 1), 9) == [9, 1]


def test_nothing_is_left_to_merge_in_single_bytes():
    trainer = Trainer(Counter({b"a": 7, b"b": 3}))
    assert trainer.step() is None
    trainer = Trainer(Counter({b"ab": 1}))
    assert trainer.step() is not None and trainer.step() is None


def test_the_alphabet_is_that_of_byte_level_tokenizers():
    assert sorted(alphabet()) == list(range(256))
    shown = sorted(ByteLevel.alphabet())    # the characters, in the order of their code
    level = ByteLevel(add_prefix_space=False, use_regex=False)
    for place, byte in enumerate(alphabet()):
        if byte < 128:
            assert level.pre_tokenize_str(chr(byte))[0][0] == shown[place]
