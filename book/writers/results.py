"""The papers' tables, what they give when computed again, and what is measured here.

Printed numbers come from minicoder/evaluation/results.toml, ours from the files of
benchmarks/results/; everything else is computed while the page is written.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from statistics import fmean

import torch

from minicoder.config import ModelConfig, parameter_count, preset
from minicoder.evaluation.contrast import GAINS, UNITS, interval, paper
from minicoder.evaluation.intervals import student
from minicoder.evaluation.results import OURS, REPORTED, lines, markdown, reported
from minicoder.model.attention import GQA
from minicoder.model.rope import softmax_scale
from minicoder.stages import read_json

MEASURED = Path(__file__).parents[2] / "benchmarks/results"
LIVE = {"easy": 82, "medium": 87, "hard": 57}  # LiveCodeBench's problems
MODELS = {"Lite (16B)": "lite_16b", "236B": "full_236b"}
Row = list[str]

NOTES = {  # what to know beside the note of a table
    "code": "The paper's text speaks of seven more languages than Python (§4.1), the "
            "table has thirteen. Which version of MBPP+ was used is not said.",
    "infilling": "Weights by the number of tasks are likely, and not stated.",
    "general": "DeepSeek-V2-Lite Chat is fine-tuned without RL; whether RL was applied "
               "to DeepSeek-Coder-V2-Lite-Instruct is not said. That training on code "
               "keeps general ability is half true: BBH rises for both sizes, "
               "TriviaQA, NaturalQuestions and AGIEval fall for both.",
}
ABSENT = {  # a table without a measurement of ours: what minicoder has for its kind
    "contests": ("minicoder/tasks/contests.py", "contests"),
    "repobench": ("minicoder/tasks/crossfile.py", "crossfile"),
    "repair": ("minicoder/tasks/repair.py", "repair"),
    "understanding": ("minicoder/tasks/prediction.py", "prediction"),
    "mathematics": ("minicoder/tasks/words.py", "words"),
    "general": ("minicoder/tasks/choice.py", "choice"),
}


def measured(name: str) -> dict:
    """One file of benchmarks/results/."""
    return read_json(MEASURED / f"{name}.json")


def share(score: dict) -> str:
    """{value, low, high} as 43.9 % (38.0–50.0)."""
    value, low, high = (100 * score[key] for key in ("value", "low", "high"))
    return f"{value:.1f} % ({low:.1f}–{high:.1f})"


def ours(rows: list[Row], made_by: str, remark: str) -> list[str]:
    """A table of our own figures, marked as such."""
    head = f"**{OURS[0].upper()}{OURS[1:]}** (`benchmarks/{made_by}.py`)."
    return [f"{head} {remark}", "", *lines(rows), ""]


def averages(name: str) -> dict[str, tuple[Decimal, Decimal]]:
    """Each model's printed average and that of its row, where a table has one."""
    table = reported()[name]
    parts: dict[str, Callable[[str], bool]] = {
        "average": lambda c: c != "average", "mean": lambda c: c != "mean",
        "overall": lambda c: c in LIVE,
        "Python average": lambda c: c.startswith("Python") and "average" not in c,
        "Java average": lambda c: c.startswith("Java") and "average" not in c}
    found = {}
    for total in filter(parts.__contains__, table.columns):
        for model, values in table.rows.items():
            row = dict(zip(table.columns, values, strict=True))
            weights = {c: LIVE.get(c, 1) for c in row if parts[total](c)}
            label = model if len(parts.keys() & set(row)) == 1 else f"{model}, {total}"
            found[label] = (row[total], sum(row[c] * w for c, w in weights.items())
                            / sum(weights.values()))
    return found


def again(name: str) -> list[str]:
    """What the rows of a table give when their averages are computed again."""
    found = averages(name)
    if not found:
        return []
    # terms that were rounded before may move a mean by their own half digit
    off = {model: pair for model, pair in found.items()
           if abs(pair[0] - pair[1]) > Decimal("0.1")}
    how = {"code": "the mean of all languages and MBPP+",
           "contests": "the mean weighted by the number of problems"}.get(
               name, "the plain mean")
    text = (f"Computed again: {len(found) - len(off)} of {len(found)} printed averages "
            f"are {how}, within rounding.")
    shown = found if name == "contests" else off
    if not shown:
        return [text, ""]
    return [text, "", *lines([["", "printed", "computed again"], *(
        [model, str(a), f"{b:.2f}"] for model, (a, b) in shown.items())]), ""]


def code() -> list[str]:
    """What three seeds of the demo reach on its own tasks."""
    seeds = measured("learning")["seeds"]
    rows = [["model, seed", "pass@1, sampled", "pass@1, greedy", "pass@8"]]
    for seed, found in seeds.items():
        rows += [[f"{row['name']}, seed {seed}",
                  *(share(row[key]) for key in ("pass@1", "greedy", "pass@8"))]
                 for row in found["rows"]]
    tasks = seeds["0"]["rows"][0]["greedy"]["n"]
    return ours(rows, "learning", f"{tasks} held-out tasks of one family, short "
                "functions on lists; 95 % intervals over tasks.")


