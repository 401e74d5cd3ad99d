"""Fill in the middle: three pieces shuffled, so that what follows can be seen first.

DeepSeek-Coder-V2 §3.1, DeepSeek-Coder §3.1.2, after Bavarian et al. (arXiv 2207.14255).
"""

from __future__ import annotations

import re
from typing import Literal

import numpy as np

from minicoder.tokenizer import Tokenizer

Cut = Literal["character", "line"]
Order = Literal["psm", "spm"]
LINE = re.compile(r"[^\n]*\n|[^\n]+")


def fim_pieces(
    text: str, rng: np.random.Generator, cut: Cut = "character"
) -> tuple[str, str, str]:
    """Split a text at random into (prefix, middle, suffix), which join to the text.

    "character" takes two cut points anywhere. "line" makes the middle a run of whole
    lines with their line ends, of one line half of the time, of two a quarter of the
    time and so on: the shape in which single-line infilling asks. Which granularity
    DeepSeek used is unverified.
    """
    if cut == "character":
        start, stop = sorted(rng.integers(0, len(text) + 1, size=2).tolist())
    else:
        ends = [0, *(line.end() for line in LINE.finditer(text))]
        first = int(rng.integers(0, max(len(ends) - 1, 1)))
        last = min(first + int(rng.geometric(0.5)), len(ends) - 1)
        start, stop = ends[first], ends[last]
    return text[:start], text[start:stop], text[stop:]


def fim_tokens(
    prefix: str, middle: str, suffix: str, tokenizer: Tokenizer, order: Order = "psm"
) -> list[int]:
    """A shuffled text: "psm" is begin prefix hole suffix end middle EOS, DeepSeek's.

    "spm" is begin hole suffix end prefix middle EOS: the second variant of
    suffix-prefix-middle of Bavarian et al., made to be learnt beside PSM. It is PSM of
    an empty prefix and a middle that begins with what is known.
    """
    head, middle_ids = [tokenizer.fim_begin], tokenizer.encode(middle)
    hole = [tokenizer.fim_hole, *tokenizer.encode(suffix), tokenizer.fim_end]
    known = tokenizer.encode(prefix)
    head += [*known, *hole] if order == "psm" else [*hole, *known]
    return [*head, *middle_ids, tokenizer.eos]


def infill_prompt(
    prefix: str, suffix: str, tokenizer: Tokenizer, order: Order = "psm"
) -> list[int]:
    """What a model continues with the middle and EOS: a training piece up to there.

    It opens with BOS, as every packed piece does.
    """
    return [tokenizer.bos, *fim_tokens(prefix, "", suffix, tokenizer, order)[:-1]]
