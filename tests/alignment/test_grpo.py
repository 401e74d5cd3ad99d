"""The stage reinforces what passes, in all its versions, and goes on when killed."""

import json
import math
import shutil
from pathlib import Path

import pytest

from minicoder.alignment.grpo import grpo, objective_of
from minicoder.alignment.reward_model import reward
from minicoder.errors import UserError
from minicoder.training import loop

pytestmark = pytest.mark.filterwarnings("ignore:Generated programs run")
# the pool of seed -1 is what the model learnt: some programs pass from the start
SMALL = dict(tasks=4, steps=2, prompts=4, group=4, temperature=1.2, new_tokens=40,
             lr=2e-3, warmup=1, seed=-1, allow_weak_sandbox=True)


def curve(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().split("\n")
            if line]


@pytest.fixture(scope="module")
def judge(taught, judged, tmp_path_factory):
    out = tmp_path_factory.mktemp("judge") / "reward"
    return reward(out, taught, judged, steps=4, batch=4, warmup=1)


def test_the_stage_reinforces_what_passes(taught, tmp_path):
    out = grpo(tmp_path / "grpo", taught, beta=0.01, **SMALL)
    lines = curve(out)
    assert [m["step"] for m in lines] == [0, 1]
    assert all(m["pass"] == pytest.approx(m["reward"]) for m in lines)
    assert 0 < lines[0]["pass"] < 1 and 0 < lines[0]["solved"] <= 1
    assert max(m["groups_kept"] for m in lines) > 0
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-6) and lines[-1]["kl"] > 0
    assert all(m["clip_share"] == 0 and m["entropy"] > 0 for m in lines)
    assert "chat_template" in (out / "tokenizer_config.json").read_text()
    old, new = ((folder / "model.safetensors").read_bytes() for folder in (taught, out))
    assert old != new


def test_dapo_and_process_supervision_run(taught, tmp_path):
    lines = curve(grpo(tmp_path / "dapo", taught, recipe="dapo", tries=2, **SMALL))
    assert all(m["kl"] == 0 and m["groups"] >= 4 for m in lines)
    lines = curve(grpo(tmp_path / "steps", taught, supervision="process",
                       recipe="dr-grpo", **SMALL))
    assert all(math.isfinite(m["loss"]) for m in lines if "loss" in m)


class Killed(Exception):
    """As if the machine had stopped."""


def test_a_run_killed_within_a_round_ends_with_the_same_bits(
        taught, judge, judged, tmp_path, monkeypatch):
    how = SMALL | dict(steps=3, beta=0.02, updates=3, minibatches=2, refresh=1,
                       judge="mixed", reward_model=judge, replay=judged)
    whole = grpo(tmp_path / "whole", taught, **how)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    step = loop.one_step

    def falls(*given):
        if given[4] in stops:
            stops.remove(given[4])
            raise Killed
        return step(*given)

    monkeypatch.setattr(loop, "one_step", falls)
    stops = [1, 5, 6]   # the middle of a round, its last update, a new phase
    for _ in range(3):
        with pytest.raises(Killed):
            grpo(tmp_path / "killed", taught, **how)
    again = grpo(tmp_path / "killed", taught, **how)
    assert stops == [] and curve(again) == curve(whole) and len(curve(whole)) == 9
    for name in ("model.safetensors", "phases/2/reference/model.safetensors",
                 "phases/2/judge/score.safetensors"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()
    assert max(m["clip_share"] for m in curve(whole)) > 0


@pytest.mark.parametrize(("how", "part"), [
    (dict(judge="model"), "needs --reward-model"),
    (dict(judge="model", supervision="process", reward_model=Path("judge")),
     "process rewards lines by the tests"),
    (dict(judge="mixed", weights=(0.0, 0.0, 0.0), reward_model=Path("judge")),
     "--weights 0 0 0 rewards nothing"),
    (dict(judge="mixed"), "--judge mixed needs"),
    (dict(refresh=2), "nothing to refresh"), (dict(updates=0), "--updates 0"),
    (dict(recipe="dapo", supervision="process"), "--recipe dapo"),
    (dict(recipe="deepseek-v2", supervision="process"), "whole answers"),
    (dict(clip=1.5), "--clip 1.5"), (dict(beta=-1.0), "--beta -1.0")])
def test_settings_that_do_not_fit(taught, tmp_path, how, part):
    with pytest.raises(UserError, match=part):
        grpo(tmp_path / "grpo", taught, **how)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_judge_is_refused(taught, tmp_path):
    shutil.copytree(taught, tmp_path / "no_judge")
    with pytest.raises(UserError, match="holds no reward model"):
        grpo(tmp_path / "grpo", taught, tmp_path / "no_judge", "model", steps=1)


def test_recipes_take_other_numbers():
    assert objective_of("dapo", 0.2, None, 0.0, "outcome").clip_high == 0.28
    assert objective_of("deepseek-math", 0.3, None, 0.0, "outcome").clip_high == 0.3
    how = objective_of("deepseek-v2", 0.1, 0.4, 0.04, "outcome")
    assert (how.clip, how.clip_high, how.beta) == (0.1, 0.4, 0.04)
    assert how.level == "sequence"
