"""RMSNorm against its formula."""

import oracles
import torch

from minicoder.model.norm import RMSNorm


def test_norm_is_the_formula():
    norm = RMSNorm(24, eps=1e-3).double()
    norm.weight.data = torch.randn(24, dtype=torch.float64)
    x = torch.randn(2, 3, 24, dtype=torch.float64) * 5
    expected = torch.stack([torch.stack([
        oracles.rms_norm(v, norm.weight, 1e-3) for v in row]) for row in x])
    torch.testing.assert_close(norm(x), expected, rtol=1e-12, atol=0)


def test_half_precision_is_normalised_in_float32():
    """The square of 300 overflows float16; the released code widens first, and
    multiplies by the weight after going back."""
    x = torch.full((1, 8), 300.0, dtype=torch.float16)
    norm = RMSNorm(8, eps=1e-6).half()
    assert norm(x).dtype == torch.float16
    torch.testing.assert_close(norm(x), torch.ones_like(x))
