import pytest
import torch
from fakes import sharded

from minicoder.config import ModelConfig, parameter_count, preset
from minicoder.parallel.layout import Layout
from minicoder.scale.placement import holdings
from minicoder.training.optimizer import adamw

SHORT = preset("full_236b", num_hidden_layers=5)
LAYOUTS = [     # of 64 processes and more: each axis, uneven stages, padded weights
    Layout(1, 1, 64, 1, 8), Layout(2, 1, 16, 2, 16), Layout(4, 2, 4, 2, 8),
    Layout(2, 1, 24, 2, 16, "ZBVZeroBubble"), Layout(2, 4, 10, 1, 5, "Interleaved1F1B")]


def counted(config: ModelConfig, layout: Layout, rank: int) -> tuple[int, int]:
    """Numbers and tensors of real shards."""
    local = [p.to_local() for p in sharded(config, layout, rank).parameters()]
    return sum(t.numel() for t in local), len(local)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_each_kind_of_process_holds_what_is_planned(layout):
    world = layout.world
    for rank in {0, 1, world // 2 - 1, world // 2, world - 1}:
        assert holdings(SHORT, layout, rank) == counted(SHORT, layout, rank)


def test_weights_that_nobody_can_cut_evenly():
    layout = Layout(1, 1, 384, 1, 1)
    few = preset("full_236b", num_hidden_layers=2, n_routed_experts=160)
    found = {rank: holdings(few, layout, rank) for rank in (0, 159, 160, 383)}
    assert len(set(found.values())) > 1
    assert found == {rank: counted(few, layout, rank) for rank in found}


def test_small_presets_and_dense_ones():
    for name in ("toy", "nano", "small", "lite_16b"):
        config = preset(name, num_hidden_layers=3)
        for layout in (Layout(1, 1, 2, 2, 4), Layout(3, 1, 2, 1, 2)):
            for rank in (0, layout.world - 1):
                assert holdings(config, layout, rank) == counted(config, layout, rank)
    dense = preset("ablation_1b", num_hidden_layers=3)
    layout = Layout(1, 2, 3, 2, 1)
    assert holdings(dense, layout, 5) == counted(dense, layout, 5)


def test_all_processes_together_hold_the_model():
    whole, layout = preset("full_236b"), Layout(4, 2, 8, 1, 8)
    held = sum(holdings(whole, layout, rank)[0] for rank in range(layout.world))
    assert held == 2 * parameter_count(whole)


def test_the_optimizer_holds_two_moments_and_a_step_each():
    layout = Layout(2, 1, 2, 1, 2)
    config = preset("toy", num_hidden_layers=3)
    model = sharded(config, layout, 3).to_empty(device="cpu")
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer = adamw(model, lr=1e-3)
    optimizer.step()
    numbers, tensors = holdings(config, layout, 3)
    assert (numbers, tensors) == counted(config, layout, 3)
    sizes = [getattr(v, "_local_tensor", v).nbytes for state in
             optimizer.state.values() for v in state.values()]
    assert sum(sizes) == 8 * numbers + 4 * tensors


@pytest.mark.parametrize("layout", [
    Layout(16, 1, 32, 1, 8, "ZBVZeroBubble"), Layout(16, 2, 32, 2, 32)], ids=str)
def test_the_whole_236b(layout):
    whole = preset("full_236b")
    for rank in (0, layout.world // 2 + 1, layout.world - 1):
        assert holdings(whole, layout, rank) == counted(whole, layout, rank)
