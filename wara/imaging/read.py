"""The way in: bytes of one file to RGB pixels, or straight to the square that a backbone takes."""

from __future__ import annotations

import dataclasses

import numpy as np

from wara.imaging.fit import fit_square
from wara.imaging.formats import sniff
from wara.imaging.image import DecodedImage, Pixels
from wara.imaging.quiet import quiet_decoders

# A JPEG is decoded at a reduced scale only while this many pixels remain for each one of the result.
_OVERSAMPLING = 2
_CHECKED_AT = 64


def read_image(data: bytes, name: str) -> DecodedImage:
    """Decode PNG, JPEG, TIFF, WebP, BMP or single-frame DICOM; the content decides, not the name.

    The EXIF orientation is applied; 16-bit and float greyscale is scaled by its own minimum and maximum;
    transparency is laid over black; CMYK, palettes and YBR become RGB. DICOM: rescale, first window or LUT, then
    MONOCHROME1 is inverted.

    Args:
        data: the whole file.
        name: the file's name, for errors only.

    Raises:
        UnreadableImage: the file cannot be decoded; ``what`` is the reason in plain words.
        InputError: the key that hides patient IDs can be neither read nor made.
    """
    image = _decode(data, name, None)
    if image.pixels.ndim == 2:
        return dataclasses.replace(image, pixels=_three_channels(image.pixels))
    return image


def read_square(data: bytes, name: str, size: int, fit: str = "pad") -> tuple[Pixels, DecodedImage]:
    """Decode and fit in one go: what training and prediction both see of an image.

    Faster than ``fit_square(read_image(...).pixels)``: grey images are resized as one channel, and a large JPEG is
    decoded at a reduced scale where at least twice the pixels needed remain.

    Args:
        data: the whole file.
        name: the file's name, for errors only.
        size: pixels a side of the square.
        fit: "pad", "crop" or "stretch" (see ``fit_square``).

    Returns:
        The square, uint8, (size, size) for a grey image and (size, size, 3) for a colour one; and the decoded
        image with its facts, its pixels left as they were decoded.

    Raises:
        UnreadableImage: as ``read_image``.
        InputError: as ``read_image`` and ``fit_square``.
    """
    image = _decode(data, name, size * _OVERSAMPLING)
    return fit_square(image.pixels, size, fit), image


def check_image(data: bytes, name: str) -> DecodedImage:
    """Decode an image only to learn whether it can be, its facts, and how it looks from afar.

    A JPEG is decoded at 1/8 scale for that, or at the scale that leaves its sides 64 pixels.

    Raises:
        UnreadableImage: as ``read_image``.
        InputError: as ``read_image``.
    """
    return _decode(data, name, _CHECKED_AT)


def _decode(data: bytes, name: str, at_least: int | None) -> DecodedImage:
    kind = sniff(data, name)
    with quiet_decoders():
        if kind == "DICOM":
            # Imported on first use: most data sets hold no DICOM, and the package takes a moment.
            from wara.imaging.dicom import decode_dicom

            return decode_dicom(data, name)
        from wara.imaging.raster import decode_raster

        return decode_raster(data, name, kind, at_least)


def _three_channels(plane: Pixels) -> Pixels:
    return np.repeat(plane[..., np.newaxis], 3, axis=2)
