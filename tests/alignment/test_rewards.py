"""What answers are worth: the weighted sum, a rule of style, and line by line."""

import math

import pytest
import torch
from small import new_coder

from minicoder.alignment.chat import answer_tokens
from minicoder.alignment.feedback import Sample
from minicoder.alignment.reward_model import RewardModel
from minicoder.alignment.rewards import (
    Rewards,
    begins_program,
    step_rewards,
    steps_of,
    tidiness,
)


def sample(tokenizer, program, verdict="pass", passed=4):
    return Sample("t/1", "Do it.", answer_tokens(program, tokenizer), program + "\n",
                  verdict, "", passed, 4)


def test_rewards_are_summed_with_their_weights(tokenizer):
    found = [sample(tokenizer, "def f():\n    return 1"),
             sample(tokenizer, "def f():\n    return 1\nx = 2", "fail", 1),
             sample(tokenizer, "x", "harness_error")]
    judge = RewardModel(new_coder(tokenizer))
    judge.score.bias.data.fill_(math.log(3))    # a judge that always says 3 to 1
    assert Rewards(tokenizer)(found)[:2].tolist() == [1, 0]
    assert Rewards(tokenizer)(found)[2].isnan()
    assert Rewards(tokenizer, (0.0, 1.0, 0.0), judge)(found).tolist() == pytest.approx(
        [0.75] * 3)     # a model's opinion needs no sandbox
    mixed = Rewards(tokenizer, (1.0, 0.5, 0.3), judge)(found)
    assert mixed[:2].tolist() == pytest.approx([1.675, 0.575]) and mixed[2].isnan()


@pytest.mark.parametrize(("program", "share"), [
    ("def f(a):\n    return a\n", 1), ("def f(a):\n    'Doc.'\n    return a\n", 1),
    ("def f(a):\n    return a\nprint(f(1))\n", 2 / 3),
    ("def f(a):\n    a + 1\n    return a\n", 2 / 3),
    ("def f(a):\n    return " + "a + " * 30 + "a\n", 2 / 3), ("def f(a:\n", 0),
    ("-" * 100_000 + "1", 0), ("x = '\0'", 0)])
def test_style_is_the_share_of_rules_kept(program, share):
    assert tidiness(program) == pytest.approx(share)


@pytest.mark.parametrize(("text", "could"), [
    ("def f(a):", True), ("def f(a):\n    return sum(", True), ("x = 1", True),
    ("```python\ndef f(a):", True), ("def f(a:", True), ("def f(a):\nreturn", False),
    ("x = )", False), ("if a:\n    b\nelse:", True), ("(" * 1000, False),
    ("\0", False)])
def test_beginnings_of_programs(text, could):
    assert begins_program(text) == could


def test_steps_are_lines_and_end_at_their_last_token(tokenizer):
    program = "def f(a):\n    b = )\n    return sum(b)"
    one = sample(tokenizer, program, "syntax_error", 1)
    rewards, ends = steps_of(one, tokenizer)
    assert rewards == [1.0, 0.0, 0.25] and ends[-1] == len(one.tokens) - 1
    pieces = [tokenizer.decode(one.tokens[a + 1:b + 1])
              for a, b in zip([-1, *ends], ends, strict=False)]
    assert "".join(pieces).strip().startswith(program)
    assert [p.strip() for p in pieces[:2]] == ["def f(a):", "b = )"]
    short = sample(tokenizer, "x", "harness_error")
    block, places = step_rewards([one, short], tokenizer)
    assert block[0].tolist() == rewards and places[0].tolist() == ends
    assert block[1].isnan().all() and places[1, 0] == len(short.tokens) - 1


def test_a_line_cut_by_the_limit_is_a_step_too(tokenizer):
    whole = sample(tokenizer, "def f(a):\n    return 1", "syntax_error", 0)
    for size in range(1, len(whole.tokens)):
        cut = Sample(**vars(whole) | {"tokens": whole.tokens[:size]})
        rewards, ends = steps_of(cut, tokenizer)
        assert ends[-1] == size - 1 and len(rewards) == len(ends) == len(set(ends))
    assert torch.tensor(steps_of(whole, tokenizer)[0]).tolist() == [1.0, 0.0]
