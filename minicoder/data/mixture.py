"""Keep code, math and text at 60/10/30 of the tokens (DeepSeek-Coder-V2 §2)."""

from __future__ import annotations

from collections.abc import Mapping

SHARES = {"code": 0.6, "math": 0.1, "text": 0.3}


def passes(
    available: Mapping[str, int | float], total: int | float,
    shares: Mapping[str, float] = SHARES,
) -> dict[str, float]:
    """How often each part is seen when `total` tokens are drawn from `available` ones.

    `passes({"code": 1.17}, 6, {"code": 0.6})` (trillions, Coder-V2) gives 3.08 for
    code. Above 1, documents are repeated.
    """
    return {kind: shares[kind] * total / available[kind] for kind in shares}


class Mixture:
    """Say which kind of document is to be drawn next, so that the shares come true.

    The next draw is always of the kind that is furthest below its share, so every count
    stays within about one draw of its aim, whatever the sizes of the draws.
    """

    def __init__(self, shares: Mapping[str, float] = SHARES) -> None:
        whole = sum(shares.values())
        self.aims = {kind: share / whole for kind, share in shares.items()}
        self.drawn = dict.fromkeys(shares, 0)

    def next(self) -> str:
        """The kind whose tokens are furthest below their aim."""
        total = sum(self.drawn.values())
        return max(self.aims, key=lambda kind: self.aims[kind] * total
                   - self.drawn[kind])

    def add(self, kind: str, tokens: int) -> None:
        """Record a draw."""
        self.drawn[kind] += tokens

    def shares(self) -> dict[str, float]:
        """The shares of the tokens drawn so far."""
        total = max(sum(self.drawn.values()), 1)
        return {kind: count / total for kind, count in self.drawn.items()}
