"""The corpus on one machine's cores, on SLURM or on Ray, by the engine datatrove.

What the engine does with pickles: it sends the steps to its tasks as such (by `dill`).
On one machine and on Ray they go through pipes. For SLURM they lie in `executor.pik` in
the folder of tasks, which every job loads: whoever may write into that folder may run
programs as you. minicoder itself loads none; documents travel as Parquet.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import OmitArgPrefixes

from minicoder.errors import UserError, at_least
from minicoder.scale.recipe import Recipe
from minicoder.stages import MADE_BY, read_json, write_json

if TYPE_CHECKING:       # an optional extra, and slow to import
    from datatrove.executor.base import PipelineExecutor
    from datatrove.executor.slurm import SlurmPipelineExecutor
    from datatrove.pipeline.base import PipelineStep

Stage = tuple[str, int, "list[PipelineStep]"]    # name, number of tasks, steps
SETTINGS = "settings.json"
OURS = {SETTINGS, SETTINGS + ".tmp", "logs", "removed", "filter", "unique", "order"}


def tasks_of(out: Path) -> Path:
    """The folder beside `out` in which the documents and logs of the tasks are."""
    return out.with_name(out.name + ".tasks")


def refuse_foreign(work: Path) -> None:
    """Raise `UserError` for a folder of something else: in the end it is removed."""
    if foreign := {file.name for file in work.glob("*")} - OURS:
        raise UserError(f"{work} holds {min(foreign)}, which no task of minicoder "
                        "made; choose another --out.")


def begin(work: Path, asked: dict[str, object]) -> None:
    """Make the folder of tasks; `UserError` when it was begun with other settings."""
    file = work / SETTINGS
    found = read_json(file) if file.exists() else asked
    for key in asked:
        if found.get(key) != asked[key]:
            raise UserError(
                f"{work} was begun with {key} = {found.get(key)!r}, and now "
                f"{asked[key]!r} is asked. Choose another --out, or remove it.")
    work.mkdir(parents=True, exist_ok=True)
    write_json(file, asked)


def pipeline(out: Path, recipe: Recipe, tasks: int) -> list[Stage]:
    """The four stages that make the corpus `out`; see `minicoder.scale.steps`.

    When `out` is finished, only the last, which refuses other settings than its own.
    Raises `UserError` without datatrove, for a source that is missing, and when an
    earlier attempt had other settings.
    """
    at_least(1, tasks=tasks)
    if not find_spec("datatrove"):
        raise UserError("datatrove is not installed: pip install 'minicoder[scale]'.")
    from minicoder.scale import steps
    work = tasks_of(out)
    refuse_foreign(work)
    removed = work / "removed"
    assemble = ("assemble", 1, [steps.reader(work / "order"),
                                steps.Assemble(recipe, removed, out)])
    if (out / MADE_BY).exists():
        return [assemble]
    read = steps.Read(recipe, removed)
    begin(work, recipe.settings() | {"seed": recipe.seed, "tasks": tasks})
    return [
        ("filter", tasks, [read, steps.Filter(recipe, removed),
                           steps.written(work / "filter")]),
        ("unique", 1, [steps.reader(work / "filter"), steps.Unique(recipe, removed),
                       steps.written(work / "unique")]),
        ("order", tasks, [steps.reader(work / "unique"), steps.Order(recipe, removed),
                          steps.written(work / "order")]), assemble]


def chained(
    engine: Callable[..., PipelineExecutor], out: Path, stages: Sequence[Stage],
    workers: int, **settings: Any,
) -> PipelineExecutor:
    """The executor of the last stage; each depends on the one before, and runs it.

    Tasks that are done are not done again, save the last, which looks for itself.
    """
    last = None
    for name, tasks, steps in stages:
        last = engine(steps, tasks=tasks, workers=min(workers, tasks), depends=last,
                      logging_dir=str(tasks_of(out) / "logs" / name),
                      skip_completed=name != "assemble", **settings)
    return last


def local(out: Path, recipe: Recipe, tasks: int, workers: int) -> PipelineExecutor:
    """Runs on this machine, `workers` tasks at a time, each a process."""
    from datatrove.executor.local import LocalPipelineExecutor

    at_least(1, workers=workers)
    return chained(LocalPipelineExecutor, out, pipeline(out, recipe, tasks),
                   workers=workers)


def slurm(
    out: Path, recipe: Recipe, tasks: int, workers: int, partition: str, hours: int,
    cpus: int, memory: int,
) -> SlurmPipelineExecutor:
    """Hands four arrays of jobs to sbatch, each to start when the one before is done.

    The jobs need the sources, `out` and this Python environment under the same names.
    """
    from datatrove.executor.slurm import SlurmPipelineExecutor

    def named(steps: list[PipelineStep], **settings: Any) -> SlurmPipelineExecutor:
        name = Path(settings["logging_dir"]).name
        return SlurmPipelineExecutor(steps, job_name=f"{out.name}-{name}", **settings)

    activate = Path(sys.prefix, "bin", "activate")
    return chained(
        named, out, pipeline(out, recipe, tasks), workers=workers, partition=partition,
        time=f"{hours}:00:00", cpus_per_task=cpus, mem_per_cpu_gb=memory, qos=None,
        venv_path=str(activate) if activate.exists() else None)


def ray(
    out: Path, recipe: Recipe, tasks: int, workers: int, hours: int, cpus: int,
    memory: int,
) -> PipelineExecutor:
    """Runs on the cluster that `ray.init()` finds, and waits for the end."""
    from datatrove.executor.ray import RayPipelineExecutor

    return chained(
        RayPipelineExecutor, out, pipeline(out, recipe, tasks), workers=workers,
        time=hours * 3600, cpus_per_task=cpus, mem_per_cpu_gb=memory)


def data_at_scale(
    out: Path, recipe: OmitArgPrefixes[Recipe],
    engine: Literal["local", "slurm", "ray"] = "local", tasks: int = 8,
    workers: int = 2, partition: str = "", hours: int = 24, cpus: int = 1,
    memory: int = 4,
) -> Path:
    """The corpus that `data` makes, by many tasks: on this machine, SLURM or Ray.

    Run it again to go on where it was interrupted. On SLURM it returns when the jobs
    are queued; the last of them makes `out`.

    Args:
        out: folder for documents.parquet and funnel.json; <out>.tasks is beside it.
        recipe: what is read and which rules act.
        engine: where the tasks run.
        tasks: into how many shares the sources are dealt; more than workers even out.
        workers: how many tasks run at a time.
        partition: of SLURM.
        hours: that a task may take (SLURM and Ray).
        cpus: of a task (SLURM and Ray); one does the work, more bring their memory.
        memory: GiB for each CPU (SLURM and Ray).
    """
    at_least(1, tasks=tasks, workers=workers, hours=hours, cpus=cpus, memory=memory)
    if engine == "slurm" and not (partition and shutil.which("sbatch")):
        raise UserError("--engine slurm needs --partition, and sbatch on this machine.")
    if engine == "ray" and not find_spec("ray"):
        raise UserError("--engine ray needs Ray: pip install 'ray[default]'.")
    share = out, recipe, tasks, workers
    if engine == "slurm":
        slurm(*share, partition, hours, cpus, memory).run()
        print(f"queued: {out} will be there when the last job is done; its log is in "
              f"{tasks_of(out) / 'logs'}")
        return out
    run = local(*share) if engine == "local" else ray(*share, hours, cpus, memory)
    run.run()
    if not (out / MADE_BY).exists():    # Ray goes on when a task has failed
        raise UserError(f"{out} was not made: a task failed, and its log is in "
                        f"{tasks_of(out) / 'logs'}.")
    shutil.rmtree(tasks_of(out))
    return out
