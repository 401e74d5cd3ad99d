"""The tokenizer stage: learn a vocabulary from a corpus and say how well it packs."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable
from pathlib import Path

from minicoder.data.corpus import DOCUMENTS, read_rows
from minicoder.data.mixture import SHARES
from minicoder.data.sources import Document
from minicoder.stages import clear, stage, write_json
from minicoder.tokenizer import Tokenizer


def bytes_per_token(tokenizer: Tokenizer, documents: Iterable[Document]) -> float:
    """How much text a token carries: UTF-8 bytes over tokens; 0 without documents."""
    size = tokens = 0
    for one in documents:
        size += len(one.text.encode())
        tokens += len(tokenizer.encode(one.text))
    return size / max(tokens, 1)


def sample_bytes(documents: Iterable[Document], size: float, seed: int) -> list[str]:
    """Texts of documents in random order, `size` bytes or a little more together.

    Every document draws a number; the lowest are kept. No more than them is held.
    """
    draw, total = random.Random(seed), 0
    kept: list[tuple[float, int, str]] = []     # minus the number, bytes, text
    for one in documents:
        length = len(one.text.encode())
        heapq.heappush(kept, (-draw.random(), length, one.text))
        total += length
        while kept and total - kept[0][1] >= size:
            total -= heapq.heappop(kept)[1]
    return [text for _, _, text in sorted(kept, reverse=True)]


def train_tokenizer(
    out: Path, corpus: Path, vocabulary: int = 4096, megabytes: float = 2.5,
    seed: int = 0,
) -> Path:
    """Train a byte-level BPE vocabulary on a sample of the corpus.

    Args:
        out: folder for tokenizer.json and stats.json.
        corpus: folder of the corpus stage.
        vocabulary: number of tokens, the five special ones included.
        megabytes: text to train on, 60/10/30 code, math and text.
        seed: decides the sample.
    """
    settings = dict(corpus=corpus, vocabulary=vocabulary, megabytes=megabytes)
    with stage(out, "tokenizer", settings, [corpus], seed) as run:
        if run.finished:
            return out
        clear(run.work)
        file = corpus / DOCUMENTS  # a small corpus may lack a kind
        texts = [text for kind, share in SHARES.items() for text in sample_bytes(
                     read_rows(file, "train", [kind]), share * megabytes * 1e6, seed)]
        tokenizer = Tokenizer.train(texts, vocabulary)
        tokenizer.save(run.work)
        held_out = {kind: bytes_per_token(
                        tokenizer, read_rows(file, "heldout", [kind]))
                    for kind in SHARES}
        packed = {kind: value for kind, value in held_out.items() if value}
        words = sorted((w for w in (tokenizer.decode([i]) for i in range(tokenizer.bos))
                        if any(map(str.isalpha, w))), key=len)
        write_json(run.work / "stats.json", {
            "vocab_size": tokenizer.vocab_size, "bytes_per_token": packed,
            "training_bytes": sum(len(t.encode()) for t in texts),
            "longest_tokens": words[:-25:-1]})
        run.headline = f"{tokenizer.vocab_size:,} tokens, " + ", ".join(
            f"{value:.2f} bytes per token of {kind}" for kind, value in packed.items())
    return out
