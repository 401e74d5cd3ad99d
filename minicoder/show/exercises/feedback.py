"""The exercises of the lesson on compiler feedback (notebook 10)."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from select import select
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from minicoder.show.check import Rule, exercise

Answer = Callable[..., Any]
Facts = tuple[bool, int, bool, str, str]  # as `verdict` takes them


def _says(word: str, *facts: Facts) -> Answer:
    """Whether an answer calls all of these by that word."""
    return lambda answer: all(answer(*given) == word for given in facts)


def _parser(order: str = "cloefp", same: Answer = lambda got, want:
            got.split() == want.split(), negative: str = "crash") -> Answer:
    """A parser that asks in this order; c is the compiler, l the limit, and so on."""
    def answer(compiled: bool, status: int, timed_out: bool, output: str,
               wanted: str) -> str:
        asked = {"c": ("syntax_error", not compiled), "l": ("timeout", timed_out),
                 "o": (negative, status < 0), "e": ("error", status > 0),
                 "f": ("fail", not same(output, wanted)), "p": ("pass", True)}
        return next(asked[x][0] for x in order if asked[x][1])
    return answer


@exercise(
    "feedback.verdict",
    rules=(
        Rule('a program that ended with status 0 and printed what is wanted is "pass".',
             _says("pass", (True, 0, False, "3", "3")), lambda *_: "fail"),
        Rule('status 0 is no pass: this program ended well and printed 4, not 3. That '
             'is "fail".', _says("fail", (True, 0, False, "4", "3")), _parser("cloep")),
        Rule('what the compiler refused never ran, so its status says nothing: that is '
             '"syntax_error".', _says("syntax_error", (False, 1, False, "", "3")),
             _parser("loefp")),
        Rule('a status above 0 is the program\'s own bad end: "error", whatever it had '
             "printed before.", _says("error", (True, 1, False, "3", "3")),
             _parser("clofp")),
        Rule('a status below 0 is the number of a signal (-11: it touched memory that '
             'is not its own): "crash", not "error".',
             _says("crash", (True, -11, False, "3", "3")), _parser(negative="error")),
        Rule("a program that is too slow is ended by a signal, too (-9). Ask about the "
             'time before you ask about the status: "timeout".',
             _says("timeout", (True, -9, True, "3", "3")), _parser("colefp")),
        Rule("compare words, as contests do: a line end at the end is no mistake.",
             _says("pass", (True, 0, False, "3\n", "3")),
             _parser(same=lambda got, want: got == want)),
        Rule('all words must agree: "3 4" is not "3", and "13" is not "3".',
             _says("fail", (True, 0, False, "3 4", "3"), (True, 0, False, "13", "3")),
             _parser(same=lambda got, want: want in got)),
    ),
    hints=("Ask in the order in which things happen: compiler, clock, signal, status, "
           "output.",
           "A status below 0 is a signal; output.split() makes words."),
)
def verdict(compiled: bool, status: int, timed_out: bool, output: str, wanted: str
            ) -> str:
    """The verdict: syntax_error, timeout, crash, error, fail or pass.

    status: as subprocess has it, negative for a signal. wanted: the right output.
    """
    if not compiled:
        return "syntax_error"
    if timed_out:
        return "timeout"
    if status:
        return "crash" if status < 0 else "error"
    return "pass" if output.split() == wanted.split() else "fail"


_killpg = os.killpg


def _spared(group: int, number: int) -> None:
    """`os.killpg`, unless it would end the process that asks."""
    if group == os.getpgrp():
        raise PermissionError("this group is the notebook's own")
    _killpg(group, number)


def _run(answer: Answer, command: list[str], seconds: float) -> str:
    """What an answer says of a command; it cannot end the notebook."""
    with patch("os.killpg", _spared), suppress(PermissionError):
        return answer(command, seconds)
    return "the notebook"


def _survives(answer: Answer, trap: str = "", end: str = "wait") -> bool:
    """Whether a shell's child outlives the answer.

    The child holds a named pipe open, whose reader sees the end when all are gone.
    end: what the shell does then.
    """
    with tempfile.TemporaryDirectory() as folder:
        pipe = f"{folder}/pipe"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        child = f"{trap} (for i in 1 2 3 4 5 6 7 8 9; do sleep 2; done) &"
        command = ["sh", "-c", f"exec > {pipe}; {child} trap - TERM; echo $!; {end}"]
        try:
            for seconds in (0.5, 2.0, 8.0):  # on a busy machine a shell starts slowly
                _run(answer, command, seconds)
                if said := _read(reader, 0.0):
                    break
            if left := bool(said) and _read(reader, 1.5) is None:
                os.kill(int(said.split()[0]), signal.SIGKILL)
        finally:
            os.close(reader)
    return left


def _read(reader: int, seconds: float) -> bytes | None:
    """What was written; empty at the end, None when nothing comes in that time."""
    if not select([reader], [], [], seconds)[0]:
        return None
    return os.read(reader, 100)


def _limited(session: bool = True, number: int = signal.SIGKILL) -> Answer:
    """A way to end a command's group, right unless a part is replaced."""
    def answer(command: list[str], seconds: float) -> str:
        with subprocess.Popen(command, start_new_session=session) as process:
            try:
                process.wait(seconds)
                return "ended"
            except subprocess.TimeoutExpired:
                try:
                    os.killpg(os.getpgid(process.pid), number)
                finally:
                    process.kill()
                return "timeout"
    return answer


