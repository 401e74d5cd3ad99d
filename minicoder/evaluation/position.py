"""Bits per byte by position: what reading far is worth, and where a window ends."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from minicoder.errors import UserError
from minicoder.model.transformer import MiniCoder
from minicoder.progress import progress
from minicoder.tokenizer import Tokenizer


@torch.no_grad()
def bits_by_position(model: MiniCoder, tokenizer: Tokenizer, texts: Sequence[str],
                     edges: Sequence[int]) -> list[float]:
    """Bits per byte of the tokens between neighbouring `edges`, one number a bucket.

    A token's position is how many tokens of its file stand before it, BOS not counted.
    Of every text the first `edges[-1]` tokens are read, in one piece; shorter texts
    are left out, so that each bucket measures the same files. Raises `UserError` when
    edges do not grow from 0 or more, or when no text is long enough.
    """
    if len(edges) < 2 or edges[0] < 0 or sorted(set(edges)) != list(edges):
        raise UserError(f"Edges of positions must grow from 0 or more, not {edges}.")
    pieces = [ids for text in texts
              if len(ids := tokenizer.encode(text)[:edges[-1]]) == edges[-1]]
    if not pieces:
        raise UserError(f"No text has {edges[-1]} tokens to measure.")
    nats, size = torch.zeros(edges[-1], dtype=torch.float64), torch.zeros(edges[-1])
    device = model.lm_head.weight.device
    for ids in progress(pieces, "position", "file"):
        tokens = torch.tensor([[tokenizer.bos, *ids]], device=device)
        loss = F.cross_entropy(model(tokens[:, :-1])[0].float(), tokens[0, 1:],
                               reduction="none")
        nats += loss.cpu()
        size += torch.tensor([len(tokenizer.decode_bytes([i])) for i in ids])
    return [(nats[a:b].sum() / size[a:b].sum() / math.log(2)).item()
            for a, b in zip(edges, edges[1:], strict=False)]
