"""Mathematics: the answer in the box, one sample at a time and by majority (maj@k)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from minicoder.evaluation.votes import maj_at_k, tally
from minicoder.tasks.boxed import equivalent, final_answer


def majority(answers: Sequence[str], right: Sequence[bool], k: int) -> float:
    """maj@k of one problem: its samples vote, equivalent final answers together.

    `right` says which samples were graded right; they are one answer. A sample that
    boxes nothing does not vote.
    """
    wrong = [box for answer, good in zip(answers, right, strict=True)
             if not good and (box := final_answer(answer)) is not None]
    groups = Counter(tally(wrong, equivalent))
    good = sum(right)
    return maj_at_k(good, list(groups.values()), k, len(answers) - good - len(wrong))
