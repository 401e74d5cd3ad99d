"""The map for whoever changes one idea: its module, test, lesson, figure and the rest.

Only the ideas' names are written here, with lesson and module. All else is found: tests
by name; lessons, figures and benchmarks by what they import; exercises by what the
lesson checks; papers in the module's docstring.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from book import address
from book.writers._parts import ROOT, lesson, row, summary, words

IDEAS = {  # lesson: what people call what it teaches, and the module of that
    "01": {"byte-pair encoding": "bpe", "special tokens": "tokenizer"},
    "02": {"what a file must be like": "data/filters", "near duplicates": "data/dedup",
           "dependency order": "data/dependencies",
           "decontamination": "data/decontaminate",
           "recall from the web": "data/rounds", "60/10/30 mixture": "data/mixture"},
    "03": {"fill in the middle": "data/fim",
           "infilling, scored": "evaluation/infilling"},
    "04": {"MLA": "model/mla"},
    "05": {"DeepSeekMoE": "model/moe",
           "balance losses, token dropping": "model/balance"},
    "06": {"the whole model": "model/transformer"},
    "07": {"AdamW": "training/optimizer", "learning rates": "training/schedule",
           "gradient spikes": "training/spikes"},
    "08": {"needles": "data/needles", "RoPE, YaRN": "model/rope",
           "a longer window": "training/long_context"},
    "09": {"packed documents": "model/documents", "chat format": "alignment/chat",
           "fine-tuning on answers": "alignment/sft"},
    "10": {"the sandbox": "execution/sandbox",
           "compiler feedback": "alignment/feedback",
           "reward model": "alignment/reward_model",
           "reward hacking": "alignment/hacking"},
    "11": {"GRPO's objective": "alignment/objectives",
           "GRPO's round": "alignment/rollouts"},
    "12": {"pass@k": "evaluation/pass_at_k", "maj@k": "evaluation/votes",
           "multiple choice": "evaluation/choice"},
    "13": {"sampling, batches, streaming": "model/generate"},
    "14": {"expert parallelism": "parallel/experts",
           "tensor parallelism": "parallel/tensor", "pipelines": "parallel/pipeline",
           "what fits a cluster": "scale/plan"},
    "15": {"ablation": "evaluation/ablation"}}
PAPER = re.compile(  # a paper's name goes on to the sections after it
    r"(?:DeepSeek-)?\b(V2|Coder-V2|Coder|DeepSeekMath|DeepSeekMoE)(?=,? |'s )"
    r"|(§[\d.]*\d|eq\. \d+(?:[-–]\d+)?|tables? \d+)|(arXiv \d{4}\.\d{5})")
PAPERS = {"V2": "DeepSeek-V2", "Coder": "DeepSeek-Coder"}


def modules() -> list[str]:
    """Every module of minicoder/ as `model/mla`; packages themselves are rooms."""
    inside = ROOT / "minicoder"
    return sorted(path.relative_to(inside).with_suffix("").as_posix()
                  for path in inside.rglob("*.py")
                  if path.stem != "__init__")


def papers(module: str) -> str:
    """The sections and equations that a module's docstring names, by paper."""
    paper, found = "Coder-V2", {}
    for name, place, arxiv in PAPER.findall(
            " ".join(words(ROOT / f"minicoder/{module}.py").split())):
        paper = arxiv or PAPERS.get(name, name) or paper
        if place or arxiv:
            found.setdefault(paper, []).append(place)
    return "; ".join(" ".join((name, ", ".join(dict.fromkeys(filter(None, places)))))
                     .strip() for name, places in found.items())


def imported(files: str) -> dict[str, set[str]]:
    """{file of this pattern: the modules of minicoder that it imports}."""
    known, found = set(modules()), {}
    for path in sorted(ROOT.glob(files)):
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        found[path.relative_to(ROOT).as_posix()] = known & {
            name.removeprefix("minicoder.").replace(".", "/") for name in names}
    return found


