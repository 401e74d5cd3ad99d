"""Keep code, math and text at 60/10/30 of the tokens (DeepSeek-Coder-V2 §2)."""

from __future__ import annotations

from collections.abc import Mapping

SHARES = {"code": 0.6, "math": 0.1, "text": 0.3}

# the corpus of Coder-V2 (§1, §2), billions of tokens; how many of text is not said
CODE = {"code in 338 languages": 821, "code-related text": 185,
        "web pages about code": 70, "high-quality GitHub code": 94}
UNIQUE = {"code": sum(CODE.values()), "math": 221}
TRAINED = 6_000     # of continued pre-training


def passes(
    available: Mapping[str, int | float], total: int | float,
    shares: Mapping[str, float] = SHARES,
) -> dict[str, float]:
    """How often each part is seen when `total` tokens are drawn from `available` ones.

    `passes({"code": 1.17}, 6, {"code": 0.6})` (trillions, Coder-V2) gives 3.08 for
    code. Above 1, documents are repeated.
    """
    return {kind: shares[kind] * total / available[kind] for kind in shares}


def budget(
    total: int | float = TRAINED, shares: Mapping[str, float] = SHARES
) -> list[tuple[str, int, float, float]]:
    """Coder-V2's corpus as rows of (part, unique, drawn, passes), billions of tokens.

    The parts of code, then code and math as wholes. That 60/10/30 are the shares of the
    6T tokens, and parts of code are drawn as they come, is our assumption:
    1,170 of code are then seen 3.1 times, 221 of math 2.7 times.
    """
    seen = passes(UNIQUE, total, {kind: shares[kind] for kind in UNIQUE})
    parts = [(part, size, seen["code"]) for part, size in CODE.items()]
    parts += [(kind, size, seen[kind]) for kind, size in UNIQUE.items()]
    return [(part, size, size * times, times) for part, size, times in parts]


class Mixture:
    """Say which kind of document is to be drawn next, so that the shares come true.

    The next draw is always of the kind that is furthest below its share, so no count is
    ever more than one draw above its aim, nor below it by more than one draw for each
    other kind: with three kinds and draws of at most 333 tokens, within 1 % in any
    100,000 tokens on end.
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
