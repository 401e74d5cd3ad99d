"""The exercises of the lesson on pre-training (notebook 07), and their mistakes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from minicoder.show.check import Rule, exercise

Answer = Callable[..., Any]


def _same(first: Any, second: Any) -> bool:
    """Whether two answers hold the same numbers, up to rounding in float32."""
    first, second = (torch.as_tensor(x, dtype=torch.float64) for x in (first, second))
    return first.shape == second.shape and torch.allclose(first, second, rtol=1e-6)


def _mistake(message: str, run: Answer, wrong: Answer) -> Rule:
    """The rule that an answer must not give what `wrong` gives."""
    return Rule(message, lambda answer: not _same(run(answer), run(wrong)), wrong)


def _at(kind: str, step: int) -> Answer:
    """Try a schedule on a step of 110, with a peak of 4e-4 and 10 steps of warm-up."""
    return lambda answer: answer(kind, step, 110, 4e-4, 10)


def _rate(first: int = 1, begin: int = 1, late: int = 0, since: int = 0,
          warm: tuple[str, ...] = ("cosine", "steps"),
          wave: Answer = lambda x: 0.1 + 0.9 * x, at: tuple[float, ...] = (0.6, 0.9),
          fall: float = 0.316) -> Answer:
    """Both schedules, right unless a part of them is replaced."""
    def answer(kind: str, step: int, steps: int, peak: float, warmup: int) -> float:
        if kind in warm and step < warmup:
            return peak * (step + first) / warmup
        if kind == "steps":
            done, whole = step - late - since * warmup, steps - since * warmup
            return peak * fall ** sum(done >= share * whole for share in at)
        done = (step - begin * warmup) / (steps - begin * warmup)
        return peak * wave((1 + math.cos(math.pi * done)) / 2)
    return answer


@exercise(
    "pretrain.rate",
    rules=(
        _mistake("step 0 is not warmed up.", _at("cosine", 0),
                 _rate(warm=())),
        _mistake("with steps, too, the rate warms up: step 0 has the full peak.",
                 _at("steps", 0), _rate(warm=("cosine",))),
        _mistake("step 0 has rate 0 and teaches nothing: count step + 1.",
                 _at("cosine", 0), _rate(first=0)),
        _mistake("the cosine ends at 0, not at a tenth of the peak.",
                 _at("cosine", 110), _rate(wave=lambda x: x)),
        _mistake("right after the warm-up the rate is below its peak: begin there.",
                 _at("cosine", 10), _rate(begin=0)),
        _mistake("half-way the rate is 0.50 of the peak, not 0.55: squeeze the cosine "
                 "between 0.1 and 1, do not cut it at 0.1.", _at("cosine", 60),
                 _rate(wave=lambda x: max(0.1, x))),
        _mistake("the steps fall at 80 and 90 %: that is V2-Lite. V2 has 60 and 90 %.",
                 _at("steps", 70), _rate(at=(0.8, 0.9))),
        _mistake("after 90 % the rate is still 0.316 of the peak: it falls twice.",
                 _at("steps", 105), _rate(at=(0.6,))),
        _mistake("a fall leaves 0.684 of the rate; it must leave 0.316.",
                 _at("steps", 70), _rate(fall=0.684)),
        _mistake("60 % are of the whole run, warm-up included: step 69 of 110 is after "
                 "the first fall.", _at("steps", 69), _rate(since=1)),
        _mistake("the rate falls one step late: step 66 of 110 is at 60 % already.",
                 _at("steps", 66), _rate(late=1)),
        Rule("the cosine: with 110 steps, warm-up 10 and peak 1, steps 4, 9, 10, 35, "
             "60 and 110 must have 0.5, 1, 1, 0.868, 0.55 and 0.1.",
             lambda answer: _same(
                 [answer("cosine", s, 110, 1.0, 10) for s in (4, 9, 10, 35, 60, 110)],
                 [0.5, 1, 1, 0.55 + 0.45 * 0.5**0.5, 0.55, 0.1]),
             _rate(wave=lambda x: 0.1 + 0.9 * (x if x in (0, 0.5) else x * x))),
        Rule("the steps: with 110 steps, warm-up 10 and peak 1, steps 4, 65, 66, 98 "
             "and 99 must have 0.5, 1, 0.316, 0.316 and 0.316² (not √0.1, not 0.1).",
             lambda answer: _same(
                 [answer("steps", s, 110, 1.0, 10) for s in (4, 65, 66, 98, 99)],
                 [0.5, 1, 0.316, 0.316, 0.316**2]), _rate(fall=0.1**0.5)),
        Rule("with 44 steps, warm-up 4 and peak 2, step 24 must have 1.1 with a cosine "
             "and step 40 must have 2 * 0.316² with steps: use every argument.",
             lambda answer: _same([answer(*x, 44, 2.0, 4) for x in (
                 ("cosine", 24), ("steps", 40))], [1.1, 2 * 0.316**2]),
             lambda kind, step, steps, peak, warmup: _rate()(kind, step, 110, peak,
                                                             10)),
    ),
    hints=("Below `warmup` both schedules are peak * (step + 1) / warmup.",
           "done = (step - warmup) / (steps - warmup) goes from 0 to 1; 0.1 + 0.9 * "
           "(1 + cos(pi * done)) / 2 goes from 1 to 0.1.",
           "Count the falls: (step >= 0.6 * steps) + (step >= 0.9 * steps)."),
)
def rate(kind: str, step: int, steps: int, peak: float, warmup: int) -> float:
    """Coder-V2's "cosine" (§3.3), or the "steps" of DeepSeek-V2 (§3.1.2)."""
    if step < warmup:
        return peak * (step + 1) / warmup
    if kind == "steps":
        return peak * 0.316 ** ((step >= 0.6 * steps) + (step >= 0.9 * steps))
    done = (step - warmup) / (steps - warmup)
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


