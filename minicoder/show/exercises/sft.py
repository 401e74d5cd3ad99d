"""The exercises of the lesson on fine-tuning (notebook 09), and what they catch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from minicoder.show.check import Rule, exercise
from minicoder.tokenizer import BOS, EOS

Answer = Callable[..., Any]
Turns = Sequence[tuple[str, list[int]]]
IGNORE = -100


def _mistake(message: str, run: Answer, wrong: Answer) -> Rule:
    """The rule that an answer must not give what `wrong` gives."""
    return Rule(message, lambda answer: run(answer) != run(wrong), wrong)


TURNS = [("given", [0, 11, 12]), ("answer", [21, 22, 1]), ("given", [13, 14]),
         ("answer", [23, 1])]
ECHO = [("given", [0, 21, 22]), ("answer", [21, 1]), ("given", [22])]


def _flat(turns: Turns) -> tuple[list[int], list[bool]]:
    """All tokens, and which of them belong to an answer."""
    return ([token for _, tokens in turns for token in tokens],
            [kind == "answer" for kind, tokens in turns for _ in tokens])


def _pairs(counts: Answer, ignored: int = IGNORE) -> Answer:
    """Pairs of input and target, the target kept where `counts(turns)` says so."""
    def answer(turns: Turns) -> tuple[list[int], list[int]]:
        tokens, _ = _flat(turns)
        return tokens[:-1], [token if known else ignored for token, known in zip(
            tokens[1:], counts(turns), strict=False)]
    return answer


def _given(turns: Turns) -> Answer:
    """Try an answer on these turns; lists and tuples are the same."""
    return lambda answer: [list(part) for part in answer(turns)]


_both = _given(TURNS)


def _uncounted(answer: Answer) -> set[int]:
    """What an answer puts in place of the targets that do not count."""
    return {int(target) for target, known in zip(
        _both(answer)[1], _flat(TURNS)[1][1:], strict=True) if not known}


@exercise(
    "sft.targets",
    rules=(
        Rule("10 tokens make 9 pairs: the inputs are all tokens but the last, the "
             "targets all but the first. (transformers takes unshifted labels and "
             "shifts inside the model; our loss does not.)",
             lambda answer: [len(part) for part in answer(TURNS)] == [9, 9],
             lambda turns: (_flat(turns)[0], [
                 token if known else IGNORE
                 for token, known in zip(*_flat(turns), strict=True)])),
        Rule("the inputs are the tokens as they are: all but the last. What does not "
             "count in the loss is still read.",
             lambda answer: _both(answer)[0] == _flat(TURNS)[0][:-1],
             lambda turns: (lambda pairs: ([0 if t == IGNORE else t for t in pairs[1]],
                                           pairs[1]))(ask_answers(turns))),
        _mistake("the prompts count, too: the model would learn to write users.", _both,
                 _pairs(lambda turns: [True] * len(_flat(turns)[1]))),
        _mistake("the mask is one place off: it must be shifted with the targets. "
                 "Yours asks whether the *input* is part of an answer, so no answer's "
                 "first token is learnt.", _both,
                 _pairs(lambda turns: _flat(turns)[1])),
        _mistake("the end of an answer (token 1) is part of it: who never learns it "
                 "never stops.", _both,
                 _pairs(lambda turns: [known and token != 1 for token, known in zip(
                     *(part[1:] for part in _flat(turns)), strict=True)])),
        _mistake("only the last answer counts: every answer of the conversation is to "
                 "be learnt.", _both,
                 _pairs(lambda turns: [False] * len(_flat(turns[:-1])[0][1:])
                        + _flat(turns[-1:])[1])),
        Rule("the sign for «does not count» is -100, in place of every such token. "
             "Others would be learnt: 0 is a token, too (here: BOS).",
             lambda answer: IGNORE in _uncounted(answer),
             _pairs(lambda turns: _flat(turns)[1][1:], 0)),
        Rule("decide by place, not by token: in [given 0 21 22] [answer 21 1] [given "
             "22] the 21 of the question does not count, that of the answer does.",
             lambda answer: _given(ECHO)(answer) == _given(ECHO)(ask_answers),
             _pairs(lambda turns: [
                 any(token in tokens for kind, tokens in turns if kind == "answer")
                 for token in _flat(turns)[0][1:]])),
    ),
    hints=("Make two lists first: all tokens, and for each whether an answer holds it.",
           "inputs = tokens[:-1]; the targets come from tokens[1:] and learnt[1:]."),
)
def ask_answers(turns: Sequence[tuple[str, list[int]]]
                ) -> tuple[list[int], list[int]]:
    """Inputs, and targets that are -100 but for the answers."""
    tokens = [token for _, part in turns for token in part]
    learnt = [kind == "answer" for kind, part in turns for _ in part]
    return tokens[:-1], [token if known else -100
                         for token, known in zip(tokens[1:], learnt[1:], strict=True)]


ROW = [0, 5, 6, 1, 0, 7, 1, 8, 1]       # 0 is BOS, 1 EOS; the second has two answers
OTHER = [2, 5, 2, 0, 1, 6, 2, 7]        # 2 is BOS


def _square(visible: Answer) -> Answer:
    """A mask, right unless the rule of who is in one conversation is replaced."""
    def answer(tokens: list[int], bos: int) -> torch.Tensor:
        row = torch.tensor(tokens)
        number = visible(row, bos)
        return (number[:, None] == number).tril()
    return answer


def _seen(tokens: list[int], bos: int = 0) -> Answer:
    """An answer's mask of this row, as nested lists."""
    return lambda answer: torch.as_tensor(answer(tokens, bos)).bool().tolist()


