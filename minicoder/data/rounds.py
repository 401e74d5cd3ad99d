"""Recalling code and mathematics from the web: DeepSeekMath §2.1, DeepSeek-Coder-V2 §2.

A classifier learns a few good pages of the subject against random ones, scores every
page, and the best are kept, up to a budget of tokens. Domains of which more than 10 %
was kept are the subject's. There somebody says which paths hold it, and the pages below
them that the classifier missed join the examples of the next round. It ends when a
round finds little that the last one had not.

The papers leave open whether what is returned is the last round's choice or the union
of all: here it is the last round's. DeepSeekMath kept 40B tokens in the first round and
had 120B in the end; here one budget holds for all rounds, so that they compare.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Int64

from minicoder.data.annotators import Annotate
from minicoder.data.classifier import Classifier, Ids, Recipe, train_classifier
from minicoder.data.page_store import BATCH, PageStore
from minicoder.progress import progress

EXAMPLES = 500_000      # of the subject, and as many others [DSM §2.1]
SHARE = 0.10            # a domain is the subject's above this [DSM §2.1]
SATURATED = 0.98        # of a round was known: DeepSeekMath's round 4


@dataclass
class Round:
    """What one round found. `known` is the share of its tokens that the last one had.

    `domains` are the subject's; `annotated` counts pages below the paths that were
    named in them, `joined` those of them that became examples for the next round.
    """

    number: int
    examples: int
    kept: Bool[np.ndarray, " pages"]
    tokens: int
    known: float
    domains: list[str] = field(default_factory=list)
    annotated: int = 0
    joined: int = 0


def score(web: PageStore, classifier: Classifier) -> Float32[np.ndarray, " pages"]:
    """The classifier's probability for every page, a batch at a time."""
    scores = np.empty(len(web), np.float32)
    for start in progress(range(0, len(web), BATCH), "scores", "batch"):
        part = range(start, min(start + BATCH, len(web)))
        scores[start:part.stop] = classifier.scores([web.tokens(i) for i in part])
    return scores


def best(
    scores: Float32[np.ndarray, " pages"], sizes: Int64[np.ndarray, " pages"],
    tokens: int,
) -> Bool[np.ndarray, " pages"]:
    """The pages of the highest scores, until the next would exceed `tokens`.

    Equal scores are taken in the order of the pages.
    """
    order = np.argsort(-scores, kind="stable")
    kept = np.zeros(len(scores), bool)
    kept[order[np.cumsum(sizes[order]) <= tokens]] = True
    return kept


def own_domains(
    web: PageStore, kept: Bool[np.ndarray, " pages"], share: float = SHARE
) -> Int64[np.ndarray, " domains"]:
    """Numbers of the domains of which more than `share` of the pages is kept."""
    pages = np.bincount(web.domain, minlength=len(web.domains))
    chosen = np.bincount(web.domain[kept], minlength=len(web.domains))
    return np.flatnonzero(chosen > share * pages)


def paths_of(
    web: PageStore, domains: Int64[np.ndarray, " domains"]
) -> dict[str, dict[str, int]]:
    """{domain: {path: page}} of some domains; their addresses are held in memory."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for page in web.pages(np.isin(web.domain, domains), text=False):
        found[page.domain][page.path] = page.index
    return found


def below_paths(
    web: PageStore, domains: Int64[np.ndarray, " domains"], annotate: Annotate
) -> Bool[np.ndarray, " pages"]:
    """The pages of `domains` that the annotator gives to the subject."""
    named = np.zeros(len(web), bool)
    for domain, paths in paths_of(web, domains).items():
        named[[paths[path] for path in annotate(domain, list(paths))]] = True
    return named


def examples(
    web: PageStore, seeds: Sequence[Ids], joined: Bool[np.ndarray, " pages"],
    most: int, random: np.random.Generator,
) -> tuple[list[Ids], list[Ids]]:
    """Pages of the subject and as many random others, at most `most` of each.

    The random ones may hold pages of the subject that nobody knows of yet, as in the
    papers; on the real web they are few.
    """
    pages = [*seeds, *map(web.tokens, np.flatnonzero(joined).tolist())]
    chosen = random.permutation(len(pages))[:most]
    others = random.permutation(np.flatnonzero(~joined))[:len(chosen)]
    return [pages[i] for i in chosen], [web.tokens(i) for i in others.tolist()]


def recall_rounds(
    web: PageStore, seeds: Sequence[Ids], vocabulary: int, annotate: Annotate,
    tokens: int, rounds: int = 3, recipe: Recipe | None = None,
    most: int = EXAMPLES, seed: int = 0,
) -> Iterator[Round]:
    """Yield each round: train, score all, keep the best, ask about domains, repeat.

    Stops after `rounds`, or when a round knew `SATURATED` of its tokens already.

    Args:
        seeds: tokens of pages that are surely the subject's.
        vocabulary: number of token ids.
        annotate: says which paths of a domain hold the subject.
        tokens: what a round may keep.
        most: examples of each side.
    """
    random = np.random.default_rng(seed)
    joined, before = np.zeros(len(web), bool), np.zeros(len(web), bool)
    sizes = web.sizes
    for number in range(1, rounds + 1):
        positives, negatives = examples(web, seeds, joined, most, random)
        classifier = train_classifier(positives, negatives, vocabulary, recipe, seed)
        kept = best(score(web, classifier), sizes, tokens)
        total, again = int(sizes[kept].sum()), int(sizes[kept & before].sum())
        found = own_domains(web, kept)
        named = below_paths(web, found, annotate)
        new = named & ~kept & ~joined
        result = Round(number, len(positives), kept, total, again / max(total, 1),
                       [web.domains[i] for i in found], int(named.sum()),
                       int(new.sum()))
        yield result
        if result.known >= SATURATED:
            return
        joined, before = joined | new, kept
