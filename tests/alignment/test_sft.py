"""Fine-tuning: the stage learns answers, and resumes to the same numbers."""

import json

import pytest
from transformers import AutoTokenizer

from minicoder.alignment.chat import chat_text, prompt_tokens
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
