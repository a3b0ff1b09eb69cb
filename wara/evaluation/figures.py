"""The figures of a run: how it learned, and which classes it takes for which. Drawn from stored data alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from wara.analysis.style import (
    SMALL,
    TEXT,
    WIDTH,
    Theme,
    ThemeName,
    font_family,
    heading,
    ink_on,
    new_figure,
    plain,
    ramp,
    style_axes,
    theme_of,
)

Row = Mapping[str, Any]
_PANEL = 3.5  # inches that the sensitivities beside a confusion matrix take
_SMALLEST_CELL = 0.3  # inches of a cell under which the sensitivities give way
_MOST_NUMBERED = 20  # classes up to which the empty cells of a confusion matrix carry their zero


def draw_history(history: Sequence[Row], theme: ThemeName = "light") -> Figure:
    """Draw loss and validation AUROC over the passes through the data.

    Args:
        history: a row an epoch with ``epoch``, ``train_loss``, ``val_loss``, ``val_auroc`` and ``best``; values may be
            text as in history.csv, and empty.
        theme: ``"light"`` or ``"dark"``.
    """
    look = theme_of(theme)
    figure = new_figure(WIDTH, 3.7, look)
    heading(figure, "How the training went", _history_subtitle(history), look, left=0.2)
    epochs = numbers(history, "epoch")
    best = best_row(history)
    losses = figure.add_axes((0.085, 0.175, 0.365, 0.55))
    areas = figure.add_axes((0.585, 0.175, 0.365, 0.55))
    _curve(losses, epochs, numbers(history, "train_loss"), look.muted, "s", "training images", look, dashed=True)
    _curve(losses, epochs, numbers(history, "val_loss"), look.accent, "o", "validation images", look)
    _curve(areas, epochs, numbers(history, "val_auroc"), look.accent, "o", "validation images", look)
    for axes, title, label in (
        (losses, "Error while learning", "loss (lower is better)"),
        (areas, "How well the classes are told apart", "AUROC (1 = perfect)"),
    ):
        style_axes(axes, look, grid="y")
        axes.set_title(title, loc="left", size=TEXT, color=look.ink, pad=8)
        axes.set_xlabel("pass through the training images (epoch)")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(*_padded(epochs))
        if best is not None:
            axes.axvline(epochs[best], color=look.ink, linewidth=0.9, linestyle=(0, (2, 3)), zorder=1)
    losses.set_ylim(0, 1.12 * losses.get_ylim()[1])
    _fit_auroc_axis(areas, numbers(history, "val_auroc"), look)
    if best is not None:
        late = epochs[best] > (epochs[0] + epochs[-1]) / 2
        areas.annotate(
            "kept", (epochs[best], 0), xycoords=("data", "axes fraction"), xytext=(-4 if late else 4, 4),
            textcoords="offset points", size=SMALL, color=look.ink, ha="right" if late else "left",
        )  # fmt: skip
    if len(epochs):
        losses.legend(
            loc="upper right",
            facecolor=look.ground,
            edgecolor="none",
            framealpha=1,
            fontsize=SMALL,
            labelcolor=look.ink,
        )
    return figure


def draw_confusion(metrics: Mapping[str, Any], classes: Sequence[str], theme: ThemeName = "light") -> Figure:
    """Draw the confusion matrix: of the images of each true class, how many were taken for which.

    Args:
        metrics: result of :func:`wara.evaluation.metrics.evaluate`.
        classes: the class names, in the order of the matrix.
        theme: ``"light"`` or ``"dark"``.

    Raises:
        ValueError: if the matrix is not of the size of the classes.
    """
    look = theme_of(theme)
    counts = np.array(metrics["confusion"], dtype=float)
    k = len(classes)
    if counts.shape != (k, k):
        raise ValueError(f"a confusion matrix of {counts.shape} for {k} classes")
    names = [plain(name, 26) for name in classes]
    longest = max(map(len, names))
    left = 0.75 + 0.078 * longest
    has_panel = (WIDTH - left - _PANEL) / k >= _SMALLEST_CELL
    cell = float(np.clip((WIDTH - left - (_PANEL if has_panel else 0.3)) / k, 0.24, 1.2))
    slanted = longest * 0.085 > cell
    below = 0.6 + (0.05 * longest if slanted else 0.1)
    width, height = max(WIDTH, left + k * cell + 0.3), 1.0 + k * cell + below
    figure = new_figure(width, height, look)
    axes = figure.add_axes((left / width, below / height, k * cell / width, k * cell / height))
    patients = "" if metrics["n_groups"] == metrics["n_images"] else f" of {metrics['n_groups']:,} patients"
    heading(
        figure,
        "Which class is taken for which",
        f"{metrics['n_images']:,} images{patients}  \N{MIDDLE DOT}  each row: one true class, its images by answer",
        look,
        left=0.2,
    )
    _draw_confusion_cells(axes, counts, cell, look)
    size = SMALL if cell > 0.3 else SMALL - 2
    axes.set_xticks(range(k), names, family=font_family())
    if slanted:
        for label in axes.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(k), names, family=font_family())
    axes.tick_params(labelsize=size, colors=look.ink, length=0, pad=5)
    axes.set_xlabel("the model's answer", labelpad=6)
    axes.set_ylabel("true class", labelpad=8)
    if has_panel:
        start = left + k * cell + 0.35
        room = width - start - 1.75  # the numbers stand in the rest
        panel = (start / width, below / height, room / width, k * cell / height)
        _draw_sensitivities(figure.add_axes(panel), metrics, classes, look)
    return figure


def _draw_sensitivities(axes: Axes, metrics: Mapping[str, Any], classes: Sequence[str], look: Theme) -> None:
    """Draw, in line with the rows of the matrix, the share of each class that was found, with its interval."""
    style_axes(axes, look, grid="x")
    axes.spines["left"].set_visible(False)
    for row, name in enumerate(classes):
        entry = metrics["sensitivity"][name]
        value, low, high = entry["value"], entry["low"], entry["high"]
        if value is None:
            axes.text(0.5, row, "no images", ha="center", va="center", size=SMALL, color=look.muted)
            continue
        if low is not None:
            axes.hlines(row, low, high, color=look.accent, linewidth=2.6, alpha=0.6)
        axes.plot(
            value, row, "o", color=look.accent, markersize=5.5, markeredgecolor=look.ground, clip_on=False, zorder=3
        )
        numbers = f"{value:.2f}" + ("" if low is None else f"  [{low:.2f}, {high:.2f}]")
        axes.text(1.05, row, numbers, va="center", size=SMALL, color=look.ink)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([])
    axes.set_xlabel("share found (sensitivity)", labelpad=6)
    axes.set_title("with 95 % interval", loc="left", size=SMALL, color=look.muted, pad=6)


def _draw_confusion_cells(axes: Axes, counts: npt.NDArray[np.float64], cell: float, look: Theme) -> None:
    k = len(counts)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    colours = ramp(look)
    for row in range(k):
        for column in range(k):
            face = colours(float(shares[row, column]))
            axes.add_patch(Rectangle((column - 0.485, row - 0.485), 0.97, 0.97, facecolor=face, linewidth=0))
            ink = ink_on(face, look)
            if k > _MOST_NUMBERED and not counts[row, column]:
                continue
            size = float(np.clip(cell * 17, 5.5, 14.0))
            lift = -0.1 if cell >= 0.45 else 0.0
            number = f"{int(counts[row, column]):,}"
            axes.text(column, row + lift, number, ha="center", va="center", size=size, color=ink)
            if cell >= 0.45:
                share = f"{100 * shares[row, column]:.0f} %"
                axes.text(column, row + 0.24, share, ha="center", va="center", size=max(6.5, size * 0.66), color=ink)
    style_axes(axes, look)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlim(-0.5, k - 0.5)
    axes.set_ylim(k - 0.5, -0.5)


def _curve(
    axes: Axes, epochs: npt.NDArray[np.float64], values: npt.NDArray[np.float64], colour: str, marker: str, label: str,
    look: Theme, *, dashed: bool = False,
) -> None:  # fmt: skip
    axes.plot(
        epochs, values, color=colour, linewidth=2, label=label, marker=marker, markersize=5.5 * (len(epochs) < 40),
        markeredgecolor=look.ground, markeredgewidth=0.8, linestyle=(0, (5, 2)) if dashed else "-", zorder=3,
    )  # fmt: skip


def _history_subtitle(history: Sequence[Row]) -> str:
    if not history:
        return "No pass through the data was finished"
    best = best_row(history)
    passes = f"{len(history)} {'pass' if len(history) == 1 else 'passes'} through the training images"
    if best is None:
        return passes
    area = numbers(history, "val_auroc")[best]
    kept = f"the model of pass {int(numbers(history, 'epoch')[best])} was kept"
    return f"{passes}  \N{MIDDLE DOT}  {kept}" + (f" (validation AUROC {area:.3f})" if np.isfinite(area) else "")


def best_row(history: Sequence[Row]) -> int | None:
    """Return the last row marked as best: each new best is marked when it comes, the last one was kept."""
    marked = [i for i, row in enumerate(history) if str(row.get("best")).lower() in ("true", "1")]
    return marked[-1] if marked else None


def numbers(history: Sequence[Row], name: str) -> npt.NDArray[np.float64]:
    """Return a column of a history as numbers, NaN where it is empty."""
    values = [row.get(name) for row in history]
    return np.array([np.nan if value in (None, "", "None") else float(str(value)) for value in values], dtype=float)


def _padded(epochs: npt.NDArray[np.float64]) -> tuple[float, float]:
    if not len(epochs):
        return 0.5, 1.5
    margin = max(0.3, 0.04 * float(epochs.max() - epochs.min()))
    return float(epochs.min()) - margin, float(epochs.max()) + margin


def _fit_auroc_axis(axes: Axes, values: npt.NDArray[np.float64], look: Theme) -> None:
    """End the axis at 1, begin it at a round value below the lowest one, and say so where there is no value."""
    known = values[np.isfinite(values)]
    if not len(known):
        axes.set_ylim(0.5, 1)
        axes.text(0.5, 0.5, "not defined here", transform=axes.transAxes, ha="center", color=look.muted, size=TEXT)
        return
    low = min(0.9, float(np.floor(known.min() * 10 - 0.2) / 10))
    axes.set_ylim(max(0.0, low), 1.0 + 0.02 * (1 - low))
