"""Rows of prompts and answers: only answers count, and padding is not seen."""

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from miniatures import SHAPES, random_model

from minicoder.training.batches import answer_batch, group_logprobs
from minicoder.training.loop import IGNORE, token_losses

CPU = torch.device("cpu")
LIST = st.lists(st.integers(0, 100), min_size=1, max_size=9)
PAIRS = [([5, 6, 7], [8, 9]), ([1, 3], [2, 3, 4, 5, 6]), ([9, 8, 7, 6], [5])]


@given(st.lists(st.tuples(LIST, LIST), min_size=1, max_size=5))
@settings(deadline=None)
def test_targets_are_the_answers_and_nothing_else(pairs):
    tokens, targets = answer_batch(pairs, CPU)
    for row, (prompt, answer) in enumerate(pairs):
        whole = [*prompt, *answer]
        assert tokens[row, :len(whole) - 1].tolist() == whole[:-1]
        wanted = [IGNORE] * (len(prompt) - 1) + answer
        padding = [IGNORE] * (targets.shape[1] - len(wanted))
        assert targets[row].tolist() == wanted + padding
    assert tokens.shape[1] == max(len(p) + len(a) for p, a in pairs) - 1


GROUPS = [[8, 9], [2, 3, 4, 5, 6], [5], [1, 1, 1], [9, 8], [7, 3, 2, 8]]


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_log_probabilities_equal_the_obvious_ones(config):
    model, prompts = random_model(config), [[5, 6, 7], [1, 2], [9, 8, 7, 6]]
    values, mask, _ = group_logprobs(model, prompts, GROUPS)
    assert mask.sum(1).tolist() == [len(answer) for answer in GROUPS]
    assert (values[~mask] == 0).all() and (values[mask] < 0).all()
    for row, answer in enumerate(GROUPS):
        wanted = oracles.answer_logprobs(model, prompts[row // 2], answer)
        assert values[row][mask[row]].tolist() == pytest.approx(wanted, abs=1e-10)


@pytest.mark.parametrize("heat", [1.0, 0.5, 1.7])
def test_log_probabilities_and_entropy_are_those_of_the_sampling(heat):
    model = random_model(SHAPES["lite"])
    values, _, entropy = group_logprobs(model, [[5, 6, 7]], [[8, 9]], heat)
    spread = torch.distributions.Categorical(
        logits=model(torch.tensor([[5, 6, 7, 8]]))[0, 2:] / heat)
    assert torch.allclose(values[0], spread.log_prob(torch.tensor([8, 9])))
    assert entropy == pytest.approx(spread.entropy().mean().item())


def test_the_mean_of_the_answers_is_the_fine_tuning_loss():
    model = random_model(SHAPES["lite"])
    values, mask, _ = group_logprobs(model, *zip(*PAIRS, strict=True))
    loss = token_losses(model, *answer_batch(PAIRS, CPU)).mean()
    assert -values[mask].mean().item() == pytest.approx(loss.item())
    for mine, other in zip(
            torch.autograd.grad(-values[mask].mean(), model.parameters()),
            torch.autograd.grad(loss, model.parameters()), strict=True):
        assert torch.allclose(mine, other, atol=1e-12)


def test_what_a_prompt_goes_on_with_teaches_nothing():
    model = random_model(SHAPES["lite"])
    tokens, targets = answer_batch([([5, 6, 7], [8, 9])], CPU)
    loss = token_losses(model, tokens, targets).mean()
    (head,) = torch.autograd.grad(loss, model.lm_head.weight)
    hidden = model.model(tokens)[0, 2:]     # where the two answer tokens are predicted
    error = model.lm_head(hidden).softmax(-1)
    error[[0, 1], [8, 9]] -= 1
    assert torch.allclose(head, error.T @ hidden / 2, atol=1e-6)
