"""Curves over shares as inline SVG: ROC, precision-recall, reliability. Colours follow the page's theme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.components.charts import is_number
from app.components.html import escape

SIZE, LEFT, RIGHT, TOP, BOTTOM = 360, 50, 12, 10, 44
SIDE = SIZE - LEFT - RIGHT
HEIGHT = TOP + SIDE + BOTTOM
DASHES = 6  # ways to draw a line; the colour never stands alone
MOST_BANDS = 3  # of more, bands only hide each other
MOST_NAMED = 8  # classes with a colour of their own
_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)


@dataclass(frozen=True)
class Curve:
    """One curve of shares.

    Attributes:
        name: for the legend and for screen readers.
        x, y: its points, in order; one that is no number is left out.
        colour: ``"accent"``, ``"muted"``, a method's name or ``"class-N"``.
        dash: how the line is drawn, 0 for a solid one.
        band: (x, low, high) of its 95 % band, or None.
        spans: (x, low, high) of single points with an interval each.
        note: what stands beside the name, such as the area.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = "accent"
    dash: int = 0
    band: tuple[Sequence[float], Sequence[float], Sequence[float]] | None = None
    spans: Sequence[tuple[float, float | None, float | None]] = ()
    note: str = ""


@dataclass(frozen=True)
class Mark:
    """A single point with its name, such as the operating point."""

    name: str
    x: float
    y: float


def unit_chart(
    title: str,
    note: str,
    curves: Sequence[Curve],
    *,
    x_label: str,
    y_label: str,
    diagonal: bool = False,
    level: float | None = None,
    marks: Sequence[Mark] = (),
    legend: bool = True,
) -> str:
    """Draw curves whose both axes run from 0 to 1.

    Args:
        title: what is drawn.
        note: how to read it, in a few words.
        curves: the curves.
        x_label: name of the horizontal axis.
        y_label: name of the vertical axis.
        diagonal: whether to draw the line from (0, 0) to (1, 1).
        level: height of a horizontal line, or None.
        marks: points that are named.
        legend: whether the curves are named below; a single one need not be.

    Returns:
        A ``figure`` element; title, names and notes are its text for screen readers.
    """
    parts = [_axes(x_label, y_label)]
    if diagonal:
        parts.append(_line([(0.0, 0.0), (1.0, 1.0)], "reference"))
    if level is not None:
        parts.append(_line([(0.0, level), (1.0, level)], "reference"))
    banded = len(curves) <= MOST_BANDS
    parts += [_band(curve) for curve in curves if curve.band is not None and banded]
    for curve in curves:
        look = f"stroke-{escape(curve.colour)}"
        points = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if is_number(x) and is_number(y)]
        parts += [
            _line([(x, low), (x, high)], f"span {look}")
            for x, low, high in curve.spans
            if is_number(low) and is_number(high)
        ]
        parts.append(_line(points, f"curve {look} dash-{curve.dash % DASHES}"))
        if curve.spans:
            parts += [
                f'<circle class="fill-{escape(curve.colour)}" cx="{_x(x):.1f}" cy="{_y(y):.1f}" r="4"/>'
                for x, y in points
            ]
    parts += [_mark(mark) for mark in marks if is_number(mark.x) and is_number(mark.y)]
    said = "; ".join(f"{curve.name} {curve.note}".strip() for curve in curves) or "nothing to draw"
    said += "".join(f"; {mark.name} at {mark.x:.2f}, {mark.y:.2f}" for mark in marks)
    key = _legend(curves) if legend else ""
    return (
        f'<figure class="unit-chart"><figcaption>{escape(title)} <small>{escape(note)}</small></figcaption>'
        f'<svg viewBox="0 0 {SIZE} {HEIGHT}" role="img" aria-label="{escape(title)}: {escape(said)}">'
        f"{''.join(parts)}</svg>{key}</figure>"
    )


def roc_curve(entry: dict[str, Any], name: str, *, colour: str = "accent", dash: int = 0, note: str = "") -> Curve:
    """The ROC curve of one class against the rest, from an evaluation's ``curves``."""
    roc = entry["roc"]
    return Curve(
        name,
        roc["false_alarms"],
        roc["sensitivity"],
        colour,
        dash,
        _banded(roc["band"], "false_alarms"),
        note=note or f"{roc['auroc']:.3f}",
    )


def recall_curve(entry: dict[str, Any], name: str, *, colour: str = "accent", dash: int = 0) -> Curve:
    """The precision-recall curve of one class against the rest, from an evaluation's ``curves``."""
    recall = entry["precision_recall"]
    return Curve(
        name,
        recall["sensitivity"],
        recall["precision"],
        colour,
        dash,
        _banded(recall["band"], "sensitivity"),
        note=f"{recall['average_precision']:.3f}",
    )


def class_colour(place: int) -> str:
    """The colour of the class at a place of the list, the same as in the figures of the library."""
    return f"class-{place}" if place < MOST_NAMED else "muted"


def _banded(band: dict[str, Any], places: str) -> tuple[list[float], list[float], list[float]] | None:
    return None if band["low"] is None else (band[places], band["low"], band["high"])


def _x(share: float) -> float:
    return LEFT + min(max(share, 0.0), 1.0) * SIDE


def _y(share: float) -> float:
    return TOP + (1 - min(max(share, 0.0), 1.0)) * SIDE


def _axes(x_label: str, y_label: str) -> str:
    parts = []
    for tick in _TICKS:
        x, y = _x(tick), _y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{LEFT + SIDE}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{TOP + SIDE}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        parts.append(f'<text x="{x:.1f}" y="{TOP + SIDE + 16}" text-anchor="middle">{tick:g}</text>')
    middle = LEFT + SIDE / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    height = TOP + SIDE / 2
    parts.append(
        f'<text x="12" y="{height}" text-anchor="middle" transform="rotate(-90 12 {height})">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _line(points: Sequence[tuple[float, float]], look: str) -> str:
    path = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    return f'<polyline class="{look}" points="{path}"/>' if points else ""


def _band(curve: Curve) -> str:
    if curve.band is None:
        return ""
    x, low, high = curve.band
    outline = [*zip(x, high, strict=True), *reversed(list(zip(x, low, strict=True)))]
    path = " ".join(f"{_x(a):.1f},{_y(b):.1f}" for a, b in outline)
    return f'<polygon class="band fill-{escape(curve.colour)}" points="{path}"/>'


def _mark(mark: Mark) -> str:
    x, y = _x(mark.x), _y(mark.y)
    # The name stands where there is room: below the point, on the side that is not the edge.
    left = mark.x > 0.5
    anchor, shift = ("end", -8) if left else ("start", 8)
    return (
        f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>'
        f'<text class="mark-name" x="{x + shift:.1f}" y="{min(y + 18, TOP + SIDE - 6):.1f}" text-anchor="{anchor}">'
        f"{escape(mark.name)}</text>"
    )


def _legend(curves: Sequence[Curve]) -> str:
    items = "".join(
        '<li><svg viewBox="0 0 28 8" aria-hidden="true"><line class="curve '
        f'stroke-{escape(curve.colour)} dash-{curve.dash % DASHES}" x1="1" x2="27" y1="4" y2="4"/></svg>'
        f"<span>{escape(curve.name)}</span><b>{escape(curve.note)}</b></li>"
        for curve in curves
    )
    return f'<ul class="legend">{items}</ul>'
