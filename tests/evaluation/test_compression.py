"""Bits per byte: a uniform model by hand, windows against the slow way, gzip and xz."""

import lzma
import math
import zlib

import pytest
import torch
from small import new_coder

from minicoder.evaluation.compression import (
    bits_per_byte,
    gzip_bits_per_byte,
    xz_bits_per_byte,
)

TEXTS = ["def f(x):\n    return x\n" * 4, "a", "", "é = 'ü'\n" * 3]


@pytest.fixture(scope="module")
def random_coder(tokenizer):
    """Weights far from uniform, so that context matters."""
    coder = new_coder(tokenizer)
    draw = torch.Generator().manual_seed(0)
    for weight in coder.parameters():
        weight.data += 0.2 * torch.randn(weight.shape, generator=draw)
    return coder


@pytest.mark.parametrize("window", [7, 8, 33, 64, 256])
def test_a_uniform_model_pays_log2_of_the_vocabulary_per_token(tokenizer, window):
    coder = new_coder(tokenizer)
    torch.nn.init.zeros_(coder.lm_head.weight)
    tokens = sum(len(tokenizer.encode(t)) + 1 for t in TEXTS)   # and the end of each
    size = sum(len(t.encode()) for t in TEXTS)
    found = bits_per_byte(coder, tokenizer, TEXTS, window)
    assert found == pytest.approx(math.log2(tokenizer.vocab_size) * tokens / size)


def test_batches_padding_and_order_change_nothing(random_coder, tokenizer):
    found = [bits_per_byte(random_coder, tokenizer, texts, 32, batch)
             for texts in (TEXTS, TEXTS[::-1]) for batch in (1, 2, 16)]
    assert found == pytest.approx([found[0]] * 6, rel=1e-5)


def slow_bits(coder, tokenizer, text, window):
    """Token after token, from the window that the docstring promises."""
    ids, half = [tokenizer.bos, *tokenizer.encode(text), tokenizer.eos], window // 2
    bits = 0.0
    for place in range(1, len(ids)):
        start = max(0, ((place - 1) // half - 1) * half)
        logits = coder(torch.tensor([ids[start:place]]))[0, -1].double()
        bits -= logits.log_softmax(-1)[ids[place]].item() / math.log(2)
        assert place - start <= window and (start == 0 or place - start > half)
    return bits


@pytest.mark.parametrize("window", [16, 17])
def test_windows_overlap_by_half(random_coder, tokenizer, window):
    with torch.no_grad():
        slow = sum(slow_bits(random_coder, tokenizer, t, window) for t in TEXTS)
    found = bits_per_byte(random_coder, tokenizer, TEXTS, window)
    assert found == pytest.approx(slow / sum(len(t.encode()) for t in TEXTS), rel=1e-5)


def test_what_was_learnt_by_heart_costs_little(filler, tokenizer, holes):
    knows = bits_per_byte(filler, tokenizer, [holes[0].middle], 64)
    assert 0 < knows < bits_per_byte(new_coder(tokenizer), tokenizer,
                                     [holes[0].middle], 64)


def test_gzip_packs_as_hard_as_it_can():
    text = "\n".join(f"{i * i % 97} {i * 31 % 53} value_{i % 7}" for i in range(4000))
    packed = {}
    for level in (6, 9):
        deflate = zlib.compressobj(level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        packed[level] = 8 * len(deflate.compress(text.encode()) + deflate.flush())
    assert packed[9] < packed[6]    # else the text could not tell the levels apart
    assert gzip_bits_per_byte([text]) == packed[9] / len(text)


def test_gzip_and_xz_file_by_file():
    files = [t.encode() for t in TEXTS]
    size = sum(map(len, files))
    packed = 0
    for data in files:
        deflate = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        packed += len(deflate.compress(data) + deflate.flush())
    assert gzip_bits_per_byte(TEXTS) == 8 * packed / size
    xz = lzma.LZMACompressor(lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, preset=9)
    whole = len(xz.compress(files[0]) + xz.flush())
    assert xz_bits_per_byte(TEXTS[:1]) == 8 * whole / len(files[0])
    assert xz_bits_per_byte(TEXTS) > gzip_bits_per_byte(TEXTS) > 0
    joined = gzip_bits_per_byte(["".join(TEXTS)])
    assert joined < gzip_bits_per_byte(TEXTS)       # alone, each file pays for itself
