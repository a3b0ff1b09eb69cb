"""The figure of one explanation: the picture, the update's part scale by scale over it, and attention beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from wara.analysis.explain import Explanation
from wara.analysis.style import (
    METHOD_LABELS,
    SMALL,
    WIDTH,
    Theme,
    ThemeName,
    font_family,
    heading,
    new_figure,
    plain,
    theme_of,
    to_png,
)

# On the dark ground of a medical image in both themes; apart under the common colour-blindnesses, and one is struck.
TOWARDS, AWAY, LOOKED = "#ffb52e", "#5cabff", "#46d6b4"
_DARK = "#0c0f12"
_STRONGEST = 0.8  # opacity of the strongest cell: the picture stays visible under it
_STRUCK = 0.15  # cells that pull away are struck through from this part of the strongest on
_CLEAR = 0.04
_GAP, _LEFT, _RIGHT = 0.22, 0.2, 0.2
_TOP, _TITLE, _BOTTOM = 0.78, 0.48, 1.0


def draw_explanation(found: Explanation, *, theme: ThemeName = "light") -> Figure:
    """Draw an explanation: picture, all scales and attention above, then one panel a scale, coarse to fine.

    Every panel with cells of the update has the same colour scale; attention has its own.

    Args:
        found: the explanation.
        theme: ``"light"`` or ``"dark"``.

    Raises:
        ValueError: if ``theme`` is unknown.
    """
    look = theme_of(theme)
    columns = max(3, len(found.scales))
    side = (WIDTH - _LEFT - _RIGHT - _GAP * (columns - 1)) / columns
    width = side if found.aspect >= 1 else side * found.aspect
    tall = width / found.aspect
    height = _TOP + 2 * (_TITLE + tall) + _GAP + _BOTTOM
    figure = new_figure(WIDTH, height, look)
    title = f"Why \N{LEFT DOUBLE QUOTATION MARK}{plain(found.target, 34)}\N{RIGHT DOUBLE QUOTATION MARK}"
    against = plain(found.against, 26)
    method = METHOD_LABELS.get(found.method, found.method)
    heading(figure, title, f"What the {method} update added, against the next class, {against}", look, left=_LEFT)
    whole = found.maps.sum(axis=0)
    peak = float(max(np.abs(whole).max(), np.abs(found.maps).max())) or 1.0
    names = ("The picture", "as the model sees it"), ("All scales", f"{_signed(found.maps.sum())} in all")
    shares = found.shares or (0.0,) * len(found.scales)
    for row in range(2):
        top = _TOP + row * (_TITLE + tall + _GAP) + _TITLE
        for column in range(columns):
            if column >= (3 if row == 0 else len(found.scales)):
                continue
            box = ((_LEFT + column * (side + _GAP)) / WIDTH, 1 - (top + tall) / height, width / WIDTH, tall / height)
            axes = figure.add_axes(box)
            _picture(axes, found)
            if row == 1:
                scale = found.scales[column]
                _title(axes, f"{scale.name.capitalize()}, {scale.size}", _share(shares[column], found, column), look)
                _cells(axes, found.maps[column] / peak)
            elif column == 0:
                _title(axes, *names[0], look)
            elif column == 1:
                _title(axes, *names[1], look)
                _cells(axes, whole / peak)
            elif found.attention is None:
                _title(axes, "Attention", "not to be had from this model", look)
            else:
                _title(axes, "Attention", "where the model looked; own colours", look)
                _glow(axes, found.attention)
    _legend(figure, found, height, look)
    return figure


def write_explanation(folder: Path, number: int, found: Explanation) -> list[Path]:
    """Write an explanation into a folder, as a figure and as JSON, and return the files.

    Args:
        folder: made when it is missing.
        number: of the image among those explained; keeps files of images of one name apart.
        found: the explanation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.-]+", "_", Path(found.file).name).strip("_.")[:80] or "image"
    files = [folder / f"{number:03d}_{stem}.{kind}" for kind in ("png", "json")]
    files[0].write_bytes(to_png(draw_explanation(found)))
    files[1].write_text(json.dumps(found.to_json(), allow_nan=False) + "\n", encoding="utf-8")
    return files


