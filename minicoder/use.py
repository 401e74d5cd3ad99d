"""Using a trained coder from the terminal: complete, infill, chat."""

from __future__ import annotations

import codecs
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from minicoder.alignment.chat import prompt_tokens, spoilt
from minicoder.data.fim import infill_prompt
from minicoder.errors import UserError
from minicoder.model.generate import stream
from minicoder.model.transformer import MiniCoder
from minicoder.tokenizer import Tokenizer
from minicoder.training.loop import pick_device

HOLE = "<FILL>"


def printable(text: str) -> str:
    """Text without control characters, which a terminal might obey, or surrogates."""
    return "".join(c for c in text
                   if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))


def given(text: str) -> str:
    """The text of an argument, or of standard input for -; U+FFFD for what is none."""
    if text != "-":
        return text
    return sys.stdin.buffer.read().decode("utf-8", errors="replace")


def pieces(tokenizer: Tokenizer, tokens: Iterator[int]) -> Iterator[str]:
    """Text as soon as its bytes are complete."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in tokens:
        yield printable(decoder.decode(tokenizer.decode_bytes([token])))
    yield printable(decoder.decode(b"", final=True))


def until(texts: Iterator[str], stops: Sequence[str]) -> Iterator[str]:
    """The texts up to the first of `stops` to be complete; what may begin one waits."""
    held = ""
    for text in texts:
        held += text
        if found := [(held.index(stop) + len(stop), held.index(stop))
                     for stop in stops if stop in held]:
            yield held[:min(found)[1]]
            return
        begun = max((n for stop in stops for n in range(1, len(stop))
                     if held.endswith(stop[:n])), default=0)
        yield held[:len(held) - begun]
        held = held[len(held) - begun:]
    if held:
        yield held


class Coder:
    """A checkpoint folder, ready to continue prompts."""

    def __init__(self, folder: Path, temperature: float, top_p: float, top_k: int,
                 stop: Sequence[str], seed: int) -> None:
        device = pick_device()
        if device.type == "cpu":
            torch.set_num_threads(1)  # one token at a time is too little for two
        self.tokenizer, self.model = MiniCoder.with_tokenizer(folder, device)
        self.temperature, self.top_p, self.top_k = temperature, top_p, top_k
        if "" in stop:
            raise UserError("--stop is empty: every answer would be over at once.")
        self.stop = stop
        self.draw = torch.Generator().manual_seed(seed)

    def answer(self, prompt: list[int], new_tokens: int) -> Iterator[str]:
        """Stream the continuation; its length is cut to what the window leaves."""
        room = self.model.config.max_position_embeddings - len(prompt)
        tokens = stream(
            self.model, prompt, max(1, min(new_tokens, room)), self.tokenizer.eos,
            self.temperature, self.top_p, self.draw, self.top_k)
        return until(pieces(self.tokenizer, tokens), self.stop)

    def show(self, prompt: list[int], new_tokens: int, before: str = "",
             after: str = "") -> None:
        """Write the continuation to the terminal as it comes, between two texts."""
        print(printable(before), end="", flush=True)
        for piece in self.answer(prompt, new_tokens):
            print(piece, end="", flush=True)
        print(printable(after))

    def reply(self, question: str, new_tokens: int) -> None:
        """Write the answer to a question, without the space before its first word."""
        said = self.answer(prompt_tokens(question, self.tokenizer), new_tokens)
        begun = False
        for piece in said:
            print(piece if begun else piece.removeprefix(" "), end="", flush=True)
            begun = begun or bool(piece)
        print()


def complete(
    prompt: str, model: Path = Path("runs/demo/extend"), new_tokens: int = 80,
    temperature: float = 0.3, top_p: float = 0.95, top_k: int = 0,
    stop: tuple[str, ...] = (), seed: int = 0,
) -> None:
    """Continue a piece of code.

    Args:
        prompt: the code to continue; - reads it from standard input.
        model: checkpoint folder.
        new_tokens: the most tokens to write.
        temperature: 0 takes the likeliest token each time.
        top_p: share of the probability to draw from.
        top_k: how many of the likeliest tokens to draw from; 0 for all.
        stop: texts that end the answer and are not written.
        seed: the same seed gives the same text.
    """
    coder = Coder(model, temperature, top_p, top_k, stop, seed)
    text = given(prompt)
    if spoilt(text):
        print('The prompt ends in "Assistant: "; without that space the model answers '
              "better.", file=sys.stderr)
    coder.show([coder.tokenizer.bos, *coder.tokenizer.encode(text)], new_tokens, text)


def infill(
    code: str, model: Path = Path("runs/demo/extend"), new_tokens: int = 48,
    temperature: float = 0.0, top_p: float = 0.95, top_k: int = 0,
    stop: tuple[str, ...] = (), seed: int = 0,
) -> None:
    """Fill the hole in a piece of code, from what stands before and behind it.

    Args:
        code: code with one <FILL> where the hole is; - reads it from standard input.
        model: checkpoint folder.
        new_tokens: the most tokens to write.
        temperature: 0 takes the likeliest token each time.
        top_p: share of the probability to draw from.
        top_k: how many of the likeliest tokens to draw from; 0 for all.
        stop: texts that end the answer and are not written.
        seed: the same seed gives the same text.
    """
    text = given(code)
    if text.count(HOLE) != 1:
        raise UserError(f"The code must have one {HOLE}; it has {text.count(HOLE)}.")
    prefix, suffix = text.split(HOLE)
    coder = Coder(model, temperature, top_p, top_k, stop, seed)
    coder.show(infill_prompt(prefix, suffix, coder.tokenizer), new_tokens, prefix,
               suffix)


def chat(
    question: str = "", model: Path = Path("runs/demo/grpo"), new_tokens: int = 80,
    temperature: float = 0.0, top_p: float = 0.95, top_k: int = 0,
    stop: tuple[str, ...] = (), seed: int = 0,
) -> None:
    """Ask the aligned model for a program.

    Args:
        question: the request; without one, a prompt asks for them until Ctrl-D.
        model: checkpoint folder.
        new_tokens: the most tokens to write.
        temperature: 0 takes the likeliest token each time.
        top_p: share of the probability to draw from.
        top_k: how many of the likeliest tokens to draw from; 0 for all.
        stop: texts that end the answer and are not written.
        seed: the same seed gives the same text.
    """
    coder = Coder(model, temperature, top_p, top_k, stop, seed)
    if question:
        coder.reply(question, new_tokens)
        return
    while True:
        try:
            question = input("> ")
        except EOFError:
            return
        if question.strip():
            coder.reply(question, new_tokens)
