"""A stage of `minicoder.stages` that a team of processes runs together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from minicoder.errors import UserError
from minicoder.parallel.layout import Team
from minicoder.stages import Run, stage


@contextmanager
def team_stage(team: Team, folder: Path, name: str, settings: dict,
               inputs: Sequence[Path] = (), seed: int | None = None) -> Iterator[Run]:
    """`stage`, whose record the main process keeps; `run.work` must be one folder.

    What the main process refuses, or cannot begin, all refuse.
    """
    if not team.main:
        found = team.share(None)
        if found is None:
            raise UserError("The main process could not begin; it says why.")
        yield Run(**found | {"work": Path(found["work"])})
        team.wait()
        return
    told = False
    try:
        with stage(folder, name, settings, inputs, seed) as run:
            team.share(asdict(run) | {"work": str(run.work)})
            told = True
            yield run
            team.wait()     # everything is written before it is sealed
    except (UserError, OSError):
        if not told:
            team.share(None)
        raise
