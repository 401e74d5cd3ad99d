"""State to resume from: written aside, hashed, flushed, renamed; a few are kept.

A kill at any moment leaves the last complete checkpoint, and a damaged one is noticed
by its hash and passed over. Each process of a team writes its shards into a file, by
`torch.distributed.checkpoint` (DCP), and the main one makes them a checkpoint, which
a team of any layout can go on from, or a process alone. Files are safetensors as DCP's
own reader knows them, and JSON: none is a pickle. All processes must see one folder.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import (
    Metadata,
    MetadataIndex,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from minicoder.errors import UserError
from minicoder.model.weights import write_file
from minicoder.parallel.layout import Team
from minicoder.stages import Kept, read_json, sha256, sync, write_json


class _Writer(FileSystemWriter):
    """What DCP calls: each process writes one file, then the main one calls `finish`.

    `kept` is JSON that each process writes beside its shards.
    """

    def __init__(self, folder: Path, rank: int,
                 done: Callable[[dict[str, str]], None], kept: Mapping | None) -> None:
        super().__init__(folder)
        self.folder, self.number, self.done, self.kept = folder, rank, done, kept

    def write_data(self, plan: SavePlan, planner: SavePlanner
                   ) -> Future[list[WriteResult]]:
        """Write the shards that DCP's plan leaves to this process, one at a time."""
        items = {item.index.fqn: item for item in plan.items
                 if 0 not in item.tensor_data.chunk.sizes}
        outline = {name: torch.empty(item.tensor_data.chunk.sizes, device="meta",
                                     dtype=item.tensor_data.properties.dtype)
                   for name, item in items.items()}
        places = {name: {"saved_offsets": list(item.tensor_data.chunk.offsets)}
                  for name, item in items.items()}
        path = self.folder / f"shards-{self.number:05}.safetensors"
        written = {path.name: write_file(
            path, outline, lambda name: planner.resolve_data(items[name]),
            {"format": "pt", "DCP_VERSION": "1.0",
             "DCP_SHARDING_INFO": json.dumps(places)})}
        if self.kept is not None:
            path = self.folder / f"kept-{self.number:05}.json"
            write_json(path, self.kept)
            sync(path)
            written[path.name] = sha256(path)
        future: Future = Future()
        future.set_result([WriteResult(MetadataIndex(name), 0, value)
                           for name, value in written.items()])
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """In the main process, when all have written: give on the files' hashes."""
        self.done({one.index.fqn: one.storage_data for each in results for one in each})


def write_shards(folder: Path, tensors: dict[str, Tensor], team: Team,
                 done: Callable[[dict[str, str]], None] = lambda hashes: None,
                 kept: Mapping | None = None) -> None:
    """Write what the team holds, every number once; what fails in one fails in all."""
    with _plain():
        dcp.save(tensors, no_dist=team.dense is None,
                 storage_writer=_Writer(folder, team.rank, done, kept),
                 planner=dcp.DefaultSavePlanner(flatten_state_dict=False))


@contextmanager
def _plain() -> Iterator[None]:
    """DCP without its own errors, warnings, and draws from Python's generator, with
    which it names lines of its log and which training reads too."""
    state = random.getstate()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            yield
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from None
    finally:
        random.setstate(state)


@contextmanager
def together(team: Team) -> Iterator[None]:
    """Go on when all processes have come through; what fails in one fails in all."""
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    if not agreed(failure is None, team):
        raise failure or UserError("Another process failed; its message says why.")


def agreed(fine: bool, team: Team) -> bool:
    """Whether it is so in all processes."""
    if team.dense is None:
        return fine
    count = torch.tensor(int(fine), device=team.device)
    dist.all_reduce(count, dist.ReduceOp.MIN)
    return bool(count)


def weights(model: nn.Module) -> dict[str, Tensor]:
    """What this process holds, by the names of the checkpoint."""
    return {f"model.{name}": tensor for name, tensor in model.state_dict().items()}


