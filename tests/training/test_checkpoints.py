"""Checkpoints to resume from: kills, damage and full disks leave one that is whole."""

import os
import random
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from dealt import Note
from disk import small_disk
from miniatures import LITE, random_model
from torch import nn

from minicoder.parallel.layout import ALONE
from minicoder.parallel.shards import load_shards, save_shards
from minicoder.stages import read_json
from minicoder.training.checkpoints import Draws
from minicoder.training.optimizer import adamw

FILES = ("shards-00000.safetensors", "kept-00000.json", "state.json")


def save_state(folder, step, model, optimizer, kept=None, count=2):
    save_shards(folder, step, model, optimizer, kept or {}, ALONE, count)


def load_state(folder, model, optimizer, kept=None):
    return load_shards(folder, model, optimizer, kept or {}, ALONE)


def pair(seed=0):
    """A small model and its optimizer, `seed` steps old."""
    model = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3, bias=False))
    optimizer = adamw(model, 0.1)
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        nn.init.normal_(weight, generator=generator)
    for _ in range(seed):
        model(torch.randn(4, 5, generator=generator)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def same(first, second):
    for one, other in zip(first, second, strict=True):
        one, other = one.state_dict(), other.state_dict()
        one, other = (s["state"] if "state" in s else {0: s} for s in (one, other))
        if one.keys() != other.keys() or any(
                not torch.equal(one[i][n], other[i][n]) for i in one for n in one[i]):
            return False
    return True


@pytest.fixture
def folder(tmp_path):
    for step in (10, 20):
        save_state(tmp_path / "state", step, *pair(step), {"note": Note(step)})
    return tmp_path / "state"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_model_and_optimizer_come_back(folder):
    found = pair()
    assert load_state(folder, *found) == 20
    assert same(found, pair(20)) and not same(found, pair(10))


def test_two_are_kept(folder):
    save_state(folder, 30, *pair(30))
    assert names(folder) == ["step-0000020", "step-0000030"]


@pytest.mark.parametrize("count, left", [(1, [40]), (3, [20, 30, 40])])
def test_as_many_are_kept_as_asked_for(folder, count, left):
    for step in (30, 40):
        save_state(folder, step, *pair(1), count=count)
    assert names(folder) == [f"step-00000{step}" for step in left]


def test_what_is_kept_comes_back_and_is_asked_for(folder, capsys):
    note = Note()
    assert load_state(folder, *pair(), {"note": note}) == 20 and note.value == 20
    save_state(folder, 30, *pair(1))    # without the note: not whole for who needs it
    assert load_state(folder, *pair(), {"note": note}) == 20
    assert "step-0000030 is damaged" in capsys.readouterr().out
    assert load_state(folder, *pair()) == 30


def draw():
    """A number of each generator."""
    return (random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(),
            torch.rand(1).item(), torch.randn(1).item())


def test_all_generators_go_on_where_they_were(tmp_path):
    for burn in range(3):       # a second normal number may be left over from the first
        [random.gauss(0, 1) and np.random.randn() for _ in range(burn)]
        save_state(tmp_path, burn, *pair(), {"draws": Draws()})
        wanted = [draw() for _ in range(400)]
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(burn + 100)
        assert load_state(tmp_path, *pair(), {"draws": Draws()}) == burn
        assert [draw() for _ in range(400)] == wanted


def test_without_a_checkpoint_nothing_changes(tmp_path):
    found = pair(3)
    assert load_state(tmp_path / "none", *found) == 0 and same(found, pair(3))


@pytest.fixture(scope="module")
def ten():
    return pair(10)


def falls_back(folder, capsys, ten):
    """Whether the newest is passed over, said so, and the one before it is taken."""
    found, note = pair(), Note()
    step = load_state(folder, *found, {"note": note})
    said = capsys.readouterr().out
    assert ("step-0000020 is damaged; going back" in said) == (step == 10)
    return step == note.value == 10 and same(found, ten)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_noticed(folder, capsys, ten, name):
    path, draw = folder / "step-0000020" / name, random.Random(name)
    whole = path.read_bytes()
    places = draw.sample(range(8 * len(whole)), 60)
    if name == "state.json":    # the number of the step, of which there is no hash
        start = whole.index(b"20")
        places += range(8 * start, 8 * start + 16)
    for place in places:
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert falls_back(folder, capsys, ten), f"bit {place}"
    path.write_bytes(whole)
    assert load_state(folder, *pair(), {"note": Note()}) == 20


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0, 1, 100, -2])
def test_a_cut_file_is_noticed(folder, capsys, ten, name, kept):
    path = folder / "step-0000020" / name
    path.write_bytes(path.read_bytes()[:kept])
    assert falls_back(folder, capsys, ten)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_noticed(folder, capsys, ten, name):
    (folder / "step-0000020" / name).unlink()
    assert falls_back(folder, capsys, ten)


