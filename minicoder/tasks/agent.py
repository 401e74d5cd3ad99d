"""A bounded agent that mends an issue: read, search, edit, test, submit.

The model sees a growing transcript and answers with one action in a fenced block.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Result, clean
from minicoder.tasks.files import (
    Files,
    Refused,
    make_patch,
    refused,
    run_checks,
    safe_path,
)
from minicoder.tasks.repositories import Issue

STEPS = 15
LONGEST = 4000  # characters of an action, and of what it shows
MANUAL = """\
Mend the issue. Answer with one action in a ``` block, whose first line is one of:
read PATH            shows a file
search TEXT          shows the lines of all files that hold the text
edit PATH            replaces text: then the old lines, a line =======, the new lines
test                 runs the tests that passed before the issue was reported
submit               hands in the repository as it is now
Files: """


@dataclass
class Episode:
    """What an agent did: its actions with what they showed, its patch, the verdict."""

    steps: list[tuple[str, str]] = field(default_factory=list)
    patch: str = ""
    result: Result | None = None


def action_in(answer: str) -> str:
    """The last fenced block of an answer, or its last line."""
    blocks = re.findall(r"```\w*\n(.*?)```", answer[-4 * LONGEST:], re.DOTALL)
    return (blocks[-1] if blocks else answer.strip().rpartition("\n")[2])[:LONGEST]


def edited(files: Files, path: str, body: str) -> Files:
    """The files with old lines, which must occur once, replaced by new ones."""
    old, mark, new = f"\n{body}".partition("\n=======\n")
    text, old = files.get(safe_path(path), ""), old.removeprefix("\n")
    if not mark or not old or text.count(old) != 1:
        raise Refused(f"the old lines must stand once in {path}, they are there "
                      f"{text.count(old) if old else 0} times")
    return files | {path: text.replace(old, new.rstrip("\n"), 1)}


def act(files: Files, action: str, issue: Issue, sandbox: Sandbox) -> tuple[Files, str]:
    """The files after an action other than submit, and what it shows."""
    line, _, body = action.partition("\n")
    name, _, rest = line.strip().partition(" ")
    try:
        match name:
            case "read":
                return files, files.get(rest, f"there is no file {rest}")
            case "search" if rest:
                found = [f"{path}:{n}: {text}" for path, whole in files.items()
                         for n, text in enumerate(whole.split("\n"), 1) if rest in text]
                return files, "\n".join(found) or "nothing found"
            case "edit":
                return edited(files, rest, body), "done"
            case "test":
                result = run_checks(files, issue.passing, sandbox)
                return files, (f"{result.passed} of {result.total} tests pass. "
                               f"{result.message}")
    except Refused as error:
        return files, str(error)
    return files, f"there is no action {line[:60]!r}"


def mend(issue: Issue, model: Callable[[str], str], sandbox: Sandbox,
         steps: int = STEPS) -> Episode:
    """Lets a model act until it submits or has used up its steps; judges the result.

    A repository that was not changed is refused, as an empty patch is.
    """
    episode, files = Episode(), dict(issue.files)
    transcript = f"{issue.text}\n\n{MANUAL}{', '.join(files)}\n"
    while len(episode.steps) < steps:
        action = action_in(model(transcript))
        if action.strip() == "submit":
            break
        files, shown = act(files, action, issue, sandbox)
        shown = clean(shown, LONGEST)
        episode.steps.append((action, shown))
        transcript += f"\n```\n{action.rstrip()}\n```\n{shown}\n"
    episode.patch = make_patch(issue.files, files)
    total = len(issue.failing) + len(issue.passing)
    episode.result = (issue.judge(files, sandbox) if episode.patch else
                      refused(Refused("nothing was changed"), total))
    return episode
