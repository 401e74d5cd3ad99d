"""First weights of a team are those of one process, to the bit."""

import pytest
import torch
from dealt import team_in
from miniatures import FULL, LITE
from torch.distributed.tensor import Shard, distribute_tensor

from minicoder.config import preset
from minicoder.model.transformer import MiniCoder
from minicoder.parallel.initial import draw_into, drawn
from minicoder.parallel.layout import Layout


@pytest.mark.parametrize("config", [LITE, FULL, preset("toy", vocab_size=64)])
def test_they_are_drawn_one_by_one_as_the_model_draws_them(config):
    torch.manual_seed(3)
    whole = MiniCoder(config).state_dict()
    after = torch.rand(3)
    torch.manual_seed(3)
    found = dict(drawn(config))
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    assert torch.equal(torch.rand(3), after)    # what follows is drawn alike


def own_shards():
    torch.manual_seed(5)
    whole = MiniCoder(LITE).state_dict()
    mesh = team_in(Layout()).dense["shard"]
    model = MiniCoder.outline(LITE).to_empty(device="cpu")
    for module in model.modules():
        for name, p in list(module.named_parameters(recurse=False)):
            dim = 1 if p.ndim == 3 else 0
            module.register_parameter(name, torch.nn.Parameter(
                distribute_tensor(p.data.fill_(-1.0), mesh, [Shard(dim)])))
    torch.manual_seed(5)
    draw_into([model], LITE)
    return all(torch.equal(p.full_tensor(), whole[name])
               for name, p in model.named_parameters())


def test_each_process_keeps_its_own_part(gang):
    assert gang(2).run(own_shards) == [True, True]
