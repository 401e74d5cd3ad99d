"""Layouts, the processes that they name, and what torchrun starts."""

import pytest
import torch
import torch.distributed as dist

from minicoder.config import preset
from minicoder.errors import UserError
from minicoder.parallel.layout import DENSE, SPARSE, Layout, gather_team, team_of


def test_a_layout_takes_all_processes_that_are_left():
    assert Layout().of(1) == Layout(1, 1, 1, 1, 1)
    full = Layout(pipeline=2, tensor=2, expert=4).of(16)
    assert (full.shard, full.world, full.readers, full.expert_shard) == (4, 16, 4, 2)


@pytest.mark.parametrize("layout, world, words", [
    (Layout(pipeline=3), 4, "3 processes, and there are 4"),
    (Layout(shard=2, expert=4), 2, "--expert 4 must divide shard x tensor = 2"),
    (Layout(tensor=0), 4, "tensor"), (Layout(shard=-1), 4, "shard"),
])
def test_numbers_that_do_not_fit_are_refused(layout, world, words):
    with pytest.raises(UserError, match=words):
        layout.of(world)


@pytest.mark.parametrize("layout, words", [
    (Layout(tensor=3), "--tensor 3 must divide num_attention_heads = 4"),
    (Layout(expert=5, shard=5), "--expert 5 must divide n_routed_experts = 16"),
    (Layout(pipeline=5), "--pipeline 5 is more than the 4 layers"),
])
def test_a_model_that_cannot_be_dealt_out_is_refused(layout, words):
    with pytest.raises(UserError, match=words):
        layout.check(preset("toy"))


def test_without_torchrun_there_is_a_team_of_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with gather_team(Layout(), torch.device("cpu")) as team:
        assert team.main and team.dense is None and team.layout.world == 1
        assert (team.reader, team.stage) == (0, 0)
        team.wait()
    assert not dist.is_initialized()


def test_a_process_that_is_gone_is_a_sentence_and_no_trace(monkeypatch):
    for name, value in {"WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": 0, "MASTER_PORT": 0,
                        "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, str(value))
    for words, kind in (("Connection closed by peer [::1]:9", UserError),
                        ("shapes cannot be multiplied", RuntimeError)):
        with pytest.raises(kind, match="Another process has ended|wrapped"):
            with gather_team(Layout(), torch.device("mps")) as team:
                assert team.device.type == "cpu" and team.dense is not None
                try:
                    raise RuntimeError(words)
                except RuntimeError as error:
                    raise RuntimeError("wrapped") from error
        assert not dist.is_initialized()


def places(layout):
    team = team_of(layout, torch.device("cpu"))
    team.wait()
    return (team.rank, team.stage, team.reader,
            {name: team.dense[name].get_local_rank() for name in DENSE},
            {name: team.sparse[name].get_local_rank() for name in SPARSE})


@pytest.mark.parametrize("layout", [
    Layout(2, 1, 2, 1, 2), Layout(1, 1, 2, 2, 4), Layout(1, 2, 2, 1, 1),
    Layout(1, 1, 4, 1, 2)])
def test_each_process_finds_its_place(gang, layout):
    for rank, found in enumerate(gang(4).run(places, layout)):
        number, stage, reader, dense, sparse = found
        assert number == rank
        assert stage == dense["pipeline"] == sparse["pipeline"]
        assert reader == dense["replicate"] * layout.shard + dense["shard"]
        inner = dense["shard"] * layout.tensor + dense["tensor"]
        assert inner == sparse["expert_shard"] * layout.expert + sparse["expert"]


def fail_on_one():
    if dist.get_rank() == 1:
        raise ValueError("only here")
    dist.barrier()


def test_a_gang_says_who_failed_and_lives_again(gang):
    with pytest.raises(AssertionError, match="rank 1:[^$]*only here"):
        gang(2).run(fail_on_one)
    assert gang(2).run(dist.get_world_size) == [2, 2]
