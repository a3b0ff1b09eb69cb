from __future__ import annotations

from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from scipy import ndimage

from wara.imaging import check_images
from wara.imaging.burned_in import Box, declared_text, outside
from wara.imaging.text_detector import _crossed, _dense, _opening, find_text, may_hold_text
from wara.imaging.text_look import CHECKED_AT, look_at, look_closer, text_reason

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def tissue(size: tuple[int, int] = (400, 600), seed: int = 0) -> np.ndarray:
    """A soft bright blob on black with grain, as an X-ray is."""
    rows, columns = size
    y, x = np.mgrid[0:rows, 0:columns]
    blob = np.exp(-(((x - columns / 2) / columns * 3) ** 2 + ((y - rows / 2) / rows * 3) ** 2)) * 190
    grain = np.random.default_rng(seed).normal(0, 3, size)
    return np.clip(blob + grain, 0, 255).astype(np.uint8)


def write(pixels: np.ndarray, text: str, place: tuple[int, int], points: int = 16, fill: int = 230) -> np.ndarray:
    image = Image.fromarray(pixels)
    ImageDraw.Draw(image).text(place, text, font=ImageFont.truetype(str(FONT), points), fill=fill)
    return np.asarray(image)


@pytest.mark.parametrize("points", [11, 16, 28])
@pytest.mark.parametrize("place", [(8, 6), (380, 6), (8, 360)])
def test_a_name_at_a_border_is_found_where_it_stands(points, place):
    found = find_text(write(tissue(), "DOE JANE", place, points))
    assert found
    assert all(abs(box.top - place[1]) < points and box.left >= place[0] - 2 for box in found)


def test_dark_letters_on_light_ground_and_coloured_ones_are_found():
    light = np.full((300, 400), 235, np.uint8)
    assert find_text(write(light, "Mueller 1951", (10, 270), fill=20))
    colours = np.zeros((300, 400, 3), np.uint8)
    image = Image.fromarray(colours)
    ImageDraw.Draw(image).text((10, 10), "Mueller 1951", font=ImageFont.truetype(str(FONT), 16), fill=(230, 210, 0))
    assert find_text(np.asarray(image))


def test_a_large_picture_is_looked_at_smaller_and_boxes_are_in_its_own_pixels():
    (box, *_) = find_text(write(tissue((2000, 3000)), "DOE JANE 4711", (1500, 30), 60))
    assert 1480 < box.left < 1560 and 20 < box.top < 60 and box.bottom < 120


@pytest.mark.parametrize("seed", range(5))
def test_tissue_noise_gratings_and_a_single_marker_are_no_text(seed):
    plain = tissue(seed=seed)
    assert find_text(plain) == []
    assert find_text(np.random.default_rng(seed).integers(0, 256, (300, 300), dtype=np.uint8)) == []
    assert find_text(np.tile(np.repeat(np.array([0, 200], np.uint8), 4), (300, 40))) == []
    assert find_text(write(plain, "L", (20, 20), 40)) == []


def test_tiny_and_flat_pictures_are_no_text():
    assert find_text(np.zeros((5, 5), np.uint8)) == []
    assert find_text(np.full((300, 300, 3), 128, np.uint8)) == []


def region(left: int, top: int, right: int, bottom: int) -> Dataset:
    made = Dataset()
    made.RegionLocationMinX0, made.RegionLocationMinY0 = left, top
    made.RegionLocationMaxX1, made.RegionLocationMaxY1 = right, bottom
    return made


def test_what_the_header_says_of_text_comes_before_what_is_seen(make_dicom, dicom_bytes):
    plain, named = tissue(), write(tissue(), "DOE JANE", (8, 6))
    regions = {"SequenceOfUltrasoundRegions": [region(100, 50, 499, 349)]}
    assert look_at(dicom_bytes(make_dicom(plain)), "a")[1] == ""
    assert look_at(dicom_bytes(make_dicom(named)), "a")[1] == "seen"
    assert look_at(dicom_bytes(make_dicom(plain, BurnedInAnnotation="YES")), "a")[1] == "stated"
    assert look_at(dicom_bytes(make_dicom(plain, **regions)), "a")[1] == "regions"
    assert look_at(dicom_bytes(make_dicom(plain, **regions, BurnedInAnnotation="NO")), "a")[1] == ""
    assert look_at(dicom_bytes(make_dicom(named, BurnedInAnnotation="NO")), "a")[1] == "seen"


def test_rectangles_outside_the_regions_cover_the_rest_once(make_dicom, dicom_bytes):
    dataset = make_dicom(tissue(), SequenceOfUltrasoundRegions=[region(100, 50, 299, 349), region(300, 50, 499, 199)])
    boxes = declared_text(dicom_bytes(dataset)).outside_regions
    covered = np.zeros((400, 600), int)
    for box in boxes:
        covered[box.top : box.bottom, box.left : box.right] += 1
    expected = np.ones((400, 600), int)
    expected[50:350, 100:300] = expected[50:200, 300:500] = 0
    np.testing.assert_array_equal(covered, expected)


def test_regions_beyond_the_picture_or_none_at_all_cover_sensibly():
    assert outside([Box(0, 0, 900, 900)], 600, 400) == ()
    assert outside([Box(700, 0, 900, 900)], 600, 400) == (Box(0, 0, 600, 400),)
    assert declared_text(b"no dicom").outside_regions == ()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("side", [520, 600, 1100, 1700])
def test_a_jpeg_at_a_reduced_scale_is_looked_at_again_where_its_rows_may_be_text(seed, side, encode):
    plain = tissue((side, side), seed)
    points = max(12, side // 40)
    named = encode(write(plain, "MUELLER ANNA 4711", (side // 3, 6), points), "JPEG", quality=85)
    [image] = check_images(named, "a", at_least=CHECKED_AT)
    assert image.pixels.shape[0] < side
    assert text_reason(image, partial(look_closer, named, "a")) == "seen"
    empty = encode(plain, "JPEG", quality=85)
    [image] = check_images(empty, "a", at_least=CHECKED_AT)
    assert not may_hold_text(image.pixels)
    assert text_reason(image, partial(look_closer, empty, "a")) == ""


@pytest.mark.parametrize("width", [7, 9, 27])
@pytest.mark.parametrize("shape", [(50, 224), (3, 40), (1, 5), (64, 7)])
def test_the_quick_opening_is_that_of_scipy(shape, width):
    grey = ndimage.uniform_filter(np.random.default_rng(width).integers(0, 256, shape, dtype=np.uint8), 3)
    assert np.array_equal(_opening(grey, width), ndimage.grey_opening(grey, size=(width, width)))


@pytest.mark.parametrize("at_once", [1, 300, 1 << 20])
def test_the_rows_that_are_looked_at_together_change_nothing(monkeypatch, at_once):
    page = write(write(tissue(), "DOE JANE", (8, 6), 11), "DOE JANE", (380, 360), 28)
    before = find_text(page)
    monkeypatch.setattr("wara.imaging.text_detector._NEAR", at_once)
    assert find_text(page) == before != []


@pytest.mark.parametrize("rows", [2, 5])
def test_rows_of_text_are_found_wherever_they_begin_though_few_are_looked_at_first(rows):
    letters = np.zeros((9, 120), np.uint8)
    letters[:, 20:60:4] = 255
    for top in range(30):
        for height in (rows - 1, rows, 9):
            grey = np.zeros((60, 120), np.uint8)
            grey[top : top + height] = letters[:height]
            assert np.count_nonzero(_dense(grey)) == height
            expected = list(range(top, top + height - rows + 1))
            assert _crossed(grey, rows).tolist() == expected