def infilling() -> list[str]:
    """Lines that the demo's model fills in, with and without FIM training."""
    twins = measured("learning")["twins"]
    return ours(
        [["trained with", "seeing both sides", "from the prefix alone"], *(
            [name, share(one["fim"]), share(one["prefix_only"])]
            for name, one in twins.items())], "learning",
        f"{twins['FIM 0.5']['fim']['n']} held-out lines, exact match.")


def base() -> list[str]:
    """How well the demo's base model predicts held-out text."""
    found = measured("learning")["seeds"]["0"]["language"]
    return ours(
        [["bits per byte", "code", "math", "text"], *(
            [name, *(f"{found[key][kind]:.2f}" for kind in ("code", "math", "text"))]
            for name, key in (("base model of the demo", "bits_per_byte"),
                              ("gzip -9", "gzip"), ("xz -9", "xz")))],
        "learning", "The base model solves none of the tasks above; how well it "
        "predicts held-out text can still be measured.")


def compared(name: str) -> list[str]:
    """The section of one table of results.toml: theirs, computed again, ours."""
    table = reported()[name]
    text = [f"## {table.title.split(':')[0].split(',')[0]}", "", markdown(table)]
    if name in NOTES:
        text += [f"> **Note.** {NOTES[name]}", ""]
    text += again(name)
    if name in ABSENT:
        path, task = ABSENT[name]
        return [*text, "**Ours:** not measured; the demo's coder learns one family of "
                f"tasks only. Tasks of this kind are in `{path}`; `python -m minicoder "
                f"evaluate FOLDER --tasks {task}` scores a coder on them.", ""]
    return text + {"code": code, "infilling": infilling, "base": base}[name]()


def ablation() -> list[str]:
    """Table 1, its two gains, and our small twin of it."""
    found = measured("ablation")
    units = list(UNITS)
    rows = [["gain", *UNITS.values()], *(
        [name, *(interval(found["gains"][name][unit], 1 if unit == "lines" else 3, "+")
                 for unit in units)] for name in GAINS)]
    return ["## The ablation of the corpus", "",
            f"A model of 1B parameters, {REPORTED} (arXiv 2406.11931, table 1).", "",
            *paper(),
            "> **Note.** The headline gains, +6.7 and +9.4 points, compare the new "
            "corpus at 2T tokens with the old one at 1T. At equal tokens they are +5.5 "
            "and +4.4. The printed average 31.2 is not the mean of its row. JavaScript "
            "and TypeScript get worse from 1T to 2T.", "",
            *ours(rows, "ablation", f"{len(found['settings']['seeds'])} seeds, 95 % "
                  "intervals over seeds; bits below 0 are a gain.")]


def needles() -> list[str]:
    """Figure 2 prints no numbers; ours are shares of needles found."""
    found = measured("context")
    rows = [["way", *(f"{length:,}" for length in found["lengths"])]]
    for way in next(iter(found["seeds"].values())):
        for when in ("before", "after"):
            grids = [seed[way][when]["needle"] for seed in found["seeds"].values()]
            found_at = zip(*(row for grid in grids for row in grid), strict=True)
            rows.append([f"{way}, {when}",
                         *(f"{100 * fmean(cells):.0f} %" for cells in found_at)])
    return ["## Needles in long texts", "",
            "The paper's figure 2 shows DeepSeek-Coder-V2's base model near the top of "
            "its scale of 1 to 10 at all lengths from 1K to 128K and all depths; it "
            "prints no values, and gives neither needle nor scorer (arXiv 2406.11931).",
            "", "> **Note.** V2-Lite's own window is 32K, Coder-V2-Lite's 128K. The "
            "released tokenizer still says 16,384 (`model_max_length`).", "",
            *ours(rows, "context", f"Seeds: {len(found['seeds'])}, so without "
                  "intervals. Needles found by length in tokens, from a window "
                  f"of {found['window']}, before and after {2 * found['steps']} steps "
                  "on longer rows.")]


def rewards() -> list[str]:
    """Figure 3, read off, and our study of weak tests."""
    seeds = [seed["study"]["runs"] for seed in measured("reward")["seeds"]]
    names = {"visible": "raw verdict of weak tests", "model": "reward model",
             "all": "all tests"}
    rows = [["reward", "pass@1 before", "pass@1 after", "gain, 95 % over seeds"]]
    for key, name in names.items():
        first, last = ([seed[key][at]["pass@1"] for seed in seeds] for at in (0, -1))
        gain = student([b - a for a, b in zip(first, last, strict=True)])
        rows.append([name, f"{fmean(first):.2f}", f"{fmean(last):.2f}",
                     interval(gain, 2, "+")])
    wins = sum(seed["visible"][-1]["pass@1"] > seed["model"][-1]["pass@1"]
               for seed in seeds)
    return ["## Raw verdicts or a reward model", "",
            f"{REPORTED.capitalize()} as a plot (arXiv 2406.11931, figure 3); our "
            "reading, approximate: pass@1 over RL steps 50 to 600.", "",
            *lines([["problems", "SFT", "raw verdict: range, last",
                     "reward model: range, last"],
                    ["LeetCode", "0.140", "0.117–0.164, 0.141", "0.164–0.227, 0.203"],
                    ["LeetCode-zh", "0.100", "0.086–0.133, 0.110",
                     "0.117–0.172, 0.141"]]), "",
            "> **Note.** The paper gives no hyper-parameter of its RL at all; those "
            "that are quoted for it are DeepSeekMath's.", "",
            *ours(rows, "reward", "Fewer tests reward than judge. In "
                  f"{wins} of {len(seeds)} seeds the raw verdict ends above the reward "
                  "model, where the paper has it the other way round.")]


