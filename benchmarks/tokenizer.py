"""Our byte-level BPE beside `tokenizers`: learning a vocabulary, and encoding.

    python benchmarks/tokenizer.py [--megabytes 1] [--vocabulary 4096] [--times 5]

Both learn from the same text, the standard library of this Python, with the same rules,
and must find the same tokens. Then both encode the same text, one thread each, round by
round in turn; CPU time, medians. Writes benchmarks/results/tokenizer.json and .md.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tiktoken
import tokenizers
import tyro
from tokenizers import Regex, models, pre_tokenizers, trainers

from minicoder.stages import write_json
from minicoder.tokenizer import PATTERN, Tokenizer

RESULTS = Path(__file__).parent / "results"


def standard_library(size: float) -> list[str]:
    """Texts of the standard library, `size` bytes together, the last one cut."""
    texts, left = [], int(size)
    for file in sorted(Path(json.__file__).parents[1].rglob("*.py")):
        if "site-packages" in file.parts or left <= 0:
            continue
        data = file.read_bytes()[:left]
        left -= len(data)
        texts.append(data.decode("utf-8", errors="ignore"))
    return texts


def peer(texts: list[str], size: int) -> tokenizers.Tokenizer:
    """What `tokenizers` learns from the texts by our rules."""
    other = tokenizers.Tokenizer(models.BPE())
    other.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    other.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=size, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return other


def seconds(work: Callable[[], object]) -> float:
    """CPU time of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def rounds(contenders: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """The median time of each, taken in turn after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(times + 1):
        for name, work in contenders.items():
            found = seconds(work)
            if turn:
                taken[name].append(found)
    return {name: statistics.median(found) for name, found in taken.items()}


def main(megabytes: float = 1.0, vocabulary: int = 4096, times: int = 5) -> None:
    """Measure, compare the ids, and write the results.

    Args:
        megabytes: text to learn from and to encode.
        vocabulary: tokens to learn, ours with its five control tokens.
        times: rounds that count.
    """
    texts = standard_library(megabytes * 1e6)
    size = sum(len(text.encode()) for text in texts)
    ours = Tokenizer.train(texts, vocabulary)
    theirs = peer(texts, len(ours.tokens))
    ids = ours.encode_batch(texts)
    same = sum(mine == theirs.encode(text, add_special_tokens=False).ids
               for mine, text in zip(ids, texts, strict=True))
    plain = ours.encoding
    learn = rounds({"minicoder": lambda: Tokenizer.train(texts, vocabulary),
                    "tokenizers": lambda: peer(texts, len(ours.tokens))}, times)
    encode = rounds({
        "minicoder": lambda: [ours.encode(text) for text in texts],
        "tiktoken": lambda: [plain.encode_ordinary(text) for text in texts],
        "tokenizers": lambda: [theirs.encode(text, add_special_tokens=False)
                               for text in texts]}, times)
    versions = {"python": platform.python_version(), "tiktoken": tiktoken.__version__,
                "tokenizers": tokenizers.__version__, "machine": platform.machine()}
    found = {"bytes": size, "vocabulary": vocabulary, "texts": len(texts),
             "same_ids": same, "learn_seconds": learn, "encode_seconds": encode,
             "rounds": times, "versions": versions}
    write_json(RESULTS / "tokenizer.json", found)
    speed = {name: size / 1e6 / value for name, value in encode.items()}
    (RESULTS / "tokenizer.md").write_text("\n".join([
        "# The tokenizer beside `tokenizers`", "",
        f"{size / 1e6:.2f} MB of Python's standard library, {vocabulary:,} tokens, "
        f"CPU seconds, medians of {times}; "
        + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".", "",
        f"The same ids on {same} of {len(texts)} texts.", "",
        "| | minicoder | tiktoken | tokenizers |", "| --- | --- | --- | --- |",
        f"| learn, s | {learn['minicoder']:.2f} | – | {learn['tokenizers']:.2f} |",
        f"| encode, MB/s | {speed['minicoder']:.2f} | {speed['tiktoken']:.2f} | "
        f"{speed['tokenizers']:.2f} |", ""]), encoding="utf-8")
    print((RESULTS / "tokenizer.md").read_text())


if __name__ == "__main__":
    tyro.cli(main)
