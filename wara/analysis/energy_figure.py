"""The figure of subband energy: a heatmap of layers by scale of detail, with its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from wara.analysis.bands import Band, describe_band, layer_labels
from wara.analysis.style import (
    METHOD_LABELS,
    SMALL,
    TEXT,
    WIDTH,
    Theme,
    ThemeName,
    font_family,
    heading,
    ink_on,
    label_width,
    new_figure,
    plain,
    ramp,
    style_axes,
    theme_of,
)

Data = Mapping[str, Any]
Kind = Literal["update", "tokens"]


def draw_subband_energy(
    data: Data, *, of: Kind = "update", cls: str | None = None, theme: ThemeName = "light"
) -> Figure:
    """Draw the share of energy of each layer by scale of detail, as a heatmap with its numbers.

    Args:
        data: result of :meth:`wara.analysis.subband_energy.SubbandEnergy.result`.
        of: ``"update"``: what the adapter adds; ``"tokens"``: what the layer is given.
        cls: a class's name for its images alone; None for all.
        theme: ``"light"`` or ``"dark"``.

    Raises:
        ValueError: if ``of``, ``cls`` or ``theme`` is unknown.
    """
    look = theme_of(theme)
    shares = energy_rows(data, of, cls)
    bands = [describe_band(name, data["levels"], data["patch_size"]) for name in data["bands"]]
    labels, shared = layer_labels(data["layers"])
    even = np.array(data["even"], dtype=float)
    rows = len(labels)
    row_height, top, bottom, left, right = 0.31, 1.74, 1.0 if data["note"] else 0.84, label_width(labels) + 0.32, 0.18
    height = top + bottom + row_height * (rows + 1.35)
    figure = new_figure(WIDTH, height, look)
    axes = figure.add_axes(
        (left / WIDTH, bottom / height, 1 - (left + right) / WIDTH, row_height * (rows + 1.35) / height)
    )
    heading(figure, *_energy_titles(data, of, cls), look, left=0.2)
    _draw_cells(axes, shares, even.mean(axis=0), bands, look)
    axes.set_yticks([*range(rows), rows + 0.35], [*labels, "if spread evenly"], family=font_family())
    axes.tick_params(axis="y", length=0, labelsize=SMALL, colors=look.ink)
    axes.get_yticklabels()[-1].set_color(look.muted)
    figure.text(
        0.2 / WIDTH,
        1 - (top - 0.12) / height,
        "layer, first to last \N{DOWNWARDS ARROW}",
        size=SMALL - 1,
        color=look.muted,
        va="bottom",
    )
    figure.text(
        0.2 / WIDTH,
        0.2 / height,
        _energy_footnote(data, shared),
        size=SMALL - 0.5,
        color=look.muted,
        va="bottom",
        linespacing=1.45,
        family=font_family(),
    )
    return figure


def energy_rows(data: Data, of: str, cls: str | None) -> npt.NDArray[np.float64]:
    """Return the fractions (layers, subbands) of one kind and class; NaN where there is no energy at all.

    Raises:
        ValueError: if ``of`` or ``cls`` is unknown.
    """
    if of not in ("update", "tokens"):
        raise ValueError(f"no energy of {of!r}; there is 'update' and 'tokens'")
    if cls is not None and cls not in data["per_class"]:
        raise ValueError(f"no class {cls!r}; there are {', '.join(map(repr, data['classes']))}")
    rows = (data["overall"] if cls is None else data["per_class"][cls])[of]
    return np.array([[np.nan] * len(data["bands"]) if row is None else row for row in rows], dtype=float)


def _energy_titles(data: Data, of: Kind, cls: str | None) -> tuple[str, str]:
    title = {
        "update": "Which scales of detail the fine-tuning acts on",
        "tokens": "Which scales of detail the layers are given",
    }[of]
    images = data["n_images"]["overall"] if cls is None else data["n_images"]["per_class"][cls]
    whose = (
        "all classes"
        if cls is None
        else f"class \N{LEFT DOUBLE QUOTATION MARK}{plain(cls, 26)}\N{RIGHT DOUBLE QUOTATION MARK}"
    )
    what = {"update": "Energy of the update", "tokens": "Energy of the tokens"}[of]
    subtitle = (
        f"{what} by subband, % of each layer  \N{MIDDLE DOT}  "
        f"{METHOD_LABELS.get(data['method'], data['method'])}  \N{MIDDLE DOT}  {images:,} images, {whose}"
    )
    return title, subtitle


def _energy_footnote(data: Data, shared: str) -> str:
    wavelet = f"{data['wavelet'].capitalize()} wavelet, {data['levels']} {'level' if data['levels'] == 1 else 'levels'}"
    rows, columns = data["grid"]
    patch = f", one token = {data['patch_size']} px of the picture the model sees" if data["patch_size"] else ""
    edges = "Horizontal, vertical, diagonal: the direction of the edges."
    even = "The last row is what pure noise, a picture without any structure, would show."
    adapted = f" Layers: {plain(shared, 20)}." if shared else ""
    lines = [
        f"{wavelet} on a grid of {rows} \N{MULTIPLICATION SIGN} {columns} tokens{patch}.{adapted}",
        f"{edges} {even}",
    ]
    return "\n".join([*lines, data["note"]] if data["note"] else lines)


def _draw_cells(
    axes: Axes, shares: npt.NDArray[np.float64], even: npt.NDArray[np.float64], bands: Sequence[Band], look: Theme
) -> None:
    """Draw the cells, a row for an even spread below them, and the scales above them."""
    edges, places = _columns(bands)
    colours = ramp(look)
    peak = float(np.nanmax(shares)) if np.isfinite(shares).any() else 1.0
    # Energy piles up in the coarse subband; the root keeps differences among the small shares visible.
    norm = PowerNorm(0.6, vmin=0, vmax=max(peak, float(even.max())))
    rows = len(shares)
    corners, faces = [], []
    for row, values in enumerate([*shares, even]):
        y = row if row < rows else rows + 0.35
        for place, value in zip(places, values, strict=True):
            face = colours(norm(value)) if np.isfinite(value) else colours(0.0)
            left, right, top, bottom = place - 0.485, place + 0.485, y - 0.465, y + 0.465
            corners.append([(left, top), (right, top), (right, bottom), (left, bottom)])
            faces.append(face)
            text = _percent(value) if np.isfinite(value) else "\N{EN DASH}"
            axes.text(place, y, text, ha="center", va="center", size=TEXT, color=ink_on(face, look))
    axes.add_collection(PolyCollection(corners, facecolors=faces, linewidths=0), autolim=False)
    axes.set_xlim(-0.5, places[-1] + 0.5)
    axes.set_ylim(rows + 0.85, -0.5)
    style_axes(axes, look)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks([])
    for place, band in zip(places, bands, strict=True):
        axes.annotate(
            band.name,
            (place, -0.5),
            xytext=(0, 20),
            textcoords="offset points",
            ha="center",
            size=SMALL,
            color=look.muted,
        )
        axes.annotate(
            band.orientation,
            (place, -0.5),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            size=SMALL,
            color=look.ink,
        )
    for first, last, band in edges:
        _scale_header(axes, first, last, band, look)


def _columns(bands: Sequence[Band]) -> tuple[list[tuple[float, float, Band]], list[float]]:
    """Return the scales as (first place, last place, a band of it) and the place of each column, with gaps between."""
    scales: list[tuple[float, float, Band]] = []
    places: list[float] = []
    previous: Band | None = None
    for band in bands:
        new = previous is None or (band.level, band.kind == "A") != (previous.level, previous.kind == "A")
        place = (places[-1] + 1 + (0.14 if new else 0)) if places else 0.0
        places.append(place)
        if new:
            scales.append((place, place, band))
        else:
            scales[-1] = (scales[-1][0], place, scales[-1][2])
        previous = band
    return scales, places


def _scale_header(axes: Axes, first: float, last: float, band: Band, look: Theme) -> None:
    middle = (first + last) / 2
    name, size = band.scale, band.size
    if band.kind == "A" and ": " in name:  # one narrow column: break where the colon is
        name, rest = name.split(": ", 1)
        size = f"{rest},\n{size}"
    axes.annotate(
        size,
        (middle, -0.5),
        xytext=(0, 40),
        textcoords="offset points",
        ha="center",
        va="bottom",
        size=SMALL,
        color=look.muted,
        linespacing=1.2,
    )
    lift = 54 + (11 if "\n" in size else 0)
    axes.annotate(
        name,
        (middle, -0.5),
        xytext=(0, lift),
        textcoords="offset points",
        ha="center",
        va="bottom",
        size=SMALL + 0.5,
        color=look.ink,
        weight="bold",
    )
    axes.annotate(
        "",
        (first - 0.47, -0.5),
        xytext=(last + 0.47, -0.5),
        annotation_clip=False,
        arrowprops={"arrowstyle": "-", "color": "none"},
    )
    axes.plot(
        [first - 0.47, last + 0.47],
        [1 + 35 / _height_in_points(axes)] * 2,
        transform=axes.get_xaxis_transform(),
        color=look.muted,
        linewidth=0.9,
        clip_on=False,
    )


def _height_in_points(axes: Axes) -> float:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return float(axes.get_position().height * figure.get_size_inches()[1] * 72)


def _percent(share: float) -> str:
    percent = 100 * share
    if percent == 0:
        return "0"
    if percent < 0.1:
        return "<0.1"
    return f"{percent:.1f}" if percent < 9.95 else f"{percent:.0f}"
