"""Models of teams whose every number is known: anyone can say it without asking."""

from dataclasses import replace
from functools import cache
from zlib import crc32

import torch
from miniatures import FULL
from torch.distributed.tensor import DTensor

from minicoder.model.checkpoint import own_part
from minicoder.model.transformer import MiniCoder
from minicoder.parallel.layout import ALONE, Layout, Team, team_of
from minicoder.parallel.parallelize import parallelize
from minicoder.parallel.pipeline import stages_of

CONFIG = replace(FULL, num_hidden_layers=4, vocab_size=270)
# of four processes and of two
FOUR = {
    "FSDP 4": Layout(), "TP 2 EP 4": Layout(tensor=2, expert=4),
    "EP 4": Layout(expert=4), "copies 2 EP 2": Layout(replicate=2, expert=2),
    "stages 2 TP 2": Layout(pipeline=2, tensor=2, pipeline_schedule="ZBVZeroBubble"),
    "EP 2 FSDP 2": Layout(expert=2)}
TWO = {"FSDP 2": Layout(), "stages 2": Layout(pipeline=2),
       "TP 2 EP 2": Layout(tensor=2, expert=2)}


def numbers(name: str, shape: torch.Size, salt: str) -> torch.Tensor:
    """What a tensor holds."""
    generator = torch.Generator().manual_seed(crc32(f"{salt} {name}".encode()))
    return torch.randn(shape, generator=generator)


def cut(outline: MiniCoder, team: Team) -> MiniCoder:
    """What a process holds of a model: of the pipeline two stages, in a V."""
    model, stages = outline, [outline]
    if team.layout.pipeline > 1:
        model, stages = stages_of(outline, team)
    for stage in stages:
        parallelize(stage, team)
    return model


_team = cache(team_of)     # meshes are dear, and their threads never sleep


def team_in(layout: Layout | None) -> Team:
    """The team of a gang, or of a process alone."""
    if layout is None:
        return ALONE
    team = _team(replace(layout, pipeline_schedule="1F1B"), torch.device("cpu"))
    return replace(team, layout=replace(
        team.layout, pipeline_schedule=layout.pipeline_schedule))


def put(tensor: torch.Tensor, full: torch.Tensor) -> None:
    """Set what this process holds to its part of `full`."""
    local, start = own_part(tensor)
    local.copy_(full[tuple(slice(low, low + size) for low, size in zip(
        start, local.shape, strict=True))])


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor, in each process that holds a part of it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def held(team: Team, salt: str) -> MiniCoder:
    """A model of `numbers`, as a process of a team holds it."""
    model = cut(MiniCoder.outline(CONFIG), team).to_empty(device="cpu")
    for name, tensor in model.state_dict().items():
        put(tensor, numbers(name, tensor.shape, salt))
    return model


class Note:
    """Something that each process keeps for itself."""

    def __init__(self, value=None):
        self.value = value

    def state(self):
        return {"value": self.value, "padding": 100 * "."}

    def restore(self, state):
        self.value = state["value"]
