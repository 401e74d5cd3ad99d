"""The tokenizer stage: what it samples, learns and says about itself."""

import json

import pytest

from minicoder.data.corpus import is_held_out, read_documents, write_documents
from minicoder.data.sources import Document
from minicoder.data.vocabulary import bytes_per_token, sample_bytes, train_tokenizer
from minicoder.stages import stage
from minicoder.tokenizer import Tokenizer

LINES = {"code": "    return self.value + {i}\n", "math": "1 + {i} = {i} + 1\n",
         "text": "The owl, number {i}, flies á la nuit.\n"}


def documents():
    return [Document("".join(LINES[kind].format(i=i * 7 + j) for j in range(12)),
                     f"{kind}{i}.txt", "Python", kind, "o", "MIT")
            for kind in LINES for i in range(120)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus") / "corpus"
    with stage(out, "data", {}) as run:
        write_documents(documents(), run.work)
    return out


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "tokenizer"
    return train_tokenizer(out, corpus, vocabulary=290, megabytes=0.02)


def test_bytes_per_token_by_hand():
    tokenizer = Tokenizer.train([], 261)    # every byte is a token
    made = documents()
    assert bytes_per_token(tokenizer, made) == 1
    pairs = Tokenizer.train(["ab" * 9], 262)
    two = [Document(text, "p", "Python", "code", "o", "MIT") for text in ("abab", "é")]
    assert bytes_per_token(pairs, two) == pytest.approx(6 / 4)


def test_a_sample_is_of_different_documents_and_just_large_enough():
    made = [d for d in documents() if d.kind == "text"]
    picked = sample_bytes(made, 5000.0, seed=1)
    sizes = [len(text.encode()) for text in picked]
    assert sum(sizes) >= 5000 > sum(sizes[:-1]) and len(set(picked)) == len(picked)
    assert picked == sample_bytes(made, 5000.0, seed=1) != sample_bytes(made, 5000.0, 2)
    assert sorted(sample_bytes(made, 1e9, 0)) == sorted(d.text for d in made)
    assert sample_bytes(made, 0.0, 0) == []


def test_the_stage_says_what_it_did(trained, corpus):
    about = json.loads((trained / "stats.json").read_text())
    tokenizer = Tokenizer.load(trained)
    assert tokenizer.vocab_size == about["vocab_size"] == 290
    assert 20_000 <= about["training_bytes"] < 22_500
    held_out = read_documents(corpus, "heldout")
    assert held_out and all(is_held_out(d.path) for d in held_out)
    assert set(about["bytes_per_token"]) == {d.kind for d in held_out}
    for kind, value in about["bytes_per_token"].items():
        mine = [d for d in held_out if d.kind == kind]
        assert value == pytest.approx(bytes_per_token(tokenizer, mine))
        assert value > 1
    longest = about["longest_tokens"]
    every = [tokenizer.decode([i]) for i in range(tokenizer.bos)]
    words = sorted(len(w) for w in every if any(c.isalpha() for c in w))
    assert list(map(len, longest)) == words[:-25:-1] and set(longest) <= set(every)
    assert " return" in longest


def test_held_out_documents_teach_nothing(trained, corpus, tmp_path):
    changed = [d if not is_held_out(d.path) else Document(
        "ŽŽŽŽ" * 500, d.path, d.language, d.kind, d.origin, d.licence)
        for d in documents()]
    with stage(tmp_path / "corpus", "data", {}) as run:
        write_documents(changed, run.work)
    again = train_tokenizer(tmp_path / "tokenizer", tmp_path / "corpus", 290, 0.02)
    assert (again / "tokenizer.json").read_bytes() == (
        trained / "tokenizer.json").read_bytes()
    assert (again / "stats.json").read_bytes() != (trained / "stats.json").read_bytes()


def test_a_corpus_may_lack_a_kind(tmp_path):
    code = [one for one in documents() if one.kind == "code"]
    with stage(tmp_path / "corpus", "data", {}) as run:
        write_documents(code, run.work)
    out = train_tokenizer(tmp_path / "out", tmp_path / "corpus", 265, megabytes=0.01)
    assert set(json.loads((out / "stats.json").read_text())["bytes_per_token"]) == {
        "code"}
