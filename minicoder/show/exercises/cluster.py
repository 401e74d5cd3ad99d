"""The exercises of the lesson on clusters (notebook 14), and their known mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from minicoder.config import Real
from minicoder.show.check import Rule, exercise

Answer = Callable[..., Any]


def _gives(answer: Answer, wanted: Real, *args: Any) -> bool:
    return abs(answer(*args) - wanted) <= 1e-9 * max(1.0, abs(wanted))


# --- memory: three units of 10, 40 and 20 parameters over 4 processes

UNITS = [10, 40, 20]
TURNED = [40, 20, 10]   # so that no first or last unit is taken for the largest


def _peaks(answer: Answer, wanted: Real) -> bool:
    return all(_gives(answer, wanted, units, 4) for units in (UNITS, TURNED))


@exercise(
    "cluster.fsdp_peak",
    rules=(
        Rule("units of 10, 40 and 20 over 4 processes: 280 bytes are what lies there "
             "for good. While a unit runs, all of it is there too, with its gradient.",
             lambda answer: not _peaks(answer, 280),
             lambda units, processes: 16 * sum(units) / processes),
        Rule("480 bytes count one unit for the whole model: a formula that forgets how "
             "many layers there are.",
             lambda answer: not _peaks(answer, 480),
             lambda units, processes: 16 * max(units) / processes + 8 * max(units)),
        Rule("840 bytes gather all units at once. FSDP gathers one, and lets it go.",
             lambda answer: not _peaks(answer, 840),
             lambda units, processes: 16 * sum(units) / processes + 8 * sum(units)),
        Rule("360 bytes divide what is gathered as well: gathered means that each "
             "process has all of it.",
             lambda answer: not _peaks(answer, 360),
             lambda units, processes: (16 * sum(units) + 8 * max(units)) / processes),
        Rule("440 bytes have the gathered weights (4 bytes each) without the gradient "
             "that is made beside them (4 more).",
             lambda answer: not _peaks(answer, 440),
             lambda units, processes: 16 * sum(units) / processes + 4 * max(units)),
        Rule("520 bytes count 6 for a gathered parameter, as in bfloat16, or leave out "
             "the own part. In float32 it is 4 and 4, and the whole unit lies beside "
             "what is kept.",
             lambda answer: not _peaks(answer, 520),
             lambda units, processes: 16 * sum(units) / processes + 6 * max(units)),
        Rule("12 bytes a parameter miss a part of weight, gradient and two moments.",
             lambda answer: not _peaks(answer, 530),
             lambda units, processes: 12 * sum(units) / processes + 8 * max(units)),
        Rule("the largest unit decides, wherever it stands: 280 + 8 · 40 = 600 bytes "
             "for 10, 40, 20, and as much for 40, 20, 10.",
             lambda answer: _peaks(answer, 600),
             lambda units, processes: 16 * sum(units) / processes + 8 * units[1]),
        Rule("a process alone gathers nothing: 16 bytes a parameter, and no more.",
             lambda answer: _gives(answer, 1120, UNITS, 1),
             lambda units, processes: 16 * sum(units) / processes + 8 * max(units)),
    ),
    hints=("What lies there for good: 4 bytes each for weight, gradient and two "
           "moments, of all units, divided by the processes.",
           "What is there for a moment: the largest unit's weights and gradients, "
           "whole. One process has them anyway."),
)
def fsdp_peak(units: Sequence[int], processes: int) -> Real:
    """Bytes of a process at the worst moment, in float32."""
    state = 16 * sum(units) / processes
    return state + 8 * max(units) if processes > 1 else state


# --- the exchange: 3 devices of 2 experts, 2 experts a token; the middle is idle

XS = [torch.tensor([[1.], [2.]], dtype=torch.float64),
      torch.tensor([[3.]], dtype=torch.float64),
      torch.tensor([[4.], [5.], [6.]], dtype=torch.float64)]
EXPERTS = [torch.tensor([[0, 1], [5, 0]]), torch.tensor([[4, 5]]),
           torch.tensor([[0, 4], [1, 0], [5, 4]])]
ACROSS = [torch.tensor([[2, 0], [4, 5]]), torch.tensor([[1, 5]]),
          torch.tensor([[3, 2], [0, 2], [4, 1]])]
OF_THREE = [torch.tensor([[2, 8], [3, 5]]), torch.tensor([[6, 7]]),
            torch.tensor([[0, 2], [5, 4], [1, 8]])]     # 3 experts a device


class _Device:
    """Adds up, for each row, 10 ** e times it plus 1 for its experts e that live here.

    Notes its calls, the rows that it is given, and how many have no expert here.
    """

    def __init__(self, number: int, each: int) -> None:
        self.number, self.each, self.calls, self.strays = number, each, 0, 0
        self.rows: list[Real] = []

    def __call__(self, rows: Tensor, experts: Tensor) -> Tensor:
        here = (experts // self.each == self.number).double()
        self.calls, self.rows = self.calls + 1, self.rows + rows.flatten().tolist()
        self.strays += (here.sum(1) == 0).sum().item()
        return ((10.0 ** experts * rows + 1) * here).sum(1, keepdim=True)


def _wanted(xs: list[Tensor], experts: list[Tensor]) -> list[Tensor]:
    return [(10.0 ** e * x + 1).sum(1, keepdim=True)
            for x, e in zip(xs, experts, strict=True)]


def _exchange(answer: Answer, experts: list[Tensor] = EXPERTS, each: int = 2
              ) -> tuple[list[Tensor], list[_Device]]:
    devices = [_Device(number, each) for number in range(3)]
    outs = answer([x.clone() for x in XS], experts, devices, each)
    return [torch.as_tensor(out).double() for out in outs], devices


def _right(answer: Answer, experts: list[Tensor] = EXPERTS, each: int = 2) -> bool:
    given = _exchange(answer, experts, each)[0]
    return all(map(torch.allclose, given, _wanted(XS, experts)))


def _sending(goes: Answer, put: Answer) -> Answer:
    """An exchange that is right unless `goes` (who leaves) or `put` is wrong."""
    def answer(xs: list[Tensor], experts: list[Tensor], devices: list, each: int
               ) -> list[Tensor]:
        outs = [torch.zeros_like(x) for x in xs]
        for home, device in enumerate(devices):
            for source, (x, chosen) in enumerate(zip(xs, experts, strict=True)):
                rows = goes(chosen // each == home)
                if len(rows):
                    put(outs, source, rows, device(x[rows], chosen[rows]))
        return outs
    return answer


def _add(outs: list[Tensor], place: int, rows: Tensor, found: Tensor) -> None:
    outs[place].index_add_(0, rows, found)


def _overwrite(outs: list[Tensor], place: int, rows: Tensor, found: Tensor) -> None:
    outs[place][rows] = found


def _in_a_row(outs: list[Tensor], place: int, rows: Tensor, found: Tensor) -> None:
    outs[place][:len(rows)] += found


def _any(here: Tensor) -> Tensor:
    return here.any(1).nonzero().flatten()


def _visits(xs: list[Tensor], experts: list[Tensor], devices: list, each: int
            ) -> list[Tensor]:
    """A row for each visit; nothing is counted twice."""
    columns = [exchange(xs, [chosen[:, [k]] for chosen in experts], devices, each)
               for k in (0, 1)]
    return [first + second for first, second in zip(*columns, strict=True)]


def _everywhere(xs: list[Tensor], experts: list[Tensor], devices: list, each: int
                ) -> list[Tensor]:
    together = [device(torch.cat(xs), torch.cat(experts)) for device in devices]
    return list(sum(together).split([len(x) for x in xs]))


@exercise(
    "cluster.exchange",
    rules=(
        Rule("return a list with one tensor for each device, shaped like the tokens "
             "that began there.",
             lambda answer: [out.shape for out in _exchange(answer)[0]]
             == [x.shape for x in XS],
             lambda *args: torch.cat(exchange(*args))),
        Rule("the devices did nothing, or their answers are lost: the outputs are all "
             "0, or the tokens themselves.",
             lambda answer: not all(out.abs().sum() == 0 or torch.equal(out, x)
                                    for out, x in zip(_exchange(answer)[0], XS,
                                                      strict=True)),
             lambda xs, *_: xs),
        Rule("a device was given a row more than once: a token with two experts on one "
             "device is sent there once.",
             lambda answer: all(len(set(d.rows)) == len(d.rows)
                                for d in _exchange(answer)[1]),     # XS has no equals
             _visits),
        Rule("every device was given every token: send a row only where one of its "
             "experts lives.",
             lambda answer: any(len(d.rows) < 6 for d in _exchange(answer)[1]),
             _everywhere),
        Rule("a device was given a token none of whose experts live there: expert e "
             "lives on device e // each.",
             lambda answer: not any(d.strays for d in _exchange(answer)[1]),
             lambda xs, experts, devices, each: exchange(xs, experts, devices, 1)),
        Rule("some tokens never left for their second expert: look at all columns of "
             "`experts`, not at the first.",
             lambda answer: sum(len(d.rows) for d in _exchange(answer)[1]) == 8,
             _sending(lambda here: here[:, 0].nonzero().flatten(), _add)),
        Rule("a token that went to two devices has the answer of one: add what comes "
             "back, don't put it in place.",
             lambda answer: not all(map(
                 torch.allclose, _exchange(answer, ACROSS)[0],
                 _exchange(_sending(_any, _overwrite), ACROSS)[0])),
             _sending(_any, _overwrite)),
        Rule("answers came back in another order than the tokens have: the i-th row "
             "that a device was sent is not its i-th token.",
             lambda answer: not all(map(
                 torch.allclose, _exchange(answer, ACROSS)[0],
                 _exchange(_sending(_any, _in_a_row), ACROSS)[0])),
             _sending(_any, _in_a_row)),
        Rule("each device should run once, on the rows from all: many small calls are "
             "what the sorting saves.",
             lambda answer: max(d.calls for d in _exchange(answer)[1]) <= 1,
             _sending(_any, _add)),
        Rule("right with 2 experts a device, and wrong with 3: how many live on one is "
             "`each`.",
             lambda answer: not _right(answer) or _right(answer, OF_THREE, 3),
             lambda xs, experts, devices, each: exchange(xs, experts, devices, 2)),
        Rule("each token needs the sum over its experts, wherever they live (tried "
             "with 2 experts a device, and with a device that nobody chose).",
             lambda answer: _right(answer) and _right(answer, ACROSS),
             lambda xs, experts, devices, each: [
                 out if i else out + 1e-3 for i, out in enumerate(
                     exchange(xs, experts, devices, each))]),
    ),
    hints=("Expert e lives on device e // each.",
           "For each device: who of each source has an expert there? "
           "(experts[s] // each == d).any(1) says it.",
           "Join these rows and their experts, call devices[d](rows, experts) once, "
           "split the answer by source, and outs[s].index_add_(0, who, part)."),
)
def exchange(xs: list[Tensor], experts: list[Tensor], devices: list[Answer], each: int
             ) -> list[Tensor]:
    """Send tokens to the devices of their experts and add up what comes back."""
    outs = [torch.zeros_like(x) for x in xs]
    for home, device in enumerate(devices):
        who = [(chosen // each == home).any(1).nonzero().flatten()
               for chosen in experts]
        rows = torch.cat([x[w] for x, w in zip(xs, who, strict=True)])
        chosen = torch.cat([e[w] for e, w in zip(experts, who, strict=True)])
        back = device(rows, chosen).split([len(w) for w in who])
        for out, w, part in zip(outs, who, back, strict=True):
            out.index_add_(0, w, part)
    return outs


# --- the bubble


@exercise(
    "cluster.bubble",
    rules=(
        Rule("3/8 with 4 stages and 8 microbatches compares waiting with working. What "
             "is asked is the share of the whole step.",
             lambda answer: not _gives(answer, 3 / 8, 4, 8, 1, 2, 0),
             lambda p, m, f, b, w: (p - 1) / m),
        Rule("4/12: the last stage waits for the p − 1 stages before it, not for p.",
             lambda answer: not _gives(answer, 4 / 12, 4, 8, 1, 2, 0),
             lambda p, m, f, b, w: p / (m + p)),
        Rule("without weights put off it must be (p − 1) / (m + p − 1): 3/11 with 4 "
             "stages and 8 microbatches, 0 with one stage.",
             lambda answer: _gives(answer, 3 / 11, 4, 8, 1, 2, 0)
             and _gives(answer, 0, 1, 8, 1, 2, 0),
             lambda p, m, f, b, w: (p - 1) / (m + p + 1)),
        Rule("3/11 again, as for 1F1B: who puts the part `weights` off waits less.",
             lambda answer: not _gives(answer, 3 / 11, 4, 8, 1, 2, 1),
             lambda p, m, f, b, w: (p - 1) / (m + p - 1)),
        Rule("`weights` is a part of `backward` and is work like any other: it moves "
             "from the waiting, and is not left out of the working.",
             lambda answer: not _gives(answer, 3 / 19, 4, 8, 1, 2, 1),
             lambda p, m, f, b, w: (idle := (p - 1) * (f + b - 2 * w)) / (
                 idle + m * (f + b - w))),
        Rule("3/33 divides by the step of 1F1B. This step is shorter: it is the work "
             "and what is left of the waiting.",
             lambda answer: not _gives(answer, 3 / 33, 4, 8, 1, 2, 1),
             lambda p, m, f, b, w: (p - 1) * (f + b - 2 * w) / ((m + p - 1) * (f + b))),
        Rule("the weights' part is saved twice: a stage waits for the backward passes "
             "of others without it, and fills the rest with its own. 3/27 here.",
             lambda answer: _gives(answer, 3 / 27, 4, 8, 1, 2, 1),
             lambda p, m, f, b, w: (idle := (p - 1) * (f + b - w)) / (
                 idle + m * (f + b))),
        Rule("a third is left with a forward pass of 1, a backward of 2 and weights of "
             "1 alone. If what is not weights takes 2, so backward 3, it is 6/38.",
             lambda answer: _gives(answer, 6 / 38, 4, 8, 1, 3, 1),
             lambda p, m, f, b, w: (idle := (p - 1) * (f + b) / (3 if w else 1)) / (
                 idle + m * (f + b))),
    ),
    hints=("Waiting: p − 1 stages' passes, forward + backward without what is put "
           "off, and less once more by what fills it.",
           "Working: m (forward + backward). The share is waiting / (waiting + "
           "working)."),
)
def bubble(p: int, m: int, forward: Real, backward: Real, weights: Real) -> Real:
    """The share of a step that a stage of a pipeline waits."""
    waiting = (p - 1) * (forward + backward - 2 * weights)
    return waiting / (waiting + m * (forward + backward))
