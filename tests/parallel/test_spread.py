"""What a process holds of a model: drawn as one process draws, or of a checkpoint."""

import pytest
import torch
from dealt import team_in
from miniatures import FULL, random_model

from minicoder.errors import UserError
from minicoder.model.transformer import MiniCoder
from minicoder.parallel.layout import Layout
from minicoder.parallel.spread import spread


def held(layout, start):
    team = team_in(layout)
    torch.manual_seed(7)
    model, pipeline = spread(FULL, start, team)
    assert (pipeline is None) == (layout.pipeline == 1)
    return {name: p.full_tensor().detach()
            for name, p in model.named_parameters()}


@pytest.mark.parametrize("layout", [Layout(expert=2), Layout(tensor=2),
                                    Layout(pipeline=2, pipeline_schedule="GPipe")])
def test_it_is_what_one_process_would_hold(gang, tmp_path, layout):
    torch.manual_seed(7)
    drawn, stored = MiniCoder(FULL), random_model(FULL, torch.float32)
    stored.save_pretrained(tmp_path)
    for start, wanted in ((None, drawn), (tmp_path, stored)):
        found = {name: tensor for part in gang(2).run(held, layout, start)
                 for name, tensor in part.items()}
        assert found.keys() == dict(wanted.named_parameters()).keys()
        assert all(torch.equal(found[name], p) for name, p in wanted.named_parameters())


def refused():
    try:
        spread(FULL, None, team_in(Layout(pipeline=2)), 1)
    except UserError as error:
        return str(error)


def test_a_schedule_that_cannot_run_is_refused(gang):
    assert all("--accumulate 1" in said for said in gang(2).run(refused))
