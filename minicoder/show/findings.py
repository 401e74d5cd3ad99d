"""What each section of the report says: one finding, computed from the run's files.

A sentence is honest both ways: when a step did not help, it says so. A section is a
function from the stage's files (see `report.FILES`) to what its template block shows.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from markupsafe import Markup

from minicoder.evaluation.intervals import wilson
from minicoder.show.charts import Line, Number, Point, finite, heat_map, line_chart
from minicoder.tokenizer import Tokenizer

KINDS = ("code", "math", "text")
MIXTURE = {"code": 0.60, "math": 0.10, "text": 0.30}  # DeepSeek-Coder-V2 §2
PASSED = "pass"
SAMPLE = '''def mean(values):
    """Return the average of a list."""
    total = 0
    for value in values:
        total += value
    return total / len(values)
'''
Files = dict[str, Any]
Section = dict[str, Any]
Score = dict[str, Number]


def percent(value: Number) -> str:
    """0.4386 → '43.9 %', with a space that does not break."""
    return f"{100 * value:.1f}\xa0%"


def bounds(score: Score) -> str:
    """{value, low, high} → '[38.0, 50.0]' in per cent."""
    return f"[{100 * score['low']:.1f},\xa0{100 * score['high']:.1f}]"


def interval(score: Score) -> str:
    """{value, low, high} → '43.9 % [38.0, 50.0]'."""
    return f"{percent(score['value'])}\xa0{bounds(score)}"


def change(old: Score, new: Score) -> str:
    """Say how `new` differs from `old`, and whether the intervals allow to say it."""
    points = 100 * (new["value"] - old["value"])
    if new["low"] > old["high"]:
        return f"rises by {points:.1f} points"
    if new["high"] < old["low"]:
        return f"falls by {-points:.1f} points"
    return f"moves by {points:+.1f} points, within its intervals"


def headlines(stages: dict[str, Files | None]) -> list[tuple[str, str, str, str]]:
    """The run's four numbers: (section, label, value, what stands beside it)."""
    tiles = []
    if packed := stages["pack"]:
        total, read = sum(packed["pack"]["tokens"].values()), stages["corpus"]
        rules = read["funnel"]["rules"] if read else []
        note = f"from {rules[0]['documents_in']:,} documents read" if rules else ""
        tiles.append(("pack", "training tokens", f"{total / 1e6:.2f} M", note))
    if measured := stages["language"]:
        scores = measured["scores"]
        model, gzip, xz = (scores[k]["code"] for k in ("bits_per_byte", "gzip", "xz"))
        tiles.append(("compression", "bits per byte, held-out code", f"{model:.2f}",
                      f"gzip -9 {gzip:.2f}, xz {xz:.2f}"))
        fim, alone = (scores["infilling"][key] for key in ("fim", "prefix_only"))
        tiles.append(("infilling", "lines infilled exactly", percent(fim["value"]),
                      f"{bounds(fim)}; without the suffix {percent(alone['value'])}"))
    if judged := stages["evaluate"]:
        *others, last = judged["scores"]["rows"]
        known = [f"{row['name']} {percent(row['pass@1']['value'])}" for row in others]
        score = last["pass@1"]
        tiles.append(("evaluate", f"pass@1 sampled, {last['name']}",
                      percent(score["value"]), "; ".join([bounds(score), *known])))
    return tiles


def curve(files: Files, field: str) -> list[Point]:
    """One field of metrics.jsonl over steps; the loss without its balance terms."""
    return finite((row.get("step"), row.get(f"language_{field}", row.get(field)))
                  for row in files["metrics"])


