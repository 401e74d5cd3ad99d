"""The chat format of the released models, to the character (Coder-V2 README)."""

from __future__ import annotations

import re

from minicoder.tokenizer import BOS, EOS, Tokenizer

# roles are plain text; the generation prompt ends without a space
CHAT_TEMPLATE = (
    "{% if not add_generation_prompt is defined %}"
    "{% set add_generation_prompt = false %}{% endif %}"
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ 'Assistant: ' + message['content'] + eos_token }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}")

_FENCE = re.compile(r"```(?:python)?\n(.*?)```", re.DOTALL)


def chat_text(messages: list[dict[str, str]]) -> str:
    """A conversation as one string, with the control tokens written out."""
    parts = [BOS]
    for message in messages:
        content = message["content"]
        parts.append({"system": f"{content}\n\n", "user": f"User: {content}\n\n",
                      "assistant": f"Assistant: {content}{EOS}"}[message["role"]])
    return "".join(parts)


def prompt_tokens(question: str, tokenizer: Tokenizer) -> list[int]:
    """One user turn and the prompt to answer it; `question` stays text throughout."""
    return [tokenizer.bos, *tokenizer.encode(f"User: {question}\n\nAssistant:")]


def answer_tokens(answer: str, tokenizer: Tokenizer) -> list[int]:
    """What the assistant is to write, its end included."""
    return [*tokenizer.encode(" " + answer), tokenizer.eos]


def program_in(answer: str) -> str:
    """The program of an answer: its first fenced block, or all of it."""
    fenced = _FENCE.search(answer)
    return (fenced.group(1) if fenced else answer).strip() + "\n"
