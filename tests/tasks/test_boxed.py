r"""Final answers: \boxed{} is cut out, and equal values are equal in any spelling."""

import random
from fractions import Fraction

import pytest

from minicoder.tasks.boxed import boxed, equivalent, final_answer, last_number

EQUAL = r"""
5 | 5.0
5 | +5
-5 | −5
007 | 7
042 | 42
0.5 | \frac{1}{2}
.5 | 1/2
\frac12 | \dfrac{1}{2}
\frac{1}{2} | \tfrac{2}{4}
-\frac{1}{2} | \frac{-1}{2}
-\frac{1}{2} | \frac{1}{-2}
-0.5 | -1/2
1,234 | 1234
1{,}234 | 1234
12,345,678.50 | 12345678.5
50\% | 50
50\% | 0.5
50% | 50\%
12.5\% | \frac{1}{8}
12 cm | 12
12\text{ cm} | 12
12\,\mathrm{cm} | 12 cm
3 \text{ m}^2 | 3\ \text{m}^{2}
5 miles per hour | 5\text{ miles per hour}
5 apples | 5 apple
\$12 | 12
\$1,200.00 | 1200
12 dollars | 12
90^\circ | 90
90^{\circ} | 90°
\sqrt{8} | 2\sqrt{2}
\sqrt{12} | \sqrt{3} \cdot 2
\frac{1}{\sqrt{2}} | \frac{\sqrt{2}}{2}
\frac{\sqrt3}{3} | \frac{1}{\sqrt{3}}
\sqrt[3]{27} | 3
2^{10} | 1024
2^{-1} | 0.5
2\pi | π \times 2
\frac{\pi}{2} | 0.5\pi
1\frac{1}{2} | 1.5
-2\frac{3}{4} | -2.75
1 1/2 | \frac{3}{2}
x = 5 | 5
y=-3 | -3
x+1 | 1 + x
(x+1)^2 | x^2 + 2x + 1
2(x-3) | 2x - 6
\frac{x}{2} | 0.5x
ab | b \cdot a
|{-3}| | 3
(1, 2) | (1,2)
\left(\frac{1}{2}, 3\right) | (0.5, 3)
[0, 1) | \left[0,1\right)
(-\infty, 3] | (-∞,3.0]
(-\infty,0)\cup(1,\infty) | (1,\infty) \cup (-\infty,0)
\{1, 2, 3\} | {3, 2, 1}
1, 2 | 2,1
1, 2 | \{2, 1\}
x = 1, x = 2 | 1,2
x=1 \text{ or } x=2 | 2, 1
1 \pm \sqrt{2} | 1-\sqrt{2}, 1+\sqrt{2}
x \in [0,1] | [0, 1]
\text{Monday} | monday
\text{(C)} | C
\textbf{yes} | Yes
"""
DIFFERENT = r"""
5 | 6
5 | -5
0.33 | \frac{1}{3}
3.14 | \pi
1.41421356 | \sqrt{2}
1,234 | 1.234
12 cm | 12 m
3 m^2 | 3 m^3
50\% | 5
0.5\% | 5
50\% | 0.5\%
0.05 | 50\%
(1,2) | (2,1)
(0,1) | [0,1]
(0,1] | [0,1)
(1,234) | 1234
\{1,2\} | \{1,2,3\}
\{1,1\} | \{1\}
1, 2, 3, 4 | 3
x+1 | x+2
x^2 | 2x
xy | x
2xy | 2
5x | 5
x | y
\text{Monday} | \text{Sunday}
\text{listen} | \text{silent}
New York | New Jersey
1000000000000000000000000000000000001 | 1000000000000000000000000000000000000
\infty | 3
\infty | -\infty
(-\infty, 3) | (-3, 3)
\frac{1}{0} | 1
 | 0
 | \text{}
2^{99999} | 2^{99998}
\sqrt{2} | \sqrt{3}
1\frac{1}{2} | \frac{1}{2}
"""


def pairs(table):
    return [tuple(line.split(" | ")) for line in table.strip("\n").splitlines()]


@pytest.mark.parametrize(("a", "b"), pairs(EQUAL))
def test_equal_answers(a, b):
    assert equivalent(a, b) and equivalent(b, a)


@pytest.mark.parametrize(("a", "b"), pairs(DIFFERENT))
def test_different_answers(a, b):
    assert not equivalent(a, b) and not equivalent(b, a)


