"""Likelihood of options against transformers, and where the ways to score differ."""

import math

import pytest
import torch
from small import memorise, new_coder
from transformers import AutoModelForCausalLM

from minicoder.errors import UserError
from minicoder.evaluation.choice import likeliest, option_log_probs
from minicoder.model.generate import generate


@pytest.fixture(scope="module")
def coder(tokenizer):
    return new_coder(tokenizer, 64)


def test_log_probabilities_equal_those_of_transformers(coder, tokenizer, tmp_path):
    coder.save_pretrained(tmp_path, tokenizer)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    options = [" min", " max(items", " 7"]
    found = option_log_probs(coder, tokenizer, "total_1 =", options)
    for option, own in zip(options, found, strict=True):
        start = [tokenizer.bos, *tokenizer.encode("total_1 =")]
        ids = tokenizer.encode(option)
        logits = theirs(torch.tensor([start + ids])).logits[0, :, :coder.known]
        wanted = [logits[len(start) + i - 1].log_softmax(-1)[token].item()
                  for i, token in enumerate(ids)]
        assert own == pytest.approx(wanted, abs=1e-5)


def test_probability_and_perplexity_can_disagree():
    """One token of chance 0.2 against three of 0.5: 0.2 > 0.125, and 0.5 > 0.2."""
    logs = [[math.log(0.2)], [math.log(0.5)] * 3]
    assert likeliest(logs, "probability") == 0 and likeliest(logs, "perplexity") == 1
    assert likeliest([[-1.0, -1.0], [-1.0]], "perplexity") == 0     # a tie: the first


def test_a_model_may_know_the_option_and_write_another_letter(tokenizer):
    """Taught the option's words after one form of question, letter B after the other.

    Likelihood finds option A, generation reads "B": the same question, two scores.
    """
    question = "max or min(items)"

    def after(text):
        return [tokenizer.bos, *tokenizer.encode(text)]

    coder = memorise(new_coder(tokenizer, 64), [
        (after(question + " ="), [*tokenizer.encode(" max(items"), tokenizer.eos]),
        (after(question + "\nletter"), [*tokenizer.encode(" B"), tokenizer.eos])],
        120).eval()
    options = [" max(items", " min(items"]
    logs = option_log_probs(coder, tokenizer, question + " =", options)
    assert likeliest(logs, "probability") == likeliest(logs, "perplexity") == 0
    (letter,) = generate(coder, [after(question + "\nletter")], 4, tokenizer.eos)
    assert tokenizer.decode(letter).startswith(" B")


@pytest.mark.parametrize("option", ["", " max" * 99])
def test_options_that_cannot_be_scored(coder, tokenizer, option):
    with pytest.raises(UserError, match="must have one and fit the window of 64"):
        option_log_probs(coder, tokenizer, "a", [option])
