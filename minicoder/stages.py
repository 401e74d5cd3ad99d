"""A stage is a function from files to files that can be run again.

While it works, a stage writes into `<folder>.partial`. When it is complete, the folder
gets a `made_by.json` (command, settings, versions, hashes of inputs and outputs), is
flushed to disk and renamed to `<folder>`: a folder without the suffix is always whole.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from minicoder import __version__
from minicoder.errors import UserError

MADE_BY = "made_by.json"
STARTED = "started.json"
INPUTS = "inputs.json"


@dataclass
class Run:
    """What a stage needs to know about itself: where to write, and what it found."""

    work: Path
    finished: bool = False
    resumed: bool = False
    headline: str = ""
    device: str = "cpu"


@runtime_checkable
class Kept(Protocol):
    """Something that goes on where it was: `state` fits into JSON."""

    def state(self) -> dict[str, Any]:
        """All that it needs to go on."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""


def read_json(path: Path) -> dict:
    """Read a JSON object; a missing or broken file is a `UserError` naming it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a {type(value).__name__}, not an object.")
    return value


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: an old one stays until the new one is there."""
    aside = path.with_name(path.name + ".tmp")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def read_jsonl(path: Path) -> list[dict]:
    """Read one JSON object a line."""
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    return [json.loads(line) for line in lines if line]


