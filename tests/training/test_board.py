"""TensorBoard: read back where it is installed, a clear sentence where it is not."""

import sys

import pytest

from minicoder.errors import UserError
from minicoder.training.board import no_board, open_board, show_on

RECORD = {"step": 7, "loss": 2.5, "tokens": 24, "expert_load": [[0.5, 0.5]],
          "router_entropy": [1.5, 2.0], "skipped": "why"}


class Noting:
    """A writer that keeps what it is given."""

    def __init__(self):
        self.seen = []

    def add_scalar(self, *values):
        self.seen.append(values)


def test_numbers_are_shown_and_those_of_layers_by_layer():
    board = Noting()
    show_on(board, RECORD, tokens_per_second=9.0)
    assert board.seen == [
        ("loss", 2.5, 7), ("tokens", 24, 7), ("router_entropy/0", 1.5, 7),
        ("router_entropy/1", 2.0, 7), ("tokens_per_second", 9.0, 7)]


def test_without_the_package_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"not installed: python -m pip install tens"):
        open_board(tmp_path, 0)
    with no_board() as board:
        assert board is None


def test_what_is_shown_can_be_read_back(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with open_board(tmp_path, 0) as board:
        show_on(board, RECORD)
        show_on(board, RECORD | {"step": 8, "loss": 9.0})
    with open_board(tmp_path, 8) as board:      # the run goes on: 8 comes once more
        show_on(board, RECORD | {"step": 8, "loss": 2.0})
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(7, 2.5), (8, 2.0)]
