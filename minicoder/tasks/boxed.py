r"""Final answers of mathematics: cut out of \boxed{}, and compared as mathematics.

An answer is read by a small parser, never evaluated as a program. Its value is computed
to 400 digits; a letter stands for a fixed number without meaning, so that x + 1 equals
1 + x and differs from x + 2.
"""

from __future__ import annotations

import hashlib
import re
from decimal import Context, Decimal, DecimalException, localcontext

LONGEST = 300  # characters of an answer: longer ones are compared as text
DEEPEST = 30  # brackets in brackets
LARGEST_POWER = 1000
EXACT = Context(prec=LONGEST + 100)  # whole numbers of LONGEST digits stay exact
NEAR = Decimal(f"1e-{LONGEST + 50}")
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")

Value = Decimal | str | tuple  # a tuple: (kind, *parts), kinds "{", "(]" and so on


def boxed(answer: str) -> str | None:
    r"""What the last \boxed{...} holds; None without one, or with an open bracket."""
    start = answer.rfind(r"\boxed")
    text = answer[start + 6:].lstrip() if start >= 0 else ""
    if not text:
        return None
    if text[0] != "{":  # \boxed 5
        return re.match(r"[^\s$]*", text)[0]
    depth = 0
    for match in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0 and match[0] == "}":
            return text[1:match.start()]
    return None


def last_number(answer: str) -> str | None:
    """The last number that an answer holds, for models that box nothing."""
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?", answer[-10_000:])
    return found[-1].rstrip(",") if found else None


def final_answer(answer: str, any_number: bool = False) -> str | None:
    r"""What an answer says at its end: the last \boxed{}, or else its last number."""
    found = boxed(answer)
    return last_number(answer) if found is None and any_number else found


SPELLINGS = (  # what means the same is written the same; the order counts
    (r"\\left(?![a-z])|\\right(?![a-z])|\\displaystyle|\\[!,;: $]|[$£€~\s]+", " "),
    (r"\\[dt]frac", r"\\frac"), (r"[−–‐]", "-"), (r"\\%|％", "%"), (r"\{,\}", ","),
    (r"×|\\times|\\cdot", "*"), (r"÷|\\div(?![a-z])", "/"), (r"√", r"\\sqrt"),
    (r"π", r"\\pi "), (r"∞", r"\\infty "), (r"∪", r"\\cup "), (r"\\\{", "⟨"),
    (r"\\\}", "⟩"), (r"\^ ?(?:\\circ|\{ ?\\circ ?\})|°", r"\\text{degree}"),
    (r"\\(?:mathrm|mbox|textbf|operatorname)(?![a-z])", r"\\text"),
    (r"\\text ?\{ ?(?:or|and) ?\}|\b(?:or|and)\b", ","),
    (r"(?<![\d.^])(\d+) ?\\frac ?\{(\d+)\} ?\{(\d+)\}", r"(\1+\2/\3)"),  # 1 1/2
    (r"(?<![\d.^])(\d+) (\d+)/(\d+)", r"(\1+\2/\3)"),
    (r"(^|,) ?[A-Za-z](?:\([a-z]\))? ?(?:=|\\in(?![a-z]))", r"\1"),  # x = 1, x = 2
    (r"^ ?\\text ?\{([^{}]*)\}[ .]*$", r"\1"), (r"^ ?\{(.*,.*)\} ?$", r"⟨\1⟩"),
    (r"^([^,]*)\\pm ?([^,]*)$", r"\1+\2,\1-\2"), (r" +", " "))


def tidy(text: str) -> str:
    """The text with one spelling for each sign, and single spaces."""
    for pattern, spelling in SPELLINGS:
        text = re.sub(pattern, spelling, text)
    return text.strip().rstrip(" .")


UNIT = re.compile(
    r" ?(?:\\text ?\{ ?([^{}]{1,40}?) ?\}|(?<= )([A-Za-z]{3,20}(?: [a-z]{1,20}){0,3})"
    r"|(?<=[\d ])([ckm]m|k?g|m[gl]|ft|in|lb|oz|hr|[cm]?L)|(?<=\d )([msh]))"
    r"(?: ?\^ ?\{? ?([23]) ?\}?)?$")


def take_unit(text: str) -> tuple[str, str]:
    """The text without the unit at its end, and that unit in the singular."""
    if text.endswith("%"):
        return text[:-1].strip(), "%"
    found = UNIT.search(text)
    if not found or not re.search(r"\d|\\", rest := text[:found.start()]):
        return text, ""
    name, power = next(filter(None, found.groups()[:4])), found[5] or ""
    return rest.strip(), name.casefold().removesuffix("s") + power


class Unreadable(ValueError):
    """The text is no number, expression, list or interval that the parser knows."""


TOKEN = re.compile(r"\d+(?:\.\d*)?|\.\d+|\\[a-z]+|[-+*/^(){}\[\],⟨⟩A-Za-z|]")


