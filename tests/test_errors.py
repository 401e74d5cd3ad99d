"""Errors that are meant for people reach them, and only they."""

import math
import signal

import pytest

from minicoder.__main__ import main
from minicoder.errors import UserError, at_least


def test_no_clause_for_other_errors_swallows_it():
    # the library reads files inside `except (OSError, ValueError, KeyError)`
    assert not issubclass(UserError, OSError | ValueError | LookupError | TypeError
                          | ArithmeticError | RuntimeError)


@pytest.fixture
def signals():
    """The command line listens to SIGTERM; the tests' own way comes back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_the_command_line_prints_the_message_and_ends_with_2(capsys, tmp_path, signals):
    where = str(tmp_path / "nothing")
    command = ["complete", "--prompt", "def f", "--model", where]
    assert main(command) == 2
    said = capsys.readouterr()
    assert said.err.startswith("minicoder: ") and where in said.err
    assert "Traceback" not in said.out + said.err
    with pytest.raises(UserError):      # to find the place in the code
        main([*command, "--debug"])


def test_the_first_setting_below_its_least_is_named():
    at_least(1, steps=1, lr=1.5)
    with pytest.raises(UserError, match="--new-tokens 0 must be 1 or more"):
        at_least(1, steps=3, new_tokens=0, batch=-1)
    with pytest.raises(UserError, match="--lr nan"):
        at_least(0, lr=math.nan)
