"""State to resume from: written aside, hashed, flushed, renamed; two are kept.

A kill at any moment leaves the last complete checkpoint, and a damaged one is noticed
by its hash and passed over.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from minicoder.errors import UserError
from minicoder.stages import read_json, sha256, sync, write_json

KEPT = 2


def save_state(folder: Path, step: int, model: nn.Module,
               optimizer: torch.optim.Optimizer) -> None:
    """Write `folder/step-XXXXXXX`, then remove all but the newest two.

    When that fails, on a full disk for one, the older ones stay as they are.
    """
    aside, target = folder / "unfinished", folder / f"step-{step:07d}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    weights = {k: v.contiguous() for k, v in model.state_dict().items()}
    try:
        save_file(weights, aside / "model.safetensors")
        save_file(_moments(optimizer), aside / "optimizer.safetensors")
        hashes = {p.name: sha256(p) for p in sorted(aside.iterdir())}
        write_json(aside / "state.json", {"step": step, "sha256": hashes})
        for path in [*aside.iterdir(), aside]:
            sync(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    for damaged in folder.glob("step-*"):  # from here on: training went back before it
        if damaged.name >= target.name:
            shutil.rmtree(damaged)
    os.rename(aside, target)
    sync(folder)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Fill model and optimizer from the newest whole checkpoint; return its step.

    Returns 0 and changes nothing when there is none.
    """
    for path in sorted(folder.glob("step-*"), reverse=True):
        if not _is_whole(path):
            print(f"{path.name} is damaged; going back to the checkpoint before it.")
            continue
        device = next(model.parameters()).device
        model.load_state_dict(load_file(path / "model.safetensors", str(device)))
        _fill(optimizer, load_file(path / "optimizer.safetensors", str(device)))
        return _step(path)
    return 0


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _is_whole(path: Path) -> bool:
    try:
        state = read_json(path / "state.json")
        return state["step"] == _step(path) and all(
            sha256(path / name) == value for name, value in state["sha256"].items())
    except (UserError, OSError, KeyError):
        return False


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    states = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value.contiguous()
            for index, state in states.items() for name, value in state.items()}


def _fill(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    states: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        states.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(
        {"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
