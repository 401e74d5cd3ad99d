"""What leaves a process: the real router's choices, and by hand."""

import math
from dataclasses import replace

import pytest
import torch

from minicoder.config import preset
from minicoder.parallel.layout import Layout
from minicoder.scale import traffic

WHOLE = preset("full_236b")


@pytest.mark.parametrize("processes", [2, 8, 20, 160])
def test_reached_processes_without_groups(processes):
    each, k = 160 // processes, WHOLE.num_experts_per_tok
    nobody = math.comb(160 - each, k) / math.comb(160, k)
    found = traffic.devices_reached(WHOLE, processes, limited=False)
    assert found == pytest.approx(processes * (1 - nobody), rel=0.01)


def test_groups_bound_what_is_reached():
    assert traffic.devices_reached(WHOLE, 160) == 6     # an expert each
    limited = traffic.devices_reached(WHOLE, 8)
    assert 2.9 < limited <= 3                           # DeepSeek-V2 §2.2.2: M = 3
    assert limited < traffic.devices_reached(WHOLE, 8, limited=False) < 6
    lite = preset("lite_16b")
    assert traffic.devices_reached(lite, 8) == traffic.devices_reached(lite, 8, False)


def test_a_token_goes_there_and_back_twice():
    layout, k = Layout(1, 1, 8, 1, 8), WHOLE.num_experts_per_tok
    row, back, ids = 2 * (5120 + k), 2 * 5120, 8 * k
    once = traffic.tokens_sent(WHOLE, layout, 2, False, copies=3)
    assert once == pytest.approx(3 * 7 / 8 * (2 * row + 2 * back + ids))
    again = traffic.tokens_sent(WHOLE, layout, 2, True, copies=3)
    assert again - once == pytest.approx(3 * 7 / 8 * (row + back + ids))


def test_weights_are_gathered_twice_a_round_and_once_in_a_pipeline():
    one = traffic.weights_sent(WHOLE, Layout(1, 1, 8, 1, 8), 2, 1)
    four = traffic.weights_sent(WHOLE, Layout(1, 1, 8, 1, 8), 2, 4)
    assert four == {axis: 4 * count for axis, count in one.items()}
    flat = replace(WHOLE, num_hidden_layers=2)
    alone = traffic.weights_sent(flat, Layout(2, 1, 8, 1, 8), 2, 4)
    assert alone == traffic.weights_sent(flat, Layout(2, 1, 8, 1, 8), 2, 1)


def test_axes_of_one_process_send_nothing():
    sent = traffic.per_step(WHOLE, Layout(1, 1, 1, 1, 1), 2, False, 4096, 1)
    assert sent == {}
    sent = traffic.per_step(WHOLE, Layout(2, 1, 1, 1, 1), 2, False, 4096, 2)
    assert sent == {"pipeline": 2 * 4096 * 4 * 5120}


def test_draws_leave_torch_alone():
    torch.manual_seed(3)
    traffic.devices_reached.cache_clear()
    traffic.devices_reached(WHOLE, 8)
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.rand(1) == after
