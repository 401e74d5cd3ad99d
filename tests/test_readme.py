"""What the README quotes stands in a file that a command made; what it names is there.

Not checked, because no committed file holds them: how long `make test` and the set-up
take, how many tests there are, and the demo's lines on documents, tokens and losses.
"""

import html
import re
from pathlib import Path

import pytest

from minicoder.config import parameter_count, preset
from minicoder.stages import read_json
from minicoder.tasks.families import KINDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FLAT = " ".join(README.split())
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
LEARNING = read_json(ROOT / "benchmarks/results/learning.json")
SEEDS = LEARNING["seeds"].values()
PICTURE = (ROOT / "figures/demo-light.svg").read_text(encoding="utf-8")


def results(name: str) -> dict:
    """The figures of one benchmark."""
    return read_json(ROOT / f"benchmarks/results/{name}.json")


def quoted(pattern: str) -> tuple[str, ...]:
    """The groups of what the README says once, wherever its lines end."""
    found = re.findall(pattern, FLAT)
    assert len(found) == 1, f"{pattern}: {found}"
    return found[0] if isinstance(found[0], tuple) else found


def test_the_lines_the_alternative_text_and_the_picture_are_of_one_run():
    alt = quoted(r'<img src="figures/demo-light\.svg" alt="([^"]*)">')[0]
    assert f"<desc>{html.escape(alt)}</desc>" in PICTURE
    assert f"<title>{alt.split('. ')[0]}</title>" in PICTURE
    assert quoted(r"pass@1 base (\d+)%, sft (\d+)%, grpo (\d+)%") == tuple(
        re.findall(r"(\d+) %", alt)[:3])


def test_time_and_memory_of_the_demo():
    assert "some ten minutes on two quiet cores" in FLAT
    first = LEARNING["seeds"]["0"]
    assert 8 <= first["minutes"] <= 12
    assert float(quoted(r"at most ([\d.]+) GB of memory")[0]) == round(
        first["peak_mib"] / 1024, 1)


def test_grpo_sharpens_on_three_seeds():
    rows = [{row["name"]: row for row in seed["rows"]} for seed in SEEDS]
    gains = [100 * (row["grpo"]["pass@1"]["value"] - row["sft"]["pass@1"]["value"])
             for row in rows]
    low, high = map(int, quoted(r"better by (\d+) to (\d+) points on three seeds"))
    assert (low, high) == pytest.approx((min(gains), max(gains)), abs=0.501)
    assert len(SEEDS) == 3 and "greedy ones stay as they were" in FLAT
    for row in rows:
        before = row["sft"]["greedy"]
        assert before["low"] <= row["grpo"]["greedy"]["value"] <= before["high"]


def test_greedy_gains_from_a_start_that_knows_too_little():
    assert "from a start that knows too little, greedy ones gain too" in FLAT
    runs = [run for seed in results("grpo")["weak"].values() for run in seed.values()]
    assert len(runs) >= 3 and all(run["greedy gain"]["low"] > 0 for run in runs)


def test_lines_filled_in_with_and_without_fim_training():
    size, filled, n, alone = quoted(
        r"A model of ([\d.]+) million parameters fills in few lines: ([\d.]+) % of "
        r"([\d,]+), none without FIM training, yet ([\d.]+) % from")
    with_fim, without = LEARNING["twins"].values()
    assert size == f"{parameter_count(preset('toy')) / 1e6:.1f}"
    assert n == f"{with_fim['fim']['n']:,}" == f"{without['fim']['n']:,}"
    assert filled == f"{100 * with_fim['fim']['value']:.1f}"
    assert alone == f"{100 * with_fim['prefix_only']['value']:.1f}"
    assert without["fim"]["value"] == 0


def test_counts():
    assert quoted(r"untrusted programs of (\d+) languages") == [
        str(len(results("languages")["small"]))]
    assert quoted(r"tasks of (\d+) kinds") == [str(len(KINDS))]
    listed = (ROOT / "packages/list.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert quoted(r"a list of (\d+) packages") == [str(len(listed))]
    shards = results("plan")["Weights of real shards (full_236b)"]
    most = max(row["processes"] for row in shards)
    assert quoted(r"up to ([\d,]+) processes of a pretended cluster, to the byte") == [
        f"{most:,}"]
    assert all(row["differ"] == 0 for row in shards)
    assert quoted(r"reading (\d+) times further") == [str(
        results("context")["lengths"][-1] // results("context")["window"])]


def named_paths() -> list[str]:
    """Each path that the README links to, has in its list of rooms, or starts."""
    inside = re.findall(r"(?:\]\(|src=\"|srcset=\")([^)\"#:]+)[)\"]", README)
    rooms = re.findall(r"^    (\w[\w./]*[/y])  +\S", README, re.MULTILINE)
    words = re.findall(r"(?<![\w/.])((?:[a-z]\w*/)+\w+\.\w+)", README)
    return sorted({name for name in inside + rooms + words if not name.startswith(
        "runs/")})


@pytest.mark.parametrize("name", named_paths())
def test_each_path_is_there(name):
    assert (ROOT / name).exists()


def test_every_room_and_every_page_of_results_is_named():
    folders = {path.parent.relative_to(ROOT).as_posix() + "/"
               for path in ROOT.glob("minicoder/*/__init__.py")}
    assert folders <= set(named_paths())
    assert {path.relative_to(ROOT).as_posix()
            for path in ROOT.glob("benchmarks/results/*.md")} <= set(named_paths())


def test_each_command_is_there():
    targets = set(re.findall(r"^\.PHONY: (.*)", MAKEFILE, re.MULTILINE)[0].split())
    told = set(re.findall(r"(?:^    |`)make ([a-z]+)", README, re.MULTILINE))
    assert {"demo", "test"} < told <= targets
    assert targets - told <= {"help", "clean", "notebooks"}
    main = (ROOT / "minicoder/__main__.py").read_text(encoding="utf-8")
    commands = set(re.findall(r'"([a-z-]+)": \w+[,}]', main.partition("COMMANDS")[2]))
    assert {"demo", "sandbox"} < commands
    assert set(re.findall(r"-m minicoder ([a-z][\w-]*)", README)) <= commands