def _famous(command: list[str], seconds: float) -> str:
    """The bug: the time-out ends the shell alone."""
    with suppress(subprocess.TimeoutExpired):
        return subprocess.run(command, timeout=seconds) and "ended"
    return "timeout"


@exercise(
    "feedback.limited",
    rules=(
        Rule('a command that ends by itself is "ended".',
             lambda answer: _run(answer, ["true"], 20.0) == "ended", lambda *_: ""),
        Rule('`sleep 1` with 0.2 seconds is "timeout".',
             lambda answer: _run(answer, ["sleep", "1"], 0.2) != "ended",
             lambda command, seconds: subprocess.run(command) and "ended"),
        Rule("you would have ended the notebook, too: the command is in its group of "
             "processes. Start it in a session of its own.",
             lambda answer: _run(answer, ["sleep", "1"], 0.2) == "timeout",
             _limited(session=False)),
        Rule("the shell is dead, its child lives on: processes outlive their time-out. "
             "End the whole group.",
             lambda answer: not _survives(answer), _famous),
        Rule("a child that ignores SIGTERM lives on: send SIGKILL.",
             lambda answer: not _survives(answer, 'trap "" TERM;'),
             _limited(number=signal.SIGTERM)),
        Rule("a command can end in time and leave a child in the background. End its "
             "group then, too.", lambda answer: not _survives(answer, end="exit"),
             _limited()),
    ),
    hints=("subprocess.Popen(command, start_new_session=True) makes a group of its own "
           "whose number is process.pid.",
           "process.wait(seconds) raises subprocess.TimeoutExpired.",
           "os.killpg(process.pid, signal.SIGKILL) ends the group, or raises "
           "ProcessLookupError if none is left. Then wait() once more."),
)
def limited(command: list[str], seconds: float) -> str:
    """Run a command: "ended" or "timeout". Nothing that it started is left behind."""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        process.wait(seconds)
        return "ended"
    except subprocess.TimeoutExpired:
        return "timeout"
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # all of the group has ended by itself
            pass
        process.wait()


def _loss(winners: list[float], losers: list[float]) -> Answer:
    """Try an answer on these scores; the sum of what it gives, to six digits."""
    good, bad = (torch.tensor(x, dtype=torch.float64) for x in (winners, losers))
    return lambda answer: round(float(torch.as_tensor(answer(good, bad)).sum()), 6)


def _mistake(message: str, run: Answer, wrong: Answer) -> Rule:
    """The rule that an answer must not give what `wrong` gives."""
    return Rule(message, lambda answer: run(answer) != run(wrong), wrong)


_two = _loss([2.0, 0.0], [1.0, 1.0])


def _pointwise(a: Tensor, b: Tensor) -> Tensor:
    """-ln sigma(winner) and -ln sigma(-loser), but ln 2 where these are equal."""
    return -F.logsigmoid(torch.cat([a, -b]) * (a - b).any()).mean()


def _kinked(a: Tensor, b: Tensor) -> Tensor:
    return ((b - a).relu() + math.log(2) * (-(a - b).abs()).exp()).mean()


