"""fastText's classifier from scratch: is this page about the subject?

A page is the average of the embeddings of its tokens and of its token 2- and 3-grams,
which share hashed buckets (Joulin et al., arXiv 1607.01759). A linear softmax on top
tells subject from rest. Tokens are those of the language model, as in DeepSeek-Coder-V2
§2, so that text without spaces between its words works as well. The defaults are
DeepSeekMath §2.1's; the number of buckets is fastText's own default.

Once trained, two classes need no embeddings: a page's logit is the average, over its
features, of one number each. That table is all that is kept, and reading it is fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64, Integer

from minicoder.errors import UserError

Ids = Integer[np.ndarray, "_"]           # pages of any lengths
STEP = np.uint64(116049371)             # fastText's factor between neighbours in a hash
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # makes hashes of ids that are small numbers


@dataclass(frozen=True)
class Recipe:
    """How the classifier is trained.

    `rate` falls linearly to nought over `epochs`; tokens that occur fewer than `least`
    times are no features of their own; n-grams of 2 to `ngrams` tokens share `buckets`.
    """

    dimension: int = 256
    rate: float = 0.1
    ngrams: int = 3
    least: int = 3
    epochs: int = 3
    buckets: int = 2_000_000

    def __post_init__(self) -> None:
        for name in ("dimension", "ngrams", "least", "epochs", "buckets"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)} of the classifier must "
                                "be 1 or more.")
        if not 0 < self.rate < float("inf"):
            raise UserError(f"rate {self.rate} of the classifier must be above 0.")


def features(
    pages: Sequence[Ids], vocabulary: int, recipe: Recipe
) -> tuple[Int64[np.ndarray, " features"], Int64[np.ndarray, " features"]]:
    """(feature, page) of every token and n-gram; none reaches into the next page.

    Features are numbered: first the `vocabulary` tokens, then the buckets.
    """
    ids = np.concatenate([np.empty(0, np.int64), *pages]).astype(np.int64)
    page = np.repeat(np.arange(len(pages)), [len(one) for one in pages])
    keys = (ids.astype(np.uint64) + np.uint64(1)) * SPREAD >> np.uint64(32)
    found, places, hashes = [ids], [page], keys
    for n in range(2, min(recipe.ngrams, len(ids)) + 1):
        hashes = hashes[:-1] * STEP + keys[n - 1:]
        inside = page[:-n + 1] == page[n - 1:]
        bucket = hashes[inside] % np.uint64(recipe.buckets)
        found.append(vocabulary + bucket.astype(np.int64))
        places.append(page[:-n + 1][inside])
    return np.concatenate(found), np.concatenate(places)


@dataclass(frozen=True)
class Classifier:
    """What training leaves: a number for each feature, 0 for those it never saw."""

    table: Float32[np.ndarray, " features"]
    known: Bool[np.ndarray, " features"]    # False for tokens that were too rare
    recipe: Recipe

    def scores(self, pages: Sequence[Ids]) -> Float32[np.ndarray, " pages"]:
        """The probability of the subject for each page; 0.5 for a page of nothing."""
        vocabulary = len(self.table) - self.recipe.buckets
        found, page = features(pages, vocabulary, self.recipe)
        kept = self.known[found]
        found, page = found[kept], page[kept]
        total = np.bincount(page, self.table[found], len(pages))
        count = np.bincount(page, minlength=len(pages))
        logits = total / np.maximum(count, 1)
        return (1 / (1 + np.exp(-logits))).astype(np.float32)


def train_classifier(
    positives: Sequence[Ids], negatives: Sequence[Ids], vocabulary: int,
    recipe: Recipe | None = None, seed: int = 0,
) -> Classifier:
    """Learn to tell `positives` from `negatives`, one page a step, as fastText does.

    Embeddings start between ±1/dimension and the softmax at nought; the order of the
    pages and the start depend on `seed` alone. Pages are visited again in each epoch
    and not copied, so they may be views of a file. Rows exist only for the features
    that occur: fastText's others stay random, noise without a direction.

    Raises `UserError` when one side has no page.
    """
    recipe = recipe or Recipe()
    if not positives or not negatives:
        raise UserError(f"The classifier needs pages of both sides; there are "
                        f"{len(positives)} of the subject and {len(negatives)} others.")
    examples = [(page, label) for label, side in ((1, positives), (0, negatives))
                for page in side]
    known = known_features([page for page, _ in examples], vocabulary, recipe)
    rows = np.cumsum(known) - 1
    random = np.random.default_rng(seed)
    span = 1 / recipe.dimension
    inputs = random.uniform(-span, span, (rows[-1] + 1, recipe.dimension)).astype(
        np.float32)
    output = np.zeros((2, recipe.dimension), np.float32)
    step, steps = 0, recipe.epochs * len(examples)
    for _ in range(recipe.epochs):
        for index in random.permutation(len(examples)):
            page, label = examples[index]
            found, _ = features([page], vocabulary, recipe)
            learn(inputs, output, rows[found[known[found]]], label,
                  np.float32(recipe.rate * (1 - step / steps)))
            step += 1
    table = np.zeros(len(known), np.float32)
    table[known] = inputs @ (output[1] - output[0])
    # a bucket that never occurred says nothing, but counts in a page's average
    return Classifier(table, known | (np.arange(len(known)) >= vocabulary), recipe)


def known_features(
    pages: Sequence[Ids], vocabulary: int, recipe: Recipe
) -> Bool[np.ndarray, " features"]:
    """Which features get a row: frequent tokens, and buckets that occur at all."""
    counts = np.zeros(vocabulary + recipe.buckets, np.int64)
    for page in pages:
        np.add.at(counts, features([page], vocabulary, recipe)[0], 1)
    return counts >= np.where(np.arange(len(counts)) < vocabulary, recipe.least, 1)


def learn(
    inputs: Float32[np.ndarray, "rows dimension"],
    output: Float32[np.ndarray, "2 dimension"],
    page: Int64[np.ndarray, " features"], label: int, rate: np.float32,
) -> None:
    """One step of gradient descent on -log softmax(output · mean(inputs)), in place."""
    if not len(page):
        return
    used, times = np.unique(page, return_counts=True)
    share = (times / np.float32(len(page))).astype(np.float32)
    before = inputs[used]
    hidden = share @ before
    logits = output @ hidden
    chances = np.exp(logits - logits.max())
    error = (np.arange(2) == label) - chances / chances.sum()   # -dloss/dlogits
    step = (rate * error).astype(np.float32)
    inputs[used] = before + np.outer(share, step @ output)
    output += np.outer(step, hidden)
