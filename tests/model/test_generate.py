"""Generation: the cache changes nothing, nor do batches, samples and streams."""

from dataclasses import replace

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from miniatures import FULL, LITE, YARN, random_model

from minicoder.errors import UserError
from minicoder.model import generate as library
from minicoder.model.generate import (
    cache_bytes,
    choose,
    generate,
    left_pad,
    stop_at,
    stream,
)
from minicoder.model.transformer import Transformer
from minicoder.tokenizer import Tokenizer

END = 7
MODELS = [random_model(LITE), random_model(replace(FULL, rope_scaling=YARN))]
PROMPT = st.lists(st.integers(0, LITE.vocab_size - 1), min_size=1, max_size=9)
PROMPTS = st.lists(PROMPT, min_size=1, max_size=4)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=12)
@given(st.sampled_from(MODELS), PROMPTS, st.integers(0, 6), st.data())
def test_cached_batch_equals_uncached_single_prompts(model, prompts, new, data):
    unended = [oracles.greedy(model, prompt, new) for prompt in prompts]
    said = sorted({token for answer in unended for token in answer})
    # an end that is really met, so that rows leave the batch at different steps
    end = data.draw(st.sampled_from(said or [END]))
    expected = [answer[:answer.index(end) + 1] if end in answer else answer
                for answer in unended]
    assert generate(model, prompts, new, end) == expected


@settings(deadline=None, max_examples=6)
@given(PROMPT, st.integers(1, 5), st.sampled_from([0.0, 0.8]), st.integers(0, 99))
def test_stream_says_what_generate_says(prompt, new, temperature, seed):
    """Up to an end that comes, if it comes, with the last token; and without it."""
    def whole(end: int) -> list[int]:
        return generate(MODELS[1], [prompt], new, end, temperature=temperature,
                        generator=seeded(seed))[0]

    for end in (-1, whole(-1)[-1]):
        pieces = list(stream(MODELS[1], prompt, new, end, temperature,
                             generator=seeded(seed)))
        assert pieces == [token for token in whole(end) if token != end]
        assert (len(pieces) == new) == (end == -1)


def test_the_same_seed_says_the_same():
    def text(seed: int) -> list[list[int]]:
        return generate(MODELS[0], [[1, 2], [3]], 12, END, samples=3, temperature=1.0,
                        top_p=0.9, generator=seeded(seed))

    assert text(0) == text(0) != text(1)


def test_samples_stand_side_by_side():
    """Three samples of each prompt are the batch with each prompt three times."""
    prompts = [[5, 6, 8], [9], [10, 11]]
    repeated = [prompt for prompt in prompts for _ in range(3)]
    assert generate(MODELS[1], prompts, 6, END, samples=3) == generate(
        MODELS[1], repeated, 6, END)
    drawn, again = (
        generate(MODELS[1], *batch, temperature=1.0, generator=seeded(4))
        for batch in ((prompts, 6, END, 3), (repeated, 6, END)))
    assert drawn == again
    assert len({tuple(answer) for answer in drawn}) > 3


def test_padding_is_on_the_left():
    tokens, padding = left_pad([[1, 2, 3], [4]], torch.device("cpu"))
    assert tokens.tolist() == [[1, 2, 3], [0, 0, 4]]
    assert padding.tolist() == [0, 2]


@pytest.mark.parametrize("prompts, new, message", [
    ([[1] * 250], 7, "250 prompt tokens and 7 new ones.*window of 256"),
    ([[1], []], 1, "no tokens"), ([], 1, "nothing to continue")])
def test_what_cannot_be_continued_is_refused(prompts, new, message):
    with pytest.raises(UserError, match=message):
        generate(MODELS[0], prompts, new, END)
    if len(prompts) == 1:
        with pytest.raises(UserError, match=message):
            list(stream(MODELS[0], prompts[0], new, END))


def test_the_window_can_be_filled_to_the_last_token():
    short = random_model(replace(LITE, max_position_embeddings=12))
    answer, = generate(short, [[1] * 5], 7, end=-1)
    assert len(answer) == 7


@pytest.mark.parametrize("temperature, top_p, top_k", [
    (-0.1, 1.0, 0), (1.0, 0.0, 0), (1.0, 1.1, 0), (1.0, 1.0, -1)])
def test_sampling_out_of_range_is_refused(temperature, top_p, top_k):
    with pytest.raises(UserError, match="temperature = .* top_p = .* top_k = "):
        generate(MODELS[0], [[1]], 1, END, temperature=temperature, top_p=top_p,
                 top_k=top_k)


def test_a_budget_refuses_before_anything_is_computed():
    """4 texts of 5 tokens, 3 layers of 24 numbers in float64."""
    assert cache_bytes(MODELS[0], 4, 5) == 4 * 5 * 3 * 24 * 8 == 11_520
    how = dict(max_new_tokens=3, end=-1, samples=2)
    assert len(generate(MODELS[0], [[1, 2], [3]], cache_budget=11_520, **how)) == 4
    with pytest.raises(UserError, match="4 texts of 5 tokens takes 11,520 bytes"):
        generate(MODELS[0], [[1, 2], [3]], cache_budget=11_519, **how)
    with pytest.raises(UserError, match="cache_budget is 10"):
        stream(MODELS[0], [1, 2], 3, END, cache_budget=10)


def test_a_long_prompt_comes_in_chunks(monkeypatch):
    prompts = [[i % 101 for i in range(3, 3 + n)] for n in (23, 5, 16)]
    whole = [generate(model, prompts, 6, END) for model in MODELS]
    monkeypatch.setattr(library, "CHUNK", 7)
    assert [generate(model, prompts, 6, END) for model in MODELS] == whole
    assert whole[0] == [oracles.greedy(MODELS[0], p, 6) for p in prompts]