def cache_rows(c: ModelConfig) -> dict[str, int]:
    """Numbers cached per token by four kinds of attention, over all layers."""
    heads, width = c.num_attention_heads, c.qk_nope_head_dim
    with torch.device("meta"):
        per_layer = {name: GQA(c.hidden_size, heads, groups, width).cache_width
                     for name, groups in (("MHA", heads), ("GQA, 8 groups", 8),
                                          ("MQA", 1))} | {"MLA": c.cache_width}
    return {name: count * c.num_hidden_layers for name, count in per_layer.items()}


def sizes() -> list[str]:
    """Table 1 of DeepSeek-V2 and the parameters, by the library's own formulas."""
    configs = {label: preset(name) for label, name in MODELS.items()}
    caches = {label: cache_rows(c) for label, c in configs.items()}
    formulas = {"MHA": "2 n_h d_h l", "GQA, 8 groups": "2 n_g d_h l",
                "MQA": "2 d_h l", "MLA": "(d_c + d_h^R) l"}
    first = next(iter(configs.values()))
    counts = {
        "total": [parameter_count(c) for c in configs.values()],
        "activated": [parameter_count(c, activated=True) for c in configs.values()],
        "activated, without the input embedding":
            [parameter_count(c, activated=True) - c.vocab_size * c.hidden_size
             for c in configs.values()]}
    printed = {"total": "16B and 236B", "activated": "",
               "activated, without the input embedding": "2.4B and 21B"}
    return [
        "## Sizes, computed again", "",
        "Numbers cached per token by the released shapes; formulas as in arXiv "
        "2405.04434, table 1, “printed” from its table 9.", "",
        *lines([["", "formula", *configs, "printed"], *(
            [name, f"${formula}$",
             *(f"{caches[label][name]:,}" for label in configs),
             {"MHA": "110.6K and 860.2K", "MLA": "15.6K and 34.6K"}.get(name, "")]
            for name, formula in formulas.items())]), "",
        f"MLA costs as much as {first.cache_width / 2 / first.qk_nope_head_dim} groups "
        "of GQA. The paper's large MHA model, 860.2K, is not what 128 heads in 60 "
        "layers need; its shape is not given.", "",
        f"Parameters to the unit; “printed” as {REPORTED} (arXiv 2406.11931, table 2).",
        "", *lines([["", *configs, "printed"], *(
            [name, *(f"{n:,}" for n in values), printed[name]]
            for name, values in counts.items())]), "",
        "The attention scale with YaRN is "
        + " and ".join(f"{softmax_scale(c):.4f} ({label})" for label, c
                       in configs.items()) + ".", "",
        "> **Note.** For the 236B the factor `mscale` = 1.0 is probable and not seen "
        "in the official file; the paper's text would mean 0.707, and a scale of "
        f"{softmax_scale(first):.4f}.", ""]


def pages() -> dict[str, str]:
    """The page `results`."""
    toy = parameter_count(preset("toy"))
    smaller = parameter_count(preset("lite_16b")) // toy
    text = ["# The papers' tables, and ours", "",
            f"Two kinds of numbers stand here. Those **{REPORTED}** keep the digits "
            "that were printed; nobody measured them here. Those marked **ours** come "
            f"from files of this repository and are about a model of {toy / 1e6:.1f} "
            "million parameters.", "",
            "**The two cannot be compared.** The tasks are others and far easier, the "
            f"model is {smaller:,} times smaller than the smaller one of the paper. "
            "Ours show that each step of the way works, and what it does and does not "
            "gain; they reproduce none of the papers' scores.", ""]
    for name in reported():
        text += compared(name)
    for section in (ablation, needles, rewards, sizes):
        text += section()
    text += ["## Sources", "",
             "DeepSeek-Coder-V2, [arXiv 2406.11931](https://arxiv.org/abs/2406.11931); "
             "DeepSeek-V2, [arXiv 2405.04434](https://arxiv.org/abs/2405.04434). Ours: "
             "`benchmarks/results/`. The authors' tables as data: "
             "`minicoder/evaluation/results.toml`.", ""]
    return {"results": "\n".join(text)}
