"""The program in an answer."""

import pytest

from minicoder.tasks.answers import (
    STOPS,
    completion_in,
    fenced,
    language_name,
    program_in,
)

TWO = "Here:\n```python\nx = 1\n```\nand\n```\ny = 2\n```"
MANY = ("```bash\npip\n```\n```\ndef g(): pass\n```\n```py\ndef h(): f\n```\n"
        "```Python\ndef f(): pass\n```\n```c++\nint f();\n```")


@pytest.mark.parametrize(("answer", "program"), [
    ("def f(): pass", "def f(): pass\n"), (" \n x = 1\n\n", "x = 1\n"), ("", "\n"),
    (TWO, "x = 1\n"), ("```\nx = 1\n```", "x = 1\n"),
    ("```python\nx = 1", "```python\nx = 1\n"),
    ("```python \r\nx = 1\n```", "x = 1\n"),
    ("```python\n\n    x = 1\n```", "    x = 1\n"),
    (MANY, "def h(): f\n"), ("```\nx\n```\n```rust\ny\n```", "x\n"),
    ("```rust\ny\n```", "y\n")])
def test_the_program_of_an_answer(answer, program):
    assert program_in(answer) == program


@pytest.mark.parametrize(("language", "defines", "program"), [
    ("python", "f", "def h(): f\n"), ("python", "pass", "def f(): pass\n"),
    ("python", "zzz", "def h(): f\n"), ("cpp", "", "int f();\n"),
    ("bash", "", "pip\n"), ("go", "", "def g(): pass\n")])
def test_the_block_of_a_language_or_a_name(language, defines, program):
    assert program_in(MANY, language, defines) == program


def test_what_is_fenced_is_found_again():
    for language in ("python", "cpp", "javascript"):
        assert program_in(fenced("a\n  b\n", language), language) == "a\n  b\n"
    assert [language_name(tag) for tag in ("C++", "js", "Rust", "")] == [
        "cpp", "javascript", "rust", ""]


def test_a_completion_ends_at_the_first_stop():
    body = "    if n:\n        return 1\n    return 2"
    for stop in STOPS:
        assert completion_in(body + stop + " x") == body
    assert completion_in(body) == body and completion_in("a\nb", ("\nb",)) == "a"
    assert completion_in(body + "\n\nprint(f(1))\ndef g(): 0") == body + "\n"


def test_many_fences_take_linear_time():
    for text in ("```" * 200_000, "```a\n" * 100_000, "`" * 500_000 + "\n"):
        assert program_in(text)
