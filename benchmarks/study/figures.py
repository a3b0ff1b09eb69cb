"""The figures of a study: paired differences with their intervals, and AUROC over what it costs."""

from __future__ import annotations

from benchmarks.study.comparison import Label, Place, Row, mean_of
from benchmarks.study.plan import Study
from wara.analysis.style import (
    CLASS_COLOURS,
    SMALL,
    THEMES,
    heading,
    label_width,
    new_figure,
    plain,
    style_axes,
    to_png,
)

Rows = dict[Label, dict[Place, Row]]
_LABELS_HIGH, _DECADE = 26, 4.0  # labels that the plot is high, and how near numbers are whose labels may meet
_ROW, _TOP, _BOTTOM, _PANEL = 0.24, 0.95, 0.65, 2.2  # inches


def draw_differences(study: Study, rows: Rows, data: str) -> bytes | None:
    """Draw the differences from the reference on a data set, a panel a size, as PNG; None where there are none."""
    sizes = [size for size in study.sizes if any(_has(by_place, data, size) for by_place in rows.values())]
    labels = [label for label, by_place in rows.items() if any(_has(by_place, data, size) for size in sizes)]
    if not labels:
        return None
    theme = THEMES["light"]
    names = [plain(_called(label), 40) for label in labels]
    left, height = label_width(names), _TOP + _BOTTOM + _ROW * len(labels)
    width = left + _PANEL * len(sizes) + 0.3
    figure = new_figure(max(width, 6.5), height, theme)
    told = "Differences of the same seeds, 95 % intervals over seeds and patients; filled: clear of zero"
    heading(figure, f"Test AUROC beside {study.reference}: {plain(data)}", told, theme, left=0.2)
    full = figure.get_size_inches()[0]
    share = (full - left - 0.3) / len(sizes)
    for column, size in enumerate(sizes):
        axes = figure.add_axes((
            (left + column * share) / full, _BOTTOM / height, (share - 0.2) / full, _ROW * len(labels) / height
        ))  # fmt: skip
        style_axes(axes, theme, grid="x")
        axes.axvline(0, color=theme.muted, linewidth=1)
        for number, label in enumerate(labels):
            row = rows[label].get((data, size))
            if row is None or row.difference is None:
                continue
            found, colour = row.difference, CLASS_COLOURS[0]
            axes.plot((found.low, found.high), (number, number), color=colour, linewidth=1.4, solid_capstyle="butt")
            axes.plot((found.value,), (number,), "o", color=colour, markersize=5,
                      markerfacecolor=colour if found.clear else theme.ground)  # fmt: skip
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_yticks(range(len(labels)), names if column == 0 else [""] * len(labels))
        axes.set_xlabel(f"{size} training images")
    return to_png(figure)


def draw_costs(study: Study, rows: Rows) -> bytes:
    """Draw each method's AUROC, mean over data sets and sizes, over the numbers in its adapter, as PNG."""
    theme = THEMES["light"]
    figure = new_figure(9.0, 5.2, theme)
    told = "Mean over the data sets and sizes that all methods have; the head is not counted"
    heading(figure, "Test AUROC over trained numbers", told, theme, left=0.2)
    axes = figure.add_axes((0.09, 0.12, 0.88, 0.7))
    style_axes(axes, theme, grid="both")
    common = set.intersection(*(set(by_place) for by_place in rows.values()))
    points = []
    for label, by_place in rows.items():
        some = [by_place[place] for place in by_place if place in common]
        if some:
            adapter = max(some[0].mean("adapter") or 0.0, 1.0)
            points.append((mean_of(row.area for row in some).value, adapter, plain(_called(label), 40)))
    values = [value for value, _, _ in points] or [0.5]
    gap = (max(values) - min(values) or 0.1) / _LABELS_HIGH
    for name, value, adapter, at in _apart(points, gap):
        colour = CLASS_COLOURS[0]
        axes.plot((adapter,), (value,), "o", color=colour, markersize=5)
        axes.annotate(name, (adapter, value), xytext=(adapter * 1.35, at), fontsize=SMALL - 2, color=theme.muted,
                      va="center", arrowprops={"arrowstyle": "-", "color": theme.grid, "relpos": (0, 0.5)})  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(0.6, max([adapter for _, adapter, _ in points] or [1.0]) * 12)
    axes.minorticks_off()
    axes.set_xlabel("trained numbers in the adapter (a head alone stands at 1)")
    axes.set_ylabel("test AUROC")
    return to_png(figure)


def _apart(points: list[tuple[float, float, str]], gap: float) -> list[tuple[str, float, float, float]]:
    """Return name, AUROC, numbers and the height of the label, from above: labels of like numbers do not overlap."""
    placed: list[tuple[str, float, float, float]] = []
    for value, adapter, name in sorted(points, reverse=True):
        near = [at for _, _, other, at in placed if 1 / _DECADE < other / adapter < _DECADE]
        placed.append((name, value, adapter, min([value, *(at - gap for at in near)])))
    return placed


def _has(by_place: dict[Place, Row], data: str, size: int) -> bool:
    row = by_place.get((data, size))
    return row is not None and row.difference is not None


def _called(label: Label) -> str:
    return label[0] if label[1] is None else f"{label[0]}, rank {label[1]}"
