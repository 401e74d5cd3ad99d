"""Recall and precision by round on a small web of real documents, and the classifier.

    python benchmarks/recall.py [--seeds 0 1 2] [--run runs/demo] [--out runs/recall]

Two subjects on the simulated web of `minicoder.data.small_web` (mathematics and code)
and well-described files on a simulated code host, each with a person's look at folders
imitated, and with nobody looking. Needs the corpus and tokenizer of `make demo`. The
classifier stands beside fastText where `fasttext-numpy2` is installed.
Writes benchmarks/results/recall.json and recall.md.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import tyro

from minicoder.data.classifier import Recipe, train_classifier
from minicoder.data.corpus import DOCUMENTS
from minicoder.data.recall import recall_pages
from minicoder.data.small_web import (
    SmallWeb,
    licences,
    small_host,
    small_web,
    system_texts,
)
from minicoder.data.sources import Document
from minicoder.stages import read_json, write_json
from minicoder.tokenizer import Tokenizer

RESULTS = Path(__file__).parent / "results"
# the paper's width of 256 only costs time here, and its rate and epochs are for a
# million examples: with some hundreds they leave the classifier where it began
SMALL = dict(dimension=32, rate=1.0, epochs=10)


def corpus_documents(folder: Path) -> list[Document]:
    """All documents of a corpus, both splits."""
    rows = pq.read_table(folder / DOCUMENTS).drop_columns(["split"]).to_pylist()
    return [Document(**row) for row in rows]


def write_inputs(web: SmallWeb, subject: str, folder: Path) -> None:
    """The stage's inputs: pages, examples and labels."""
    (folder / "pages").mkdir(parents=True, exist_ok=True)
    (folder / "pages/all.jsonl").write_text("".join(
        json.dumps({"url": page.url, "text": page.text}) + "\n" for page in web.pages))
    (folder / "seeds.jsonl").write_text("".join(
        json.dumps({"url": f"https://seed.example/{i}", "text": text}) + "\n"
        for i, text in enumerate(web.seeds[subject])))
    (folder / "labels.txt").write_text("\n".join(
        page.url for page in web.pages if page.subject == subject))


def rounds(branch: str, web: SmallWeb, folder: Path, tokenizer: Path, seed: int
           ) -> list[dict]:
    """Both arms of a branch: rows of recall.json with the arm's name."""
    subject = "math" if branch == "mathematics" else "code"
    host = branch == "code host"
    write_inputs(web, subject, folder)
    size = sum(map(len, Tokenizer.load(tokenizer).encode_batch(
        [page.text for page in web.pages if page.subject == subject])))
    rows = []
    for arm, patterns in (("looked at", None), ("nobody looks", folder / "none.json")):
        if patterns:
            patterns.write_text("{}")
        out = recall_pages(
            folder / arm.replace(" ", "-"), folder / "pages", folder / "seeds.jsonl",
            tokenizer, tokens=size, kind=subject, patterns=patterns,
            labels=folder / "labels.txt", rounds=2 if host else 4,
            depth=int(host), seed=seed, **SMALL)
        found = read_json(out / "recall.json")
        rows += [row | {"branch": branch, "arm": arm, "seed": seed,
                        "web": found["pages"], "seed_topics": web.seed_topics[subject],
                        "dropped": found["dropped"]} for row in found["rounds"]]
    return rows


def auc(yes: np.ndarray, no: np.ndarray) -> float:
    """The chance that a page of the subject scores above another; ties count half."""
    both = np.concatenate([yes, no])
    order, ranks = both.argsort(kind="stable"), np.empty(len(both))
    values, first, times = np.unique(both[order], return_index=True, return_counts=True)
    ranks[order] = np.repeat(first + (times - 1) / 2, times)
    return float((ranks[:len(yes)].sum() - len(yes) * (len(yes) - 1) / 2)
                 / len(yes) / len(no))


def precision_at(yes: np.ndarray, no: np.ndarray) -> float:
    """The share of the subject among as many best pages as the subject has."""
    best = np.argsort(-np.concatenate([yes, no]), kind="stable")[:len(yes)]
    return float((best < len(yes)).mean())


def fasttext_scores(train: list, fresh: list, recipe: Recipe, file: Path
                    ) -> list[np.ndarray] | None:
    """The library's scores of the same pages; None where it is not installed."""
    try:
        import fasttext
    except ImportError:
        return None
    lines = [f"__label__{label} " + " ".join(map(str, page)) + "\n"
             for label, side in zip("10", train, strict=True) for page in side]
    np.random.default_rng(0).shuffle(lines)     # it reads them in the file's order
    file.write_text("".join(lines))
    for _ in range(9):      # now and then it ends with "Encountered NaN"
        try:
            model = fasttext.train_supervised(
                str(file), dim=recipe.dimension, lr=recipe.rate, epoch=recipe.epochs,
                wordNgrams=recipe.ngrams, minCount=recipe.least, bucket=recipe.buckets,
                thread=1, verbose=0)
            break
        except RuntimeError:
            continue
    else:
        return None
    asked = [[dict(zip(*model.predict(" ".join(map(str, page)), k=2), strict=True))
              for page in side] for side in fresh]
    return [np.array([one.get("__label__1", 0.0) for one in side]) for side in asked]


