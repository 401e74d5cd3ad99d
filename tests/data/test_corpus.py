"""The corpus stage: the funnel adds up, the split is clean, a rerun is the same."""

import json
import subprocess
import sys
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from minicoder.data import corpus as module
from minicoder.data.corpus import (
    build_corpus,
    is_held_out,
    iterate_documents,
    read_documents,
    read_rows,
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
    for counts in (parts, *(funnel[key].values() for key in ("by_language",
                                                             "licences"))):
        assert sum(part["documents"] for part in counts) == left
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
    pages = sum(is_held_out(f"https://a.example/{i}") for i in range(20_000)) / 20_000
    assert pages == pytest.approx(0.03, abs=0.005)


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
    for rule in ("UTF-8", "longest line", "syntax", "exact duplicate"):
        assert gone[rule] >= 1, rule
    near = report["rules"][-1]
    assert near["rule"] == "near duplicate (file)" and near["documents_removed"] >= 1
    assert near["example"]["path"] != "a.py"
    with pytest.raises(UserError, match="holds no document"):
        (tmp_path / "empty").mkdir()
        build_corpus(tmp_path / "out2", [tmp_path / "empty"], PACKAGES, scale=0.01)
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
    for column in ("licence", "split"):
        write_documents([one], tmp_path)
        pq.write_table(pq.read_table(file).drop_columns([column]), file)
        with pytest.raises(UserError, match=column):
            read_documents(tmp_path, "train")


def test_documents_are_written_and_read_in_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROW_GROUP_BYTES", 100)
    one = Document("x" * 40, "", "Python", "code", "here", "MIT", "here#1")
    documents = [replace(one, path=f"{i}.py") for i in range(8)
                 if not is_held_out(f"{i}.py")]
    write_documents(documents, tmp_path)
    with pq.ParquetFile(tmp_path / "documents.parquet") as file:
        assert file.num_row_groups == -(-len(documents) // 3)
    found = iterate_documents(tmp_path, "train")
    assert next(found) == documents[0]
    assert [documents[0], *found] == documents == read_documents(tmp_path, "train")


def test_a_corpus_made_before_samples_had_names_is_read(tmp_path):
    one = Document(CODE, "a.py", "Python", "code", "here", "MIT", "here#1")
    write_documents([one], tmp_path)
    file = tmp_path / "documents.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["sample"]), file)
    assert read_documents(tmp_path, "train") == [replace(one, sample="")]


def test_an_empty_corpus_is_named(tmp_path):
    write_documents([], tmp_path)
    with pytest.raises(UserError, match="no document with split 'train'"):
        list(iterate_documents(tmp_path, "train"))


def folder(root, files):
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def funnel_of(out):
    report = json.loads((out / "funnel.json").read_text())
    return {rule["rule"]: rule["documents_removed"] for rule in report["rules"]}


def test_code_has_samples_in_the_order_of_imports(tmp_path):
    used = CODE.replace("function", "used")
    mine = folder(tmp_path / "mine", {
        "pkg/main.py": "from pkg import used\n" + CODE, "pkg/used.py": used,
        "pkg/__init__.py": "# a package of two\n", "alone.py": "value = {}\n"})
    build_corpus(tmp_path / "out", [mine], [], scale=0.01)
    code = [one for one in read_rows(tmp_path / "out" / "documents.parquet")
            if one.kind == "code"]
    linked = [one for one in code if one.path.endswith(("main.py", "used.py"))]
    assert [one.path for one in linked] == ["pkg/used.py", "pkg/main.py"]
    assert len({one.sample for one in linked}) == 1
    assert linked[0].sample.startswith("mine#")
    assert [one.sample for one in code if one.path == "alone.py"] == [""]


def test_forks_leak_and_other_languages_go(tmp_path):
    files = {f"{i}.py": CODE.replace("argument", f"argument_{i}") for i in range(6)}
    mine = folder(tmp_path / "mine", files)
    own = "def own():\n    return 'of the fork'\n"
    fork = folder(tmp_path / "fork", files | {"own.py": own})
    other = folder(tmp_path / "other", {
        "leak.py": CODE.replace("function", "leak")
        + "# the quick brown fox jumps over the lazy dog and then sleeps\n",
        "a.lua": "print('some words')\n" * 9})
    exam = tmp_path / "exam.jsonl"
    exam.write_text(json.dumps({"prompt": "# The quick brown fox jumps over the lazy "
                                          "dog and then sleeps"}))
    build_corpus(tmp_path / "out", [mine, fork, other], [], languages=["Python"],
                 benchmarks=[exam], scale=0.01)
    gone = funnel_of(tmp_path / "out")
    assert gone["exact duplicate"] == 6 and gone["near duplicate (repository)"] == 1
    assert gone["language"] == 1 and gone["contamination"] == 1
    build_corpus(tmp_path / "files", [mine, fork, other], [], dedup="file", scale=0.01)
    report = json.loads((tmp_path / "files" / "funnel.json").read_text())
    assert report["by_origin"]["fork"]["documents"] == 1
    assert "contamination" not in funnel_of(tmp_path / "files")
    with pytest.raises(UserError, match="'Pyhton'.*Python"):
        build_corpus(tmp_path / "no", [mine], [], languages=["Pyhton"])


def test_pages_of_the_recall_stage_are_documents(tmp_path):
    pages = tmp_path / "recall"
    pages.mkdir()
    page = Document("about sums " * 40, "https://a.example/sum", "Text", "math",
                    "a.example", "unknown")
    write_documents([page], pages)
    (pages / "made_by.json").write_text("{}")
    build_corpus(tmp_path / "out", pages=[pages], requirements=[], scale=0.01)
    report = json.loads((tmp_path / "out" / "funnel.json").read_text())
    assert report["by_origin"]["a.example"]["kind"] == "math"
    made = json.loads((tmp_path / "out" / "made_by.json").read_text())
    assert list(made["inputs"]) == ["recall"]


GROWING = """
import random, sys
from pathlib import Path
from minicoder.data import corpus
from minicoder.data.sources import Document

def endless(*given):
    draw = random.Random(0)
    known = [f"word{i}" for i in range(5000)]
    for number in range(int(sys.argv[2])):
        body = chr(10).join(" ".join(draw.choices(known, k=8)) for _ in range(90))
        yield Document(body, f"{number}.py", "Text", "code", f"r{number // 20}", "MIT")
corpus.standard_corpus = endless
corpus.ROW_GROUP_BYTES = 1 << 19
corpus.build_corpus(Path(sys.argv[1]))
"""


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    peaks, sizes = [], []
    for documents in (120, 1000):
        out = tmp_path / str(documents)
        subprocess.run([sys.executable, "-c", GROWING, str(out), str(documents)],
                       check=True, capture_output=True)
        peaks.append(json.loads((out / "made_by.json").read_text())["peak_mib"])
        kept = json.loads((out / "funnel.json").read_text())["kept"]["code"]
        assert kept["documents"] == documents
        sizes.append(kept["bytes"] / 2 ** 20)
    # texts in memory would add what the corpus grew by, sets of shingles as much again
    assert sizes[1] - sizes[0] > 4
    assert peaks[1] - peaks[0] < 3