def ends(points: list[Point]) -> tuple[float, float]:
    """Means of the first and of the last tenth of a curve; NaN without points."""
    window, values = max(1, len(points) // 10), [y for _, y in points] or [math.nan]
    return sum(values[:window]) / window, sum(values[-window:]) / window


def corpus(files: Files, folder: Path) -> Section:
    """How many documents pass, what removed most, the mixture by bytes."""
    funnel = files["funnel"]
    rules = funnel["rules"]
    first = max((rule["documents_in"] for rule in rules), default=0)
    removed = sum(rule["documents_removed"] for rule in rules)
    finding = f"{first - removed:,} of {first:,} documents pass {len(rules)} rules"
    if removed:
        worst = max(rules, key=lambda rule: rule["documents_removed"])
        finding += f"; “{worst['rule']}” removes most"
    sizes = {kind: funnel["kept"][kind]["bytes"] for kind in KINDS}
    total = sum(sizes.values()) or 1
    return {"finding": finding, "first": first or 1, "total": total,
            "shares": {kind: size / total for kind, size in sizes.items()},
            "origins": sorted(funnel["by_origin"].items(),
                              key=lambda item: -item[1]["bytes"])}


def tokenizer(files: Files, folder: Path) -> Section:
    """Bytes for each token, and a sample in tokens when the tokenizer is there."""
    stats = files["stats"]
    rates = stats["bytes_per_token"]
    tokens = []
    if (folder / "tokenizer" / "tokenizer.json").exists():
        trained = Tokenizer.load(folder / "tokenizer")
        tokens = [trained.decode([i]) for i in trained.encode(SAMPLE)]
    return {"finding": f"With {stats['vocab_size']:,} tokens, one of them stands for "
                       f"{rates['code']:.2f} bytes of held-out code",
            "rates": {kind: rates[kind] for kind in KINDS if kind in rates},
            "peak": max(rates.values()), "longest": stats["longest_tokens"][:24],
            "tokens": tokens, "sample_bytes": len(SAMPLE)}


def pack(files: Files, folder: Path) -> Section:
    """Size of the training data in tokens, and its infilling share."""
    packed = files["pack"]
    total = sum(packed["tokens"].values())
    return {"finding": f"{total / 1e6:.2f} M tokens fill {packed['sequences']:,} "
                       f"sequences of {packed['sequence_length']:,}", **packed}


def loss_chart(files: Files, colour: str, what: str) -> Markup:
    """The loss by step, thin, with its running mean and its last value."""
    points = curve(files, "loss")
    first, last = ends(points)
    line = [Line(f"{last:.2f}", points, colour, trace=len(points) > 30)]
    return line_chart(line, f"{what} by step, from {first:.2f} to {last:.2f}.",
                      "step", "nats per token")


def expert_load(files: Files) -> Section:
    """The load map, and how far the busiest expert is from a fair share at the end."""
    if not (rows := [row for row in files["metrics"] if row.get("expert_load")]):
        return {"map": "", "text": ""}
    fair = [share * len(layer) for layer in rows[-1]["expert_load"] for share in layer]
    text = (f"At the end the busiest expert gets {max(fair):.1f} × a fair share of the "
            f"tokens, the idlest {min(fair):.1f} ×")
    return {"text": text, "map": heat_map([row["expert_load"] for row in rows],
                                          [row["step"] for row in rows], text)}


def descent(files: Files, what: str) -> tuple[str, float]:
    """What became of a loss, and where it ended, in nats per token."""
    first, last = ends(curve(files, "loss"))
    return (f"{what} {'falls' if last < first else 'does not fall'}: {first:.2f} nats "
            f"a token in the first tenth of the steps, {last:.2f} in the last"), last


def pretrain(files: Files, folder: Path) -> Section:
    """The loss, and how evenly the experts are used."""
    finding, end = descent(files, "The loss")
    loss, load = loss_chart(files, "base", "Pre-training loss"), expert_load(files)
    return {"finding": finding, "end": end, "load": load, "loss": loss}


def compression(files: Files, folder: Path) -> Section:
    """Bits a byte beside what general compressors need for the same files."""
    model, gzip, xz = (files["scores"][key] for key in ("bits_per_byte", "gzip", "xz"))
    gaps = [f"{abs(model['code'] - other['code']):.2f} "
            f"{'fewer' if model['code'] < other['code'] else 'more'} than {name}"
            for name, other in (("gzip -9", gzip), ("xz", xz))]
    kinds = [kind for kind in KINDS if kind in model]
    return {"finding": f"Held-out code costs {model['code']:.2f} bits a byte, "
                       + " and ".join(gaps),
            "kinds": kinds, "rows": (("model", model), ("xz", xz), ("gzip -9", gzip)),
            "peak": max(t[kind] for t in (model, gzip, xz) for kind in kinds)}


def infilling(files: Files, folder: Path) -> Section:
    """Exact match with and without the suffix, and examples of both outcomes."""
    scores, examples = files["scores"]["infilling"], files["scores"]["examples"]
    fim, alone = scores["fim"], scores["prefix_only"]
    verb = ("helps" if fim["low"] > alone["high"] else
            "hurts" if fim["high"] < alone["low"] else "makes no clear difference")
    right = [example for example in examples if example["exact"]]
    wrong = [example for example in examples if not example["exact"]]
    return {"finding": f"Seeing the suffix {verb}: {percent(fim['value'])} of the "
                       f"lines come out exact, {percent(alone['value'])} without it",
            "scores": (("prefix and suffix", fim), ("prefix only", alone)),
            "examples": [*right[:3], *wrong[:max(1, 6 - len(right))]][:6]}


def recall(grid: list[list[Number]], columns: list[int], trials: int) -> Score:
    """Needles found in some columns of a grid, with Wilson's interval."""
    cells = [row[column] for row in grid for column in columns]
    return wilson(round(sum(cells) * trials), len(cells) * trials)


def extend(files: Files, folder: Path) -> Section:
    """Needle recall beyond the old window, before and after YaRN."""
    needle, old = files["needle"], files["needle"]["window_before"]
    far = [i for i, length in enumerate(needle["lengths"]) if length > old]
    before, after = (recall(needle[when], far, needle["trials"])
                     for when in ("before", "after"))
    return {"finding": f"Beyond {old:,} tokens, needle recall "
                       f"{change(before, after)}, from {percent(before['value'])} to "
                       f"{percent(after['value'])}",
            "grids": (("before", old, needle["before"]),
                      ("after", needle["window_after"], needle["after"])),
            "recall": (("before", before), ("after", after)), "probes": before["n"],
            "bits": files["scores"]["bits_per_byte_extended"]}


def sft(files: Files, folder: Path) -> Section:
    """The loss on answers."""
    return {"finding": descent(files, "The loss on answers")[0],
            "loss": loss_chart(files, "sft", "Loss on answers")}


def feedback(files: Files, folder: Path) -> Section:
    """Verdicts of the sampled programs."""
    verdicts = files["feedback"]["verdicts"]
    total = sum(verdicts.values())
    return {"finding": f"{percent(verdicts.get(PASSED, 0) / max(1, total))} of "
                       f"{total:,} sampled programs pass when they are run",
            "total": total or 1,
            "verdicts": sorted(verdicts.items(), key=lambda item: -item[1])}


def reward(files: Files, folder: Path) -> Section:
    """Accuracy beside the commoner verdict, and the calibration plot."""
    table = files["calibration"]
    always = max(table["base_rate"], 1 - table["base_rate"])
    accuracy = wilson(round(table["accuracy"] * table["n"]), table["n"])
    verb = "beats" if accuracy["low"] > always else "does not clearly beat"
    bins = sorted((b["predicted"], b["observed"]) for b in table["bins"] if b["n"])
    miss = max((abs(said - seen) for said, seen in bins), default=0.0)
    text = f"Predictions miss the observed pass rate by {100 * miss:.0f} points at most"
    plot = line_chart(
        [Line("perfect", [(0.0, 0.0), (1.0, 1.0)], "muted", dashed=True),
         Line("model", finite(bins), "sft", dots=True)],
        f"{text}: {len(bins)} bins beside the diagonal of perfect calibration.",
        "predicted chance to pass", "share that passed", (0.0, 1.0), 300, (0.0, 1.0))
    return {"finding": f"The reward model {verb} the commoner verdict: right on "
                       f"{percent(accuracy['value'])} of programs against "
                       f"{percent(always)}",
            "plot": plot, "accuracy": accuracy, "calibrated": text}


def grpo(files: Files, folder: Path) -> Section:
    """Pass rate and reward of the rollouts, and the distance from the SFT model."""
    passed, kl = curve(files, "pass"), curve(files, "kl")
    first, last = ends(passed)
    verb = "rises" if last > first else "does not rise"
    lines, rewards = [Line("pass", passed, "grpo", trace=True)], curve(files, "reward")
    if any(abs(r[1] - p[1]) > 1e-3 for r, p in zip(rewards, passed, strict=False)):
        lines.append(Line("reward", rewards, "muted", trace=True, dashed=True))
    if any(y for _, y in kl):
        title = f"KL divergence from the SFT model: {ends(kl)[1]:.3f} nats at the end"
        side = [Line("KL", kl, "grpo", trace=True)], title, "step", "nats per token"
    else:  # beta = 0: no reference model was there to measure a distance from
        title = "Groups whose samples differ in reward; only they give a gradient"
        kept = Line("groups", curve(files, "groups_kept"), "grpo", trace=True)
        side = [kept], title, "step", "groups per step"
    return {"finding": f"The share of rollouts that pass {verb}: {percent(first)} in "
                       f"the first tenth of the steps, {percent(last)} in the last",
            "pass_chart": line_chart(
                lines, "Share of passing rollouts and their mean reward by step.",
                "step", "mean over rollouts"),
            "side": title, "side_chart": line_chart(*side)}


def evaluate(files: Files, folder: Path) -> Section:
    """pass@k of base, SFT and GRPO; whether RL taught, sharpened or did neither."""
    scores = files["scores"]
    panels = (("pass@1", f"pass@1, sampled at T = {scores['temperature']:g}"),
              ("greedy", "pass@1, greedy"), ("pass@8", "pass@8, sampled"))
    rows = {row["name"]: row for row in scores["rows"]}
    if not {"sft", "grpo"} <= set(rows):
        return {"finding": f"{scores['tasks']:,} held-out tasks", "note": "",
                "panels": panels}
    sampled, greedy = (change(rows["sft"][key], rows["grpo"][key])
                       for key in ("pass@1", "greedy"))
    if not sampled.startswith("rises"):
        note = "This run does not show that GRPO helped."
    elif greedy.startswith("rises"):
        note = "GRPO did more than sharpen: greedy decoding gained too."
    elif greedy.startswith("falls"):
        note = "Samples got better at the cost of greedy decoding."
    else:
        note = ("GRPO sharpened: it draws more often what greedy decoding gave "
                "already; greedy itself did not clearly move.")
    return {"finding": f"From SFT to GRPO, sampled pass@1 {sampled}; greedy {greedy}",
            "note": note, "panels": panels}
