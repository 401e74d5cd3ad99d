"""The corpus stage: the funnel adds up, the split is clean, a rerun is the same."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from minicoder.data.corpus import (
    build_corpus,
    is_held_out,
    read_documents,
    write_documents,
)
from minicoder.data.dedup import near_duplicates
from minicoder.data.sources import Document
from minicoder.errors import UserError

PACKAGES = ("torch", "tqdm", "einops", "matplotlib")
CODE = "\n".join(f"def function_{i}(argument):\n    return argument + {i}\n"
                 for i in range(30))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "corpus"
    build_corpus(folder, scale=0.05, requirements=PACKAGES)
    return folder


@pytest.fixture(scope="module")
def funnel(corpus):
    return json.loads((corpus / "funnel.json").read_text())


def test_the_funnel_adds_up(corpus, funnel):
    left = funnel["rules"][0]["documents_in"]
    for rule in funnel["rules"]:
        assert rule["documents_in"] == left
        assert (rule["example"] is None) == (rule["documents_removed"] == 0)
        left -= rule["documents_removed"]
    kept, parts = funnel["kept"], funnel["by_origin"].values()
    rows = pq.read_table(corpus / "documents.parquet").to_pylist()
    assert left == len(rows) == sum(kind["documents"] for kind in kept.values())
    assert sum(part["documents"] for part in parts) == left
    for kind, counted in kept.items():
        size = sum(len(row["text"].encode()) for row in rows if row["kind"] == kind)
        assert counted["bytes"] == size > 0
        assert sum(p["bytes"] for p in parts if p["kind"] == kind) == size


def test_the_split_is_by_file_and_near_duplicates_do_not_straddle(corpus, funnel):
    train, held = read_documents(corpus, "train"), read_documents(corpus, "heldout")
    assert sum(k["documents"] for k in funnel["heldout"].values()) == len(held)
    assert not ({d.path.rsplit(":", 1)[0] for d in train}
                & {d.path.rsplit(":", 1)[0] for d in held})
    assert near_duplicates([d.text for d in train + held], seed=9) == {}


def test_about_three_per_cent_is_held_out():
    share = sum(is_held_out(f"pkg/file_{i}.py") for i in range(20_000)) / 20_000
    assert share == pytest.approx(0.03, abs=0.005)
    assert is_held_out("a.py:7") == is_held_out("a.py:1234") == is_held_out("a.py")


def test_kinds_can_be_chosen(corpus):
    code = read_documents(corpus, "train", ["code"])
    assert {d.kind for d in code} == {"code"}
    assert len(code) < len(read_documents(corpus, "train"))
    with pytest.raises(UserError, match="no document with split 'test'"):
        read_documents(corpus, "test")


def test_the_same_seed_gives_the_same_bytes(corpus, tmp_path):
    build_corpus(tmp_path / "again", scale=0.05, requirements=PACKAGES)
    for name in ("documents.parquet", "funnel.json"):
        assert (tmp_path / "again" / name).read_bytes() == (corpus / name).read_bytes()


def test_own_folders_are_filtered_and_deduplicated(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    for name, text in {
            "a.py": CODE, "b.py": CODE, "near.py": CODE + "\nlast = 1\n",
            "wide.py": "x = '" + "a" * 1200 + "'\n" * 30, "bad.py": "def f(:\n",
            "n.json": "{}"}.items():
        (mine / name).write_text(text)
    (mine / "latin.py").write_bytes(b"\xe9 = 1")
    build_corpus(tmp_path / "out", [mine], PACKAGES, scale=0.02)
    report = json.loads((tmp_path / "out" / "funnel.json").read_text())
    gone = {r["rule"]: r["documents_removed"] for r in report["rules"]}
    assert report["by_origin"]["mine"]["documents"] == 1
    assert report["kept"]["code"]["documents"] == 1
    assert report["kept"]["math"]["documents"] > 0 < report["kept"]["text"]["documents"]
    for rule in ("UTF-8", "longest line", "Python syntax", "exact duplicate"):
        assert gone[rule] >= 1, rule
    near = report["rules"][-1]
    assert near["example"]["path"] != "a.py" and near["documents_removed"] >= 1
    with pytest.raises(UserError, match="holds no document"):
        (tmp_path / "empty").mkdir()
        build_corpus(tmp_path / "out2", [tmp_path / "empty"], PACKAGES, 0.01)
    assert not (tmp_path / "out2").exists()


def test_broken_and_foreign_files_are_named(tmp_path):
    with pytest.raises(UserError, match="documents.parquet cannot be read"):
        read_documents(tmp_path, "train")
    one = Document(CODE, "a.py", "Python", "code", "here", "MIT")
    write_documents([one, replace(one, path="b.py")], tmp_path)
    assert len(read_documents(tmp_path, "train")) == 2
    file = tmp_path / "documents.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match="documents.parquet cannot be read"):
        read_documents(tmp_path, "train")
    write_documents([one], tmp_path)
    table = pq.read_table(file).drop_columns(["licence"])
    pq.write_table(table, file)
    with pytest.raises(UserError, match="licence"):
        read_documents(tmp_path, "train")