_row = _seen(ROW)


@exercise(
    "sft.allowed",
    rules=(
        Rule("9 tokens need 9 × 9 answers: a row for each token that looks, a column "
             "for each that is looked at.",
             lambda answer: torch.as_tensor(answer(ROW, 0)).shape == (9, 9),
             lambda tokens, bos: torch.tensor(tokens) == bos),
        Rule("a token may not look ahead: nothing above the diagonal.",
             lambda answer: not torch.tensor(_row(answer)).triu(1).any(),
             lambda tokens, bos: (lambda n: n[:, None] == n)(
                 (torch.tensor(tokens) == bos).cumsum(0))),
        Rule("every token sees itself.",
             lambda answer: bool(torch.tensor(_row(answer)).diagonal().all()),
             lambda tokens, bos: allowed(tokens, bos).tril(-1)),
        _mistake("this is plain causal attention: the second conversation reads the "
                 "first. That is the leak.", _row,
                 _square(lambda row, bos: torch.zeros_like(row))),
        _mistake("you cut at EOS: a conversation has one after each answer, so its "
                 "second turn would not see its first. Cut at BOS.", _row,
                 _square(lambda row, bos: (row == 1).cumsum(0) - (row == 1).int())),
        _mistake("one place off: BOS opens its own conversation; it does not close the "
                 "one before.", _row,
                 _square(lambda row, bos: (row == bos).cumsum(0)
                         - (row == bos).int())),
        Rule("a row may begin in the middle of a conversation, [5, 6, 0, 7]: its first "
             "two tokens see one another, although no BOS stands before them.",
             lambda answer: _seen([5, 6, 0, 7])(answer) == _seen([5, 6, 0, 7])(allowed),
             _square(lambda row, bos: torch.where(
                 (row == bos).cumsum(0) > 0, (row == bos).cumsum(0),
                 -1 - torch.arange(len(row))))),
        Rule("which token is BOS is the caller's to say: with bos=2, a conversation "
             "begins at each 2 of [2, 5, 2, 0, 1, 6, 2, 7], and at nothing else.",
             lambda answer: _seen(OTHER, 2)(answer) == _seen(OTHER, 2)(allowed),
             lambda tokens, bos: allowed(tokens, 0)),
    ),
    hints=("Number the conversations: how many BOS have come up to each token? "
           "(row == bos).cumsum(0)",
           "Same number, and not ahead: (number[:, None] == number).tril()."),
)
def allowed(tokens: list[int], bos: int) -> torch.Tensor:
    """Who sees whom in a packed row: (T, T), true where t may look at s."""
    number = (torch.tensor(tokens) == bos).cumsum(0)
    return (number[:, None] == number).tril()


TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "  x = 1\n"}]
EDGES = [{"role": role, "content": " x\n"}
         for role in ("system", "user", "assistant", "system", "user")]


def _writing(user: str = "User: {}\n\n", system: str = "{}\n\n",
             answer: str = "Assistant: {}" + EOS, begin: str = BOS,
             end: str = "Assistant:", tidy: Answer = str, between: str = "") -> Answer:
    """A writing of the prompt, right unless a part is replaced."""
    forms = {"user": user, "system": system, "assistant": answer}

    def write(messages: Sequence[dict[str, str]]) -> str:
        return begin + between.join(forms[m["role"]].format(tidy(m["content"]))
                                    for m in messages) + end
    return write


def _asked(message: str, holds: Answer, wrong: Answer) -> Rule:
    """A rule for the prompt of a talk with every role, code in the last message."""
    return Rule(message, lambda answer: holds(answer(TALK)), wrong)


@exercise(
    "sft.prompt",
    rules=(
        _asked("it ends in a space. Answers begin with that space, as part of their "
               "first token: take it away, or the model must begin where no answer "
               "ever began.", lambda text: not text.endswith(" "),
               _writing(end="Assistant: ")),
        _asked("nobody is asked: the prompt must end in «Assistant:».",
               lambda text: text.endswith("Assistant:"), _writing(end="")),
        _asked("there is no BOS. Every conversation opened with one in training.",
               lambda text: text.startswith(BOS), _writing(begin="")),
        _asked("BOS stands before every message. It opens the conversation, once.",
               lambda text: text.count(BOS) == 1, _writing(between=BOS)),
        _asked("a system message stands bare: this format has no word «System:».",
               lambda text: text.startswith(BOS + "Be brief."),
               _writing(system="System: {}\n\n")),
        _asked("the earlier answer does not end in EOS.",
               lambda text: "Hello" + EOS in text, _writing(answer="Assistant: {}")),
        _asked("EOS ends answers alone, not what users write.",
               lambda text: text.count(EOS) == 1, _writing(user="User: {}\n\n" + EOS)),
        _asked("behind EOS the next «User:» follows at once, with no line break.",
               lambda text: EOS + "User:" in text,
               _writing(answer="Assistant: {}" + EOS + "\n\n")),
        _asked("the message of a user, and of the system, ends in two line breaks.",
               lambda text: "brief.\n\nUser: Hi\n\nAssistant" in text,
               _writing(user="User: {}\n")),
        _asked("you strip the messages. White space at the edge is content: it may be "
               "the indentation of code.", lambda text: "User:   x = 1\n\n\n" in text,
               _writing(tidy=str.strip)),
        Rule("a system message may come twice, and white space counts in every role.",
             lambda answer: answer(EDGES) == _writing()(EDGES),
             lambda messages: _writing()([
                 {**m, "content": m["content"].strip()} if m["role"] != "user" else m
                 for m in messages])),
        Rule("for the talk of the hint, and for one question alone, the prompt must "
             "come out to the character.",
             lambda answer: answer(TALK) == _writing()(TALK)
             and answer(TALK[1:2]) == BOS + "User: Hi\n\nAssistant:",
             lambda messages: _writing()(messages)
             if len(messages) > 1 else "User: Hi\n\nAssistant:"),
    ),
    hints=("For system «Be brief.», user «Hi», assistant «Hello», user «  x = 1↵» it "
           "is: BOS Be brief.↵↵User: Hi↵↵Assistant: Hello EOS User:   x = 1↵↵↵"
           "Assistant: (no space next to BOS and EOS).",
           "One text for each role, joined by nothing; then «Assistant:»."),
)
def prompt(messages: Sequence[dict[str, str]]) -> str:
    """What a model is given to write the next answer (Coder-V2's README)."""
    forms = {"system": "{}\n\n", "user": "User: {}\n\n",
             "assistant": "Assistant: {}" + EOS}
    return BOS + "".join(forms[m["role"]].format(m["content"])
                         for m in messages) + "Assistant:"
