"""The reward model: losses by hand, scores that survive the disk, verdicts learnt."""

import json
import math
import random

import pytest
import torch
from datasets import Dataset
from small import new_coder
from transformers import (
    AutoTokenizer,
    DeepseekV2Config,
    DeepseekV2ForSequenceClassification,
)
from trl import RewardConfig, RewardTrainer

from minicoder.alignment.chat import prompt_tokens
from minicoder.alignment.feedback import Sample, pairs, read_samples
from minicoder.alignment.reward_model import (
    RewardModel,
    fit,
    measure,
    pairwise_loss,
    pointwise_loss,
    reward,
    row,
    score_all,
    scored_batch,
    split_by_prompt,
    verdict_loss,
)
from minicoder.errors import UserError

ROWS = [[5, 6, 7, 8], [9], [1, 2, 3, 4, 5, 6, 7], [8, 8]]


@pytest.fixture
def judge(tokenizer):
    """A reward model whose head is not zero."""
    model = RewardModel(new_coder(tokenizer))
    torch.nn.init.normal_(model.score.weight)
    torch.nn.init.constant_(model.score.bias, 0.5)
    return model.eval()


def test_losses_by_hand():
    zero, two = torch.zeros(1), torch.tensor([2.0])
    one = torch.ones(1)
    assert pointwise_loss(zero, one).item() == pytest.approx(math.log(2))
    assert pointwise_loss(two, one).item() == pytest.approx(0.126928)
    assert pointwise_loss(two, 1 - one).item() == pytest.approx(2.126928)
    assert pairwise_loss(zero, zero).item() == pytest.approx(math.log(2))
    assert pairwise_loss(two, zero).item() == pytest.approx(0.126928)
    assert pairwise_loss(zero, two).item() == pytest.approx(2.126928)
    both = pairwise_loss(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]))
    assert both.item() == pytest.approx((0.126928 + 2.126928) / 2)
    assert pairwise_loss(torch.tensor([-900.0]), zero).item() == pytest.approx(900)


def test_a_new_head_is_indifferent(tokenizer):
    model = RewardModel(new_coder(tokenizer))
    assert score_all(model, ROWS).tolist() == [0, 0, 0, 0]


def test_the_score_is_read_off_the_last_token(judge):
    for tokens, score in zip(ROWS, score_all(judge, ROWS), strict=True):
        hidden = judge.coder.model(torch.tensor([tokens]))[0, -1]
        assert score.item() == pytest.approx(
            (hidden @ judge.score.weight[0] + 0.5).item(), abs=1e-5)


def test_padding_and_batches_change_no_score(judge):
    tokens, last = scored_batch(ROWS, torch.device("cpu"))
    assert tokens.shape == (4, 7) and last.tolist() == [3, 0, 6, 1]
    alone = torch.cat([score_all(judge, [row]) for row in ROWS])
    for batch in (1, 3, 128):
        assert torch.allclose(score_all(judge, ROWS, batch), alone, atol=1e-5)


def test_saving_and_loading_keeps_the_scores(judge, tokenizer, base, tmp_path):
    judge.save(tmp_path, tokenizer)
    again = RewardModel.load(tmp_path, torch.device("cpu"))
    assert torch.equal(score_all(again, ROWS), score_all(judge, ROWS))
    with pytest.raises(UserError, match="holds no reward model"):
        RewardModel.load(base, torch.device("cpu"))


def test_all_of_a_prompt_s_samples_are_on_one_side(judged):
    samples = read_samples(judged)
    for seed in range(5):
        learn, test = split_by_prompt(samples, 0.34, seed)
        ours, theirs = ({s.task_id for s in part} for part in (learn, test))
        assert not ours & theirs and (len(ours), len(theirs)) == (4, 2)
        assert len(learn) + len(test) == len(samples)
    assert split_by_prompt(samples, 0.34, 0) == split_by_prompt(samples, 0.34, 0)


@pytest.fixture(scope="module")
def toy(tmp_path_factory, judged, tokenizer):
    """Verdicts that one token decides: a program is right if it says `sum`."""
    folder, draw = tmp_path_factory.mktemp("toy") / "feedback", random.Random(0)
    folder.mkdir()
    (folder / "made_by.json").write_bytes((judged / "made_by.json").read_bytes())
    with (folder / "samples.jsonl").open("w") as file:
        for i in range(60):
            right = draw.random() < 0.5
            program = f"def solve(a):\n    return {'sum' if right else 'max'}(a)\n"
            sample = Sample(f"lists/{i}", f"Task {draw.randrange(99)}.",
                            tokenizer.encode(program), program,
                            "pass" if right else "fail", "", 0, 1)
            file.write(json.dumps(vars(sample)) + "\n")
    return folder


def test_it_learns_verdicts_that_can_be_told_apart(base, toy, tokenizer, tmp_path):
    out = reward(tmp_path / "reward", base, toy, steps=25, batch=16, lr=3e-2, warmup=3)
    found = json.loads((out / "calibration.json").read_text())
    assert found["auc"] > 0.95 and found["accuracy"] > 0.7 and found["n"] == 12
    judge = RewardModel.load(out, torch.device("cpu"))
    good, bad = ([*prompt_tokens("Task 3.", tokenizer), *tokenizer.encode(
        f"def solve(a):\n    return {name}(a)\n")] for name in ("sum", "max"))
    better, worse = score_all(judge, [good, bad]).tolist()
    assert better > worse + 1


