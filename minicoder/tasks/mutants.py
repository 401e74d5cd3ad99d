"""Wrong programs made from a right one: each differs in one place of its syntax tree.

The operators are those of mutation testing: another comparison, another arithmetic
operator, a constant one off, a condition negated, `and` for `or`, a slice without an
end, a statement left out.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator

SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,), ast.And: (ast.Or,), ast.Or: (ast.And,),
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Add,),
    ast.FloorDiv: (ast.Mod, ast.Div), ast.Mod: (ast.FloorDiv,), ast.Div: (ast.Mult,)}
NAMES = {"max": "min", "min": "max", "all": "any", "any": "all", "upper": "lower",
         "lower": "upper", "append": "extend", "startswith": "endswith"}


def _changes(node: ast.AST) -> Iterator[tuple[str, object]]:
    """The (field, new value) that each make a wrong node of a right one."""
    match node:
        case ast.Compare(ops=[op, *rest]) if type(op) in SWAPS:
            yield from (("ops", [new(), *rest]) for new in SWAPS[type(op)])
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op):
            yield from (("op", new()) for new in SWAPS.get(type(op), ()))
        case ast.Constant(value=bool(value)):
            yield "value", not value
        case ast.Constant(value=int(value)):
            yield from (("value", value + 1), ("value", value - 1))
        case ast.UnaryOp(op=ast.USub()):
            yield "op", ast.UAdd()
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "operand", ast.UnaryOp(ast.Not(), operand)
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            yield "test", ast.UnaryOp(ast.Not(), test)
        case ast.comprehension(ifs=[_, *rest]):
            yield "ifs", rest
        case ast.Slice(lower=low, upper=high, step=step):
            yield from ((field, None) for field, value in (
                ("lower", low), ("upper", high), ("step", step)) if value)
        case ast.Name(id=name) if name in NAMES:
            yield "id", NAMES[name]
        case ast.Attribute(attr=name) if name in NAMES:
            yield "attr", NAMES[name]
        case ast.Return(value=value) if value and not isinstance(value, ast.Constant):
            yield "value", ast.Constant(None)
        case ast.For(body=[_, *rest]) | ast.If(body=[_, *rest]) if rest:
            yield "body", rest


def mutants(source: str) -> list[str]:
    """Programs that differ from `source` in one place, in the order of its tree.

    All are written by `ast.unparse`, and none appears twice.
    Raises SyntaxError for a source that is not Python.
    """
    tree = ast.parse(source)
    found = {}
    for node in ast.walk(tree):
        for field, value in list(_changes(node)):
            kept = getattr(node, field)
            setattr(node, field, value)
            found[ast.unparse(ast.fix_missing_locations(copy.deepcopy(tree)))] = None
            setattr(node, field, kept)
    return [text + "\n" for text in found]
