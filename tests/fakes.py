"""What one of many processes holds, without the others."""

from torch import nn

from minicoder.config import ModelConfig
from minicoder.parallel.layout import Layout
from minicoder.scale.dry_run import dealt, fake_team
from minicoder.scale.plan import Work


def sharded(config: ModelConfig, layout: Layout, rank: int) -> nn.Module:
    """What process `rank` holds, as meta tensors: outline, stages, `parallelize`."""
    with fake_team(layout, rank) as team:
        return dealt(config, team, Work())[0]
