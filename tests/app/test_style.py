"""The style sheet keeps its promises: readable in light and dark, one colour a method, nothing from elsewhere."""

import re

import pytest

from app.components.html import ASSETS
from wara.analysis.style import METHOD_COLOURS

CSS = (ASSETS / "style.css").read_text("utf-8")
LIGHT = ":root {"
DARK = ':root[data-theme="dark"] {'
TEXT_ON_GROUND = [
    ("text", "ground"),
    ("text", "surface"),
    ("text", "sunken"),
    ("text", "accent-soft"),
    ("text", "warn-soft"),
    ("text", "danger-soft"),
    ("muted", "ground"),
    ("muted", "surface"),
    ("muted", "accent-soft"),
    ("accent", "surface"),
    ("accent-strong", "accent-soft"),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("danger", "danger-soft"),
    ("surface", "danger"),
    ("warn", "warn-soft"),
    ("second", "surface"),
    ("lightbox-text", "lightbox"),
]
SHAPE_ON_GROUND = [("line-strong", "surface"), ("line-strong", "ground"), ("accent", "ground")]


def colours(theme: str) -> dict[str, str]:
    def block(start: str) -> dict[str, str]:
        text = CSS[CSS.index(start) :]
        return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", text[: text.index("}")]))

    return block(LIGHT) if theme == "light" else block(LIGHT) | block(DARK)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_shapes_meet_wcag_aa(theme: str) -> None:
    palette = colours(theme)
    text = {pair: contrast(palette[pair[0]], palette[pair[1]]) for pair in TEXT_ON_GROUND}
    shapes = {pair: contrast(palette[pair[0]], palette[pair[1]]) for pair in SHAPE_ON_GROUND}
    assert {pair: round(ratio, 2) for pair, ratio in text.items() if ratio < 4.5} == {}
    assert {pair: round(ratio, 2) for pair, ratio in shapes.items() if ratio < 3} == {}


def test_a_method_has_the_colour_that_figures_give_it() -> None:
    palette = colours("light")
    assert {name: palette[f"method-{name}"] for name in METHOD_COLOURS} == METHOD_COLOURS


def test_nothing_is_fetched_from_elsewhere() -> None:
    addresses = re.findall(r"url\(\"?([^\")]+)", CSS)
    assert addresses
    for address in addresses:
        assert address.startswith("data:image/svg+xml") or (ASSETS / address).is_file()
    # The one other address is the name of SVG's own language, which is never fetched.
    assert set(re.findall(r"https?://[^'\"\s)]+", CSS)) <= {"http://www.w3.org/2000/svg"}