@pytest.mark.parametrize("answer", [a for pair in pairs(EQUAL) for a in pair])
def test_a_box_gives_back_what_was_put_in(answer):
    assert boxed(rf"So \boxed{{1}}, no: $\boxed{{{answer}}}$.") == answer
    assert equivalent(answer, answer)


@pytest.mark.parametrize(("answer", "found"), [
    (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"), (r"$\boxed{\{1,2\}}$", r"\{1,2\}"),
    (r"\boxed 5 is it", "5"), (r"\boxed{3} and \boxed{4}", "4"), (r"\fbox{3}", None),
    ("it is 5", None), (r"\boxed", None), (r"\boxed{1", None), ("", None),
    (r"\boxed{2} \boxed{3", None), (r"\boxed{\left\{1\right\}}", r"\left\{1\right\}")])
def test_the_last_box_counts(answer, found):
    assert boxed(answer) == found


@pytest.mark.parametrize(("answer", "number"), [
    ("so 3 and then 1,234.50.", "1,234.50"), ("it is -7", "-7"), ("none", None),
    ("1, 2, 3", "3"), ("(4)", "4")])
def test_the_last_number_is_a_way_out_that_one_must_ask_for(answer, number):
    assert last_number(answer) == number
    assert final_answer(answer) is None
    assert final_answer(answer, any_number=True) == number


def latex(draw, depth):
    """A random expression as LaTeX, and the same for sympy."""
    if depth == 0 or draw.random() < 0.2:
        n = draw.randint(1, 30)
        return draw.choice([(str(n), str(n)), ("x", "x"), (rf"\sqrt{{{n}}}",
                                                           f"sqrt({n})")])
    (a, p), (b, q) = latex(draw, depth - 1), latex(draw, depth - 1)
    return draw.choice([
        (rf"\left({a} + {b}\right)", f"({p}+{q})"), (f"({a}-{b})", f"({p}-({q}))"),
        (rf"{a} \cdot {b}", f"({p})*({q})"), (f"({a})({b})", f"(({p})*({q}))"),
        (rf"\frac{{{a}}}{{{b}}}", f"(({p})/({q}))"),
        (rf"\left({a}\right)^2", f"(({p})**2)")])


def test_it_agrees_with_sympy_on_random_expressions():
    sympy = pytest.importorskip("sympy")
    draw, verdicts = random.Random(0), []
    for _ in range(120):
        (a, p) = latex(draw, 2)
        other = sympy.expand(sympy.sympify(p))
        change = draw.choice([0, 0, 1, sympy.Rational(1, 10**6)])
        b = sympy.latex(other + change)
        same = sympy.simplify(sympy.sympify(p) - other - change) == 0
        if other.has(sympy.zoo, sympy.nan) or len(b) > 200:
            continue
        assert equivalent(a, b) == same, (a, b)
        verdicts.append(same)
    assert verdicts.count(True) > 30 and verdicts.count(False) > 30


def test_it_agrees_with_fractions_on_random_numbers():
    draw = random.Random(0)
    for _ in range(300):
        a, b = (Fraction(draw.randint(-9, 9), draw.randint(1, 6)) for _ in range(2))
        text = rf"\frac{{{a.numerator}}}{{{a.denominator}}}"
        assert equivalent(text, str(b)) == (a == b), (a, b)


@pytest.mark.parametrize("answer", [
    r"\boxed{" * 200_000, "{" * 10**6, r"\boxed{" + "(" * 10**6 + "}", "1," * 10**6,
    r"\boxed{" + r"\frac" * 10**5 + "}", "9" * 10**6, " " * 10**6, "^" * 290,
    "(" * 140 + "1" + ")" * 140, "-" * 290 + "1", "2^" * 140 + "2", r"\sqrt" * 50 + "2",
    r"\text{" * 60, "1/0", "0^0", "(-1)^{0.5}", "((1,2),(" * 30, "x" * 2, r"\boxed{}"])
def test_no_answer_breaks_it(answer):
    found = final_answer(answer, any_number=True)
    for text in (answer, found or ""):
        assert not equivalent(text, "the reference")


def test_a_box_with_all_answers_is_not_the_answer():
    assert not equivalent(", ".join(map(str, range(100))), "42")
    assert not equivalent("41 or 42", "42")
