from __future__ import annotations

import numpy as np
import pytest

from tests.wara.imaging.files import png, tiff
from wara.errors import UnreadableImage
from wara.imaging import read_image, read_square


@pytest.fixture
def colours_of_12_bits() -> np.ndarray:
    values = np.random.default_rng(3).integers(300, 4096, (23, 31, 3)).astype(np.uint16)
    values[0, 0] = [300, 1000, 4095]
    return values


def _by_own_range(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    low, high = values.min() if low is None else low, values.max() if high is None else high
    return np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255


def _shown(data: bytes) -> np.ndarray:
    image = read_image(data, "a")
    assert image.bits == 16
    return image.pixels.astype(float)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"order": ">"},
        {"compressed": True},
        {"compressed": True, "order": ">"},
        {"planes": True},
        {"planes": True, "order": ">"},
    ],
)
def test_a_tiff_with_colours_of_16_bits_is_scaled_by_one_range_of_all_channels(colours_of_12_bits, options):
    shown = _shown(tiff(colours_of_12_bits, **options))
    assert np.abs(shown - _by_own_range(colours_of_12_bits)).max() <= 0.51


def test_a_png_with_colours_of_16_bits_is_scaled_by_one_range_of_all_channels(colours_of_12_bits):
    assert np.abs(_shown(png(colours_of_12_bits)) - _by_own_range(colours_of_12_bits)).max() <= 0.51


def test_differences_in_the_lower_byte_alone_are_seen():
    values = np.stack([np.arange(256, dtype=np.uint16).reshape(16, 16) + 0x1200] * 3, axis=-1)
    image = read_image(png(values), "a")
    np.testing.assert_array_equal(image.pixels[..., 0], np.arange(256).reshape(16, 16))
    assert image.greyscale
    assert read_square(png(values), "a", 16)[0].shape == (16, 16)


@pytest.mark.parametrize("planes", [False, True])
def test_transparent_colours_of_16_bits_are_laid_over_black_and_the_unseen_takes_no_range(colours_of_12_bits, planes):
    opacity = np.full((23, 31, 1), 65535, np.uint16)
    opacity[5:9], opacity[9:12] = 0, 13107
    values = colours_of_12_bits.copy()
    values[5:9] = 65535
    low, high = colours_of_12_bits[opacity[..., 0] > 0].min(), colours_of_12_bits[opacity[..., 0] > 0].max()
    expected = _by_own_range(values, low, high) * (opacity / 65535)
    for data in (tiff(np.dstack([values, opacity]), extra=2, planes=planes), png(np.dstack([values, opacity]))):
        assert np.abs(_shown(data) - expected).max() <= 1.01


@pytest.mark.parametrize("planes", [False, True])
def test_colours_multiplied_by_their_opacity_look_as_those_that_are_not(colours_of_12_bits, planes):
    opacity = np.random.default_rng(4).integers(20000, 65536, (23, 31, 1)).astype(np.uint16)
    multiplied = np.rint(colours_of_12_bits * (opacity / 65535)).astype(np.uint16)
    straight = _shown(tiff(np.dstack([colours_of_12_bits, opacity]), extra=2))
    shown = _shown(tiff(np.dstack([multiplied, opacity]), extra=1, planes=planes))
    assert np.abs(shown - straight).max() <= 1


def test_a_channel_without_a_meaning_is_passed_over(colours_of_12_bits):
    unused = np.zeros((23, 31, 1), np.uint16)
    shown = _shown(tiff(np.dstack([colours_of_12_bits, unused]), extra=0))
    assert np.abs(shown - _by_own_range(colours_of_12_bits)).max() <= 0.51


def test_a_see_through_colour_of_16_bits_becomes_black_and_takes_no_range(colours_of_12_bits):
    values = colours_of_12_bits.copy()
    values[3:8] = [60000, 60001, 60002]
    key = np.array([60000, 60001, 60002], ">u2").tobytes()
    shown = _shown(png(values, (b"tRNS", key)))
    seen = np.delete(values, np.s_[3:8], axis=0)
    assert np.abs(np.delete(shown, np.s_[3:8], axis=0) - _by_own_range(seen)).max() <= 0.51
    assert not shown[3:8].any()


def test_grey_of_16_bits_with_transparency_is_scaled_by_its_own_range():
    grey = (np.arange(600, dtype=np.uint16).reshape(20, 30) + 1000) * 2
    opacity = np.full((20, 30), 65535, np.uint16)
    opacity[0], opacity[1] = 0, 26214
    image = read_image(png(np.dstack([grey, opacity])), "a")
    expected = _by_own_range(grey, grey[1:].min(), grey.max()) * (opacity / 65535)
    assert np.abs(image.pixels[..., 0] - expected).max() <= 1.01
    assert (image.bits, image.greyscale) == (16, True)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compressed", [False, True])
def test_colours_of_16_bits_are_turned_upright(colours_of_12_bits, orientation, compressed):
    upright = _by_own_range(colours_of_12_bits)
    turned = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
        6: np.rot90(upright, -1), 7: upright[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(upright),
    }  # fmt: skip
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + bytes([0, orientation, 0, 0]) + bytes(4)
    for data in (
        tiff(colours_of_12_bits, orientation=orientation, compressed=compressed),
        png(colours_of_12_bits, (b"eXIf", exif)),
    ):
        image = read_image(data, "a")
        assert (image.height, image.width) == turned[orientation].shape[:2]
        assert np.abs(image.pixels - turned[orientation]).max() <= 0.51


def test_one_colour_everywhere_and_nothing_to_see_become_black(colours_of_12_bits):
    assert not _shown(png(np.full((4, 5, 3), 700, np.uint16))).any()
    unseen = np.dstack([colours_of_12_bits, np.zeros((23, 31, 1), np.uint16)])
    assert not _shown(png(unseen)).any()


def test_compressed_planes_of_16_bits_are_refused_and_not_shown_by_their_upper_bytes(colours_of_12_bits):
    with pytest.raises(UnreadableImage, match="compressed planes") as caught:
        read_image(tiff(colours_of_12_bits, planes=True, compressed=True), "stain.tif")
    assert (caught.value.code, caught.value.seen) == ("planes", "stain.tif")


@pytest.mark.parametrize("cut", [200, 900])
def test_a_file_with_colours_of_16_bits_that_is_cut_short_is_called_so(colours_of_12_bits, cut):
    with pytest.raises(UnreadableImage) as caught:
        read_image(png(colours_of_12_bits)[:-cut], "a.png")
    assert caught.value.code == "truncated"
