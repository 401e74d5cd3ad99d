"""The formulas beside the schedules that torch makes, played through."""

import pytest
import torch
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import get_schedule_class

from minicoder.parallel.layout import Layout
from minicoder.parallel.pipeline import stages_at
from minicoder.scale.dry_run import fake_team
from minicoder.scale.schedules import SOURCES, bubble, in_flight

# those that put off gradients of weights compute nothing again
TRIED = ("GPipe", "Interleaved1F1B", "ZBVZeroBubble", "DualPipeV")


def orders(layout, microbatches):
    """What each process does in turn: (kind, stage, microbatch); pairs overlap."""
    with fake_team(layout, 0) as team:
        numbers, one = stages_at(layout, 0), torch.empty(1, 1, device="meta")
        stages = [PipelineStage(
            torch.nn.Linear(1, 1), number, len(numbers) * layout.pipeline, team.device,
            input_args=one, output_args=one) for number in numbers]
        kind = get_schedule_class(layout.pipeline_schedule)
        made = kind(stages if len(stages) > 1 else stages[0], microbatches,
                    loss_fn=lambda x, y: x)
        order = getattr(made, "pipeline_order", None) or made._get_pipeline_order()
    return {rank: [[(a.computation_type.value, a.stage_index, a.microbatch_index)
                    for a in action.sub_actions or [action]]
                   for action in actions if action is not None]
            for rank, actions in order.items()}


def played(layout, microbatches, recompute):
    """The share of the time that process 0 waits, and the most that each holds."""
    order, per = orders(layout, microbatches), len(stages_at(layout, 0))
    cost = {"F": 1, "B": 3 if recompute else 2, "I": 2 if recompute else 1, "W": 1}
    last, done, at = per * layout.pipeline - 1, {}, dict.fromkeys(order, 0)
    clock, held, most = (dict.fromkeys(order, 0) for _ in range(3))

    def needs(kind, stage, batch):
        if kind == "F":
            return [("F", stage - 1, batch)] if stage else []
        if kind == "W":
            return [("G", stage, batch)]
        return [("G", stage + 1, batch) if stage < last else ("F", stage, batch)]

    while any(at[rank] < len(actions) for rank, actions in order.items()):
        before = sum(at.values())
        for rank, actions in order.items():
            while at[rank] < len(actions):
                parts = [p for p in actions[at[rank]] if p[0] in cost]
                waits = [need for part in parts for need in needs(*part)]
                if not all(need in done for need in waits):
                    break
                start = max([clock[rank], *(done[need] for need in waits)])
                clock[rank] = start + sum(cost[kind] for kind, _, _ in parts)
                for kind, stage, batch in parts:
                    if kind != "W":
                        done["F" if kind == "F" else "G", stage, batch] = clock[rank]
                    held[rank] += {"F": 1, "B": -1, "I": 0, "W": -1}[kind]
                    most[rank] = max(most[rank], held[rank])
                at[rank] += 1
        assert sum(at.values()) > before, "the schedule hangs"
    works = microbatches * per * (cost["F"] + cost["B"])
    return 1 - works / max(clock.values()), {r: n / per for r, n in most.items()}


@pytest.mark.parametrize(("processes", "microbatches"), [(2, 4), (4, 8), (4, 24)])
@pytest.mark.parametrize(("name", "recompute"), [
    ("GPipe", True), ("Interleaved1F1B", True), *((n, False) for n in TRIED)])
def test_waiting_and_holding(name, recompute, processes, microbatches):
    layout = Layout(processes, 1, 1, 1, 1, name)
    waits, holds = played(layout, microbatches, recompute)
    assert bubble(layout, microbatches, recompute) == pytest.approx(waits)
    for process, most in holds.items():
        assert in_flight(layout, process, microbatches) == most


def test_1f1b_waits_like_gpipe_and_holds_less():
    one, all_first = (Layout(4, 1, 1, 1, 1, name) for name in ("1F1B", "GPipe"))
    assert bubble(one, 8) == bubble(all_first, 8) == pytest.approx(3 / 11)
    assert [in_flight(one, process, 8) for process in range(4)] == [4, 3, 2, 1]
    assert in_flight(one, 0, 2) == 2 and in_flight(all_first, 0, 8) == 8


def test_no_pipeline_no_bubble():
    assert bubble(Layout().of(8), 5) == 0 and in_flight(Layout().of(8), 0, 5) == 1


def test_each_schedule_has_its_source():
    from minicoder.parallel.pipeline import SCHEDULES
    assert set(SOURCES) == set(SCHEDULES)
