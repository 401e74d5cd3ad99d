"""pass@k, the unbiased estimator of arXiv 2107.03374 (eq. 1)."""

from __future__ import annotations

import math


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that k of n samples, c of them right, hold a right one.

    1 - C(n-c, k) / C(n, k), as a product that cannot overflow.
    pass_at_k(10, 3, 1) = 0.3.
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"need 0 <= c <= n and 1 <= k <= n, not n={n}, c={c}, k={k}")
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))
