"""One checkpoint at a time: batches, windows, logs that were cut, hashes."""

import pytest
import torch
from small import memorise, new_coder

from minicoder.alignment.chat import CHAT_TEMPLATE, answer_tokens, prompt_tokens
from minicoder.errors import UserError
from minicoder.evaluation import candidates
from minicoder.evaluation.candidates import (
    Candidate,
    Log,
    Plan,
    answer,
    examine,
    fingerprint,
    ranked,
)
from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.families import sample_items
from minicoder.tokenizer import Tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:Generated programs run")
GREEDY, SAMPLED = ("greedy", 0.0, 1), ("sampled", 1.0, 3)
PLAN = Plan((SAMPLED, GREEDY), 64, 2, 0)


@pytest.fixture(scope="module")
def items():
    return sample_items("lists", 3, "heldout", 0)


@pytest.fixture(scope="module")
def folder(items, tmp_path_factory):
    """A chat model that knows the first two tasks by heart."""
    words = Tokenizer.train([f"{t.question}\n{t.reference}" for t in items] * 2, 360)
    pairs = [(prompt_tokens(t.question, words), answer_tokens(
        t.reference.strip(), words)) for t in items[:2]]
    out = tmp_path_factory.mktemp("expert")
    memorise(new_coder(words), pairs, 120).eval().save_pretrained(
        out, words, chat_template=CHAT_TEMPLATE)
    return out


@pytest.fixture(scope="module")
def expert(folder):
    return Candidate("expert", folder, "auto", True, torch.device("cpu"))


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=1, allow_weak=True) as found:
        yield found


def test_what_was_learnt_passes_and_samples_stay_with_their_task(
        expert, items, sandbox):
    assert expert.chat
    asks = [expert.ask(item) for item in items]
    found = answer(expert, asks, PLAN, GREEDY, 0, sandbox)
    assert [one["verdict"] == "pass" for one in found][:2] == [True, True]
    assert found[0]["answer"] == items[0].reference.strip()
    sampled = answer(expert, asks, PLAN, SAMPLED, 0, sandbox)
    assert [one["task_id"] for one in sampled] == [
        item.task_id for item in items for _ in range(3)]
    assert sampled == answer(expert, asks, PLAN, SAMPLED, 0, sandbox)


def test_a_base_model_of_the_same_weights_gets_text_to_go_on_with(folder, items):
    base = Candidate("base", folder, "completion", True, torch.device("cpu"))
    assert not base.chat and base.ask(items[0]).stops


def test_a_prompt_that_leaves_no_room_is_a_refusal(expert, items, sandbox):
    asks = [expert.ask(item) for item in items[:2]]
    long = expert.ask(items[0])
    long = type(long)(long.item, long.tokens * 20)
    found = answer(expert, [asks[0], long, asks[1]], PLAN, SAMPLED, 0, sandbox)
    assert [one["verdict"] for one in found[3:6]] == ["refused"] * 3
    assert "leave the window of 256 no room" in found[3]["message"]
    assert {one["task_id"] for one in found[6:]} == {items[1].task_id}
    alone = answer(expert, [long], PLAN, GREEDY, 0, sandbox)
    assert alone[0]["verdict"] == "refused"


def test_a_batch_is_over_at_stops_that_all_its_questions_share(
        folder, items, monkeypatch):
    plain = Candidate("base", folder, "completion", False, torch.device("cpu"))
    asks = [plain.ask(item) for item in sample_items("prediction", 12, "heldout", 0)]
    short, long = (next(one for one in asks if ("\n" in one.stops) == is_short)
                   for is_short in (True, False))
    stops = []
    monkeypatch.setattr(candidates, "stop_at", lambda _, found: stops.append(found))
    for part in ([short], [short, long], [long, short]):
        plain.texts(part, Plan((GREEDY,), 4, 2, 0), GREEDY, torch.Generator())
    assert stops == [["\n"]]     # those of mixed batches share none


def test_options_are_ranked_and_too_long_ones_are_wrong(expert):
    quiz = sample_items("choice", 4, "heldout", 0)
    found = ranked(expert, quiz)
    assert [one["draw"] for one in found] == ["probability", "perplexity"] * 4
    for one, item in zip(found[::2], quiz, strict=True):
        assert (one["verdict"] == "pass") == (one["answer"] == item.letter)
        assert one["answer"] in "ABCD"
    long = type(quiz[0])("x", "choice", "word " * 400, quiz[0].options, "A")
    assert {(one["answer"], one["verdict"]) for one in ranked(expert, [long])} == {
        ("", "fail")}


def test_a_log_gives_back_whole_batches_and_cuts_the_rest(tmp_path):
    path, batches = tmp_path / "log", [[{"n": 3 * b + i} for i in range(3)]
                                       for b in range(3)]
    log = Log(path)
    assert log.take(3) is None
    for batch in batches:
        log.add(batch)
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        log, kept = Log(path), 0
        for batch in batches:
            if (found := log.take(3)) is None:
                log.add(batch)
            else:
                kept += 1
                assert found == batch
        assert path.read_bytes() == whole and kept == whole[:cut].count(b"\n") // 3


def test_an_examination_goes_on_where_its_log_ends(expert, items, sandbox, tmp_path):
    log = Log(tmp_path / "whole")
    whole = list(examine(expert, "lists", items, PLAN, log, sandbox))
    assert [len(batch) for batch in whole] == [6, 3, 2, 1]
    data = (tmp_path / "whole").read_bytes().split(b"\n")
    (tmp_path / "cut").write_bytes(b"\n".join(data[:10])[:-5])
    again = list(examine(expert, "lists", items, PLAN, Log(tmp_path / "cut"), sandbox))
    assert again == whole
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_finished_log_needs_no_weights(expert, folder, items, sandbox, tmp_path):
    log = Log(tmp_path / "log")
    whole = list(examine(expert, "lists", items, PLAN, log, sandbox))
    idle = Candidate("expert", folder, "auto", True, torch.device("cpu"))
    idle.model = lambda: pytest.fail("the weights were read")
    assert list(examine(idle, "lists", items, PLAN, Log(tmp_path / "log"), sandbox)
                ) == whole


def test_a_fingerprint_is_of_the_files_that_matter(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert fingerprint(tmp_path) == fingerprint(folder)
    (tmp_path / "README.md").write_text("words")
    assert fingerprint(tmp_path) == fingerprint(folder)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert fingerprint(tmp_path) != fingerprint(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no checkpoint"):
        fingerprint(tmp_path / "empty")
