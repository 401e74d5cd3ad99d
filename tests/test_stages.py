"""Stages: finished ones are skipped, others are refused, nothing is left half done."""

import hashlib
import json
import math
import os
import shlex
import sys
import time
from contextlib import ExitStack

import pytest
from disk import small_disk
from miniatures import LITE, random_model

from minicoder import stages
from minicoder.__main__ import main
from minicoder.data.corpus import build_corpus
from minicoder.errors import UserError
from minicoder.stages import MADE_BY, STARTED, read_json, stage, write_json

SETTINGS = {"steps": 3, "lr": 0.5, "names": ["a", "b"]}


def finish(folder, settings=SETTINGS, inputs=(), seed=0, text="done"):
    with stage(folder, "sft", settings, inputs, seed) as run:
        if not run.finished:
            (run.work / "text.txt").write_text(text)
            run.headline = "a headline"
    return folder


def content(folder):
    return {path.relative_to(folder): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


# --- which folders are taken up

def test_a_finished_folder_is_skipped(tmp_path, capsys):
    folder = finish(tmp_path / "out")
    assert "a headline" in capsys.readouterr().out
    before = content(folder)
    with stage(folder, "sft", dict(SETTINGS), seed=0) as run:
        assert run.finished and run.work == folder
    assert content(folder) == before and capsys.readouterr().out == ""
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("settings, seed, said", [
    (SETTINGS | {"steps": 4}, 0, "steps = 3, and now 4"),
    (SETTINGS | {"lr": 0.25}, 0, "lr = 0.5, and now 0.25"),
    (SETTINGS | {"names": ["a"]}, 0, r"names = \['a', 'b'\], and now \['a'\]"),
    (SETTINGS | {"new": 1}, 0, "new = None, and now 1"),
    (SETTINGS, 1, "seed = 0, and now 1")])
def test_other_settings_are_refused(tmp_path, finished, settings, seed, said):
    folder = tmp_path / "out"
    if finished:
        finish(folder)
    else:
        with pytest.raises(KeyboardInterrupt), stage(folder, "sft", SETTINGS, seed=0):
            raise KeyboardInterrupt
    before = content(tmp_path)
    with pytest.raises(UserError, match=f"out.*was made with {said}"):
        finish(folder, settings, seed=seed)
    assert content(tmp_path) == before


def test_other_inputs_are_refused(tmp_path):
    first = finish(tmp_path / "first")
    folder = finish(tmp_path / "out", inputs=[first])
    finish(folder, inputs=[first])
    (first / MADE_BY).write_text((first / MADE_BY).read_text() + " ")
    with pytest.raises(UserError, match="was made with first = "):
        finish(folder, inputs=[first])


def test_inputs_of_one_name_are_told_apart(tmp_path):
    one, other = (finish(tmp_path / name / "grpo", text=name) for name in "ab")
    folder = finish(tmp_path / "out", inputs=[one, other])
    assert len(read_json(folder / MADE_BY)["inputs"]) == 2


@pytest.mark.parametrize("name", ["out", "out.partial"])
def test_a_folder_of_someone_else_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.tex").write_text("years of work")
    before = content(tmp_path)
    with pytest.raises(UserError, match=f"{name} exists and no stage of minicoder"):
        finish(tmp_path / "out")
    assert content(tmp_path) == before


def test_an_input_must_be_a_finished_stage(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="model is not the folder of a finished stage"):
        finish(tmp_path / "out", inputs=[tmp_path / "model"])
    assert not (tmp_path / "out.partial").exists()


# --- what is written

def test_made_by_tells_everything(tmp_path):
    first = finish(tmp_path / "first")
    with stage(tmp_path / "out", "sft", SETTINGS, [first], 7) as run:
        assert (run.work / STARTED).exists() and not run.resumed
        (run.work / "deep").mkdir()
        (run.work / "deep" / "a.bin").write_bytes(b"\0" * 999)
        (run.work / "b.txt").write_text("ü")
        ballast = bytearray(os.urandom(1)) * (64 << 20)
        run.headline, run.device = "1.8 bits", "cuda"
        time.sleep(0.2)
        del ballast
    made = read_json(tmp_path / "out" / MADE_BY)
    assert made["stage"] == "sft" and made["seed"] == 7
    assert made["settings"] == SETTINGS | {"seed": 7}
    assert made["inputs"] == {
        "first": hashlib.sha256((first / MADE_BY).read_bytes()).hexdigest()}
    assert made["outputs"] == {
        "deep/a.bin": {"bytes": 999, "sha256": hashlib.sha256(bytes(999)).hexdigest()},
        "b.txt": {"bytes": 2, "sha256": hashlib.sha256("ü".encode()).hexdigest()}}
    assert set(map(str, content(tmp_path / "out"))) == {"deep/a.bin", "b.txt", MADE_BY}
    assert (made["headline"], made["device"]) == ("1.8 bits", "cuda")
    assert 0.2 <= made["seconds"] < 60 and 64 < made["peak_mib"] < 16_000
    assert {"minicoder", "python", "torch"} <= set(made["versions"])
    assert shlex.split(made["command"])[:6] == [
        "python", "-m", "minicoder", "sft", "--out", str(tmp_path / "out")]


def test_the_command_repeats_the_stage(tmp_path, capsys):
    source = tmp_path / "my code; rm *"     # a shell must not take it apart
    source.mkdir()
    (source / "a.py").write_text("".join(
        f"def function_{i}(value):\n    return value * {i} + {i * i}\n\n\n"
        for i in range(20)))
    folder = build_corpus(tmp_path / "corpus", [source], [], scale=0.25, seed=3)
    made = read_json(folder / MADE_BY)
    words = shlex.split(made["command"])
    capsys.readouterr()
    assert main(words[3:]) == 0     # the same settings: there is nothing to do
    assert capsys.readouterr().out == ""
    words[words.index(str(folder))] = str(tmp_path / "again")
    assert main(words[3:]) == 0
    again = read_json(tmp_path / "again" / MADE_BY)
    assert again["settings"] == made["settings"]
    assert again["outputs"] == made["outputs"]


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path):
    write_json(tmp_path / "a.json", {"old": "ü"})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"new": object()})
    with pytest.raises(UnicodeEncodeError):
        write_json(tmp_path / "a.json", {"new": "\ud800"})
    assert content(tmp_path).keys() == {(tmp_path / "a.json").relative_to(tmp_path)}
    assert read_json(tmp_path / "a.json") == {"old": "ü"}


