"""Many processes train as one does: losses, gradients, weights, along every axis."""

from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
import torch.distributed as dist
from dealt import team_in
from miniatures import FULL, LITE, random_model, random_tokens
from torch import nn
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from minicoder.config import preset
from minicoder.errors import UserError
from minicoder.model.balance import Balance, Dropping
from minicoder.model.documents import find_documents
from minicoder.model.mla import LatentCache
from minicoder.model.transformer import MiniCoder
from minicoder.parallel.economy import prepare
from minicoder.parallel.layout import ALONE, Layout, team_of
from minicoder.parallel.parallelize import clip, parallelize
from minicoder.training.objective import Objective
from minicoder.training.optimizer import adamw

STEPS, ROWS, LENGTH, CLIP = 2, 8, 9, 0.5
BALANCE = Balance(0.3, 0.2, 0.1, devices=4, limit=2)
CONFIGS = {
    "lite": replace(LITE, num_hidden_layers=2),
    "full": replace(FULL, num_hidden_layers=2),
    "bare": replace(LITE, num_hidden_layers=2, n_shared_experts=None,
                    num_experts_per_tok=1)}     # and half of the experts idle
TWO = [Layout(shard=2), Layout(shard=1, replicate=2), Layout(expert=2),
       Layout(tensor=2), Layout(tensor=2, expert=2)]
FOUR = [Layout(), Layout(expert=4), Layout(expert=2), Layout(tensor=4),
        Layout(shard=2, tensor=2), Layout(shard=2, tensor=2, expert=4),
        Layout(replicate=2, shard=2, expert=2), Layout(replicate=2, tensor=2, expert=2)]


@dataclass(frozen=True)
class How:
    config: str
    precision: str = "float32"
    recomputed: bool = False
    drop: bool = False
    parts: int = 1


def first(how):
    """The model to begin with; float64 but for a test of bfloat16."""
    low = how.precision == "bfloat16"
    model = random_model(CONFIGS[how.config], torch.float32 if low else torch.float64)
    if how.config == "bare":    # no score of the second half can be the highest
        weight = model.model.layers[1].mlp.gate.weight.data
        for expert in range(4, 8):
            weight[expert] = weight[0].lerp(weight[1], expert / 8)
    return model.train()


def whole(tensors):
    return {name: (t.full_tensor() if isinstance(t, DTensor) else t).detach().clone()
            for name, t in tensors}


def train(how, layout, steps=STEPS):
    """Losses, norms, first gradients and last weights."""
    team = team_in(layout)
    model = first(how)
    parallelize(model, team, how.precision, how.recomputed)
    torch.manual_seed(0)
    objective = Objective(
        model, BALANCE, bos=0, fim_begin=1, parts=how.parts, team=team,
        dropping=Dropping(4, 1.0, 0.2) if how.drop else None)
    optimizer, found = adamw(model, 1e-2), {"losses": [], "norms": [], "noted": []}
    for step in range(steps):
        rows = random_tokens(model.config, ROWS, LENGTH, seed=step)
        loss, noted = objective(team.own(rows, how.parts))
        loss.backward()
        if step == 0:
            found["gradients"] = whole((n, p.grad) for n, p in model.named_parameters())
        found["losses"].append(team.mean({"loss": loss})["loss"].item())
        found["noted"].append(noted)
        found["norms"].append(clip(model, CLIP, team).item() if team.dense else
                              nn.utils.clip_grad_norm_(model.parameters(), CLIP).item())
        optimizer.step()
        optimizer.zero_grad()
    return found | {"weights": whole(model.named_parameters())}


def gaps(how, layouts):
    """The largest difference of each kind to one process's numbers, by layout."""
    one, found = train(how, None), []
    for layout in layouts:
        many = train(how, layout)
        gap = {kind: max((many[kind][name] - value).abs().max().item()
                         for name, value in one[kind].items())
               for kind in ("gradients", "weights")}
        gap |= {kind: max(abs(a - b) for a, b in
                          zip(many[kind], one[kind], strict=True))
                for kind in ("losses", "norms")}
        gap["noted"] = max(abs(theirs[key] - value) for theirs, ours in zip(
            many["noted"], one["noted"], strict=True)
            for key, value in ours.items() if isinstance(value, float))
        found.append(gap)
    return found


def check(found, layouts, limit):
    for each in found:
        for layout, gap in zip(layouts, each, strict=True):
            assert max(gap.values()) < limit, (layout, gap)


@pytest.mark.parametrize("how, layouts", [
    (How("full", recomputed=True), TWO), (How("bare"), TWO),
    (How("lite", drop=True, parts=2), TWO[1:3])], ids=["full", "bare", "parts"])
