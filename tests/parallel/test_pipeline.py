"""Pipelines: every schedule gives the loss, gradients and weights of one process."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from dealt import team_in
from miniatures import FULL, random_model, random_tokens
from torch import nn
from torch.distributed.pipelining.schedules import get_schedule_class
from torch.distributed.tensor import DTensor

from minicoder.errors import UserError
from minicoder.model.balance import Balance, expert_load
from minicoder.model.documents import find_documents
from minicoder.model.transformer import MiniCoder
from minicoder.parallel.layout import Layout
from minicoder.parallel.parallelize import clip, parallelize
from minicoder.parallel.pipeline import (
    SCHEDULES,
    Pipeline,
    check,
    layers_of,
    stages_at,
    stages_of,
)
from minicoder.training.loop import token_losses
from minicoder.training.optimizer import adamw

FIVE = replace(FULL, num_hidden_layers=5)
EIGHT = replace(FULL, num_hidden_layers=8)
BALANCE = Balance(0.03, 0.5, 0.2, devices=4, limit=2)
BOS, STEPS = 7, 2


def head(stage, hidden, tokens, targets):
    losses = token_losses(stage, tokens, targets, None, lambda *_: hidden)
    return losses.mean(), {"language_loss": losses.detach().mean()}


def layers(seen, rows):
    return (sum(BALANCE.loss(routing, rows) for routing in seen),
            {"load": torch.stack([expert_load(routing) for routing in seen])})


def rows_of(config, step, count):
    rows = random_tokens(config, count, 14 - 5 * step, seed=step)
    return rows[:, :-1], rows[:, 1:]


def alone(config, documents, count):
    """Losses, notes, first gradients and last weights of one process."""
    model, losses, notes = random_model(config).train(), [], []
    optimizer = adamw(model, 1e-2)
    for step in range(STEPS):
        tokens, targets = rows_of(config, step, count)
        seen, read = [], None
        if documents:
            found = find_documents(tokens, BOS)
            read = lambda x, seen, f=found: model.model.packed(x, f, seen)  # noqa: E731
        language = token_losses(model, tokens, targets, seen, read).mean()
        loss = language + sum(BALANCE.loss(routing, count) for routing in seen)
        loss.backward()
        losses.append(loss.item())
        notes.append({"language_loss": language.detach(), "load": torch.stack(
            [expert_load(routing) for routing in seen])})
        if step == 0:
            first = {n: p.grad.clone() for n, p in model.named_parameters()}
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return losses, notes, first, dict(model.named_parameters())


def together(layout, schedule, microbatches, config, documents, count, **economy):
    """The same of a team, as this process sees it."""
    team = team_in(replace(layout, pipeline_schedule=schedule))
    held, stages = stages_of(random_model(config).train(), team)
    for stage in stages:
        parallelize(stage, team, **economy)
    return trained(team, held, stages, microbatches, config, documents, count)


def trained(team, held, stages, microbatches, config, documents, count):
    pipeline, optimizer = Pipeline(stages, team, microbatches), adamw(held, 1e-2)
    losses, notes = [], []
    for step in range(STEPS):
        tokens, targets = (team.own(x) for x in rows_of(config, step, count))
        loss, sums = pipeline(tokens, targets, head, layers, BOS if documents else None)
        sums = team.mean(sums | {"loss": loss})
        losses.append(sums.pop("loss").item())
        notes.append(sums)
        if step == 0:
            first = {n: whole(p.grad) for n, p in held.named_parameters()}
        clip(held, 1.0, team)
        optimizer.step()
        optimizer.zero_grad()
    return losses, notes, first, {n: whole(p).detach() for n, p
                                  in held.named_parameters()}


def whole(tensor):
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).clone()


def several(cases):
    return [together(*case) for case in cases]


def compare(found, expected):
    """Every process knows the loss and the notes; each parameter is at one stage."""
    losses, notes, first, last = expected
    for own_losses, own_notes, _, _ in found:
        torch.testing.assert_close(own_losses, losses, atol=1e-12, rtol=1e-12)
        for own, wanted in zip(own_notes, notes, strict=True):
            assert own.keys() == wanted.keys()
            for name in wanted:
                torch.testing.assert_close(own[name], wanted[name].double(), atol=1e-7,
                                           rtol=0)
    for place, wanted in ((2, first), (3, last)):
        assert {n for part in found for n in part[place]} == wanted.keys()
        for part in found:
            for name, tensor in part[place].items():
                torch.testing.assert_close(
                    tensor, wanted[name].detach(), atol=1e-10, rtol=0,
                    msg=lambda m, name=name: f"{name}: {m}")


def opened(folder, layout):
    """Train a checkpoint of which this process reads its stages' shards alone."""
    team, stages = team_in(layout), []

    def cut(outline):
        held, found = stages_of(outline, team)
        for stage in found:
            parallelize(stage, team)
        stages.extend(found)
        return held

    held = MiniCoder.from_pretrained(folder, parallelize=cut).train()
    local = {name: (p.to_local() if isinstance(p, DTensor) else p).numel()
             for name, p in held.named_parameters()}
    return sum(local.values()), trained(team, held, stages, 4, FIVE, False, 24)


