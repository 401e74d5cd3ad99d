"""The stage that measures a base model, from a small corpus to its two files."""

import json

import pytest
from small import new_coder, save_stage

from minicoder.data.corpus import is_held_out, read_documents, write_documents
from minicoder.data.needles import LETTERS, STATEMENT
from minicoder.data.sources import Document
from minicoder.evaluation.compression import bits_per_byte, gzip_bits_per_byte
from minicoder.evaluation.language import DEPTHS, held_out_texts, language
from minicoder.model.transformer import MiniCoder
from minicoder.stages import stage
from minicoder.tokenizer import Tokenizer
from minicoder.training.long_context import stretch


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus") / "corpus"
    names = {kind: [f"{kind}{i}.py" for i in range(400)
                    if is_held_out(f"{kind}{i}.py")][:4]
             for kind in ("code", "math", "text")}
    documents = [Document(f"def {kind}():\n" + "".join(
        f"    {kind}_{n} = {name!r}[{n}]\n" for n in range(30)), name, "Python", kind,
        "o", "MIT")
                 for kind, found in names.items() for name in found]
    with stage(out, "data", {}) as run:
        write_documents([*documents, Document(
            "training = 1\n", "code0.py", "Python", "code", "o", "MIT")], run.work)
    return out


@pytest.fixture(scope="module")
def folders(corpus, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    words = Tokenizer.train([d.text for d in read_documents(corpus, "heldout")]
                            + [STATEMENT.format(x) for x in LETTERS], 285)
    coder = new_coder(words, 256)
    return (save_stage(root / "pretrain", coder, words),
            save_stage(root / "extend", stretch(coder, 4.0, 0.707), words))


def test_held_out_texts_are_whole_and_within_the_size(corpus):
    assert not is_held_out("code0.py")
    every = held_out_texts(corpus, "code", 10 ** 9)
    assert len(every) == 4 and "training = 1\n" not in every
    size = len(every[0].encode()) + len(every[1].encode())
    assert held_out_texts(corpus, "code", size) == every[:2]
    assert held_out_texts(corpus, "code", size - 1) == every[:1]
    assert held_out_texts(corpus, "code", 1) == every[:1]   # rather than nothing


def test_the_stage_writes_what_its_parts_say(corpus, folders, tmp_path):
    out = language(tmp_path / "language", *folders, corpus, kilobytes=2, holes=3,
                   trials=1)
    scores = json.loads((out / "scores.json").read_text())
    texts, words = held_out_texts(corpus, "code", 2000), Tokenizer.load(folders[0])
    assert scores["files"]["code"] == len(texts) == 2
    for key, folder in (("bits_per_byte", folders[0]),
                        ("bits_per_byte_extended", folders[1])):
        assert scores[key]["code"] == pytest.approx(
            bits_per_byte(MiniCoder.from_pretrained(folder), words, texts, 256))
    assert scores["gzip"]["code"] == gzip_bits_per_byte(texts)
    assert set(scores["xz"]) == {"code", "math", "text"}
    assert scores["infilling"]["fim"]["n"] == len(scores["examples"]) == 3
    needle = json.loads((out / "needle.json").read_text())
    assert needle["lengths"] == [128, 256, 512, 1024]
    assert (needle["window_before"], needle["window_after"]) == (256, 1024)
    for when in ("before", "after"):
        assert len(needle[when]) == len(DEPTHS)
        assert {len(row) for row in needle[when]} == {4}
