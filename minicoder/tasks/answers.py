"""What an answer says: the program in it, cut out of the words around."""

from __future__ import annotations

import re

# where a base model has finished the function and begins something else (Codex paper)
STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
_FENCE = re.compile(r"```([\w+#-]*)[^\S\n]*\n(.*?)```", re.DOTALL)
_SHORT = {"py": "python", "python3": "python", "c++": "cpp", "cc": "cpp", "rs": "rust",
          "js": "javascript", "ts": "typescript", "sh": "bash", "golang": "go"}


def language_name(tag: str) -> str:
    """The language that a fence's tag or a data set's word stands for."""
    return _SHORT.get(tag.lower(), tag.lower())


def fenced(program: str, language: str = "python") -> str:
    """A program as a block of an answer."""
    return f"```{language}\n{program.rstrip()}\n```"


def program_in(answer: str, language: str = "python", defines: str = "") -> str:
    """The program of an answer: its first fenced block, or all of it.

    Blocks of the language go before those without a tag, and these before any other;
    among equals the first that holds the word `defines`. A block keeps its indentation.
    """
    blocks = [(language_name(tag), body) for tag, body in _FENCE.findall(answer)]
    if not blocks:
        return answer.strip() + "\n"
    wanted = next(([body for tag, body in blocks if tag == known]
                   for known in (language_name(language), "")
                   if known in {tag for tag, _ in blocks}), [blocks[0][1]])
    word = re.compile(rf"\b{re.escape(defines)}\b")
    body = next(filter(word.search, wanted), wanted[0]) if defines else wanted[0]
    return body.strip("\n").rstrip() + "\n"


def completion_in(text: str, stops: tuple[str, ...] = STOPS) -> str:
    """A base model's continuation up to the first stop sequence."""
    return text[:min((at for stop in stops if (at := text.find(stop)) >= 0),
                     default=len(text))]
