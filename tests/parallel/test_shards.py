"""State of teams: any layout goes on from any other's, and kills leave one whole."""

import os
import pickle
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from dealt import CONFIG, FOUR, TWO, Note, held, numbers, put, team_in, whole
from torch import nn
from torch.distributed import distributed_c10d
from torch.distributed.tensor import Shard, distribute_tensor

from minicoder.model.transformer import MiniCoder
from minicoder.parallel import shards
from minicoder.parallel.layout import ALONE, Layout, team_of
from minicoder.parallel.shards import load_shards, save_shards
from minicoder.training.optimizer import adamw

MOMENTS = ("exp_avg", "exp_avg_sq")
ALL = sorted(f"{name} {kind}" for kind in ("weight", *MOMENTS)
             for name in MiniCoder.outline(CONFIG).state_dict())


def moved(model, salt):
    """AdamW as after 7 steps, with moments that are `numbers` too."""
    optimizer = adamw(model, 0.1)
    for name, p in model.named_parameters():
        optimizer.state[p] = {"step": torch.tensor(7.0)}
        for kind in MOMENTS:
            optimizer.state[p][kind] = torch.zeros_like(p)
            put(optimizer.state[p][kind], numbers(name, p.shape, f"{salt} {kind}"))
    return optimizer


def save(folder: Path, layout: Layout | None, step: int) -> None:
    save_from(folder, held(team_in(layout), ""), layout, step)


def save_from(folder: Path, model: MiniCoder, layout: Layout | None, step: int) -> None:
    team, salt = team_in(layout), f"step {step}"
    for name, tensor in model.state_dict().items():
        put(tensor, numbers(name, tensor.shape, f"{salt} weight"))
    note = Note([step, team.rank])
    save_shards(folder, step, model, moved(model, salt), {"note": note}, team, 2)


def refuse(*_, **__):
    raise AssertionError("a pickle was opened")


def load(folder: Path, layout: Layout | None) -> tuple[int, list, list[str]]:
    """The step that was found, the note, and which tensors are as they were saved."""
    return load_into(folder, held(team_in(layout), "before"), layout)


def load_into(folder: Path, model: MiniCoder, layout: Layout | None
              ) -> tuple[int, list, list[str]]:
    team, note = team_in(layout), Note()
    optimizer = moved(model, "before")
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((pickle, "load"), (pickle, "loads"), (torch, "load"),
                            (pickle, "Unpickler"), (distributed_c10d, "_unpickler")):
            patch.setattr(owner, name, refuse)
        step = load_shards(folder, model, optimizer, {"note": note}, team)
    right = []
    for name, p in model.named_parameters():
        assert optimizer.state[p].keys() == {"step", *MOMENTS}
        assert optimizer.state[p]["step"] == 7
        for kind, found in {"weight": p.data, **optimizer.state[p]}.items():
            if kind != "step" and torch.equal(
                    whole(found), numbers(name, p.shape, f"step {step} {kind}")):
                assert type(found) is type(p.data)
                right.append(f"{name} {kind}")
    return step, note.value, right


def everything(found: list) -> bool:
    """Whether the processes together found all as it was saved."""
    return sorted({name for _, _, right in found for name in right}) == ALL


def around(folder: Path, layouts: list[Layout], step: int) -> list:
    """Each layout goes on from the one before; the first one from what is there."""
    found = []
    for later, layout in enumerate(layouts, start=1):
        model = held(team_in(layout), "before")
        found.append(load_into(folder, model, layout))
        save_from(folder, model, layout, step + later)
    return found


def test_every_layout_goes_on_from_the_one_before(gang, tmp_path):
    """One process, four in three ways, two in three, four in three others, one."""
    save(tmp_path, None, 1)
    step, saved_by, four = 1, 1, list(FOUR.items())
    for size, layouts in (4, dict(four[:3])), (2, TWO), (4, dict(four[3:])):
        ranks = gang(size).run(around, tmp_path, list(layouts.values()), step)
        for name, each in zip(layouts, zip(*ranks, strict=True), strict=True):
            # those who have saved get back their own notes, others the main one's
            assert [(found, note) for found, note, _ in each] == [
                (step, [step, rank if saved_by == size else 0])
                for rank in range(size)], name
            assert everything(each), name
            step, saved_by = step + 1, size
    found = load(tmp_path, None)
    assert found[:2] == (step, [step, 0]) and everything([found])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"step-{step - 1:07d}", f"step-{step:07d}"]
    assert {file.suffix for file in tmp_path.glob("*/*")} == {".safetensors", ".json"}


# --- damage


def spoil(folder: Path, layout: Layout, name: str, at: int | None) -> tuple:
    """Flip a bit (at None: cut the file) and load."""
    team, path = team_in(layout), folder / "step-0000002" / name
    kept = path.read_bytes()
    team.wait()
    if team.main:
        path.write_bytes(kept[:-1] if at is None else
                         kept[:at] + bytes([kept[at] ^ 1]) + kept[at + 1:])
    team.wait()
    found = load(folder, layout)
    team.wait()
    if team.main:
        path.write_bytes(kept)
    team.wait()
    return found


