"""Conversations from files and tables, and rows in which none sees another."""

import json
import random
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import new_coder

from minicoder.alignment.chat import chat_tokens
from minicoder.alignment.conversations import (
    generated,
    packed_batch,
    read_conversations,
    small_talk,
)
from minicoder.alignment.sft import packed_loss
from minicoder.errors import UserError
from minicoder.tasks.families import sample_tasks
from minicoder.training.loop import IGNORE, balanced_loss

CPU = torch.device("cpu")
TALK = [{"role": "user", "content": "Hi\u2028"}, {"role": "assistant", "content": "Yo"}]


def test_a_file_of_conversations_is_read(tmp_path):
    path = tmp_path / "talks.jsonl"
    path.write_text(json.dumps({"messages": TALK, "source": "x"}, ensure_ascii=False)
                    + "\n\n" + json.dumps({"messages": [
                        m | {"weight": 1} for m in TALK]}) + "\n")
    assert read_conversations(path) == [TALK, TALK]


@pytest.mark.parametrize("line, said", [
    ('{"messages": ', "line 2: Expecting value"),
    ("[]", "line 2: expected an object with a list in its field 'messages'"),
    ('{"messages": "Hi"}', "a list in its field 'messages'"),
    ('{"messages": [1]}', r"messages\[0\] must be an object, found int"),
    ('{"messages": [{"role": "tool", "content": ""}]}',
     r"messages\[0\].role is 'tool'; choose from system, user, assistant"),
    ('{"messages": [{"role": ["user"], "content": ""}]}', r"role is \['user'\]"),
    ('{"messages": [{"role": "user", "content": 3}]}',
     r"messages\[0\].content must be text, found int"),
    ('{"messages": [{"role": "user", "content": "Hi"}]}', "nothing to learn"),
    ("\x00", "line 2: "), ("[" * 100_000, "line 2: ")])
def test_what_is_no_conversation_is_named(tmp_path, line, said):
    path = tmp_path / "talks.jsonl"
    path.write_text(json.dumps({"messages": TALK}) + "\n" + line + "\n")
    with pytest.raises(UserError, match=f"talks.jsonl, .*{said}"):
        read_conversations(path)


def test_a_file_that_is_not_there_or_holds_nothing(tmp_path):
    with pytest.raises(UserError, match="talks cannot be read: No such file"):
        read_conversations(tmp_path / "talks")
    (tmp_path / "talks").write_bytes(b"\n")
    with pytest.raises(UserError, match="talks holds no conversation"):
        read_conversations(tmp_path / "talks")


def test_generated_conversations_have_the_shares_that_were_asked():
    families = ("lists", "strings")
    talks = generated(40, families, 1.0, 0.5, 0.25, 0)
    asked = {t.question: t.reference.strip() for family in families
             for t in sample_tasks(family, 10, "train", 0)}
    assert {t[0]["content"]: t[1]["content"] for t in talks[:20]} == asked
    assert all("boxed" in t[1]["content"] or t[1]["content"][-1].isdigit()
               for t in talks[20:30])
    assert all(t[-1]["role"] == "assistant" for t in talks[30:]) and len(talks) == 40
    assert talks == generated(40, families, 1.0, 0.5, 0.25, 0)
    assert talks != generated(40, families, 1.0, 0.5, 0.25, 1)
    wrong = generated(20, families, 0.0, 1.0, 0.0, 0)
    assert all(asked[t[0]["content"]] != t[1]["content"] for t in wrong)
    for families, right, said in (((), 0.5, "--families 0 must be 1"),
                                  (("lists",), 1.5, "--right 1.5 must be shares")):
        with pytest.raises(UserError, match=said):
            generated(4, families, right, 0.5, 0.5, 0)
    with pytest.raises(UserError, match="--code 0.8, --math 0.3 and --right"):
        generated(9, families, 1.0, 0.8, 0.3, 0)


def test_small_talk_obeys_the_system():
    talks = [small_talk(random.Random(i)) for i in range(60)]
    loud = [t for t in talks if t[0]["role"] == "system"]
    assert 5 < len(loud) < 30 and {len(t) for t in talks} >= {2, 4, 6, 3, 5, 7}
    for talk in loud:
        answers = [m["content"] for m in talk if m["role"] == "assistant"]
        assert answers == [a.upper() for a in answers]


TOKENS = st.lists(st.tuples(
    st.lists(st.integers(1, 9), min_size=1, max_size=11), st.integers(0, 10)),
    min_size=1, max_size=9)


@settings(max_examples=40)
@given(TOKENS, st.integers(11, 30))
def test_nothing_is_lost_in_packed_rows(drawn, room):
    group = [([10, *ids], [i > cut for i in range(len(ids) + 1)])
             for ids, cut in drawn]
    tokens, targets = packed_batch(group, room, CPU)
    assert tokens.shape == targets.shape and tokens.shape[1] <= room
    found = sorted((a, b) for a, b in zip(
        tokens.flatten().tolist(), targets.flatten().tolist(), strict=True)
        if b != IGNORE)
    assert found == sorted((ids[i - 1], ids[i]) for ids, known in group
                           for i in range(1, len(ids)) if known[i])
    used = (tokens != 0).sum(1).tolist()
    assert all(a + b > room for a, b in combinations(used, 2))  # no two would be one


def test_packed_rows_lose_and_learn_what_each_conversation_would_alone(tokenizer):
    """Float64: loss and every gradient, several turns, to 1e-10."""
    talks = [small_talk(random.Random(i)) for i in range(9)]
    talks += [[{"role": "user", "content": t.prompt}, {
        "role": "assistant", "content": t.canonical_solution}]
        for t in sample_tasks("lists", 5, "train", 0)]
    group = [chat_tokens(talk, tokenizer) for talk in talks]
    model = new_coder(tokenizer, seed=1).double().train()
    for p in model.parameters():            # away from the tiny first weights
        p.data.mul_(4)
    loss, _ = packed_loss(model, group, 300, 0.0, tokenizer.bos, CPU)
    loss.backward()
    packed = {name: p.grad.clone() for name, p in model.named_parameters()
              if p.grad is not None}
    model.zero_grad()
    assert packed_batch(group, 300, CPU)[0].shape[0] < len(group) / 2
    count = sum(sum(known) for _, known in group)
    total = 0.0
    for ids, known in group:
        targets = torch.tensor([[i if k else IGNORE for i, k in zip(
            ids[1:], known[1:], strict=True)]])
        alone, _ = balanced_loss(model, torch.tensor([ids[:-1]]), targets, 0.0)
        part = alone * sum(known) / count
        part.backward()
        total += part.item()
    assert abs(loss.item() - total) < 1e-10
    alone = {name: p.grad for name, p in model.named_parameters()
             if p.grad is not None}
    assert packed.keys() == alone.keys()
    for name, grad in packed.items():
        assert (grad - alone[name]).abs().max() < 1e-10, name
    # and a leak would be seen: the same rows read as one text each
    tokens, targets = packed_batch(group, 300, CPU)
    leaky, _ = balanced_loss(model, tokens, targets, 0.0)
    assert abs(leaky.item() - loss.item()) > 1e-4
