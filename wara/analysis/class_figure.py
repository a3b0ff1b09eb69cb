"""The figure that tells classes apart by scale: how much more of each size of detail the update adds for a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from wara.analysis.energy_figure import energy_rows
from wara.analysis.reading import shares_by_scale
from wara.analysis.style import (
    METHOD_LABELS,
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

Data = Mapping[str, Any]
Picture = npt.NDArray[np.uint8]
MOST_CLASSES = 8  # beside more of them no bar could be read
_HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "ooo", "+++")  # colour never stands alone
_LEFT, _RIGHT, _PLOT, _PICTURES = 0.62, 0.2, 2.5, 1.75  # inches


def draw_classes(data: Data, *, examples: Mapping[str, Picture] | None = None, theme: ThemeName = "light") -> Figure:
    """Draw, for each scale, the share that it has in the update on a class's images over that of all images.

    Args:
        data: result of :meth:`wara.analysis.subband_energy.SubbandEnergy.result`.
        examples: an image of each class, (H, W) or (H, W, 3), to show above the bars.
        theme: ``"light"`` or ``"dark"``.

    Raises:
        ValueError: an unknown theme, or no two classes with an update to compare.
    """
    look, ratios = theme_of(theme), class_ratios(data)
    if len(ratios) < 2:
        raise ValueError(f"there are {len(ratios)} classes with an update; two are needed to compare")
    top = 0.86 + (_PICTURES + 0.34 if examples else 0.0)
    height = top + _PLOT + 0.98
    figure = new_figure(WIDTH, height, look)
    method = METHOD_LABELS.get(data["method"], data["method"])
    images = data["n_images"]["overall"]
    heading(
        figure,
        "Which scales of detail each class calls for",
        f"Share of a scale in the update, over its share on all images  \N{MIDDLE DOT}  {method}  \N{MIDDLE DOT}  "
        f"{images:,} images, mean of {len(data['layers'])} layers",
        look,
        left=0.2,
    )
    if examples:
        _draw_examples(figure, list(ratios), examples, height, look)
    axes = figure.add_axes(
        (_LEFT / WIDTH, 0.98 / height, 1 - (_LEFT + _RIGHT) / WIDTH, _PLOT / height)
    )  # fmt: skip
    _draw_bars(axes, ratios, look)
    legend = figure.legend(
        *axes.get_legend_handles_labels(), loc="lower left", bbox_to_anchor=(0.14 / WIDTH, 0.06 / height),
        ncols=min(len(ratios), 4), frameon=False, fontsize=SMALL, handlelength=1.3, columnspacing=1.6,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_color(look.ink)
        text.set_fontfamily(font_family())
    return figure


def class_ratios(data: Data) -> dict[str, dict[str, float]]:
    """Return for the first classes (8 at most) the ratio of each scale in words, coarse to fine; 1 is as all images."""
    overall = shares_by_scale(data, energy_rows(data, "update", None))
    if overall is None:
        return {}
    found = {}
    for name in data["classes"][:MOST_CLASSES]:
        shares = shares_by_scale(data, energy_rows(data, "update", name))
        if shares is not None:
            found[name] = {scale: share / max(overall[scale], 1e-12) for scale, share in shares.items()}
    return found


def _draw_examples(
    figure: Figure, classes: list[str], examples: Mapping[str, Picture], height: float, look: Theme
) -> None:
    room = (WIDTH - _LEFT - _RIGHT) / len(classes)
    side = min(_PICTURES, room - 0.15)
    for place, name in enumerate(classes):
        if name not in examples:
            continue
        left = _LEFT + room * (place + 0.5) - side / 2
        box = (left / WIDTH, 1 - (0.8 + _PICTURES) / height, side / WIDTH, side / height)
        axes = figure.add_axes(box)
        axes.set_facecolor("#000000")
        axes.imshow(examples[name], cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color(class_colour(place))
            spine.set_linewidth(2)
        axes.set_xlabel(plain(name, 24), size=SMALL, color=look.ink, family=font_family(), labelpad=5)


def _draw_bars(axes: Axes, ratios: Mapping[str, Mapping[str, float]], look: Theme) -> None:
    scales = list(next(iter(ratios.values())))
    width = 0.8 / len(ratios)
    most = 1.25
    for index, (name, values) in enumerate(ratios.items()):
        places = np.arange(len(scales)) + (index - (len(ratios) - 1) / 2) * width
        heights = np.array([max(values[scale], 1e-3) for scale in scales])
        most = max(most, float(np.max(np.maximum(heights, 1 / heights))))
        axes.bar(
            places, heights - 1, width * 0.9, bottom=1, color=class_colour(index), label=plain(name, 26),
            hatch=_HATCHES[index % len(_HATCHES)], edgecolor=look.ground, linewidth=0,
        )  # fmt: skip
        for place, value in zip(places, heights, strict=True):
            above = value >= 1
            axes.annotate(
                f"\N{MULTIPLICATION SIGN}{value:.2f}", (place, value), xytext=(0, 4 if above else -4),
                textcoords="offset points", ha="center", va="bottom" if above else "top",
                size=SMALL if len(ratios) <= 4 else SMALL - 2, color=look.ink,
            )  # fmt: skip
    style_axes(axes, look, grid="y")
    axes.axhline(1, color=look.muted, linewidth=1)
    axes.set_yscale("log")
    reach = most**1.25
    axes.set_ylim(1 / reach, reach)
    ticks = [tick for tick in (0.1, 0.2, 0.5, 0.8, 1.0, 1.25, 2.0, 5.0, 10.0) if 1 / reach <= tick <= reach]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"\N{MULTIPLICATION SIGN}{value:g}"))
    axes.set_xticks(range(len(scales)), scales, family=font_family())
    axes.set_xlim(-0.5, len(scales) - 0.5)
    axes.tick_params(axis="x", labelsize=TEXT - 0.5, colors=look.ink, pad=8)
