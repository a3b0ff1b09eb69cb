"""The figure of the scales that each class used, and how to read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

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
    style_axes,
    theme_of,
)

Data = Mapping[str, Any]
_ROW, _TOP, _BOTTOM, _RIGHT = 0.44, 1.2, 0.92, 0.3


def draw_class_scales(data: Data, *, theme: ThemeName = "light") -> Figure:
    """Draw a panel a scale, coarse to fine, with a bar and its interval for each class.

    Args:
        data: result of :meth:`wara.analysis.class_scales.ClassScales.result`.
        theme: ``"light"`` or ``"dark"``.

    Raises:
        ValueError: if ``theme`` is unknown.
    """
    look = theme_of(theme)
    names = list(data["per_class"])
    labels = [plain(name, 24) for name in names]
    left = 0.35 + 0.088 * max([8, *(len(label) for label in labels)])
    height = _TOP + _BOTTOM + _ROW * max(1, len(names))
    figure = new_figure(WIDTH, height, look)
    images = sum(entry["images"] for entry in data["per_class"].values())
    heading(
        figure, "Which scales of detail each class used",
        f"Share of the update's part in the answer  \N{MIDDLE DOT}  {METHOD_LABELS.get(data['method'], data['method'])}"
        f"  \N{MIDDLE DOT}  {images:,} images",
        look, left=0.2,
    )  # fmt: skip
    scales, gap = data["scales"], 0.24
    width = (WIDTH - left - _RIGHT - gap * (len(scales) - 1)) / len(scales)
    for column, scale in enumerate(scales):
        box = (left + column * (width + gap), _BOTTOM, width, _ROW * max(1, len(names)))
        axes = figure.add_axes((box[0] / WIDTH, box[1] / height, box[2] / WIDTH, box[3] / height))
        _panel(axes, [entry["scales"][column] for entry in data["per_class"].values()], look)
        axes.annotate(
            scale["name"], (0, 1), xycoords="axes fraction", xytext=(0, 19), textcoords="offset points",
            size=SMALL + 0.5, weight="bold", color=look.ink, va="bottom",
        )  # fmt: skip
        axes.annotate(
            scale["size"], (0, 1), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points", size=SMALL,
            color=look.muted, va="bottom",
        )  # fmt: skip
        axes.set_yticks(range(len(names)), labels if column == 0 else [""] * len(names), family=font_family())
        axes.tick_params(axis="y", labelsize=SMALL + 0.5, labelcolor=look.ink)
    figure.text(
        0.2 / WIDTH, 0.14 / height, "\n".join(_footnote(data)), size=SMALL - 0.5, color=look.muted, va="bottom",
        linespacing=1.45, family=font_family(),
    )  # fmt: skip
    return figure


def _panel(axes: Axes, entries: list[dict[str, Any]], look: Theme) -> None:
    style_axes(axes, look, grid="x")
    axes.set_xlim(0, 128)
    axes.set_ylim(len(entries) - 0.5, -0.5)
    axes.set_xticks([0, 50, 100], ["0 %", "50 %", "100 %"])
    for row, entry in enumerate(entries):
        share = entry["share"]
        if share is None:
            axes.text(2, row, "nothing added", size=SMALL - 0.5, color=look.muted, va="center")
            continue
        value, low, high = (100 * share[key] for key in ("value", "low", "high"))
        away = entry["contribution"]["value"] < 0
        axes.add_patch(
            Rectangle(
                (0, row - 0.24), value, 0.48, facecolor=look.ground if away else look.accent, edgecolor=look.accent,
                linewidth=1.0, hatch="////" if away else None,
            )
        )  # fmt: skip
        axes.plot([low, high], [row, row], color=look.ink, linewidth=1.3, solid_capstyle="butt")
        for end in (low, high):
            axes.plot([end, end], [row - 0.1, row + 0.1], color=look.ink, linewidth=1.3)
        axes.annotate(
            f"{value:.0f} %", (min(max(value, high), 104), row), xytext=(5, 0), textcoords="offset points",
            size=SMALL - 0.5, color=look.ink, va="center",
        )  # fmt: skip


def _footnote(data: Data) -> list[str]:
    counts = ", ".join(f"{plain(name, 24)} {entry['images']:,}" for name, entry in data["per_class"].items())
    capped = f" (at most {data['capped']} a class)" if data["capped"] else ""
    counted = counts if len(counts) < 80 else f"{len(data['per_class'])} classes"
    lines = [
        f"Images: {counted}{capped}. Whiskers: 95 % intervals over {data['interval']}.",
        "Filled: the scale moved answers towards the class. Hatched: it moved them away.",
    ]
    if not data["own_transform"]:
        lines.append("LoRA has no scales of its own: its update was taken apart by a Haar transform afterwards.")
    return lines


def read_class_scales(data: Data) -> str:
    """Say in plain words which scales each class used, and whether the classes differ."""
    how = (
        "For the images of each class, the bars show how much of the update's part in the answer came by each scale; "
        "a scale is a size on the model's grid of tokens."
    )
    leading = {}
    for name, entry in data["per_class"].items():
        known = [(part["share"], scale) for part, scale in zip(entry["scales"], data["scales"], strict=True)]
        shares = [(share, scale) for share, scale in known if share is not None]
        if shares:
            leading[name] = max(shares, key=lambda pair: pair[0]["value"])
    if not leading:
        return f"{how} Nothing was added yet."
    found = [f"'{name}' used {scale['name']} scales most ({_span(share)})" for name, (share, scale) in leading.items()]
    return f"{how} {'; '.join(found[:6])}.{_differ(data)}"


def _span(share: Mapping[str, float]) -> str:
    return f"{100 * share['value']:.0f} %, interval {100 * share['low']:.0f} to {100 * share['high']:.0f} %"


def _differ(data: Data) -> str:
    """Say of the coarsest scale whether any two classes' intervals stand apart."""
    shares = {name: entry["scales"][0]["share"] for name, entry in data["per_class"].items()}
    known = {name: share for name, share in shares.items() if share is not None}
    if len(known) < 2:
        return ""
    most = max(known, key=lambda name: known[name]["value"])
    least = min(known, key=lambda name: known[name]["value"])
    if known[most]["low"] > known[least]["high"]:
        return f" '{most}' leaned on coarse scales more than '{least}' did: their intervals stand apart."
    return " The classes do not differ clearly in coarse scales: the intervals overlap."
