"""Mutants: one place changed, never the program itself, the same every time."""

import ast

import pytest

from minicoder.tasks.mutants import mutants

SOURCE = '''\
def f(a, n=0):
    """Not a number: 7."""
    total = 0
    for x in a[1:]:
        total += x
        if not x or x % 2 == 0 and x < 10:
            total -= -1
    return max(total, n)
'''


@pytest.mark.parametrize(("source", "expected"), [
    ("a < b", {"a <= b", "a > b"}), ("a + b", {"a - b"}), ("not a", {"not not a"}),
    ("3", {"4", "2"}), ("True", {"False"}), ("a[1:]", {"a[2:]", "a[0:]", "a[:]"}),
    ("[x for x in a if x]", {"[x for x in a]"}), ("max(a)", {"min(a)"}),
    ("a and b", {"a or b"}), ("x if a else b", {"x if not a else b"}), ("-a", {"+a"}),
    ("a.upper()", {"a.lower()"}), ("a in b", {"a not in b"}), ("a", set())])
def test_each_operator(source, expected):
    assert {text.strip() for text in mutants(source)} == expected


def test_mutants_differ_in_one_line_and_are_programs():
    found, right = mutants(SOURCE), ast.unparse(ast.parse(SOURCE)).split("\n")
    assert len(found) == len(set(found)) > 12 and found == mutants(SOURCE)
    for text in found:
        lines = text.rstrip("\n").split("\n")
        ast.parse(text)
        assert '"""Not a number: 7."""' in text
        if len(lines) == len(right):
            assert sum(a != b for a, b in zip(lines, right, strict=True)) == 1


def test_no_python_is_refused():
    with pytest.raises(SyntaxError):
        mutants("def f(:")
