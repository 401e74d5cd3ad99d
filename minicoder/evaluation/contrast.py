"""Arms of an ablation against one another: means, paired gains, and a page of them.

A run is one trained model's marks: {"corpus": "old" or "new", "times": 1 or 2, "seed",
"bits": of each file of the exam, "right": {language: [lines right, lines asked]},
"filled": those lines}.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from minicoder.data.funnel import size
from minicoder.data.sources import Document
from minicoder.evaluation.intervals import student

Arm = tuple[str, int]       # corpus, and how many times the budget
ARMS: tuple[Arm, ...] = (("old", 1), ("new", 1), ("old", 2), ("new", 2))
# what is called: the arm, minus the arm that it is compared with
GAINS: dict[str, tuple[Arm, Arm]] = {
    "matched: new 1× − old 1×": (("new", 1), ("old", 1)),
    "matched: new 2× − old 2×": (("new", 2), ("old", 2)),
    "unmatched, as in the paper (§1): new 2× − old 1×": (("new", 2), ("old", 1)),
    "tokens alone: old 2× − old 1×": (("old", 2), ("old", 1)),
    "tokens alone: new 2× − new 1×": (("new", 2), ("new", 1)),
}
PAPER_LANGUAGES = ("Python", "C++", "Java", "PHP", "TypeScript", "C#", "Bash",
                   "JavaScript")
# DeepSeek-Coder-V2 table 1, 1B models at 1T and 2T tokens, in per cent: HumanEval in
# those languages, the average as it is printed, and MBPP. There is no ("old", 2).
PAPER: dict[Arm, tuple[tuple[float, ...], float, float]] = {
    ("old", 1): ((30.5, 28.0, 31.7, 23.0, 30.8, 31.7, 9.5, 28.6), 26.7, 44.6),
    ("new", 1): ((36.0, 34.8, 31.7, 27.3, 37.7, 34.2, 6.3, 38.5), 31.2, 49.0),
    ("new", 2): ((37.2, 39.1, 32.3, 31.7, 34.6, 36.7, 12.0, 32.9), 32.0, 54.0),
}
UNITS = {"both": "bits per byte, languages of both corpora",
         "added": "bits per byte, languages only the new one has",
         "all": "bits per byte, all languages", "lines": "lines filled in, %"}


def by_language(run: dict, exam: Sequence[Document]) -> dict[str, float]:
    """Bits per byte of each language: all bits of its files over all their bytes."""
    return {language: sum(bits) / sum(sizes) for language, bits, sizes in (
        (language, [b for b, one in zip(run["bits"], exam, strict=True)
                    if one.language == language],
         [size(one) for one in exam if one.language == language])
        for language in sorted({one.language for one in exam}))}


def groups(exam: Sequence[Document], old: Sequence[str]) -> dict[str, list[str]]:
    """The exam's languages by what was trained on them; empty groups are left out."""
    there = sorted({one.language for one in exam})
    found = {"both": [name for name in there if name in old],
             "added": [name for name in there if name not in old], "all": there}
    return {group: names for group, names in found.items() if names}


def marks(run: dict, exam: Sequence[Document], old: Sequence[str]) -> dict[str, float]:
    """The few numbers of a run: every language counts the same, as in the paper."""
    values = by_language(run, exam)
    right, asked = map(sum, zip(*run["right"].values(), strict=True))
    return {group: fmean(values[name] for name in names)
            for group, names in groups(exam, old).items()} | {
        "lines": 100 * right / max(asked, 1)}


def over_files(after: Sequence[dict], before: Sequence[dict], exam: Sequence[Document],
               resamples: int = 1000, seed: int = 0) -> dict[str, float]:
    """The gain in bits per byte over all languages, and its interval over files.

    The mean of the seeds is held fixed, and the files of each language are redrawn
    (percentile bootstrap): how far would another exam of this kind move it?
    """
    random = np.random.default_rng(seed)
    change = (np.mean([run["bits"] for run in after], axis=0)
              - np.mean([run["bits"] for run in before], axis=0))
    sizes = np.array([size(one) for one in exam])
    names = np.array([one.language for one in exam])
    total, value = np.zeros(resamples), 0.0
    languages = np.unique(names)
    for language in languages:
        files = np.flatnonzero(names == language)
        value += change[files].sum() / sizes[files].sum() / len(languages)
        drawn = random.choice(files, (resamples, len(files)))
        total += change[drawn].sum(1) / sizes[drawn].sum(1) / len(languages)
    low, high = np.quantile(total, [0.025, 0.975]).tolist()
    return {"value": float(value), "low": low, "high": high, "n": len(exam)}


