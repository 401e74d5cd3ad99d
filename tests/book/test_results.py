"""The page of results says the numbers of its sources, and what they give again."""

import json
import re
import tomllib
from decimal import Decimal
from operator import gt
from pathlib import Path
from statistics import fmean

import pytest

from book.writers import results

ROOT = Path(__file__).parents[2]
PAGE = results.pages()["results"]
TOML = tomllib.loads((ROOT / "minicoder/evaluation/results.toml").read_text(
    encoding="utf-8"), parse_float=str)


def table(after):
    """The cells of the first table below a line that begins with `after`."""
    lines = PAGE[PAGE.index(f"\n{after}") + 1:].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return [rows[0], *rows[2:]]


@pytest.mark.parametrize("name", TOML)
def test_the_authors_numbers_are_printed_digit_by_digit(name):
    one = TOML[name]
    head, *rows = table(f"{one['title']}; reported by the authors ({one['source']})")
    assert [cell for cell in head if cell] == one["columns"]
    assert rows == [[str(cell) for cell in row] for row in one["rows"]]


@pytest.mark.parametrize("words", [
    # facts that do not come from the writer: DeepSeek-Coder-V2's LiveCodeBench by its
    # 82, 87 and 57 problems; parameters and caches of the released checkpoints
    "| DeepSeek-Coder-V2-Instruct | 43.4 | 43.36 |",
    "| DeepSeek-Coder-V2-Lite-Base | 86.4 | 85.43 |",
    "15,706,484,224 | 235,741,434,880 |", "2,661,150,208 | 21,375,800,320 |",
    "2,451,435,008 | 20,851,512,320 | 2.4B and 21B |",
    "110,592 | 1,966,080 |", "15,552 | 34,560 | 15.6K and 34.6K |", "2.25 groups",
    "0.1147 (Lite (16B)) and 0.1352 (236B)",
    "| 31.7 | 27.3 | 37.7 | 34.2 | 6.3 | 38.5 | 31.2 | 30.8 | 49.0 |",
    "| matched: new 1× − old 1× | +5.5 | +4.4 |", "new 2× − old 1× | +6.7 | +9.4 |",
    "The two cannot be compared", "74.3 and 51.5", "prose swaps the two",
])
def test_what_is_computed_again(words):
    assert words in PAGE


def test_averages_that_do_not_fit_are_named_and_no_others():
    def off(name):
        return {model for model, (printed, mean) in results.averages(name).items()
                if abs(printed - mean) > Decimal("0.1")}

    assert off("code") == {"GPT-4-Turbo-0409"}
    assert off("contests") == {"GPT-4o-0513"}
    assert off("infilling") == set(results.reported()["infilling"].rows)
    assert results.averages("repair") == {}
    assert len(results.averages("repobench")) == 16
    assert "11 of 16 printed averages" in PAGE


def found(name):
    return json.loads((ROOT / f"benchmarks/results/{name}.json").read_text("utf-8"))


def ours(made_by, remark=""):
    """The numbers of one of our tables, without their intervals."""
    rows = table("**Ours: a toy model, other tasks, not comparable** "
                 f"(`benchmarks/{made_by}.py`). {remark}")[1:]
    return [[float(cell.split()[0].replace("−", "-")) for cell in row[1:]]
            for row in rows]


def test_ours_are_the_scores_of_the_benchmarks():
    learning = found("learning")
    assert ours("learning", "120 held-out") == [
        [round(100 * row[key]["value"], 1) for key in ("pass@1", "greedy", "pass@8")]
        for seed in learning["seeds"].values() for row in seed["rows"]]
    assert ours("learning", "984 held-out lines") == [
        [round(100 * twin[key]["value"], 1) for key in ("fim", "prefix_only")]
        for twin in learning["twins"].values()]
    language = learning["seeds"]["0"]["language"]
    assert ours("learning", "The base model") == [
        [round(language[key][kind], 2) for kind in ("code", "math", "text")]
        for key in ("bits_per_byte", "gzip", "xz")]
    grid = found("context")["seeds"]["0"]["yarn"]["after"]["needle"]
    assert ours("context")[1] == [
        round(20 * sum(column)) for column in zip(*grid, strict=True)]


def test_ours_are_the_gains_of_the_benchmarks():
    assert ours("ablation") == [
        [round(gain[unit]["value"], 1 if unit == "lines" else 3)
         for unit in ("both", "added", "all", "lines")]
        for gain in found("ablation")["gains"].values()]
    runs = [seed["study"]["runs"] for seed in found("reward")["seeds"]]
    before, after = ({way: [run[way][at]["pass@1"] for run in runs] for way
                      in ("visible", "model", "all")} for at in (0, -1))
    assert ours("reward") == [
        [round(fmean(before[way]), 2), round(fmean(after[way]), 2),
         round(fmean(after[way]) - fmean(before[way]), 2)] for way in before]
    assert "Fewer tests reward than judge. In {} of {} seeds".format(
        sum(map(gt, after["visible"], after["model"])), len(runs)) in PAGE


def test_each_table_has_ours_or_says_that_there_is_none():
    sections = PAGE.split("\n## ")[1:-2]
    assert len(sections) == len(TOML) + 3
    for section in sections:
        assert "reported by the authors" in section.lower() or "figure 2" in section
        assert "**Ours:** not measured" in section or (
            "**Ours: a toy model, other tasks, not comparable**" in section), section


def test_files_and_tasks_that_it_names_exist():
    assert all((ROOT / path).exists() for path in re.findall(
        r"`((?:minicoder|benchmarks)/[\w/]+\.\w+)`", PAGE))
    from minicoder.tasks.families import KINDS
    assert set(re.findall(r"--tasks (\w+)`", PAGE)) <= set(KINDS)
    assert len(re.findall(r"--tasks (\w+)`", PAGE)) == len(results.ABSENT)