class Parser:
    """Reads an answer's text, a token at a time; `value` is the whole of it."""

    def __init__(self, text: str) -> None:
        self.tokens, self.here, self.depth = TOKEN.findall(text), 0, 0
        other = len("".join(self.tokens)) != len(text.replace(" ", ""))
        if other or re.search(r"(?<![\\a-zA-Z])[A-Za-z]{3}", text):
            raise Unreadable("a word, or an unknown sign")

    @property
    def next(self) -> str:
        """The token to be read; empty at the end."""
        return self.tokens[self.here] if self.here < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        """Reads the next token if it is one of those; empty if it is not."""
        token = self.next
        if token not in wanted:
            return ""
        self.here += 1
        return token

    def need(self, *wanted: str) -> str:
        """Reads a token that must be there."""
        if not (token := self.take(*wanted)):
            raise Unreadable(f"{wanted} is missing")
        return token

    def whole(self) -> Value:
        """The value of all tokens: one, or several that "," or a union joins."""
        parts = self.listed()
        if self.next:
            raise Unreadable(self.next)
        return parts[0] if len(parts) == 1 else ("{", *parts)

    def listed(self) -> list[Value]:
        """Values between commas or unions."""
        parts = [self.item()]
        while self.take(",", r"\cup"):
            parts.append(self.item())
        return parts

    def item(self) -> Value:
        """A set, a tuple, an interval, or a sum."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise Unreadable("too deep")
        start, opening = self.here, self.take("(", "[", "⟨")
        if opening:
            parts = self.listed() if self.next not in ("⟩", ")", "]") else []
            closing = self.need(")", "]", "⟩")
            if opening == "⟨" and closing == "⟩":
                self.depth -= 1
                return ("{", *parts)
            if len(parts) > 1:
                self.depth -= 1
                return (opening + closing, *parts)
            self.here = start  # it was (a + b)
        value = self.sum()
        self.depth -= 1
        return value

    def sum(self) -> Decimal:
        """Terms between + and -."""
        value = self.product()
        while sign := self.take("+", "-"):
            term = self.product()
            value = value + term if sign == "+" else value - term
        return value

    def product(self) -> Decimal:
        """Factors between * and /, or side by side; signs may stand before them."""
        sign = 1
        while found := self.take("+", "-"):
            sign = -sign if found == "-" else sign
        value = self.power()
        while True:
            if mark := self.take("*", "/"):
                factor = self.power()
                value = value * factor if mark == "*" else value / factor
            elif re.match(r"[\dA-Za-z(\\{]", self.next) and self.next != r"\cup":
                value *= self.power()
            else:
                return sign * value

    def power(self) -> Decimal:
        """A factor and its exponent."""
        value = self.factor()
        if self.take("^"):
            negative = self.take("-")
            exponent = self.factor() * (-1 if negative else 1)
            if abs(exponent) > LARGEST_POWER:
                raise Unreadable("an exponent that is too large")
            value = value ** exponent
        return value

    def group(self) -> Decimal:
        """What stands in braces, or one digit or letter: \\frac12."""
        if self.next.isdigit() and len(self.next) > 1:
            token = self.tokens[self.here]
            self.tokens[self.here:self.here + 1] = [token[0], token[1:]]
        return self.factor()

    def factor(self) -> Decimal:
        """A number, a letter, a root, a fraction, or a sum in brackets."""
        self.depth += 1
        token, self.here = self.next, self.here + 1
        if self.depth > DEEPEST or not token:
            raise Unreadable("too deep, or cut off")
        if token in "({|":
            value = self.sum()
            self.need({"(": ")", "{": "}", "|": "|"}[token])
            value = abs(value) if token == "|" else value
        elif token == r"\frac":
            value = self.group() / self.group()
        elif token == r"\sqrt":
            degree = Decimal(2)
            if self.take("["):
                degree = self.sum()
                self.need("]")
            radicand = self.group()
            value = radicand.sqrt() if degree == 2 else radicand ** (1 / degree)
        elif token[0].isdigit() or token[0] == ".":
            value = Decimal(token)
        else:
            value = symbol(token)
        self.depth -= 1
        return value


def symbol(name: str) -> Decimal:
    """The number that a letter or a named constant stands for."""
    if name == r"\infty":
        return Decimal("Infinity")
    if name == r"\pi":
        return PI
    if not re.fullmatch(r"[A-Za-z]|\\(?:alpha|beta|gamma|theta|lambda|mu|phi)", name):
        raise Unreadable(name)
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:12], "big")
    return 1 + Decimal(digest) / Decimal(2**95)


def read(text: str) -> Value:
    """The value of an answer without unit; its text if it cannot be read."""
    if re.fullmatch(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?", text):
        text = text.replace(",", "")
    try:
        if len(text) > LONGEST:
            raise Unreadable("too long")
        return Parser(text).whole()
    except (Unreadable, DecimalException):
        plain = re.sub(r"\\text ?\{([^{}]*)\}", r"\1", text)
        return re.sub(r"[\s{}()]+", " ", plain).strip().casefold()


def alike(a: Value, b: Value) -> bool:
    """Whether two values are equal; the order in a set does not count."""
    if isinstance(a, Decimal) and isinstance(b, Decimal):
        return a == b or (
            a.is_finite() and b.is_finite()
            and abs(a - b) <= NEAR * max(abs(a), abs(b), 1))
    if not (isinstance(a, tuple) and isinstance(b, tuple)):
        return a == b and a != ""
    if a[0] != b[0] or len(a) != len(b):
        return False
    if a[0] != "{":
        return all(map(alike, a[1:], b[1:]))
    left = list(b[1:])
    for part in a[1:]:
        found = next((i for i, other in enumerate(left) if alike(part, other)), None)
        if found is None:
            return False
        del left[found]
    return True


def equivalent(answer: str, reference: str) -> bool:
    """Whether two final answers mean the same.

    A unit may be left out, but not be another one. A percent sign may be left out
    (as in the MATH checker) or worked out: 50%, 50 and 0.5 are each equal to 50%.
    """
    if max(len(answer), len(reference)) > 10 * LONGEST:
        return answer == reference
    with localcontext(EXACT):
        (a, unit), (b, other) = map(take_unit, map(tidy, (answer, reference)))
        if unit and other and unit != other:
            return False
        left, right = read(a), read(b)
        if alike(left, right):
            return True
        for value, mark, bare in ((left, unit, right), (right, other, left)):
            if mark == "%" and unit != other and isinstance(value, Decimal):
                return alike(value / 100, bare)
    return False