def _share(share: float, found: Explanation, place: int) -> str:
    return f"{100 * share:.0f} % of the change, {_signed(found.contributions[place])}"


def _signed(number: float) -> str:
    return f"{number:+.2f}".replace("-", "\N{MINUS SIGN}")


def _picture(axes: Axes, found: Explanation) -> None:
    axes.set_facecolor(_DARK)
    # Grey, whatever the file was: colours on top then belong to the update alone.
    grey = found.pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=(0, 1, 1, 0), aspect="auto", interpolation="lanczos")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _title(axes: Axes, name: str, below: str, look: Theme) -> None:
    for text, lift, size, colour, weight in (
        (name, 18, SMALL + 1, look.ink, "bold"),
        (below, 5, SMALL - 0.5, look.muted, "normal"),
    ):
        axes.annotate(
            text, (0, 1), xycoords="axes fraction", xytext=(0, lift), textcoords="offset points", size=size,
            color=colour, weight=weight, va="bottom", family=font_family(),
        )  # fmt: skip


def _cells(axes: Axes, values: NDArray[np.float32]) -> None:
    """Lay cells over the picture, -1 to 1: amber towards the class, blue and struck through away from it."""
    rows, columns = values.shape
    colours = np.where(values[..., None] >= 0, to_rgb(TOWARDS), to_rgb(AWAY))
    # Cells of next to nothing stay clear, so that the picture under them keeps its greys.
    opacity = _STRONGEST * np.clip((np.abs(values) - _CLEAR) / (1 - _CLEAR), 0, 1)[..., None] ** 0.8
    axes.imshow(
        np.concatenate([colours, opacity], axis=-1), extent=(0, 1, 1, 0), aspect="auto", interpolation="nearest"
    )
    struck = [
        ((column / columns, (row + 1) / rows), ((column + 1) / columns, row / rows))
        for row, column in zip(*np.nonzero(values <= -_STRUCK), strict=True)
    ]
    axes.add_collection(LineCollection(struck, colors="#0b1c30", linewidths=1.0))


def _glow(axes: Axes, attention: NDArray[np.float32]) -> None:
    level = attention / (float(attention.max()) or 1.0)
    opacity = _STRONGEST * np.clip(level, 0, 1)[..., None]
    colours = np.broadcast_to(to_rgb(LOOKED), (*attention.shape, 3))
    axes.imshow(
        np.concatenate([colours, opacity], axis=-1), extent=(0, 1, 1, 0), aspect="auto", interpolation="nearest"
    )


def _legend(figure: Figure, found: Explanation, height: float, look: Theme) -> None:
    key = figure.add_axes((_LEFT / WIDTH, 0.56 / height, 1 - (_LEFT + _RIGHT) / WIDTH, 0.17 / height))
    key.set_xlim(0, WIDTH - _LEFT - _RIGHT)
    key.set_ylim(0, 1)
    key.axis("off")
    words = (
        (TOWARDS, "moved the answer towards the class", False),
        (AWAY, "moved it away (struck through)", True),
        (LOOKED, "attention", False),
    )
    start = 0.0
    for colour, text, struck in words:
        key.add_patch(Rectangle((start, 0), 0.17, 1, facecolor=colour, edgecolor=look.muted, linewidth=0.6))
        if struck:
            key.plot([start, start + 0.17], [0, 1], color="#0b1c30", linewidth=1.0)
        key.text(start + 0.26, 0.45, text, size=SMALL, color=look.ink, va="center", family=font_family())
        start += 0.26 + 0.072 * len(text) + 0.3
    token = (
        f"A cell is one token, {found.patch_size} px of the picture." if found.patch_size else "A cell is one token."
    )
    lines = f"{token} All panels with amber and blue share one colour scale, so they can be compared."
    if not found.own_transform:
        lines += "\nLoRA has no scales of its own: its update was taken apart by a Haar transform afterwards."
    figure.text(
        _LEFT / WIDTH, 0.46 / height, lines, size=SMALL - 0.5, color=look.muted, va="top", linespacing=1.4,
        family=font_family(),
    )  # fmt: skip
