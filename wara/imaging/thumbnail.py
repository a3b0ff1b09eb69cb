"""A small picture of an image to look at: a square on black, made of its pixels alone."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from wara.imaging.fit import fit_square
from wara.imaging.image import Pixels

_QUALITY = 85
_SIDE = 256


def reduced(pixels: Pixels) -> Pixels:
    """Return an image by whole factors smaller, its longer side at least 256 pixels: enough for all looks from afar.

    Each pixel is the mean of those that it stands for; what is smaller stays as it is.
    """
    factor = max(pixels.shape[:2]) // _SIDE
    return pixels if factor < 2 else np.asarray(Image.fromarray(pixels).reduce(factor))


def thumbnail_of(pixels: Pixels, size: int) -> bytes:
    """Return the whole image as a square JPEG of ``size`` x ``size`` pixels, or of as many as its longer side has.

    JPEG and not WebP: at this size it takes a fifteenth of the time, 0.15 ms.

    Args:
        pixels: uint8, (H, W) or (H, W, 3), as they are or `reduced`.
        size: pixels a side at most; a page enlarges as well as we could.
    """
    # Whole factors first, as far as they go: of 512 to 256 pixels nothing is left for the slow filter.
    square = fit_square(pixels, min(size, max(pixels.shape[:2])), "pad", reducing_gap=1.0)
    buffer = io.BytesIO()
    Image.fromarray(square).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
