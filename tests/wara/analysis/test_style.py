"""The palette: visible on both grounds and apart for eyes of every kind."""

import io
import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from wara.analysis.style import (
    CLASS_COLOURS,
    METHOD_COLOURS,
    METHOD_LABELS,
    METHOD_MARKERS,
    THEMES,
    contrast,
    heading,
    ink_on,
    new_figure,
    plain,
    ramp,
    to_png,
)

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour, deficiency):
    srgb = np.array(to_rgb(colour))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(DEFICIENCIES[deficiency]) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = np.cbrt(np.maximum(xyz / [0.9505, 1.0, 1.089], 1e-9))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_method_colours_stay_apart(deficiency):
    for (first, a), (second, b) in itertools.combinations(METHOD_COLOURS.items(), 2):
        assert np.linalg.norm(lab(a, deficiency) - lab(b, deficiency)) > 10, (first, second)


@pytest.mark.parametrize("theme", THEMES.values(), ids=lambda t: t.name)
def test_colours_stand_out_from_the_ground(theme):
    ground = to_rgb(theme.ground)
    for colour in (*METHOD_COLOURS.values(), *CLASS_COLOURS, theme.accent):
        assert contrast(to_rgb(colour), ground) >= 3, colour
    for colour in (theme.ink, theme.muted):
        assert contrast(to_rgb(colour), ground) >= 4.5, colour


@pytest.mark.parametrize("theme", THEMES.values(), ids=lambda t: t.name)
def test_ramp_goes_one_way_in_lightness_and_numbers_can_be_read_on_all_of_it(theme):
    colours = [ramp(theme)(x) for x in np.linspace(0, 1, 65)]
    lightness = np.array([lab(c[:3], "none")[0] for c in colours])
    steps = np.diff(lightness)
    assert (steps < 0).all() or (steps > 0).all()
    assert min(contrast(to_rgb(ink_on(c, theme)), c[:3]) for c in colours) >= 4.5


def test_every_method_has_a_colour_a_label_and_a_marker_of_its_own():
    assert set(METHOD_COLOURS) == set(METHOD_LABELS) == set(METHOD_MARKERS)
    assert len(set(METHOD_COLOURS.values())) == len(set(METHOD_MARKERS.values())) == 5


def test_contrast_is_wcags():
    assert contrast((0, 0, 0), (1, 1, 1)) == pytest.approx(21)
    assert contrast(to_rgb("#777777"), (1, 1, 1)) == pytest.approx(4.48, abs=0.005)


def test_plain_text_is_cut_escaped_and_free_of_what_no_font_has():
    assert plain("a $b$") == r"a \$b\$"
    assert plain("abcdef", 4) == "abc…"
    assert plain("two\nlines") == "two lines"
    assert plain("x\U000f0000") == "x□"


def test_a_png_has_the_pixels_of_matplotlib_and_leaves_the_figure_as_it_was():
    figure = new_figure(4, 2, THEMES["dark"])
    heading(figure, "Title", "Subtitle", THEMES["dark"])
    figure.add_axes((0.2, 0.2, 0.6, 0.4)).plot([1, 3, 2])
    known = io.BytesIO()
    figure.savefig(known, format="png", dpi=150, facecolor=figure.get_facecolor())
    with Image.open(io.BytesIO(to_png(figure, 1.5))) as ours, Image.open(known) as theirs:
        assert (ours.size, ours.mode) == (theirs.size, "RGB")
        assert round(ours.info["dpi"][0]) == 150
        assert np.array_equal(np.asarray(ours), np.asarray(theirs.convert("RGB")))
    assert figure.dpi == 100
