"""A thumbnail made while a file is looked at is the whole picture, and changes nothing of what is seen."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from wara.data.seen import see
from wara.imaging.view import DEFAULT_VIEW

SIDE = 256


def blurred(width: int, height: int) -> Image.Image:
    coarse = np.random.default_rng(width).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(("width", "height"), [(130, 130), (300, 300), (300, 200), (900, 1200), (2000, 500)])
def test_a_jpegs_thumbnail_is_the_whole_picture_in_the_middle_of_black(width: int, height: int) -> None:
    picture, buffer = blurred(width, height), io.BytesIO()
    picture.save(buffer, "JPEG", quality=95)
    [plain] = see(buffer.getvalue(), "a.jpg", DEFAULT_VIEW, None)
    [seen] = see(buffer.getvalue(), "a.jpg", DEFAULT_VIEW, None, SIDE)
    assert seen.thumbnail is not None and replace(seen, thumbnail=None) == plain
    shown = np.asarray(Image.open(io.BytesIO(seen.thumbnail)).convert("RGB"), float)
    side = min(SIDE, max(width, height))  # nothing is enlarged
    expected = Image.new("RGB", (side, side))
    scale = side / max(width, height)
    size = (round(width * scale), round(height * scale))
    expected.paste(picture.resize(size, Image.Resampling.LANCZOS), ((side - size[0]) // 2, (side - size[1]) // 2))
    assert np.abs(shown - np.asarray(expected, float)).mean() < 3


def test_a_small_jpegs_thumbnail_keeps_the_detail_that_the_first_look_leaves_out() -> None:
    # Lines of one pixel, which are gone at half the scale.
    lines = np.zeros((200, 200), np.uint8)
    lines[::2] = 200
    buffer = io.BytesIO()
    Image.fromarray(lines).save(buffer, "JPEG", quality=95)
    [seen] = see(buffer.getvalue(), "a.jpg", DEFAULT_VIEW, None, SIDE)
    assert seen.thumbnail is not None
    assert np.asarray(Image.open(io.BytesIO(seen.thumbnail)).convert("L"))[60:190, 60:190].std() > 40
