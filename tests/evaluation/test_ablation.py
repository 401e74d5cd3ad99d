"""From corpora to a page: arms differ in one thing, a rerun trains nothing."""

import json
import random
import zipfile

import pytest

from minicoder.data.corpus import is_held_out, read_documents
from minicoder.data.packing import Shards
from minicoder.errors import UserError
from minicoder.evaluation import ablation as module
from minicoder.evaluation.ablation import ablation, holes_of
from minicoder.evaluation.arms import Exam
from minicoder.evaluation.compression import bits_per_byte
from minicoder.evaluation.contrast import ARMS, called
from minicoder.model.transformer import MiniCoder
from minicoder.stages import read_json

TINY = dict(old_languages=("Python",), seeds=(0, 1), steps=2, batch=2, window=128,
            megabytes=0.02, vocabulary=270, files=2, holes=2, scale=0.001,
            requirements=("einops",))


def some_code(number: int) -> str:
    """A program that is legal Python and Lua, and like no other."""
    draw = random.Random(number)
    words = ["".join(draw.choices("abcdefgh", k=4)) for _ in range(120)]
    return "".join(f"{words[i]} = '{words[i + 1]} {words[i + 2]}'\n"
                   for i in range(0, 120, 3))


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    names = {end: [f"part_{number}.{end}" for number in range(500)]
             for end in ("py", "lua")}
    held = [name for part in names.values()
            for name in list(filter(is_held_out, part))[:3]]
    assert len(held) == 6
    read = [name for part in names.values() for name in part[:40]]
    with zipfile.ZipFile(folder / "mixed-1.0.zip", "w") as archive:
        for number, name in enumerate(sorted({*held, *read})):
            archive.writestr(f"mixed-1.0/{name}", some_code(number))
    return TINY | {"archives": (folder,)}


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    return ablation(tmp_path_factory.mktemp("ablation") / "run", **settings)


@pytest.fixture(scope="module")
def found(run):
    return json.loads((run / "ablation.json").read_text())


def made(run, folder):
    return read_json(run / folder / "made_by.json")["settings"]


def test_every_arm_on_every_seed(run, found):
    assert [(r["seed"], r["corpus"], r["times"]) for r in found["runs"]] == [
        (seed, *arm) for seed in (0, 1) for arm in ARMS]
    assert set(found["arms"]) == {called(arm) for arm in ARMS}
    assert found["tokens"] == [2 * 2 * 128, 2 * 2 * 2 * 128]


def test_arms_differ_in_one_thing(run):
    one = made(run, "old-1x-0")
    for folder, changes in (("new-1x-0", {"shards"}), ("old-2x-0", {"steps"}),
                            ("old-1x-1", {"seed"})):
        other = made(run, folder)
        assert {key for key in one if one[key] != other[key]} == changes
    packs = [made(run, f"{name}_pack") for name in ("old", "new")]
    assert {key for key in packs[0] if packs[0][key] != packs[1][key]} == {"corpus"}
    corpora = [made(run, f"{name}_corpus") for name in ("old", "new")]
    assert {key for key in corpora[0] if corpora[0][key] != corpora[1][key]} == {
        "languages", "rules", "dedup"}


def test_2x_reads_every_row_once_and_1x_a_half_that_the_seed_picks(run):
    rows = Shards(run / "old_pack")
    assert len(rows) == 2 * 2 * 2
    order = [[row for step in range(4) for row in rows.chosen(step, 2, seed)]
             for seed in (0, 1)]
    assert sorted(order[0]) == sorted(order[1]) == list(range(8))
    assert order[0] != order[1]


def test_the_exam_is_common_held_out_and_unread(run, found):
    exam = read_documents(run / "exam", "heldout")
    assert [one.path for one in exam] == [one["path"] for one in found["exam"]]
    sat, paths = Exam(exam), {one.path for one in exam}
    for name in ("old", "new"):
        for one in read_documents(run / name, "train"):
            assert one.path not in paths and sat.copied(one.text) is None
    languages = found["corpora"]["old"]["languages"]
    assert set(languages) == {"Python"} < set(found["corpora"]["new"]["languages"])


def test_marks_are_the_model_s(run, found):
    exam = read_documents(run / "exam", "heldout")
    words, coder = MiniCoder.with_tokenizer(run / "new-2x-1")
    texts = [one.text for one in exam]
    bits = next(r["bits"] for r in found["runs"]
                if (r["corpus"], r["times"], r["seed"]) == ("new", 2, 1))
    whole = bits_per_byte(coder, words, texts, 128)
    assert sum(bits) / sum(len(t.encode()) for t in texts) == pytest.approx(whole, 1e-4)


def test_holes_are_those_that_fit_and_the_same_for_all(run, found):
    exam = read_documents(run / "exam", "heldout")
    words, _ = MiniCoder.with_tokenizer(run / "old-1x-0")
    none, few, many = (holes_of(exam, words, window, 2) for window in (64, 128, 999))
    assert none == [] and len(few) == len(many) == 2 * 2    # two languages
    asked = [{name: total for name, (_, total) in r["right"].items()}
             for r in found["runs"]]
    assert all(one == asked[0] for one in asked)
    assert sum(asked[0].values()) == len(few)


def test_a_rerun_trains_nothing_and_writes_the_same(run, settings, monkeypatch):
    before = [(run / f"ablation.{end}").read_bytes() for end in ("json", "md")]
    monkeypatch.setattr(module.MiniCoder, "with_tokenizer", None)
    ablation(run, **settings)
    assert [(run / f"ablation.{end}").read_bytes() for end in ("json", "md")] == before


def test_the_page_claims_no_reproduction(run):
    text = (run / "ablation.md").read_text()
    assert "on 2 seeds" in text and "reproduce nothing of it" in text
    for name in ("matched: new 1×", "unmatched, as in the paper (§1)", "30.8",
                 "favours the new corpus's rules", "of 500 to 4,000 bytes"):
        assert name in text


@pytest.mark.parametrize("seeds", [(), (0,), (1, 1)])
def test_an_interval_needs_two_seeds(tmp_path, seeds):
    with pytest.raises(UserError, match="two or more"):
        ablation(tmp_path / "out", seeds=seeds)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [{"steps": 3}, {"lr": 1e-3}, {"files": 1}])
def test_other_settings_are_refused(run, settings, change):
    with pytest.raises(UserError, match="was made with .*Choose another --out"):
        ablation(run, **settings | change)
