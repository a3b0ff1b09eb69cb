from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wara.errors import InputError
from wara.imaging import FITS, fit_square


def test_pad_keeps_everything_on_black_ground():
    white = np.full((50, 100, 3), 255, np.uint8)
    square = fit_square(white, 40)
    assert square.shape == (40, 40, 3)
    assert square[10:30].min() == 255
    assert square[:10].max() == 0
    assert square[30:].max() == 0


def test_crop_keeps_the_centre():
    image = np.zeros((60, 100, 3), np.uint8)
    image[:, 20:80] = 200
    assert (fit_square(image, 30, "crop") == 200).all()
    assert (fit_square(image.transpose(1, 0, 2), 30, "crop") == 200).all()


def test_stretch_fills_the_square_with_the_whole_image():
    image = np.zeros((20, 100, 3), np.uint8)
    image[:, 50:] = 255
    square = fit_square(image, 40, "stretch")
    assert square[:, :18].max() < 10
    assert square[:, 22:].min() > 245


@pytest.mark.parametrize("fit", FITS)
def test_an_image_of_the_right_size_is_left_as_it_is(fit):
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    np.testing.assert_array_equal(fit_square(image, 24, fit), image)


def test_shrinking_is_antialiased_as_pillow_does_it():
    stripes = np.zeros((1000, 1000, 3), np.uint8)
    stripes[:, ::2] = 255  # by nearest neighbour these become black or white
    square = fit_square(stripes, 50)
    assert np.abs(square.astype(int) - 128).max() <= 2
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    oracle = np.asarray(Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC))
    assert np.abs(fit_square(noise, 64).astype(int) - oracle).mean() < 3


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    size=st.integers(1, 48),
    fit=st.sampled_from(FITS),
    grey=st.booleans(),
)
def test_any_shape_becomes_the_square_and_one_channel_stays_one(height, width, size, fit, grey):
    image = np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[..., 1:] = image[..., :1]
    square = fit_square(image, size, fit)
    assert square.shape == (size, size, 3)
    assert square.dtype == np.uint8
    if grey:
        np.testing.assert_array_equal(fit_square(np.ascontiguousarray(image[..., 0]), size, fit), square[..., 0])


def test_sizes_and_fits_that_do_not_exist_are_refused():
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(InputError, match=r"at least 1 pixel \(seen: 0\)"):
        fit_square(image, 0)
    with pytest.raises(InputError, match="pad, crop, stretch"):
        fit_square(image, 4, "zoom")
