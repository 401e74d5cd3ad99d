"""Settings of a training run that cannot be met."""

import pytest

from minicoder.errors import UserError
from minicoder.training.options import Machine, check


def test_a_step_is_read_in_equal_parts():
    check(6, Machine(accumulate=3))
    with pytest.raises(UserError, match="--accumulate 4 must divide --batch 6"):
        check(6, Machine(accumulate=4))
    with pytest.raises(UserError, match="batch"):
        check(0, Machine())
