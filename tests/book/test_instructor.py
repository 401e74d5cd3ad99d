"""The teachers' page: its program marks notebooks, its answers are right."""

import re
import subprocess
import sys
from math import comb
from pathlib import Path

import nbformat
import torch

from minicoder.alignment.objectives import advantages, k3
from minicoder.config import PRESETS
from minicoder.model.rope import softmax_scale

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book/instructor.md").read_text(encoding="utf-8")


def test_the_program_marks_what_checks_printed(tmp_path):
    (program,) = re.findall(r"```python\n(# mark\.py\n.+?)```", PAGE, re.S)
    (tmp_path / "mark.py").write_text(program, encoding="utf-8")
    printed = ["✗ mla.cache_bytes: no.\n", "✓ mla.cache_bytes: right, all 11 rules "
               "hold.\n", "… mla.absorb: not written yet.\n", "✗ mla.score: no: 1.59\n"]
    cells = [nbformat.v4.new_code_cell(outputs=[
        nbformat.v4.new_output("stream", text=text)]) for text in printed]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "ann.ipynb")
    told = subprocess.run([sys.executable, "mark.py", "ann.ipynb"], cwd=tmp_path,
                          capture_output=True, encoding="utf-8", check=True).stdout
    # split_query was taken out of the notebook
    assert told == "ann: 1 of 4 mla.split_query mla.score mla.absorb\n"


def test_every_lesson_has_a_week_and_a_row():
    for source in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py")):
        weeks = PAGE.split("## Ten weeks")[1].split("**Week 1.**")[0]
        assert weeks.count(f"notebooks/{source.stem}.ipynb") == 1
        assert re.search(rf"^\| {source.name[:2]} \| .+\?", PAGE, re.M)


def test_homework_names_exercises_that_exist():
    for lesson, numbers in re.findall(r"(\d\d): ((?:\d, )*\d)", PAGE):
        (source,) = (ROOT / "notebooks").glob(f"{lesson}_*.py")
        for number in numbers.split(", "):
            assert f"### Exercise {number} ·" in source.read_text(encoding="utf-8")


def test_the_answers_of_the_exam():
    lite = PRESETS["lite_16b"]
    token = lite.cache_width * lite.num_hidden_layers * 2
    plain = lite.qk_head_dim ** -0.5
    rewards = torch.tensor([[1.0, 0, 0, 1]])
    found = [
        f"{token:,} bytes", f"{token * 131_072 / 2**30:.2f} GiB",
        f"{softmax_scale(lite) / plain:.2f}",
        f"±{advantages(rewards).max():.0f}; ±{0.5 / rewards.std():.3f}; "
        f"±{advantages(rewards, spread=False).max():.1f}",
        "; ".join(f"{x:.3g}" for x in k3(torch.tensor([1, 2, 0.5]).log()).tolist()),
        f"{1 - comb(7, 5) / comb(10, 5):.3f}", f"{1 - 0.7 ** 5:.3f}",
        f"{36.0 - 30.5:.1f} from the corpus", f"{37.2 - 36.0:.1f} from the second"]
    answers = PAGE.split("{dropdown} Answers")[1]
    assert [each for each in found if each not in answers] == []
