"""Small charts as inline SVG: learning curves, and an estimate with its interval. Colours follow the page's theme."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.components.html import escape

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 40, 78, 12, 40


@dataclass(frozen=True)
class Line:
    """One curve: its name, its points (x, y) in order, and its look (``a`` solid, ``b`` dashed)."""

    name: str
    points: Sequence[tuple[float, float]]
    look: str = "a"


def nice_ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Return about ``wanted`` round numbers that enclose ``low`` to ``high``."""
    if high <= low:
        high = low + (abs(low) or 1.0) * 0.1
    raw = (high - low) / wanted
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def whole_ticks(last: int, at_most: int = 6) -> list[int]:
    """Return round whole numbers from 1 to ``last``, at most ``at_most`` of them."""
    steps = (mantissa * 10**power for power in range(9) for mantissa in (1, 2, 5))
    step = next(step for step in steps if last // step <= at_most)
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
        lines: the curves; empty ones are left out.
        x_label: name of the horizontal axis.
        x_max: last x, so that the axis does not move while points arrive.
        y_range: fixed ends of the vertical axis; by default those of the points.
        ceiling: highest value that the axis may show, e.g. 1 for a share.

    Returns:
        A ``figure`` element; the title and the last values are its text for screen readers.
    """
    shown = [line for line in lines if line.points]
    values = [y for line in shown for _, y in line.points if math.isfinite(y)]
    low, high = y_range or ((min(values), max(values)) if values else (0.0, 1.0))
    ticks = nice_ticks(low, high)
    if ceiling is not None:
        ticks = [tick for tick in ticks if tick <= ceiling + 1e-9] or [ceiling]
    bottom, top = ticks[0], max(ticks[-1], ticks[0] + 1e-9)
    x_last = max(x_max, 2)

    def place_x(x: float) -> float:
        return LEFT + (x - 1) / (x_last - 1) * (WIDTH - LEFT - RIGHT)

    def place_y(y: float) -> float:
        return HEIGHT - BOTTOM - (min(max(y, bottom), top) - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    parts: list[str] = []
    for tick in ticks:
        y = place_y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for x in whole_ticks(x_last):
        parts.append(
            f'<text class="tick" x="{place_x(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>')
    parts.extend(_draw(shown, place_x, place_y))
    latest = "; ".join(f"{line.name} {line.points[-1][1]:.3f}" for line in shown) or "no values yet"
    return (
        f'<figure class="chart"><figcaption>{escape(title)} <small>{escape(note)}</small></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}: {escape(latest)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _draw(lines: Sequence[Line], place_x: Callable[[float], float], place_y: Callable[[float], float]) -> list[str]:
    """Curves with their last point and its name; names that would collide are moved apart."""
    parts: list[str] = []
    ends: list[tuple[float, Line]] = []
    for line in lines:
        points = [(x, y) for x, y in line.points if math.isfinite(y)]
        if not points:
            continue
        path = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in points)
        parts.append(f'<polyline class="line line-{line.look}" points="{path}"/>')
        x, y = points[-1]
        parts.append(f'<circle class="dot dot-{line.look}" cx="{place_x(x):.1f}" cy="{place_y(y):.1f}" r="3.5"/>')
        ends.append((place_y(y), line))
    ends.sort(key=lambda end: end[0])
    heights = spread([y for y, _ in ends], gap=28, lowest=HEIGHT - BOTTOM - 14)
    for y, (_, line) in zip(heights, ends, strict=True):
        x = place_x(line.points[-1][0]) + 10
        parts.append(
            f'<text class="name name-{line.look}" x="{x:.1f}" y="{y:.1f}">{escape(line.name)}'
            f'<tspan class="value" x="{x:.1f}" dy="13">{line.points[-1][1]:.3f}</tspan></text>'
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
        return 4 + 112 * min(max((x - start) / (1 - start), 0.0), 1.0)

    return (
        f'<svg class="whisker" viewBox="0 0 120 16" role="img" aria-label="{escape(label)}">'
        '<line class="rail" x1="4" x2="116" y1="8" y2="8"/>'
        f'<line class="range" x1="{place(low):.1f}" x2="{place(high):.1f}" y1="8" y2="8"/>'
        f'<circle cx="{place(value):.1f}" cy="8" r="4"/></svg>'
    )
