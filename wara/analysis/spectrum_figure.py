"""The figure of singular spectra: effective ranks of all layers beside the spectrum of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from wara.analysis.bands import layer_labels
from wara.analysis.style import (
    METHOD_LABELS,
    METHOD_MARKERS,
    SMALL,
    TEXT,
    WIDTH,
    Theme,
    ThemeName,
    font_family,
    heading,
    label_width,
    method_colour,
    new_figure,
    plain,
    style_axes,
    theme_of,
)

Data = Mapping[str, Any]


def draw_singular_spectrum(
    data: Data, *, layer: str | None = None, compare: Data | None = None, theme: ThemeName = "light"
) -> Figure:
    """Draw how many directions the updates use: the effective rank of all layers, and one layer's singular values.

    Args:
        data: result of :func:`wara.analysis.singular_spectrum.singular_spectrum`.
        layer: the layer whose spectrum is drawn; None takes the one that changed most against its weight.
        compare: another run's data (LoRA on the same images), drawn beside it.
        theme: ``"light"`` or ``"dark"``.

    Raises:
        ValueError: if ``layer`` or ``theme`` is unknown.
    """
    look = theme_of(theme)
    chosen = chosen_layer(data, layer)
    labels, shared = layer_labels([entry["name"] for entry in data["layers"]])
    height = max(4.5, 2.1 + 0.25 * len(labels))
    figure = new_figure(WIDTH, height, look)
    left = label_width(labels) - 0.45
    bottom, top = 0.98 / height, 1 - 1.12 / height
    ranks = figure.add_axes((left / WIDTH, bottom, 3.05 / WIDTH, top - bottom))
    start = left + 3.05 + 0.95
    values = figure.add_axes((start / WIDTH, bottom, (WIDTH - start - 0.25) / WIDTH, top - bottom))
    of_other = layer_labels([entry["name"] for entry in compare["layers"]])[1] if compare else shared
    apart = of_other != shared
    of_layer = f" of {plain(shared, 24)}" if shared and not apart else ""
    runs = [_method_label(data, shared if apart else "")]
    if compare:
        runs.append(_method_label(compare, of_other if apart else ""))
    heading(
        figure,
        "How many independent directions the fine-tuning uses",
        f"Singular values of each layer's update{of_layer}  \N{MIDDLE DOT}  "
        f"{' and '.join(runs)}",
        look,
        left=0.2,
    )
    _draw_ranks(ranks, data, compare, labels, chosen, look)
    title = labels[chosen] + ("" if layer else ", which changed most")
    _draw_values(values, data, compare, chosen, title, look)
    _shared_legend(figure, data, compare, look)
    return figure


def chosen_layer(data: Data, layer: str | None) -> int:
    """Return the index of a layer by name, or of the one whose update is largest against its weight.

    Raises:
        ValueError: if there is no layer of that name.
    """
    names = [entry["name"] for entry in data["layers"]]
    if layer is None:
        return max(range(len(names)), key=lambda i: data["layers"][i]["relative_norm"] or 0.0)
    if layer not in names:
        raise ValueError(f"no layer {layer!r}; there are {', '.join(names)}")
    return names.index(layer)


def _method_label(data: Data, layers: str = "") -> str:
    of_layers = f", {plain(layers, 24)}" if layers else ""
    return f"{METHOD_LABELS.get(data['method'], data['method'])} (rank {data['rank']}{of_layers})"


def _same_place(data: Data, other: Data) -> dict[str, int]:
    """Return the row of the first run's layer for each layer of the other: of the same name, else in the same block."""
    names, others = ([entry["name"] for entry in run["layers"]] for run in (data, other))
    before = list(others)
    if not set(names) & set(others):  # adapted in front of attention and behind it, say
        names, others = layer_labels(names)[0], layer_labels(others)[0]
    rows = {name: row for row, name in enumerate(names)}
    return {whole: rows[name] for whole, name in zip(before, others, strict=True) if name in rows}


def _twin(data: Data, compare: Data | None) -> bool:
    """Tell whether both runs are of one method, so that colour alone could not keep them apart."""
    return compare is not None and compare["method"] == data["method"]


