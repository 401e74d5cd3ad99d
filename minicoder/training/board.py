"""TensorBoard, where it is installed; metrics.jsonl has the same numbers."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from minicoder.errors import UserError


def open_board(folder: Path, first: int) -> AbstractContextManager[Any]:
    """A writer of events in `folder`, for steps from `first` on.

    Raises `UserError` when the package is missing.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(
            "--tensorboard needs the package tensorboard, which is not installed: "
            "python -m pip install tensorboard. metrics.jsonl has the same numbers."
        ) from None
    return SummaryWriter(str(folder), purge_step=first)


def no_board() -> AbstractContextManager[None]:
    """In place of a writer."""
    return nullcontext()


def show_on(board: Any, record: dict[str, Any], **more: float) -> None:
    """Write the numbers of a step; those of each layer as name/layer."""
    step = record["step"]
    for name, value in (record | more).items():
        values = {name: value}
        if isinstance(value, list):
            values = {f"{name}/{layer}": v for layer, v in enumerate(value)}
        for key, number in values.items():
            if isinstance(number, int | float) and key != "step":
                board.add_scalar(key, number, step)
