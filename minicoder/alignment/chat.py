"""The chat format of the released models, to the character (Coder-V2 README)."""

from __future__ import annotations

from collections.abc import Sequence

from minicoder.errors import UserError
from minicoder.tokenizer import BOS, EOS, Tokenizer

Message = dict[str, str]    # "role" and "content"
ROLES = ("system", "user", "assistant")

# roles are plain text; the generation prompt ends without a space
CHAT_TEMPLATE = (
    "{% if not add_generation_prompt is defined %}"
    "{% set add_generation_prompt = false %}{% endif %}"
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ 'Assistant: ' + message['content'] + eos_token }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% else %}{{ raise_exception('There is no role ' + message['role'] + "
    "'; choose from system, user, assistant.') }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}")


def turn(message: Message) -> str:
    """One message without its end token; `UserError` for an unknown role."""
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise UserError(f"There is no role {role}; choose from {', '.join(ROLES)}.")
    return {"system": f"{content}\n\n", "user": f"User: {content}\n\n",
            "assistant": f"Assistant: {content}"}[role]


def chat_text(messages: Sequence[Message]) -> str:
    """A conversation as one string, with the control tokens written out."""
    return BOS + "".join(turn(m) + (EOS if m["role"] == "assistant" else "")
                         for m in messages)


def chat_tokens(messages: Sequence[Message], tokenizer: Tokenizer
                ) -> tuple[list[int], list[bool]]:
    """The tokens of `chat_text`, and which of them the assistant is to write.

    Control tokens inside a message stay text.
    """
    tokens, learnt, before = [tokenizer.bos], [False], ""
    for message in messages:
        if message["role"] != "assistant":
            before += turn(message)
            continue
        given = tokenizer.encode(before + "Assistant:")
        answer = answer_tokens(message["content"], tokenizer)
        tokens += given + answer
        learnt += [False] * len(given) + [True] * len(answer)
        before = ""
    rest = tokenizer.encode(before)
    return tokens + rest, learnt + [False] * len(rest)


def prompt_tokens(question: str, tokenizer: Tokenizer) -> list[int]:
    """One user turn and the prompt to answer it; `question` stays text throughout."""
    return [tokenizer.bos, *tokenizer.encode(f"User: {question}\n\nAssistant:")]


def answer_tokens(answer: str, tokenizer: Tokenizer) -> list[int]:
    """What the assistant is to write, its end included."""
    return [*tokenizer.encode(" " + answer), tokenizer.eos]


def spoilt(prompt: str) -> bool:
    """Whether a prompt ends in the famous bug: a space after `Assistant:`.

    Answers begin with that space, as part of their first token: behind a lone one the
    model has never been (Coder-V2's README: it then answers in Chinese or garbage).
    """
    return prompt.endswith("Assistant: ")