@pytest.mark.parametrize("text, said", [
    ("{", "cannot be read as JSON"), ("[1]", "holds a list"), (None, "does not exist"),
    ("\udcff", "cannot be read as JSON")])
def test_json_that_is_none_is_named(tmp_path, text, said):
    if text is not None:
        (tmp_path / "a.json").write_text(text, errors="surrogateescape")
    with pytest.raises(UserError, match=f"a.json {said}"):
        read_json(tmp_path / "a.json")


def test_where_memory_is_not_told_no_stage_begins(tmp_path, monkeypatch):
    def no_proc(path):
        raise FileNotFoundError(path)

    assert 64 < stages.peak_memory() < 64_000
    with monkeypatch.context() as patch:
        patch.setattr(stages.Path, "read_text", no_proc)
        assert 64 < stages.peak_memory() < 64_000  # as macOS tells it
        patch.setitem(sys.modules, "resource", None)  # as on Windows
        assert math.isnan(stages.peak_memory())
        with pytest.raises(UserError, match="need Linux, macOS or WSL"):
            finish(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# --- interruptions

def test_an_interrupted_stage_finds_its_work_again(tmp_path):
    with pytest.raises(KeyboardInterrupt), stage(tmp_path / "out", "sft", {}) as run:
        (run.work / "half").write_text("half")
        raise KeyboardInterrupt
    assert not (tmp_path / "out").exists()
    with stage(tmp_path / "out", "sft", {}) as run:
        assert run.resumed and (run.work / "half").read_text() == "half"
    assert read_json(tmp_path / "out" / MADE_BY)["resumed"] is True


def test_what_was_refused_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="learning rate"):
        with stage(tmp_path / "out", "sft", {"lr": 9}):
            raise UserError("a smaller learning rate may help")
    assert list(tmp_path.iterdir()) == []
    finish(tmp_path / "out", {"lr": 1})


def test_checkpoints_stay_when_training_ends_in_no_number(tmp_path):
    with pytest.raises(UserError, match="learning rate"):
        with stage(tmp_path / "out", "sft", {"lr": 9}) as run:
            (run.work / "state/step-0000400").mkdir(parents=True)
            raise UserError("a smaller learning rate may help")
    assert (tmp_path / "out.partial/state/step-0000400").is_dir()


@pytest.mark.parametrize("call", range(12))
def test_a_kill_at_any_call_of_the_end(tmp_path, call):
    """The process dies before the n-th call that changes the disk while sealing."""
    class Killed(BaseException):
        pass

    def dying(real):
        def instead(*args):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(*args)
        return instead

    folder, left = tmp_path / "out", [call]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(
            (Killed, StopIteration)):
        with stage(folder, "sft", {"lr": 1}) as run:
            (run.work / "text.txt").write_text("done")
            for module, name in ((os, "replace"), (os, "rename"), (os, "fsync"),
                                 (stages, "sha256")):
                patch.setattr(module, name, dying(getattr(module, name)))
        raise StopIteration     # sealing needs fewer calls than that
    if not folder.exists():
        with pytest.raises(UserError, match="lr = 1, and now 2"):
            finish(folder, {"lr": 2}, seed=None)
    finish(folder, {"lr": 1}, seed=None)
    assert set(read_json(folder / MADE_BY)["outputs"]) == {"text.txt"}
    assert set(map(str, content(folder))) == {"text.txt", MADE_BY}


# --- full disks

@pytest.fixture(params=["mounted", "limited"])
def disk(request, tmp_path):
    with small_disk(tmp_path / "disk", request.param == "mounted") as found:
        if found is None:
            pytest.skip("no file system can be mounted here")
        yield found


def write_a_long_report(run):
    write_json(run.work / "report.json", {"text": "x" * 300_000})


def write_a_model(run):
    random_model(LITE).save_pretrained(run.work)


def write_a_long_headline(run):    # which made_by.json is to hold
    run.headline = "x" * 20_000


@pytest.mark.parametrize("write", [
    write_a_long_report, write_a_model, write_a_long_headline])
def test_a_full_disk_is_one_sentence(disk, write):
    other = finish(disk.folder / "other")
    before, folder = content(other), disk.folder / "out"
    with ExitStack() as full, pytest.raises(UserError, match=(
            r"^The disk is full: \S*out.partial could not be written .*\. "
            r"Free some space and run the same command again\.$")):
        with stage(folder, "sft", {"lr": 1}) as run:
            full.enter_context(disk.room(16_384))
            write(run)
    assert not folder.exists() and content(other) == before
    assert set(map(str, content(disk.folder / "out.partial"))) == {STARTED}
    with stage(folder, "sft", {"lr": 1}) as run:     # there is room again
        assert run.resumed
        write(run)
    assert STARTED not in map(str, content(folder))
    assert json.loads((folder / MADE_BY).read_text())["headline"] == run.headline
