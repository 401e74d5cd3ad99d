"""The loop: it learns, and an interruption anywhere changes no bit of the outcome."""

import json
import math
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from disk import small_disk
from miniatures import LITE, random_model, random_tokens

from minicoder.errors import UserError
from minicoder.stages import read_json, read_jsonl, stage
from minicoder.training import loop
from minicoder.training.ledger import Ledger
from minicoder.training.loop import (
    IGNORE,
    Plan,
    Speed,
    balanced_loss,
    read_jsonl_prefix,
    token_losses,
    train,
)
from minicoder.training.schedule import cosine, rate
from minicoder.training.spikes import FEWEST

PLAN = Plan(steps=9, lr=3e-3, warmup=2, log_every=1)


class Interrupted(BaseException):
    """As a kill: nothing that catches errors may catch it."""


@pytest.fixture
def optimizers(monkeypatch):
    """Every optimizer that `train` makes, the last one at the end."""
    made, real = [], loop.adamw

    def noting(*args):
        made.append(real(*args))
        return made[-1]

    monkeypatch.setattr(loop, "adamw", noting)
    return made


@pytest.fixture
def checkpoints(monkeypatch):
    """A checkpoint whenever the number of finished steps is a multiple of three."""
    real = loop.save_shards
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr(loop, "save_shards", lambda folder, step, *rest: (
        real(folder, step, *rest) if step % 3 == 0 else None))


def trained(work, model, stop=None, at_end=False, plan=PLAN):
    """Train; `stop` is the step that does not end, or (`at_end`) the last that does."""
    def step_loss(step):
        if step == stop and not at_end or at_end and step == (stop or 0) + 1:
            raise Interrupted
        tokens = random_tokens(LITE, 2, 13, seed=step)
        return balanced_loss(model, tokens[:, :-1], tokens[:, 1:], 0.01)

    work.mkdir(parents=True, exist_ok=True)
    return train(model, step_loss, plan, work, "test")


def new_model():
    return random_model(LITE, torch.float32)


