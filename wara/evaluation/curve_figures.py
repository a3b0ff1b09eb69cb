"""The figures of the curves: ROC and precision-recall with bands, and the reliability curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wara.analysis.style import (
    SMALL,
    TEXT,
    WIDTH,
    Theme,
    ThemeName,
    class_colour,
    font_family,
    heading,
    new_figure,
    plain,
    style_axes,
    theme_of,
)

Curves = Mapping[str, Mapping[str, Any]]
_MOST_NAMED = 8  # classes with a colour and a name of their own
_MOST_BANDS = 3  # of more, bands only hide each other
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)))  # colour never stands alone


def draw_curves(curves: Curves, theme: ThemeName = "light") -> Figure:
    """Draw ROC and precision-recall curves with their 95 % bands.

    Args:
        curves: result of :func:`wara.evaluation.curves.all_curves`.
        theme: ``"light"`` or ``"dark"``.
    """
    look = theme_of(theme)
    figure = new_figure(WIDTH, 4.6, look)
    one = len(curves) == 1
    subtitle = "each point is one threshold"
    if one:
        name, entry = next(iter(curves.items()))
        prevalence = entry["precision_recall"]["prevalence"]
        subtitle = f"called {plain(name, 30)} or not; {100 * prevalence:.0f} % of the images are; {subtitle}"
    elif curves:
        subtitle = f"each class against the rest; {subtitle}"
    heading(
        figure,
        "What each threshold would find, and at what price",
        subtitle + ("; bands: 95 %" if len(curves) <= _MOST_BANDS else ""),
        look,
        left=0.2,
    )
    left = figure.add_axes((0.075, 0.14, 0.385, 0.63))
    right = figure.add_axes((0.575, 0.14, 0.385, 0.63))
    left.plot([0, 1], [0, 1], color=look.muted, linewidth=0.9, linestyle=(0, (2, 3)))
    for place, (name, entry) in enumerate(curves.items()):
        colour = look.accent if one else class_colour(place) if place < _MOST_NAMED else look.muted
        label = plain(name, 22) if not one and place < _MOST_NAMED else None
        dash = _DASHES[place % len(_DASHES)] if not one else "-"
        roc, recall = entry["roc"], entry["precision_recall"]
        banded = len(curves) <= _MOST_BANDS
        _curve(left, roc["false_alarms"], roc["sensitivity"], roc["band"] if banded else None, "false_alarms",
               colour, dash, label, look)  # fmt: skip
        _curve(
            right, recall["sensitivity"], recall["precision"], recall["band"], "sensitivity", colour, dash, None, look
        )
    if one:
        right.axhline(prevalence, color=look.muted, linewidth=0.9, linestyle=(0, (2, 3)))
    titles = ("ROC curve", "Precision-recall curve")
    if one:
        titles = (
            f"ROC curve, area {entry['roc']['auroc']:.3f}",
            f"Precision-recall curve, mean precision {entry['precision_recall']['average_precision']:.3f}",
        )
    labels = (
        ("false alarms (1 - specificity)", "found (sensitivity)"),
        ("found (sensitivity)", "right among those called (precision)"),
    )
    for axes, title, (across, up) in zip((left, right), titles, labels, strict=True):
        style_axes(axes, look, grid="both")
        axes.set_title(title, loc="left", size=TEXT, color=look.ink, pad=8)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(0, 1.02)
    if not curves:
        left.text(0.5, 0.4, "not defined here", ha="center", color=look.muted, size=TEXT)
    elif not one:
        left.legend(
            loc="lower right", facecolor=look.ground, edgecolor="none", framealpha=1, labelcolor=look.ink,
            prop={"size": SMALL, "family": font_family()},
        )  # fmt: skip
    return figure


def _curve(
    axes: Axes, across: Sequence[float], up: Sequence[float], band: Mapping[str, Any] | None, places: str, colour: str,
    dash: Any, label: str | None, look: Theme,
) -> None:  # fmt: skip
    if band is not None and band["low"] is not None:
        axes.fill_between(band[places], band["low"], band["high"], color=colour, alpha=0.16, linewidth=0)
    axes.plot(across, up, color=colour, linewidth=1.9, linestyle=dash, label=label, zorder=3)


def draw_reliability(
    points: Sequence[Mapping[str, Any]],
    uncalibrated: Sequence[Mapping[str, Any]] | None = None,
    *,
    positive: str | None = None,
    theme: ThemeName = "light",
) -> Figure:
    """Draw stated probability against observed share, with 95 % bands.

    Args:
        points: result of :func:`wara.evaluation.calibration.reliability` for the calibrated probabilities.
        uncalibrated: the same for the network's own, drawn behind; None or equal points are not drawn.
        positive: name of the second of two classes; None for more classes.
        theme: ``"light"`` or ``"dark"``.
    """
    look = theme_of(theme)
    figure = new_figure(WIDTH * 0.62, 4.9, look)
    images = sum(int(point["n"]) for point in points)
    size = f"{len(points)} groups of about {images // len(points):,} images" if points else "no images"
    heading(figure, "Can the probabilities be believed?", f"{size}; bars: 95 % interval", look, left=0.2)
    axes = figure.add_axes((0.13, 0.125, 0.8, 0.7))
    style_axes(axes, look, grid="both")
    axes.plot([0, 1], [0, 1], color=look.muted, linewidth=0.9, linestyle=(0, (2, 3)), label="exactly true")
    if uncalibrated and list(uncalibrated) != list(points):
        axes.plot(
            [p["stated"] for p in uncalibrated], [p["observed"] for p in uncalibrated], color=look.muted, linewidth=1.3,
            linestyle=(0, (5, 2)), marker="s", markersize=4, label="the network's own",
        )  # fmt: skip
    stated, observed = [p["stated"] for p in points], [p["observed"] for p in points]
    for point in points:
        if point["low"] is not None:
            axes.vlines(point["stated"], point["low"], point["high"], color=look.accent, linewidth=2.4, alpha=0.5)
    axes.plot(
        stated, observed, color=look.accent, linewidth=1.9, marker="o", markersize=6, markeredgecolor=look.ground,
        label="shown (calibrated)", zorder=3,
    )  # fmt: skip
    axes.set_xlabel(f"stated probability of {plain(positive, 24)}" if positive else "stated probability of the answer")
    axes.set_ylabel(f"share that is {plain(positive, 24)}" if positive else "share of right answers")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_fontfamily(font_family())
    axes.legend(
        loc="upper left", facecolor=look.ground, edgecolor="none", framealpha=1, labelcolor=look.ink, fontsize=SMALL
    )
    return figure
