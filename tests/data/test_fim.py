"""Fill in the middle: nothing is lost, and the order is the paper's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicoder.data.fim import fim_pieces, fim_tokens, infill_prompt
from minicoder.tokenizer import Tokenizer

CODE = "def f(x):\n    return x + 1\n\n\nclass A:\n    y = '<｜fim▁hole｜>'\n"


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([CODE * 20], 270)


def pieces_of(tokens, tokenizer):
    """Read prefix, middle and suffix back out of PSM tokens."""
    begin, hole, end, eos = (tokens.index(t) for t in (
        tokenizer.fim_begin, tokenizer.fim_hole, tokenizer.fim_end, tokenizer.eos))
    assert (begin, eos) == (0, len(tokens) - 1) and begin < hole < end
    return (tokenizer.decode(tokens[1:hole]), tokenizer.decode(tokens[end + 1:eos]),
            tokenizer.decode(tokens[hole + 1:end]))


@settings(deadline=None)
@given(st.text(), st.integers(0, 2 ** 32), st.sampled_from(["character", "line"]))
def test_the_pieces_join_to_the_text(text, seed, cut):
    prefix, middle, suffix = fim_pieces(text, np.random.default_rng(seed), cut)
    assert prefix + middle + suffix == text


@settings(deadline=None)
@given(st.text(alphabet="ab\n\r\u2028 "), st.integers(0, 2 ** 32))
def test_a_line_cut_takes_whole_lines(text, seed):
    prefix, middle, suffix = fim_pieces(text, np.random.default_rng(seed), "line")
    assert not prefix or prefix.endswith("\n")
    assert middle.endswith("\n") or not suffix
    assert bool(middle) == bool(text)


def test_a_line_cut_is_often_one_line_and_sometimes_more():
    rng, text = np.random.default_rng(0), "".join(f"line {i}\n" for i in range(20))
    counts = [fim_pieces(text, rng, "line")[1].count("\n") for _ in range(2000)]
    assert 0.45 < counts.count(1) / 2000 < 0.58 and max(counts) > 5
    firsts = {fim_pieces(text, rng, "line")[0] for _ in range(1000)}
    assert len(firsts) == 20        # every line can be the first of a middle


def test_character_cuts_are_uniform():
    rng = np.random.default_rng(0)
    middles = [len(fim_pieces("a" * 100, rng)[1]) for _ in range(4000)]
    assert np.mean(middles) == pytest.approx(100 / 3, rel=0.05)
    assert min(middles) == 0 and max(middles) > 90


@settings(deadline=None)
@given(st.tuples(st.text(), st.text(), st.text()))
def test_tokens_are_in_psm_order_and_round_trip(tokenizer, pieces):
    assert pieces_of(fim_tokens(*pieces, tokenizer), tokenizer) == pieces


@settings(deadline=None)
@given(st.tuples(st.text(), st.text(), st.text()))
def test_suffix_first_is_psm_of_an_empty_prefix(tokenizer, pieces):
    prefix, middle, suffix = pieces
    t, found = tokenizer, fim_tokens(*pieces, tokenizer, "spm")
    # Bavarian et al., variant 2: begin hole suffix end prefix middle
    assert found == [t.fim_begin, t.fim_hole, *t.encode(suffix), t.fim_end,
                     *t.encode(prefix), *t.encode(middle), t.eos]
    assert pieces_of(found, t) == ("", prefix + middle, suffix)
    assert infill_prompt(prefix, suffix, t, "spm") == [
        t.bos, *found[:len(found) - 1 - len(t.encode(middle))]]


def test_text_that_looks_like_a_special_stays_text(tokenizer):
    prefix, middle, suffix = CODE[:60], CODE[60:], ""
    tokens = fim_tokens(prefix, middle, suffix, tokenizer)
    assert tokens.count(tokenizer.fim_hole) == 1


def test_the_prompt_is_a_training_piece_up_to_its_middle(tokenizer):
    whole = [tokenizer.bos, *fim_tokens("ab", "cd", "ef", tokenizer)]
    prompt = infill_prompt("ab", "ef", tokenizer)
    assert whole == [*prompt, *tokenizer.encode("cd"), tokenizer.eos]
    assert prompt[0] == tokenizer.bos and prompt[-1] == tokenizer.fim_end
