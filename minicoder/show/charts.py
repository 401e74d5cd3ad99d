"""Hand-made SVG for the report: one picture for light and dark.

Colours are CSS variables (`var(--sft)`, see `style.PALETTE`), so the page's mode
colours the picture. Everything is drawn on a field 440 units wide, about a telephone's
width: letters keep a readable size there and grow on a projector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

WIDTH, LEFT, TOP, BOTTOM = 440, 52, 10, 40
Point = tuple[float, float]
Number = int | float


@dataclass(frozen=True)
class Line:
    """One labelled line; `trace` draws its points thin below a running mean."""

    label: str
    points: Sequence[Point]
    colour: str
    trace: bool = False
    dots: bool = False
    dashed: bool = False


def finite(points: Iterable[Sequence]) -> list[Point]:
    """Keep the points whose two numbers are there and finite."""
    return [(float(x), float(y)) for x, y in points
            if isinstance(x, int | float) and isinstance(y, int | float)
            and math.isfinite(x) and math.isfinite(y)]


def running_mean(points: Sequence[Point], window: int) -> list[Point]:
    """Mean of `window` points around each point; fewer at the two ends."""
    means = []
    for i, (x, _) in enumerate(points):
        part = [y for _, y in points[max(0, i - window // 2):i + window // 2 + 1]]
        means.append((x, sum(part) / len(part)))
    return means


def ticks(low: Number, high: Number, count: int = 4) -> list[float]:
    """Round numbers that span [low, high]."""
    if high <= low:
        high = low + (abs(low) or 1)
    found = MaxNLocator(nbins=count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in found]


def short(value: Number) -> str:
    """A tick's text: 1500 → 1.5k, 0.250 → 0.25."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:.4g}M"
    return f"{value / 1e3:.4g}k" if abs(value) >= 1e4 else f"{value:.4g}"


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _spread(heights: list[float], gap: Number, bottom: Number) -> list[float]:
    """Push labels apart so that neighbours are `gap` units from each other."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed, last = list(heights), -math.inf
    for i in order:
        last = placed[i] = max(heights[i], last + gap)
    over = max(0.0, last - bottom)
    return [height - over for height in placed]


def svg(body: Iterable[str], height: Number, alt: str) -> Markup:
    """Wrap drawn parts into a labelled picture; `alt` is its description."""
    return Markup('<svg class="chart" role="img" aria-label="{}" '
                  'viewBox="0 0 {} {:.0f}">{}</svg>').format(
                      alt, WIDTH, height, Markup("".join(body)))


def line_chart(
    lines: Sequence[Line], alt: str, x_label: str, y_label: str,
    y_range: tuple[float, float] | None = None, height: int = 260,
    x_range: tuple[float, float] | None = None,
) -> Markup:
    """Lines over a common axis, each labelled at its end; axes carry their names."""
    lines = [line for line in lines if line.points]
    if not lines:
        return Markup("")
    right = WIDTH - 8 - 8.4 * max(len(line.label) for line in lines)
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    x_ticks = ticks(*(x_range or (min(xs), max(xs))))
    y_ticks = ticks(*(y_range or (min(ys), max(ys))))
    x0, x1 = x_range or (min(xs), max(max(xs), min(xs) + 1e-9))
    y0, y1, floor = y_ticks[0], y_ticks[-1], height - BOTTOM

    def at(point: Point) -> Point:
        return (LEFT + (point[0] - x0) / (x1 - x0) * (right - LEFT),
                floor - (point[1] - y0) / (y1 - y0) * (floor - TOP))

    body = []
    for tick in y_ticks:
        y = at((x0, tick))[1]
        body.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right:.1f}"/><text class='
                    f'"tick" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">'
                    f"{short(tick)}</text>")
    for tick in x_ticks:
        if x0 <= tick <= x1:
            body.append(f'<text class="tick" x="{at((tick, y0))[0]:.1f}" '
                        f'y="{floor + 17}" text-anchor="middle">{short(tick)}</text>')
    body.append(f'<text class="name" x="{(LEFT + right) / 2:.0f}" y="{height - 5}" '
                f'text-anchor="middle">{escape(x_label)}</text>'
                f'<text class="name" transform="translate(10 {(TOP + floor) / 2:.0f}) '
                f'rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    body += _draw_lines(lines, at, floor, right)
    return svg(body, height, alt)


def _draw_lines(
    lines: Sequence[Line], at: Callable[[Point], Point], floor: Number, right: float
) -> list[str]:
    body, ends = [], []
    for line in lines:
        points = list(line.points)[::max(1, len(line.points) // 300)]
        if line.trace:
            body.append(f'<path class="trace" d="{_path([at(p) for p in points])}" '
                        f'stroke="var(--{line.colour})"/>')
            points = running_mean(points, max(2, len(points) // 15))
        drawn = [at(p) for p in points]
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        body.append(f'<path class="line" d="{_path(drawn)}"{dash} '
                    f'stroke="var(--{line.colour})"/>')
        if line.dots:
            body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill='
                     f'"var(--{line.colour})"/>' for x, y in drawn]
        ends.append(drawn[-1][1])
    for line, y in zip(lines, _spread(ends, 15, floor), strict=True):
        body.append(f'<text class="label" x="{right + 7:.1f}" y="{y + 4.5:.1f}" '
                    f'fill="var(--{line.colour})">{escape(line.label)}</text>')
    return body


def heat_map(
    loads: Sequence[Sequence[Sequence[Number]]], steps: Sequence[Number], alt: str,
    columns: int = 36,
) -> Markup:
    """Share of tokens by expert (rows), layer (blocks) and time (left to right).

    `loads[step][layer][expert]` are shares that add up to 1 in each layer. A cell of
    half tint is a fair share; full tint is twice that or more.
    """
    at = sorted({round(i * (len(loads) - 1) / max(1, columns - 1))
                 for i in range(columns)})
    wide = (WIDTH - LEFT - 4) / len(at)
    tall = max(2.5, min(11.0, 260 / sum(map(len, loads[0]))))
    body, y = [], TOP
    for layer, experts in enumerate(loads[0]):
        block = y
        for expert in range(len(experts)):
            for column, step in enumerate(at):
                tint = min(1.0, loads[step][layer][expert] * len(experts) / 2)
                body.append(f'<rect x="{LEFT + column * wide:.1f}" y="{y:.1f}" '
                            f'width="{wide + .2:.1f}" height="{tall + .2:.1f}" '
                            f'opacity="{tint:.2f}"/>')
            y += tall
        middle = f"translate(30 {(block + y) / 2:.0f}) rotate(-90)"
        body.append(f'<text class="name" transform="{middle}" text-anchor="middle">MoE '
                    f"{layer + 1}</text>")
        y += 8
    for x, step, anchor in ((LEFT, steps[0], "start"), (WIDTH - 4, steps[-1], "end")):
        body.append(f'<text class="tick" x="{x}" y="{y + 10:.0f}" '
                    f'text-anchor="{anchor}">step {short(step)}</text>')
    return svg(['<g class="heat">', *body, "</g>"], y + 16, alt)