def _told(answer: Answer, **config: float | None) -> Any:
    """What an answer gives for a config; `...` where it raises: that is not silent."""
    try:
        return answer(config)
    except NotImplementedError:  # so `judge` says of nothing
        return None
    except Exception:
        return ...


@exercise(
    "pretrain.factor",
    rules=(
        Rule("{'aux_loss_alpha': 0.001} must give 0.001, and 0.003 give 0.003.",
             lambda answer: [answer({"aux_loss_alpha": x}) for x in (0.001, 0.003)]
             == [0.001, 0.003], lambda config: 0.001),
        Rule("no field, and the factor is silently 0: raise an error.",
             lambda answer: _told(answer) != 0.0,
             lambda config: config.get("aux_loss_alpha", 0.0)),
        Rule("no field, and you give back None, or raise NotImplementedError, which "
             "here means \"not written\": raise another error, such as KeyError.",
             lambda answer: _told(answer) is not None,
             lambda config: config.get("aux_loss_alpha")),
        Rule("no field, and you guess a factor: a guess is as silent as a 0.",
             lambda answer: _told(answer) is ...,
             lambda config: config.get("aux_loss_alpha", 0.001)),
        Rule("a 0 that is written down is somebody's decision: give it back.",
             lambda answer: answer({"aux_loss_alpha": 0.0}) == 0.0,
             lambda config: config["aux_loss_alpha"] or 1 / 0),
        Rule("null (None) is no decision: it must raise, not become 0.",
             lambda answer: _told(answer, aux_loss_alpha=None) is ...,
             lambda config: config["aux_loss_alpha"] or 0.0),
        Rule("-0.001 would *reward* an uneven load: refuse factors below 0.",
             lambda answer: _told(answer, aux_loss_alpha=-0.001) is ...,
             lambda config: float(config["aux_loss_alpha"])),
    ),
    hints=("`config[name]` raises where `config.get(name, 0.0)` is silent.",
           "None < 0 raises by itself."),
)
def factor(config: dict) -> float:
    """The expert balance factor of a config.json; raises where it is not stated."""
    value = config["aux_loss_alpha"]
    if value < 0:
        raise ValueError(f"aux_loss_alpha = {value}: it must be 0 or more.")
    return value


def _summed(answer: Answer, *parts: tuple[float, ...]) -> float:
    """The sum of what an answer makes of the parts of a step."""
    parts = parts or ((4.0,), (2.0, 2.0, 2.0), (1.0, 3.0))
    counts = [len(part) for part in parts]
    return sum(float(answer(torch.tensor(part).double(), counts)) for part in parts)


def _slope(answer: Answer) -> Tensor:
    """The gradient of an answer by a part's two losses of four; 0 without one."""
    losses = torch.ones(2, dtype=torch.float64, requires_grad=True)
    given = answer(losses, [2, 2])
    if getattr(given, "grad_fn", None) is not None:
        given.backward()
    return torch.zeros(2) if losses.grad is None else losses.grad


@exercise(
    "pretrain.part_loss",
    rules=(
        Rule("a part has one loss, not one for each of its tokens: add them up.",
             lambda answer: torch.as_tensor(answer(torch.ones(3), [3, 1])).numel() == 1,
             lambda losses, counts: losses / sum(counts)),
        _mistake("the parts add up to the *sum* of all losses: divide by the number of "
                 "tokens.", _summed, lambda losses, counts: losses.sum()),
        _mistake("the parts' means are added up: more parts would mean larger steps.",
                 _summed, lambda losses, counts: losses.mean()),
        _mistake("the mean of means: a token in a short part counts more. Divide the "
                 "part's *sum* by the tokens of all parts.", _summed,
                 lambda losses, counts: losses.mean() / len(counts)),
        Rule("the parts (4), (2, 2, 2), (1, 3) must add up to 14 / 6, and (5), (1, 3) "
             "to 9 / 3.", lambda answer: _same(
                 [_summed(answer), _summed(answer, (5.0,), (1.0, 3.0))], [14 / 6, 3]),
             lambda losses, counts: losses.sum() / 6),
        Rule("the number is right, but backward() cannot go through it: give back a "
             "tensor that still knows where it came from.",
             lambda answer: _same(_slope(answer), [0.25, 0.25]),
             lambda losses, counts: losses.detach().sum() / sum(counts))),
    hints=("The loss of the step is the sum of all losses over the number of tokens.",
           "Divide the sum of this part by sum(counts)."),
)
def part_loss(losses: Tensor, counts: list[int]) -> Tensor:
    """What a part adds to the mean over all tokens of the step."""
    return losses.sum() / sum(counts)


