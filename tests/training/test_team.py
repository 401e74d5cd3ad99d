"""Pre-training by a team: the same losses, gradients and weights as one process."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from minicoder.parallel.layout import Layout
from minicoder.stages import read_json, read_jsonl
from minicoder.training import loop
from minicoder.training.options import Machine, Routers
from minicoder.training.pretrain import pretrain

SETTINGS = dict(steps=4, batch=4, warmup=1, recall=1, middles=1, lr=1e-3)
ROUTERS = Routers(device_balance=0.05, communication_balance=0.02, devices=4,
                  device_limit=3, capacity=1.0, spared=0.1)


def run(out, rows, layout=None, every=None, **changes):
    """Train in this process or in its gang; a checkpoint after `every` steps."""
    if every:
        loop.SECONDS_BETWEEN_CHECKPOINTS = -1.0
    pretrain(out, rows / "pack", rows / "tokenizer", layout=layout or Layout(),
             **(SETTINGS | changes))
    return True


@pytest.fixture(scope="session")
def alone(rows, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    run(out / "plain", rows)
    run(out / "balanced", rows, routers=ROUTERS, recall=0, middles=0,
        machine=Machine(accumulate=2))
    return out


def same(found, expected, tolerance=2e-5):
    """Metrics and final weights agree; float32, other orders of adding."""
    ours, theirs = (read_jsonl(path / "metrics.jsonl") for path in (found, expected))
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for key in b:
            torch.testing.assert_close(torch.tensor(a[key]), torch.tensor(b[key]),
                                       atol=2e-4, rtol=1e-3, msg=lambda m: f"{key}: {m}")
    ours, theirs = (load_file(path / "model.safetensors") for path in (found, expected))
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=tolerance, rtol=0,
                                   msg=lambda m: f"{name}: {m}")


@pytest.mark.parametrize("layout, size", [
    (Layout(), 2), (Layout(expert=2), 2), (Layout(tensor=2, expert=2), 2),
    (Layout(replicate=2, expert=2), 4), (Layout(tensor=2, expert=4), 4)])
def test_a_team_trains_as_one_process_does(gang, rows, alone, tmp_path, layout, size):
    gang(size).run(run, tmp_path / "out", rows, layout)
    same(tmp_path / "out", alone / "plain")
    assert read_json(tmp_path / "out" / "made_by.json")["device"] == f"cpu x {size}"
    ledger = read_json(tmp_path / "out" / "ledger.json")
    assert ledger == read_json(alone / "plain" / "ledger.json")