def test_a_file_of_another_checkpoint_is_noticed(folder, capsys, ten):
    """DCP's reader takes whatever lies in the folder."""
    newest = folder / "step-0000020"
    shutil.copy(folder / "step-0000010" / FILES[0], newest / "shards-00001.safetensors")
    assert falls_back(folder, capsys, ten)


def test_when_none_is_whole_training_starts_anew(folder, capsys):
    for path in folder.iterdir():
        (path / "state.json").write_text("{}")
    found = pair(3)
    assert load_state(folder, *found) == 0 and same(found, pair(3))
    assert capsys.readouterr().out.count("is damaged") == 2


@pytest.mark.parametrize("step", [15, 20])
def test_a_damaged_one_does_not_stand_in_the_way(folder, step):
    (folder / "step-0000020" / FILES[0]).write_bytes(b"")
    save_state(folder, step, *pair(step))
    assert names(folder) == ["step-0000010", f"step-00000{step}"]
    found = pair()
    assert load_state(folder, *found) == step and same(found, pair(step))


@pytest.mark.parametrize("mount", [True, False])
def test_a_full_disk_leaves_the_older_ones(tmp_path, mount):
    def at(step):
        model = random_model(LITE, torch.float32, seed=step)
        optimizer = adamw(model, 0.1)
        for weight in model.parameters():
            weight.grad = torch.ones_like(weight)
        optimizer.step()
        return model, optimizer

    with small_disk(tmp_path / "disk", mount) as disk:
        if disk is None:
            pytest.skip("no file system can be mounted here")
        folder = disk.folder / "state"
        save_state(folder, 1, *at(1))
        for room in (4096, 65536, 262_144):
            with disk.room(room), pytest.raises(Exception, match="(Errno|error) 2[78]"):
                save_state(folder, 2, *at(2))
            assert names(folder) == ["step-0000001"]
            found = at(3)
            assert load_state(folder, *found) == 1 and same(found, at(1))
        shutil.rmtree(folder / "step-0000001")
        save_state(folder, 2, *at(2))
        assert load_state(folder, *at(3)) == 2


def test_a_kill_at_a_random_moment_leaves_what_was_reported(tmp_path):
    folder, draw, reported = tmp_path / "state", random.Random(0), 0
    for _ in range(12):
        reading, writing = os.pipe()
        if not (child := os.fork()):
            try:
                model, optimizer = pair(1)
                for step in range(reported + 1, 10 ** 6):
                    for weight in model.parameters():
                        nn.init.constant_(weight, step)
                    save_state(folder, step, model, optimizer)
                    os.write(writing, b".")
            finally:
                os._exit(1)
        os.close(writing)
        os.read(reading, 1)
        reported += 1
        time.sleep(draw.random() / 20)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while more := os.read(reading, 4096):
            reported += len(more)
        os.close(reading)
        model, optimizer = pair()
        found = load_state(folder, model, optimizer)
        # the last save may have ended just before it could be reported
        assert found in (reported, reported + 1)
        assert {w.item() for p in model.parameters() for w in p.flatten()} == {found}
        assert read_json(folder / f"step-{found:07d}" / "state.json")["step"] == found
        reported = found
