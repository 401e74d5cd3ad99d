"""Seeded choices."""

from collections import Counter

from minicoder.tasks.draw import Draw


def test_a_seed_decides_and_never_changes():
    draw = Draw("test", 7)
    assert [draw.number(1, 100) for _ in range(5)] == [73, 79, 14, 44, 46]
    assert Draw("test", 7).some("abcdef", 6) == list("edacbf")
    assert Draw("test", 8).number(1, 100) != 73


def test_choices_are_fair_and_different():
    draw = Draw(0)
    count = Counter(draw.number(1, 4) for _ in range(4000))
    assert set(count) == {1, 2, 3, 4} and min(count.values()) > 900
    assert set(draw.one("abc") for _ in range(99)) == set("abc")
    assert sorted(draw.some(range(9), 9)) == list(range(9))
