"""The report of a run: one self-contained HTML page, made after any stage.

It reads what the stages wrote and computes nothing new: every number on the page stands
in a file of the run folder. Model output is hostile until shown otherwise: all of it is
escaped, invisible characters are made visible, and a content security policy lets the
page load nothing and run only its own script.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
from markupsafe import Markup

from minicoder.errors import UserError
from minicoder.show import findings
from minicoder.show.charts import Number
from minicoder.show.findings import Files, Section
from minicoder.show.style import PALETTE
from minicoder.stages import MADE_BY, read_json, read_jsonl

FILES = {  # stage: the files that the report reads, in the order of the pipeline
    "corpus": ("funnel.json",), "tokenizer": ("stats.json",), "pack": ("pack.json",),
    "pack_long": (), "pretrain": ("metrics.jsonl",), "extend": ("metrics.jsonl",),
    "language": ("scores.json", "needle.json"), "sft": ("metrics.jsonl",),
    "feedback": ("feedback.json",), "reward": ("calibration.json",),
    "grpo": ("metrics.jsonl",), "evaluate": ("scores.json",),
}
SECTIONS: tuple[tuple[str, str, str, Callable[[Files, Path], Section]], ...] = (
    ("corpus", "Corpus", "corpus", findings.corpus),
    ("tokenizer", "Tokenizer", "tokenizer", findings.tokenizer),
    ("pack", "Packing", "pack", findings.pack),
    ("pretrain", "Pre-training", "pretrain", findings.pretrain),
    ("compression", "Compression", "language", findings.compression),
    ("infilling", "Infilling", "language", findings.infilling),
    ("extend", "Long context", "language", findings.extend),
    ("sft", "Supervised fine-tuning", "sft", findings.sft),
    ("feedback", "Feedback from execution", "feedback", findings.feedback),
    ("reward", "Reward model", "reward", findings.reward),
    ("grpo", "GRPO", "grpo", findings.grpo),
    ("evaluate", "Evaluation", "evaluate", findings.evaluate),
)
SCRIPT = """
const root = document.documentElement, button = document.getElementById("mode");
const dark = () => root.dataset.theme ? root.dataset.theme == "dark"
  : matchMedia("(prefers-color-scheme: dark)").matches;
button.hidden = false;
button.onclick = () => { root.dataset.theme = dark() ? "light" : "dark"; };
addEventListener("beforeprint", () =>
  document.querySelectorAll("details").forEach((box) => { box.open = true; }));
"""


def clean(value: Any) -> Any:
    """Make characters visible that could hide or reorder text, and cut very long text.

    Control, format (bidirectional marks among them) and surrogate characters become
    escapes; what HTML would interpret is escaped after this, by jinja2.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    if len(value) > 6000:
        value = f"{value[:6000]}\n… {len(value) - 6000:,} characters more"
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co")
        else c.encode("unicode_escape").decode() for c in value)


def visible(token: str) -> str:
    """Show the whitespace of a token: `  return` → `··return`."""
    return token.replace(" ", "·").replace("\n", "⏎").replace("\t", "→")


def duration(seconds: Number) -> str:
    """7.4 → '7 s', 682 → '11 min 22 s'."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def size(count: Number) -> str:
    """2_500_000 → '2.5 MB'."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def memory(mib: Number) -> str:
    """1431.2 → '1,431 MiB', with a space that does not break."""
    return f"{mib:,.0f}\xa0MiB"


def read_stage(folder: Path, name: str) -> Files | None:
    """Read a finished stage's files; None if it has not run, or is under way."""
    if not (folder / name / MADE_BY).exists():
        return None
    files: Files = {"made_by": read_json(folder / name / MADE_BY)}
    for file in FILES[name]:
        path = folder / name / file
        try:
            files[path.stem] = (read_json if file.endswith(".json") else read_jsonl)(
                path)
        except ValueError as error:
            raise UserError(f"{path} cannot be read as JSON lines: {error}.") from None
    return files


def _sections(folder: Path, stages: dict[str, Files | None]) -> list[Section]:
    """Fill the sections; one of a missing stage says so in place of its finding."""
    sections = []
    for key, title, stage, build in SECTIONS:
        section: Section = {"id": key, "title": title, "stage": stage}
        files = stages[stage]
        if files is None:
            begun = (folder / f"{stage}.partial").exists()
            section["missing"] = "is under way" if begun else "has not run yet"
        else:
            section |= build(files, folder) | {"files": files}
        sections.append(section)
    return sections


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
        undefined=StrictUndefined, finalize=clean, trim_blocks=True,
        lstrip_blocks=True)
    environment.filters |= {
        "visible": visible, "duration": duration, "size": size, "memory": memory,
        "count": lambda value: f"{int(value):,}",
        "percent": findings.percent, "interval": findings.interval,
        "json": lambda value: json.dumps(value, indent=1, ensure_ascii=False)}
    return environment


def write_report(run_folder: Path, out: Path | None = None) -> Path:
    """Write the report of a run, by default to `run_folder/report.html`.

    Sections of stages that have not run yet say so. Raises `UserError` when the folder
    does not exist, or when a file of a finished stage is missing or malformed.
    """
    if not run_folder.is_dir():
        raise UserError(f"{run_folder} is not a folder; give the folder of a run, such "
                        "as runs/demo.")
    stages = {name: read_stage(run_folder, name) for name in FILES}
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    done = [files["made_by"] | {"folder": name}
            for name, files in stages.items() if files]
    template = _environment().get_template("report.html.jinja")
    try:
        page = template.render(
            sections=_sections(run_folder, stages), stages=stages, done=done,
            tiles=findings.headlines(stages), palette=PALETTE, script=Markup(SCRIPT),
            total=sum(made["seconds"] for made in done), passed=findings.PASSED,
            mixture=findings.MIXTURE, kinds=findings.KINDS, digest=digest,
            name=run_folder.resolve().name)
    except (UndefinedError, LookupError, TypeError, ValueError,
            AttributeError) as error:
        raise UserError(
            f"A file of {run_folder} is not what its stage writes; the report stopped "
            f"at {type(error).__name__}: {error}.") from error
    out = out or run_folder / "report.html"
    aside = out.with_name(out.name + ".tmp")
    aside.write_text(page, encoding="utf-8")
    os.replace(aside, out)
    return out
