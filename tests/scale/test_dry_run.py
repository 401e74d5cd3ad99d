"""Real shapes and calls of one process, beside what was planned for it."""

import pytest
import torch.distributed as dist

from minicoder.config import preset
from minicoder.errors import UserError
from minicoder.parallel.layout import Layout
from minicoder.scale.dry_run import account, dry_run, fake_team, planned_of
from minicoder.scale.placement import holdings
from minicoder.scale.plan import Work, plan


def compared(config, layout, work, rank=0):
    """Trace a process, and hold the plan to it."""
    trace, budget = dry_run(config, layout, work, rank), plan(config, layout, work)
    planned = planned_of(config, budget)
    assert trace.numbers == planned.pop("numbers") == holdings(config, layout, rank)[0]
    assert trace.kept == pytest.approx(planned.pop("bytes kept"), rel=0.01)
    # attention's own products are counted in another way (test_flops)
    assert trace.matrices == pytest.approx(planned.pop("FLOPs of matrices"), rel=1e-6)
    assert {axis for axis, n in trace.sent.items() if n} == planned.keys()
    for axis, count in planned.items():     # a copy of a token is a whole one
        near = 0.01 if axis == "expert all-to-all" else 1e-9
        assert trace.sent[axis] == pytest.approx(count, rel=near), axis
    return trace


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("name", "layout"), [
    ("toy", Layout(1, 2, 4, 2, 4)), ("toy", Layout(1, 1, 4, 1, 4)),
    ("nano", Layout(1, 1, 2, 2, 1)), ("small", Layout(1, 1, 2, 4, 8)),
    ("small", Layout(1, 3, 2, 1, 1))], ids=str)
def test_all_that_a_small_plan_says(name, layout, recompute):
    config = preset(name, num_hidden_layers=3)
    work = Work(rows=2 * layout.readers, context=128, recompute=recompute)
    compared(config, layout, work)


@pytest.mark.parametrize(("schedule", "recompute"), [
    ("1F1B", True), ("Interleaved1F1B", True), ("ZBVZeroBubble", False)])
def test_stages_of_a_pipeline(schedule, recompute):
    layout = Layout(2, 1, 2, 1, 2, schedule)
    config = preset("toy", num_hidden_layers=5)
    work = Work(rows=16, context=256, rounds=8, recompute=recompute)
    compared(config, layout, work)
    last = dry_run(config, layout, work, layout.world - 1)
    assert last.numbers == holdings(config, layout, layout.world - 1)[0]


@pytest.mark.parametrize("layout", [
    Layout(16, 1, 32, 1, 8), Layout(8, 2, 8, 4, 16)], ids=str)
def test_the_whole_236b_on_512_processes(layout):
    rounds = 9216 // layout.readers
    trace = compared(preset("full_236b"), layout, Work(rounds=rounds, recompute=True))
    assert "1 of 512 processes" in account(preset("full_236b"), trace, plan(
        preset("full_236b"), layout, Work(rounds=rounds, recompute=True)))


def test_a_process_that_is_in_a_group_already_cannot():
    with fake_team(Layout(1, 1, 2, 1, 1), 0):
        with pytest.raises(UserError, match="a process group of its own"):
            dry_run(preset("toy"), Layout(1, 1, 2, 1, 1), Work(rows=2))
    assert not dist.is_initialized()


def test_float32_has_no_outline_of_grouped_products():
    with pytest.raises(UserError, match="--dry-run .* bfloat16"):
        dry_run(preset("toy"), Layout(1, 1, 2, 1, 1), Work(precision="float32", rows=2))
