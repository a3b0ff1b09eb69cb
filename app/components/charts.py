"""Small charts as inline SVG: learning curves, and an estimate with its interval. Colours follow the page's theme."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from app.components.html import escape

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 40, 78, 12, 40
LARGEST = 1e300  # ends of an axis stay below it, so that no difference of two overflows
NARROWEST = 1e-8  # a narrower axis, in parts of its values, would be one of rounding errors


@dataclass(frozen=True)
class Line:
    """One curve: its name, its points (x, y) in order, and its look (``a`` solid, ``b`` dashed).

    A point whose value is not a finite number (None included, as JSON has no other word for it) is not drawn.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    look: str = "a"

    def drawn(self) -> list[tuple[float, float]]:
        """Return the points that can be drawn, within what an axis can hold."""
        return [(_within(x), _within(y)) for x, y in self.points if is_number(x) and is_number(y)]


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a finite number."""
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _within(value: float) -> float:
    """A number as a float that an axis can hold; infinities become its ends, what is no number becomes 0."""
    held = float(min(max(value, -LARGEST), LARGEST))
    return 0.0 if math.isnan(held) else held


def nice_ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Return about ``wanted`` round numbers that enclose ``low`` to ``high``, for any two numbers at all."""
    low, high = sorted((_within(low), _within(high)))
    if high - low < NARROWEST * max(abs(low), abs(high), 1.0):
        high = low + (abs(low) if abs(low) > NARROWEST * 100 else 1.0) * 0.1
    raw = (high - low) / max(wanted, 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next((m * magnitude for m in (1, 2, 2.5, 5) if m * magnitude >= raw * 0.999), 10 * magnitude)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def whole_ticks(last: int, at_most: int = 6) -> list[int]:
    """Return round whole numbers from 1 to ``last``, at most ``at_most`` of them; none when ``last`` is below 1."""
    steps = (mantissa * 10**power for power in itertools.count() for mantissa in (1, 2, 5))
    step = next(step for step in steps if last // step <= max(at_most, 1))
    return list(range(step, last + 1, step))


def line_chart(
    title: str,
    note: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    x_max: int,
    y_range: tuple[float, float] | None = None,
    ceiling: float | None = None,
) -> str:
    """Draw curves over whole-numbered x from 1 to ``x_max``, each named at its end.

    Args:
        title: what is drawn.
        note: how to read it, in a few words.
        lines: the curves; those without a point to draw are left out.
        x_label: name of the horizontal axis.
        x_max: last x, so that the axis does not move while points arrive.
        y_range: fixed ends of the vertical axis; by default those of the points.
        ceiling: highest value that the axis may show, e.g. 1 for a share.

    Returns:
        A ``figure`` element; the title and the last values are its text for screen readers.
    """
    shown = [(line, points) for line in lines if (points := line.drawn())]
    values = [y for _, points in shown for _, y in points]
    low, high = y_range or ((min(values), max(values)) if values else (0.0, 1.0))
    ticks = nice_ticks(low, high)
    if ceiling is not None:
        ticks = [tick for tick in ticks if tick <= ceiling + 1e-9] or [ceiling]
    bottom, top = ticks[0], ticks[-1]
    if top <= bottom:
        top = bottom + max(abs(bottom), 1.0) * 0.1
    x_last = max(_within(x_max), 2.0)

    def place_x(x: float) -> float:
        return LEFT + (x - 1) / (x_last - 1) * (WIDTH - LEFT - RIGHT)

    def place_y(y: float) -> float:
        return HEIGHT - BOTTOM - (min(max(y, bottom), top) - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    parts: list[str] = []
    for tick in ticks:
        y = place_y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for x in whole_ticks(int(x_last)):
        parts.append(
            f'<text class="tick" x="{place_x(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:g}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>')
    parts.extend(_draw(shown, place_x, place_y))
    latest = "; ".join(f"{line.name} {_value(points[-1][1])}" for line, points in shown) or "no values yet"
    return (
        f'<figure class="chart"><figcaption>{escape(title)} <small>{escape(note)}</small></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}: {escape(latest)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _value(value: float) -> str:
    """A value at the end of a curve: three decimals, or powers of ten where these would fill the page."""
    return f"{value:.3f}" if abs(value) < 1e4 else f"{value:.2e}"


def _draw(
    lines: Sequence[tuple[Line, list[tuple[float, float]]]],
    place_x: Callable[[float], float],
    place_y: Callable[[float], float],
) -> list[str]:
    """Curves with their last point and its name; names that would collide are moved apart."""
    parts: list[str] = []
    ends: list[tuple[float, Line, tuple[float, float]]] = []
    for line, points in lines:
        path = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in points)
        parts.append(f'<polyline class="line line-{line.look}" points="{path}"/>')
        x, y = points[-1]
        parts.append(f'<circle class="dot dot-{line.look}" cx="{place_x(x):.1f}" cy="{place_y(y):.1f}" r="3.5"/>')
        ends.append((place_y(y), line, points[-1]))
    ends.sort(key=lambda end: end[0])
    heights = spread([end[0] for end in ends], gap=28, lowest=HEIGHT - BOTTOM - 14)
    for y, (_, line, last) in zip(heights, ends, strict=True):
        x = place_x(last[0]) + 10
        parts.append(
            f'<text class="name name-{line.look}" x="{x:.1f}" y="{y:.1f}">{escape(line.name)}'
            f'<tspan class="value" x="{x:.1f}" dy="13">{_value(last[1])}</tspan></text>'
        )
    return parts


def spread(heights: Sequence[float], *, gap: float, lowest: float) -> list[float]:
    """Move sorted heights apart so that ``gap`` lies between them and none is below ``lowest`` (y grows downwards)."""
    moved: list[float] = []
    for y in heights:
        moved.append(max(y, moved[-1] + gap) if moved else y)
    limit = lowest
    for place in range(len(moved) - 1, -1, -1):
        moved[place] = min(moved[place], limit)
        limit = moved[place] - gap
    return moved


def whisker(value: float, low: float, high: float, *, start: float, label: str) -> str:
    """Draw an estimate between 0 and 1 as a dot with its interval, on an axis from ``start`` to 1."""

    def place(x: float) -> float:
        return 4 + 112 * min(max((x - start) / max(1 - start, 1e-9), 0.0), 1.0)

    return (
        f'<svg class="whisker" viewBox="0 0 120 16" role="img" aria-label="{escape(label)}">'
        '<line class="rail" x1="4" x2="116" y1="8" y2="8"/>'
        f'<line class="range" x1="{place(low):.1f}" x2="{place(high):.1f}" y1="8" y2="8"/>'
        f'<circle cx="{place(value):.1f}" cy="8" r="4"/></svg>'
    )
