"""The tokenizer stage: learn a vocabulary from a corpus and say how well it packs."""

from __future__ import annotations

import random
from pathlib import Path

from minicoder.data.corpus import read_documents
from minicoder.data.sources import Document
from minicoder.stages import clear, stage, write_json
from minicoder.tokenizer import Tokenizer

KINDS = ("code", "math", "text")


def bytes_per_token(tokenizer: Tokenizer, documents: list[Document]) -> float:
    """How much text a token carries: UTF-8 bytes over tokens."""
    size = sum(len(d.text.encode()) for d in documents)
    return size / sum(map(len, tokenizer.encode_batch([d.text for d in documents])))


def sample_bytes(documents: list[Document], size: float, seed: int) -> list[str]:
    """Texts of documents in random order, `size` bytes or a little more together."""
    picked, total = [], 0
    for document in random.Random(seed).sample(documents, len(documents)):
        if total >= size:
            break
        picked.append(document.text)
        total += len(document.text.encode())
    return picked


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
        documents = read_documents(corpus, "train")
        texts = [text for kind, share in zip(KINDS, (0.6, 0.1, 0.3), strict=True)
                 for text in sample_bytes([d for d in documents if d.kind == kind],
                                          share * megabytes * 1e6, seed)]
        tokenizer = Tokenizer.train(texts, vocabulary)
        tokenizer.save(run.work)
        held_out = read_documents(corpus, "heldout")
        packed = {kind: bytes_per_token(
                      tokenizer, [d for d in held_out if d.kind == kind])
                  for kind in KINDS if any(d.kind == kind for d in held_out)}
        words = sorted((w for w in (tokenizer.decode([i]) for i in range(tokenizer.bos))
                        if any(map(str.isalpha, w))), key=len)
        write_json(run.work / "stats.json", {
            "vocab_size": tokenizer.vocab_size, "bytes_per_token": packed,
            "training_bytes": sum(len(t.encode()) for t in texts),
            "longest_tokens": words[:-25:-1]})
        run.headline = f"{tokenizer.vocab_size:,} tokens, " + ", ".join(
            f"{value:.2f} bytes per token of {kind}" for kind, value in packed.items())
    return out