def equal(first, second):
    """All tensors of two nested states, to the bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(
            equal(first[key], second[key]) for key in first)
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second) and first.dtype == second.dtype
    return first == second


@pytest.fixture
def uninterrupted(tmp_path, optimizers, checkpoints):
    model = new_model()
    metrics = trained(tmp_path / "whole", model)
    return metrics, model.state_dict(), optimizers[-1].state_dict()


def test_the_record_of_a_step(uninterrupted):
    metrics, *_ = uninterrupted
    assert [m["step"] for m in metrics] == list(range(9))
    assert [m["lr"] for m in metrics] == [cosine(s, 9, 3e-3, 2, 0.1) for s in range(9)]
    for m in metrics:
        assert m["tokens"] == 24 and m["grad_norm"] > 0 and m["balance_loss"] > 0
        assert len(m["expert_load"]) == 2 and len(m["expert_load"][0]) == 8
        # 0.01 * the sum over two layers of experts, added to the language loss
        assert m["loss"] == pytest.approx(
            m["language_loss"] + 0.01 * 2 * m["balance_loss"], rel=1e-5)


@pytest.mark.parametrize("stops", [(0,), (2,), (3,), (4,), (8,), (5, 5), (1, 4, 7)])
def test_interrupted_and_resumed_is_the_same_to_the_bit(
        tmp_path, uninterrupted, optimizers, stops):
    metrics, weights, state = uninterrupted
    for stop in stops:
        with pytest.raises(Interrupted):
            trained(tmp_path / "work", new_model(), stop)
    model = random_model(LITE, torch.float32, seed=5) if stops[-1] > 3 else new_model()
    found = trained(tmp_path / "work", model)
    assert found == metrics == read_jsonl(tmp_path / "work" / "metrics.jsonl")
    assert equal(model.state_dict(), weights)
    assert equal(optimizers[-1].state_dict(), state)


@pytest.mark.parametrize("torn", ['{"step": 7, "lo', "", '{"step": 7, "loss": 1.0}'])
def test_a_torn_log_is_mended(tmp_path, uninterrupted, torn):
    with pytest.raises(Interrupted):
        trained(tmp_path / "work", new_model(), 7)
    path = tmp_path / "work" / "metrics.jsonl"
    path.write_text(path.read_text() + torn)
    assert trained(tmp_path / "work", new_model()) == uninterrupted[0]
    assert path.read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_a_kill_while_the_log_is_mended_loses_none_of_it(
        tmp_path, uninterrupted, monkeypatch):
    with pytest.raises(Interrupted):
        trained(tmp_path / "work", new_model(), 7)

    def killed(*args):
        raise Interrupted

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr("os.replace", killed)
        trained(tmp_path / "work", new_model())
    assert trained(tmp_path / "work", new_model()) == uninterrupted[0]


def test_a_full_disk_costs_the_steps_since_the_last_checkpoint(
        tmp_path, uninterrupted, monkeypatch):
    metrics, weights, _ = uninterrupted
    real = loop.save_shards
    with small_disk(tmp_path / "disk", mount=False) as disk:
        folder = disk.folder / "pretrain"

        def fills(where, step, *rest):
            if step != 6:
                return real(where, step, *rest)
            with disk.room(8192):
                real(where, step, *rest)

        with pytest.raises(UserError, match="^The disk is full"):
            with stage(folder, "pretrain", {}) as run, monkeypatch.context() as patch:
                patch.setattr(loop, "save_shards", fills)
                trained(run.work, new_model())
        state = disk.folder / "pretrain.partial" / "state"
        assert [path.name for path in state.iterdir()] == ["step-0000003"]
        with stage(folder, "pretrain", {}) as run:
            model = random_model(LITE, torch.float32, seed=5)
            assert trained(run.work, model) == metrics
    assert equal(model.state_dict(), weights)


def test_the_log_is_thinned_and_keeps_the_last_step(tmp_path):
    found = trained(tmp_path, new_model(), plan=Plan(9, 3e-3, 2, log_every=4))
    assert [m["step"] for m in found] == [0, 4, 8]


def test_a_step_without_a_loss_changes_nothing(tmp_path):
    model, before = new_model(), new_model()
    found = train(model, lambda step: (None, {"reward": 0.0}), PLAN, tmp_path, "test")
    assert equal(model.state_dict(), before.state_dict())
    assert all("loss" not in m and m["reward"] == 0 for m in found) and len(found) == 9


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    model = new_model()

    def step_loss(step):
        return model.lm_head.weight.sum() * (math.nan if step == 2 else 1), {}

    with pytest.raises(UserError, match=r"loss is nan at step 2.* than 0.003"):
        train(model, step_loss, PLAN, tmp_path, "test")
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("values, said", [
    ({"steps": 0}, "--steps 0 must be 1 or more"), ({"lr": 0.0}, "--lr 0.0 must"),
    ({"lr": math.nan}, "--lr nan must"), ({"lr": -1.0}, "--lr -1.0 must"),
    ({"warmup": -1}, "--warmup -1 must be 0 or more"), ({"keep": 0}, "--keep 0 must"),
    ({"weight_decay": -0.1}, "--weight-decay -0.1 must"), ({"clip": 0.0}, "--clip 0.0"),
    ({"floor": 1.1}, "--floor 1.1 must lie"), ({"spike": 1.0}, "--spike 1.0 must")])
def test_plans_that_are_none(values, said):
    with pytest.raises(UserError, match=said):
        Plan(**({"steps": 1, "lr": 0.1} | values))


def test_the_plan_chooses_the_schedule(tmp_path):
    found = trained(tmp_path, new_model(), plan=Plan(9, 3e-3, 2, 0.2, log_every=1,
                                                     schedule="steps"))
    assert [m["lr"] for m in found] == [
        rate("steps", step, 9, 3e-3, 2, 0.2) for step in range(9)]


class Burst:
    """Losses whose gradient is a thousand times as long at some steps; it draws.

    Not from Python's generator: beartype, which is on in tests, draws from it as well.
    """

    def __init__(self, model, at=(), stop=None):
        self.model, self.at, self.stop = model, at, stop

    def __call__(self, step):
        if step == self.stop:
            raise Interrupted
        tokens = random_tokens(LITE, 2, 13, seed=step)
        draw = 1 + np.random.rand() + torch.rand(1).item()
        loss, noted = balanced_loss(self.model, tokens[:, :-1], tokens[:, 1:], 0.01)
        return loss * draw * (1000 if step in self.at else 1), noted | {
            "sources": {"code": 20, "text": 4}}


SPIKED = Plan(24, 3e-3, 2, log_every=6, spike=10.0, clip=1e9)


def spiked(work, model, stop=None, seed=1):
    """24 steps, of which 18 and 20 are left out."""
    work.mkdir(parents=True, exist_ok=True)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return train(model, Burst(model, (18, 20), stop), SPIKED, work, "test",
                 Ledger("test"))


def test_a_spike_is_left_out_and_noted(tmp_path):
    model, before = new_model(), {}

    class Watched(Burst):
        def __call__(self, step):
            before[step] = [p.detach().clone() for p in model.parameters()]
            return super().__call__(step)

    ledger = Ledger("test")
    found = train(model, Watched(model, (18,)), SPIKED, tmp_path, "test", ledger)
    assert 18 >= FEWEST
    assert [m["step"] for m in found if "skipped" in m] == [18]
    assert "times the median" in next(m for m in found if m["step"] == 18)["skipped"]
    same = {step: all(map(torch.equal, before[step], before[step + 1]))
            for step in range(23)}
    assert [step for step in same if same[step]] == [18]
    assert ledger.phases == [{"phase": "test", "steps": 24, "skipped": 1,
                              "tokens": {"code": 480, "text": 96}}]


def test_steps_that_are_left_out_are_logged_between_the_others(tmp_path):
    found = spiked(tmp_path, new_model())
    assert [m["step"] for m in found] == [0, 6, 12, 18, 20, 23]
    assert [m["step"] for m in found if "skipped" in m] == [18, 20]
    assert [m["tokens_seen"] for m in found] == [24 * (m["step"] + 1) for m in found]
    assert read_json(tmp_path / "ledger.json")["total"] == 576


@pytest.mark.parametrize("stops", [(1,), (17,), (19, 22), (3, 20)])
def test_ledger_spikes_and_draws_go_on_to_the_bit(tmp_path, checkpoints, stops):
    whole, model = new_model(), new_model()
    wanted = spiked(tmp_path / "whole", whole)
    seed = 1                    # another process would draw other numbers
    for stop in stops:
        with pytest.raises(Interrupted):
            spiked(tmp_path / "work", new_model(), stop, seed)
        seed = 9 if list(tmp_path.glob("work/state/step-*")) else 1
    assert spiked(tmp_path / "work", model, None, seed) == wanted
    assert equal(model.state_dict(), whole.state_dict())
    for name in ("metrics.jsonl", "ledger.json"):
        assert (tmp_path / "work" / name).read_bytes() == (
            tmp_path / "whole" / name).read_bytes()


def test_as_many_checkpoints_are_kept_as_the_plan_says(tmp_path, checkpoints):
    trained(tmp_path, new_model(), plan=Plan(9, 3e-3, 2, keep=3))
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == [
        f"step-000000{step}" for step in (3, 6, 9)]


def test_a_gradient_that_is_no_number_stops_before_the_weights_change(tmp_path):
    model, before = new_model(), new_model()

    def step_loss(step):        # the slope of a square root at 0
        return model.lm_head.weight.sub(model.lm_head.weight.detach()).norm(
            ).square() * 0 + (model.lm_head.weight * 0).abs().sqrt().sum(), {}

    with pytest.raises(UserError, match="norm of the gradient is (nan|inf) at step 0"):
        train(model, step_loss, PLAN, tmp_path, "test")
    assert equal(model.state_dict(), before.state_dict())


def test_the_speed_has_a_file_of_its_own(tmp_path):
    found = trained(tmp_path, new_model())
    timing = read_jsonl(tmp_path / "timing.jsonl")
    assert [line["step"] for line in timing] == [m["step"] for m in found]
    assert all(line["tokens_per_second"] > 0 for line in timing)
    assert not any("seconds" in key or "second" in key for m in found for key in m)


def test_what_the_bar_says(monkeypatch):
    now = [5.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    speed, said = Speed(), {}
    now[0] = 7.0
    speed.add({"loss": 3.0, "language_loss": 2.5, "tokens": 5000}, said)
    assert said == {"loss": "2.500", "tokens/s": "2,500"}
    speed.add({"reward": 1.0}, said)
    assert speed.record(4) == {"step": 4, "seconds": 2.0, "tokens_per_second": 2500.0}


def test_tensorboard_is_asked_for_by_the_plan(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(loop, "open_board", lambda folder, first: nullcontext(
        SimpleNamespace(add_scalar=lambda *values: shown.append(values))))
    plan = Plan(9, 3e-3, 2, log_every=4, tensorboard=True)
    found = trained(tmp_path, new_model(), plan=plan)
    assert [v for k, v, _ in shown if k == "loss"] == [m["loss"] for m in found]
    assert [s for k, _, s in shown if k == "tokens_per_second"] == [0, 4, 8]


def test_losses_of_a_wide_model_are_wide():
    model, tokens = random_model(LITE), random_tokens(LITE, 2, 9)
    losses = token_losses(model, tokens[:, :-1], tokens[:, 1:])
    assert losses.dtype == torch.float64
    wanted = -model(tokens[:, :-1]).log_softmax(-1).gather(2, tokens[:, 1:, None])
    assert torch.allclose(losses, wanted.flatten(), rtol=0, atol=1e-12)


def test_ignored_targets_take_no_part():
    model, tokens = new_model(), random_tokens(LITE, 2, 9)
    targets = random_tokens(LITE, 2, 9, seed=3)
    logits = model(tokens).log_softmax(-1)
    chosen = -logits.gather(2, targets[..., None])[..., 0]
    assert torch.allclose(token_losses(model, tokens, targets), chosen.flatten(),
                          atol=1e-5)
    targets[0, 3:], targets[1, :2] = IGNORE, IGNORE
    kept = torch.cat([chosen[0, :3], chosen[1, 2:]])
    assert torch.allclose(token_losses(model, tokens, targets), kept, atol=1e-5)


def test_lines_before_a_torn_one_are_read(tmp_path):
    assert read_jsonl_prefix(tmp_path / "none") == []
    whole = [{"step": step, "text": "\u2028"} for step in range(3)]
    text = "".join(json.dumps(m, ensure_ascii=False) + "\n" for m in whole)
    (tmp_path / "log").write_text(text + '{"step": 3', encoding="utf-8")
    assert read_jsonl_prefix(tmp_path / "log") == whole
