"""Shapes are executed: jaxtyping annotations of minicoder are checked while it runs."""

import os
from collections.abc import Callable, Iterator

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


@pytest.fixture(scope="module")
def gang() -> Iterator[Callable]:
    """`gang(n)`: n living processes of one gloo group; `.run(function, *arguments)`.

    Not for all modules: every mesh adds threads that never sleep.
    """
    from gang import Gang

    gangs: dict[int, Gang] = {}
    yield lambda size: gangs.setdefault(size, Gang(size))
    for one in gangs.values():
        one.stop()
