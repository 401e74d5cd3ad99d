"""The agent: a scripted oracle mends, an idle one does not, all is bounded."""

import re

import pytest

from minicoder.execution.sandbox import Sandbox
from minicoder.tasks.agent import LONGEST, STEPS, action_in, edited, mend
from minicoder.tasks.files import Refused, apply_patch
from minicoder.tasks.repositories import make

pytestmark = pytest.mark.filterwarnings("ignore:")
ISSUES = [issue for index in range(12) if (issue := make(index))]


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=1, allow_weak=True) as pool:
        yield pool


def script(*actions):
    """A model that takes these actions, one after the other."""
    left = iter(actions)
    return lambda transcript: f"I will do this.\n```\n{next(left)}\n```"


def oracle(issue):
    """Reads, tests, makes the right edits, submits."""
    after = apply_patch(issue.files, issue.patch)
    edits = [(path, old, new) for path, text in issue.files.items()
             for old, new in zip(text.split("\n"), after[path].split("\n"), strict=True)
             if old != new]
    above = r"[^\n]*\n[^\n]*\n"  # the lines before, so that it stands once
    defs = {old: re.search(rf"{above}{re.escape(old)}\n", issue.files[path])[0]
            for path, old, _ in edits}
    return script(
        f"read {edits[0][0]}", f"search {edits[0][1].strip()}", "test",
        *(f"edit {path}\n{defs[old]}=======\n{defs[old].replace(old, new)}"
          for path, old, new in edits), "test", "submit")


@pytest.mark.parametrize("issue", ISSUES, ids=lambda issue: issue.task_id)
def test_an_oracle_mends_every_issue(sandbox, issue):
    episode = mend(issue, oracle(issue), sandbox)
    assert episode.result.verdict == "pass", episode.steps
    assert issue.grade(episode.patch, sandbox).verdict == "pass"
    shown = [shown for _, shown in episode.steps]
    assert shown[0] == issue.files[episode.steps[0][0].split()[1].strip()]
    total = len(issue.passing)
    assert shown[2].startswith(f"{total} of {total} tests pass") and "done" in shown


def test_an_idle_agent_fails(sandbox):
    for model in (script("submit"), lambda transcript: "", script(*["read x"] * STEPS)):
        episode = mend(ISSUES[0], model, sandbox)
        assert (episode.patch, episode.result.verdict) == ("", "refused")
        assert len(episode.steps) in (0, STEPS)


def test_a_wrong_edit_fails(sandbox):
    path = next(p for p, text in ISSUES[0].files.items() if text)
    first = ISSUES[0].files[path].split("\n")[0]
    episode = mend(ISSUES[0], script(
        f"edit {path}\n{first}\n=======\n{first}  # mended", "submit"), sandbox)
    assert episode.patch and episode.result.verdict == "fail"


def test_hostile_actions_show_a_message_and_change_nothing(sandbox):
    actions = ("edit ../../etc/passwd\nroot\n=======\nme", "read /etc/passwd",
               "edit /x\na\n=======\nb", "search", "read ../../etc/passwd", "edit",
               "search " + "e" * 10**5, "x" * 2 * LONGEST, "edit a.py\n\n=======\nb",
               "rm -rf /", "\x1b[2J")
    episode = mend(ISSUES[0], script(*actions, "submit"), sandbox)
    assert len(episode.steps) == len(actions) and episode.patch == ""
    for action, shown in episode.steps:
        assert len(action) <= LONGEST and len(shown) <= LONGEST + 1
        assert "root:" not in shown and "\x1b" not in shown


def test_the_transcript_grows_by_what_was_shown(sandbox):
    seen = []
    path = next(p for p, text in ISSUES[0].files.items() if text)

    def model(transcript):
        seen.append(transcript)
        return f"```\nread {path}\n```"
    mend(ISSUES[0], model, sandbox, steps=3)
    assert len(seen) == 3 and ISSUES[0].files[path] in seen[1]
    assert ISSUES[0].text in seen[0] and seen[2].startswith(seen[1])


def test_old_lines_must_stand_once():
    files = {"a": "x = 1\nx = 1\ny = 2\n"}
    assert edited(files, "a", "y = 2\n=======\ny = 3\n")["a"] == "x = 1\nx = 1\ny = 3\n"
    assert edited(files, "a", "y = 2\n=======\n")["a"] == "x = 1\nx = 1\n\n"
    for body in ("x = 1\n=======\nx = 2", "z\n=======\nx", "y = 2", "", "=======\nx"):
        with pytest.raises(Refused, match="must stand once"):
            edited(files, "a", body)


def test_the_last_block_is_the_action():
    assert action_in("```\nread a\n```\nthen\n```sh\nsubmit\n```") == "submit\n"
    assert action_in("thinking\nsubmit") == "submit"
    assert action_in("") == "" and len(action_in("```\n" * 10**5)) <= LONGEST