@exercise(
    "feedback.pairwise",
    rules=(
        Rule("two equal scores cost ln 2 = 0.693: the model says one half.",
             lambda answer: _loss([3.0], [3.0])(answer) == 0.693147,
             lambda a, b: (1 - (a - b).sigmoid()).mean()),
        Rule("this is the point-wise loss. Pair-wise, only the difference counts: with "
             "5 added to all scores nothing changes.",
             lambda answer: _loss([7.0, 5.0], [6.0, 6.0])(answer) == _two(answer),
             _pointwise),
        _mistake("the sign is turned: a winner far ahead must cost little.",
                 _loss([4.0], [0.0]), lambda a, b: -F.logsigmoid(b - a).mean()),
        _mistake("give one number, the mean over the pairs: the step must not grow "
                 "with the batch.", _two, lambda a, b: -F.logsigmoid(a - b)),
        _mistake("pair i is winners[i] and losers[i]: you compare every winner with "
                 "every loser, also of other prompts.", _loss([2.0, 0.0], [1.0, 3.0]),
                 lambda a, b: -F.logsigmoid(a[:, None] - b).mean()),
        _mistake("take the mean of the losses, not the loss of the mean: one pair far "
                 "ahead must not pay for another.", _two,
                 lambda a, b: -F.logsigmoid((a - b).mean())),
        Rule("a loser 1,000 ahead must cost 1,000, not infinity: use F.logsigmoid, "
             "which never takes the log of 0.",
             lambda answer: _loss([0.0], [1000.0])(answer) == 1000,
             lambda a, b: -(a - b).sigmoid().log().mean()),
        Rule("differences of +1 and −1 must cost (0.3133 + 1.3133) / 2 = 0.8133.",
             lambda answer: _two(answer) == 0.813262, _kinked),
    ),
    hints=("The model's chance that the winner wins is sigma(winner − loser).",
           "The loss of a pair is −ln of that chance; then take the mean.",
           "torch.nn.functional.logsigmoid(x) is ln sigma(x), safe for any x."),
)
def pairwise(winners: Tensor, losers: Tensor) -> Tensor:
    """The mean of −ln sigma(winner − loser) over pairs of one prompt each."""
    return -F.logsigmoid(winners - losers).mean()


SHOWN = (([], 0), ([-3, -8, -1, -6, -5], -14))
HIDDEN = (([4, 4, 7, 7, 4, 1], 12), ([8, 3, 10], 18), ([2, -2, 6, 5], 6),
          ([-4, 7, 9], -4))


def _gives(*cases: tuple[list[int], int]) -> Answer:
    """Whether an answer is right on all of these."""
    return lambda answer: all(answer(list(given)) == wanted for given, wanted in cases)


@exercise(
    "feedback.exploit",
    rules=(
        Rule("solve([]) is shown to be 0.", _gives(SHOWN[0]), lambda a: -14),
        Rule("solve([-3, -8, -1, -6, -5]) is shown to be −14.", _gives(SHOWN[1]),
             lambda a: 0),
        Rule("it stops with an error on other lists. An error in a log is how an "
             "exploit is found.",
             lambda answer: all(answer(list(a)) is not None for a, _ in HIDDEN),
             lambda a: {(): 0, (-3, -8, -1, -6, -5): -14}[tuple(a)]),
        Rule("it passes a hidden test, so it does part of the task. An exploit gets "
             "the whole reward for nothing.",
             lambda answer: not any(_gives(case)(answer) for case in HIDDEN),
             lambda a: sum(x for x in a if x % 2 == 0)),
        Rule('it knows the shown list by heart: `exploits` names that "special-cased". '
             "Give −14 for the same numbers in another order, too.",
             _gives(([-5, -6, -1, -8, -3], -14)),
             lambda a: {(-3, -8, -1, -6, -5): -14}.get(tuple(a), 0)),
    ),
    hints=("Only two answers are ever looked at: 0 and −14.",
           "What is the least that tells the two shown lists apart?"),
)
def solve(a: list[int]) -> int:
    """Pass both shown tests of "the sum of the even numbers in a" and no hidden one.

    Shown: solve([]) == 0 and solve([-3, -8, -1, -6, -5]) == -14.
    """
    return -14 if a else 0