def _draw_ranks(axes: Axes, data: Data, compare: Data | None, labels: Sequence[str], chosen: int, look: Theme) -> None:
    """Draw the effective rank of every layer as dots on a line from 1, with the largest possible one marked."""
    style_axes(axes, look, grid="x")
    axes.axhspan(chosen - 0.46, chosen + 0.46, color=look.grid, alpha=0.55, linewidth=0, zorder=0)
    limit = max(run["rank"] for run in (data, compare) if run)
    for run, offset, is_other in ((data, -0.19 if compare else 0.0, False), (compare, 0.19, True)):
        if run is None:
            continue
        index = _same_place(data, run)
        points = [(index[e["name"]], e["effective_rank"]) for e in run["layers"] if e["name"] in index]
        points = [(row, rank) for row, rank in points if rank is not None]
        colour = look.muted if is_other and _twin(data, compare) else method_colour(run["method"])
        rows = np.array([row + offset for row, _ in points])
        ranks = np.array([rank for _, rank in points])
        axes.hlines(rows, 1, ranks, color=colour, linewidth=1.6, alpha=0.75)
        axes.plot(
            ranks,
            rows,
            METHOD_MARKERS.get(run["method"], "o"),
            color=colour,
            markersize=6,
            markeredgecolor=look.ground,
            markeredgewidth=0.8,
            clip_on=False,
            zorder=3,
        )
    axes.axvline(limit, color=look.muted, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlim(0.9, limit + 0.15 * max(1, limit / 8))
    ticks = [1, *[t for t in axes.get_xticks() if 1 < t <= limit and float(t).is_integer()]]
    axes.set_xticks(sorted({*map(int, ticks)}))
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_yticks(range(len(labels)), labels, family=font_family())
    axes.tick_params(axis="y", colors=look.ink, labelsize=SMALL if len(labels) <= 30 else SMALL - 1.5)
    axes.set_xlabel("effective rank (number of directions)")
    axes.set_title(f"All layers (dashed: at most {limit})", loc="left", size=TEXT, color=look.ink, pad=7)


def _draw_values(axes: Axes, data: Data, compare: Data | None, chosen: int, title: str, look: Theme) -> None:
    """Draw the singular values of one layer's update over those of its pretrained weight, on a logarithmic axis."""
    style_axes(axes, look, grid="y")
    entry = data["layers"][chosen]
    rows = _same_place(data, compare) if compare else {}
    other = next((e for e in compare["layers"] if rows.get(e["name"]) == chosen), None) if compare else None
    shown = max(len(entry["singular_values"]), len(other["singular_values"]) if other else 0)
    base = np.array(entry["base_singular_values"][: max(2 * shown, 16)])
    axes.set_yscale("log")
    axes.plot(np.arange(1, len(base) + 1), base, color=look.muted, linewidth=1.6, linestyle=(0, (5, 2)), zorder=2)
    for run, e in ((compare, other), (data, entry)):
        if run is None or e is None:
            continue
        values = np.array(e["singular_values"])
        # Values that only rounding keeps from zero would stretch the axis over ten empty decades.
        ranked = [(i + 1, v) for i, v in enumerate(values) if v > 1e-6 * max(values.max(), 1e-30)]
        if not ranked:
            continue
        colour = look.muted if run is compare and _twin(data, compare) else method_colour(run["method"])
        axes.plot(
            *zip(*ranked, strict=True),
            marker=METHOD_MARKERS.get(run["method"], "o"),
            color=colour,
            linewidth=1.8,
            markersize=6,
            markeredgecolor=look.ground,
            markeredgewidth=0.8,
            zorder=3,
        )
    if not any(entry["singular_values"]):
        axes.text(
            0.5, 0.5, "this layer's update is zero", transform=axes.transAxes, ha="center", color=look.muted, size=TEXT
        )
    axes.set_xlim(0.5, len(base) + 0.5)
    step = max(1, round(len(base) / 8))
    axes.set_xticks([1, *(tick for tick in range(step, len(base) + 1, step) if tick > 1)])
    axes.set_xlabel("direction, from strongest to weakest")
    axes.set_ylabel("strength (singular value, log scale)")
    _readable_log_axis(axes)
    axes.set_title(title, loc="left", size=TEXT, color=look.ink, pad=7, family=font_family())


def _readable_log_axis(axes: Axes) -> None:
    """Let a logarithmic axis begin and end at 1, 2 or 5 of a decade, and tick those, or decades where it is long."""
    low, high = axes.get_ylim()
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    nice = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    low = max((tick for tick in nice if tick <= low), default=low)
    high = min((tick for tick in nice if tick >= high), default=high)
    axes.set_ylim(low, high)
    ticks = nice if len(decades) <= 4 else nice[::3]
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(FixedLocator([]))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _shared_legend(figure: Figure, data: Data, compare: Data | None, look: Theme) -> None:
    """Name the lines once for both panels, below them."""
    lines = []
    for run in (data, compare):
        if run is None:
            continue
        is_twin = run is compare and _twin(data, compare)
        colour = look.muted if is_twin else method_colour(run["method"])
        name = f"{'the other run: ' if is_twin else ''}update by {_method_label(run)}"
        marker = METHOD_MARKERS.get(run["method"], "o")
        lines.append(Line2D([], [], marker=marker, color=colour, linewidth=1.8, markersize=6, label=name))
    pretrained = "the layer's pretrained weight"
    lines.append(Line2D([], [], color=look.muted, linewidth=1.6, linestyle=(0, (5, 2)), label=pretrained))
    figure.legend(
        handles=lines, loc="lower left", bbox_to_anchor=(0.2 / WIDTH, 0.13 / figure.get_size_inches()[1]), ncols=3,
        frameon=False, fontsize=SMALL, labelcolor=look.ink, borderaxespad=0, handlelength=2.4, columnspacing=2.2,
    )  # fmt: skip
