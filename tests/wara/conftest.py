"""What the tests of figures share: reading the text of a figure, and checking that a person can."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from wara.analysis.style import contrast


def texts(figure):
    """Every text of a figure that is drawn."""
    figure.canvas.draw()
    beyond = set()  # labels of ticks outside the view exist but are not drawn
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            margin = 1e-9 * (high - low)
            outside = [t for t in axis.get_major_ticks() if not low - margin <= t.get_loc() <= high + margin]
            beyond.update(label for tick in outside for label in (tick.label1, tick.label2))
    artists = [artist for artist in figure.findobj(Text) if artist not in beyond]
    return [artist for artist in artists if artist.get_visible() and artist.get_text().strip()]


def words_of(figure):
    return [artist.get_text() for artist in texts(figure)]


def check_readable(figure):
    """No text leaves the figure, none lies on another, and all have a contrast of 4.5 to the ground under them."""
    drawn = [(artist, artist.get_window_extent()) for artist in texts(figure)]
    width, height = figure.canvas.get_width_height()
    for artist, box in drawn:
        inside = box.x0 >= -0.5 and box.y0 >= -0.5 and box.x1 <= width + 0.5 and box.y1 <= height + 0.5
        assert inside, f"{artist.get_text()!r} leaves the figure: {box} of {width} x {height}"
        assert artist.get_fontsize() >= 5.5
    upright = [(artist, box) for artist, box in drawn if artist.get_rotation() in (0, 90)]
    for (first, a), (second, b) in itertools.combinations(upright, 2):
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
        assert apart, f"{first.get_text()!r} lies on {second.get_text()!r}"
    pixels = np.asarray(figure.canvas.buffer_rgba())
    for artist, box in drawn:
        # Just outside the text's box, where no glyph is blended into the ground.
        corner = pixels[min(height - 1, max(0, int(height - box.y1) - 2)), min(width - 1, max(0, int(box.x0) - 2))]
        under = tuple(int(c) / 255 for c in corner[:3])
        assert contrast(to_rgb(artist.get_color()), under) >= 4.5, f"{artist.get_text()!r} is faint on its ground"


@pytest.fixture(scope="session")
def words():
    """A function that returns every text of a figure."""
    return words_of


@pytest.fixture(scope="session")
def assert_readable():
    """A function that fails for a figure whose text cannot be read."""
    return check_readable
