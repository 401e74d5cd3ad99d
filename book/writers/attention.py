"""Attention on three tokens, for those who have not met it; each number is computed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from book.writers._parts import row
from minicoder.config import PRESETS

WORDS = ("def", "add", "(")
QUERY, KEY, VALUE = (torch.tensor(rows, dtype=torch.float64) for rows in (
    [[1, 0], [0, 2], [2, 1]], [[1, 1], [0, 2], [2, 0]], [[4, 0], [0, 8], [2, 2]]))
PAGE = """# Attention on three tokens

The lessons take attention as known. If it is new to you, this page is the idea, with
numbers that a hand can check; lesson [04](../../notebooks/04_mla.ipynb) goes on from
here. Every number on this page is computed when the page is made.

A model reads `{text}`. Each token is a row of numbers, its *hidden state*, and three
matrices make three shorter rows of it:

- the **query**: what this token looks for;
- the **key**: what it can be found by;
- the **value**: what it passes on when it is found.

{rows}

**Scores.** How well does a query fit a key? Their dot product says it. For the last
token: {dots}.
The scores are divided by the square root of the width, here $\\sqrt{{2}}$, so that long
rows do not give larger scores than short ones.

**A mask.** A token is to be predicted from those before it, so no query may see a later
key: those scores become $-\\infty$. The first token sees itself alone.

**Softmax.** $e$ to the power of each score, divided by the sum of its row. A row
becomes weights that sum to 1:

{weights}

**A weighted sum.** Each token takes the values with these weights. For the last one:

$$ {sum} $$

That is all: $\\text{{softmax}}(q k^\\top / \\sqrt{{d}})\\, v$.

**Heads.** One set of weights can follow one relation at a time. So a layer has many
*heads*: each has its own three matrices, all look at the same tokens, and their results
are put side by side and mixed by a last matrix.

**A cache.** When a text is written token by token, keys and values of earlier tokens
do not change. They are kept, and that memory is the *cache*. With {heads} heads in
{layers} layers and 128K tokens it outgrows the model itself; what to do about that is
lesson 04.

**Predict.** What changes for the token `{word}` if the value of the last token changes?
And if its own key is doubled? (Nothing: the mask hides later tokens. Its own weight
rises from {before} to {after}.)

Sources: Vaswani and others, "Attention Is All You Need" (arXiv 1706.03762) §3.2; the
library's own form is [`minicoder.model.attention`](api_model.md).
"""


def weights_of(query: Tensor, key: Tensor) -> Tensor:
    """Softmax of the scaled scores of the tokens up to each: tokens x tokens."""
    scores = query @ key.T / math.sqrt(query.shape[-1])
    hidden = torch.ones_like(scores).triu(1).bool()
    return scores.masked_fill(hidden, -math.inf).softmax(-1)


def numbers(of: Tensor) -> str:
    """Numbers as a reader writes them: `(2, 0.5)`."""
    return f"({', '.join(f'{x:.3g}' for x in of.tolist())})"


def table(*columns: str, cells: list[list[str]]) -> str:
    """A row for each token."""
    head = [row("token", *columns), "|---" * (1 + len(columns)) + "|"]
    return "\n".join(head + [row(f"`{word}`", *line)
                             for word, line in zip(WORDS, cells, strict=True)])


def pages() -> dict[str, str]:
    """The page `attention`."""
    weights, doubled = weights_of(QUERY, KEY), KEY.clone()
    doubled[1] *= 2
    told = {f"{when}": f"{share[1, 1]:.2f}" for when, share in (
        ("before", weights), ("after", weights_of(QUERY, doubled)))}
    parts = " + ".join(f"{w:.2f} \\cdot {numbers(v)}"
                       for w, v in zip(weights[-1], VALUE, strict=True))
    return {"attention": PAGE.format(
        text=" ".join(WORDS), word=WORDS[1], **told,
        heads=PRESETS["full_236b"].num_attention_heads,
        layers=PRESETS["full_236b"].num_hidden_layers,
        rows=table("query", "key", "value", cells=[
            [numbers(of) for of in three]
            for three in zip(QUERY, KEY, VALUE, strict=True)]),
        dots=", ".join(f"${numbers(QUERY[-1])} \\cdot {numbers(k)} = {QUERY[-1] @ k:g}$"
                       for k in KEY),
        weights=table(*(f"to `{word}`" for word in WORDS), cells=[
            [f"{share:.2f}" for share in line] for line in weights]),
        sum=f"{parts} = {numbers(weights[-1] @ VALUE)}")}
