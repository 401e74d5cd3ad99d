"""A model whose weights begin in the shards of a team: no process holds the whole."""

from __future__ import annotations

from pathlib import Path

from minicoder.config import ModelConfig
from minicoder.model.transformer import MiniCoder
from minicoder.parallel.economy import Precision
from minicoder.parallel.initial import draw_into
from minicoder.parallel.layout import Team
from minicoder.parallel.parallelize import parallelize
from minicoder.parallel.pipeline import Pipeline, check, stages_of


def spread(config: ModelConfig, start: Path | None, team: Team, microbatches: int = 1,
           precision: Precision = "float32", recomputed: bool = False,
           compiled: bool = False) -> tuple[MiniCoder, Pipeline | None]:
    """This process's part of a checkpoint or of random weights, and what runs it.

    Random weights are, for the same seed, those of a process alone. Without stages
    the part runs as any model does.
    Raises `UserError` when the model cannot be dealt out to the team.
    """
    pipelined = team.layout.pipeline > 1
    if pipelined:
        check(team.layout, config.num_hidden_layers, microbatches, recomputed, compiled)
    stages: list[MiniCoder] = []

    def dealt(model: MiniCoder) -> MiniCoder:
        held, own = stages_of(model, team) if pipelined else (model, [model])
        for stage in own:
            parallelize(stage, team, precision, recomputed, compiled)
        stages.extend(own)
        return held

    if start is not None:
        held = MiniCoder.from_pretrained(start, team.device, parallelize=dealt)
    else:
        held = dealt(MiniCoder.outline(config))
        draw_into([held.to_empty(device=team.device)], config)
    return held, Pipeline(stages, team, microbatches) if pipelined else None
