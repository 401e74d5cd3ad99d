"""The report's SVG: well-formed, labelled, honest about gaps."""

import math
import xml.etree.ElementTree as ET

import pytest

from minicoder.show.charts import (
    WIDTH,
    Line,
    finite,
    heat_map,
    line_chart,
    running_mean,
    short,
    ticks,
)

RISING = [(float(i), i / 10) for i in range(11)]


def chart(*lines: Line, **more) -> ET.Element:
    return ET.fromstring(line_chart(list(lines), "a <chart>", "step", "loss", **more))


def texts(root: ET.Element) -> list[str]:
    return [node.text for node in root.iter("text")]


def test_gaps_and_infinities_are_left_out():
    assert finite([(1, 2), (2, None), (3, math.nan), (None, 1), (4, math.inf)]) == [
        (1.0, 2.0)]


def test_a_running_mean_of_three():
    assert running_mean([(0.0, 0.0), (1.0, 3.0), (2.0, 6.0)], 3) == [
        (0.0, 1.5), (1.0, 3.0), (2.0, 4.5)]


@pytest.mark.parametrize(("low", "high"), ((0.0, 1.0), (2.31, 8.4), (5.0, 5.0), (0, 0)))
def test_ticks_span_the_values(low, high):
    found = ticks(low, high)
    assert found[0] <= low and found[-1] >= high and 2 <= len(found) <= 7


def test_ticks_are_written_short():
    assert [short(x) for x in (0.25, 1500, 15_000, 2_500_000)] == [
        "0.25", "1500", "15k", "2.5M"]


def test_a_chart_says_its_alt_text_axes_and_labels():
    root = chart(Line("SFT", RISING, "sft"), Line("<GRPO>", RISING, "grpo"))
    assert root.get("aria-label") == "a <chart>" and root.get("role") == "img"
    assert {"step", "loss", "SFT", "<GRPO>"} <= set(texts(root))


def test_labels_of_lines_that_end_together_do_not_cover_each_other():
    root = chart(Line("a", RISING, "sft"), Line("b", RISING, "grpo"))
    ends = [float(n.get("y")) for n in root.iter("text") if n.text in ("a", "b")]
    assert abs(ends[0] - ends[1]) >= 14


def test_colours_are_variables_so_that_one_picture_serves_both_modes():
    drawn = line_chart([Line("a", RISING, "sft", trace=True, dots=True)], "x", "y", "z")
    assert "var(--sft)" in drawn and "#" not in drawn


def test_a_higher_value_is_drawn_higher_and_inside():
    root = chart(Line("a", RISING, "sft", dots=True))
    dots = [(float(n.get("cx")), float(n.get("cy"))) for n in root.iter("circle")]
    assert dots == sorted(dots, key=lambda dot: (dot[0], -dot[1]))
    assert dots[0][1] > dots[-1][1]
    assert all(0 <= x <= WIDTH and 0 <= y <= 260 for x, y in dots)


def test_no_points_no_chart():
    assert line_chart([Line("a", [], "sft")], "x", "y", "z") == ""


def test_one_point_is_enough():
    assert "a" in texts(chart(Line("a", [(3.0, 2.0)], "sft", dots=True)))


def test_a_fair_share_is_half_tinted():
    root = ET.fromstring(heat_map(
        [[[0.25] * 4], [[1.0, 0.0, 0.0, 0.0]]], [1, 2], "load"))
    tints = [float(rect.get("opacity")) for rect in root.iter("rect")]
    assert tints == [0.5, 1.0, 0.5, 0.0, 0.5, 0.0, 0.5, 0.0]


def test_a_long_run_is_thinned_to_the_columns():
    loads = [[[0.5, 0.5]] for _ in range(500)]
    root = ET.fromstring(heat_map(loads, list(range(500)), "load", columns=20))
    assert len(list(root.iter("rect"))) == 40
    assert {"step 0", "step 499", "MoE 1"} <= set(texts(root))
