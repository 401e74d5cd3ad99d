"""Bits per byte of held-out files: the model's, and those of gzip and xz."""

from __future__ import annotations

import gzip
import lzma
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from minicoder.model.transformer import MiniCoder
from minicoder.tokenizer import Tokenizer


@torch.no_grad()
def bits_per_byte(model: MiniCoder, tokenizer: Tokenizer, texts: Sequence[str],
                  window: int, batch: int = 16) -> float:
    """-log2 of what the model gives each file's tokens, per byte of the files.

    Files are read through windows of `window` tokens that overlap by half: every token
    but those of a file's first half-window is predicted from at least window/2 before
    it. Each file is coded alone, as `gzip` and `xz` below do.
    """
    pieces: list[tuple[list[int], int]] = []  # tokens, how many of them are context
    for text in texts:
        ids = [tokenizer.bos, *tokenizer.encode(text), tokenizer.eos]
        half = window // 2
        for start in range(0, max(1, len(ids) - half - 1), half):
            pieces.append((ids[start:start + 2 * half + 1], half if start else 0))
    pieces.sort(key=lambda piece: len(piece[0]))
    nats, device = 0.0, model.lm_head.weight.device
    for first in range(0, len(pieces), batch):
        group = pieces[first:first + batch]
        width = max(len(ids) for ids, _ in group)
        tokens = torch.zeros(len(group), width, dtype=torch.long)
        counts = torch.zeros(len(group), width - 1, dtype=torch.bool)
        for row, (ids, context) in enumerate(group):
            tokens[row, :len(ids)] = torch.tensor(ids)
            counts[row, context:len(ids) - 1] = True
        tokens, counts = tokens.to(device), counts.to(device)
        loss = F.cross_entropy(model(tokens[:, :-1]).transpose(1, 2).float(),
                               tokens[:, 1:], reduction="none")
        nats += loss[counts].sum().item()
    return nats / math.log(2) / sum(len(t.encode()) for t in texts)


def gzip_bits_per_byte(texts: Sequence[str]) -> float:
    """`gzip -9`, file by file."""
    files = [t.encode() for t in texts]
    packed = sum(len(gzip.compress(f, 9)) for f in files)
    return 8 * packed / sum(map(len, files))


def xz_bits_per_byte(texts: Sequence[str]) -> float:
    """`xz -9`, file by file."""
    files = [t.encode() for t in texts]
    packed = sum(len(lzma.compress(f, preset=9)) for f in files)
    return 8 * packed / sum(map(len, files))