def twice(schedule):
    """The gradients of two calls with rows of other lengths, which add up."""
    team = team_in(Layout(2, pipeline_schedule=schedule))
    held, stages = stages_of(random_model(FIVE), team)
    for stage in stages:
        parallelize(stage, team)
    pipeline = Pipeline(stages, team, 4)
    for length in (12, 7):
        tokens, targets = rows_of(FIVE, 0, 8)
        pipeline(tokens[:, :length], targets[:, :length], head)
    return {name: p.grad.full_tensor() for name, p in held.named_parameters()}


@pytest.mark.parametrize("schedule", ["1F1B", "ZBVZeroBubble"])
def test_gradients_of_several_calls_add_up(gang, schedule):
    model = random_model(FIVE)
    tokens, targets = rows_of(FIVE, 0, 8)
    for length in (12, 7):
        losses = token_losses(model, tokens[:, :length], targets[:, :length])
        losses.mean().backward()
    wanted = {name: p.grad for name, p in model.named_parameters()}
    for part in gang(2).run(twice, schedule):
        for name, grad in part.items():
            torch.testing.assert_close(grad, wanted[name], atol=1e-10, rtol=0)


def rows_that_cannot_be_cut():
    team = team_in(Layout(2))
    _, stages = stages_of(random_model(FIVE), team)
    try:
        Pipeline(stages, team, 4)(*rows_of(FIVE, 0, 6), head)
    except UserError as error:
        return str(error)


ALL = [("GPipe", 3), ("1F1B", 4), ("Interleaved1F1B", 2), ("ZBVZeroBubble", 3),
       ("DualPipeV", 4)]


@pytest.mark.parametrize("layout, config, documents, cases", [
    (Layout(2), FIVE, True, ALL),
    (Layout(4), FIVE, False, [("1F1B", 4)]),
    (Layout(4), EIGHT, False, [*ALL[:-1], ("DualPipeV", 8)]),
    (Layout(2, shard=2), FIVE, False, ALL),
    (Layout(2, replicate=2), FIVE, False, [ALL[1], ALL[3]]),
    (Layout(2, shard=2, expert=2), FIVE, True, ALL[2:]),
    (Layout(2, tensor=2, expert=2), FIVE, False, [ALL[0], ALL[3]]),
], ids=["2", "4 of 5 layers", "4", "shard", "replicate", "expert", "tensor"])
def test_a_pipeline_gives_the_numbers_of_one_process(gang, layout, config, documents,
                                                     cases):
    size = 2 if layout == Layout(2) else 4
    layout = layout.of(size)
    found = gang(size).run(several, [(layout, *case, config, documents, 24)
                                     for case in cases])
    expected = alone(config, documents, 24)
    for number in range(len(cases)):
        compare([own[number] for own in found], expected)


def test_a_checkpoint_is_read_in_stages_and_shards(gang, tmp_path):
    random_model(FIVE).save_pretrained(tmp_path)
    layout = Layout(2, shard=2, expert=2, pipeline_schedule="ZBVZeroBubble")
    numbers, found = zip(*gang(4).run(opened, tmp_path, layout), strict=True)
    compare(found, alone(FIVE, False, 24))
    total = sum(p.numel() for p in random_model(FIVE).parameters())
    assert sum(numbers) == total and max(numbers) < 0.3 * total


@pytest.mark.parametrize("layers, stages, sizes", [
    (5, 2, [3, 2]), (5, 4, [2, 1, 1, 1]), (60, 16, [4] * 12 + [3] * 4), (3, 1, [3])])
def test_layers_are_dealt_out_evenly_and_in_order(layers, stages, sizes):
    dealt = layers_of(layers, stages)
    assert [len(part) for part in dealt] == sizes
    assert [layer for part in dealt for layer in part] == list(range(layers))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_what_the_schedules_refuse_is_refused_before(name, processes):
    layout = Layout(processes, pipeline_schedule=name)
    each = len(stages_at(layout, 0))
    stages = [SimpleNamespace(
        num_stages=processes * each, group_size=processes, group_rank=0, submod=None,
        stage_index=number, is_last=False) for number in stages_at(layout, 0)]
    for microbatches in range(1, 12):
        try:
            get_schedule_class(name)(stages[0] if name in SCHEDULES[:2] else stages,
                                     microbatches)
            fine = True
        except ValueError:
            fine = False
        if fine:
            check(layout, 8, microbatches)
        else:
            with pytest.raises(UserError, match=f"--accumulate {microbatches}"):
                check(layout, 8, microbatches)


@pytest.mark.parametrize("name, layers, microbatches, words", [
    ("zero", 8, 4, "--pipeline-schedule zero: choose one of GPipe, 1F1B"),
    ("ZBVZeroBubble", 3, 4, "makes 4 stages, and the model has 3 layers"),
    ("GPipe", 8, 0, "accumulate")])
def test_numbers_that_do_not_fit_are_refused(name, layers, microbatches, words):
    with pytest.raises(UserError, match=words):
        check(Layout(2, pipeline_schedule=name), layers, microbatches)


def test_what_goes_back_twice_is_not_computed_again():
    for option in ("recomputed", "compiled"):
        check(Layout(2), 8, 4, **{option: True})
        with pytest.raises(UserError, match=f"--{option[:7]}"):
            check(Layout(2, pipeline_schedule="ZBVZeroBubble"), 8, 4, **{option: True})


def test_rows_must_fill_the_microbatches(gang):
    said = gang(2).run(rows_that_cannot_be_cut)
    assert said == ["--accumulate 4 must divide the 6 rows that a process reads."] * 2
