"""Fine-tuning: the stage learns answers, and resumes to the same numbers."""

import json

import pytest
from transformers import AutoTokenizer

from minicoder.alignment.chat import chat_text, chat_tokens, prompt_tokens
from minicoder.alignment.sft import sft
from minicoder.errors import UserError
from minicoder.model.generate import generate
from minicoder.model.transformer import MiniCoder

SETTINGS = dict(tasks=1, steps=50, batch=1, lr=1e-2, warmup=3, right=1.0, seed=1)


@pytest.fixture(scope="module")
def tuned(base, tmp_path_factory):
    return sft(tmp_path_factory.mktemp("sft") / "sft", base, **SETTINGS)


def test_it_learns_to_answer_and_to_stop(tuned, tasks, tokenizer):
    lines = [json.loads(line)
             for line in (tuned / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["language_loss"] < 0.2 < 4 < lines[0]["language_loss"]
    (answer,) = generate(
        MiniCoder.from_pretrained(tuned), [prompt_tokens(tasks[0].prompt, tokenizer)],
        64, tokenizer.eos)
    assert answer[-1] == tokenizer.eos
    assert tokenizer.decode(answer[:-1]) == " " + tasks[0].canonical_solution.strip()


def test_the_loss_counts_answers_alone(tuned):
    first = json.loads((tuned / "metrics.jsonl").read_text().split("\n")[0])
    # an untrained model is uniform, whatever the targets: ln of the vocabulary
    assert first["language_loss"] == pytest.approx(5.94, abs=0.1)
    assert len(first["expert_load"]) == 1 and first["balance_loss"] > 0.9


def test_the_checkpoint_carries_the_chat_template(tuned):
    theirs, talk = AutoTokenizer.from_pretrained(tuned), [
        {"role": "user", "content": "Return 1."}]
    assert theirs.apply_chat_template(talk, tokenize=False) == chat_text(talk)


def test_the_same_seed_gives_the_same_weights(tuned, base, tmp_path):
    few = SETTINGS | {"steps": 3}
    one, two = (sft(tmp_path / name / "sft", base, **few) for name in "ab")
    other = sft(tmp_path / "c" / "sft", base, **few | {"seed": 2})
    first, same, different = ((folder / "model.safetensors").read_bytes()
                              for folder in (one, two, other))
    assert first == same != different


def test_other_settings_for_a_finished_folder_are_refused(tuned, base):
    assert sft(tuned, base, **SETTINGS) == tuned
    with pytest.raises(UserError, match="was made with steps = 50, and now 60"):
        sft(tuned, base, **SETTINGS | {"steps": 60})


def test_conversations_of_a_file_are_learnt_and_nothing_else(base, tokenizer, tmp_path):
    """Two turns, both of them: none is generated, and a system message is heeded."""
    path = tmp_path / "talks.jsonl"
    talk = [{"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Up?"},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "Down?"},
            {"role": "assistant", "content": "No"}]
    path.write_text(json.dumps({"messages": talk}) + "\n")
    how = dict(tasks=0, steps=40, batch=1, lr=1e-2, warmup=3)
    out = sft(tmp_path / "sft", base, path, **how)
    model = MiniCoder.from_pretrained(out)
    for cut in (2, 4):
        prompt = chat_tokens(talk[:cut], tokenizer)[0] + tokenizer.encode("Assistant:")
        (answer,) = generate(model, [prompt], 8, tokenizer.eos)
        assert tokenizer.decode(answer[:-1]) == " " + talk[cut]["content"]
    path.write_text(json.dumps({"messages": talk[:3]}) + "\n")
    with pytest.raises(UserError, match="another .*talks.jsonl: what is in it has"):
        sft(out, base, path, **how)


def test_too_few_and_too_long_conversations_are_refused(base, tmp_path):
    path = tmp_path / "talks.jsonl"
    path.write_text(json.dumps({"messages": [
        {"role": "user", "content": "x " * 300},
        {"role": "assistant", "content": "y"}]}) + "\n")
    with pytest.raises(UserError, match="--tasks 0 must be 1 or more"):
        sft(tmp_path / "sft", base, path, tasks=0, batch=2)
    with pytest.raises(UserError, match="Conversation 1 has [0-9]+ tokens, and a row "
                                        "holds 65: shorten it, or raise --row"):
        sft(tmp_path / "sft", base, path, tasks=0, batch=1, row=64)
