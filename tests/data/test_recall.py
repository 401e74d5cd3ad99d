"""The recall stage: files in, documents and a report out, twice the same."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from minicoder.data.page_store import PageStore
from minicoder.data.recall import folders_kept, labelled, measured, recall_pages
from minicoder.errors import UserError
from minicoder.stages import stage
from minicoder.tokenizer import Tokenizer

CODE = "def return import class self print for while if else list".split()
PROSE = "garden river cloud bread window letter morning summer music road".split()
SETTINGS = dict(tokens=4000, dimension=8, rate=1.0, epochs=5, rounds=2)


def text(words, number, random):
    return " ".join(random.choice(words, 60)) + f" number {number}"


@pytest.fixture(scope="module")
def crawl(tmp_path_factory):
    """40 pages of code at two sites, 80 of prose, and the stage's other inputs."""
    folder, random = tmp_path_factory.mktemp("crawl"), np.random.default_rng(0)
    pages = [(f"https://dev.example/docs/{i}.html", text(CODE, i, random))
             for i in range(30)]
    pages += [(f"https://mixed.example/tips/{i}.py", text(CODE, i, random))
              for i in range(10)]
    pages += [(f"https://mixed.example/blog/{i}.html", text(PROSE, i, random))
              for i in range(20)]
    pages += [(f"https://news.example/{i}.html", text(PROSE, i, random))
              for i in range(60)]
    order = random.permutation(len(pages))
    (folder / "pages").mkdir()
    for name, part in (("a.jsonl", order[:50]), ("b.jsonl", order[50:])):
        lines = [json.dumps({"url": pages[i][0], "text": pages[i][1]}) for i in part]
        (folder / "pages" / name).write_text("\n".join(lines) + "\n")
    with (folder / "pages" / "b.jsonl").open("a") as file:      # one address twice
        file.write(json.dumps({"url": pages[0][0] + "#top", "text": "again"}) + "\n")
    (folder / "seeds.jsonl").write_text("".join(
        json.dumps({"url": f"https://seed.example/{i}", "text": text(CODE, i, random)})
        + "\n" for i in range(12)))
    (folder / "labels.txt").write_text("\n".join(url for url, _ in pages[:40]) + "\n\n")
    with stage(folder / "tokenizer", "tokenizer", {}) as run:
        Tokenizer.train([" ".join(CODE + PROSE) + " number 1 2 "] * 9, 340).save(
            run.work)
    return folder


def run(crawl, out, **more):
    return recall_pages(out, crawl / "pages", crawl / "seeds.jsonl",
                        crawl / "tokenizer", **SETTINGS | more)


def test_a_crawl_becomes_documents_and_a_report(crawl, tmp_path):
    out = run(crawl, tmp_path / "out", labels=crawl / "labels.txt")
    found = json.loads((out / "recall.json").read_text())
    assert found["dropped"] == {"same address": 1} and found["seeds"] == 12
    assert found["pages"] == 120 and found["domains"] == 3
    rows = pq.read_table(out / "documents.parquet").to_pylist()
    last = found["rounds"][-1]
    assert len(rows) == last["pages"] > 20 and last["tokens"] <= SETTINGS["tokens"]
    assert last["recall"] > 0.5 and last["precision"] > 0.9
    assert {row["kind"] for row in rows} == {"code"}
    assert {row["origin"] for row in rows} >= {"dev.example", "mixed.example"}
    for row in rows:
        assert row["path"].startswith(row["origin"] + "/") and len(row["text"]) > 100
        assert row["language"] == ("Python" if row["path"].endswith(".py") else "Text")
    assert not list(out.glob("*.bin")) and [p.name for p in out.glob("*.parquet")] == [
        "documents.parquet"]        # the corpus stage reads every Parquet file here
    domains = json.loads((out / "domains.json").read_text())
    assert set(domains) == {"dev.example", "mixed.example"}
    assert domains["dev.example"]["/docs/"]["pages"] == 30
    kept = sum(f["kept"] for d in domains.values() for f in d.values())
    assert kept == sum(row["origin"] in domains for row in rows)


def test_a_second_run_gives_the_same_bytes(crawl, tmp_path):
    one, two = (run(crawl, tmp_path / name, kind="math") for name in "ab")
    for name in ("documents.parquet", "recall.json", "domains.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    before = (one / "made_by.json").stat().st_mtime_ns
    run(crawl, one, kind="math")
    assert (one / "made_by.json").stat().st_mtime_ns == before
    assert {row["kind"] for row in pq.read_table(
        one / "documents.parquet").to_pylist()} == {"math"}
    assert "recall" not in json.loads((one / "recall.json").read_text())["rounds"][0]


def test_patterns_and_depth_reach_the_rounds(crawl, tmp_path):
    file = tmp_path / "patterns.json"
    file.write_text('{"mixed.example": ["/tips/*"], "dev.*": ["/docs/*"]}')
    out = run(crawl, tmp_path / "out", patterns=file, tokens=1000)
    assert json.loads((out / "recall.json").read_text())["rounds"][0]["annotated"] in (
        30, 40)
    deep = run(crawl, tmp_path / "deep", depth=1)
    assert json.loads((deep / "recall.json").read_text())["domains"] == 4
    assert "dev.example/docs" in json.loads((deep / "domains.json").read_text())


def test_what_is_missing_or_wrong_is_named(crawl, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n{}\n")
    cases = [({"tokens": 0}, "--tokens 0"), ({"rounds": 0}, "--rounds 0"),
             ({"depth": -1}, "--depth -1"), ({"rate": 0.0}, "rate 0.0"),
             ({"labels": tmp_path / "none.txt"}, "none.txt"),
             ({"patterns": tmp_path / "none.json"}, "none.json")]
    for change, message in cases:
        with pytest.raises(UserError, match=message):
            run(crawl, tmp_path / "out", **change)
    with pytest.raises(UserError, match="empty.jsonl holds no page"):
        recall_pages(tmp_path / "out", empty, crawl / "seeds.jsonl",
                     crawl / "tokenizer", **SETTINGS)
    with pytest.raises(UserError, match="0 of the subject"):
        recall_pages(tmp_path / "out", crawl / "pages", empty, crawl / "tokenizer",
                     **SETTINGS)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_measures_by_hand(crawl, tmp_path):
    tokenizer = Tokenizer.load(crawl / "tokenizer")
    rows = [("a.example", f"/{'xy'[i % 2]}/{i}", "a" * (i + 1)) for i in range(4)]
    web = PageStore.write(tmp_path, rows, tokenizer)
    sizes = web.sizes
    subject = labelled(web, {"a.example/x/0", "a.example/y/3", "b.example/x/2"})
    assert subject.tolist() == [True, False, False, True]
    kept = np.array([True, True, False, False])
    assert measured(web, kept, subject) == {
        "recall": sizes[0] / (sizes[0] + sizes[3]),
        "precision": sizes[0] / (sizes[0] + sizes[1])}
    assert measured(web, kept & ~kept, subject) == {"recall": 0, "precision": 0}
    assert folders_kept(web, kept) == {"a.example": {
        "/x/": {"pages": 2, "kept": 1}, "/y/": {"pages": 2, "kept": 1}}}
