"""State to resume from: written aside, hashed, flushed, renamed; a few are kept.

A kill at any moment leaves the last complete checkpoint, and a damaged one is noticed
by its hash and passed over.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from minicoder.errors import UserError
from minicoder.stages import read_json, sha256, sync, write_json

KEPT = 2


@runtime_checkable
class Kept(Protocol):
    """Something that goes on where it was: `state` fits into JSON."""

    def state(self) -> dict[str, Any]:
        """All that it needs to go on."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""


class Draws:
    """The random generators of Python, NumPy and torch, of each GPU too."""

    def state(self) -> dict[str, Any]:
        """Where all of them are."""
        _, *numbers = np.random.get_state()
        return {"python": random.getstate(),
                "numpy": [numbers[0].tolist(), *numbers[1:]],
                "torch": [s.numpy().tobytes().hex() for s in (
                    torch.get_rng_state(), *torch.cuda.get_rng_state_all())]}

    def restore(self, state: dict[str, Any]) -> None:
        """Put all of them there."""
        version, numbers, gauss = state["python"]
        random.setstate((version, tuple(numbers), gauss))
        keys, *rest = state["numpy"]
        np.random.set_state(("MT19937", np.array(keys, np.uint32), *rest))
        cpu, *gpus = (torch.tensor(list(bytes.fromhex(s)), dtype=torch.uint8)
                      for s in state["torch"])
        torch.set_rng_state(cpu)
        if len(gpus) == torch.cuda.device_count():  # else it goes on elsewhere
            torch.cuda.set_rng_state_all(gpus)


def save_state(folder: Path, step: int, model: nn.Module,
               optimizer: torch.optim.Optimizer,
               kept: Mapping[str, Kept] | None = None, count: int = KEPT) -> None:
    """Write `folder/step-XXXXXXX`, then remove all but the newest `count`.

    `kept` are written as JSON under their names. When something fails, on a full disk
    for one, the older ones stay as they are.
    """
    aside, target = folder / "unfinished", folder / f"step-{step:07d}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    weights = {k: v.contiguous() for k, v in model.state_dict().items()}
    try:
        save_file(weights, aside / "model.safetensors")
        save_file(_moments(optimizer), aside / "optimizer.safetensors")
        for name, one in (kept or {}).items():
            write_json(aside / f"{name}.json", one.state())
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
    for old in sorted(folder.glob("step-*"))[:-count]:
        shutil.rmtree(old)


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer,
               kept: Mapping[str, Kept] | None = None) -> int:
    """Fill model, optimizer and `kept` from the newest whole checkpoint; give its step.

    Returns 0 and changes nothing when there is none.
    """
    for path in sorted(folder.glob("step-*"), reverse=True):
        if not _is_whole(path, kept or {}):
            print(f"{path.name} is damaged; going back to the checkpoint before it.")
            continue
        device = next(model.parameters()).device
        model.load_state_dict(load_file(path / "model.safetensors", str(device)))
        _fill(optimizer, load_file(path / "optimizer.safetensors", str(device)))
        for name, one in (kept or {}).items():
            one.restore(read_json(path / f"{name}.json"))
        return _step(path)
    return 0


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _is_whole(path: Path, kept: Mapping[str, Kept]) -> bool:
    """Whether all that is needed is there and is what was written."""
    needed = {"model.safetensors", "optimizer.safetensors",
              *(f"{name}.json" for name in kept)}
    try:
        state = read_json(path / "state.json")
        hashes = state["sha256"]
        return state["step"] == _step(path) and needed <= hashes.keys() and all(
            sha256(path / name) == value for name, value in hashes.items())
    except (UserError, OSError, KeyError, AttributeError):
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