def classifiers(documents: list[Document], tokenizer: Tokenizer, folder: Path
                ) -> list[dict]:
    """Mathematics told from the rest, on sources that training has not seen."""
    random = np.random.default_rng(0)
    sides = [[d for d in documents if d.origin.startswith("sympy")],
             [d for d in documents if d.kind != "math"],
             [d for d in documents if d.origin.startswith("mpmath")]]
    for side in sides:
        random.shuffle(side)
    pages = [[np.array(ids, np.uint32) for ids in tokenizer.encode_batch(
        [d.text[:2000] for d in side])] for side in sides]
    train = [pages[0][:800], pages[1][:800]]
    fresh = [pages[2], pages[1][800:2300]]
    size = sum(len(d.text[:2000].encode()) for d in sides[2] + sides[1][800:2300])
    rows = []
    for name, recipe in (("DeepSeekMath's", Recipe()), ("small", Recipe(**SMALL))):
        began = time.process_time()
        model = train_classifier(*train, tokenizer.vocab_size, recipe)
        trained = time.process_time()
        scores = [model.scores(side) for side in fresh]
        scored = time.process_time()
        theirs = fasttext_scores(train, fresh, recipe, folder / "train.txt")
        for who, found in (("minicoder", scores), ("fastText", theirs)):
            if found is not None:
                rows.append({"settings": name, "who": who, "auc": auc(*found),
                             "precision": precision_at(*found)})
        rows[-1 if theirs is None else -2] |= {
            "train_s": trained - began, "score_mb_s": size / 1e6 / (scored - trained)}
    began = time.process_time()
    tokenizer.encode_batch([d.text[:2000] for d in sides[2] + sides[1][800:2300]])
    rows[0]["encode_mb_s"] = size / 1e6 / (time.process_time() - began)
    return rows


def table(found: dict) -> str:
    """The results as a page of Markdown."""
    lines = ["# Recall by round", "",
             f"Made by `python benchmarks/recall.py`, {found['machine']}. Real texts "
             "on simulated sites (`minicoder/data/small_web.py` says what is "
             "simulated). A round keeps as many tokens as the subject has before "
             "copies are removed. Recall and precision are shares of tokens. "
             "\"Looked at\": five pages of each folder "
             "in the subject's domains are looked at, by their labels; the kept pages "
             "include those that joined the examples this way. \"Nobody looks\": the "
             "same rounds, with the examples of the first. `known`: share of a round's "
             f"tokens that the round before had kept. Classifier: {SMALL}.", "",
             "| branch | arm | seed | round | examples | pages kept | recall "
             "| precision | known | domains | pages in named folders | joined |",
             "|" + "---|" * 12]
    for row in found["rounds"]:
        lines.append(
            f"| {row['branch']} | {row['arm']} | {row['seed']} | {row['round']} | "
            f"{row['examples']} | {row['pages']} of {row['web']} | "
            f"{100 * row['recall']:.1f} % | {100 * row['precision']:.1f} % | "
            f"{100 * row['known']:.1f} % | {row['domains']} | {row['annotated']} | "
            f"{row['joined']} |")
    lines += ["", "Examples come from these topics: " + "; ".join(sorted(
        {f"{row['branch']}, seed {row['seed']}: {', '.join(row['seed_topics'])}"
         for row in found["rounds"]})) + ".", "", "## The classifier", "",
        "800 pages of SymPy's docstrings and 800 others, tested on mpmath's "
        "docstrings and 1,500 others; times are process seconds on one thread of a "
        "shared machine. Two runs of fastText with one seed differ.", "",
        "| settings | | AUC | precision at the number of the subject's | training, s "
        "| scoring, MB/s |", "|---|---|---|---|---|---|"]
    for row in found["classifiers"]:
        spent = [f"{row[key]:.1f}" if key in row else ""
                 for key in ("train_s", "score_mb_s")]
        lines.append(f"| {row['settings']} | {row['who']} | {row['auc']:.3f} | "
                     f"{row['precision']:.3f} | {spent[0]} | {spent[1]} |")
    encode = found["classifiers"][0]["encode_mb_s"]
    return "\n".join([*lines, "", "Scores read tokens; encoding them, once for all "
                      f"rounds, goes at {encode:.1f} MB/s.", ""])


def main(seeds: tuple[int, ...] = (0, 1, 2), run: Path = Path("runs/demo"),
         out: Path = Path("runs/recall")) -> None:
    """Run all branches on every seed and write the results."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    documents = corpus_documents(run / "corpus")
    prose = [*licences(), *system_texts()]
    rows = []
    for seed in seeds:
        web = small_web(documents + prose, seed)
        print(seed, Counter(page.subject for page in web.pages))
        host = small_host(documents, seed)
        for branch, there in (("mathematics", web), ("code", web), ("code host", host)):
            rows += rounds(branch, there, out / f"{branch.replace(' ', '-')}-{seed}",
                           run / "tokenizer", seed)
    order = {"mathematics": 0, "code": 1, "code host": 2}
    rows.sort(key=lambda row: (order[row["branch"]], row["arm"], row["seed"],
                               row["round"]))
    found = {"machine": f"{platform.machine()}, Python {platform.python_version()}",
             "rounds": rows, "classifiers": classifiers(
                 documents, Tokenizer.load(run / "tokenizer"), out)}
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / "recall.json", found)
    (RESULTS / "recall.md").write_text(table(found), encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