def damaged(folder: Path, layout: Layout) -> list:
    for step in (1, 2):
        save(folder, layout, step)
    return [spoil(folder, layout, name, at) for name, at in (
        ("shards-00001.safetensors", -1), ("shards-00001.safetensors", None),
        ("kept-00001.json", 12), ("state.json", -3))] + [load(folder, layout)]


def test_all_processes_pass_over_what_one_finds_damaged(gang, tmp_path):
    ranks = gang(2).run(damaged, tmp_path, Layout())
    for each in zip(*ranks, strict=True):
        assert everything(each)
    assert [[step for step, _, _ in rank] for rank in ranks] == 2 * [[1, 1, 1, 1, 2]]


# --- failures of one process


def failing(folder: Path, layout: Layout, rank: int) -> str:
    team, real = team_in(layout), shards.write_file

    def fail(path, *arguments):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    shards.write_file = fail if team.rank == rank else real
    try:
        save(folder, layout, 2)
    except OSError as error:
        return str(error)
    finally:
        shards.write_file = real
    return "nothing failed"


def test_a_full_disk_at_one_process_is_told_to_all(gang, tmp_path):
    gang(2).run(save, tmp_path, Layout(), 1)
    for rank in (0, 1):
        assert gang(2).run(failing, tmp_path, Layout(), rank) == 2 * [
            "[Errno 28] No space left on device"]
        assert [path.name for path in tmp_path.iterdir()] == ["step-0000001"]


# --- kills


def small() -> nn.Module:
    """Two matrices."""
    return nn.Sequential(nn.Linear(64, 512, bias=False),
                         nn.Linear(512, 64, bias=False))


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def after(real):
    return lambda *arguments: (real(*arguments), die())


def half(path, *arguments):
    path.write_bytes(bytes(1000))
    die()


# who is killed, and what is then called instead; which step is found afterwards
MOMENTS_OF_DEATH = {
    "half of the data": (1, "write_file", lambda real: half, 2),
    "data of one": (1, "write_file", after, 2),
    "data of the main": (0, "write_file", after, 2),
    "before it is whole": (0, "sync", lambda real: die, 2),
    "before the name": (0, "rename", lambda real: die, 2),
    "with the name": (0, "rename", after, 3),
    "older ones": (0, "rmtree", lambda real: lambda path, **how: (
        die() if path.name[:4] == "step" else real(path, **how)), 3),
}


def saver(rank: int, folder: Path, said: int, moment: str | None, first: int) -> None:
    """Save step after step; in the third be killed at `moment`."""
    dist.init_process_group("gloo", init_method=f"file://{folder}.{first}", rank=rank,
                            world_size=2)
    team = team_of(Layout(), torch.device("cpu"))
    model = small()
    for linear in model:
        linear.weight = nn.Parameter(distribute_tensor(
            linear.weight.data, team.dense["shard"], [Shard(0)]))
    optimizer = adamw(model, 0.1)
    for step in range(first, 10 ** 6):
        for p in model.parameters():
            nn.init.constant_(p, step)
        if moment and step == 3 and MOMENTS_OF_DEATH[moment][0] == rank:
            _, name, trap, _ = MOMENTS_OF_DEATH[moment]
            owner = {"rename": os, "rmtree": shutil}.get(name, shards)
            setattr(owner, name, trap(getattr(owner, name)))
        save_shards(folder, step, model, optimizer, {"note": Note(step)}, team, 2)
        if team.main:
            os.write(said, b".")


def killed(folder: Path, moment: str | None, first: int, draw: random.Random) -> int:
    """How many saves were reported until one of two processes was killed."""
    reading, writing = os.pipe()
    children = []
    for rank in range(2):
        if not (child := os.fork()):
            try:
                saver(rank, folder, writing, moment, first)
            finally:
                os._exit(1)
        children.append(child)
    os.close(writing)
    reported = len(os.read(reading, 1))
    victim = MOMENTS_OF_DEATH[moment][0] if moment else draw.randrange(2)
    if not moment:
        time.sleep(draw.random() / 20)
        os.kill(children[victim], signal.SIGKILL)
    _, status = os.waitpid(children[victim], 0)
    assert status == signal.SIGKILL
    os.kill(children[1 - victim], signal.SIGKILL)   # as torchrun does
    os.waitpid(children[1 - victim], 0)
    while more := os.read(reading, 4096):
        reported += len(more)
    os.close(reading)
    return reported


def found_alone(folder: Path) -> int:
    model, note = small(), Note()
    step = load_shards(folder, model, adamw(model, 0.1), {"note": note}, ALONE)
    assert {w.item() for p in model.parameters() for w in p.flatten()} == {step}
    assert note.value == step
    return step


@pytest.mark.parametrize("moment", MOMENTS_OF_DEATH)
def test_a_kill_in_the_middle_of_a_save_loses_nothing(tmp_path, moment):
    reported = killed(tmp_path / "state", moment, 1, random.Random())
    assert reported == 2
    assert found_alone(tmp_path / "state") == MOMENTS_OF_DEATH[moment][3]


def test_kills_at_random_moments_lose_nothing(tmp_path):
    draw, last = random.Random(0), 0
    for _ in range(8):
        reported = last + killed(tmp_path / "state", None, last + 1, draw)
        last = found_alone(tmp_path / "state")
        # the last save may have ended just before it could be reported
        assert last in (reported, reported + 1)
