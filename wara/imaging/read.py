"""The way in: bytes of one file to RGB pixels, or straight to the square that a backbone takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from wara.errors import UnreadableImage
from wara.imaging.fit import fit_square
from wara.imaging.formats import sniff
from wara.imaging.image import DecodedImage, Pixels
from wara.imaging.quiet import quiet_decoders
from wara.imaging.view import DEFAULT_VIEW, DicomView

# A JPEG is decoded at a reduced scale only while this many pixels remain for each one of the result.
_OVERSAMPLING = 2
_CHECKED_AT = 64


def read_image(data: bytes, name: str, view: DicomView = DEFAULT_VIEW, frame: int | None = None) -> DecodedImage:
    """Decode PNG, JPEG, TIFF, WebP, BMP or one frame of DICOM; the content decides, not the name.

    The EXIF orientation is applied; 16-bit, 32-bit, float and signed greyscale is scaled by its own minimum and
    maximum, and so is 16-bit RGB, all channels alike; transparency is laid over black, and what is wholly transparent
    does not count for that range; CMYK, palettes and YBR become RGB. DICOM: modality table or rescale, then VOI table
    or window, then MONOCHROME1 is inverted.

    Args:
        data: the whole file.
        name: the file's name, for errors only.
        view: which frame of a DICOM file and by which window; where "all" frames are chosen, the middle one.
        frame: the number of a DICOM file's frame, from 1; goes before the view's choice.

    Raises:
        UnreadableImage: the file cannot be decoded; ``what`` is the reason in plain words.
        InputError: the key that hides patient IDs can be neither read nor made.
    """
    image = _decode(data, name, None, view, frame)
    if image.pixels.ndim == 2:
        return dataclasses.replace(image, pixels=_three_channels(image.pixels))
    return image


def read_square(
    data: bytes, name: str, size: int, fit: str = "pad", view: DicomView = DEFAULT_VIEW, frame: int | None = None
) -> tuple[Pixels, DecodedImage]:
    """Decode and fit in one go: what training and prediction both see of an image.

    Faster than ``fit_square(read_image(...).pixels)``: grey images are resized as one channel, and a large JPEG is
    decoded at a reduced scale where at least twice the pixels needed remain.

    Args:
        data: the whole file.
        name: the file's name, for errors only.
        size: pixels a side of the square.
        fit: "pad", "crop" or "stretch" (see ``fit_square``).
        view: as ``read_image``.
        frame: as ``read_image``.

    Returns:
        The square, uint8, (size, size) for a grey image and (size, size, 3) for a colour one; and the decoded
        image with its facts, its pixels left as they were decoded.

    Raises:
        UnreadableImage: as ``read_image``.
        InputError: as ``read_image`` and ``fit_square``.
    """
    image = _decode(data, name, size * _OVERSAMPLING, view, frame)
    return fit_square(image.pixels, size, fit), image


def read_squares(
    data: bytes, name: str, size: int, fit: str = "pad", view: DicomView = DEFAULT_VIEW, frame: int | None = None
) -> Iterator[tuple[Pixels, DecodedImage]]:
    """Yield what ``read_square`` returns for each image that the view takes from the file.

    That is one image, but for a DICOM file of which "all" frames are chosen: it is read once, and its frames come one
    by one in their order. A frame that cannot be decoded ends them with the error.

    Raises:
        UnreadableImage: as ``read_image``.
        InputError: as ``read_square``.
    """
    for image in _decode_each(data, name, size * _OVERSAMPLING, view, frame):
        yield fit_square(image.pixels, size, fit), image


def check_image(
    data: bytes,
    name: str,
    view: DicomView = DEFAULT_VIEW,
    frame: int | None = None,
    at_least: int = _CHECKED_AT,
) -> DecodedImage:
    """Decode an image only to learn whether it can be, its facts, and how it looks from afar.

    A JPEG is decoded at 1/8 scale for that, or at the scale that leaves its sides `at_least` pixels.

    Args:
        data: the whole file.
        name: the file's name, for errors only.
        view: which frame and window of a DICOM file.
        frame: number of the frame, from 1; None for the view's.
        at_least: pixels that a JPEG's shorter side keeps, where somebody looks at it.

    Raises:
        UnreadableImage: as ``read_image``.
        InputError: as ``read_image``.
    """
    return _decode(data, name, at_least, view, frame)


def check_images(
    data: bytes,
    name: str,
    view: DicomView = DEFAULT_VIEW,
    frame: int | None = None,
    at_least: int = _CHECKED_AT,
) -> Iterator[DecodedImage]:
    """Yield what ``check_image`` returns for each image that the view takes from the file (see ``read_squares``).

    A JPEG may come at 1/2 scale even where its shorter side is below `at_least` then, but 256 pixels.

    Raises:
        UnreadableImage: as ``read_image``.
        InputError: as ``read_image``.
    """
    yield from _decode_each(data, name, at_least, view, frame, half=True)


def _decode_each(
    data: bytes, name: str, at_least: int, view: DicomView, frame: int | None, *, half: bool = False
) -> Iterator[DecodedImage]:
    if view.frames != "all" or frame is not None or sniff(data, name) != "DICOM":
        yield _decode(data, name, at_least, view, frame, half=half)
        return
    from wara.imaging.dicom import decode_frames

    with quiet_decoders():
        yield from decode_frames(data, name, view)


def _decode(
    data: bytes, name: str, at_least: int | None, view: DicomView, frame: int | None, *, half: bool = False
) -> DecodedImage:
    kind = sniff(data, name)
    with quiet_decoders():
        if kind == "DICOM":
            # Imported on first use: most data sets hold no DICOM, and the package takes a moment.
            from wara.imaging.dicom import decode_dicom

            return decode_dicom(data, name, view, frame)
        if frame not in (None, 1):
            raise UnreadableImage(
                f"The {kind} file holds one image, so no frame number {frame}",
                seen=name,
                remedy="Name the file without a number.",
                code="frame-missing",
            )
        from wara.imaging.raster import decode_raster

        return decode_raster(data, name, kind, at_least, half=half)


def _three_channels(plane: Pixels) -> Pixels:
    return np.repeat(plane[..., np.newaxis], 3, axis=2)