@pytest.fixture(scope="module")
def told_apart(tokenizer):
    """Sixty prompts with a right and a wrong program each: one token decides."""
    return [Sample(f"lists/{i}", f"Task {i}.", [*tokenizer.encode(
        f" def solve(a):\n    return {name}(a)"), tokenizer.eos], f"{name} {i}",
        "pass" if name == "sum" else "fail", "", 0, 1)
        for i in range(60) for name in ("sum", "max")]


@pytest.mark.parametrize("loss", ["pointwise", "pairwise"])
def test_fitting_further_tells_verdicts_apart(tokenizer, told_apart, loss):
    judge = RewardModel(new_coder(tokenizer))
    losses = fit(judge, tokenizer, told_apart, steps=25, lr=1e-2, batch=16, loss=loss)
    assert losses[0] == pytest.approx(math.log(2)) and losses[-1] < 0.4
    rows = [[*prompt_tokens(s.prompt, tokenizer), *s.tokens] for s in told_apart]
    good, bad = score_all(judge, rows).view(60, 2).T
    assert (good > bad + 1).all() and not judge.training


def test_a_share_of_each_batch_is_replayed(tokenizer, told_apart, judge):
    old = [Sample(f"old/{i}", "x", [1, 2], "x", "pass", "", 1, 1) for i in range(5)]
    read = []
    judge.register_forward_pre_hook(lambda _, given: read.append(given[0].tolist()))
    prompt = prompt_tokens("x", tokenizer)
    for replay, count in ((0.1, 2), (0.5, 8), (0.0, 0)):
        verdict_loss(judge, tokenizer, told_apart, 16, "pointwise", old, replay)(0)
        assert len(read[-1]) == 16
        assert sum(r[:len(prompt)] == prompt for r in read[-1]) == count


def test_nothing_to_learn_from_is_said(tokenizer, judge, told_apart):
    right = [s for s in told_apart if s.right]
    with pytest.raises(UserError, match="no prompt has a right and a wrong program"):
        verdict_loss(judge, tokenizer, right, loss="pairwise")
    with pytest.raises(UserError, match="no judged programs"):
        fit(judge, tokenizer, [])


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2, float("nan")])
def test_a_share_that_leaves_nothing_on_one_side_is_refused(tmp_path, share):
    with pytest.raises(UserError, match=f"--held-out {share} must be a share"):
        reward(tmp_path / "out", tmp_path, tmp_path, held_out=share)
    assert not list(tmp_path.iterdir())


def test_a_judge_that_is_too_sure_is_rescaled(tokenizer, told_apart, judge):
    draw = random.Random(0)
    noisy = [Sample(s.task_id, s.prompt, s.tokens, s.program,
                    "pass" if s.right ^ (draw.random() < 0.3) else "fail", "", 0, 1)
             for s in told_apart]
    fit(judge, tokenizer, told_apart, steps=40, lr=1e-2, batch=16)
    rows = [[*prompt_tokens(s.prompt, tokenizer), *s.tokens] for s in noisy]
    before, found = score_all(judge, rows), measure(judge, tokenizer, noisy, seed=0)
    note = found["platt"]
    assert note["kept"] and found["ece"] < note["raw"]["ece"]
    assert found["log_loss"] < note["raw"]["log_loss"]
    assert torch.allclose(score_all(judge, rows), before * note["scale"]
                          + note["shift"], atol=1e-4)


def test_scores_and_losses_are_those_of_transformers_and_trl(
        judge, tokenizer, told_apart, tmp_path):
    """trl's trainer and batches on transformers' classifier, with gradients."""
    torch.nn.init.zeros_(judge.score.bias)      # theirs has none
    judge.save(tmp_path, tokenizer)
    # the end token also pads in the saved files: their score would then be read off the
    # token before it, so another one, which no row holds, has to pad here
    config = DeepseekV2Config.from_pretrained(tmp_path, num_labels=1, pad_token_id=0)
    theirs = DeepseekV2ForSequenceClassification.from_pretrained(
        tmp_path, config=config, dtype=torch.float32)
    theirs.score.weight.data.copy_(judge.score.weight)
    words = AutoTokenizer.from_pretrained(tmp_path)
    words.pad_token = words.convert_ids_to_tokens(0)
    couples = pairs(told_apart[:8])
    trainer = RewardTrainer(
        theirs, RewardConfig(str(tmp_path), report_to=[], use_cpu=True, bf16=False,
                             gradient_checkpointing=False, disable_tqdm=True),
        processing_class=words, train_dataset=Dataset.from_dict({
            name: [row(pair[i], tokenizer) for pair in couples]
            for i, name in enumerate(("chosen_ids", "rejected_ids"))}))
    batch = trainer.data_collator(list(trainer.train_dataset))
    expected = trainer.compute_loss(theirs, batch)
    expected.backward()
    rows = [row(s, tokenizer) for i in (0, 1) for s in [pair[i] for pair in couples]]
    tokens, last = scored_batch(rows, torch.device("cpu"))
    assert torch.equal(tokens, batch["input_ids"])
    scores = judge(tokens, last)
    assert torch.allclose(theirs(**batch).logits[:, 0], scores, atol=1e-5)
    loss = pairwise_loss(*scores.chunk(2))
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for ours, other in ((judge.score.weight, theirs.score.weight),
                        (judge.coder.model.embed_tokens.weight,
                         theirs.model.embed_tokens.weight)):
        assert ours.grad.abs().max() > 1e-6
        assert (ours.grad - other.grad).abs().max() < 1e-4 * ours.grad.abs().max()
    labels = torch.tensor([1.0] * 4 + [0.0] * 4)
    theirs.config.problem_type = "multi_label_classification"   # their name for it
    assert theirs(**batch, labels=labels[:, None]).loss.item() == pytest.approx(
        pointwise_loss(scores, labels).item(), abs=1e-5)
