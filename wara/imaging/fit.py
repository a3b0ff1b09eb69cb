"""Bring an image of any shape to the square that a backbone takes."""

from __future__ import annotations

import numpy as np
from PIL import Image

from wara.errors import InputError
from wara.imaging.image import Pixels

FITS = ("pad", "crop", "stretch")

# Pillow shrinks by whole factors first and filters the rest; from 3 on the result cannot be told from the slow way.
_REDUCING_GAP = 3.0


def fit_square(pixels: Pixels, size: int, fit: str = "pad", *, reducing_gap: float = _REDUCING_GAP) -> Pixels:
    """Resize to ``size`` x ``size`` with an antialiased bicubic filter.

    Args:
        pixels: uint8, (H, W, 3), or (H, W) for one channel.
        size: pixels a side of the result.
        fit: "pad" keeps the whole image and its proportions on black ground; "crop" keeps the centre square;
            "stretch" changes the proportions.
        reducing_gap: how far whole factors may shrink it before the filter (Pillow's ``resize``); at 1.0 all the way.

    Returns:
        uint8, (size, size, 3), or (size, size) where one channel came in. May share memory with ``pixels``.

    Raises:
        InputError: the size is not positive or the fit is none of the three.
    """
    if size < 1:
        raise InputError("The image size must be at least 1 pixel", seen=size, remedy="Choose e.g. 224.", code="size")
    if fit not in FITS:
        raise InputError(
            "This way to fit images is not known", seen=fit, remedy=f"Choose one of {', '.join(FITS)}.", code="fit"
        )
    height, width = pixels.shape[:2]
    if height == width:
        return _resize(pixels, size, size, reducing_gap)
    if fit == "stretch":
        return _resize(pixels, size, size, reducing_gap)
    if fit == "crop":
        side = min(height, width)
        left, top = (width - side) // 2, (height - side) // 2
        # Cut first: a filter that is given a box still looks at the pixels around it.
        return _resize(np.ascontiguousarray(pixels[top : top + side, left : left + side]), size, size, reducing_gap)
    scale = size / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    square = np.zeros((size, size, *pixels.shape[2:]), dtype=np.uint8)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    square[top : top + new_height, left : left + new_width] = _resize(pixels, new_width, new_height, reducing_gap)
    return square


def _resize(pixels: Pixels, width: int, height: int, gap: float) -> Pixels:
    if pixels.shape[:2] == (height, width):
        return pixels
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=gap)
    return np.asarray(resized)
