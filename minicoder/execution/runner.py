"""The program's side: it runs the program and answers with plain values.

Runs in the program's process, the child of `child.py`; standard library only.
"""

from __future__ import annotations

import os
import socket
import sys
import types
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from typing import Any

from common import MAX_FRAME, Opaque, decode, encode, pack, unpack


def describe(error: BaseException) -> list[Any]:
    """Type, message and last line in the program; survives a hostile __str__."""
    line, trace = 0, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == "<program>":
            line = trace.tb_lineno
        trace = trace.tb_next
    try:
        text = str(error)[:1000]
    except BaseException:
        text = "(its message raises an exception)"
    return [type(error).__name__[:80], text, line]


def reply(
    function: Callable[..., Any], arguments: list[Any], named: dict[str, Any],
    changes: bool = False,
) -> list[Any]:
    """Calls the program: [kind, content], with its arguments afterwards if asked."""
    try:
        value = encode(function(*arguments, **named))
        return ["value", [value, encode(arguments)] if changes else value]
    except Opaque as error:
        return ["opaque", str(error)[:200]]
    except BaseException as error:
        return ["error", describe(error)]


def load(code: str, entry_point: str, module: types.ModuleType) -> list[Any]:
    """Runs the program's top level: ["ready", names that it can be called by]."""
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    try:  # dont_inherit: this file's __future__ imports are not the program's
        compiled = compile(code, "<program>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        return ["syntax", describe(error)]
    except BaseException as error:
        return ["error", describe(error)]
    try:
        exec(compiled, module.__dict__)
        if entry_point not in module.__dict__:
            raise NameError(f"the program does not define {entry_point!r}")
    except BaseException as error:
        return ["error", describe(error)]
    return ["ready", [k for k, v in module.__dict__.items() if callable(v)]]


def answers(stream: BufferedIOBase) -> Iterator[list[Any]]:
    """Runs one job: answers its cases, or, when it brings none, calls as they come."""
    code, entry_point, cases = unpack(stream)
    module = types.ModuleType("program")
    loaded = load(code, entry_point, module)
    if loaded[0] != "ready" or cases is None:
        yield loaded
    if loaded[0] != "ready":
        return
    for wire in cases or ():
        yield reply(module.__dict__[entry_point], decode(wire), {})
    while cases is None:
        try:
            name, wire, named, changes = unpack(stream)
        except EOFError:  # the tests are done
            return
        yield reply(module.__dict__[name], decode(wire), decode(named), changes)


def run_program(channel: socket.socket) -> None:
    """Reads one job from the channel and answers it there."""
    me = os.getpid()
    with channel.makefile("rb") as stream:
        for answer in answers(stream):
            if os.getpid() != me:  # the program has forked: its copies stay silent
                os._exit(0)
            frame = pack(answer)
            if len(frame) > MAX_FRAME:
                frame = pack(["opaque", f"a value of more than {MAX_FRAME} bytes"])
            channel.sendall(frame)
    sys.stdout.flush()