# --- what ends an answer


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return Tokenizer.train(["ab abc abcd bcd cd é"] * 3, 268)


@given(st.text("abcd é", max_size=20), st.lists(st.text("abcd é", min_size=1,
                                                        max_size=4), max_size=3))
@settings(deadline=None, max_examples=60)
def test_a_stop_string_is_met_with_the_token_that_completes_it(words, text, strings):
    tokens, over = words.encode(text), stop_at(words, strings)
    met = [any(s in words.decode(tokens[:n]) for s in strings)
           for n in range(1, len(tokens) + 1)]
    first = met.index(True) + 1 if True in met else len(tokens)
    assert [over(tokens[:n]) for n in range(1, first + 1)] == met[:first]


def test_rows_that_met_a_stop_leave_the_batch(monkeypatch):
    free, read = generate(MODELS[0], [[1, 2], [3]], 8, -1), []
    last, real = free[0][3], Transformer.decode
    monkeypatch.setattr(Transformer, "decode", lambda self, tokens, *rest: (
        read.append(len(tokens)), real(self, tokens, *rest))[1])
    stopped = generate(MODELS[0], [[1, 2], [3]], 8, -1,
                       stop=lambda answer: answer[-1] == last)
    ends = [whole.index(last) + 1 if last in whole else 8 for whole in free]
    assert stopped == [whole[:end] for whole, end in zip(free, ends, strict=True)]
    # the last token of a row is never read again
    assert read == [sum(end > step for end in ends) for step in range(1, max(ends))]
    assert list(stream(MODELS[0], [1, 2], 8, -1, stop=lambda a: len(a) == 2)
                ) == free[0][:2]


def test_an_empty_stop_string_is_refused(words):
    with pytest.raises(UserError, match="stop string is empty"):
        stop_at(words, ["x", ""])


# --- one choice

SHARES = torch.tensor([0.05, 0.4, 0.15, 0.1, 0.3])


def draws(count: int = 20_000, **how) -> torch.Tensor:
    return choose(SHARES.log().expand(count, -1), generator=seeded(0), **how)


def test_temperature_zero_takes_the_likeliest():
    assert draws(3, temperature=0.0).tolist() == [1, 1, 1]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_tempered_shares(temperature):
    expected = SHARES ** (1 / temperature)
    expected = expected / expected.sum()
    found = draws(temperature=temperature).bincount(minlength=5) / 20_000
    deviation = (expected * (1 - expected) / 20_000).sqrt()
    assert ((found - expected).abs() < 4 * deviation).all()


@pytest.mark.parametrize("top_p, kept", [
    (0.01, {1}), (0.39, {1}), (0.41, {1, 4}), (0.69, {1, 4}), (0.71, {1, 2, 4}),
    (0.86, {1, 2, 3, 4}), (0.97, {0, 1, 2, 3, 4}), (1.0, {0, 1, 2, 3, 4})])
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p, kept):
    found = draws(temperature=1.0, top_p=top_p)
    assert set(found.tolist()) == kept
    share = (found == 1).double().mean().item()  # the kept ones keep their proportions
    assert share == pytest.approx(0.4 / SHARES[sorted(kept)].sum().item(), abs=0.015)


@pytest.mark.parametrize("top_k, kept", [
    (0, {0, 1, 2, 3, 4}), (1, {1}), (2, {1, 4}), (3, {1, 2, 4}), (5, {0, 1, 2, 3, 4}),
    (99, {0, 1, 2, 3, 4})])
def test_top_k_keeps_the_likeliest(top_k, kept):
    found = draws(temperature=1.0, top_k=top_k)
    assert set(found.tolist()) == kept
    share = (found == 1).double().mean().item()
    assert share == pytest.approx(0.4 / SHARES[sorted(kept)].sum().item(), abs=0.015)


def test_equal_tokens_do_not_widen_top_k():
    found = choose(torch.zeros(2000, 4), 1.0, generator=seeded(0), top_k=2)
    assert len(found.unique()) == 2


def test_top_p_looks_at_what_top_k_has_left():
    """Of 0.40, 0.30, 0.15 the first two have 0.82 of what is left."""
    assert set(draws(temperature=1.0, top_k=3, top_p=0.8).tolist()) == {1, 4}
    assert set(draws(temperature=1.0, top_k=3, top_p=0.83).tolist()) == {1, 2, 4}


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.05, 1.0))
def test_top_p_on_random_shares(seed, top_p):
    logits = torch.randn(12, generator=seeded(seed)) * 2
    left, kept = top_p, set()
    for token in logits.argsort(descending=True).tolist():
        if left < -1e-5:  # where rounding decides, the token may come or not
            break
        kept.add(token)
        left -= logits.softmax(0)[token].item()
    found = choose(logits.expand(400, -1), 1.0, top_p, seeded(seed))
    assert set(found.tolist()) <= kept


def test_rows_that_pad_the_vocabulary_are_never_generated():
    model = random_model(LITE)
    model.lm_head.weight.data[40:] *= 50  # as loud as can be
    loud = generate(model, [[1, 2]], 8, end=-1, samples=4, temperature=1.0,
                    generator=seeded(0))
    assert max(map(max, loud)) >= 40
    model.known = 40
    for temperature in (0.0, 1.0):
        answers = generate(model, [[1, 2]], 8, end=-1, samples=4,
                           temperature=temperature, generator=seeded(0))
        assert max(map(max, answers)) < 40
