"""Shapes are executed: jaxtyping annotations of minicoder are checked while it runs."""

import os
from collections.abc import Callable

import hypothesis
import pytest
import tqdm  # noqa: F401  it reads its settings now: only kernels lose their bars
from jaxtyping import install_import_hook

os.environ.update(OMP_NUM_THREADS="1", PYTHONHASHSEED="0", TQDM_DISABLE="1")
install_import_hook("minicoder", "beartype.beartype")
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")

import torch  # noqa: E402  after the thread count

torch.set_num_threads(1)  # small tensors, shared machines: more threads are slower


def pytest_configure(config: pytest.Config) -> None:
    """The notebooks' tests are timed for the website."""
    import timings

    timings.pytest_configure(config)


GANGS: dict = {}


@pytest.fixture(scope="session")
def gang() -> Callable:
    """`gang(n)`: n living processes of one gloo group; `.run(function, *arguments)`."""
    from gang import Gang

    return lambda size: GANGS.setdefault(size, Gang(size))


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Gangs live for the tests of one folder: every mesh adds threads that never sleep.
    """
    if nextitem is None or nextitem.path.parent != item.path.parent:
        for one in GANGS.values():
            one.stop()