def _train(model: nn.Module, optimizer: torch.optim.Optimizer,
           draw: torch.Generator, first: int, last: int) -> None:
    """Steps first .. last - 1, each with its own learning rate, on drawn numbers."""
    for step in range(first, last):
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
        optimizer.zero_grad()
        model(torch.randn(4, 3, generator=draw)).square().sum().backward()
        optimizer.step()


def _fresh(seed: int) -> tuple[nn.Module, torch.optim.Optimizer, torch.Generator]:
    draw = torch.Generator().manual_seed(seed)
    model = nn.utils.skip_init(nn.Linear, 3, 2, bias=False)  # draws nothing
    model.weight.data = torch.randn(2, 3, generator=draw)
    return model, torch.optim.AdamW([model.weight]), draw


def _resumed(answer: Answer | None) -> Tensor:
    """The weights after 6 steps, interrupted after step 2 unless there is no answer."""
    one, other = _fresh(1), _fresh(2)
    _train(*one, 0, 3)
    if answer is None:
        _train(*one, 3, 6)
        return one[0].weight.detach()
    saved = answer(2, *one)
    _train(*one, 3, 5)  # what is lost in the crash; the saved state must not notice
    for name, part in zip(("model", "optimizer"), other, strict=False):
        part.load_state_dict(copy.deepcopy(saved[name]))
    other[2].set_state(saved["generator"])
    _train(*other, saved["step"], 6)
    return other[0].weight.detach()


def _saving(**changes: Answer) -> Answer:
    """A snapshot, right unless a part is replaced; parts get all four arguments."""
    parts = {
        "step": lambda step, *_: step + 1,
        "model": lambda step, model, *_: copy.deepcopy(model.state_dict()),
        "optimizer": lambda step, model, adam, _: copy.deepcopy(adam.state_dict()),
        "generator": lambda *all_: all_[3].get_state()} | changes
    return lambda *given: {name: part(*given) for name, part in parts.items()}


def _only(name: str) -> Answer:
    """Resume with this part of an answer's snapshot and with the other parts right."""
    return lambda answer: _resumed(
        lambda *given: _saving()(*given) | {name: answer(*given)[name]})


@exercise(
    "pretrain.snapshot",
    rules=(
        Rule("the keys must be step, model, optimizer and generator.",
             lambda answer: set(answer(2, *_fresh(1))) == set(_saving()(2, *_fresh(1))),
             lambda step, model, adam, draw: {"step": step + 1, "model": model}),
        Rule("what stands under \"generator\" must be a state for set_state, from "
             "get_state(): the generator itself moves on.", lambda answer: isinstance(
                 answer(2, *_fresh(1))["generator"], Tensor),
             _saving(generator=lambda *all_: all_[3])),
        _mistake("step 2 is done twice: go on with the step after it.", _only("step"),
                 _saving(step=lambda step, *_: step)),
        _mistake("state_dict() gives the weights themselves, and training changes them "
                 "after you saved: make copies.", _only("model"),
                 _saving(model=lambda step, model, *_: model.state_dict())),
        _mistake("the optimizer's moments are still those that training changes: "
                 "copy.deepcopy its state_dict() too.", _only("optimizer"),
                 _saving(optimizer=lambda step, model, adam, _: adam.state_dict())),
        _mistake("the weights are right, yet Adam starts afresh: its moments are lost.",
                 _only("optimizer"), _saving(optimizer=lambda step, model, adam, _:
                                             adam.state_dict() | {"state": {}})),
        _mistake("the generator starts afresh, so the same data is drawn again: keep "
                 "its get_state(), not its seed.", _only("generator"),
                 _saving(generator=lambda *all_: torch.Generator().manual_seed(
                     all_[3].initial_seed()).get_state())),
        _mistake("you kept the state of torch's own generator; the data are drawn from "
                 "the one that you are given.", _only("generator"),
                 _saving(generator=lambda *_: torch.get_rng_state())),
        Rule("the weights after 6 steps must be the same to the bit.",
             lambda answer: torch.equal(_resumed(answer), _resumed(None)),
             _saving(step=lambda step, *_: step + 2)),
    ),
    hints=("Four things change from step to step: the count, the weights, the "
           "optimizer's moments, and where the generator is.",
           "copy.deepcopy(model.state_dict())."),
)
def snapshot(step: int, model: nn.Module, optimizer: torch.optim.Optimizer,
             generator: torch.Generator) -> dict:
    """All that the steps after `step` depend on, untouched by further training."""
    return {"step": step + 1, "model": copy.deepcopy(model.state_dict()),
            "optimizer": copy.deepcopy(optimizer.state_dict()),
            "generator": generator.get_state()}