class Links:
    """Markdown links, once the files' uses of minicoder have been read."""

    def __init__(self) -> None:
        self.at = address.read()
        self.uses = {"notebooks": imported("notebooks/[0-9]*.py"),
                     "figures": imported("figures/*.py"),
                     "benchmarks": imported("benchmarks/*.py")}

    def file(self, path: str, text: str = "") -> str:
        """A link to a file as the repository shows it."""
        return f"[{text or Path(path).stem}]({self.at.file(path)})"

    def module(self, module: str) -> str:
        """A link to the module's entry in the API reference."""
        dotted = module.replace("/", ".")
        return f"{{py:mod}}`{dotted} <minicoder.{dotted}>`"

    def test(self, module: str, text: str = "") -> str:
        """The test of its name; exercises are tested together."""
        name = f"test_{Path(module).stem.strip('_')}.py"
        path = f"tests/{Path(module).with_name(name).as_posix()}"
        if not (ROOT / path).exists():
            path = "tests/show/test_exercises.py"
        return self.file(path, text)

    def users(self, module: str, folder: str) -> list[str]:
        """The files of `folder` that import `module`, or have its very name."""
        return [path for path, used in self.uses[folder].items()
                if module in used or Path(path).stem == Path(module).stem]


def checked(path: str) -> list[str]:
    """The modules of exercises that a lesson's cells check."""
    text = (ROOT / path).read_text(encoding="utf-8")
    names = re.findall(r"\bcheck\(\s*\"(\w+)\.", text)
    return [f"minicoder/show/exercises/{name}.py" for name in sorted(set(names))]


def idea_rows(links: Links) -> list[str]:
    """A row for each idea, with all that must move with it."""
    rows = []
    for number, ideas in IDEAS.items():
        home, = (path for path in links.uses["notebooks"] if f"/{number}_" in path)
        for title, module in ideas.items():
            lessons = [home, *(path for path in links.users(module, "notebooks")
                               if path != home and "/00_" not in path)]
            beside = {"exercises": checked(home),
                      "figures": links.users(module, "figures"),
                      "benchmarks": links.users(module, "benchmarks")}
            rows.append(row(
                title, f"{links.module(module)}, {links.test(module, 'test')}",
                map(lesson, lessons),
                "; ".join(f"{kind} {', '.join(map(links.file, paths))}"
                          for kind, paths in beside.items() if paths), papers(module)))
    return rows


def lesson_rows(links: Links) -> list[str]:
    """A row for each notebook: figures, exercises, and the modules it imports."""
    rows = []
    for path, used in links.uses["notebooks"].items():
        text = (ROOT / path).read_text(encoding="utf-8")
        figures = sorted(set(re.findall(r"figures/(\w+)-light\.svg", text)))
        rows.append(row(
            lesson(path), links.file(path, Path(path).stem[3:]),
            map(links.file, checked(path)),
            [links.file(f"figures/{name}.py") for name in figures],
            map(links.module, sorted(used))))
    return rows


def room_tables(links: Links) -> str:
    """Every module, room by room, with its first sentence."""
    rooms: dict[str, list[str]] = {}
    for module in modules():
        said = summary(ROOT / f"minicoder/{module}.py").replace("|", "\\|")
        said = said.replace("\\boxed{}", "`\\boxed{}`")
        rooms.setdefault(str(Path(module).parent), []).append(row(
            f"{links.module(module)}, {links.test(module, 'test')}", said,
            map(lesson, links.users(module, "notebooks"))))
    return "\n\n".join(
        f"### {'minicoder' if room == '.' else room}\n\n"
        "| module | what it is | lessons |\n|---|---|---|\n"
        + "\n".join(rows)
        for room, rows in rooms.items())


def pages() -> dict[str, str]:
    """The page `map`."""
    links, newline = Links(), "\n"
    return {"map": f"""# Change one idea

You want another router, another reward, another rule for the corpus. This map says
which files belong to the idea. Change the module, run its test, and see which lessons
and figures told the old story. Names follow one rule: `minicoder/model/mla.py` is
tested by `tests/model/test_mla.py`. The first lesson of a row teaches the idea.

## By idea

| idea | module | lessons | beside it | source |
|---|---|---|---|---|
{newline.join(idea_rows(links))}

## By lesson

| | source | exercises | figures | modules |
|---|---|---|---|---|
{newline.join(lesson_rows(links))}

## By module

{room_tables(links)}
"""}