def contrast(runs: Sequence[dict], exam: Sequence[Document], old: Sequence[str]
             ) -> dict[str, dict]:
    """Means of the arms and gains between them, with 95 % intervals.

    "arms" and "gains" have Student's t intervals over seeds; a gain is paired: seed by
    seed, so that what a seed does to both arms cancels. "files" is `over_files`,
    "languages" the mean bits per byte of each language, by arm. Keys of arms are
    "old 1×".
    """
    by_arm = {arm: sorted((run for run in runs if (run["corpus"], run["times"]) == arm),
                          key=lambda run: run["seed"]) for arm in ARMS}
    found = {arm: [marks(run, exam, old) for run in part]
             for arm, part in by_arm.items()}
    languages = {arm: [by_language(run, exam) for run in part]
                 for arm, part in by_arm.items()}
    return {
        "arms": {called(arm): {unit: student([one[unit] for one in part])
                               for unit in part[0]} for arm, part in found.items()},
        "gains": {name: {unit: student([
            a[unit] - b[unit] for a, b in zip(found[to], found[of], strict=True)])
            for unit in found[to][0]} for name, (to, of) in GAINS.items()},
        "files": {name: over_files(by_arm[to], by_arm[of], exam)
                  for name, (to, of) in GAINS.items()},
        "languages": {called(arm): {name: fmean(one[name] for one in part)
                                    for name in part[0]}
                      for arm, part in languages.items()}}


def called(arm: Arm) -> str:
    """("old", 1) is called "old 1×"."""
    return f"{arm[0]} {arm[1]}×"


def interval(value: dict[str, float], digits: int, sign: str = "") -> str:
    """−0.12 (−0.20 to −0.04); `sign` "+" writes the sign of what is positive."""
    return "{} ({} to {})".format(*(f"{value[key]:{sign}.{digits}f}".replace("-", "−")
                                    for key in ("value", "low", "high")))


def lines_of(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table: its head is the first row."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return [title, "", head, "|" + "---|" * len(rows[0]), *body, ""]


def measured(found: dict[str, dict]) -> list[str]:
    """Our tables."""
    units = list(next(iter(found["arms"].values())))
    head = [UNITS[unit] for unit in units]

    def cells(row: dict[str, dict], sign: str = "") -> list[str]:
        return [interval(row[unit], 1 if unit == "lines" else 3, sign)
                for unit in units]

    gains = [[name, *cells(row, "+"), interval(found["files"][name], 3, "+")]
             for name, row in found["gains"].items()]
    arms = list(found["languages"])
    return [
        *lines_of("The arms, means over seeds (fewer bits are better):", [
            ["arm", *head],
            *([arm, *cells(row)] for arm, row in found["arms"].items())]),
        *lines_of("Gains, paired by seed (bits below 0 are a gain):", [
            ["gain", *head, "all languages, interval over files"], *gains]),
        *lines_of("Bits per byte by language, mean over seeds:", [
            ["language", *arms], *([language, *(
                f"{found['languages'][arm][language]:.3f}" for arm in arms)]
                for language in found["languages"][arms[0]])])]


def paper() -> list[str]:
    """The paper's table, and its gains."""
    rows = [["1B model, tokens", *PAPER_LANGUAGES, "average, printed",
             "average of the row", "MBPP"]]
    for (corpus, times), (scores, printed, mbpp) in PAPER.items():
        rows.append([f"{corpus} corpus, {times}T", *map(str, scores), str(printed),
                     f"{fmean(scores):.1f}", str(mbpp)])
    gains = [["gain in points", "HumanEval (Python)", "MBPP"]]
    for name, (to, of) in GAINS.items():
        if to in PAPER and of in PAPER:
            gains.append([name, f"{PAPER[to][0][0] - PAPER[of][0][0]:+.1f}",
                          f"{PAPER[to][2] - PAPER[of][2]:+.1f}"])
    return [*lines_of("HumanEval by language and MBPP, per cent, no intervals "
                      "given:", rows), *lines_of("Its gains:", gains)]