def save_shards(folder: Path, step: int, model: nn.Module,
                optimizer: torch.optim.Optimizer, kept: Mapping[str, Kept],
                team: Team, count: int) -> None:
    """Write `folder/step-XXXXXXX`, then remove all but the newest `count`.

    Each process keeps the states of its own `kept`. When something fails, in whichever
    process, it fails in all, and older checkpoints stay as they are.
    """
    aside, target = folder / "unfinished", folder / f"step-{step:07d}"

    def done(hashes: dict[str, str]) -> None:
        write_json(aside / "state.json", {"step": step, "sha256": hashes})
        sync(aside / "state.json")
        sync(aside)
        for damaged in folder.glob("step-*"):  # from here on: training went back
            if damaged.name >= target.name:
                shutil.rmtree(damaged)
        os.rename(aside, target)
        sync(folder)
        for old in sorted(folder.glob("step-*"))[:-count]:
            shutil.rmtree(old)

    with together(team):
        if team.main:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
    try:
        write_shards(aside, weights(model) | _moments(model, optimizer), team, done,
                     {name: one.state() for name, one in kept.items()})
    except BaseException:
        if team.main:
            shutil.rmtree(aside, ignore_errors=True)
        raise


def load_shards(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer,
                kept: Mapping[str, Kept], team: Team) -> int:
    """Fill model, optimizer and `kept` from the newest whole checkpoint; give its step.

    Returns 0 and changes nothing when there is none. As many processes as have saved
    get back their own states; of another number all get those of the main process,
    random generators among them.
    """
    found = sorted((path.name for path in folder.glob("step-*")), reverse=True)
    for path in map(folder.joinpath, team.share(found)):
        if not agreed(_is_whole(path, kept, team), team):
            if team.main:
                print(f"{path.name} is damaged; going back to the checkpoint before "
                      "it.")
            continue
        _fill(path, model, optimizer)
        states = read_json(_own(path, team))
        for name, one in kept.items():
            one.restore(states[name])
        return int(path.name.removeprefix("step-"))
    return 0


def _own(path: Path, team: Team) -> Path:
    """Where the states of `kept` are that this process goes on with."""
    same = len(list(path.glob("kept-*.json"))) == team.layout.world
    return path / f"kept-{team.rank if same else 0:05}.json"


def _is_whole(path: Path, kept: Mapping[str, Kept], team: Team) -> bool:
    """Whether the files that fall to this process are what was written."""
    try:
        state = read_json(path / "state.json")
        hashes, there = state["sha256"], {file.name for file in path.iterdir()}
        return (path.name == f"step-{state['step']:07d}"
                and there == hashes.keys() | {"state.json"}
                and all(sha256(path / name) == hashes[name] for name in
                        sorted(hashes)[team.rank::team.layout.world])
                and kept.keys() <= read_json(_own(path, team)).keys())
    except (UserError, OSError, KeyError, AttributeError, TypeError, ValueError):
        return False


def _fill(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Each process reads what it holds, and plans that alone: nothing is sent."""
    reader = dcp.HuggingFaceStorageReader(str(path))
    stored = reader.read_metadata().state_dict_metadata
    moments: dict[str, dict[str, TensorStorageMetadata]] = {}
    for key, about in stored.items():
        owner, _, kind = key.rpartition(".")
        moments.setdefault(owner, {})[kind] = about
    state: dict[nn.Parameter, dict[str, Tensor]] = {}
    tensors = weights(model)
    for name, p in model.named_parameters():
        for kind, about in moments.get(f"optimizer.{name}", {}).items():
            like = p if about.size == p.shape else torch.empty(about.size,
                                                               device=p.device)
            state.setdefault(p, {})[kind] = tensors[f"optimizer.{name}.{kind}"] = (
                torch.zeros_like(like, dtype=about.properties.dtype))
    with _plain():
        dcp.load(tensors, storage_reader=reader, no_dist=True,
                 planner=dcp.DefaultLoadPlanner(flatten_state_dict=False))
    optimizer.state.clear()
    optimizer.state.update(state)


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {f"optimizer.{name}.{kind}": value
            for name, p in model.named_parameters()
            for kind, value in optimizer.state.get(p, {}).items()}
