"""The bar: the items come through untouched, the words are on standard error."""

import pytest

from minicoder import progress as module
from minicoder.progress import progress


@pytest.fixture
def shown(monkeypatch):
    """A bar that is drawn although the tests silence bars."""
    real = module.tqdm
    monkeypatch.setattr(module, "tqdm", lambda *a, **kw: real(
        *a, **kw | {"disable": False, "mininterval": 0, "delay": 0, "ncols": 100}))


def test_items_pass_through_in_order(shown):
    assert list(progress(iter("abc"), "letters")) == ["a", "b", "c"]


def test_the_bar_is_on_standard_error_and_wiped(shown, capsys):
    for _ in progress(range(4), "pack", "row", initial=2, total=8):
        pass
    said = capsys.readouterr()
    assert said.out == "" and "pack" in said.err and "row/s" in said.err
    # an interrupted run goes on where it was
    assert "2/8" in said.err and "0/8" not in said.err
    assert "\n" not in said.err and said.err.endswith("\r")


def test_it_is_lazy(shown):
    taken = []
    bar = progress((taken.append(i) or i for i in range(9)), "lazy")
    next(bar)
    next(bar)
    assert taken == [0, 1]