def sha256(path: Path) -> str:
    """Hash a file without holding it in memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk, so that a power cut cannot take it back."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reset_peak_memory() -> None:
    """Start a new high-water mark (Linux; elsewhere the mark is the process's own)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak_memory() -> float:
    """Largest resident memory since the last reset, in MiB; nan where it is unknown."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    try:
        import resource  # here: Windows has none, and the rest of the file works there
    except ImportError:
        return math.nan
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1024 * 1024 if sys.platform == "darwin" else 1024)


def same_inputs(run: Run, hashes: dict[str, str]) -> None:
    """Remember hashes of what a stage reads beside other stages' folders; `UserError`
    when one has changed since the stage began."""
    known = run.work / INPUTS
    if known.exists() and (old := read_json(known)) != hashes:
        changed = next(name for name in hashes if old.get(name) != hashes[name])
        raise UserError(f"{run.work} was begun with another {changed}: what is in it "
                        "has changed. Choose another --out, or remove it.")
    if not run.finished:
        write_json(known, hashes)


def command_line(name: str, folder: Path, settings: dict) -> str:
    """The command that repeats a stage, with every setting written out."""
    words = ["python", "-m", "minicoder", name, *settings.get("models", ()),
             "--out", str(folder)]
    for key, value in settings.items():
        if key == "models":  # checkpoints to judge stand without a flag
            continue
        flag = "--" + key.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag if value else "--no-" + flag[2:])
        elif isinstance(value, list | tuple):
            words += [flag, *map(str, value)]
        elif value is not None:
            words += [flag, str(value)]
    return " ".join(shlex.quote(word) for word in words)


def _origins(inputs: Sequence[Path]) -> dict[str, str]:
    origins = {}
    for folder in inputs:
        if not (folder / MADE_BY).exists():
            raise UserError(f"{folder} is not the folder of a finished stage: "
                            f"it has no {MADE_BY}.")
        name = str(folder) if folder.name in origins else folder.name
        origins[name] = sha256(folder / MADE_BY)
    return origins


def _refuse_other(folder: Path, found: dict, asked: dict) -> None:
    """Raise unless `folder` was begun by the same settings on the same inputs."""
    for part in ("settings", "inputs"):
        old, new = found.get(part, {}), asked[part]
        for key in sorted(set(old) | set(new)):
            if old.get(key) != new.get(key):
                raise UserError(
                    f"{folder} was made with {key} = {old.get(key)!r}, and now "
                    f"{new.get(key)!r} is asked. Choose another --out, or remove it.")


def _begun(work: Path, asked: dict) -> bool:
    """Whether an earlier attempt left `work`; raise where none may begin or go on."""
    if math.isnan(peak_memory()):  # nor can a folder be flushed there
        raise UserError("Stages need Linux, macOS or WSL: this system does not say how "
                        "much memory they take.")
    for name in (STARTED, MADE_BY):  # the second when it ended just before the rename
        if (work / name).exists():
            _refuse_other(work, read_json(work / name), asked)
            return True
    if work.exists() and any(p.name != STARTED + ".tmp" for p in work.iterdir()):
        raise UserError(f"{work} exists and no stage of minicoder made it; "
                        "choose another --out.")
    return False


def _seal(run: Run, folder: Path, record: dict, began: float) -> None:
    """Write made_by.json, flush everything and give the folder its final name."""
    started, made_by = run.work / STARTED, run.work / MADE_BY
    files = sorted(p for p in run.work.rglob("*") if p.is_file() and p != started)
    record["outputs"] = {
        str(p.relative_to(run.work)): {"bytes": p.stat().st_size, "sha256": sha256(p)}
        for p in files}
    record |= {"headline": run.headline, "seconds": round(time.time() - began, 1),
               "peak_mib": round(peak_memory()), "resumed": run.resumed,
               "device": run.device}
    write_json(started, record)
    os.replace(started, made_by)  # never a moment without a record of the settings
    for path in [*files, made_by, run.work]:
        sync(path)
    os.rename(run.work, folder)
    sync(folder.parent)
    minutes, seconds = divmod(round(record["seconds"]), 60)
    print(f"{record['stage']:<10} {run.headline}  "
          f"({minutes}:{seconds:02d} min, {record['peak_mib'] / 1024:.1f} GiB)",
          flush=True)


def _full_disk(error: BaseException) -> bool:
    full = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    return getattr(error, "errno", None) in full or any(
        f"os error {code})" in str(error) for code in full)


def _worth_keeping(work: Path) -> bool:
    """Whether an attempt has trained or judged something already."""
    found = (*work.glob("state/step-*"), *work.glob("samples.jsonl"))
    return any(path.stat().st_size for path in found)


@contextmanager
def stage(
    folder: Path, name: str, settings: dict, inputs: Sequence[Path] = (),
    seed: int | None = None,
) -> Iterator[Run]:
    """Run one stage: `with stage(...) as run`, write into `run.work`.

    `run.finished` says that the folder is complete already, made by the same settings
    from the same inputs. Raises `UserError` when it was made by others, when an input
    is not a finished stage, when the disk is full (what was there stays), and on
    Windows.
    """
    folder = Path(folder)
    settings = settings if seed is None else settings | {"seed": seed}
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in settings.items()}
    record = {
        "stage": name, "command": command_line(name, folder, settings),
        "settings": json.loads(json.dumps(settings)), "seed": seed,
        "inputs": _origins(inputs),
        "versions": {"minicoder": __version__, "python": platform.python_version(),
                     "torch": _torch_version(), "machine": platform.machine()}}
    if folder.exists():
        if not (folder / MADE_BY).exists():
            raise UserError(f"{folder} exists and no stage of minicoder made it; "
                            "choose another --out.")
        _refuse_other(folder, read_json(folder / MADE_BY), record)
        yield Run(folder, finished=True)
        return
    work = folder.with_name(folder.name + ".partial")
    run = Run(work, resumed=_begun(work, record))
    began = time.time()
    reset_peak_memory()
    try:
        work.mkdir(parents=True, exist_ok=True)
        write_json(work / STARTED, record)
        (work / MADE_BY).unlink(missing_ok=True)
        yield run
        _seal(run, folder, record, began)
    except UserError:
        # refused settings must not stand in the way of others; hours of work stay
        if not run.resumed and not _worth_keeping(work):
            shutil.rmtree(work, ignore_errors=True)
        raise
    except Exception as error:
        if not _full_disk(error):
            raise
        raise UserError(f"The disk is full: {work} could not be written ({error}). "
                        "Free some space and run the same command again.") from error


def clear(work: Path) -> None:
    """Remove what an interrupted attempt left, for stages that start over."""
    for path in work.iterdir():
        if path.name != STARTED:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _torch_version() -> str:
    import torch  # here: the corpus and tokenizer stages need no torch otherwise

    return torch.__version__
