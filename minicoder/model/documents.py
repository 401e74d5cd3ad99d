"""Documents in packed rows: each attends to itself alone, and no mask is made.

Gathered into rows of their own, documents need causal attention and nothing else: on a
CPU more than twice as fast as a mask of T x T numbers (benchmarks/speed.py, part
documents). Documents of similar length share a batch, so that little is padded.
Letters: B rows, T tokens of each, N documents of a class, L the longest of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

FINEST = 16  # tokens: shorter differences of length make no class of their own


@dataclass(frozen=True)
class Documents:
    """Where the tokens of (B, T) rows stand when each document has its own row.

    `parts` has (N, L) places among the B T tokens, one tensor for each class of
    lengths; behind a document's end its last place is repeated, where causal attention
    never looks from the left. `back` says where, among all places of all parts, each
    of the B T tokens is.
    """

    parts: tuple[Int[Tensor, "_ _"], ...]
    back: Int[Tensor, " M"]

    def to(self, device: torch.device) -> Documents:
        """The same on another device."""
        return Documents(tuple(part.to(device) for part in self.parts),
                         self.back.to(device))


def find_documents(tokens: Int[Tensor, "B T"], bos: int) -> Documents:
    """A document begins at each `bos` and at the left end of each row.

    Lengths within a quarter of an octave are one class: 65 to 80, 81 to 96, ...
    """
    starts = tokens == bos
    starts[:, 0] = True
    first = starts.flatten().nonzero().squeeze(1)
    length = torch.diff(first, append=first.new_tensor([tokens.numel()]))
    unit = (2.0 ** (length.double().log2().floor() - 2)).long().clamp(min=FINEST)
    width = -(-length // unit) * unit
    parts, found = [], []
    for value in width.unique().tolist():
        begin, size = first[width == value], length[width == value]
        column = torch.arange(int(size.max()), device=tokens.device)
        parts.append(begin[:, None] + column.minimum(size[:, None] - 1))
        found.append((column < size[:, None]).flatten())
    places = torch.cat([part.flatten() for part in parts])
    real = torch.cat(found).nonzero().squeeze(1)
    back = torch.empty_like(real)
    back[places[real]] = real
    return Documents(tuple(parts), back)
