"""What the arms read: nothing of the exam, by lot, and one tokenizer for all."""

import json
from collections import Counter

import pytest

from minicoder.data.corpus import is_held_out, read_documents, write_documents
from minicoder.data.dedup import near_duplicates
from minicoder.data.sources import Document
from minicoder.errors import UserError
from minicoder.evaluation.arms import (
    LARGEST,
    SMALLEST,
    Exam,
    draw_arm,
    pick_exam,
    shared_tokenizer,
)
from minicoder.stages import stage
from minicoder.tokenizer import Tokenizer


def words(first: int, count: int) -> str:
    return " ".join(f"word{i}" for i in range(first, first + count))


def document(path: str, text: str, language: str = "Python", kind: str = "code"):
    return Document(text, path, language, kind, "o", "MIT")


HELD = [f"f{i}.py" for i in range(2000) if is_held_out(f"f{i}.py")]
READ = [f"f{i}.py" for i in range(2000) if not is_held_out(f"f{i}.py")]


def make_corpus(folder, documents):
    with stage(folder, "data", {}) as run:
        write_documents(documents, run.work)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    held = [document(path, words(1000 * i, 100), ("Python", "Lua")[i % 2])
            for i, path in enumerate(HELD[:12])]
    sizes = (SMALLEST - 1, SMALLEST, LARGEST, LARGEST + 1, 900, 901)
    odd = [document(path, ("go " + "xy" * LARGEST)[:size], "Go")
           for path, size in zip(HELD[12:18], sizes, strict=True)]
    odd += [document(HELD[18], words(0, 100), "reStructuredText", "text")]
    read = [document(path, words(100_000 + 1000 * i, 100))
            for i, path in enumerate(READ[:300])]
    prose = document(READ[300], words(10 ** 6, 90), "Markdown", "text")
    return make_corpus(tmp_path_factory.mktemp("arms") / "corpus",
                       [*held, *odd, *read, prose])


@pytest.fixture(scope="module")
def exam(corpus):
    return pick_exam(corpus.parent / "exam", corpus, 4)


def test_the_exam_has_as_many_files_of_each_language_that_has_them(corpus, exam):
    chosen = read_documents(exam, "heldout")
    assert Counter(one.language for one in chosen) == {
        "Python": 4, "Lua": 4, "Go": 4}     # of six, two are too small or too large
    assert {len(one.text) for one in chosen if one.language == "Go"} == {
        SMALLEST, LARGEST, 900, 901}
    assert {one.path for one in chosen} < set(HELD)
    with pytest.raises(UserError, match="has 7 held-out files of 500 to 4000"):
        pick_exam(corpus.parent / "large", corpus, 7)   # each language has 6
    with pytest.raises(UserError, match="--files 0"):
        pick_exam(corpus.parent / "none", corpus, 0)


def test_copies_are_found_at_seventy_per_cent_and_inside_larger_files():
    exam = Exam([document("a.py", words(0, 104))])      # 100 shingles
    assert exam.copied(words(0, 74)) == "a.py"          # 70 of them
    assert exam.copied(words(0, 73)) is None            # 69
    inside = words(5000, 400) + " " + words(0, 104)
    assert exam.copied(inside) == "a.py"
    assert near_duplicates([words(0, 104), inside]) == {}   # which Jaccard overlooks
    assert exam.copied("two words") is exam.copied("") is None


def test_shingles_of_several_files_are_not_added_up():
    exam = Exam([document("a.py", words(0, 104)), document("b.py", words(60, 104))])
    assert exam.copied(words(30, 73)) is None
    assert exam.copied(words(64, 100)) == "b.py"


def test_an_arm_reads_no_copy_and_no_prose_and_nothing_held_out(corpus, tmp_path):
    files = read_documents(corpus, "heldout", ["code"])
    exam = pick_exam(tmp_path / "exam", corpus, 4)
    sat = next(one for one in files if one.path in {
        one.path for one in read_documents(exam, "heldout")})
    leak = document(READ[400], sat.text + " and more")
    dirty = make_corpus(tmp_path / "dirty", [
        *files, *read_documents(corpus, "train"), leak])
    arm = draw_arm(tmp_path / "arm", dirty, exam, 10.0)
    report = json.loads((arm / "arm.json").read_text())
    assert report["copies"] == {leak.path: sat.path}
    found = read_documents(arm, "train")
    assert [one.path for one in found] == READ[:300]    # smaller than asked: all of it
    assert report["bytes"] == sum(len(one.text) for one in found)
    assert report["corpus_bytes"] == report["bytes"] + len(leak.text)
    assert report["languages"] == {"Python": report["bytes"]}


def test_the_lottery_is_the_same_in_every_corpus(corpus, exam, tmp_path):
    half = sum(len(one.text) for one in read_documents(corpus, "train")) / 2e6
    first = draw_arm(tmp_path / "first", corpus, exam, half)
    paths = {one.path for one in read_documents(first, "train")}
    assert 110 < len(paths) < 190
    other = make_corpus(tmp_path / "other", list(reversed(
        [*read_documents(corpus, "train", ["code"])])))
    again = draw_arm(tmp_path / "again", other, exam, half)
    assert {one.path for one in read_documents(again, "train")} == paths
    reseeded = draw_arm(tmp_path / "reseeded", corpus, exam, half, seed=1)
    assert {one.path for one in read_documents(reseeded, "train")} != paths


def test_the_tokenizer_reads_both_arms_in_equal_parts(tmp_path, monkeypatch):
    arms = [make_corpus(tmp_path / name, [
        document(path, f"{letter * 7} = 1\n" * 50) for path in READ[:80]])
        for name, letter in (("a", "q"), ("b", "z"))]
    read, train = [], Tokenizer.train
    monkeypatch.setattr(Tokenizer, "train", lambda texts, size: (
        read.extend(texts), train(texts, size))[1])
    out = shared_tokenizer(tmp_path / "words", arms, 270, 0.02)
    for letter in "qz":     # 10 kB of each, in whole files of 600 bytes
        size = sum(len(text) for text in read if text[0] == letter)
        assert 10_000 <= size < 10_000 + len(read[0])
    assert Tokenizer.load(out).vocab_size == 270
    assert "from 2 arms" in json.loads((out / "made_by.json").read_text())["headline"]