def test_two_processes_train_as_one(gang, how, layouts):
    check(gang(2).run(gaps, how, layouts), layouts, 1e-10)


@pytest.mark.parametrize("how, layouts", [
    (How("full"), FOUR), (How("lite", recomputed=True, drop=True), FOUR[5:])],
    ids=["each", "combined"])
def test_four_processes_train_as_one(gang, how, layouts):
    check(gang(4).run(gaps, how, layouts), layouts, 1e-10)


def test_half_of_the_bare_experts_are_idle():
    load = train(How("bare"), None, steps=1)["noted"][0]["expert_load"][0]
    assert min(load[:4]) > 0 and max(load[4:]) == 0


def rounding(how, layouts):
    """How far bfloat16 leads away: of the first loss, and of all gradients by norm."""
    exact = train(replace(how, precision="float32"), None, steps=1)
    found = []
    for layout in layouts:
        low = train(how, layout, steps=1)
        error = torch.cat([(low["gradients"][name] - g).flatten()
                           for name, g in exact["gradients"].items()]).norm()
        found.append((abs(low["losses"][0] - exact["losses"][0]),
                      error.item() / exact["norms"][0]))
    return found


def test_bfloat16_is_as_near_as_its_digits_allow(gang):
    how = How("lite", "bfloat16", recomputed=True)
    for each in gang(4).run(rounding, how, FOUR[5:7]):
        for loss, gradient in each:     # 8 bits, and a few layers
            assert 0 < loss < 0.02 and 0.001 < gradient < 0.1


def other_ways(layout, folder):
    """An outline that is filled from files, and ways to run it besides `forward`."""
    team = team_in(layout)
    one = MiniCoder.from_pretrained(folder)
    many = MiniCoder.from_pretrained(folder,
                                     parallelize=partial(parallelize, team=team))
    tokens = random_tokens(one.config, 2, LENGTH)
    documents, found = find_documents(tokens, int(tokens[0, 4])), []
    with torch.no_grad():
        for model in (one, many):
            cache = LatentCache(one.config, torch.zeros((), dtype=torch.float64), 2)
            found.append([model(tokens), model.model.packed(tokens, documents),
                          model.model.prefill(tokens, cache)])
    return [(a - b).abs().max().item() for a, b in zip(*found, strict=True)]


def test_an_outline_is_filled_and_run_in_every_way(gang, tmp_path):
    random_model(CONFIGS["full"]).save_pretrained(tmp_path)
    for layout in (FOUR[5], FOUR[6]):
        assert max(map(max, gang(4).run(other_ways, layout, tmp_path))) < 1e-12


@pytest.fixture
def fake_team():
    def team(world, layout):
        dist.init_process_group("fake", rank=0, world_size=world, store=FakeStore())
        return team_of(layout, torch.device("cpu"))

    yield team
    dist.destroy_process_group()


def test_2048_processes_share_236b_without_padding(fake_team):
    """The shards of a cluster, on the meta device; three of the sixty layers."""
    team = fake_team(2048, Layout(replicate=2, tensor=2, expert=8))
    model = MiniCoder.outline(preset("full_236b", num_hidden_layers=3))
    names = [(name, p.shape) for name, p in model.named_parameters()]
    parallelize(model, team, "bfloat16", recomputed=True)
    assert names == [(name, p.shape) for name, p in model.named_parameters()]
    for name, p in model.named_parameters():
        copies = p.device_mesh.size(p.placements.index(Replicate()))
        shares = p.device_mesh.size() // copies
        assert all(isinstance(place, Shard | Replicate) for place in p.placements)
        if p.ndim > 1:
            assert p.to_local().numel() * shares == p.numel(), name
    experts = model.model.layers[1].mlp.experts
    assert experts.down_proj.placements == (Replicate(), Shard(1), Shard(0))
    assert experts.down_proj.to_local().shape == (20, 40, 1536)


def test_what_cannot_be_dealt_out_is_refused(fake_team):
    team = fake_team(3, Layout(tensor=3))
    with pytest.raises(UserError, match="--tensor 3 must divide num_attention_heads"):
        parallelize(MiniCoder.outline(LITE), team)


def test_a_process_alone_is_only_prepared():
    tokens = random_tokens(LITE, 2, LENGTH)
    ours, theirs = random_model(LITE, torch.float32), random_model(LITE, torch.float32)
    parallelize(ours, ALONE, "bfloat16", recomputed=True)
    prepare(theirs, "bfloat16", recomputed=True)
    assert torch.equal(ours(tokens), theirs(tokens))
