"""The one palette and the one look of every figure, light and dark."""

from __future__ import annotations

import functools
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib import font_manager, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from PIL import Image

# At twice the pixels fitting strokes to them changes little to see, and took a quarter of drawing. For good and not
# while a figure is drawn: threads draw at once, and matplotlib has one such value for all.
rcParams["text.hinting"] = "no_hinting"

ThemeName = Literal["light", "dark"]

# Mid tones that keep 3:1 on both grounds (WCAG non-text contrast) and stay apart under the common colour-blindnesses.
METHOD_COLOURS = {
    "wara": "#2d5ddc",
    "tiny-wara": "#0c7854",
    "lora": "#cd6118",
    "linear-probe": "#909295",
    "full": "#c265bd",
}
METHOD_LABELS = {
    "wara": "WaRA",
    "tiny-wara": "Tiny-WaRA",
    "lora": "LoRA",
    "linear-probe": "Linear probe",
    "full": "Full fine-tuning",
}
# Colour never stands alone: each method also has a marker of its own.
METHOD_MARKERS = {"wara": "o", "tiny-wara": "D", "lora": "s", "linear-probe": "^", "full": "v"}
CLASS_COLOURS = ("#2d5ddc", "#cd6118", "#0c7854", "#c265bd", "#8a7a1f", "#909295", "#c2455a", "#5f6ad4")

WIDTH, DPI = 9.0, 100  # inches and pixels an inch: figures are 900 px wide at scale 1
TEXT, SMALL, TITLE = 10.5, 9.0, 13.0  # points; at 100 dpi 10.5 pt are 14.6 px


@dataclass(frozen=True)
class Theme:
    """Colours of one theme, as hex strings."""

    name: ThemeName
    ground: str
    ink: str
    muted: str
    grid: str
    accent: str
    ramp: tuple[str, ...]  # from nothing to most, for heatmaps


THEMES: dict[str, Theme] = {
    "light": Theme(
        name="light",
        ground="#ffffff",
        ink="#1b2430",
        muted="#55606e",
        grid="#e1e6ec",
        accent="#1f6fc0",
        ramp=("#f3f6fa", "#cfe0f2", "#8fbbe4", "#4a8fd0", "#1d63ab", "#0c3f78"),
    ),
    "dark": Theme(
        name="dark",
        ground="#14191f",
        ink="#e8edf3",
        muted="#a3afbd",
        grid="#2c343e",
        accent="#5aa5ee",
        ramp=("#1c232b", "#1d3b59", "#1f5a93", "#3382cb", "#72b1ea", "#c3e0fa"),
    ),
}


def theme_of(name: str) -> Theme:
    """Return a theme by name.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in THEMES:
        raise ValueError(f"no theme {name!r}; there are {', '.join(THEMES)}")
    return THEMES[name]


def method_colour(method: str | None) -> str:
    """Return the colour of a method; a neutral grey for one that is not known."""
    return METHOD_COLOURS.get(method or "", "#909295")


def class_colour(index: int) -> str:
    """Return the colour of the class that stands at ``index`` in the data's list of classes."""
    return CLASS_COLOURS[index % len(CLASS_COLOURS)]


def new_figure(width: float, height: float, theme: Theme) -> Figure:
    """Return an empty figure of ``width`` x ``height`` inches on the theme's ground, free of pyplot's global state."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=theme.ground)
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Axes, theme: Theme, *, grid: Literal["x", "y", "both"] | None = None) -> None:
    """Give axes the look of the house: two quiet spines, small ticks, an unobtrusive grid."""
    axes.set_facecolor(theme.ground)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.grid)
    axes.tick_params(colors=theme.muted, labelsize=SMALL, length=0, pad=5)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(theme.muted)
        label.set_fontsize(SMALL + 0.5)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(True, axis=grid, color=theme.grid, linewidth=0.8)


def heading(figure: Figure, title: str, subtitle: str, theme: Theme, *, left: float = 0.0) -> None:
    """Write title and subtitle at the top left; ``left`` in inches from the figure's edge."""
    width, height = figure.get_size_inches()
    x = left / width
    figure.text(x, 1 - 0.16 / height, title, size=TITLE, weight="bold", color=theme.ink, va="top", family=font_family())
    figure.text(x, 1 - 0.44 / height, subtitle, size=SMALL, color=theme.muted, va="top", family=font_family())


def ramp(theme: Theme) -> LinearSegmentedColormap:
    """Return the sequential colour map of heatmaps: one hue, even steps of lightness, nothing = ground."""
    return LinearSegmentedColormap.from_list(f"wara-{theme.name}", list(theme.ramp))


def ink_on(colour: tuple[float, ...], theme: Theme) -> str:
    """Return a text colour with a contrast of 4.5 on ``colour``: the theme's ink or ground, else black or white.

    On some mid tones neither ink nor ground reaches 4.5; of black and white one always does.
    """
    for candidates in ((theme.ink, theme.ground), ("#000000", "#ffffff")):
        best = max(candidates, key=lambda ink: contrast(to_rgb(ink), colour[:3]))
        if contrast(to_rgb(best), colour[:3]) >= 4.55:  # a little more: pixels are rounded to 8 bits
            break
    return best


def contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Return the contrast ratio of two sRGB colours, 1 to 21 (WCAG 2.1, relative luminance)."""

    def luminance(colour: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def plain(text: str, longest: int | None = None) -> str:
    """Make text that a person gave (a class name) safe to draw.

    No mathematics is read into ``$``, no character is asked for that no font has (it becomes a box), and a text wider
    than ``longest`` characters is cut with an ellipsis; East Asian characters count as two.
    """
    text = " ".join(text.split())
    if longest is not None and sum(map(_columns_of, text)) > longest:
        while sum(map(_columns_of, text)) > longest - 1:
            text = text[:-1]
        text = text.rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    return "".join(c if _drawable(c) else "\N{WHITE SQUARE}" for c in text).replace("$", r"\$")


def label_width(labels: Sequence[str]) -> float:
    """Return the inches that row labels take at the small size, the heatmap's last row and a margin included."""
    return 0.2 + 0.079 * max(len("if spread evenly"), *(len(label) for label in labels))


@functools.cache
def font_family() -> list[str]:
    """Return the font of the figures, then those of the machine that know more scripts."""
    known = {entry.name for entry in font_manager.fontManager.ttflist}
    more = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Microsoft YaHei", "Hiragino Sans", "Noto Sans Arabic")
    return ["DejaVu Sans", *(name for name in more if name in known)]


def _columns_of(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


@functools.cache
def _drawable(character: str) -> bool:
    fonts = (font_manager.get_font(font_manager.findfont(name)) for name in font_family())
    return any(font.get_char_index(ord(character)) for font in fonts)


def to_png(figure: Figure, scale: float = 2.0) -> bytes:
    """Return a figure as PNG; ``scale`` 2 gives 1,800 px of width for sharp display at 900."""
    canvas, before = FigureCanvasAgg(figure), figure.dpi
    figure.set_dpi(DPI * scale)
    try:
        canvas.draw()  # type: ignore[no-untyped-call]
        # Three channels and the fast level: half the time of `savefig`, for files of nearly the same size.
        pixels = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
        image = Image.frombuffer("RGBA", canvas.get_width_height(physical=True), pixels).convert("RGB")
    finally:
        figure.set_dpi(before)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1, dpi=(DPI * scale, DPI * scale))
    return buffer.getvalue()
