"""Plans beside the paper's own figures; parts have tests of their own."""

import json
from dataclasses import replace

import pytest

from minicoder.config import parameter_count, preset
from minicoder.errors import UserError
from minicoder.parallel.layout import Layout
from minicoder.scale.devices import PAPER_HOURS, find_device
from minicoder.scale.placement import holdings
from minicoder.scale.plan import Work, loads, plan

WHOLE, GIB = preset("full_236b"), 2**30
# DeepSeek-V2 §3.1.3: 16 stages, zero bubble, 8 expert-parallel processes, ZeRO-1
PAPER = Layout(16, 1, 32, 1, 8, "ZBVZeroBubble")


def test_training_costs_about_what_the_paper_says():
    budget = plan(WHOLE, PAPER, Work(rounds=288, tokens=1e12))
    # bubble, and stages of 3 and 4 layers, come on top of the paper's utilisation
    assert 1 <= budget.gpu_hours / PAPER_HOURS < 1.15
    only = budget.imbalance / (1 - budget.bubble)
    assert budget.gpu_hours / only == pytest.approx(PAPER_HOURS, rel=1e-6)
    assert budget.cost == 2 * budget.gpu_hours


def test_the_papers_layout_fits_when_activations_are_computed_again():
    heavy = plan(WHOLE, PAPER, Work(rounds=288))
    orderly = replace(PAPER, pipeline_schedule="1F1B")  # which may compute again
    light = plan(WHOLE, orderly, Work(rounds=288, recompute=True))
    assert light.over < 0 < heavy.over
    assert light.gpu_hours > heavy.gpu_hours
    assert light.executed_per_token > light.flops_per_token == heavy.flops_per_token


def test_eight_gpus_of_80_gb_serve_the_236b():
    work = Work("serve", context=131072, rows=1)
    eight = plan(WHOLE, Layout(1, 1, 1, 8, 8), work)
    memory = eight.stages[0]
    assert memory.cache == 69120 * 131072          # 8.44 GiB: facts of MLA's cache
    assert 439.1 < 8 * memory.parameters / GIB < 480   # what is not cut lies in each
    assert eight.over < 0 < plan(WHOLE, Layout(1, 1, 1, 4, 4), work).over
    assert eight.gpu_hours > 0 and eight.sent == {} and eight.bubble == 0


def test_weights_gradients_and_moments_are_those_of_the_first_process():
    budget = plan(WHOLE, PAPER, Work(rounds=288, optimizer_bytes=8))
    for stage, memory in enumerate(budget.stages):
        numbers, tensors = holdings(WHOLE, PAPER, stage * 32)
        assert memory.parameters == memory.gradients == 4 * numbers
        assert memory.optimizer == 8 * numbers + 4 * tensors
    lean = plan(WHOLE, PAPER, Work(rounds=288, optimizer_bytes=2))
    assert lean.stages[3].optimizer < budget.stages[3].optimizer


def test_a_process_alone_gathers_nothing():
    toy, alone = preset("toy"), Layout(1, 1, 1, 1, 1)
    wide = plan(toy, alone, Work(rows=8, context=128, precision="float32"))
    low = plan(toy, alone, Work(rows=8, context=128))
    assert wide.sent == {} and wide.stages[0].buffers == 0
    assert low.stages[0].buffers == 2 * parameter_count(toy)     # autocast's copies
    assert wide.stages[0].parameters == 4 * parameter_count(toy)


def test_a_pipeline_keeps_gradients_whole_and_less_of_late_stages():
    one = plan(WHOLE, Layout(8, 1, 64, 1, 8), Work(rounds=144, recompute=True))
    kept = [memory.activations for memory in one.stages[:-1]]
    assert kept == sorted(kept, reverse=True)
    flat = plan(WHOLE, Layout(1, 1, 512, 1, 8), Work(rounds=18, recompute=True))
    assert one.stages[1].buffers > flat.stages[0].buffers
    assert sum(loads(WHOLE, one.layout, one.work)) == pytest.approx(
        loads(WHOLE, flat.layout, flat.work)[0])


def test_traffic_bounds_the_time_of_a_step():
    slow = replace(find_device("h800"), network=1e6)
    fast, wired = (plan(WHOLE, PAPER, Work(rounds=288), gpu) for gpu in (None, slow))
    assert wired.step_seconds > 100 * fast.step_seconds
    assert wired.step_seconds == pytest.approx(
        sum(wired.wires.values()) / (1 - wired.bubble))


def test_a_budget_is_json():
    budget = plan(WHOLE, PAPER, Work(rounds=288))
    read = json.loads(json.dumps(budget.to_json()))
    assert read["stages"][0]["parameters"] == budget.stages[0].parameters
    assert read["worst"] == budget.worst and read["layout"]["expert"] == 8
    assert budget.speed * 3600 * budget.layout.world == pytest.approx(
        budget.step_tokens / budget.step_seconds * 3600)


@pytest.mark.parametrize(("layout", "work", "message"), [
    (Layout(1, 1, 7, 1, 7), Work(rows=7), "--expert 7 must divide"),
    (Layout(1, 1, 2, 1, 2), Work(rows=3), "--batch: 3 rows of 4096 tokens"),
    (Layout(64, 1, 1, 1, 1), Work(rows=64, rounds=64), "--pipeline 64 is more than"),
    (PAPER, Work(rounds=288, recompute=True), "--recompute with"),
    (Layout(8, 1, 1, 1, 1), Work(rows=4, rounds=4), "--accumulate 4: "),
    (Layout(1, 1, 1, 1, 1), Work(context=0), "--context 0")])
def test_what_cannot_be_dealt_out_is_refused(layout, work, message):
    with pytest.raises(UserError, match=message):
        plan(WHOLE, layout, work)
