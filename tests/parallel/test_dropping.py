"""Dropping in a team: the visits that one process would drop, and no others."""

import pytest
import torch
from dealt import team_in

from minicoder.model.balance import Dropping
from minicoder.model.moe import Routing
from minicoder.parallel.dropping import SharedDropping, shared
from minicoder.parallel.layout import ALONE, Layout

SEQUENCES, LENGTH, EXPERTS, CHOSEN = 8, 6, 8, 3


def routing(seed):
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randn(SEQUENCES * LENGTH, EXPERTS, dtype=torch.float64,
                         generator=draw).mul(2).softmax(-1)
    weights, experts = scores.topk(CHOSEN)
    return Routing(scores, experts, weights * 16)


def dropped(layout, seed):
    team, whole = team_in(layout), routing(seed)
    own = Routing(*(team.own(part.view(SEQUENCES, LENGTH, -1)).flatten(0, 1) for part in
                    (whole.scores, whole.experts, whole.weights)))
    torch.manual_seed(seed)
    drop = SharedDropping(Dropping(4, 1.0, 0.2), team)
    return team.reader, drop(own, SEQUENCES // team.layout.readers).weights


@pytest.mark.parametrize("layout", [Layout(), Layout(replicate=2), Layout(tensor=2)])
def test_all_readers_drop_what_one_process_drops(gang, layout):
    torch.manual_seed(1)
    expected = Dropping(4, 1.0, 0.2)(routing(1), SEQUENCES).weights
    assert 0 < (expected == 0).sum() < expected.numel()
    found = dict(gang(4).run(dropped, layout, 1))
    assert torch.equal(torch.cat([found[reader] for reader in sorted(found)]), expected)


def test_a_process_alone_drops_as_it_is():
    drop = Dropping(4, 1.0, 0.2)
    assert shared(drop, ALONE) is drop
